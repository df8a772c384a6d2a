"""Names of people and keys, in one spelling and without anything that a log or page would obey."""

import unicodedata

from twonines.errors import InputError

_MAX_NAME = 64
_ALSO = " ._@-"


def checked_name(field: str, given: str) -> str:
    """The one spelling of a name: NFKC, case folded, so that no two look alike by their case.

    Raises:
        InputError: it is empty or longer than 64, or holds anything but letters, digits and
            ``space . _ @ -``; so no line end, quote or bracket ever reaches a header or a page.
    """
    name = unicodedata.normalize("NFKC", given).casefold()
    if not 1 <= len(name) <= _MAX_NAME:
        raise InputError(f"{field}: must have 1 to {_MAX_NAME} characters, got {len(name)}")
    allowed = all(sign.isalnum() or sign in _ALSO for sign in name)
    if not allowed or not name[0].isalnum() or name[-1] == " ":
        raise InputError(
            f"{field}: must begin with a letter or digit and hold only these and '{_ALSO}', the "
            f"space not at the end, got {given[:_MAX_NAME]!r}"
        )
    return name
