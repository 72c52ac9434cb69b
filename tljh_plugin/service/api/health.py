"""`GET health` for monitors and `GET versions` for clients that know BinderHub."""

from __future__ import annotations

from importlib import metadata

from ... import __version__
from ...errors import BinderError, Forbidden
from ...wire import HealthView
from ..handler import ApiHandler


class HealthState(ApiHandler):
    """200 when all is well, else 503. Everybody is told whether, those signed in what is wrong with Docker
    and the firewall, administrators and monitors everything.
    """

    open_to_all = True

    async def get(self) -> None:
        """200 if all that the service needs is well, else 503; never waits longer than two seconds for Docker
        or the hub. `ok` and `engine` need no token; `parts` and what follows are for administrators and
        tokens with the scope `custom:binder:metrics`. Answers `HealthView`.
        """
        parts = await self.context.health.parts()
        said = await self.context.engine_health.info()
        view = HealthView(ok=all(part.ok for part in parts), engine=not isinstance(said, BinderError))
        if self.signed_in is not None:
            view = view.model_copy(
                update={
                    "engine_version": "" if isinstance(said, BinderError) else said.version,
                    "message": str(said) if isinstance(said, BinderError) else "",
                    "firewall": await self._firewall(),
                }
            )
        if self.monitors:
            queued, running = self.context.queue.counts
            view = view.model_copy(
                update={
                    "release": __version__,
                    "parts": parts,
                    "builds_queued": queued,
                    "builds_running": running,
                }
            )
        self.answer(view, 200 if view.ok else 503)

    async def prepare(self) -> None:
        """A monitor may come with the token of a JupyterHub service, which is no person."""
        self.monitors = await self.door.monitors(self)
        try:
            await super().prepare()
        except Forbidden:
            if not self.monitors:
                raise

    async def _firewall(self) -> str:
        if self.context.settings.firewall == "off":
            return "off"
        return await self.context.engine_health.firewall() or "in force"


class Versions(ApiHandler):
    """The keys of BinderHub's `/versions`, where they have a meaning here."""

    open_to_all = True

    def get(self) -> None:
        self.finish(
            {
                "builder": f"jupyter-repo2docker {metadata.version('jupyter-repo2docker')}",
                "binderhub": "",
                "the-littlest-binder": __version__,
            }
        )
