"""When a start looks at the firewall, and what it does when there is none."""

from __future__ import annotations

import asyncio
import logging
from pathlib import Path
from typing import Any

import pytest

from tljh_plugin.engine import Network
from tljh_plugin.errors import FirewallMissing
from tljh_plugin.installation import ensure_state
from tljh_plugin.launch.pad import LaunchPad
from tljh_plugin.settings import from_mapping

NETWORK = Network("id", "ours", "127.0.0.1", "127.0.0.0/8", "lb-0123456789ab")


class Engine:
    """Has a network, and a firewall that works or not."""

    def __init__(self, problem: str = "") -> None:
        self.problem = problem
        self.looks: list[int] = []

    async def ensure_network(self, subnet: str) -> Network:
        return NETWORK

    async def ensure_firewall(self, settings: Any, network: Network, port: int) -> bool:
        self.looks.append(port)
        await asyncio.sleep(0.01)
        if self.problem:
            raise FirewallMissing(self.problem, "Run it as root.")
        return len(self.looks) == 1


def pad(tmp_path: Path, engine: Engine, firewall: str, platform: Any = "desktop") -> LaunchPad:
    settings = from_mapping({"network": {"firewall": firewall}}, platform=platform, state_dir=tmp_path)
    ensure_state(settings)
    made = LaunchPad(settings)
    made.engine = engine  # type: ignore[assignment]
    return made


async def ready(made: LaunchPad) -> str:
    _, url = await made.ready_network("http://127.0.0.1:1", "/hub/")
    return url


async def test_each_start_looks_and_starts_at_one_time_share_a_look(tmp_path: Path) -> None:
    engine = Engine()
    made = pad(tmp_path, engine, "auto")
    url = await ready(made)
    assert engine.looks == [int(url.rpartition(":")[2])]
    await ready(made)
    assert len(engine.looks) == 2
    await asyncio.gather(*(ready(made) for _ in range(30)))
    # The first one's look began before the others had asked: one more serves them all.
    assert len(engine.looks) <= 4
    await made._gateway.close()


async def test_where_rules_are_required_a_start_without_them_is_refused(tmp_path: Path) -> None:
    made = pad(tmp_path, Engine("no rights"), "required")
    for _ in range(2):
        with pytest.raises(FirewallMissing, match="no rights"):
            await ready(made)
    await made._gateway.close()


async def test_where_they_are_not_a_start_goes_on_and_the_log_says_so_once(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    engine = Engine("no rights")
    made = pad(tmp_path, engine, "auto")
    with caplog.at_level(logging.WARNING):
        for _ in range(3):
            assert await ready(made)
    assert len(engine.looks) == 3
    assert [each.message for each in caplog.records] == [
        "Servers run without firewall rules: no rights Run it as root."
    ]
    await made._gateway.close()


async def test_switched_off_nothing_is_looked_at(tmp_path: Path) -> None:
    engine = Engine("no rights")
    made = pad(tmp_path, engine, "off", "tljh")
    assert await ready(made)
    assert engine.looks == []
    await made._gateway.close()
