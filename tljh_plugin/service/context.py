"""The parts that handlers work with, opened once and closed in the right order."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator
from dataclasses import dataclass

from ..settings import Settings
from .environment import HubEnvironment


@dataclass(frozen=True)
class Context:
    """Everything a handler may use."""

    settings: Settings
    environment: HubEnvironment


@contextlib.asynccontextmanager
async def open_context(settings: Settings, environment: HubEnvironment) -> AsyncIterator[Context]:
    """Open the stages, start what runs in the background, and close all of it again."""
    yield Context(settings, environment)
