"""Who is at which picture: hands out pictures one by one and keeps answers. No HTTP here."""

import threading
import time
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from twonines.benchmarks.study.looks import Answer, Journal, Look, known_inspector
from twonines.benchmarks.study.plan import Plan, find_picture, read_plan
from twonines.errors import StaleError, UnknownError
from twonines.models.image import decode, encode_png

CLOCK_SLACK_S = 0.5
"""How much longer than by the server's clock a look may be by the browser's."""


@dataclass(slots=True)
class _Seat:
    """One inspector's place: the order, and what was answered."""

    name: str
    order: list[tuple[str, int]]
    done: set[tuple[str, int]]
    # By the server's monotonic clock: when each picture was first sent, when an answer last came.
    sent: dict[tuple[str, int], float] = field(default_factory=dict)
    # Sent twice: the page was loaded anew, so the picture may have been seen before.
    again: set[tuple[str, int]] = field(default_factory=set)
    answered: float = 0.0

    def turns(self) -> list[tuple[str, int]]:
        """What is left, in order."""
        return [turn for turn in self.order if turn not in self.done]


class Desk:
    """A running study. Safe to call from several threads."""

    def __init__(self, folder: Path) -> None:
        """Open plan and answers; every picture must be the one that was planned.

        Raises:
            InputError: plan, answers or a picture are not what they must be.
            SettingsError: another process runs this study.
        """
        self.plan: Plan = read_plan(folder)
        self._paths = {p.id: find_picture(self.plan, p) for p in self.plan.pictures}
        self._journal = Journal(folder, self.plan)
        self._lock = threading.Lock()
        self._seats: dict[str, _Seat] = {}

    def close(self) -> None:
        """Let go of the answers' file."""
        self._journal.close()

    def _seat(self, name: str) -> _Seat:
        known = known_inspector(name, self.plan)
        key = known.casefold()
        if key not in self._seats:
            mine = [look for look in self._journal.looks if look.inspector.casefold() == key]
            # One person, one spelling: the first.
            spelled = mine[0].inspector if mine else known
            done = {(look.picture, look.repeat) for look in mine}
            self._seats[key] = _Seat(spelled, self.plan.order(spelled), done)
        return self._seats[key]

    def state(self, name: str) -> dict[str, Any]:
        """Where an inspector stands; nothing in it tells good from defective.

        Returns:
            ``inspector``, ``done``, ``total``, ``deaf_s``, ``break_s`` (None where no break is
            due), and ``turn`` and ``next``, each ``picture`` and ``repeat`` or None.
        """
        with self._lock:
            return self._state(self._seat(name))

    def _state(self, seat: _Seat) -> dict[str, Any]:
        left, done = seat.turns()[:2], len(seat.done)
        due = bool(left) and done > 0 and done % self.plan.break_every == 0
        turns = [{"picture": picture, "repeat": repeat} for picture, repeat in left]
        return {
            "inspector": seat.name,
            "done": done,
            "total": len(seat.order),
            "deaf_s": self.plan.deaf_s,
            "break_s": self.plan.break_s if due else None,
            "turn": turns[0] if turns else None,
            "next": turns[1] if len(turns) > 1 else None,
        }

    def picture(self, name: str, picture: str, repeat: int) -> bytes:
        """PNG of the inspector's present or next picture, upright and without metadata.

        The pixels are those that a model sees before resizing.

        Raises:
            UnknownError: it is neither of the two.
        """
        with self._lock:
            seat = self._seat(name)
            if (picture, repeat) not in seat.turns()[:2]:
                raise UnknownError(f"picture: must be the present or the next one, got {picture!r}")
        data = encode_png(decode(self._paths[picture].read_bytes()))
        with self._lock:
            if (picture, repeat) in seat.sent:
                seat.again.add((picture, repeat))
            seat.sent.setdefault((picture, repeat), time.monotonic())
        return data

    def answer(
        self,
        name: str,
        picture: str,
        repeat: int,
        answer: Answer,
        seconds: float,
        mark: tuple[float, float] | None = None,
        interrupted: bool = False,
    ) -> dict[str, Any]:
        """Keep an answer, and say what comes next.

        The answer is on the disk before this returns. One to a picture that was answered before
        changes nothing: a double click, a second window or a page that went back.

        Raises:
            StaleError: the picture is another's turn.
            UnknownError: the picture was never sent since the service started.
            OSError: the answer could not be written; it is not kept.
        """
        now = time.monotonic()
        with self._lock:
            seat = self._seat(name)
            turn = (picture, repeat)
            if turn in seat.done:
                return self._state(seat)
            left = seat.turns()
            if not left or turn != left[0]:
                raise StaleError(
                    f"picture: must be {left[0] if left else 'none, all are done'}, got {turn}"
                )
            if turn not in seat.sent:
                raise UnknownError(f"picture: {picture} must have been looked at, load it again")
            longest = now - max(seat.sent[turn], seat.answered)
            late = seconds > longest + CLOCK_SLACK_S
            broken = interrupted or turn in seat.again
            self._journal.append(
                [
                    Look(
                        inspector=seat.name,
                        picture=picture,
                        repeat=repeat,
                        answer=answer,
                        seconds=seconds,
                        server_seconds=longest,
                        x=mark[0] if mark else None,
                        y=mark[1] if mark else None,
                        time=datetime.now(UTC).isoformat(timespec="milliseconds"),
                        remark="clock" if late else "interrupted" if broken else "",
                        plan=self.plan.digest,
                    )
                ]
            )
            seat.done.add(turn)
            seat.answered = now
            return self._state(seat)
