"""Models and their versions: loaded, swapped and taken out while the service answers."""

import asyncio
import hashlib
import logging
from collections.abc import Coroutine, Mapping
from pathlib import Path
from typing import Any

from twonines.errors import ConflictError, TwoninesError, UnknownError
from twonines.models.providers import read_model
from twonines.serving.loaded import LoadedModel
from twonines.serving.metrics import Metrics
from twonines.serving.model_files import ModelFiles, Record, pushed
from twonines.serving.roster import CHANGED, Entry, Roster
from twonines.serving.shadow import Shadow
from twonines.settings import ServeSettings

log = logging.getLogger(__name__)


class Repository(Roster):
    """Changes one thing at a time, and what answers last of all.

    A version takes pictures only after it was loaded, checked and warm, and after the change was
    written down; the version that it replaces answers what it was given, and is then unloaded. So
    no request fails in a swap, and a file that cannot be loaded changes nothing. Everything but
    loading and closing, which run in threads, happens on the event loop.
    """

    def __init__(self, files: ModelFiles, settings: ServeSettings, metrics: Metrics) -> None:
        """Nothing is loaded before :meth:`start`."""
        super().__init__(files, settings, metrics)
        self._changing = asyncio.Lock()
        self._drains: set[asyncio.Task[None]] = set()

    async def load(self, name: str, version: str) -> None:
        """Load a version beside the others; one whose file has changed is loaded again.

        Raises:
            UnknownError: there is no such model or version.
            ModelFileError: the file is no model; nothing has changed.
            ConflictError: this service has one model file; or the version answers, its file has
                changed, and two persons are wanted.
        """
        async with self._change():
            entry, files = await self._known(name, version)
            fresh = await self._fresh(entry, version, files)
            if version == entry.record.active:
                await self._keep_charge(entry, fresh)
            twin = entry.shadow.loaded if entry.shadow else None
            if twin is not None and twin.version == version and twin is not fresh:
                self._end_shadow(entry)
                entry.shadow = Shadow(fresh, self._shadow_metrics)
            self._place(entry, fresh)

    async def _keep_charge(self, entry: Entry, fresh: LoadedModel) -> None:
        """The active version is loaded anew; another file must not be a way around two persons."""
        digest, record = fresh.session.digest, entry.record
        if not self._needs_approval(record, digest):
            if digest != record.digest:
                await self._write(entry, record.model_copy(update={"digest": digest}))
        elif entry.active is None:
            await self._write(entry, record.without_active())
        else:
            await asyncio.to_thread(fresh.close)
            raise ConflictError(f"version: {CHANGED.format(version=fresh.version)}")

    async def activate(self, name: str, version: str, digest: str | None = None) -> None:
        """Let a version answer; the one that did is unloaded when it has answered.

        Args:
            name: which model.
            version: which version.
            digest: SHA-256 that its file must have.

        Raises:
            UnknownError, ModelFileError, ConflictError: as :meth:`load`.
            ConflictError: the file has another digest.
            StoreError: the folder cannot be written; nothing has changed.
        """
        async with self._change():
            entry, files = await self._known(name, version)
            await self._activate(entry, files, version, digest=digest)

    async def rollback(self, name: str, digest: str | None = None) -> None:
        """Let the version answer that did before; ``digest`` as for :meth:`activate`.

        Raises:
            ConflictError: there was none before, or its file has another digest.
            UnknownError, ModelFileError: its file is gone or bad; nothing has changed.
        """
        async with self._change():
            version = self.before(name)
            entry, files = await self._known(name, version)
            await self._activate(entry, files, version, entry.record.history[:-1], digest)

    def before(self, name: str) -> str:
        """The version that answered before.

        Raises:
            ConflictError: there was none.
            UnknownError: there is no such model.
        """
        history = self.entry(name).record.history
        if not history:
            raise ConflictError(f"model: {name} has no earlier active version to go back to")
        return history[-1]

    async def digest_of(self, name: str, version: str) -> str:
        """SHA-256 of a version's file as it is now.

        Raises:
            UnknownError, ModelFileError, ConflictError: as :meth:`load`.
        """
        self._change()
        _, files = await self._known(name, version)
        data = await asyncio.to_thread(read_model, files[name][version])
        return hashlib.sha256(data).hexdigest()

    async def set_shadow(self, name: str, version: str) -> None:
        """Let a version inspect beside the active one and compare.

        Raises:
            ConflictError: it is the active one, there is none, or only one of them compares with
                references.
            UnknownError, ModelFileError: as :meth:`load`.
        """
        async with self._change():
            entry, files = await self._known(name, version)
            if entry.active is None or version == entry.record.active:
                raise ConflictError(
                    f"version: must be another than the active one, {entry.record.active}, "
                    f"got {version!r}"
                )
            fresh = await self._fresh(entry, version, files)
            if fresh.session.card.reference != entry.active.session.card.reference:
                await asyncio.to_thread(fresh.close)
                entry.loaded.pop(version, None)
                raise ConflictError(
                    "version: a shadow must take a reference where the active version does, and "
                    f"{version} differs from {entry.record.active}"
                )
            await self._write(entry, entry.record.model_copy(update={"shadow": version}))
            self._end_shadow(entry, keep=fresh)
            self._place(entry, fresh)
            entry.shadow = Shadow(fresh, self._shadow_metrics)

    async def unload(self, name: str, version: str) -> None:
        """Unload a version that does not answer; ends it as a shadow.

        Raises:
            ConflictError: it is the active one.
            UnknownError: there is no such version, or it is not loaded.
        """
        async with self._change():
            entry = self.entry(name)
            if version == entry.record.active:
                raise ConflictError(
                    f"version: must not be the active one, got {version!r}; activate another first"
                )
            if version not in entry.loaded:
                raise UnknownError(f"version: must be loaded, got {version!r}")
            if version == entry.record.shadow:
                await self._write(entry, entry.record.model_copy(update={"shadow": None}))
                self._end_shadow(entry)
            else:
                self._retire(entry, entry.loaded.pop(version))

    async def unload_model(self, name: str, digest: str | None = None) -> None:
        """Take every version out of service, and remember that; those at work answer first.

        A roll back brings the version back that answered.

        Args:
            name: which model.
            digest: SHA-256 that the version which answers must have.

        Raises:
            ConflictError: nothing of it is loaded, another version answers, or this service has
                one model file.
            UnknownError: there is no such model.
        """
        async with self._change():
            entry = self.entry(name)
            active, record = entry.active, entry.record
            if not entry.loaded:
                raise ConflictError(f"model: {name} is not loaded")
            if digest is not None:
                self.check_answers(name, digest)
            await self._write(entry, Record(history=pushed(record.history, record.active)))
            self._end_shadow(entry)
            if active is not None:
                self._show(active, False)
            while entry.loaded:
                self._retire(entry, entry.loaded.popitem()[1])

    def check_answers(self, name: str, digest: str) -> None:
        """Raise ``ConflictError`` where another file answers than the one of this digest."""
        active = self.entry(name).active
        if active is None or active.session.digest != digest:
            raise ConflictError(
                f"model: what answers as {name} has changed since; propose it again"
            )

    async def next_version(self, name: str) -> str:
        """The version that :meth:`add` takes next; ``name`` may be new.

        Raises:
            SettingsError: the name is none that a folder may have.
            ConflictError: this service has one model file.
        """
        self._change()
        return await asyncio.to_thread(self._files.next_version, name)

    async def add(self, name: str, version: str, path: Path) -> None:
        """Take a copy of a model file as a version that does not answer, now or after a restart.

        Raises:
            ModelFileError: the file cannot be copied.
            SettingsError: the name is none that a folder may have.
            ConflictError: it is not the next version, or this service has one model file.
        """
        async with self._change():
            if version != (following := await self.next_version(name)):
                raise ConflictError(f"version: must be the next, {following}, got {version!r}")
            entry = self._entries.get(name) or Entry(name)
            # First of all: a start takes the newest version where nothing is written.
            await self._write(entry, entry.record)
            await asyncio.to_thread(self._files.add, name, version, path)
            self._entries[name] = entry

    def _change(self) -> asyncio.Lock:
        if not self._files.writable:
            raise ConflictError(
                "model: this service was started with one file; start it with --model-dir to "
                "change models while it serves"
            )
        return self._changing

    async def _known(self, name: str, version: str) -> tuple[Entry, dict[str, dict[str, Path]]]:
        files = await asyncio.to_thread(self._files.scan)
        if name not in files:
            raise UnknownError(f"model: must be one of {', '.join(files)}, got {name!r}")
        if version not in files[name]:
            raise UnknownError(
                f"version: must be one of {', '.join(files[name])} of {name}, got {version!r}"
            )
        return self._entries.setdefault(name, Entry(name)), files

    async def _fresh(
        self, entry: Entry, version: str, files: Mapping[str, Mapping[str, Path]]
    ) -> LoadedModel:
        """The version as its file is now: the loaded one where that has not changed."""
        there = entry.loaded.get(version)
        if there is not None:
            usable: bool = await asyncio.to_thread(there.is_of, files[entry.name][version])
            if usable and not there.batcher.is_broken:
                return there
        if self._drains:  # old sessions first give their memory back
            await asyncio.wait(self._drains)
        return await self._load(entry, version, files)

    async def _activate(
        self,
        entry: Entry,
        files: Mapping[str, Mapping[str, Path]],
        version: str,
        history: tuple[str, ...] | None = None,
        digest: str | None = None,
    ) -> None:
        fresh = await self._fresh(entry, version, files)
        old, record = entry.active, entry.record
        if history is None:
            history = record.history
            if version != record.active:
                history = pushed(history, record.active)
        shadow = None if version == record.shadow else record.shadow
        try:
            if digest not in (None, fresh.session.digest):
                raise ConflictError(f"version: the file of {version} is not the one proposed")
            await self._write(
                entry,
                Record(active=version, digest=fresh.session.digest, history=history, shadow=shadow),
            )
        except TwoninesError:
            if entry.loaded.get(version) is not fresh:
                await asyncio.to_thread(fresh.close)
            raise
        if shadow is None:
            self._end_shadow(entry, keep=fresh)
        self._place(entry, fresh)
        if old is not None and old.version != version:
            self._show(old, False)
            self._retire(entry, entry.loaded.pop(old.version))
        log.info("model %s: version %s answers", entry.name, version)

    async def _write(self, entry: Entry, record: Record) -> None:
        """Write down what shall be, and only then let it be."""
        state = {name: other.record for name, other in self._entries.items()}
        await asyncio.to_thread(self._files.write_state, {**state, entry.name: record})
        entry.record = record

    def _place(self, entry: Entry, fresh: LoadedModel) -> None:
        old = entry.loaded.get(fresh.version)
        entry.loaded[fresh.version] = fresh
        if old is not None and old is not fresh:
            self._show(old, False)
            self._retire(entry, old)
        if fresh.version == entry.record.active:
            self._show(fresh, True)

    def _end_shadow(self, entry: Entry, keep: LoadedModel | None = None) -> None:
        shadow, entry.shadow = entry.shadow, None
        if shadow is None:
            return
        loaded = shadow.loaded
        if loaded is keep:
            self._drain(asyncio.to_thread(shadow.close))
            return
        if entry.loaded.get(loaded.version) is loaded:
            del entry.loaded[loaded.version]
        self._retire(entry, loaded, shadow)

    def _retire(self, entry: Entry, loaded: LoadedModel, shadow: Shadow | None = None) -> None:
        async def retire() -> None:
            entry.draining.append(loaded.version)
            try:
                if shadow:
                    await asyncio.to_thread(shadow.close)
                await loaded.retire()
            finally:
                entry.draining.remove(loaded.version)

        self._drain(retire())

    def _drain(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.create_task(work)
        self._drains.add(task)
        task.add_done_callback(self._drains.discard)
