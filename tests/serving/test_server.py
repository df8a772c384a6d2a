import inspect
import os
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from pathlib import Path

import pytest

from twonines.cli.inspection import serve
from twonines.errors import ModelFileError, SettingsError
from twonines.models import providers
from twonines.serving.server import run_server
from twonines.settings import ServeSettings


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def test_taken_port_and_bad_host_are_named(tiny_model: Path) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        settings = ServeSettings(model=tiny_model, port=taken.getsockname()[1])
        with pytest.raises(SettingsError, match="port: .* cannot be used"):
            run_server(settings)


def test_bad_model_ends_before_anything_is_served(tmp_path: Path) -> None:
    with pytest.raises(ModelFileError):
        run_server(ServeSettings(model=tmp_path / "none.onnx", port=free_port()))


def test_provider_that_cannot_be_had_ends_before_anything_is_served(
    tiny_model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(providers, "openvino_devices", lambda: ((), "it is missing"))
    settings = ServeSettings(model=tiny_model, port=free_port(), execution_provider="openvino")
    with pytest.raises(SettingsError, match="'openvino' cannot be used, it is missing"):
        run_server(settings)


def test_every_setting_has_a_flag() -> None:
    flags = {parameter.lower() for parameter in inspect.signature(serve).parameters}
    assert flags - {"no_records"} == set(ServeSettings.model_fields)


def test_serves_until_a_signal(tiny_model: Path) -> None:
    port = free_port()
    code = (
        "import sys; from pathlib import Path\n"
        "from twonines.serving.server import run_server\n"
        "from twonines.settings import ServeSettings\n"
        "run_server(ServeSettings(model=Path(sys.argv[1]), port=int(sys.argv[2])))"
    )
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(p for p in sys.path if p)}
    process = subprocess.Popen(
        [sys.executable, "-c", code, str(tiny_model), str(port)],
        env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    limit, status = time.monotonic() + 30, 0
    while status != 200 and time.monotonic() < limit and process.poll() is None:
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{port}/readyz", timeout=5) as answer:
                status = answer.status
        except OSError:
            time.sleep(0.05)
    process.send_signal(signal.SIGINT)
    out, log = process.communicate(timeout=30)
    assert status == 200, log
    assert process.returncode == 0, log
    assert out == ""
    assert "Traceback" not in log
