"""`GET doctor`: what is wrong with the installation, for administrators and their programs."""

from __future__ import annotations

from ..handler import ApiHandler


class DoctorReport(ApiHandler):
    async def get(self) -> None:
        """Administrators: what the [doctor](doctor.md) finds, as `littlest-binder doctor --json` prints it;
        at most ten seconds old, nothing is put right. Answers `DoctorView`.
        """
        self.only_administrators()
        self.answer(await self.context.examination.now())
