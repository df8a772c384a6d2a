"""NEU-CLS: hot-rolled strip, six classes (Song & Yan 2013)."""

from pathlib import Path

from twonines.datasets.layout import find_by, finish, pictures
from twonines.datasets.record import Dataset, DatasetCard, Record

NAMES = {
    "Cr": "crazing",
    "In": "inclusion",
    "Pa": "patches",
    "PS": "pitted_surface",
    "RS": "rolled-in_scale",
    "Sc": "scratches",
}
"""NEU's short names and those of NEU-DET."""
CARD = DatasetCard(
    name="neu-cls",
    title="NEU-CLS, hot-rolled strip, six classes",
    licence="research use; cite Song & Yan 2013",
    source="Northeastern University; Song & Yan, Applied Surface Science 285, 2013",
    official_split="none",
    traps="No good class: it tests typing, not accept or reject. The pictures are those of "
    "NEU-DET: never teach on one and test on the other.",
    turns=2,
    folder="NEU-CLS",
    tasks=("classify",),
    classes=tuple(NAMES.values()),
    published=(
        "98.93 % (AECLBP), Song & Yan 2013",
        "99.0-99.4 % (CNN transfer), Applied Sciences 13:5260",
        "about 100 % (EfficientNet), Applied Sciences 12:3967",
    ),
    download="Get NEU-CLS from Song Kechen's page at Northeastern University (search for 'NEU "
    "surface defect database') and unpack it, so that Cr_1.bmp to Sc_300.bmp lie in one folder.",
)


def read(root: Path) -> Dataset:
    """Read flat ``{Cr,In,Pa,PS,RS,Sc}_N.bmp``."""
    root = find_by(root, "NEU-CLS", "Cr_1.bmp to Sc_300.bmp", lambda place: bool(_named(place)))
    return finish(CARD, root, [Record(path, NAMES[_short(path)]) for path in _named(root)])


def _named(folder: Path) -> list[Path]:
    return [path for path in pictures(folder) if _short(path) in NAMES]


def _short(path: Path) -> str:
    return path.stem.rpartition("_")[0]
