"""What is kept, and for how long."""

import random
from dataclasses import dataclass
from typing import Literal

from twonines.types import Verdict

KeepPictures = Literal["all", "ng-review", "none"]


@dataclass(frozen=True, slots=True)
class Keeping:
    """Which pictures are kept, and which inspections a person must look at.

    ``ok_share`` of the OK pictures are kept beside those that are NG or REVIEW; ``review_ok_share``
    of them go to a person, with their pictures, so that escapes are noticed.
    """

    pictures: KeepPictures = "ng-review"
    ok_share: float = 0.0
    reviewers: int = 1
    review_ok_share: float = 0.0

    def choose(self, verdict: Verdict) -> tuple[bool, int]:
        """Whether the picture is kept, and how many persons must look at it."""
        if verdict is Verdict.REVIEW:
            return self.pictures != "none", self.reviewers
        if verdict is Verdict.NG:
            return self.pictures != "none", 0
        if verdict is Verdict.ERROR or self.pictures == "none":
            return self.pictures == "all", 0
        due = self.reviewers if random.random() < self.review_ok_share else 0
        return self.pictures == "all" or bool(due) or random.random() < self.ok_share, due
