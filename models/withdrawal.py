"""Withdrawn certificates: a small file for each, so that a restart makes none valid again.

The file is named by the certificate's digest and lies beside the model, or in a folder that the
service was given. That it is there is what counts: one that was torn by a kill, or that cannot be
read, withdraws all the same. Certifying again makes another digest, and so another file; nothing
has to be cleared.
"""

import json
import os
from datetime import UTC, datetime
from pathlib import Path

_UNREADABLE = "withdrawn before; why cannot be read any more; certify again"


def withdrawal_path(folder: Path, digest: str) -> Path:
    """Where the withdrawal of the certificate with this digest is kept."""
    return folder / f"withdrawn-{digest}.json"


def keep_withdrawal(folder: Path, digest: str, fault: str) -> None:
    """Keep that, when and why the certificate was withdrawn.

    Raises:
        OSError: it cannot be written.
    """
    made = {
        "certificate": digest,
        "fault": fault,
        "time": datetime.now(UTC).isoformat(timespec="seconds"),
    }
    with withdrawal_path(folder, digest).open("w", encoding="utf-8") as file:
        file.write(json.dumps(made, indent=1) + "\n")
        file.flush()
        os.fsync(file.fileno())


def find_withdrawal(folder: Path, digest: str) -> str | None:
    """Why the certificate was withdrawn; None where no file says so."""
    try:
        made = json.loads(withdrawal_path(folder, digest).read_bytes())
        return f"{made['fault']} ({made['time']})"
    except FileNotFoundError:
        return None
    except (OSError, ValueError, LookupError, TypeError, RecursionError):
        return _UNREADABLE
