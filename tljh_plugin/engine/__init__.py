"""Docker, and the only place that talks to it.

Comes in: typed calls. Goes out: plain values or an `EngineError`. Every call has a time-out and runs off
the event loop; what is not ours by its label is never changed. Everything that is started here is isolated
by the rules of `isolation.py`, which the spawner uses as well.
"""

from .facade import Engine
from .isolation import Limits, deviations, host_config, limits_for
from .values import (
    CacheRecord,
    ContainerRow,
    ContainerSpec,
    EngineEvent,
    EngineInfo,
    Finished,
    ImageFacts,
    ImageRow,
    Layer,
    Mount,
    Network,
)

__all__ = [
    "CacheRecord",
    "ContainerRow",
    "ContainerSpec",
    "Engine",
    "EngineEvent",
    "EngineInfo",
    "Finished",
    "ImageFacts",
    "ImageRow",
    "Layer",
    "Limits",
    "Mount",
    "Network",
    "deviations",
    "host_config",
    "limits_for",
]
