"""The doctor, asked from pages and programs: one examination at a time, shared by all who ask meanwhile."""

from __future__ import annotations

from .. import __version__
from ..operation.doctor import all_checks, examine, open_site
from ..settings import Settings
from ..wire import DoctorView
from .shared_question import SharedQuestion

# An examination starts two containers and reads the whole store: nobody needs that twice in this time.
_FRESH_S = 10.0


class Examination:
    """What the doctor says of this installation, as the service sees it; nothing is ever put right here."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._question = SharedQuestion(self._examine, fresh_s=_FRESH_S)
        self._last: DoctorView | None = None

    @property
    def last(self) -> DoctorView | None:
        """What was found last, if anybody asked since the service was started."""
        return self._last

    async def now(self) -> DoctorView:
        """What is found now; at most ten seconds old."""
        return await self._question.answer()

    async def _examine(self) -> DoctorView:
        async with open_site(state_dir=self._settings.state_dir) as site:
            report = await examine(site, all_checks())
            self._last = report.view(
                product=__version__, platform=site.settings.platform, state_dir=str(site.settings.state_dir)
            )
        return self._last
