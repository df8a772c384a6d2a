"""What the OpenAPI says of an upload, which the service reads itself to hold its limits."""

from typing import Any

_FILE: dict[str, Any] = {"type": "string", "format": "binary"}
_TEXT: dict[str, Any] = {"type": "string", "maxLength": 200}
_PLACE = {
    "line": "The production line.",
    "station": "Where on the line.",
    "part_id": "The part, by its serial number.",
    "lot": "The lot that the part belongs to.",
}
_REFERENCE_ID = (
    "Names a stored reference, a file of the folder that the service was started with "
    "(`references`) without its suffix. Only for a model that compares (`reference` on its card), "
    "which needs this or `reference`."
)
_MODEL = "Which model; the default one if not given."
BODY: dict[str, Any] = {
    "requestBody": {
        "required": True,
        "content": {
            "multipart/form-data": {
                "schema": {
                    "type": "object",
                    "properties": {
                        "file": _FILE,
                        "files": {"type": "array", "items": _FILE},
                        "reference": {
                            **_FILE,
                            "description": "The same part without defects in the same view, for "
                            "all pictures of the request. Its sides must be in the pictures' "
                            "ratio; a shift of a few per cent is evened out.",
                        },
                        "reference_id": {**_TEXT, "description": _REFERENCE_ID},
                        "model": {**_TEXT, "description": _MODEL},
                        **{n: {**_TEXT, "description": t} for n, t in _PLACE.items()},
                    },
                }
            },
            "image/*": {"schema": _FILE},
            "application/octet-stream": {"schema": _FILE},
        },
    },
    "parameters": [
        {
            "name": "X-Request-Timeout-Ms",
            "in": "header",
            "required": False,
            "schema": {"type": "integer", "minimum": 1},
            "description": "Milliseconds after which the client does not wait any more: 504, and "
            "what has not begun is not begun. At most the service's own limit counts.",
        },
        {
            "name": "model",
            "in": "query",
            "required": False,
            "schema": _TEXT,
            "description": _MODEL + " Here, a full queue is told before the body is read.",
        },
        {
            "name": "reference_id",
            "in": "query",
            "required": False,
            "schema": _TEXT,
            "description": _REFERENCE_ID + " For a picture that is the whole body; a form has a "
            "field of this name.",
        },
        *(
            {
                "name": n,
                "in": "query",
                "required": False,
                "schema": _TEXT,
                "description": t
                + " Beside any body; a form may have a field of this name instead.",
            }
            for n, t in _PLACE.items()
        ),
    ],
}
_STATUSES = {
    400: "malformed form",
    404: "no such model",
    408: "upload too slow",
    413: "too many bytes, pixels or files",
    415: "not a picture, or the body is compressed",
    422: "cannot be decoded, needs too many tiles, or the reference is missing or not wanted",
    429: "queue or upload room full, or the predicted wait too long; see Retry-After",
    503: "not ready, or the inspection cannot be recorded and is refused for that",
    504: "not answered in time",
}
_BODY_V2: dict[str, Any] = {"type": "object", "required": ["inputs"]}
V2_BODY: dict[str, Any] = {
    "requestBody": {
        "required": True,
        "description": "An inference request of the Open Inference Protocol v2: `images` as UINT8 "
        "(N, H, W, 3), decoded RGB, or as BYTES (N,), encoded pictures (base64 in JSON); for a "
        "model that compares, `references` in the same way, or the parameter `reference_id`.",
        "content": {
            "application/json": {"schema": _BODY_V2},
            "application/octet-stream": {"schema": _FILE},
        },
    },
    "parameters": [
        {
            "name": "Inference-Header-Content-Length",
            "in": "header",
            "required": False,
            "schema": {"type": "integer", "minimum": 0},
            "description": "Bytes of JSON at the start of a body with binary tensors; 0 where the "
            "whole body is one encoded picture.",
        },
        BODY["parameters"][0],
    ],
}
RESPONSES: dict[int | str, dict[str, Any]] = {s: {"description": t} for s, t in _STATUSES.items()}
V2_RESPONSES = {**RESPONSES, 400: {"description": "an argument is malformed; it is named"}}
