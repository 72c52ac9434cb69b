"""The firewall rules of servers come back while a hub runs, and the hub counts what it does."""

from __future__ import annotations

import subprocess
from collections.abc import AsyncIterator
from pathlib import Path

import docker
import httpx
import pytest
from running_hub import RunningHub
from waiting import LONG_S, until

from tljh_plugin.engine import Engine, firewall
from tljh_plugin.engine.firewall_rules import prefix
from tljh_plugin.engine.network import bridge_name
from tljh_plugin.installation import instance_id
from tljh_plugin.labels import INSTANCE_LABEL

pytestmark = [pytest.mark.docker, pytest.mark.hub]

HIT = {"repository": "gh/test/hit/main", "storage": "ephemeral"}


@pytest.fixture
async def hub(tmp_path: Path, base_image: str) -> AsyncIterator[RunningHub]:
    settings = {"network": {"firewall": "required"}}
    environment = {"TEST_KEEP_SERVERS": "1"}
    async with RunningHub(tmp_path, settings=settings, environment=environment) as running:
        yield running
        for name in [
            each for each, found in (await running.api().servers(running.owner)).items() if found.active
        ]:
            await running.api().stop(running.owner, name)


def run(*command: str) -> str:
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout


async def metrics(hub: RunningHub) -> dict[str, float]:
    """What the hub tells Prometheus of our servers."""
    token = {"Authorization": f"token {await hub.person(hub.owner)}"}
    async with httpx.AsyncClient(headers=token, timeout=LONG_S) as http:
        answer = await http.get(f"http://127.0.0.1:{hub.port}/hub/metrics")
    answer.raise_for_status()
    lines = [line for line in answer.text.splitlines() if line.startswith("littlest_binder_hub_")]
    return {name: float(value) for name, _, value in (line.rpartition(" ") for line in lines)}


async def test_rules_return_while_a_server_runs_and_over_a_restart_of_the_hub(
    hub: RunningHub, client: docker.APIClient
) -> None:
    instance = instance_id(hub.settings)
    own = prefix(bridge_name(instance))
    await hub.api().start(hub.owner, "one", HIT)
    last = [event async for event in hub.api().progress(hub.owner, "one")][-1]
    assert last.get("ready"), hub.log
    [row] = client.containers(filters={"label": f"{INSTANCE_LABEL}={instance}"})
    assert row["Labels"]["org.littlest-binder.request"] in hub.log
    assert await firewall.missing(instance) == ""

    async def in_force() -> bool:
        return await firewall.missing(instance) == "" and f"-A {own}OUT" in run("iptables-save")

    for number, harm in enumerate(
        [
            ("iptables", "-D", "INPUT", "-j", f"{own}IN"),
            ("ip6tables", "-D", "INPUT", "-j", f"{own}IN"),
            ("iptables", "-F", f"{own}OUT"),
        ]
    ):
        run(*harm)
        await until(lambda: hub.log.count("The firewall rules of servers were gone") > number)  # noqa: B023
        await until(in_force)
    counted = await metrics(hub)
    assert counted["littlest_binder_hub_firewall_restored_total"] == 3
    assert counted['littlest_binder_hub_starts_total{outcome="ready"}'] == 1
    assert counted['littlest_binder_hub_start_seconds_count{part="first answer"}'] == 1
    assert counted['littlest_binder_hub_docker_seconds_count{call="start"}'] == 1

    await hub.stop()
    run("iptables", "-D", "INPUT", "-j", f"{own}IN")
    await hub.start_again()
    await until(in_force)  # nobody has started anything
    assert client.containers(filters={"label": f"{INSTANCE_LABEL}={instance}"})[0]["Id"] == row["Id"]


async def test_rules_can_be_listed_and_removed_without_docker(hub: RunningHub) -> None:
    await hub.api().start(hub.owner, "one", HIT)
    assert [event async for event in hub.api().progress(hub.owner, "one")][-1].get("ready"), hub.log
    await hub.stop()
    engine = Engine(instance_id(hub.settings), base_url="unix:///nowhere.sock")
    own = prefix(bridge_name(engine.instance))
    rules = await engine.firewall_rules()
    assert f"iptables -A INPUT -j {own}IN" in rules
    assert f"ip6tables -A INPUT -j {own}IN" in rules
    assert all(own in rule for rule in rules)
    await engine.remove_firewall()
    assert await engine.firewall_rules() == ()
    assert own not in run("iptables-save") + run("ip6tables-save")
    await engine.close()
    await hub.start_again()
