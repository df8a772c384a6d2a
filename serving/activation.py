"""Before a version answers: does it lose an escape that is known?"""

import asyncio
import logging
from contextlib import ExitStack
from typing import Any

from twonines.errors import ConflictError
from twonines.serving.service import Service
from twonines.serving.store.regression import Comparison, compare

log = logging.getLogger(__name__)
_TOLD = 5


async def check_escapes(
    service: Service, name: str, version: str, actor: str, override: str | None
) -> dict[str, Any] | None:
    """Try a version on the regression set of its model before it is activated.

    Args:
        service: which records.
        name: of the model.
        version: that is to answer.
        actor: who wants it.
        override: the reason why it is activated though it loses a case.

    Returns:
        The comparison; None where there is nothing to compare.

    Raises:
        ConflictError: it loses a case, and no reason is given.
        UnknownError, ModelFileError: there is no such version, or its file is no model.
        StoreError: the regression set cannot be read.
    """
    if service.records is None or not (
        cases := await asyncio.to_thread(service.records.cases, name)
    ):
        return None
    models = service.models
    entry = models.entry(name)
    if entry.record.active == version and entry.active is not None:
        return None
    was_loaded = version in entry.loaded
    await models.load(name, version)
    with ExitStack() as stack:
        fresh = stack.enter_context(entry.loaded[version].lease()).session
        active = entry.active
        old = stack.enter_context(active.lease()).session if active else None
        found = await asyncio.to_thread(
            compare,
            service.records.pictures,
            cases,
            fresh,
            old,
            max_pixels=service.settings.max_pixels,
        )
    # Where nothing answers there is no before: every case that is missed counts.
    lost = found.lost if active else found.missed
    if lost and override is None:
        if not was_loaded:
            await models.unload(name, version)
        raise ConflictError(_refusal(name, version, found, len(lost)), overridable=True)
    if lost:
        details = {"reason": override, "lost": [one.subject for one in lost]}
        await service.note_act(actor, "override", f"{name} {version}", details)
        log.warning("model %s %s is activated though it loses %d cases: %s", name, version,
                    len(lost), override)  # fmt: skip
    return found.public()


def _refusal(name: str, version: str, found: Comparison, count: int) -> str:
    some = [one.subject for one in (found.lost or found.missed)[:_TOLD]]
    return (
        f"model: {name} {version} must catch what is caught now, it loses {count} of "
        f"{len(found.cases)} cases that were found downstream ({'; '.join(some)}); activate it "
        "with override and a reason, which is recorded"
    )
