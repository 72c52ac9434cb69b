"""The doctor: what is wrong with the installation, what that means, and what to do about it."""

from __future__ import annotations

from collections.abc import Sequence

from ...wire import DoctorView, FindingStatus, FindingView
from ..texts import _
from .page import Page

NAMES: dict[FindingStatus, str] = {
    "problem": _("Problems"),
    "warning": _("Warnings"),
    "not-checked": _("Not checked"),
    "note": _("Notes"),
    "ok": _("All is well"),
}


class DoctorPage(Page):
    """What was found last; POST looks again. Nothing is put right from here."""

    tab = "doctor"

    async def get(self) -> None:
        self.only_administrators()
        examination = self.context.examination
        self._show(examination.last or await examination.now())

    async def post(self) -> None:
        self.only_administrators()
        await self.context.examination.now()
        self.redirect(f"{self.prefix}doctor", status=303)

    def _show(self, view: DoctorView) -> None:
        self.show("doctor.html", view=view, parts_of_it=by_status(view), names=NAMES)


def by_status(view: DoctorView) -> list[tuple[FindingStatus, Sequence[FindingView]]]:
    """The findings of each status of which there are any, the worst first; those that are well by group."""
    found = {status: [each for each in view.findings if each.status == status] for status in NAMES}
    return [(status, rows) for status, rows in found.items() if rows]
