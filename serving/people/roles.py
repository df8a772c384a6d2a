"""Roles, persons, and the one table of who may use which route."""

import re
from dataclasses import asdict, dataclass
from enum import Enum
from typing import Final, Literal

from twonines.errors import InputError

RoleName = Literal["viewer", "inspector", "engineer", "admin"]
_MOST = 2**53


class Role(Enum):
    """Each may do what those before may. Not ordered by ``<``, which words would answer wrongly."""

    VIEWER = "viewer"
    INSPECTOR = "inspector"
    ENGINEER = "engineer"
    ADMIN = "admin"

    def __str__(self) -> str:
        """The word for it."""
        return str(self.value)

    def covers(self, least: "Role") -> bool:
        """Whether this role may do what ``least`` may."""
        order = list(Role)
        return order.index(self) >= order.index(least)

    @classmethod
    def parse(cls, word: str) -> "Role":
        """The role of this word.

        Raises:
            InputError: there is none.
        """
        try:
            return cls(word)
        except ValueError as exc:
            words = ", ".join(map(str, cls))
            raise InputError(f"role: must be one of {words}, got {word[:64]!r}") from exc


@dataclass(frozen=True, slots=True)
class Quota:
    """The most that a key may use; None is without limit. Days and minutes are those of UTC."""

    images_per_minute: int | None = None
    images_per_day: int | None = None
    compute_s_per_day: int | None = None

    def check(self) -> None:
        """Raise ``InputError`` where a limit is none."""
        for name, value in asdict(self).items():
            if value is not None and not 0 <= value <= _MOST:
                raise InputError(f"{name}: must be from 0 to {_MOST}, got {value}")


DEFAULT_TENANT: Final = "default"
NO_QUOTA: Final = Quota()


@dataclass(frozen=True, slots=True)
class Person:
    """Who asks.

    ``kind`` tells a user from an API key and from ``local``, which is whoever uses a service
    without login; ``name`` is the user's name or the key's visible prefix.
    """

    name: str
    role: Role
    tenant: str = DEFAULT_TENANT
    kind: Literal["user", "key", "local"] = "user"
    quota: Quota = NO_QUOTA

    @property
    def actor(self) -> str:
        """The name in the audit log and in the usage report."""
        return self.name if self.kind == "local" else f"{self.kind}:{self.name}"

    def may_use(self, key: str) -> bool:
        """Whether this person may use a route; nobody may use one without an entry."""
        least = ACCESS.get(key, _NOBODY)
        return least is None or (isinstance(least, Role) and self.role.covers(least))


LOCAL: Final = Person("local", Role.ADMIN, kind="local")

_NOBODY: Final = object()
_OPEN: Final = None
"""Needs no login: tells nothing, or is how one logs in."""

CONSOLE: Final[dict[str, Role | None]] = {
    "GET /console": Role.VIEWER,
    "GET /console/": Role.INSPECTOR,
    "GET /console/live": Role.VIEWER,
    "GET /console/review": Role.INSPECTOR,
    "GET /console/history": Role.VIEWER,
    "GET /console/models": Role.VIEWER,
    "GET /console/data": Role.ENGINEER,
    "GET /console/teach": Role.ENGINEER,
    "GET /console/study": Role.ENGINEER,
    "GET /console/reports": Role.VIEWER,
    "GET /console/people": Role.VIEWER,
    "GET /console/reports/{name}/report.html": Role.VIEWER,
    # A page's own parts; only who may open a page is told the id that its socket asks for.
    "ANY /console/_nicegui_ws/*": Role.VIEWER,
    "POST /console/_nicegui/client/*/upload": Role.INSPECTOR,
    "GET /console/favicon.ico": Role.VIEWER,
    "ANY /console/_nicegui/*/static/*": Role.VIEWER,
    "GET /console/_nicegui/*/libraries/{key:path}": Role.VIEWER,
    "GET /console/_nicegui/*/components/{key:path}": Role.VIEWER,
    "GET /console/_nicegui/*/resources/{key}/{path:path}": Role.VIEWER,
    "GET /console/_nicegui/*/dynamic_resources/{name}": Role.VIEWER,
    "GET /console/_nicegui/*/esm/{key}/{path:path}": Role.VIEWER,
}
"""Of ``ACCESS``: what is there only with the console."""

ACCESS: Final[dict[str, Role | None]] = {
    # Probes and assets of libraries.
    "GET /healthz": _OPEN,
    "GET /readyz": _OPEN,
    "GET /v2/health/live": _OPEN,
    "GET /v2/health/ready": _OPEN,
    "ANY /static-offline-docs/*": _OPEN,
    # Login.
    "GET /login": _OPEN,
    "POST /v1/login": _OPEN,
    "POST /v1/logout": Role.VIEWER,
    "GET /v1/me": Role.VIEWER,
    "POST /v1/me/password": Role.VIEWER,
    # Looking.
    "GET /": Role.VIEWER,
    "GET /docs": Role.VIEWER,
    "GET /docs/oauth2-redirect": Role.VIEWER,
    "GET /redoc": Role.VIEWER,
    "GET /openapi.json": Role.VIEWER,
    "GET /metrics": Role.VIEWER,
    "GET /v1/models": Role.VIEWER,
    "GET /v1/inspections": Role.VIEWER,
    "GET /v1/inspections/export": Role.VIEWER,
    "GET /v1/inspections/{inspection_id}": Role.VIEWER,
    "GET /v1/inspections/{inspection_id}/picture": Role.VIEWER,
    "GET /v1/inspections/{inspection_id}/overlay": Role.VIEWER,
    "GET /v1/findings": Role.VIEWER,
    "GET /v2": Role.VIEWER,
    "GET /v2/models/stats": Role.VIEWER,
    "GET /v2/models/{name}": Role.VIEWER,
    "GET /v2/models/{name}/config": Role.VIEWER,
    "GET /v2/models/{name}/ready": Role.VIEWER,
    "GET /v2/models/{name}/stats": Role.VIEWER,
    "GET /v2/models/{name}/versions/{version}": Role.VIEWER,
    "GET /v2/models/{name}/versions/{version}/config": Role.VIEWER,
    "GET /v2/models/{name}/versions/{version}/ready": Role.VIEWER,
    "GET /v2/models/{name}/versions/{version}/stats": Role.VIEWER,
    "POST /v2/repository/index": Role.VIEWER,
    # Inspecting.
    "POST /v1/inspect": Role.INSPECTOR,
    "POST /v2/models/{name}/infer": Role.INSPECTOR,
    "POST /v2/models/{name}/versions/{version}/infer": Role.INSPECTOR,
    "POST /v1/inspections/{inspection_id}/reviews": Role.INSPECTOR,
    "POST /v1/findings": Role.INSPECTOR,
    "POST /v1/findings/{finding_id}/pictures": Role.INSPECTOR,
    # Models.
    "POST /v1/models/{name}/versions/{version}/{verb}": Role.ENGINEER,
    "POST /v1/models/{name}/rollback": Role.ENGINEER,
    "POST /v2/repository/models/{name}/load": Role.ENGINEER,
    "POST /v2/repository/models/{name}/unload": Role.ENGINEER,
    "GET /v1/approvals": Role.ENGINEER,
    "POST /v1/approvals/{approval_id}/{decision}": Role.ENGINEER,
    # Audit and people.
    "GET /v1/audit": Role.ENGINEER,
    "GET /v1/audit/verify": Role.ENGINEER,
    "GET /v1/usage": Role.ADMIN,
    "GET /v1/users": Role.ADMIN,
    "POST /v1/users": Role.ADMIN,
    "PATCH /v1/users/{name}": Role.ADMIN,
    "GET /v1/keys": Role.ADMIN,
    "POST /v1/keys": Role.ADMIN,
    "DELETE /v1/keys/{prefix}": Role.ADMIN,
    **CONSOLE,
}
"""The least role for each route; ``None`` is open to all. A route that is not here is refused.

Keys are ``METHOD path template`` as :func:`twonines.serving.people.routes.keys` lists them.
"""

_PAGE: Final = re.compile(r"GET (/console/\w*)")


def console_pages(role: Role) -> list[str]:
    """The paths of the console's pages that a role may open, in their order."""
    found = ((_PAGE.fullmatch(key), least) for key, least in CONSOLE.items())
    return [page[1] for page, least in found if page and least and role.covers(least)]
