"""The models that are loaded, and who answers."""

import asyncio
import logging
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Self

from twonines.errors import (
    ModelFileError,
    NotReadyError,
    OverloadedError,
    SettingsError,
    TwoninesError,
    UnknownError,
)
from twonines.models.session import InspectionSession
from twonines.serving.loaded import LoadedModel, Watches
from twonines.serving.metrics import Metrics
from twonines.serving.model_files import ModelFiles, ModelFolder, Record, SingleFile
from twonines.serving.shadow import Shadow, ShadowMetrics
from twonines.settings import ServeSettings

log = logging.getLogger(__name__)
CHANGED = (
    "the file of {version} has changed since it was activated; activate it again, which takes two "
    "persons"
)


@dataclass(slots=True)
class Entry:
    """One model: what is loaded of it, and in which role."""

    name: str
    record: Record = field(default_factory=Record)
    loaded: dict[str, LoadedModel] = field(default_factory=dict)
    shadow: Shadow | None = None
    draining: list[str] = field(default_factory=list)
    errors: dict[str, str] = field(default_factory=dict)

    @property
    def active(self) -> LoadedModel | None:
        """The version that answers."""
        return self.loaded.get(self.record.active or "")

    def state(self, version: str) -> str:
        """A version's state in one word."""
        if version in self.loaded:
            if version == self.record.active:
                return "active"
            return "shadow" if version == self.record.shadow else "loaded"
        if version in self.draining:
            return "draining"
        return "failed" if version in self.errors else "available"


class Roster:
    """Finds who answers; :class:`twonines.serving.repository.Repository` changes it.

    Everything but loading and closing, which run in threads, happens on the event loop.
    """

    def __init__(self, files: ModelFiles, settings: ServeSettings, metrics: Metrics) -> None:
        """Nothing is loaded before :meth:`start`."""
        self._files, self._settings, self._metrics = files, settings, metrics
        self._shadow_metrics = ShadowMetrics(metrics.registry)
        self._entries: dict[str, Entry] = {}
        self._watches: Watches = {}

    @classmethod
    def open(cls, settings: ServeSettings, metrics: Metrics) -> Self:
        """The repository that the settings name.

        Raises:
            ModelFileError: the one file is no model.
            SettingsError: the folder is none.
        """
        if settings.model_dir is not None:
            return cls(ModelFolder(settings.model_dir), settings, metrics)
        assert settings.model is not None
        # Only its card is wanted; it is loaded with its provider when the service starts.
        card = InspectionSession.load(settings.model, execution_provider="cpu").card
        return cls(SingleFile(settings.model, card.name, card.version), settings, metrics)

    async def start(self) -> None:
        """Load what was active, or the newest version of a model that has never been.

        Where two persons are wanted, only the first start takes the newest, and writes that down
        at once: a file that is put into the folder later, or in place of the active one, must not
        answer by a restart.

        A version that cannot be loaded leaves its model without an answer: another version would
        judge parts that nobody wanted it to judge.

        Raises:
            ModelFileError: no model could be loaded, or the state is damaged.
            StoreError: the state cannot be written.
            SettingsError: there is no model, or no such default model.
        """
        files = await asyncio.to_thread(self._files.scan)
        state = await asyncio.to_thread(self._files.read_state)
        check_names(files, self._settings)
        failed: TwoninesError | None = None
        for name, versions in files.items():
            begins = not (self._settings.two_person and state)
            first = Record(active=list(versions)[-1] if begins else None)
            record = state.get(name, first)
            entry = self._entries[name] = Entry(name, record)
            for version in (record.active, record.shadow):
                if version is not None:
                    try:
                        entry.loaded[version] = await self._load(entry, version, files)
                    except TwoninesError as exc:
                        failed = exc
                        log.error("model %s %s cannot be loaded: %s", name, version, exc)
            if entry.active:
                await self._check_charge(entry, entry.active)
            elif self._settings.two_person and record.digest is None:
                # Nobody knows which file was meant, so that any would do.
                entry.record = record.without_active()
            if entry.active:
                self._show(entry.active, True)
            twin = entry.loaded.get(record.shadow or "")
            if twin is not None:
                entry.shadow = Shadow(twin, self._shadow_metrics)
        for name in state.keys() - files.keys():
            if state[name].was_used:
                log.error("model %s was in use, and its files are gone", name)
                self._entries[name] = Entry(name, state[name])
        if failed and not any(map(_is_ready, self._entries.values())):
            raise failed
        records = {name: entry.record for name, entry in self._entries.items()}
        if self._settings.two_person and records != state:
            await asyncio.to_thread(self._files.write_state, records)

    async def _check_charge(self, entry: Entry, active: LoadedModel) -> None:
        digest, record = active.session.digest, entry.record
        if not self._needs_approval(record, digest):
            entry.record = record.model_copy(update={"digest": digest})
            return
        fault = CHANGED.format(version=active.version)
        log.error("model %s does not answer: %s", entry.name, fault)
        entry.errors[active.version] = fault
        entry.record = record.without_active()
        await asyncio.to_thread(entry.loaded.pop(active.version).close)

    def _needs_approval(self, record: Record, digest: str) -> bool:
        """Whether another file than the one that was put in charge is to be."""
        return self._settings.two_person and record.digest not in (None, digest)

    def close(self) -> None:
        """Answer everything that was taken; blocks, and no request may come any more."""
        for entry in self._entries.values():
            if entry.shadow:
                entry.shadow.close()
            for loaded in entry.loaded.values():
                loaded.close()
        self._entries = {}

    @property
    def ready(self) -> bool:
        """Whether the default model takes pictures now, or any where none was named as such."""
        default = self._settings.default_model
        return any(_is_ready(e) for e in self._entries.values() if default in (None, e.name))

    @property
    def broken(self) -> bool:
        """Whether a session that should answer is beyond repair."""
        return any(e.active and e.active.batcher.is_broken for e in self._entries.values())

    def default_name(self) -> str | None:
        """The model that answers where a request names none.

        One that has never been in use makes no request ambiguous.
        """
        used = [name for name, entry in self._entries.items() if entry.record.was_used]
        if self._settings.default_model or len(used) != 1:
            return self._settings.default_model
        return used[0]

    def entry(self, name: str | None) -> Entry:
        """The model of this name, or the default one.

        Raises:
            NotReadyError: nothing is loaded yet.
            SettingsError: a name must be given.
            UnknownError: there is no such model.
        """
        if not self._entries:
            raise NotReadyError("the service is not ready")
        name = name or self.default_name()
        names = ", ".join(self._entries)
        if name is None:
            raise SettingsError(f"model: must be given, one of {names}, got none")
        if name not in self._entries:
            raise UnknownError(f"model: must be one of {names}, got {name!r}")
        return self._entries[name]

    @contextmanager
    def lease(self, name: str | None = None) -> Iterator[LoadedModel]:
        """The version that answers; it stays loaded until the block ends.

        Raises:
            NotReadyError: the model has no active version.
            UnknownError, SettingsError: as :meth:`entry`.
        """
        with self.find(name).lease() as loaded:
            yield loaded

    def find(self, name: str | None = None, version: str | None = None) -> LoadedModel:
        """As :meth:`lease`, for a look that does not wait for anything.

        Raises:
            UnknownError: another version than ``version`` answers; that may be loaded, but nobody
                has put it in charge.
        """
        entry = self.entry(name)
        if entry.active is None:
            raise NotReadyError(f"model {entry.name} is not loaded")
        if version not in (None, entry.active.version):
            active = entry.active.version
            raise UnknownError(f"version: must be the active one, {active}, got {version!r}")
        return entry.active

    def admit(
        self, name: str | None, deadline: float, *, version: str | None = None,
        is_form: bool = False,
    ) -> None:  # fmt: skip
        """Refuse what the model would refuse now, before the body is read.

        Where no name is given beside the body and there are several models, a form may hold one:
        then nothing is refused yet.

        Raises:
            OverloadedError, NotReadyError, DeadlineError: it takes no picture now.
            UnknownError: there is no such model, or another version answers.
            SettingsError: a name must be given.
        """
        if name or not is_form or len(self._entries) < 2:
            self.find(name, version).batcher.admit(deadline=deadline)

    def find_overload(self, deadline: float) -> OverloadedError | None:
        """What the model says that takes pictures soonest, where every model refuses them now.

        None where one takes them, or refuses them for another reason than its load.
        """
        soonest: OverloadedError | None = None
        for entry in self._entries.values():
            if entry.active is None:
                continue
            try:
                entry.active.batcher.admit(deadline=deadline)
                return None
            except OverloadedError as exc:
                if soonest is None or exc.retry_after_s < soonest.retry_after_s:
                    soonest = exc
            except TwoninesError:
                return None
        return soonest

    def shadow_of(self, loaded: LoadedModel) -> Shadow | None:
        """What runs beside ``loaded``, where that is active."""
        entry = self._entries.get(loaded.name)
        return entry.shadow if entry and entry.active is loaded else None

    def find_digest(self, digest: str) -> LoadedModel:
        """The version whose file has this digest.

        Raises:
            UnknownError: it is not loaded any more.
        """
        for entry in self._entries.values():
            for loaded in entry.loaded.values():
                if loaded.session.digest == digest:
                    return loaded
        raise UnknownError("id: the version that inspected this picture is not loaded any more")

    async def files(self) -> dict[str, dict[str, Path]]:
        """The files there are now: name to version, in order, to path."""
        return await asyncio.to_thread(self._files.scan)

    async def listing(self) -> list[tuple[Entry, list[str]]]:
        """Every model with its versions in order, also those whose files are gone."""
        files = await self.files()
        found = []
        for name in sorted(files.keys() | self._entries.keys()):
            entry = self._entries.get(name) or Entry(name)
            versions = list(files.get(name, {}))
            versions += [v for v in entry.loaded if v not in versions]
            found.append((entry, versions))
        return found

    async def _load(
        self, entry: Entry, version: str, files: Mapping[str, Mapping[str, Path]]
    ) -> LoadedModel:
        path = files[entry.name].get(version)
        try:
            if path is None:
                raise ModelFileError(f"model: {entry.name} {version} has no file any more")
            loaded = await asyncio.to_thread(
                LoadedModel.load, entry.name, version, path, self._settings, self._metrics,
                self._watches,
            )  # fmt: skip
        except TwoninesError as exc:
            entry.errors[version] = str(exc)
            raise
        entry.errors.pop(version, None)
        return loaded

    def _show(self, loaded: LoadedModel, on: bool) -> None:
        labels = tuple(str(value) for value in loaded.short.values())
        if on:
            self._metrics.model.labels(*labels).set(1)
            self._metrics.watch_model(loaded.name, loaded.version, loaded.values)
        else:
            self._metrics.model.remove(*labels)
            self._metrics.forget_model(loaded.name, loaded.version)


def check_names(files: Mapping[str, Mapping[str, Path]], settings: ServeSettings) -> None:
    """Refuse a service without a model, or without the one that is named as the default.

    Raises:
        SettingsError: it is so.
    """
    if not files:
        raise SettingsError(
            "model_dir: must hold <name>/<version>/model.onnx, got "
            f"{settings.model_dir} without one"
        )
    default = settings.default_model
    if default is not None and default not in files:
        raise SettingsError(f"default_model: must be one of {', '.join(files)}, got {default!r}")


def _is_ready(entry: Entry) -> bool:
    return entry.active is not None and entry.active.batcher.is_ready
