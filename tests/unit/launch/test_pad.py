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


class Guarded(Engine):
    """Whose network is there or not, and whose rules somebody takes away."""

    def __init__(self) -> None:
        super().__init__()
        self.there: Network | None = NETWORK
        self.asked = 0
        self.made = 0
        self.gone = False

    async def network(self) -> Network | None:
        self.asked += 1
        return self.there

    async def ensure_network(self, subnet: str) -> Network:
        self.made += 1
        self.there = NETWORK
        return NETWORK

    async def ensure_firewall(self, settings: Any, network: Network, port: int) -> bool:
        await super().ensure_firewall(settings, network, port)
        gone, self.gone = self.gone, False
        return gone or len(self.looks) == 1


async def test_rules_that_were_taken_away_are_set_again_said_and_counted(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    engine = Guarded()
    made = pad(tmp_path, engine, "required")
    counter = made.metrics.firewall_restored.of()
    before = counter._value.get()
    with caplog.at_level(logging.INFO):
        assert await made._look_at_firewall(True)
        assert await made._look_at_firewall(False)
        engine.gone = True
        assert await made._look_at_firewall(False)
    assert [each.message for each in caplog.records] == [
        f"Firewall rules for servers were set on {NETWORK.bridge}",
        f"The firewall rules of servers were gone from {NETWORK.bridge}; they are set again",
    ]
    assert counter._value.get() == before + 1
    assert engine.asked == 1  # Docker, that is; the kernel each time
    assert len(engine.looks) == 3


async def test_where_no_server_ever_ran_there_is_nothing_to_guard(tmp_path: Path) -> None:
    engine = Guarded()
    engine.there = None
    made = pad(tmp_path, engine, "required")
    assert not await made._look_at_firewall(True)
    assert not await made._look_at_firewall(False)
    assert (engine.asked, engine.made, engine.looks) == (1, 0, [])


async def test_where_builds_have_the_servers_rules_these_are_there_before_the_first_server(
    tmp_path: Path,
) -> None:
    engine = Guarded()
    engine.there = None
    network = {"network": {"firewall": "required", "builds": "as-servers"}}
    settings = from_mapping(network, platform="tljh", state_dir=tmp_path)
    ensure_state(settings)
    made = LaunchPad(settings)
    made.engine = engine  # type: ignore[assignment]
    assert await made._look_at_firewall(True)
    assert (engine.made, engine.looks) == (1, [0])


async def test_rules_that_cannot_be_kept_are_told_once_and_end_no_server(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    engine = Guarded()
    made = pad(tmp_path, engine, "required")
    assert await made._look_at_firewall(True)
    engine.problem = "another program fights with us"
    with caplog.at_level(logging.INFO):
        for _ in range(3):
            assert await made._look_at_firewall(False)
        engine.problem = ""
        assert await made._look_at_firewall(False)
    assert [each.message.partition(":")[0] for each in caplog.records] == [
        "The firewall rules of servers cannot be kept",
        f"The firewall rules of servers are in force on {NETWORK.bridge}",
    ]


def test_reading_a_configuration_guards_nothing(tmp_path: Path) -> None:
    engine = Guarded()
    made = pad(tmp_path, engine, "required")
    made.guard()
    assert made._guard is None
    assert engine.asked == 0
