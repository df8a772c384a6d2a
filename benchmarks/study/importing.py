"""Looks that were taken elsewhere, from CSV into a study."""

from pathlib import Path

from twonines.benchmarks.study.looks import Journal, read_csv
from twonines.benchmarks.study.plan import read_plan
from twonines.errors import InputError


def import_csv(path: Path, folder: Path) -> int:
    """Add every look of a CSV to a study, or none.

    Returns:
        How many were added.

    Raises:
        InputError: the CSV has faults, named by line, or repeats looks that are there.
        SettingsError: the study is open elsewhere or cannot be written.
    """
    plan = read_plan(folder)
    try:
        data = path.read_bytes()
    except OSError as exc:
        raise InputError(f"csv: {path} must be a readable file ({exc.strerror})") from exc
    journal = Journal(folder, plan)
    try:
        looks = read_csv(data, plan, str(path), journal.looks)
        journal.append(looks)
    finally:
        journal.close()
    return len(looks)
