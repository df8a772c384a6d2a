"""The time, as the tables hold it."""

from collections.abc import Callable
from typing import Final

from twonines.serving.store.ids import now_us as now_us

Clock = Callable[[], int]
"""Gives microseconds since 1970 (UTC)."""

SECOND_US: Final = 1_000_000
DAY_US: Final = 86_400 * SECOND_US
