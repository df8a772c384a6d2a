"""Files that are written whole or not at all."""

import os
from pathlib import Path


def write_whole(path: Path, data: bytes) -> None:
    """Write a file, or leave the one before as it was.

    Raises:
        OSError: there is no room, or no permission; nothing is left behind.
    """
    partial = path.with_name(f"{path.name}.{os.getpid()}.tmp")  # no file of anyone else's
    try:
        partial.write_bytes(data)
        os.replace(partial, path)
    except OSError:
        partial.unlink(missing_ok=True)
        raise
