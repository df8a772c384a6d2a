"""Ray Serve with ``serve.batch``, as on its page "Dynamic Request Batching"."""

from concurrent.futures import ThreadPoolExecutor
from typing import Any

import ray
from peer_model import CORES, MAX_BATCH, PORT, Model, prepare
from ray import serve
from starlette.requests import Request


# The default of 5 requests at once would keep batches at 5.
@serve.deployment(max_ongoing_requests=4 * MAX_BATCH)
class Scorer:
    """Decode on all cores, then one batch."""

    def __init__(self) -> None:
        """Load the model in the replica."""
        self.model = Model()
        self.pool = ThreadPoolExecutor(CORES)

    @serve.batch(max_batch_size=MAX_BATCH, batch_wait_timeout_s=0.01)
    async def score(self, pictures: list[bytes]) -> list[float]:
        """Score a batch."""
        return self.model.scores(list(self.pool.map(prepare, pictures)))

    async def __call__(self, request: Request) -> dict[str, float]:
        """Take one upload."""
        upload: Any = (await request.form())["file"]
        return {"score": await self.score(await upload.read())}


if __name__ == "__main__":
    ray.init(include_dashboard=False, log_to_driver=False)
    serve.start(http_options={"host": "127.0.0.1", "port": PORT})
    serve.run(Scorer.bind(), blocking=True)  # type: ignore[attr-defined]
