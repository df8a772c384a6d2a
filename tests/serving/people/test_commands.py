"""The commands, and when the service starts at all."""

import gc
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from fastapi.testclient import TestClient
from typer.testing import CliRunner

from tests.serving.people.conftest import PASSWORD, cheap
from twonines.benchmarks.study.app import serve_study
from twonines.cli.app import app
from twonines.errors import InputError, SettingsError, TwoninesError
from twonines.serving import server
from twonines.serving.people import people as people_module
from twonines.serving.server import DrainingServer, check_login, is_loopback, run_server
from twonines.serving.service import Service
from twonines.serving.store.database import Database
from twonines.settings import ServeSettings


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., str]:
    monkeypatch.setattr(people_module, "Passwords", cheap)

    def invoke(*arguments: str, stdin: str = "") -> str:
        done = CliRunner().invoke(
            app, [*arguments, "--data-dir", str(tmp_path / "data")], input=stdin
        )
        if isinstance(done.exception, TwoninesError):
            raise done.exception
        assert done.exit_code == 0 or "audit" in arguments, done.output
        return done.output

    return invoke


def test_users_keys_usage_and_audit(run, tmp_path: Path) -> None:  # type: ignore[no-untyped-def]
    with pytest.raises(InputError, match="data_dir"):
        run("users", "list")
    assert not (tmp_path / "data").exists()
    run("users", "add", "anna", "--role", "admin", stdin=PASSWORD + "\n")
    run("users", "add", "ben", "--role", "viewer", stdin=PASSWORD + "\n")
    run("users", "role", "ben", "engineer")
    run("users", "passwd", "ben", stdin=PASSWORD + "!\n")
    run("users", "disable", "ben")
    listed = run("users", "list")
    assert "anna" in listed and "engineer" in listed and "no" in listed
    with pytest.raises(InputError, match="password"):
        run("users", "add", "carl", "--role", "viewer", stdin="short\n")
    made = run("keys", "add", "line-3", "--images-per-day", "5")
    secret = made.split("key: ")[1].split()[0]
    assert secret[:12] in run("keys", "list") and secret not in run("keys", "list")
    run("keys", "revoke", secret[:12])
    assert run("usage", "--csv").startswith("day,tenant,actor")
    anchor = tmp_path / "anchor.json"
    told = run("audit", "verify", "--anchor", str(anchor))
    assert "sound: 7 records" in told and anchor.exists()
    log = run("audit", "list")
    assert "key.revoke" in log and "user.disable" in log
    assert PASSWORD not in log and secret not in log


def test_serve_refuses_to_be_reached_where_nobody_could_log_in(
    run: Callable[..., str], tiny_model: Path, tmp_path: Path
) -> None:
    def check(**changes: object) -> None:
        service = Service(ServeSettings.model_validate({"model": tiny_model, **changes}))
        try:
            service.open_store()
            check_login(service.settings, service.database)
        finally:
            service.stop()

    data = tmp_path / "data"
    check(host="127.0.0.1")
    check(host="::1")
    check(host="0.0.0.0", insecure_no_login=True)
    for folder in (None, data):
        with pytest.raises(SettingsError, match="twonines users add NAME --role admin"):
            check(host="0.0.0.0", data_dir=folder)
    run("users", "add", "anna", "--role", "admin", stdin=PASSWORD + "\n")
    check(host="0.0.0.0", data_dir=data)
    assert is_loopback("localhost") and not is_loopback("0.0.0.0") and not is_loopback("::")


def test_the_database_is_opened_once(
    run: Callable[..., str], tiny_model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run("users", "add", "anna", "--role", "admin", stdin=PASSWORD + "\n")
    opened, open_one = [], Database.__init__

    def noting(self: Database, url: str) -> None:
        opened.append(url)
        open_one(self, url)

    def serve(self: DrainingServer, sockets: object) -> None:
        with TestClient(self.config.app) as client:  # type: ignore[arg-type]
            self.started = client.get("/readyz").status_code == 200

    monkeypatch.setattr(Database, "__init__", noting)
    monkeypatch.setattr(DrainingServer, "run", serve)
    monkeypatch.setattr(server, "configure_logs", lambda _: None)
    data = tmp_path / "data"
    values = {"model": tiny_model, "host": "0.0.0.0", "port": 0, "data_dir": data}
    values["execution_provider"] = "cpu"
    gc.unfreeze()
    run_server(ServeSettings.model_validate(values))
    assert opened == [f"sqlite:///{data / 'twonines.db'}"]
    assert gc.get_freeze_count() > 10_000  # what stays is no work for the collector
    gc.unfreeze()


def test_the_command_ends_with_the_text(tiny_model: Path) -> None:
    arguments = ["serve", "--model", str(tiny_model), "--host", "0.0.0.0", "--no-records"]
    done = subprocess.run(
        [sys.executable, "-m", "twonines", *arguments], capture_output=True, text=True, check=False
    )
    assert done.returncode == 2 and "--insecure-no-login" in done.stderr, done.stderr


def test_a_study_is_not_reached_from_afar_by_mistake(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match="insecure-no-login"):
        serve_study(tmp_path, host="0.0.0.0", tell=print)
