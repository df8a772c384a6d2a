"""Readers by name."""

import os
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

from twonines.datasets import (
    bsdata,
    casting,
    coco,
    crack_forest,
    dagm,
    deep_pcb,
    elpv,
    folder,
    gc10_det,
    kolektor,
    labelme,
    magnetic_tile,
    mvtec,
    neu_cls,
    neu_det,
    rsdds,
    sd_saliency,
    severstal,
    table,
    visa,
    voc,
    x_sdd,
    yolo,
)
from twonines.datasets.record import Dataset, DatasetCard
from twonines.errors import DatasetError

Reader = Callable[[Path], Dataset]

READERS: dict[str, Reader] = {
    "elpv": elpv.read,
    "neu-det": neu_det.read,
    "neu-cls": neu_cls.read,
    "sd-saliency-900": sd_saliency.read,
    "x-sdd": x_sdd.read,
    "magnetic-tile": magnetic_tile.read,
    "deep-pcb": deep_pcb.read,
    "kolektor-sdd": kolektor.read,
    "kolektor-sdd2": kolektor.read_2,
    "mvtec-ad": mvtec.read_mvtec_ad,
    "btad": mvtec.read_btad,
    "mpdd": mvtec.read_mpdd,
    "visa": visa.read,
    "casting": casting.read,
    "rsdds": rsdds.read,
    "bsdata": bsdata.read,
    "crack-forest": crack_forest.read,
    "dagm-2007": dagm.read,
    "severstal": severstal.read,
    "gc10-det": gc10_det.read,
    "mvtec": mvtec.read,
    "folder": folder.read,
    "table": table.read,
    "coco": coco.read,
    "yolo": yolo.read,
    "voc": voc.read,
    "labelme": labelme.read,
}
CARDS: dict[str, DatasetCard] = {
    card.name: card
    for card in (
        elpv.CARD,
        neu_det.CARD,
        neu_cls.CARD,
        sd_saliency.CARD,
        x_sdd.CARD,
        magnetic_tile.CARD,
        deep_pcb.CARD,
        kolektor.CARD,
        kolektor.CARD_2,
        mvtec.MVTEC_AD,
        mvtec.BTAD,
        mvtec.MPDD,
        visa.CARD,
        casting.CARD,
        rsdds.CARD,
        bsdata.CARD,
        crack_forest.CARD,
        dagm.CARD,
        severstal.CARD,
        gc10_det.CARD,
        mvtec.CARD,
        folder.CARD,
        table.CARD,
        coco.CARD,
        yolo.CARD,
        voc.CARD,
        labelme.CARD,
    )
}


def load_dataset(name: str, root: Path | None = None) -> Dataset:
    """Read a set by name, as in ``neu-det``; ``visa:candle,pcb1`` reads two of its categories.

    Without ``root``, a public set comes from its folder below ``$TWONINES_DATA``; elpv that is
    not there comes from its package.

    Raises:
        DatasetError: no such name or category, no root, or the folder does not hold the set.
    """
    name, _, categories = name.partition(":")
    card = find_card(name)
    dataset = READERS[name](_default_root(card) if root is None else root)
    return _choose(dataset, categories.split(",")) if categories else dataset


def find_card(name: str) -> DatasetCard:
    """The card of a name.

    Raises:
        DatasetError: no such name.
    """
    if name not in CARDS:
        raise DatasetError(f"dataset: must be one of {', '.join(CARDS)}, got {name!r}")
    return CARDS[name]


def met_traps(card: DatasetCard) -> str:
    """What the reader met in this copy of a set, without the traps of every copy; may be empty."""
    return card.traps.removesuffix(find_card(card.name.partition(":")[0]).traps).strip()


def _choose(dataset: Dataset, wanted: list[str]) -> Dataset:
    """The records of the categories that are wanted."""
    present = sorted({r.attributes["category"] for r in dataset.records if "category" in
                      r.attributes})  # fmt: skip
    if not set(wanted) <= set(present):
        raise DatasetError(
            f"dataset: categories of {dataset.card.name} here must be among "
            f"{', '.join(present) or 'none, it has no categories'}; got {', '.join(wanted)}"
        )
    kept = tuple(r for r in dataset.records if r.attributes["category"] in wanted)
    # reports and model cards say which part of the set they are about
    card = replace(dataset.card, name=f"{dataset.card.name}:{','.join(wanted)}")
    return replace(dataset, card=card, records=kept)


def _default_root(card: DatasetCard) -> Path:
    data = os.environ.get("TWONINES_DATA")
    if data and card.folder and (card.name != "elpv" or (Path(data) / card.folder).is_dir()):
        return Path(data) / card.folder
    if card.name == "elpv":
        return elpv.packaged_root()
    raise DatasetError(
        f"root: {card.name} needs --root, the folder or table to read"
        + (" (or TWONINES_DATA, the folder above it)" if card.folder else "")
    )


def dataset_names() -> tuple[str, ...]:
    """Names of all readers."""
    return tuple(READERS)
