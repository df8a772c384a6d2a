"""Commands for people, keys and what was used."""

import getpass
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from twonines.cli.options import DATA_DIR, DatabaseUrl, DataDir
from twonines.errors import TwoninesError
from twonines.serving.people.roles import RoleName

if TYPE_CHECKING:
    from twonines.serving.people.people import People

users_app = typer.Typer(help="Who may use the service.", no_args_is_help=True)
keys_app = typer.Typer(help="API keys for programs.", no_args_is_help=True)
RoleOption = Annotated[RoleName, typer.Option("--role", help="Each may do what those before may.")]
Tenant = Annotated[str, typer.Option(help="Whose account it is, in the report of usage.")]
Name = Annotated[str, typer.Argument(help="The user's name.")]


@contextmanager
def open_people(data_dir: Path, url: str | None, *, make: bool = False) -> Iterator["People"]:
    """The people of a data directory; ``make`` begins one where there is none."""
    from sqlalchemy.exc import DBAPIError

    from twonines.serving.people.people import People
    from twonines.serving.store.opening import open_database

    if make and url is None:
        data_dir.mkdir(parents=True, exist_ok=True, mode=0o700)
    database = open_database(data_dir, url, exists=url is not None or not make)
    try:
        database.migrate()
        yield People(database)
    except DBAPIError as exc:
        raise TwoninesError(f"database: it failed ({exc.orig})") from exc
    finally:
        database.close()


@users_app.command("add")
def users_add(
    name: Name,
    role: RoleOption,
    tenant: Tenant = "default",
    data_dir: DataDir = DATA_DIR,
    database_url: DatabaseUrl = None,
) -> None:
    """Make a user; the password is asked for, or read from stdin."""
    from twonines.serving.people.roles import Role

    with open_people(data_dir, database_url, make=True) as people:
        user = people.accounts.add(name, Role.parse(role), _password(), _actor(), tenant)
    typer.echo(f"user: {user.name} ({user.role})")


@users_app.command("list")
def users_list(data_dir: DataDir = DATA_DIR, database_url: DatabaseUrl = None) -> None:
    """Show every user."""
    with open_people(data_dir, database_url) as people:
        users = people.accounts.list()
    _show(
        ("name", "role", "tenant", "may log in", "since"),
        [
            (u.name, str(u.role), u.tenant, "no" if u.disabled else "yes", when(u.created_us))
            for u in users
        ],
    )


@users_app.command("disable")
def users_disable(
    name: Name,
    undo: Annotated[bool, typer.Option("--undo", help="Let the user in again.")] = False,
    data_dir: DataDir = DATA_DIR,
    database_url: DatabaseUrl = None,
) -> None:
    """Let a user in no more; sessions end. Users are never deleted: the audit log names them."""
    with open_people(data_dir, database_url) as people:
        people.accounts.change(name, _actor(), disabled=not undo)
    typer.echo(f"user: {name} ({'may log in again' if undo else 'disabled, sessions ended'})")


@users_app.command("passwd")
def users_passwd(
    name: Name, data_dir: DataDir = DATA_DIR, database_url: DatabaseUrl = None
) -> None:
    """Set a password. Asked for, or read from stdin; sessions of the user end."""
    with open_people(data_dir, database_url) as people:
        people.accounts.change(name, _actor(), password=_password())
    typer.echo(f"user: {name} (new password, sessions ended)")


@users_app.command("role")
def users_role(
    name: Name,
    role: Annotated[RoleName, typer.Argument(help="The new one.")],
    data_dir: DataDir = DATA_DIR,
    database_url: DatabaseUrl = None,
) -> None:
    """Give a user another role; sessions go on with it."""
    from twonines.serving.people.roles import Role

    with open_people(data_dir, database_url) as people:
        people.accounts.change(name, _actor(), role=Role.parse(role))
    typer.echo(f"user: {name} ({role})")


@keys_app.command("add")
def keys_add(
    label: Annotated[str, typer.Argument(help="What it is for, such as line-3.")],
    role: RoleOption = "inspector",
    tenant: Tenant = "default",
    images_per_minute: Annotated[int | None, typer.Option(min=0, help="Quota.")] = None,
    images_per_day: Annotated[int | None, typer.Option(min=0, help="Quota; UTC.")] = None,
    compute_s_per_day: Annotated[
        int | None, typer.Option(min=0, help="Quota: seconds of the model's session; UTC.")
    ] = None,
    data_dir: DataDir = DATA_DIR,
    database_url: DatabaseUrl = None,
) -> None:
    """Make a key; it is shown once, here."""
    from twonines.serving.people.roles import Quota, Role

    quota = Quota(images_per_minute, images_per_day, compute_s_per_day)
    with open_people(data_dir, database_url, make=True) as people:
        secret, _ = people.keys.add(label, Role.parse(role), _actor(), tenant, quota)
    typer.echo(f"key: {secret}")
    typer.echo("keep it: it is stored nowhere; send it as X-API-Key", err=True)


@keys_app.command("list")
def keys_list(data_dir: DataDir = DATA_DIR, database_url: DatabaseUrl = None) -> None:
    """Show every key by its prefix."""
    with open_people(data_dir, database_url) as people:
        keys = people.keys.list()
    _show(
        ("prefix", "label", "role", "tenant", "quota", "since", "revoked"),
        [
            (
                k.prefix, k.label, str(k.role), k.tenant,
                ", ".join(f"{n} {v}" for n, v in asdict(k.quota).items() if v is not None) or "-",
                when(k.created_us), when(k.revoked_us) if k.revoked_us else "-",
            )
            for k in keys
        ],
    )  # fmt: skip


@keys_app.command("revoke")
def keys_revoke(
    prefix: Annotated[str, typer.Argument(help="The key's first 12 characters.")],
    data_dir: DataDir = DATA_DIR,
    database_url: DatabaseUrl = None,
) -> None:
    """Let a key in no more. A service that runs knows it within a second."""
    with open_people(data_dir, database_url) as people:
        people.keys.revoke(prefix, _actor())


def usage(
    since: Annotated[str | None, typer.Option(help="First day, such as 2026-01-31; UTC.")] = None,
    until: Annotated[str | None, typer.Option(help="Last day.")] = None,
    tenant: Annotated[str | None, typer.Option(help="Only this one.")] = None,
    csv: Annotated[bool, typer.Option("--csv", help="Comma-separated, to stdout.")] = False,
    data_dir: DataDir = DATA_DIR,
    database_url: DatabaseUrl = None,
) -> None:
    """Show who used the service.

    By day, tenant and key or user: requests, pictures and seconds of the session.
    """
    from twonines.serving.people.usage import read_usage, to_csv

    with open_people(data_dir, database_url) as people:
        rows = read_usage(people.database, since, until, tenant)
    if csv:
        typer.echo(to_csv(rows), nl=False)
        return
    _show(
        ("day", "tenant", "who", "requests", "pictures", "compute s"),
        [
            (r.day, r.tenant, r.actor, str(r.requests), str(r.images), f"{r.compute_s:.3f}")
            for r in rows
        ],
    )


def when(time_us: int) -> str:
    """A time to be read; UTC."""
    return datetime.fromtimestamp(time_us / 1e6, UTC).strftime("%Y-%m-%d %H:%M:%SZ")


def _show(columns: tuple[str, ...], rows: list[tuple[str, ...]]) -> None:
    # Not a table of Rich, which cuts what is wider than the terminal: a prefix must be whole.
    lines = [columns, *rows]
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    for line in lines:
        cells = (cell.ljust(width) for cell, width in zip(line, widths, strict=True))
        typer.echo("  ".join(cells).rstrip())


def _password() -> str:
    """Never an argument: those stand in the shell's history and in the list of processes."""
    if sys.stdin.isatty():
        given: str = typer.prompt("Password", hide_input=True, confirmation_prompt=True)
        return given
    return sys.stdin.readline().rstrip("\r\n")


def _actor() -> str:
    try:
        return f"shell:{getpass.getuser()}"
    except OSError:  # a container's user may have no name
        return "shell"
