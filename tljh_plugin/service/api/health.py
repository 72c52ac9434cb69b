"""`GET health` for monitors and `GET versions` for clients that know BinderHub."""

from __future__ import annotations

from importlib import metadata

from ... import __version__
from ...errors import BinderError
from ...wire import HealthView
from ..handler import ApiHandler


class Health(ApiHandler):
    """200 when the service answers; what is wrong with Docker or the firewall, those signed in are told."""

    open_to_all = True

    async def get(self) -> None:
        said = await self.context.engine_health.info()
        failed = isinstance(said, BinderError)
        version = message = firewall = ""
        if self.signed_in is not None:
            version = "" if isinstance(said, BinderError) else said.version
            message = str(said) if isinstance(said, BinderError) else ""
            firewall = await self._firewall()
        self.answer(
            HealthView(
                ok=not failed,
                engine=not failed,
                engine_version=version,
                message=message,
                firewall=firewall,
            )
        )

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
