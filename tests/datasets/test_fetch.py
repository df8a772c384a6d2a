import hashlib
import io
import tarfile
import threading
import zipfile
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from tests.datasets import archives
from twonines.datasets.fetch import fetch
from twonines.datasets.record import Archive, DatasetCard
from twonines.datasets.registry import CARDS, find_card, load_dataset
from twonines.errors import DatasetError, FetchError


@dataclass
class Site:
    """A publisher's server with one file: ``cut`` bytes are sent before it hangs up, once."""

    content: bytes
    etag: str = '"1"'
    cut: int | None = None
    ranges: bool = True
    shift: int = 0
    asked: list[str | None] = field(default_factory=list)
    url: str = ""


class Handler(BaseHTTPRequestHandler):
    site: Site

    def do_GET(self) -> None:
        site, wanted = self.site, self.headers.get("Range")
        site.asked.append(wanted)
        start = int(wanted[6:-1]) if wanted else 0
        fresh = self.headers.get("If-Range") in (None, site.etag)
        if "missing" in self.path:
            self.send_error(404)
            return
        if wanted and site.ranges and fresh and start >= len(site.content):
            self.send_response(416)
            self.send_header("Content-Range", f"bytes */{len(site.content)}")
            self.send_header("Content-Length", "0")
            self.end_headers()
            return
        partly = bool(wanted and site.ranges and fresh)
        body = site.content[start:] if partly else site.content
        self.send_response(206 if partly else 200)
        self.send_header("Content-Length", str(len(body)))
        if site.etag:
            self.send_header("ETag", site.etag)
        if partly:
            whole = len(site.content)
            self.send_header("Content-Range", f"bytes {start + site.shift}-{whole - 1}/{whole}")
        self.end_headers()
        cut, site.cut = site.cut, None
        self.wfile.write(body[:cut])

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def site(tmp_path: Path) -> Iterator[Site]:
    root = archives.x_sdd(tmp_path / "made")
    content = io.BytesIO()
    with zipfile.ZipFile(content, "w") as made:
        for path in sorted(root.rglob("*.*")):
            made.write(path, Path("X-SDD-main/X-SDD") / path.relative_to(root))
    site = Site(content.getvalue())
    handler = type("OneSite", (Handler,), {"site": site})
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        site.url = f"http://127.0.0.1:{server.server_address[1]}/set.zip"
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield site
        server.shutdown()
        thread.join()


def card(url: str | None, sha256: str | None = None) -> DatasetCard:
    return replace(find_card("x-sdd"), archives=(Archive("set.zip", url, sha256),))


def sha256(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def test_fetch_checks_unpacks_and_reads(site: Site, tmp_path: Path) -> None:
    told: list[tuple[str, int, int]] = []
    folder, remarks = fetch(
        card(site.url, sha256(site.content)),
        tmp_path / "data",
        progress=lambda *step: told.append(step),
    )
    assert remarks == ("set.zip: SHA-256 is the known one",)
    assert len(load_dataset("x-sdd", folder).records) == 2
    assert told[-1][0] == "unpack" and told[-1][1] == told[-1][2]
    assert ("download", len(site.content), len(site.content)) in told
    assert {p.name for p in (tmp_path / "data").iterdir()} == {"X-SDD", "set.zip"}
    again, remarks = fetch(card(site.url), tmp_path / "data")
    assert again == folder and "already" in remarks[0] and len(site.asked) == 1


@pytest.mark.parametrize("etag", ['"1"', "", 'W/"1"'])
def test_an_interrupted_download_goes_on(etag: str, site: Site, tmp_path: Path) -> None:
    site.cut, site.etag = 500, etag
    wanted = card(site.url, sha256(site.content))
    with pytest.raises(FetchError, match=r"(?s)500 of .*run this again"):
        fetch(wanted, tmp_path)
    assert (tmp_path / "set.zip.part").stat().st_size == 500
    fetch(wanted, tmp_path)
    assert site.asked == [None, "bytes=500-"]
    assert (tmp_path / "set.zip").read_bytes() == site.content
    assert {p.name for p in tmp_path.iterdir()} == {"X-SDD", "made", "set.zip"}


def test_a_part_that_is_whole_needs_no_more(site: Site, tmp_path: Path) -> None:
    (tmp_path / "set.zip.part").write_bytes(site.content)
    fetch(card(site.url, sha256(site.content)), tmp_path)
    assert site.asked == [f"bytes={len(site.content)}-"]


@pytest.mark.parametrize("ranges", [True, False])
def test_a_changed_file_or_a_server_without_ranges_starts_over(
    ranges: bool, site: Site, tmp_path: Path
) -> None:
    site.cut = 500
    with pytest.raises(FetchError):
        fetch(card(site.url), tmp_path)
    (tmp_path / "set.zip.part").write_bytes(b"other" * 100)
    site.etag, site.ranges = '"2"' if ranges else site.etag, ranges
    fetch(card(site.url, sha256(site.content)), tmp_path)


def test_another_part_than_asked_for_is_refused(site: Site, tmp_path: Path) -> None:
    (tmp_path / "set.zip.part").write_bytes(site.content[:100])
    site.shift = 1
    with pytest.raises(FetchError, match="another part"):
        fetch(card(site.url), tmp_path)


def test_a_wrong_digest_is_refused(site: Site, tmp_path: Path) -> None:
    with pytest.raises(FetchError, match=r"must have SHA-256 0+, got .*refused"):
        fetch(card(site.url, "0" * 64), tmp_path / "data")
    assert list((tmp_path / "data").iterdir()) == []


def test_the_first_digest_is_recorded_and_holds(site: Site, tmp_path: Path) -> None:
    folder, remarks = fetch(card(site.url), tmp_path)
    assert sha256(site.content) in remarks[0] and "no digest is published" in remarks[0]
    assert (tmp_path / "set.zip.sha256").read_text().startswith(sha256(site.content))
    folder.rename(tmp_path / "away")
    assert "first download" in fetch(card(site.url), tmp_path)[1][0]
    folder.rename(tmp_path / "away2")
    (tmp_path / "set.zip").write_bytes(b"tampered")
    with pytest.raises(FetchError, match="refused"):
        fetch(card(site.url), tmp_path)
    assert not folder.exists()


def test_errors_say_how_to_get_it_by_hand(site: Site, tmp_path: Path) -> None:
    for url in (site.url.replace("set", "missing"), "http://127.0.0.1:9/set.zip"):
        with pytest.raises(FetchError, match=r"(?s)127.0.0.1.*by hand.*or put set.zip in"):
            fetch(card(url), tmp_path)


def test_an_archive_had_by_hand_is_checked_and_unpacked(site: Site, tmp_path: Path) -> None:
    with pytest.raises(FetchError, match="by hand"):
        fetch(card(None, sha256(site.content)), tmp_path)
    (tmp_path / "set.zip").write_bytes(site.content)
    folder, _ = fetch(card(None, sha256(site.content)), tmp_path)
    assert len(load_dataset("x-sdd", folder).records) == 2


def zipped(name: str, link: bool = False) -> bytes:
    content = io.BytesIO()
    with zipfile.ZipFile(content, "w") as made:
        made.writestr("datas/a/ok.txt", "x")
        info = zipfile.ZipInfo(name)
        info.external_attr = (0o120777 if link else 0o100644) << 16
        made.writestr(info, "/etc")
    return content.getvalue()


def tarred(name: str, link: str = "") -> bytes:
    content = io.BytesIO()
    with tarfile.open(fileobj=content, mode="w:xz") as made:
        info = tarfile.TarInfo(name)
        if link:
            info.type, info.linkname = tarfile.SYMTYPE, link
        made.addfile(info, io.BytesIO(b""))
    return content.getvalue()


@pytest.mark.parametrize(
    "content",
    [
        zipped("../evil.txt"),
        zipped("a/../../evil.txt"),
        zipped("/tmp/evil.txt"),
        zipped("..\\evil.txt"),
        zipped("C:\\evil.txt"),
        zipped("link", link=True),
        tarred("../evil.txt"),
        tarred("/tmp/evil.txt"),
        tarred("a", link="../../evil"),
        tarred("a", link="/etc"),
        b"no archive",
        zipped("fine.txt")[:-30],
    ],
)
def test_unsafe_or_broken_archives_are_refused(content: bytes, tmp_path: Path) -> None:
    (tmp_path / "data").mkdir()
    (tmp_path / "data/set.zip").write_bytes(content)
    with pytest.raises(FetchError, match="set.zip"):
        fetch(card(None, sha256(content)), tmp_path / "data")
    assert {p.name for p in tmp_path.rglob("*")} == {"data", "set.zip"}


def test_a_tar_is_unpacked(tmp_path: Path) -> None:
    (tmp_path / "set.zip").write_bytes(tarred("datas/a.txt"))
    folder, _ = fetch(card(None), tmp_path)
    assert (folder / "datas/a.txt").is_file()


@pytest.mark.parametrize("name", [name for name, one in CARDS.items() if one.folder])
def test_every_public_set_can_be_fetched_or_says_how(name: str, tmp_path: Path) -> None:
    one = CARDS[name]
    if any(archive.url for archive in one.archives):
        assert all(a.url is None or a.url.startswith("https://") for a in one.archives)
        assert all(a.sha256 is None or len(a.sha256) == 64 for a in one.archives)
        return
    with pytest.raises(FetchError) as caught:
        fetch(one, tmp_path)
    assert str(tmp_path / str(one.folder)) in str(caught.value)
    assert one.licence in str(caught.value) and one.download in str(caught.value)


def test_a_layout_of_your_own_has_nothing_to_fetch(tmp_path: Path) -> None:
    with pytest.raises(FetchError, match="of your own"):
        fetch(find_card("folder"), tmp_path)
    with pytest.raises(DatasetError, match="'nope'"):
        find_card("nope")
