"""Requests of the Open Inference Protocol v2, made by hand."""

import json
from typing import Any

import numpy as np
from fastapi.testclient import TestClient

from twonines.types import Image

LENGTH = "Inference-Header-Content-Length"


def pixels(*values: int, size: tuple[int, int] = (40, 60)) -> Image:
    """One uniform grey picture for each value, (N, height, width, 3)."""
    return np.stack([np.full((*size, 3), value, np.uint8) for value in values])


def tensor(**changes: object) -> dict[str, Any]:
    """A black picture of 2 x 2 pixels, or what the changes make of it."""
    given = {"name": "images", "shape": [1, 2, 2, 3], "datatype": "UINT8", "data": [0] * 12}
    return {**given, **changes}


def binary(values: Image | list[bytes], name: str = "images") -> tuple[dict[str, Any], bytes]:
    """A tensor whose data follow the JSON, and these data."""
    if isinstance(values, list):
        data = b"".join(len(value).to_bytes(4, "little") + value for value in values)
        shape, kind = [len(values)], "BYTES"
    else:
        data, shape, kind = values.tobytes(), list(values.shape), "UINT8"
    told = {"name": name, "shape": shape, "datatype": kind}
    return {**told, "parameters": {"binary_data_size": len(data)}}, data


def infer(
    client: TestClient, *inputs: tuple[dict[str, Any], bytes], model: str = "tiny", **more: object
) -> Any:
    """Send tensors with their data behind the JSON."""
    head = json.dumps({"inputs": [told for told, _ in inputs], **more}).encode()
    body = b"".join([head, *(data for _, data in inputs)])
    headers = {LENGTH: str(len(head))}
    return client.post(f"/v2/models/{model}/infer", content=body, headers=headers)


def outputs(answer: Any) -> dict[str, Any]:
    """The outputs of a JSON answer by their names."""
    assert answer.status_code == 200, answer.text
    return {one["name"]: one["data"] for one in answer.json()["outputs"]}
