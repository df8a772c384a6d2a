"""Login, users, keys, usage and the audit log over HTTP."""

from dataclasses import asdict
from typing import Annotated, Any, Literal

from fastapi import FastAPI, Query, Request, Response
from fastapi.responses import JSONResponse
from pydantic import BaseModel, ConfigDict, Field

from twonines.serving.people.accounts import User
from twonines.serving.people.administration import Administration, people_of
from twonines.serving.people.audit import MAX_SEQ, Finding
from twonines.serving.people.keys import Key
from twonines.serving.people.limits import address_of
from twonines.serving.people.roles import DEFAULT_TENANT, Person, Quota, Role, RoleName
from twonines.serving.people.sessions import COOKIE, Login
from twonines.serving.people.usage import to_csv
from twonines.serving.service import Service

_MAX_BODY = 16 * 1024
_RESPONSES: dict[int | str, dict[str, Any]] = {
    400: {"description": "an argument is outside its range"},
    401: {"description": "the name or the password is wrong, or nobody has logged in"},
    403: {"description": "the role does not cover it, or two persons are wanted"},
    404: {"description": "there is no such user or key"},
    409: {"description": "this service knows no persons, or what it has does not allow it"},
    413: {"description": "the body is too large"},
    429: {"description": "too many tries; Retry-After says when to come back"},
    503: {"description": "the store does not work"},
}
_NO_STORE = {"Cache-Control": "no-store"}


class _In(BaseModel):
    model_config = ConfigDict(extra="forbid", hide_input_in_errors=True)


class LoginIn(_In):
    """Who wants to enter."""

    name: str
    password: str


class PasswordIn(_In):
    """Both passwords, the one of now and the next."""

    old: str
    new: str


class UserIn(_In):
    """A user to be made."""

    name: str
    password: str
    role: RoleName
    tenant: str = DEFAULT_TENANT


class UserChange(_In):
    """What shall be different of a user."""

    role: RoleName | None = None
    disabled: bool | None = None
    password: str | None = None


class KeyIn(_In):
    """A key to be made; a limit that is not given is none."""

    label: str
    role: RoleName
    tenant: str = DEFAULT_TENANT
    images_per_minute: int | None = Field(default=None, ge=0)
    images_per_day: int | None = Field(default=None, ge=0)
    compute_s_per_day: int | None = Field(default=None, ge=0)


def add_people(app: FastAPI, service: Service) -> None:
    """Add the routes to ``app``. Plain functions run in a thread of their own."""
    _add_login(app, service)
    _add_users(app, service)
    _add_keys(app, service)
    _add_audit(app, service)


def _acts(service: Service, request: Request) -> Administration:
    return Administration(people_of(service), request.state.person)


def _add_login(app: FastAPI, service: Service) -> None:
    @app.post("/v1/login", tags=["people"], responses=_RESPONSES, max_body_size=_MAX_BODY)
    def login(request: Request, response: Response, given: LoginIn) -> dict[str, Any]:
        """Enter with name and password; sets the cookie and gives the token for ``X-CSRF``."""
        address = address_of(request)
        token, opened = people_of(service).login(
            given.name, given.password, address, request.cookies.get(COOKIE)
        )
        response.set_cookie(
            COOKIE, token, httponly=True, samesite="strict", secure=request.url.scheme == "https"
        )
        response.headers.update(_NO_STORE)
        return _login(opened)

    @app.post("/v1/logout", tags=["people"], responses=_RESPONSES, status_code=204)
    def logout(request: Request) -> Response:
        """End the session."""
        token = request.cookies.get(COOKIE)
        if token:
            people_of(service).logout(token, request.state.person)
        answer = Response(status_code=204)
        answer.delete_cookie(COOKIE, httponly=True, samesite="strict")
        return answer

    @app.get("/v1/me", tags=["people"], responses=_RESPONSES)
    def me(request: Request) -> dict[str, Any]:
        """Who asks, and the session's token where there is one."""
        token = request.cookies.get(COOKIE)
        opened = service.people.find_login(token) if service.people and token else None
        if opened and opened.person == request.state.person:
            return _login(opened)
        return _person(request.state.person)

    @app.post(
        "/v1/me/password",
        tags=["people"],
        responses=_RESPONSES,
        status_code=204,
        max_body_size=_MAX_BODY,
    )
    def password(request: Request, given: PasswordIn) -> Response:
        """Change one's own password; every session of it ends."""
        address = address_of(request)
        _acts(service, request).change_password(given.old, given.new, address)
        return Response(status_code=204)


def _add_users(app: FastAPI, service: Service) -> None:
    @app.get("/v1/users", tags=["people"], responses=_RESPONSES)
    def users(request: Request) -> dict[str, Any]:
        """Every user."""
        return {"users": [_user(user) for user in _acts(service, request).list_users()]}

    @app.post(
        "/v1/users", tags=["people"], responses=_RESPONSES, status_code=201, max_body_size=_MAX_BODY
    )
    def add(request: Request, given: UserIn) -> dict[str, Any]:
        """Make a user; not where two persons are wanted, for one must not become two."""
        role, acts = Role.parse(given.role), _acts(service, request)
        return _user(acts.add_user(given.name, role, given.password, given.tenant))

    @app.patch(
        "/v1/users/{name}",
        tags=["people"],
        responses=_RESPONSES,
        status_code=204,
        max_body_size=_MAX_BODY,
    )
    def change(request: Request, name: str, given: UserChange) -> Response:
        """Give another role or password, or let in no more.

        Where two persons are wanted only a lower role, or to let in no more.
        """
        role = None if given.role is None else Role.parse(given.role)
        _acts(service, request).change_user(
            name, role=role, disabled=given.disabled, password=given.password
        )
        return Response(status_code=204)


def _add_keys(app: FastAPI, service: Service) -> None:
    @app.get("/v1/keys", tags=["people"], responses=_RESPONSES)
    def keys(request: Request) -> dict[str, Any]:
        """Every key by its prefix."""
        return {"keys": [_key(key) for key in _acts(service, request).list_keys()]}

    @app.post(
        "/v1/keys", tags=["people"], responses=_RESPONSES, status_code=201, max_body_size=_MAX_BODY
    )
    def add(request: Request, response: Response, given: KeyIn) -> dict[str, Any]:
        """Make a key; this answer alone shows it."""
        quota = Quota(given.images_per_minute, given.images_per_day, given.compute_s_per_day)
        secret, key = _acts(service, request).add_key(
            given.label, Role.parse(given.role), given.tenant, quota
        )
        response.headers.update(_NO_STORE)
        return {"key": secret, **_key(key)}

    @app.delete("/v1/keys/{prefix}", tags=["people"], responses=_RESPONSES, status_code=204)
    def revoke(request: Request, prefix: str) -> Response:
        """Let a key in no more."""
        _acts(service, request).revoke_key(prefix)
        return Response(status_code=204)

    @app.get("/v1/usage", tags=["people"], responses=_RESPONSES)
    def usage(
        request: Request,
        since: str | None = None,
        until: str | None = None,
        tenant: str | None = None,
        form: Literal["json", "csv"] = "json",
    ) -> Response:
        """Requests, pictures and seconds of the session by day, tenant and actor."""
        rows = _acts(service, request).read_usage(since, until, tenant)
        if form == "csv":
            return Response(to_csv(rows), media_type="text/csv")
        return JSONResponse({"usage": [asdict(row) for row in rows]})


def _add_audit(app: FastAPI, service: Service) -> None:
    @app.get("/v1/audit", tags=["audit"], responses=_RESPONSES)
    def audit(
        limit: Annotated[int, Query(ge=1, le=1000)] = 100,
        before: Annotated[int | None, Query(ge=1, le=MAX_SEQ)] = None,
    ) -> dict[str, Any]:
        """Records of the log, newest first; ``before`` turns the page."""
        return {"audit": people_of(service).audit.newest(limit, before)}

    @app.get("/v1/audit/verify", tags=["audit"], responses=_RESPONSES)
    def verify() -> dict[str, Any]:
        """Whether the log is as it was written, and else where it is not."""
        return _finding(people_of(service).audit.verify())


def _person(person: Person) -> dict[str, Any]:
    return {
        "name": person.name, "kind": person.kind, "role": str(person.role),
        "tenant": person.tenant,
    }  # fmt: skip


def _login(login: Login) -> dict[str, Any]:
    return {**_person(login.person), "csrf": login.csrf, "ends_us": login.ends_us}


def _user(user: User) -> dict[str, Any]:
    return {**asdict(user), "role": str(user.role)}


def _key(key: Key) -> dict[str, Any]:
    return {**asdict(key), "role": str(key.role)}


def _finding(finding: Finding) -> dict[str, Any]:
    return {"is_sound": finding.is_sound, **asdict(finding)}
