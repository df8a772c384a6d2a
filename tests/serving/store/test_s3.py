"""Pictures on S3: moto's server in place of one."""

import os
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.images import png
from tests.serving.store.conftest import make_entry, put
from tests.serving.test_faults import service, serving
from twonines.errors import StoreError, UnknownError
from twonines.serving.store import pictures
from twonines.serving.store.database import Database
from twonines.serving.store.opening import open_records
from twonines.serving.store.pictures import PictureStore, digest_of
from twonines.serving.store.purge import purge

pytest.importorskip("moto.server", reason="needs the package moto[server]")
boto3 = pytest.importorskip("boto3", reason="needs the package moto[server]")
S3FileSystem = pytest.importorskip("s3fs", reason="needs the package s3fs").S3FileSystem

_KEYS = {"AWS_ACCESS_KEY_ID": "test", "AWS_SECRET_ACCESS_KEY": "test"}


@pytest.fixture(scope="module")
def endpoint() -> Iterator[str]:
    """A server of our own, in its own process: it patches the client of the one that runs it."""
    code = "import sys; from moto.server import main; main(sys.argv[1:])"
    environment = os.environ | {"PYTHONUNBUFFERED": "1"}
    with subprocess.Popen(
        [sys.executable, "-c", code, "-H", "127.0.0.1", "-p", "0"],
        stderr=subprocess.PIPE, text=True, env=environment,
    ) as process:  # fmt: skip
        assert process.stderr
        for line in process.stderr:
            if "Running on " in line:
                break
        else:
            raise AssertionError("moto's server did not start")
        yield line.split("Running on ")[1].strip()
        process.send_signal(signal.SIGKILL)


@pytest.fixture
def bucket(endpoint: str, monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest) -> str:
    for name, value in _KEYS.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("AWS_ENDPOINT_URL", endpoint)
    monkeypatch.setenv("AWS_DEFAULT_REGION", "us-east-1")
    name = "b" + digest_of(request.node.name.encode())[:20]
    client(endpoint).create_bucket(Bucket=name)
    return name


def client(endpoint: str) -> Any:
    return boto3.client("s3", endpoint_url=endpoint)


def test_put_get_has_list_delete(bucket: str) -> None:
    store = PictureStore(f"s3://{bucket}/line/pictures")
    some = {digest_of(data): data for data in (b"a", b"b", b"", png(250))}
    assert list(store.all()) == []
    for digest in some:
        assert not store.has(digest)
        with pytest.raises(UnknownError, match=digest):
            store.get(digest)
        store.delete(digest)  # nothing is there
    store.put(some)
    store.put(some)
    assert all(store.has(digest) and store.get(digest) == some[digest] for digest in some)
    assert list(store.all()) == sorted(some)
    assert list(PictureStore(f"s3://{bucket}/line").all()) == sorted(some)
    gone = sorted(some)[0]
    store.delete(gone)
    assert not store.has(gone) and gone not in list(store.all())
    with pytest.raises(UnknownError):
        store.get(gone)
    store.close()


def test_another_writer_is_seen_and_damage_is_noticed(bucket: str, endpoint: str) -> None:
    store, other = (PictureStore(f"s3://{bucket}/p") for _ in range(2))
    digest = digest_of(b"picture")
    assert not store.has(digest) and list(store.all()) == []
    other.put({digest: b"picture"})
    assert store.has(digest) and list(store.all()) == [digest]
    client(endpoint).put_object(Bucket=bucket, Key=f"p/{digest[:2]}/{digest}", Body=b"changed")
    with pytest.raises(StoreError, match="damaged"):
        store.get(digest)
    client(endpoint).delete_object(Bucket=bucket, Key=f"p/{digest[:2]}/{digest}")
    assert not store.has(digest) and list(store.all()) == []
    for one in (store, other):
        one.close()


def test_a_bucket_that_is_not_there_is_a_fault(bucket: str) -> None:
    store, digest = PictureStore("s3://there-is-no-such-bucket/p"), digest_of(b"a")
    with pytest.raises(StoreError, match="pictures"):
        store.put({digest: b"a"})
    store.close()


def test_a_place_that_never_answers_is_given_up(
    bucket: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An inspection waits for the write that it is in."""
    monkeypatch.setattr(pictures, "_PATIENCE_S", 0.2)
    with socket.create_server(("127.0.0.1", 0)) as silent:
        S3FileSystem.clear_instance_cache()  # the one that is kept knows the other server
        monkeypatch.setenv("AWS_ENDPOINT_URL", f"http://127.0.0.1:{silent.getsockname()[1]}")
        store, digest = PictureStore(f"s3://{bucket}/p"), digest_of(b"a")
        for ask in (store.has, store.get, store.delete, lambda key: store.put({key: b"a"})):
            with pytest.raises(StoreError, match="pictures: .*[Tt]ime"):
                ask(digest)
        store.close()
    S3FileSystem.clear_instance_cache()


def test_what_is_not_needed_is_purged(bucket: str, tmp_path: Path) -> None:
    database = Database.in_folder(tmp_path)
    records = open_records(database, tmp_path, f"s3://{bucket}/pictures")
    (key,) = put(records, make_entry("NG", b"far"))
    put(records, make_entry("OK", b"also", keeps=True))
    records.pictures.put({digest_of(b"orphan"): b"orphan"})
    assert records.picture(key)[0] == b"far"
    gone = purge(records, ok_pictures_before_us=1 << 56, orphans=True)
    assert (gone.pictures, gone.orphans) == (1, 1)
    assert list(records.pictures.all()) == [digest_of(b"far")]
    records.close()
    database.close()


def test_an_inspection_through_the_service(bucket: str, tiny_model: Path, tmp_path: Path) -> None:
    url = f"s3://{bucket}/pictures"
    values: dict[str, Any] = {"data_dir": tmp_path, "pictures_url": url, "max_recent_bytes": 0}
    with serving(tiny_model, **values) as opened:
        body = opened.post("/v1/inspect", files={"file": ("a.png", png(250))}).json()
        assert body["recorded"] is True
        key = body["results"][0]["id"]
        assert opened.get(f"/v1/inspections/{key}/picture").content == png(250)
        store = service(opened).records
        assert store and list(store.pictures.all()) == [digest_of(png(250))]
    assert not (tmp_path / "pictures").exists()
