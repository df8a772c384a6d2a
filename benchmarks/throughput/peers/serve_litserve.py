"""LitServe with batching.

The decoding in ``batch`` and the time-out of 10 ms are those of its own benchmark against FastAPI
(``tests/parity_fastapi/ls-server.py``); the upload is a form, as in ``tests/unit/test_form.py``.
"""

from concurrent.futures import ThreadPoolExecutor
from typing import Any

import litserve as ls
from fastapi import Request
from peer_model import CORES, MAX_BATCH, PORT, Model, prepare


class Scorer(ls.LitAPI):
    """Decode on all cores, then one batch."""

    def setup(self, device: str) -> None:
        """Load the model in the worker."""
        self.model = Model()
        self.pool = ThreadPoolExecutor(CORES)

    def decode_request(self, request: Request) -> bytes:
        """The picture's bytes; LitServe has parsed the form, whatever the annotation says."""
        data: bytes = request["file"].file.read()
        return data

    def batch(self, inputs: list[bytes]) -> list[Any]:
        """Decode the pictures of a batch."""
        return list(self.pool.map(prepare, inputs))

    def predict(self, images: list[Any]) -> list[float]:
        """Score a batch."""
        return self.model.scores(images)

    def unbatch(self, output: list[float]) -> list[float]:
        """One score for each request."""
        return output

    def encode_response(self, output: float) -> dict[str, float]:
        """The answer."""
        return {"score": output}


if __name__ == "__main__":
    api = Scorer(max_batch_size=MAX_BATCH, batch_timeout=0.01)
    server = ls.LitServer(api, accelerator="cpu")
    server.run(host="127.0.0.1", port=PORT, log_level="warning", generate_client_file=False)
