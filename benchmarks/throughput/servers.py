"""The servers that are compared, and how each takes a picture."""

from dataclasses import dataclass
from pathlib import Path

SCRIPTS = Path(__file__).parent / "peers"


@dataclass(frozen=True, slots=True)
class Server:
    """One server.

    ``packages`` are what pip installs beside the model's needs, ``module`` what must be importable
    then; both are empty for what this environment has. ``place`` is where an answer holds the
    score. ``setup`` says how it is set up, ``source`` after which text.
    """

    name: str
    title: str
    setup: str
    source: str
    path: str = "/predict"
    form: str = "multipart"
    field: str = "file"
    place: tuple[str | int, ...] = ("score",)
    packages: tuple[str, ...] = ()
    module: str = ""

    @property
    def script(self) -> Path | None:
        """The script that runs it; None for twonines itself."""
        return None if self.name == "twonines" else SCRIPTS / f"serve_{self.name}.py"


SERVERS = {
    server.name: server
    for server in (
        Server(
            "twonines", "twonines",
            "twonines serve without records and pages; it also checks each picture, and decides",
            "README.md", path="/v1/inspect", place=("results", 0, "score"),
        ),
        Server(
            "plain", "FastAPI + ONNX Runtime",
            "a def handler in the thread pool, a picture at a time, one uvicorn process",
            "fastapi.tiangolo.com/async",
        ),
        Server(
            "litserve", "LitServe",
            "one worker, batch_timeout 10 ms, decoding on a thread a core",
            "lightning.ai/docs/litserve/features/batching; its tests/parity_fastapi/ls-server.py",
            packages=("litserve>=0.2.19", "python-multipart>=0.0.20"), module="litserve",
        ),
        Server(
            "bentoml", "BentoML",
            "adaptive batching, max_latency_ms 1000, one worker, decoding on a thread a core",
            "docs.bentoml.com/en/latest/get-started/adaptive-batching.html",
            field="images", place=(0,), packages=("bentoml>=1.4.40",), module="bentoml",
        ),
        Server(
            "mosec", "mosec",
            "a decoding process a core, one inference process, max_wait_time 10 ms; raw body",
            "mosecorg.github.io/mosec/reference/interface.html; examples/resnet50_msgpack",
            path="/inference", form="raw", packages=("mosec>=0.9.8",), module="mosec",
        ),
        Server(
            "ray", "Ray Serve",
            "one replica, serve.batch with 10 ms, max_ongoing_requests 128",
            "docs.ray.io/en/latest/serve/advanced-guides/dyn-req-batch.html",
            path="/", packages=("ray[serve]>=2.60", "python-multipart>=0.0.20"), module="ray",
        ),
        Server(
            "pytriton", "PyTriton (Triton)",
            "dynamic batching, max_queue_delay 5 ms; Open Inference Protocol, binary extension",
            "triton-inference-server.github.io/pytriton; examples/huggingface_resnet_pytorch",
            path="/v2/models/scorer/infer", form="oip", place=("outputs", 0, "data", 0),
            packages=("nvidia-pytriton>=0.7",), module="pytriton",
        ),
    )
}  # fmt: skip
