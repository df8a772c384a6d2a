"""mosec: decoding in a process for each core, then batches in one, as its ResNet-50 example.

The picture is the body itself, which the documentation shows as a ``deserialize`` of one's own.
"""

import sys
from typing import Any

from mosec import Server, Worker
from peer_model import CORES, MAX_BATCH, PORT, Model, prepare


class Preprocess(Worker):
    """Decode and resize one picture."""

    def deserialize(self, data: bytes) -> Any:
        """The picture's bytes."""
        return data

    def forward(self, data: bytes) -> Any:
        """To the model's input."""
        return prepare(data)


class Inference(Worker):
    """Score a batch."""

    def __init__(self) -> None:
        """Load the model."""
        super().__init__()
        self.model = Model()

    def forward(self, data: list[Any]) -> list[dict[str, float]]:
        """One answer for each picture."""
        return [{"score": score} for score in self.model.scores(data)]


if __name__ == "__main__":
    sys.argv = [sys.argv[0], "--port", str(PORT), "--address", "127.0.0.1"]
    server = Server()
    server.append_worker(Preprocess, num=CORES)
    server.append_worker(Inference, num=1, max_batch_size=MAX_BATCH, max_wait_time=10)
    server.run()
