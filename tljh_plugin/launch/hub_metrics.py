"""What the hub tells Prometheus of our servers, among JupyterHub's own metrics at `/hub/metrics`."""

from __future__ import annotations

from functools import cache

from prometheus_client import REGISTRY, CollectorRegistry

from ..metrics import LONG_S, Declarations, DockerMetrics
from .progress import PARTS


class HubMetrics:
    """Starts of servers, in `registry`."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self.declared = declared = Declarations(registry)
        self._starts = declared.counter(
            "hub_starts_total",
            "Starts of servers; `refused` is for what was asked for, `error` is this machine's fault.",
            outcome=("ready", "refused", "error", "cancelled"),
        )
        self._phases = declared.histogram(
            "hub_start_seconds",
            "Seconds that each part of a start took that came to its end.",
            (0.05, 0.1, 0.25, 0.5, *LONG_S),
            part=PARTS,
        )
        self.firewall_restored = declared.counter(
            "hub_firewall_restored_total", "How often firewall rules were gone, and were set again."
        )
        self.docker = DockerMetrics(declared, "hub_")

    def started(self, parts: dict[str, float]) -> None:
        """A server answers; seconds by part."""
        self._starts.of("ready").inc()
        for part, seconds in parts.items():
            self._phases.of(part).observe(seconds)

    def failed(self, http_status: int) -> None:
        """A start has ended with an error of this status; from 500 on it is this machine's fault."""
        self._starts.of("refused" if http_status < 500 else "error").inc()

    def cancelled(self) -> None:
        """A start was stopped."""
        self._starts.of("cancelled").inc()


@cache
def hub_metrics() -> HubMetrics:
    """Those of this process, in the registry that JupyterHub shows; a name can be registered there once."""
    return HubMetrics(REGISTRY)
