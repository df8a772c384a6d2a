"""What was used this month, for an admin."""

from collections.abc import Sequence
from datetime import UTC, datetime

from nicegui import ui

from twonines.serving.console.acting import Acting
from twonines.serving.console.drawing import Part
from twonines.serving.console.parts import panel
from twonines.serving.people.usage import UsageRow

_WORDS, _COUNTS = ("tenant", "actor"), ("requests", "images", "compute_s")


class UsagePart:
    """Sums by tenant and actor, and the days of them as a file."""

    def __init__(self, acting: Acting) -> None:
        """Nothing is shown before :meth:`place`."""
        self.acting, self.t = acting, acting.view.t
        self.since = f"{datetime.now(UTC):%Y-%m}-01"
        self.show = Part(self._read, self._draw)

    async def place(self) -> None:
        """Show it here."""
        month = self.since[:7]
        with panel(self.t("usage", month=month)) as box:
            box.props("data-mark=usage")
            await self.show.place()
            ui.button(self.t("download_csv"), icon="download").props(
                f'outline href="/v1/usage?form=csv&since={self.since}" '
                f'download="usage-{month}.csv" data-mark=usage-csv'
            )

    async def _read(self) -> list[UsageRow]:
        return await self.acting.ask(lambda acts: acts.read_usage(self.since))

    def _draw(self, rows: list[UsageRow]) -> None:
        if not rows:
            ui.label(self.t("no_usage")).classes("muted")
            return
        columns = [
            {"name": name, "label": self.t(name), "field": name,
             "align": "left" if name in _WORDS else "right"}
            for name in (*_WORDS, *_COUNTS)
        ]  # fmt: skip
        ui.table(columns=columns, rows=_sums(rows), row_key="key").classes("w-full").props(
            "flat dense"
        )


def _sums(rows: Sequence[UsageRow]) -> list[dict[str, object]]:
    """One row for each tenant and actor, who used most first."""
    sums: dict[tuple[str, str], list[float]] = {}
    for row in rows:
        found = sums.setdefault((row.tenant, row.actor), [0, 0, 0.0])
        for index, value in enumerate((row.requests, row.images, row.compute_s)):
            found[index] += value
    ranked = sorted(sums.items(), key=lambda item: -item[1][1])
    return [
        {
            "key": f"{tenant} {actor}", "tenant": tenant, "actor": actor,
            "requests": int(requests), "images": int(images), "compute_s": f"{compute_s:.1f}",
        }
        for (tenant, actor), (requests, images, compute_s) in ranked
    ]  # fmt: skip
