"""The audit log: who did what to which thing, filtered by a form, with links to export what it found."""

from __future__ import annotations

from urllib.parse import urlencode

from ...errors import InvalidRequest
from ..api.audit import COLUMNS, FIELDS, as_rows, everything, view, wanted
from .page import Page

_PER_PAGE = 100


class AuditPage(Page):
    tab = "audit"

    async def get(self) -> None:
        self.only_administrators()
        given = {name: self.get_query_argument(name, "").strip() for name in FIELDS}
        given = {name: value for name, value in given.items() if value}
        if form := self.get_query_argument("format", ""):
            await self._export(form, given)
            return
        before = self._before()
        found = await self.context.audit.entries(wanted(given), limit=_PER_PAGE + 1, before=before)
        entries = found[:_PER_PAGE]
        more = {**given, "before": str(entries[-1].number)} if len(found) > _PER_PAGE else {}
        export = f"{self.prefix}audit?{urlencode(given)}{'&' if given else ''}format="
        self.show(
            "audit.html",
            entries=entries,
            given={name: given.get(name, "") for name in FIELDS},
            actions=_with_beginnings(await self.context.audit.actions()),
            newest=f"{self.prefix}audit?{urlencode(given)}" if before else "",
            older=f"{self.prefix}audit?{urlencode(more)}" if more else "",
            csv=f"{export}csv",
            json=f"{export}json",
        )

    async def _export(self, form: str, given: dict[str, str]) -> None:
        """All that fits as a file. It is the page that gives it: the API takes no link of a browser."""
        table = self.wants_table()
        found = await everything(self.context.audit, wanted(given))
        if table:
            self.answer_table("audit", COLUMNS, as_rows(found))
        else:
            content = ",\n".join(view(each).model_dump_json() for each in found)
            self.answer_file(f"audit.{form}", "application/json", f"[{content}]")

    def _before(self) -> int:
        text = self.get_query_argument("before", "") or "0"
        if not (text.isascii() and text.isdigit() and len(text) < 19):
            raise InvalidRequest(f"The query has `before={text:.40}`.", "Follow the page's own links.")
        return int(text)


def _with_beginnings(actions: list[str]) -> list[str]:
    """All actions, and before those of one kind the kind itself: `image`, `image.pin`, …"""
    return sorted({*actions, *(each.partition(".")[0] for each in actions)})
