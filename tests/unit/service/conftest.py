from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import pytest_asyncio
from house import House, open_house
from waiting import LONG_S

from tljh_plugin.service import engine_health, events, folders, lookups, room
from tljh_plugin.service.pages import confirm


@pytest.fixture(autouse=True)
def patient(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing here is slow but the machine, which is not what these tests are about."""
    for module, name in (
        (confirm, "_PATIENCE_S"),
        (engine_health, "_WAIT_S"),
        (events, "_FIRST_S"),
        (folders, "_DOCKER_S"),
        (lookups, "_DOCKER_S"),
        (room, "_WAIT_S"),
    ):
        monkeypatch.setattr(module, name, LONG_S)


@pytest_asyncio.fixture
async def house(tmp_path: Path) -> AsyncIterator[House]:
    """The service with its two listeners, over stages that are told what to say."""
    async with open_house(tmp_path) as found:
        yield found
