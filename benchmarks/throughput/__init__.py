"""How fast it inspects: the bare session, over HTTP, in a batch, and beside other servers."""

from twonines.benchmarks.throughput.running import INSPECT_PATH as INSPECT_PATH
from twonines.benchmarks.throughput.running import METRICS_PATH as METRICS_PATH
from twonines.benchmarks.throughput.running import READY_PATH as READY_PATH
from twonines.benchmarks.throughput.running import free_port as free_port
from twonines.benchmarks.throughput.running import served as served
