"""How often a login may be tried."""

import hashlib
import ipaddress
import secrets
import threading
import time
from collections.abc import Callable

from starlette.requests import HTTPConnection

from twonines.errors import OverloadedError

_BUCKETS = 1 << 14


class Tries:
    """Token buckets for names or addresses, in bounded memory.

    A key falls into one of 16,384 buckets by a hash that nobody outside can foresee. So memory is
    bounded, and unlike in a cache no flood of other keys pushes the count of one out; two keys
    that share a bucket share its tries, which errs on the safe side.
    """

    def __init__(
        self, allowance: int, refill_s: float, clock: Callable[[], float] = time.monotonic
    ) -> None:
        """Allow ``allowance`` tries at once and one more each ``refill_s`` seconds."""
        self._allowance, self._refill_s, self._clock = allowance, refill_s, clock
        self._secret = secrets.token_bytes(16)
        self._buckets: dict[int, tuple[float, float]] = {}
        self._lock = threading.Lock()

    def take(self, key: str) -> float:
        """Take a try; 0, or the seconds until there is one, and then none was taken."""
        with self._lock:
            bucket, now = self._bucket(key), self._clock()
            left = self._left(bucket, now)
            if left < 1:
                return (1 - left) * self._refill_s
            self._buckets[bucket] = (left - 1, now)
            return 0.0

    def give_back(self, key: str) -> None:
        """The try was a good one and shall not count."""
        with self._lock:
            bucket, now = self._bucket(key), self._clock()
            self._buckets[bucket] = (min(self._allowance, self._left(bucket, now) + 1), now)

    def _left(self, bucket: int, now: float) -> float:
        left, since = self._buckets.get(bucket, (float(self._allowance), now))
        return min(self._allowance, left + (now - since) / self._refill_s)

    def _bucket(self, key: str) -> int:
        # A lone surrogate in a name must not be an error here.
        data = key.encode("utf-8", "backslashreplace")
        digest = hashlib.blake2b(data, digest_size=8, key=self._secret).digest()
        return int.from_bytes(digest) % _BUCKETS


class LoginLimit:
    """Wrong passwords: five of a name from one address, then one a minute.

    And twenty of any names from one address, then one each 15 s; and a hundred of a name from
    anywhere, then one each 10 s. The last is loose, so that no other address keeps a person out:
    one alone cannot use it up.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        """Nobody has tried yet."""
        self._pairs, self._addresses = Tries(5, 60.0, clock), Tries(20, 15.0, clock)
        self._names = Tries(100, 10.0, clock)
        self._news = Tries(1, 60.0, clock)

    def take(self, name: str, address: str) -> None:
        """Count a try before the password is compared, so that none at once slip through.

        Raises:
            OverloadedError: too many for this name or address; says when to come back.
        """
        place = _network(address)
        # The name's last: what an address tries too often must not use up the tries of others.
        wait = (
            self._addresses.take(place)
            or self._pairs.take(_pair(name, place))
            or self._names.take(name)
        )
        if wait:
            raise OverloadedError("login: too many tries; wait and try again", wait)

    def is_news(self, address: str) -> bool:
        """Whether a refusal is worth telling: the first in a minute of all from there."""
        return not self._news.take(_network(address))

    def forgive(self, name: str, address: str) -> None:
        """The password was right."""
        place = _network(address)
        self._addresses.give_back(place)
        self._pairs.give_back(_pair(name, place))
        self._names.give_back(name)


def address_of(connection: HTTPConnection) -> str:
    """Where a request or websocket comes from, as it is counted here."""
    return connection.client.host if connection.client else "unknown"


def _pair(name: str, place: str) -> str:
    return f"{place} {name}"  # no address holds a space


def _network(address: str) -> str:
    """An IPv6 client holds a whole /64; what is no address, such as a Unix socket, is one key."""
    try:
        parsed = ipaddress.ip_address(address)
    except ValueError:
        return address
    if isinstance(parsed, ipaddress.IPv6Address):
        if parsed.ipv4_mapped:
            return str(parsed.ipv4_mapped)
        return str(ipaddress.ip_network((parsed.packed[:8] + bytes(8), 64)))
    return str(parsed)
