"""A set's card as lines to read."""

from twonines.datasets.record import DatasetCard

_TURNING = {
    1: "",
    2: "a part turned by a half is as good as before",
    4: "a part turned by a quarter or a half is as good as before",
}


def facts(card: DatasetCard) -> list[tuple[str, str]]:
    """Heading and text, in the order a user needs them."""
    lines = [
        ("title", card.title),
        ("licence", card.licence),
        ("source", card.source),
        ("tasks", ", ".join(card.tasks)),
        ("classes", ", ".join(card.classes)),
        ("split", card.official_split),
        ("traps", card.traps),
        ("turning", _TURNING[card.turns]),
        ("get it", _download(card)),
        ("folder", f"{card.folder}, below TWONINES_DATA" if card.folder else ""),
        ("published", "\n".join(card.published)),
    ]
    return [(heading, text) for heading, text in lines if text]


def _download(card: DatasetCard) -> str:
    if any(archive.url for archive in card.archives):
        return f"twonines datasets fetch {card.name}. {card.download}"
    return card.download
