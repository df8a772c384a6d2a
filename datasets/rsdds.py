"""RSDDs: rail heads of two kinds of line with masks (Gan et al. 2017)."""

from pathlib import Path

from twonines.datasets.layout import existing, find_by, finish, pictures
from twonines.datasets.record import DEFECTIVE, Dataset, DatasetCard, Record

CARD = DatasetCard(
    name="rsdds",
    title="RSDDs, 195 rail heads with masks, Type-I (express) and Type-II (heavy haul)",
    licence="none stated; cite Gan et al. 2017",
    source="Gan et al., IEEE Sensors Journal 17, 2017",
    official_split="none",
    traps="No good class. 14 exact duplicates. Masks are JPEG: grey above 127 is defective. The "
    "pictures of one rail are not named. Choose with rsdds:Type-I or rsdds:Type-II.",
    folder="RSDDs",
    tasks=("segment",),
    classes=(DEFECTIVE,),
    download="Get RSDDs from its authors or from github.com/Woody-Tang/"
    "surface_defect_detection_datasets, so that 'Type-I RSDDs dataset' and 'Type-II RSDDs "
    "dataset' lie side by side.",
)


def read(root: Path) -> Dataset:
    """Read ``Type-* RSDDs dataset/{Rail surface images,GroundTruth}/rail_N.jpg``."""
    root = find_by(root, "RSDDs", "'Type-I RSDDs dataset'", lambda p: any(p.glob("Type-*RSDDs*/")))
    records = [
        Record(
            path,
            DEFECTIVE,
            mask=existing(kind / "GroundTruth" / path.name),
            attributes={"category": kind.name.split()[0]},
        )
        for kind in sorted(root.glob("Type-*RSDDs*/"))
        for path in pictures(kind / "Rail surface images")
    ]
    return finish(CARD, root, records)
