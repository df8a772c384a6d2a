"""A PostgreSQL of one's own, for tests and shows; its programs must be installed."""

import os
import pwd
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from twonines.benchmarks.throughput import free_port
from twonines.errors import SettingsError

PACKAGE = "postgresql"


def find_programs() -> Path:
    """The folder of ``initdb``, ``pg_ctl`` and ``postgres``.

    Raises:
        SettingsError: they are not installed; the message names the apt package.
    """
    # Debian leaves them out of the path, in a folder for each version.
    for folder in sorted(Path("/usr/lib/postgresql").glob("*/bin"), reverse=True):
        if (folder / "initdb").is_file():
            return folder
    found = shutil.which("initdb")
    if found is None:
        raise SettingsError(f"PostgreSQL is not installed: apt-get install {PACKAGE}")
    return Path(found).resolve().parent


class Postgres:
    """A server in a folder, which may be stopped and started again."""

    def __init__(self, folder: Path, *, durable: bool = True) -> None:
        """Make the cluster in ``folder``; nothing runs yet.

        Without ``durable`` it forgets at a power cut, though not at a crash, and is faster.
        """
        self._fsync = "on" if durable else "off"
        self._programs, self._data = find_programs(), folder / "cluster"
        self._log, self._port = folder / "log", free_port()
        self._user = _user()
        if self._user is not None:
            shutil.chown(folder, self._user)
        self._run("initdb", "--auth=trust", "--username=twonines", "--encoding=UTF8", "--no-sync",
                  "--pgdata", str(self._data))  # fmt: skip
        self._folder = folder

    def url(self, name: str = "postgres") -> str:
        """The URL of a database."""
        return f"postgresql+psycopg://twonines@127.0.0.1:{self._port}/{name}"

    def create(self, name: str) -> str:
        """A new empty database; gives its URL."""
        self._run("createdb", "--host=127.0.0.1", f"--port={self._port}", "--username=twonines",
                  name)  # fmt: skip
        return self.url(name)

    def start(self) -> None:
        """Start, and wait until it takes connections."""
        options = f"-p {self._port} -c listen_addresses=127.0.0.1 -k {self._folder}"
        options += f" -c fsync={self._fsync}"
        self._run("pg_ctl", "start", "--wait", "--pgdata", str(self._data), "--log",
                  str(self._log), "--options", options)  # fmt: skip

    def stop(self, *, hard: bool = False) -> None:
        """Stop; ``hard`` breaks every connection, as a crash does."""
        mode = "immediate" if hard else "fast"
        self._run("pg_ctl", "stop", "--wait", "--pgdata", str(self._data), "--mode", mode)

    def _run(self, program: str, *arguments: str) -> None:
        path = self._programs / program
        with tempfile.TemporaryFile("w+") as said:  # a server that goes on would keep a pipe open
            done = subprocess.run(
                [path, *arguments], user=self._user, extra_groups=[] if self._user else None,
                cwd="/", stdout=said, stderr=said, check=False, env={**os.environ, "LC_ALL": "C"},
            )  # fmt: skip
            said.seek(0)
            if done.returncode:
                raise SettingsError(f"{program}: {said.read()[-1000:]}")


def _user() -> str | None:
    """PostgreSQL refuses to run as root."""
    if os.geteuid():
        return None
    names = {entry.pw_name for entry in pwd.getpwall()}
    return "postgres" if "postgres" in names else "nobody"


@contextmanager
def postgres(*, durable: bool = True) -> Iterator[Postgres]:
    """A running server with nothing in it; gone afterwards.

    Raises:
        SettingsError: PostgreSQL is not installed.
    """
    folder = Path(tempfile.mkdtemp(prefix="twonines-pg-"))
    try:
        server = Postgres(folder, durable=durable)
        server.start()
        try:
            yield server
        finally:
            server.stop(hard=True)
    finally:
        shutil.rmtree(folder, ignore_errors=True)
