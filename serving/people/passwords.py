"""Passwords: argon2id (RFC 9106), never stored, never told."""

import secrets
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cached_property

from argon2 import PasswordHasher
from argon2.exceptions import InvalidHashError, VerificationError, VerifyMismatchError

from twonines.errors import InputError, OverloadedError, TwoninesError

MIN_PASSWORD, MAX_PASSWORD = 10, 1024
_AT_ONCE = 2
_PATIENCE_S = 5.0


class Passwords:
    """Hashes and compares; at most two at once, for each takes 64 MiB and a core.

    Where no hash is stored, because there is no such user, a made one is compared, so that the
    time of an answer does not tell which names exist.
    """

    def __init__(self, hasher: PasswordHasher | None = None) -> None:
        """Take ``hasher``, or argon2-cffi's default (RFC 9106, low memory)."""
        self._hasher = hasher or PasswordHasher()
        self._room = threading.BoundedSemaphore(_AT_ONCE)

    def hash(self, password: str) -> str:
        """The hash to store, with its own salt and parameters.

        Raises:
            InputError: it has fewer than 10 or more than 1024 characters, or cannot be encoded.
            OverloadedError: too many logins at once.
        """
        if not MIN_PASSWORD <= len(password) <= MAX_PASSWORD:
            raise InputError(
                f"password: must have {MIN_PASSWORD} to {MAX_PASSWORD} characters, "
                f"got {len(password)}"
            )
        data = _encoded(password)
        if data is None:
            raise InputError("password: must be valid Unicode text")
        with self._turn():
            return self._hasher.hash(data)

    def matches(self, stored: str | None, password: str) -> bool:
        """Whether the password is that of the stored hash; false where none is stored.

        Raises:
            OverloadedError: too many logins at once.
            TwoninesError: the stored hash is none.
        """
        data = _encoded(password)
        if data is None or len(password) > MAX_PASSWORD:
            stored, data = None, b""
        with self._turn():
            nobody = self._nobody  # made at the first login, whoever comes
            try:
                self._hasher.verify(nobody if stored is None else stored, data)
            except VerifyMismatchError:
                return False
            except (InvalidHashError, VerificationError) as exc:
                raise TwoninesError("a stored password hash is damaged") from exc
        return stored is not None

    @cached_property
    def _nobody(self) -> str:
        return self._hasher.hash(secrets.token_urlsafe(16))

    def is_outdated(self, stored: str) -> bool:
        """Whether the hash was made with other parameters than are used now."""
        return self._hasher.check_needs_rehash(stored)

    @contextmanager
    def _turn(self) -> Iterator[None]:
        if not self._room.acquire(timeout=_PATIENCE_S):
            raise OverloadedError("too many logins at once", 1.0)
        try:
            yield
        finally:
            self._room.release()


def _encoded(password: str) -> bytes | None:
    """UTF-8; None for lone surrogates, which JSON can hold and no encoding can."""
    try:
        return password.encode()
    except UnicodeEncodeError:
        return None
