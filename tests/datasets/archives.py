"""Tiny archives in the publishers' layouts, from a seeded generator."""

from pathlib import Path

import numpy as np
from PIL import Image

VOC = """<annotation><object><name>{name}</name><bndbox><xmin>{box[0]}</xmin><ymin>{box[1]}</ymin>
<xmax>{box[2]}</xmax><ymax>{box[3]}</ymax></bndbox></object></annotation>"""


def picture(path: Path, seed: int, size: tuple[int, int] = (24, 32)) -> Path:
    """Smooth noise of (height, width) that differs for each seed."""
    path.parent.mkdir(parents=True, exist_ok=True)
    small = np.random.default_rng(seed).integers(0, 256, (6, 6), dtype=np.uint8)
    image = Image.fromarray(small).resize((size[1], size[0]), Image.Resampling.BICUBIC)
    image.save(path)
    return path


def mask(path: Path, marked: int = 4, size: tuple[int, int] = (24, 32), value: int = 255) -> Path:
    """A mask with a square of ``marked`` pixels a side."""
    path.parent.mkdir(parents=True, exist_ok=True)
    pixels = np.zeros(size, np.uint8)
    pixels[:marked, :marked] = value
    Image.fromarray(pixels).save(path)
    return path


def voc(path: Path, name: str, box: tuple[int, int, int, int] = (1, 1, 10, 12)) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(VOC.format(name=name, box=box))
    return path


def elpv(root: Path) -> Path:
    grades = ("0.0", "0.3333333333333333", "0.6666666666666666", "1.0")
    lines = []
    for k in range(8):
        picture(root / f"images/cell{k:04}.png", k)
        lines.append(f"images/cell{k:04}.png   {grades[k % 4]}  {'mono' if k < 4 else 'poly'}")
    (root / "labels.csv").write_text("\n".join(lines) + "\n")
    return root


def neu_det(root: Path) -> Path:
    for k, name in enumerate(("crazing", "rolled-in_scale", "scratches")):
        picture(root / f"IMAGES/{name}_1.jpg", k)
        voc(root / f"ANNOTATIONS/{name}_1.xml", name)
    mask(root / "MASKS-SD-saliency-900/scratches_1.png")
    return root


def neu_det_kaggle(root: Path) -> Path:
    for k, side in enumerate(("train", "validation")):
        for j, name in enumerate(("crazing", "rolled-in_scale")):
            picture(root / f"{side}/images/{name}/{name}_{k}.jpg", 2 * k + j)
            voc(root / f"{side}/annotations/{name}_{k}.xml", name)
    return root


def x_sdd(root: Path) -> Path:
    picture(root / "datas/red iron/0001.jpg", 1)
    picture(root / "datas/slag inclusion/0001.png", 2)
    return root


def magnetic_tile(root: Path, *, groups: bool = True) -> Path:
    rows = ["image,class,tile_group"]
    for k in range(6):
        name = ("Free", "Blowhole", "Crack")[k % 3]
        path = f"MT_{name}/Imgs/exp{k}_num_{k}.jpg"
        picture(root / path, k)
        mask((root / path).with_suffix(".png"), 0 if name == "Free" else 4)
        rows.append(f"{path},{name},{k // 3}")
    if groups:
        (root / "groups.csv").write_text("\n".join(rows) + "\n")
    return root


def casting(root: Path) -> Path:
    for k, side in enumerate(("train", "test")):
        for j, name in enumerate(("def_front", "ok_front")):
            for i in range(4 if side == "train" else 2):
                picture(root / f"{side}/{name}/cast_{name}_{i}.jpeg", 100 * k + 10 * j + i)
    return root


def mvtec(root: Path) -> Path:
    for k in range(4):
        picture(root / f"train/good/{k:03}.png", k)
    picture(root / "test/good/000.png", 10)
    picture(root / "test/scratch/000.png", 11)
    mask(root / "ground_truth/scratch/000_mask.png")
    return root


def folder(root: Path) -> Path:
    for k in range(3):
        picture(root / f"OK/a{k}.png", k)
        picture(root / f"dent/deeper/ü{k}.bmp", 10 + k)
    return root


def table(root: Path) -> Path:
    rows = ["path,label,group,mask,split"]
    for k in range(4):
        picture(root / f"p/{k}.png", k)
        label = ("normal", "dent")[k % 2]
        marked = f"m/{k}.png" if k % 2 else ""
        if marked:
            mask(root / marked)
        rows.append(f"p/{k}.png,{label},part{k // 2},{marked},{('train', 'test')[k // 2]}")
    (root / "parts.csv").write_text("\n".join(rows) + "\n")
    return root
