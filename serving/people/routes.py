"""Which route a request will take, by the app's own list."""

import functools
import re
from collections.abc import Iterator, Sequence

from fastapi.routing import RouteContext, iter_route_contexts
from starlette.routing import BaseRoute, Mount, WebSocketRoute, compile_path
from starlette.types import Scope

_NICEGUI = re.compile(r"^((?:/console)?/_nicegui/)[0-9][^/]*/")
"""Its assets lie under its version, which must not change the table of access."""
_UPLOAD = re.compile(r"^(/console/_nicegui/client)/[^/]+/upload/[0-9]+$")
"""It adds a route for each drop zone of an open page, and takes it away with the page."""
_compiled = functools.lru_cache(maxsize=1024)(lambda path: compile_path(path)[0])


def keys(routes: Sequence[BaseRoute], prefix: str = "") -> Iterator[str]:
    """The key of each route in the table of access, for every method; mounted apps too."""
    for context in iter_route_contexts(routes):
        inner = _inner(context)
        if inner:
            yield from keys(inner, prefix + (context.path or ""))
        else:
            for method in _methods(context):
                yield _key(method, context, prefix)


def find_key(routes: Sequence[BaseRoute], scope: Scope) -> str | None:
    """The key of the route that will answer, chosen as the router does; None where none will."""
    path, root = scope["path"], scope.get("root_path", "")
    if root and (path == root or path.startswith(root + "/")):
        path = path[len(root) :]
    method = "WS" if scope["type"] == "websocket" else scope["method"]
    return _find(routes, path, method, "")


def _find(routes: Sequence[BaseRoute], path: str, method: str, prefix: str) -> str | None:
    partial: str | None = None
    for context in iter_route_contexts(routes):
        is_mount = isinstance(context.original_route, Mount)
        template = context.path or ""
        match = _compiled(template + "/{path:path}" if is_mount else template).match(path)
        if match is None:
            continue
        if is_mount:
            inner = _inner(context)
            if inner:
                return _find(inner, "/" + match.group("path"), method, prefix + template)
            return _key("ANY", context, prefix)
        known = _methods(context)
        asked = "GET" if method == "HEAD" and "HEAD" not in known else method
        if asked in known or "ANY" in known:
            return _key("ANY" if "ANY" in known else asked, context, prefix)
        # Another method's route: it answers 405, under the rule of what it does allow.
        if partial is None and "WS" not in known and method != "WS":
            partial = _key(known[0], context, prefix)
    return partial


def _inner(context: RouteContext) -> Sequence[BaseRoute]:
    route = context.original_route
    return route.routes if isinstance(route, Mount) else ()


def _methods(context: RouteContext) -> list[str]:
    """HEAD is GET without a body; what has no list of methods takes any."""
    if isinstance(context.original_route, WebSocketRoute):
        return ["WS"]
    return sorted((context.methods or {"ANY"}) - {"HEAD"})


def _key(method: str, context: RouteContext, prefix: str) -> str:
    path = prefix + (context.path or "")
    if isinstance(context.original_route, Mount):
        path += "/*"
    path = _UPLOAD.sub(r"\1/*/upload", _NICEGUI.sub(r"\1*/", path))
    return f"{method} {path}"
