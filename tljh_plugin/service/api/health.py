"""`GET health`: for monitors; says more to those who are signed in."""

from __future__ import annotations

from ...wire import HealthView
from ..handler import ApiHandler


class Health(ApiHandler):
    open_to_all = True

    async def get(self) -> None:
        self.answer(HealthView(ok=True, engine=False))
