"""What twonines aims at beside the other servers, and whether this run shows it."""

import statistics
from collections.abc import Sequence
from typing import Any

import numpy as np

from twonines.benchmarks.throughput.load import poisson_times

PLAIN_GAIN, PEER_GAIN, SAME_PROVIDER_GAIN = 3.0, 1.5, 1.2
LIMIT_SHARE, LIMIT_CLIENTS = 0.85, 64
P99_LOAD, P99_S = 80, 0.05
OVERHEAD_S = 0.002
QUIET_SHARE = 0.1
"""Of all cores; below it other programs, the watcher among them, do not matter."""


def judge_aims(result: dict[str, Any]) -> list[dict[str, Any]]:
    """Each aim with its value, its target, whether it is met, and why not where it is not.

    On a machine that did other things meanwhile nothing is met or missed, only "not shown".
    Servers that answered wrong count like the others: their speed is not to be envied, but an aim
    must not be met because of their fault.
    """
    chosen = result["model"]["execution_provider"]
    found = {server["key"]: server for server in result["servers"] if server["capacity"]}
    own = found.get(f"twonines@{result['model']['label']}")
    if own is None:
        return []
    plain = found.get("plain@cpu")
    peers = [one for one in found.values() if one["name"] not in ("twonines", "plain")]
    documented = _best([one for one in peers if one["provider"] == "cpu"])
    same = _best([one for one in peers if one["provider"] == chosen])
    limit = result["limits"][own["label"]]
    aims = [
        _ratio("times the plain handler", own, plain, PLAIN_GAIN, limit),
        _ratio("times the best peer as documented", own, documented, PEER_GAIN, limit),
        _ratio("times the best peer on the same provider", own, same, SAME_PROVIDER_GAIN, limit),
        _limit_aim(own, limit),
        _p99_aim(own, limit, result["options"], result["meta"]["seed"]),
        _overhead_aim(own, limit),
    ]
    doubt = find_disturbance(result)
    return [_doubted(aim, doubt) for aim in aims] if doubt else aims


def find_disturbance(result: dict[str, Any]) -> str:
    """What else ran on the machine, in words; empty where it was next to nothing."""
    rows = [row for server in result["servers"] for row in server["rows"].values()]
    shares = [row["others_share"]["median"] for row in (*rows, *result["limits"].values())]
    worst = max(shares, default=0.0)
    if worst <= QUIET_SHARE:
        return ""
    return (
        f"other programs took up to {100 * worst:.0f} % of the cores during a load; measure again "
        "when the machine is idle"
    )


def _doubted(aim: dict[str, Any], doubt: str) -> dict[str, Any]:
    return aim if aim["value"] is None else aim | {"answer": "not shown", "why": doubt}


def _best(servers: Sequence[dict[str, Any]]) -> dict[str, Any] | None:
    return max(servers, key=lambda one: float(one["capacity"]["median"]), default=None)


def _aim(
    name: str, value: float | None, target: float, met: bool, unit: str, why: str = ""
) -> dict[str, Any]:
    answer = "not measured" if value is None else "met" if met else "not met"
    return {"name": name, "value": value, "target": target, "unit": unit, "answer": answer,
            "why": why if answer != "met" else ""}  # fmt: skip


def _ratio(
    words: str,
    own: dict[str, Any],
    other: dict[str, Any] | None,
    target: float,
    limit: dict[str, Any],
) -> dict[str, Any]:
    """How many times as many pictures a second, each at its best number of clients."""
    if other is None:
        return _aim(words, None, target, False, "times", "no such server was measured")
    rate = other["capacity"]["median"]
    value = own["capacity"]["median"] / rate
    ceiling = limit["decode_resize_session"]["median"] / rate
    why = f"{other['title']} on {other['provider']} gives {rate:.1f} pictures/s"
    if ceiling < target:
        why += (
            f"; decode, resize and bare session as twonines runs here give {ceiling:.2f} "
            "times that, so that no server can reach the aim here"
        )
    return _aim(f"{words} ({other['title']})", value, target, value >= target, "times", why)


def _limit_aim(own: dict[str, Any], limit: dict[str, Any]) -> dict[str, Any]:
    name = f"share of decode + resize + session at {LIMIT_CLIENTS} clients"
    row = own["rows"].get(f"closed {LIMIT_CLIENTS}")
    if row is None:
        return _aim(name, None, LIMIT_SHARE, False, "share", "this load was not measured")
    value = row["per_second"]["median"] / limit["decode_resize_session"]["median"]
    share = 100 * row["generator_share"]["median"]
    why = f"the load generator shares the cores and takes {share:.0f} % of one"
    return _aim(name, value, LIMIT_SHARE, value >= LIMIT_SHARE, "share", why)


def _p99_aim(
    own: dict[str, Any], limit: dict[str, Any], options: dict[str, Any], seed: int
) -> dict[str, Any]:
    name = f"p99 at {P99_LOAD} % Poisson load"
    figure = own["rows"].get(f"open {P99_LOAD}", {}).get("p99_s")
    if figure is None:
        return _aim(name, None, P99_S, False, "s", "this load was not measured")
    value = figure["median"]
    row = own["rows"][f"open {P99_LOAD}"]
    alone = 1000 * limit["session_one_s"]["median"]
    why = (
        f"the median is {1000 * row['p50_s']['median']:.0f} ms; the bare session takes "
        f"{alone:.0f} ms for one"
    )
    pace = limit["decode_resize_session"]["median"]
    best = statistics.median(
        p99_of_queue(poisson_times(rate, options["seconds"], seed + number), pace)
        for number, rate in enumerate(row["offered"]["rounds"])
    )
    if best > P99_S:
        why += (
            f"; one that serves these very arrivals one after the other at {pace:.0f} a second, as "
            f"decode, resize and bare session do here, has a p99 of {1000 * best:.0f} ms, so that "
            "no server that refuses nothing can reach the aim here"
        )
    return _aim(name, value, P99_S, value <= P99_S, "s", why)


def p99_of_queue(arrivals: Sequence[float], pace: float) -> float:
    """Seconds from arrival to end that 1 in 100 exceeds, served in order at 1 / ``pace`` each.

    Args:
        arrivals: in seconds, rising.
        pace: served a second.
    """
    free, taken = 0.0, []
    for at in arrivals:
        free = max(free, at) + 1 / pace
        taken.append(free - at)
    return float(np.quantile(taken, 0.99)) if taken else 0.0


def _overhead_aim(own: dict[str, Any], limit: dict[str, Any]) -> dict[str, Any]:
    name = "overhead over the bare session at one client"
    figure = own["rows"].get("closed 1", {}).get("p50_s")
    if figure is None:
        return _aim(name, None, OVERHEAD_S, False, "s", "this load was not measured")
    value = figure["median"] - limit["session_one_s"]["median"]
    decoding = limit["decode_resize_session_one_s"]["median"] - limit["session_one_s"]["median"]
    why = f"decode and resize take {1000 * decoding:.1f} ms of it"
    return _aim(name, value, OVERHEAD_S, value <= OVERHEAD_S, "s", why)
