"""CrackForest: cracks on roads with ground truth in MATLAB files (Shi et al. 2016)."""

from pathlib import Path

from twonines.datasets.layout import existing, find_by, finish, leave_out, pictures
from twonines.datasets.mask_sources import MaskMat, MaskSource
from twonines.datasets.record import Archive, Dataset, DatasetCard, Record

CARD = DatasetCard(
    name="crack-forest",
    title="CrackForest, 118 pictures of road cracks with masks",
    licence="non-commercial research only; cite Shi et al. 2016",
    source="Shi et al., IEEE Transactions on Intelligent Transportation Systems 17, 2016",
    official_split="none",
    traps="No good class. 37 of the 155 pictures have no ground truth; some of them show cracks, "
    "so they are no good parts either. Segmentation 2 is a crack, 3 and 4 (rare) count as one.",
    folder="CrackForest",
    tasks=("segment",),
    classes=("crack",),
    download="From github.com/cuilimeng/CrackForest-dataset.",
    archives=(
        Archive(
            "CrackForest-dataset.zip",
            "https://github.com/cuilimeng/CrackForest-dataset/archive/HEAD.zip",
        ),
    ),
)


def read(root: Path) -> Dataset:
    """Read ``image/001.jpg`` with ``groundTruth/001.mat``, else ``Masks/001_label.PNG``."""
    root = find_by(root, "CrackForest", "'image' and 'groundTruth' or 'Masks'", _fits)
    every = pictures(root / "image")
    found = [(path, _mask(root, path.stem)) for path in every]
    records = [Record(path, "crack", mask=mask) for path, mask in found if mask]
    left = leave_out(CARD, len(every) - len(records), "pictures without ground truth")
    return finish(left, root, records)


def _fits(folder: Path) -> bool:
    truth = (folder / "groundTruth").is_dir() or (folder / "Masks").is_dir()
    return truth and (folder / "image").is_dir()


def _mask(root: Path, stem: str) -> MaskSource | None:
    mat = root / "groundTruth" / f"{stem}.mat"
    if mat.is_file():
        return MaskMat(mat, "groundTruth", "Segmentation", 2)
    return existing(root / "Masks" / f"{stem}_label.PNG", "nonzero")
