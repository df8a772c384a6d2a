"""Changes of what answers, by persons: recorded, and with two of them where that is wanted.

Whoever changes models for somebody, over HTTP or in the console, goes through here.
"""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Literal

from fastapi.concurrency import run_in_threadpool

from twonines.errors import ConflictError, TwoninesError
from twonines.serving.activation import check_escapes
from twonines.serving.people.approvals import Approval, Approvals, Verb, check_user
from twonines.serving.people.roles import Person
from twonines.serving.service import Service

Change = Literal["load", "activate", "shadow", "unload"]


@dataclass(frozen=True, slots=True)
class Outcome:
    """What became of a change: done, or proposed; and the trial on known escapes, if any."""

    approval: Approval | None = None
    regression: dict[str, Any] | None = None


class Changes:
    """Stands between persons and the repository.

    Every method raises what :class:`Repository` and :func:`check_escapes` raise, and nothing has
    changed then.
    """

    def __init__(self, service: Service) -> None:
        """Change the models of ``service``."""
        self._service = service

    async def change(
        self, person: Person, name: str, version: str, verb: Change, override: str | None = None
    ) -> Outcome:
        """Do it, or ask for a second person.

        Args:
            person: who wants it.
            name: which model.
            version: which version.
            verb: what.
            override: why it is activated though it loses a known escape.

        Raises:
            ForbiddenError: two persons are wanted, and who asks is no user.
            ConflictError: two persons are wanted, and the active version's file has changed.
        """
        models = self._service.models
        if verb == "activate":
            takes_two = self._takes_two
            digest = await models.digest_of(name, version)
            tried = await self._try_out(person, name, version, override, takes_two)
            if takes_two:
                return await self._propose(person, verb, name, version, digest, tried)
            job = partial(models.activate, name, version, digest)
            await self._record(person, "model.activate", f"{name}/{version}", job, digest=digest)
            return Outcome(regression=tried)
        doing = {"load": models.load, "shadow": models.set_shadow, "unload": models.unload}
        job = partial(doing[verb], name, version)
        await self._record(person, f"model.{verb}", f"{name}/{version}", job)
        return Outcome()

    async def add(self, person: Person, name: str, path: Path) -> str:
        """Take a copy of a newly taught model; it answers when it is activated, and not before.

        Args:
            person: who wants it.
            name: of a model that is there, or of a new one.
            path: the file.

        Returns:
            The version that it has become.

        Raises:
            ForbiddenError: two persons are wanted, and who asks is no user.
            ConflictError, SettingsError, ModelFileError: as :meth:`Repository.add`.
        """
        if self._takes_two:
            check_user(person)  # else it would lie there, and nobody could propose it
        models = self._service.models
        version = await models.next_version(name)
        job = partial(models.add, name, version, path)
        await self._record(person, "model.add", f"{name}/{version}", job)
        return version

    async def unload_model(self, person: Person, name: str) -> Outcome:
        """Take a whole model out of service, or ask for a second person where it answers.

        Raises:
            ForbiddenError: as :meth:`change`.
            ConflictError, UnknownError: as :meth:`Repository.unload_model`.
        """
        models = self._service.models
        active = models.entry(name).active
        if active is not None and self._takes_two:
            digest = active.session.digest
            return await self._propose(person, "unload", name, active.version, digest, None)
        await self._record(person, "model.unload", name, partial(models.unload_model, name))
        return Outcome()

    async def rollback(self, person: Person, name: str, override: str | None = None) -> Outcome:
        """Let the version answer that did before.

        Where two persons are wanted, one is enough to go back to a file that two have approved:
        what goes wrong must end at once.

        Raises:
            ForbiddenError: as :meth:`change`.
        """
        models, people = self._service.models, self._service.people
        version = models.before(name)
        digest = await models.digest_of(name, version)
        takes_two = False
        if self._takes_two and people:
            known = people.approvals.has_been_approved
            takes_two = not await run_in_threadpool(known, name, version, digest)
        tried = await self._try_out(person, name, version, override, takes_two)
        if takes_two:
            return await self._propose(person, "rollback", name, version, digest, tried)
        job = partial(models.rollback, name, digest)
        await self._record(person, "model.rollback", f"{name}/{version}", job, digest=digest)
        return Outcome(regression=tried)

    async def decide(
        self, person: Person, key: str, approved: bool, override: str | None = None
    ) -> Outcome:
        """Approve a proposal, which is then done at once, or reject it.

        Raises:
            TwoninesError: as :meth:`Approvals.decide`; or it is approved and cannot be done, and
                must then be proposed again.
        """
        approvals, models = self._approvals, self._service.models
        found = await run_in_threadpool(approvals.check, person, key, approved)
        name, version, digest = found.model, found.version, found.digest
        tried = None
        if approved:
            if found.verb == "rollback" and models.before(name) != version:
                raise ConflictError("approval: the model has changed since; propose it again")
            if found.verb == "unload":
                models.check_answers(name, digest)
            else:
                tried = await check_escapes(self._service, name, version, person.actor, override)
        found = await run_in_threadpool(approvals.decide, person, key, approved)
        if approved:
            if found.verb == "rollback":
                job = partial(models.rollback, name, digest)
            elif found.verb == "unload":
                job = partial(models.unload_model, name, digest)
            else:
                job = partial(models.activate, name, version, digest)
            told = {"approval": key, "proposer": found.proposer, "digest": digest}
            await self._record(person, f"model.{found.verb}", found.subject, job, **told)
        return Outcome(found, tried)

    async def _try_out(
        self, person: Person, name: str, version: str, override: str | None, takes_two: bool
    ) -> dict[str, Any] | None:
        """The known escapes, tried by the version; the override that it takes is written down."""
        if takes_two:
            check_user(person)  # before that: an override that nobody may make is none
        return await check_escapes(self._service, name, version, person.actor, override)

    @property
    def _takes_two(self) -> bool:
        wanted = self._service.settings.two_person
        if wanted and self._service.people is None:
            raise ConflictError("two_person: needs --data-dir, to know who proposes and approves")
        return wanted

    @property
    def _approvals(self) -> Approvals:
        if self._service.people is None:
            raise ConflictError("approval: this service stores nothing; start it with --data-dir")
        return self._service.people.approvals

    async def _propose(
        self,
        person: Person,
        verb: Verb,
        name: str,
        version: str,
        digest: str,
        tried: dict[str, Any] | None,
    ) -> Outcome:
        propose = self._approvals.propose
        made = await run_in_threadpool(propose, person, verb, name, version, digest)
        return Outcome(made, tried)

    async def _record(
        self,
        person: Person,
        action: str,
        subject: str,
        job: Callable[[], Awaitable[None]],
        **told: Any,
    ) -> None:
        """Write down what is about to be done, do it, and write down where it failed."""
        note = self._service.note_act
        await note(person.actor, action, subject, told)
        try:
            await job()
        except TwoninesError as exc:
            await note(person.actor, f"{action}.fail", subject, {**told, "error": str(exc)})
            raise
