"""Requests of the Open Inference Protocol v2: what is taken, what is refused, and how."""

import base64
import json
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from fastapi.testclient import TestClient

from tests.images import png
from tests.serving.v2_client import LENGTH, binary, infer, outputs, pixels, tensor
from twonines.models.image import encode_png
from twonines.serving.app import create_app
from twonines.settings import ServeSettings


@pytest.fixture(scope="module")
def client(tiny_model: Path) -> Iterator[TestClient]:
    settings = ServeSettings(
        model=tiny_model, execution_provider="cpu", decode_workers=1, max_files=8, max_pixels=10_000
    )
    with TestClient(create_app(settings)) as found:
        yield found


def post(client: TestClient, *inputs: dict[str, object], **more: object) -> tuple[int, str]:
    answer = client.post("/v2/models/tiny/infer", json={"inputs": inputs, **more})
    return answer.status_code, answer.text


@pytest.mark.parametrize(
    ("change", "status", "named"),
    [
        ({"datatype": "FP32"}, 400, "datatype"),
        ({"shape": [1, 2, 2, 4]}, 400, "shape"),
        ({"shape": [1, 2, 3]}, 400, "shape"),
        ({"shape": [1, 2, 3, 3]}, 400, "shape"),
        ({"shape": [9, 1, 1, 3]}, 413, "images"),
        ({"shape": [1, 9999, 9999, 3]}, 413, "pixels"),
        ({"data": [256] * 12}, 400, "data"),
        ({"data": [0.5] * 12}, 400, "data"),
        ({"data": [[0] * 12]}, 400, "data"),
        ({"data": None}, 400, "data"),
        ({"data": None, "parameters": {"binary_data_size": 12}}, 400, "binary_data_size"),
        ({"datatype": "BYTES", "shape": [1], "data": ["!"]}, 400, "base64"),
        ({"name": "other"}, 400, "inputs"),
        ({"parameters": {"shared_memory_region": "x"}}, 400, "shared_memory_region"),
    ],
)
def test_bad_tensor_is_named(
    client: TestClient, change: dict[str, object], status: int, named: str
) -> None:
    got, text = post(client, tensor(**change))
    assert got == status and named in json.loads(text)["error"], text


def test_one_bad_picture_is_an_error_and_never_ok(client: TestClient) -> None:
    data = [base64.b64encode(png(0)).decode(), base64.b64encode(b"nonsense").decode()]
    got, text = post(client, tensor(datatype="BYTES", shape=[2], data=data))
    outputs = {o["name"]: o["data"] for o in json.loads(text)["outputs"]}
    assert got == 200 and outputs["verdict"] == ["OK", "ERROR"] and outputs["score"][1] == 1
    assert post(client, tensor(datatype="BYTES", shape=[1], data=data[1:]))[0] == 415
    assert post(client, tensor(), outputs=[{"name": "nothing"}])[0] == 400


@pytest.mark.parametrize("kind", ["UINT8", "BYTES"])
@pytest.mark.parametrize("how", ["json", "binary"])
def test_verdicts_and_scores_are_those_of_inspect(client: TestClient, kind: str, how: str) -> None:
    rng = np.random.default_rng(3)
    frames = rng.integers(0, 256, (8, 1, 1, 3)) + rng.integers(0, 60, (8, 40, 60, 3))
    frames = np.minimum(frames, 255).astype(np.uint8)
    files = [encode_png(frame) for frame in frames]
    said = client.post("/v1/inspect", files=[("files", ("a.png", one)) for one in files]).json()
    if how == "binary":
        answer = infer(client, binary(frames if kind == "UINT8" else files))
    else:
        data = frames.tolist() if kind == "UINT8" else [base64.b64encode(f).decode() for f in files]
        shape = list(frames.shape) if kind == "UINT8" else [8, 1]
        given = tensor(datatype=kind, shape=shape, data=data)
        answer = client.post("/v2/models/tiny/infer", json={"inputs": [given]})
    found = outputs(answer)
    assert found["verdict"] == [one["verdict"] for one in said["results"]]
    assert {"OK", "NG"} <= set(found["verdict"])
    np.testing.assert_allclose(found["score"], [one["score"] for one in said["results"]], rtol=1e-6)
    assert len(set(found["inspection_id"])) == 8


def test_raw_binary_body_is_one_picture(client: TestClient) -> None:
    answer = client.post("/v2/models/tiny/infer", content=png(250), headers={LENGTH: "0"})
    assert outputs(answer)["verdict"] == ["NG"]
    for body, status in ((b"nonsense", 415), (b"", 422)):
        answer = client.post("/v2/models/tiny/infer", content=body, headers={LENGTH: "0"})
        assert answer.status_code == status and answer.json()["error"]


def test_outputs_are_those_asked_for_and_the_verdict(client: TestClient) -> None:
    one = binary(pixels(0))
    wanted = [{"name": "novelty", "parameters": {"binary_data": True}}, {"name": "reason"}]
    answer = infer(client, one, outputs=wanted, id="me")
    length = int(answer.headers[LENGTH])
    told = json.loads(answer.content[:length])
    assert told["id"] == "me" and told["model_name"] == "tiny" and told["model_version"] == "1"
    assert [(o["name"], "data" in o) for o in told["outputs"]] == [
        ("verdict", True), ("novelty", False), ("reason", True),
    ]  # fmt: skip
    assert np.frombuffer(answer.content[length:], "<f4")[0] == pytest.approx(0.5, abs=1e-6)
    assert answer.headers["x-batch-size"] == "1" and "compute" in answer.headers["server-timing"]
    everything = infer(client, one)
    metadata = client.get("/v2/models/tiny").json()
    assert [o["name"] for o in metadata["outputs"]] == list(outputs(everything))
    for told, shown in zip(metadata["outputs"], everything.json()["outputs"], strict=True):
        assert told["datatype"] == shown["datatype"]
        fits = zip(told["shape"], shown["shape"], strict=True)
        assert all(wanted in (-1, got) for wanted, got in fits)
        assert np.prod(shown["shape"]) == len(shown["data"])


def test_metadata_and_configuration(client: TestClient) -> None:
    assert client.get("/v2").json()["name"] == "twonines"
    for place in ("/v2/models/tiny", "/v2/models/tiny/versions/1"):
        told = client.get(place).json()
        assert told["inputs"] == [{"name": "images", "datatype": "UINT8", "shape": [-1, -1, -1, 3]}]
        config = client.get(place + "/config").json()
        assert config["max_batch_size"] == 8
        assert config["input"][0] == {"name": "images", "data_type": "TYPE_UINT8",
                                      "dims": [-1, -1, 3]}  # fmt: skip
        kinds = {o["name"]: (o["data_type"], o["dims"]) for o in config["output"]}
        assert kinds["verdict"] == ("TYPE_STRING", [1])
        assert kinds["class_scores"] == ("TYPE_FP32", [2])
    for place in (
        "/v2/models/other",
        "/v2/models/tiny/versions/2",
        "/v2/models/tiny/versions/2/ready",
    ):
        answer = client.get(place)
        assert answer.status_code == 404 and "must be" in answer.json()["error"]


@pytest.mark.parametrize(
    ("headers", "body", "status", "named"),
    [
        ({LENGTH: "x"}, b"{}", 400, LENGTH),
        ({LENGTH: "-1"}, b"{}", 400, LENGTH),
        ({LENGTH: "3"}, b"{}", 400, LENGTH),
        ({LENGTH: "9" * 19}, b"{}", 413, LENGTH),
        ({LENGTH: str(5 * 2**20)}, b"{}", 413, LENGTH),
        ({}, b" " * (4 * 2**20 + 1), 413, "body"),
        ({}, b"[]," * (2**18 + 1), 413, "lists and objects"),
        ({}, b"[" * 1000, 400, "body"),
        ({}, b"", 400, "body"),
        ({}, b"[]", 400, "body"),
        ({}, b"\xff", 400, "body"),
        ({}, b'{"inputs": []}', 400, "inputs"),
        ({}, b'{"inputs": [{"name": "images"}]}', 400, "inputs.0.shape"),
        ({}, b'{"inputs": 1, "x": 2}', 400, "inputs"),
        ({"content-encoding": "gzip"}, b"{}", 415, "content-encoding"),
        ({"x-request-timeout-ms": "0"}, b"{}", 400, "x-request-timeout-ms"),
    ],
)  # fmt: skip
def test_bad_request_is_named(
    client: TestClient, headers: dict[str, str], body: bytes, status: int, named: str
) -> None:
    answer = client.post("/v2/models/tiny/infer", content=body, headers=headers)
    assert answer.status_code == status and named in answer.json()["error"], answer.text


@pytest.mark.parametrize(
    ("more", "named"),
    [
        ({"outputs": [{"name": "score"}, {"name": "score"}]}, "outputs"),
        ({"outputs": [{"name": "score", "parameters": {"classification": 2}}]}, "classification"),
        ({"parameters": {"timeout": 0}}, "timeout"),
        ({"parameters": {"sequence_id": 1}}, "sequence_id"),
        ({"parameters": {"lot": "x" * 201}}, "lot"),
        ({"parameters": {"lot": "a\nb"}}, "lot"),
        ({"parameters": {"reference_id": "x"}}, "reference"),
        ({"inputs": [tensor(), tensor()]}, "inputs"),
        ({"inputs": [tensor(), tensor(name="references")]}, "reference"),
    ],
)
def test_bad_parameter_is_named(client: TestClient, more: dict[str, object], named: str) -> None:
    body = {"inputs": [tensor()], **more}
    answer = client.post("/v2/models/tiny/infer", json=body)
    assert 400 <= answer.status_code < 500 and named in answer.json()["error"], answer.text


@pytest.mark.parametrize(
    ("given", "named"),
    [
        ((tensor(data=None, parameters={"binary_data_size": 12}), bytes(11)), "binary_data_size"),
        ((tensor(data=None, parameters={"binary_data_size": 12}), bytes(13)), "binary_data_size"),
        ((tensor(data=None, parameters={"binary_data_size": 11}), bytes(11)), "images"),
        ((tensor(parameters={"binary_data_size": 12}), bytes(12)), "either data"),
        ((tensor(data=None, parameters={"binary_data_size": 2**63}), b""), "binary_data_size"),
        ((tensor(data=None, parameters={"binary_data_size": -1}), b""), "binary_data_size"),
        ((binary([b"abc"])[0], b"\4\0\0\0abc"), "element 0"),
        ((binary([b"abc"])[0], b"\2\0\0\0abc"), "element 0"),
        ((binary([b"abc"])[0], b"\xff\xff\xff\xffabc"), "element 0"),
    ],
)
def test_binary_that_lies_is_named(
    client: TestClient, given: tuple[dict[str, object], bytes], named: str
) -> None:
    answer = infer(client, given)
    assert answer.status_code == 400 and named in answer.json()["error"], answer.text


def test_fuzzed_bodies_are_never_a_fault(client: TestClient) -> None:
    """Changed bytes, cuts and other header lengths, of JSON and of both kinds of tensors."""
    rng = np.random.default_rng(0)
    wholes = []
    for told, data in (binary([png(0), png(250)]), binary(pixels(0, size=(3, 4))), (tensor(), b"")):
        head = json.dumps({"id": "x", "inputs": [told], "outputs": [{"name": "score"}]}).encode()
        wholes.append((head, data))
    seen = set()
    for turn in range(600):
        head, data = wholes[turn % 3]
        body = bytearray(head + data)
        within = len(head) if rng.random() < 0.5 else len(body)
        for place in rng.integers(0, within, rng.integers(0, 4)):
            body[place] = rng.integers(0, 256)
        if rng.random() < 0.2:
            body = body[: rng.integers(0, len(body) + 1)]
        length = len(head) if rng.random() < 0.8 else int(rng.integers(0, 2 * len(head)))
        headers = {LENGTH: str(length)}
        answer = client.post("/v2/models/tiny/infer", content=bytes(body), headers=headers)
        assert answer.status_code < 500, (turn, answer.text)
        if answer.status_code == 200:
            found = outputs(answer)
            assert set(found["verdict"]) <= {"OK", "NG", "ERROR"}
        else:
            assert answer.json()["error"]
        seen.add(answer.status_code)
    assert {200, 400, 422} <= seen
