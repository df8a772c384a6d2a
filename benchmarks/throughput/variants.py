"""What is compared: options, and every server on every provider that it can run on here."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from twonines.benchmarks.throughput.environments import Environment, find_environment
from twonines.benchmarks.throughput.load import TOLERANCE
from twonines.benchmarks.throughput.servers import SERVERS, Server
from twonines.errors import SettingsError
from twonines.models.session import InspectionSession

Tell = Callable[[str], None]


@dataclass(frozen=True, slots=True)
class CompareOptions:
    """What is measured.

    ``clients`` are those of the closed loops, ``load`` the Poisson arrivals in per cent of the
    best closed loop of the same server in the same round, ``peers`` lets missing packages be
    installed into ``cache``.
    """

    clients: tuple[int, ...] = (1, 8, 64, 256)
    load: tuple[int, ...] = (50, 80, 95, 300)
    seconds: float = 5.0
    rounds: int = 3
    servers: tuple[str, ...] = tuple(SERVERS)
    peers: bool = False
    cache: Path = Path.home() / ".cache" / "twonines" / "peers"
    seed: int = 0

    def __post_init__(self) -> None:
        """Refuse what cannot be measured."""
        for name, values in (("clients", self.clients), ("load", self.load)):
            if any(value < 1 for value in values):
                raise SettingsError(f"{name}: must be at least 1, got {min(values)}")
        if not self.clients:
            raise SettingsError("clients: must name at least one number, got none")
        if not self.seconds > 0:
            raise SettingsError(f"seconds: must be above 0, got {self.seconds}")
        if self.rounds < 1:
            raise SettingsError(f"rounds: must be at least 1, got {self.rounds}")
        for name in self.servers:
            if name not in SERVERS:
                raise SettingsError(f"servers: must be of {', '.join(SERVERS)}, got {name!r}")
        if not self.servers:
            raise SettingsError("servers: must name at least one, got none")


@dataclass(frozen=True, slots=True)
class Variant:
    """A server on a provider.

    ``asked`` is what it is told, ``auto`` for twonines' own choice; ``label`` says how it runs, and
    names the bare session that bounds it.
    """

    server: Server
    provider: str
    environment: Environment
    asked: str
    label: str
    tolerance: float = TOLERANCE

    @property
    def key(self) -> str:
        """Its name in the results."""
        return f"{self.server.name}@{self.label}"


def label_of(session: InspectionSession) -> str:
    """How a session runs, in short."""
    if session.tuned is None:
        return session.execution_provider
    return f"{session.execution_provider} {session.precision}, tuned"


def find_variants(
    options: CompareOptions, session: InspectionSession, tell: Tell
) -> tuple[list[Variant], list[dict[str, str]]]:
    """Every server on the default provider, and on the one that twonines takes.

    Also what is missing, with ``name``, ``title`` and ``reason``.
    """
    chosen = session.execution_provider
    variants: list[Variant] = []
    missing: list[dict[str, str]] = []
    label = label_of(session)
    for name in options.servers:
        server = SERVERS[name]
        found = find_environment(server, options.cache, install=options.peers, tell=tell)
        if found.python is None:
            missing.append({"name": name, "title": server.title, "reason": found.reason})
            continue
        if server.script is None:
            # What tuning may have changed was gated by verdicts, not by the last digit.
            shift = session.tuned.score_shift if session.tuned else 0.0
            variants.append(Variant(server, chosen, found, "auto", label, TOLERANCE + shift))
        if server.script is not None or label != "cpu":
            variants.append(Variant(server, "cpu", found, "cpu", "cpu"))
        if server.script is None or chosen == "cpu":
            continue
        if reason := _why_not(chosen, found):
            missing.append({"name": f"{name}@{chosen}", "title": server.title, "reason": reason})
        else:
            variants.append(Variant(server, chosen, found, chosen, chosen))
    return variants, missing


def _why_not(provider: str, environment: Environment) -> str:
    """Why a peer cannot run on a provider; empty where it can."""
    if provider != "openvino":
        return f"its script knows the providers cpu and openvino, not {provider}"
    if "onnxruntime-ep-openvino" not in environment.versions:
        return "onnxruntime-ep-openvino is not installed beside it"
    return ""
