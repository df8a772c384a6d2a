"""Every layout that a reader knows, with enough generated parts to teach from.

Parts are smooth grey noise; a defect is a patch at the upper left, where masks and boxes mark it.
"""

import json
from collections.abc import Callable
from itertools import count
from pathlib import Path

import numpy as np
from PIL import Image
from scipy.io import savemat

from tests.datasets.archives import labelme_json, lines, mask, polygon, voc_xml

BOX = (2, 2, 11, 13)
"""The patch as Pascal VOC counts, from 1 and with the last pixel."""
SIZE = (24, 32)
_seeds = count()


def part(path: Path, kind: int = 0) -> Path:
    """A picture that no other equals; ``kind`` 0 is a good part, 1 to 6 look unlike each other."""
    path.parent.mkdir(parents=True, exist_ok=True)
    rng = np.random.default_rng(next(_seeds))
    small = Image.fromarray(rng.integers(100, 140, (6, 6), dtype=np.uint8))
    pixels = np.array(small.resize(SIZE[::-1], Image.Resampling.BICUBIC))
    rows, columns = np.mgrid[:12, :10]
    patterns = [rows >= 0, rows < 0, columns % 4 < 2, rows % 4 < 2, rows < 6, columns < 5]
    if kind:
        pixels[1:13, 1:11] = np.where(patterns[kind - 1], 255, 0)
    Image.fromarray(pixels).save(path)
    return path


def marked(path: Path, kind: int, value: int = 255) -> Path:
    """The mask beside a part, empty for a good one."""
    return mask(path, 12 if kind else 0, SIZE, value)


def elpv(root: Path) -> None:
    grades = ("0.0", "0.3333333333333333", "0.6666666666666666", "1.0")
    rows = []
    for k in range(32):
        path = part(root / f"images/cell{k:04}.png", int(k % 4 > 1))
        rows.append(f"images/{path.name}   {grades[k % 4]}  mono")
    lines(root / "labels.csv", *rows)


def neu_det(root: Path) -> None:
    for kind, name in enumerate(("crazing", "rolled-in_scale", "scratches"), start=1):
        for k in range(6):
            part(root / f"IMAGES/{name}_{k}.jpg", kind)
            voc_xml(root / f"ANNOTATIONS/{name}_{k}.xml", name, BOX)
            if kind == 3:
                marked(root / f"MASKS-SD-saliency-900/{name}_{k}.png", kind)


def neu_cls(root: Path) -> None:
    for kind, short in enumerate(("Cr", "In", "Pa", "PS", "RS", "Sc"), start=1):
        for k in range(5):
            part(root / f"{short}_{k}.bmp", kind)


def sd_saliency_900(root: Path) -> None:
    for kind, short in enumerate(("In", "Pa", "Sc"), start=1):
        for k in range(6):
            part(root / f"Source Images/{short}_{k}.bmp", kind)
            marked(root / f"Ground truth/{short}_{k}.png", kind)


def x_sdd(root: Path) -> None:
    for kind, name in enumerate(("red iron", "slag inclusion"), start=1):
        for k in range(6):
            part(root / f"datas/{name}/{k:04}.jpg", kind)


def magnetic_tile(root: Path) -> None:
    rows = ["image,class,tile_group"]
    for kind, name in enumerate(("Free", "Blowhole", "Crack")):
        for k in range(8):
            path = part(root / f"MT_{name}/Imgs/exp{k}_num_{kind}{k}.jpg", kind)
            marked(path.with_suffix(".png"), kind)
            rows.append(f"{path.relative_to(root).as_posix()},{name},{name}{k // 2}")
    lines(root / "groups.csv", *rows)


def deep_pcb(root: Path) -> None:
    listed: dict[str, list[str]] = {"trainval": [], "test": []}
    for group in ("00041", "12000"):
        place = root / f"PCBData/group{group}"
        for k in range(12):
            stem, kind = f"{group}{k:03}", 1 + k % 2
            part(place / f"{group}/{stem}_test.jpg", kind)
            part(place / f"{group}/{stem}_temp.jpg")
            lines(place / f"{group}_not/{stem}.txt", f"1 1 11 13 {kind}")
            listed["test" if k > 8 else "trainval"].append(
                f"group{group}/{group}/{stem}.jpg group{group}/{group}_not/{stem}.txt"
            )
    for name, text in listed.items():
        lines(root / f"PCBData/{name}.txt", *text)


def kolektor_sdd(root: Path) -> None:
    for place in range(1, 13):
        for k in range(3):
            path = part(root / f"kos{place:02}/Part{k}.jpg", int(k == 2))
            marked(path.with_name(f"Part{k}_label.bmp"), int(k == 2))


def kolektor_sdd2(root: Path) -> None:
    for side, most in (("train", 24), ("test", 8)):
        for k in range(most):
            path = part(root / f"{side}/{20000 + k}.png", k % 2)
            marked(path.with_name(f"{path.stem}_GT.png"), k % 2)


def good_only(root: Path, *names: str, good: str = "good", bad: str = "scratch") -> None:
    """Ten calibration pictures are needed, and they are a tenth of all."""
    for name in names:
        for k in range(100 // len(names)):
            part(root / f"{name}/train/{good}/{k:03}.png")
        for k in range(5):
            part(root / f"{name}/test/{good}/{k:03}.png")
            part(root / f"{name}/test/{bad}/{k:03}.png", 1)
            end = "" if good == "ok" else "_mask"
            marked(root / f"{name}/ground_truth/{bad}/{k:03}{end}.png", 1)


def visa(root: Path) -> None:
    rows = ["object,split,label,image,mask"]
    for name in ("candle", "pcb1"):
        data = f"{name}/Data"
        for k in range(55):
            image = f"{data}/Images/Normal/{k:04}.JPG"
            part(root / image)
            rows.append(f"{name},{'train' if k < 50 else 'test'},normal,{image},")
        for k in range(5):
            image, truth = f"{data}/Images/Anomaly/{k:03}.JPG", f"{data}/Masks/Anomaly/{k:03}.png"
            part(root / image, 1)
            marked(root / truth, 1, value=1)
            rows.append(f"{name},test,anomaly,{image},{truth}")
    lines(root / "split_csv/1cls.csv", *rows)


def casting(root: Path) -> None:
    for side, most in (("train", 12), ("test", 5)):
        for kind, name in enumerate(("ok_front", "def_front")):
            for k in range(most):
                part(root / f"{side}/{name}/cast_{name}_{side}{k}.jpeg", kind)


def rsdds(root: Path) -> None:
    for kind, name in enumerate(("Type-I", "Type-II"), start=1):
        place = root / f"{name} RSDDs dataset"
        for k in range(8):
            part(place / f"Rail surface images/rail_{k}.jpg", kind)
            marked(place / f"GroundTruth/rail_{k}.jpg", kind)


def bsdata(root: Path) -> None:
    for k in range(24):
        stem = f"01_20090205352{k:02}_{585000 + k // 2}_090_crop_2"
        part(root / f"data/{stem}.jpg", k % 2)
        if k % 2:
            labelme_json(root / f"label/{stem}.json", polygon("Pitting", 9))


def crack_forest(root: Path) -> None:
    (root / "groundTruth").mkdir(parents=True)
    for k in range(1, 13):
        part(root / f"image/{k:03}.jpg", 1)
        pixels = np.ones(SIZE, np.uint8)
        pixels[1:13, 1:11] = 2
        truth = {"Segmentation": pixels, "Boundaries": pixels}
        savemat(root / f"groundTruth/{k:03}.mat", {"groundTruth": truth})


def dagm_2007(root: Path) -> None:
    for name in ("Class1", "Class2"):
        for side in ("Train", "Test"):
            rows = ["1"]
            for k in range(16):
                stem = f"{k:04}"
                part(root / name / side / f"{stem}.PNG", k % 2)
                if k % 2:
                    marked(root / name / side / f"Label/{stem}_label.PNG", 1)
                    rows.append(f"1\t1\t{stem}.PNG\t1\t{stem}_label.PNG")
            lines(root / name / side / "Label/Labels.txt", *rows)


def severstal(root: Path) -> None:
    rows = ["ImageId,ClassId,EncodedPixels"]
    for k in range(24):
        part(root / f"train_images/{k}.jpg", k % 3)
        if k % 3:
            # Runs go down the columns, from 1: rows 1 to 12 of columns 1 to 10.
            runs = " ".join(f"{24 * column + 2} 12" for column in range(1, 11))
            rows.append(f"{k}.jpg,{k % 3},{runs}")
    lines(root / "train.csv", *rows)


def gc10_det(root: Path) -> None:
    for kind, (number, name) in enumerate(((1, "1_chongkong"), (10, "10_yaozhed")), start=1):
        for k in range(8):
            stem = f"img_0{number}_42500{k}{number}_00001"
            part(root / f"{number}/{stem}.jpg", kind)
            voc_xml(root / f"lable/{stem}.xml", name, BOX)


def coco(root: Path) -> None:
    for side, most in (("train", 24), ("val", 12)):
        images, marks = [], []
        for k in range(most):
            part(root / f"images/{side}/{k}.png", k % 3)
            images.append({"id": k, "file_name": f"{k}.png", "width": 32, "height": 24})
            if k % 3:
                ring = [1, 1, 11, 1, 11, 13, 1, 13]
                marks.append({"image_id": k, "category_id": k % 3, "bbox": [1, 1, 10, 12],
                              "segmentation": [ring]})  # fmt: skip
        kinds = [{"id": 1, "name": "dent"}, {"id": 2, "name": "stain"}]
        content = {"images": images, "annotations": marks, "categories": kinds}
        lines(root / f"annotations/instances_{side}.json", json.dumps(content))


def yolo(root: Path) -> None:
    lines(root / "data.yaml", "train: images/train", "val: images/val", "nc: 2",
          "names:", "  0: dent", "  1: stain")  # fmt: skip
    for side, most in (("train", 24), ("val", 12)):
        for k in range(most):
            part(root / f"images/{side}/{k}.png", k % 3)
            if k % 3:
                lines(root / f"labels/{side}/{k}.txt", f"{k % 3 - 1} 0.1875 0.291 0.3125 0.5")


def voc(root: Path) -> None:
    sides: dict[str, list[str]] = {"trainval": [], "test": []}
    for k in range(24):
        kind = 1 + k % 2
        part(root / f"JPEGImages/{k}.jpg", kind)
        voc_xml(root / f"Annotations/{k}.xml", ("dent", "stain")[k % 2], BOX)
        sides["test" if k >= 16 else "trainval"].append(str(k))
    for name, stems in sides.items():
        lines(root / f"ImageSets/Main/{name}.txt", *stems)


def labelme(root: Path) -> None:
    for k in range(24):
        part(root / f"{k}.png", k % 2)
        labelme_json(root / f"{k}.json", *([polygon("dent", 9)] if k % 2 else []))


def folder(root: Path) -> None:
    for kind, name in enumerate(("OK", "dent", "stain")):
        for k in range(10):
            part(root / name / f"{k}.png", kind)


def table(root: Path) -> None:
    rows = ["path,label,group,mask,split"]
    for k in range(24):
        part(root / f"p/{k}.png", k % 2)
        truth = f"m/{k}.png" if k % 2 else ""
        if truth:
            marked(root / truth, 1)
        side = "test" if k >= 16 else "train"
        rows.append(f"p/{k}.png,{('normal', 'dent')[k % 2]},part{k // 2},{truth},{side}")
    lines(root / "parts.csv", *rows)


LAYOUTS: dict[str, tuple[Callable[[Path], None], str]] = {
    "elpv": (elpv, "classify"),
    "neu-det": (neu_det, "segment"),
    "neu-cls": (neu_cls, "classify"),
    "sd-saliency-900": (sd_saliency_900, "segment"),
    "x-sdd": (x_sdd, "classify"),
    "magnetic-tile": (magnetic_tile, "segment"),
    "deep-pcb": (deep_pcb, "segment"),
    "kolektor-sdd": (kolektor_sdd, "segment"),
    "kolektor-sdd2": (kolektor_sdd2, "segment"),
    "mvtec-ad": (lambda root: good_only(root, "bottle", "cable"), "anomaly"),
    "btad": (lambda root: good_only(root, "01", "03", good="ok", bad="ko"), "anomaly"),
    "mpdd": (lambda root: good_only(root, "tubes", "connector"), "anomaly"),
    "visa": (visa, "anomaly"),
    "casting": (casting, "classify"),
    "rsdds": (rsdds, "segment"),
    "bsdata": (bsdata, "segment"),
    "crack-forest": (crack_forest, "segment"),
    "dagm-2007": (dagm_2007, "segment"),
    "severstal": (severstal, "segment"),
    "gc10-det": (gc10_det, "segment"),
    "mvtec": (lambda root: good_only(root, "bottle"), "anomaly"),
    "folder": (folder, "classify"),
    "table": (table, "segment"),
    "coco": (coco, "segment"),
    "yolo": (yolo, "segment"),
    "voc": (voc, "segment"),
    "labelme": (labelme, "segment"),
}
"""Builder and the task that the labels lead to."""
