"""PyTriton with dynamic batching, as its ResNet example: a delay of 5 ms, batches up to 32.

The picture is a tensor of bytes, for pictures of different length could not share a batch as
uint8; it is sent by the Open Inference Protocol with its binary extension.
"""

from concurrent.futures import ThreadPoolExecutor

import numpy as np
from peer_model import CORES, MAX_BATCH, PORT, Model, prepare
from pytriton.decorators import batch
from pytriton.model_config import DynamicBatcher, ModelConfig, Tensor
from pytriton.triton import Triton, TritonConfig

model = Model()
pool = ThreadPoolExecutor(CORES)


@batch
def score(file: np.ndarray) -> dict[str, np.ndarray]:
    """Score a batch: (N, 1) bytes to (N, 1) float32."""
    images = list(pool.map(prepare, (bytes(data) for data in file[:, 0])))
    return {"score": np.array(model.scores(images), np.float32)[:, None]}


if __name__ == "__main__":
    config = TritonConfig(http_address="127.0.0.1", http_port=PORT, allow_grpc=False,
                          allow_metrics=False)  # fmt: skip
    with Triton(config=config) as triton:
        triton.bind(
            model_name="scorer",
            infer_func=score,
            inputs=[Tensor(name="file", dtype=bytes, shape=(1,))],
            outputs=[Tensor(name="score", dtype=np.float32, shape=(1,))],
            config=ModelConfig(
                max_batch_size=MAX_BATCH,
                batcher=DynamicBatcher(max_queue_delay_microseconds=5000),
            ),
        )
        triton.serve()
