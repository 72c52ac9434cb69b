"""`GET metrics`: for Prometheus."""

from __future__ import annotations

from prometheus_client import CONTENT_TYPE_LATEST

from ...errors import Forbidden
from ..handler import ApiHandler


class Metrics(ApiHandler):
    """For administrators and for tokens with the scope `custom:binder:metrics`, also those of services."""

    open_to_all = True

    async def prepare(self) -> None:
        """Asks for rights, not for a person: Prometheus comes with the token of a JupyterHub service."""
        if not self.context.settings.monitoring.authenticate_metrics or await self.door.monitors(self):
            return
        raise Forbidden(
            "Metrics are for administrators and for tokens with the scope `custom:binder:metrics`.",
            "Give Prometheus such a token, or set `binder.monitoring.authenticate_metrics` to `false`.",
        )

    async def get(self) -> None:
        """[Metrics](metrics.md) as Prometheus reads them, for administrators and tokens, also of JupyterHub
        services, with the scope `custom:binder:metrics`; for everybody with
        `binder.monitoring.authenticate_metrics: false`.
        """
        self.set_header("Content-Type", CONTENT_TYPE_LATEST)
        self.finish(await self.context.metrics.text(self.context))
