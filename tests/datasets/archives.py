"""Tiny archives in the publishers' layouts, from a seeded generator."""

import json
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

VOC = """<annotation><size><width>32</width><height>24</height></size>
<object><name>{name}</name><bndbox><xmin>{box[0]}</xmin><ymin>{box[1]}</ymin>
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


def voc_xml(path: Path, name: str, box: tuple[int, int, int, int] = (1, 1, 10, 12)) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(VOC.format(name=name, box=box))
    return path


def labelme_json(path: Path, *shapes: dict[str, Any]) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    content = {"version": "4.5.6", "shapes": shapes, "imageHeight": 24, "imageWidth": 32}
    path.write_text(json.dumps(content))
    return path


def polygon(label: str, side: float = 8) -> dict[str, Any]:
    points = [[2, 2], [2 + side, 2], [2 + side, 2 + side], [2, 2 + side]]
    return {"label": label, "points": points, "shape_type": "polygon"}


def lines(path: Path, *text: str) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("\n".join(text) + "\n")
    return path


def elpv(root: Path) -> Path:
    grades = ("0.0", "0.3333333333333333", "0.6666666666666666", "1.0")
    rows = []
    for k in range(8):
        picture(root / f"images/cell{k:04}.png", k)
        rows.append(f"images/cell{k:04}.png   {grades[k % 4]}  {'mono' if k < 4 else 'poly'}")
    (root / "labels.csv").write_text("\n".join(rows) + "\n")
    return root


def neu_det(root: Path) -> Path:
    for k, name in enumerate(("crazing", "rolled-in_scale", "scratches")):
        picture(root / f"IMAGES/{name}_1.jpg", k)
        voc_xml(root / f"ANNOTATIONS/{name}_1.xml", name)
    mask(root / "MASKS-SD-saliency-900/scratches_1.png")
    return root


def neu_det_kaggle(root: Path) -> Path:
    for k, side in enumerate(("train", "validation")):
        for j, name in enumerate(("crazing", "rolled-in_scale")):
            picture(root / f"{side}/images/{name}/{name}_{k}.jpg", 2 * k + j)
            voc_xml(root / f"{side}/annotations/{name}_{k}.xml", name)
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


def neu_cls(root: Path) -> Path:
    for k, short in enumerate(("Cr", "In", "Pa", "PS", "RS", "Sc")):
        for j in (1, 2):
            picture(root / f"{short}_{j}.bmp", 10 * k + j)
    return root


def sd_saliency_900(root: Path) -> Path:
    for k, short in enumerate(("In", "Pa", "Sc")):
        for j in (1, 2):
            picture(root / f"Source Images/{short}_{j}.bmp", 10 * k + j)
            mask(root / f"Ground truth/{short}_{j}.png")
    return root


def deep_pcb(root: Path) -> Path:
    listed: dict[str, list[str]] = {"trainval": [], "test": []}
    for k, group in enumerate(("00041", "12000")):
        for j in range(2):
            stem = f"{group}00{j}"
            place = root / f"PCBData/group{group}"
            picture(place / f"{group}/{stem}_test.jpg", 100 + 10 * k + j)
            picture(place / f"{group}/{stem}_temp.jpg", 200 + 10 * k + j)
            rows = ("1,2,10,12,1", "3,4,12,14,6") if k else ("1 2 10 12 1", "3 4 12 14 6")
            lines(place / f"{group}_not/{stem}.txt", *rows)
            listed[("trainval", "test")[j]].append(
                f"group{group}/{group}/{stem}.jpg group{group}/{group}_not/{stem}.txt"
            )
    for name, text in listed.items():
        lines(root / f"PCBData/{name}.txt", *text)
    return root


def palette_mask(path: Path, index: int, marked: int = 4) -> Path:
    """A palette bitmap whose index 1 and 2 are white and grey."""
    pixels = np.zeros((24, 32), np.uint8)
    pixels[:marked, :marked] = index
    image = Image.fromarray(pixels, "P")
    image.putpalette([0, 0, 0, 255, 255, 255, 9, 9, 9])
    image.save(path)
    return path


def kolektor_sdd(root: Path) -> Path:
    for k, part in enumerate(("kos01", "kos02", "kos26", "kos27", "kos34")):
        for j in range(2):
            picture(root / f"{part}/Part{j}.jpg", 10 * k + j)
            label = root / f"{part}/Part{j}_label.bmp"
            if j:
                palette_mask(label, 1 + k % 2)
            else:
                mask(label, 0)
    return root


def kolektor_sdd2(root: Path) -> Path:
    for k, side in enumerate(("train", "test")):
        for j in range(4):
            picture(root / f"{side}/{10000 + 10 * k + j}.png", 10 * k + j)
            mask(root / f"{side}/{10000 + 10 * k + j}_GT.png", 4 * (j % 2))
    picture(root / "train/10000(1).png", 99)
    return root


def categories(root: Path, *names: str) -> Path:
    for k, name in enumerate(names):
        for j in range(4):
            picture(root / f"{name}/train/good/{j:03}.png", 100 * k + j)
        picture(root / f"{name}/test/good/000.png", 100 * k + 10)
        picture(root / f"{name}/test/scratch/000.png", 100 * k + 11)
        mask(root / f"{name}/ground_truth/scratch/000_mask.png")
    return root


def mvtec_ad(root: Path) -> Path:
    return categories(root, "bottle", "cable")


def mpdd(root: Path) -> Path:
    return categories(root, "tubes", "connector")


def btad(root: Path) -> Path:
    for k, name in enumerate(("01", "03")):
        for j in range(4):
            picture(root / f"{name}/train/ok/{j:04}.bmp", 100 * k + j)
        picture(root / f"{name}/test/ok/0000.bmp", 100 * k + 10)
        picture(root / f"{name}/test/ko/0001.bmp", 100 * k + 11)
        mask(root / f"{name}/ground_truth/ko/0001.{'png' if k else 'bmp'}")
    return root


def visa(root: Path) -> Path:
    rows = ["object,split,label,image,mask"]
    for k, name in enumerate(("candle", "pcb1")):
        data = f"{name}/Data"
        for j in range(3):
            picture(root / f"{data}/Images/Normal/{j:04}.JPG", 100 * k + j)
            side = "train" if j < 2 else "test"
            rows.append(f"{name},{side},normal,{data}/Images/Normal/{j:04}.JPG,")
        picture(root / f"{data}/Images/Anomaly/000.JPG", 100 * k + 10)
        mask(root / f"{data}/Masks/Anomaly/000.png", value=1 + k)
        marked = f"{data}/Masks/Anomaly/000.png"
        rows.append(f"{name},test,anomaly,{data}/Images/Anomaly/000.JPG,{marked}")
    lines(root / "split_csv/1cls.csv", *rows)
    return root


def rsdds(root: Path) -> Path:
    for k, kind in enumerate(("Type-I", "Type-II")):
        for j in (1, 2):
            place = root / f"{kind} RSDDs dataset"
            picture(place / f"Rail surface images/rail_{j}.jpg", 10 * k + j)
            mask(place / f"GroundTruth/rail_{j}.jpg", 8)
    return root


def bsdata(root: Path, *, official: bool = True) -> Path:
    images = []
    for k in range(6):
        stem = f"01_20090205352{k}_{585000 + k // 2}_090_crop_2"
        picture(root / f"data/{stem}.jpg", k)
        if k < 5:
            labelme_json(root / f"label/{stem}.json", polygon("Pitting"))
        side = None if k == 5 else ("train", "test")[k % 2]
        images.append({"filename": f"{stem}.jpg", "train_test_split": side})
    if official:
        (root / "image_data.json").write_text(json.dumps({"images": images}))
    return root


def crack_forest(root: Path) -> Path:
    from scipy.io import savemat

    (root / "groundTruth").mkdir(parents=True)
    for k in (1, 2, 3):
        picture(root / f"image/{k:03}.jpg", k)
    for k in (1, 2):
        pixels = np.ones((24, 32), np.uint8)
        pixels[:5, :4] = 2
        pixels[6, 6] = 3
        truth = {"Segmentation": pixels, "Boundaries": pixels}
        savemat(root / f"groundTruth/{k:03}.mat", {"groundTruth": truth})
    return root


def dagm_2007(root: Path) -> Path:
    for name in ("Class1", "Class2"):
        for k, side in enumerate(("Train", "Test")):
            place = root / name / side
            for j in range(4):
                stem = f"{10 * k + j:04}"
                picture(place / f"{stem}.PNG", int(name[-1]) * 100 + 10 * k + j)
                if j == 3:
                    mask(place / f"Label/{stem}_label.PNG")
                    rows = ("1", f"1\t1\t{stem}.PNG\t1\t{stem}_label.PNG")
                    lines(place / "Label/Labels.txt", *rows)
    return root


def severstal(root: Path, *, old: bool = False) -> Path:
    for k in range(4):
        picture(root / f"train_images/{k}.jpg", k)
    marks = (("1.jpg", 3, "1 2 25 3"), ("2.jpg", 1, "25 4"), ("2.jpg", 4, "1 1"))
    if old:
        empty = [f"{k}.jpg_{c}," for k in range(4) for c in (1, 2, 3, 4)]
        rows = [*empty, *(f"{name}_{kind},{runs}" for name, kind, runs in marks)]
        lines(root / "train.csv", "ImageId_ClassId,EncodedPixels", *rows)
    else:
        rows = [",".join((name, str(kind), runs)) for name, kind, runs in marks]
        lines(root / "train.csv", "ImageId,ClassId,EncodedPixels", *rows)
    return root


def gc10_det(root: Path) -> Path:
    for number, pinyin in ((1, "1_chongkong"), (10, "10_yaozhed")):
        for k in range(2):
            stem = f"img_0{number}_4250055{number}_{k:05}"
            picture(root / f"{number}/{stem}.jpg", 10 * number + k)
            voc_xml(root / f"lable/{stem}.xml", pinyin)
    return root


def coco(root: Path) -> Path:
    for k, side in enumerate(("train", "val")):
        images = []
        for j in range(3):
            picture(root / f"images/{side}/{j}.png", 10 * k + j)
            images.append({"id": j, "file_name": f"{j}.png", "width": 32, "height": 24})
        ring = [2, 2, 10, 2, 10, 10, 2, 10]
        runs = {"size": [24, 32], "counts": [1, 2, 765]}
        marks = [
            {"image_id": 1, "category_id": 7, "bbox": [2, 2, 8, 8], "segmentation": [ring]},
            {"image_id": 2, "category_id": 7, "bbox": [2, 2, 8, 8], "segmentation": [ring]},
            {"image_id": 2, "category_id": 9, "bbox": [0, 1, 1, 2], "segmentation": runs},
        ]
        kinds = [{"id": 7, "name": "dent"}, {"id": 9, "name": "stain"}]
        content = {"images": images, "annotations": marks, "categories": kinds}
        (root / "annotations").mkdir(parents=True, exist_ok=True)
        (root / f"annotations/instances_{side}.json").write_text(json.dumps(content))
    return root


def yolo(root: Path) -> Path:
    lines(root / "data.yaml", "train: images/train", "val: images/val", "nc: 2",
          "names:", "  0: dent", "  1: stain")  # fmt: skip
    for k, side in enumerate(("train", "val")):
        for j in range(3):
            picture(root / f"images/{side}/{j}.png", 10 * k + j)
        lines(root / f"labels/{side}/1.txt", "0 0.5 0.5 0.25 0.5")
        lines(root / f"labels/{side}/2.txt", "1 0.25 0.25 0.5 0.25 0.5 0.5")
    return root


def voc(root: Path) -> Path:
    for k, name in enumerate(("dent", "stain", "dent", "stain")):
        picture(root / f"JPEGImages/{k}.jpg", k)
        voc_xml(root / f"Annotations/{k}.xml", name)
    lines(root / "ImageSets/Main/trainval.txt", "0", "1")
    lines(root / "ImageSets/Main/test.txt", "2", "3")
    return root


def labelme(root: Path) -> Path:
    for k in range(3):
        picture(root / f"{k}.png", k)
        labelme_json(root / f"{k}.json", *([polygon("dent")] if k else []))
    return root
