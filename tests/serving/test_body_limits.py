"""No route reads a body without a limit: what is too large is 413, and never held or parsed."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from fastapi import FastAPI
from fastapi.routing import iter_route_contexts
from fastapi.testclient import TestClient

from tests.serving.people.conftest import serve
from twonines.serving.people.roles import ACCESS, CONSOLE

BODILESS = {
    "POST /v1/logout",
    "DELETE /v1/keys/{prefix}",
}
"""Change something and read no body."""
PICTURES = {
    "POST /v1/inspect",
    "POST /v1/findings/{finding_id}/pictures",
    "POST /v2/models/{name}/infer",
    "POST /v2/models/{name}/versions/{version}/infer",
}
"""Bounded by the settings for pictures; ``infer`` takes at most 4 MiB of them as JSON."""
MOST_JSON = 64 * 2**10
"""Of any other route: it takes about a millisecond to parse."""
_VALUES = {
    "name": "tiny", "version": "1", "verb": "activate", "decision": "approve", "prefix": "x",
    "inspection_id": "x", "finding_id": "x", "approval_id": "x",
}  # fmt: skip
CHANGING = sorted(
    key for key in set(ACCESS) - set(CONSOLE) if key.split(" ")[0] not in ("GET", "ANY")
)


@pytest.fixture(scope="module")
def client(tiny_model: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[TestClient]:
    # All that pictures may have is more than a test wants to send.
    limits = {"max_bytes": 2**20, "max_files": 4}
    with serve(tiny_model, tmp_path_factory.mktemp("data"), **limits) as opened:
        yield opened


def send(client: TestClient, key: str, size: int) -> int:
    method, template = key.split(" ")
    path = template.format_map(_VALUES)
    text = b'{"note": "%s"}' % (b"x" * (size - 12))
    assert len(text) == size
    kind = "image/png" if key in PICTURES and not path.endswith("infer") else "application/json"
    answer = client.request(
        method, path, content=text, params={"model": "tiny"}, headers={"Content-Type": kind}
    )
    if answer.status_code == 413:
        assert set(answer.json()) == {"error", "request_id"}, answer.text
    return answer.status_code


@pytest.mark.parametrize("key", CHANGING)
def test_a_large_body_is_refused_at_every_route_that_reads_one(
    client: TestClient, key: str
) -> None:
    most = 4 * 2**20 if key in PICTURES else MOST_JSON
    if key in BODILESS:
        assert send(client, key, most + 1) != 413
    else:
        assert send(client, key, most + 1) == 413
        assert send(client, key, 100) != 413


def test_every_route_whose_body_is_parsed_before_it_says_its_limit(client: TestClient) -> None:
    """The framework reads such a body whole, before a line of ours runs."""
    assert isinstance(client.app, FastAPI)
    parsed = {
        context.path: context.max_body_size
        for context in iter_route_contexts(client.app.routes)
        if getattr(context, "body_field", None) is not None
    }
    assert len(parsed) >= 10
    assert {path for path, limit in parsed.items() if not 0 < (limit or 0) <= MOST_JSON} == set()


def test_what_changes_is_in_the_table_from_which_these_tests_are_made(client: TestClient) -> None:
    assert set(CHANGING) >= BODILESS | PICTURES
    assert len(CHANGING) > 15
