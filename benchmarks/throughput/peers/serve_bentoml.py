"""BentoML with adaptive batching, as on its page of that name; a PIL picture is the input."""

import os
import sys
from concurrent.futures import ThreadPoolExecutor

import bentoml
import numpy as np
from peer_model import CORES, MAX_BATCH, PORT, Model, prepare
from PIL.Image import Image


def _prepare(image: Image) -> object:
    return prepare(np.asarray(image.convert("RGB")))


@bentoml.service(traffic={"timeout": 60})
class Scorer:
    """Decode on all cores, then one batch."""

    def __init__(self) -> None:
        """Load the model."""
        self.model = Model()
        self.pool = ThreadPoolExecutor(CORES)

    @bentoml.api(batchable=True, max_batch_size=MAX_BATCH, max_latency_ms=1000)
    def predict(self, images: list[Image]) -> list[float]:
        """Score a batch."""
        return self.model.scores(list(self.pool.map(_prepare, images)))


if __name__ == "__main__":
    os.execv(
        sys.executable,
        [sys.executable, "-m", "bentoml", "serve", "serve_bentoml:Scorer",
         "--host", "127.0.0.1", "--port", str(PORT)],
    )  # fmt: skip
