"""What is left over by a start, decided from what the hub says."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from small_docker import SmallDocker

from tljh_plugin.cache.leases import Leases
from tljh_plugin.engine import ContainerRow
from tljh_plugin.hub_api import HubServer, HubUser
from tljh_plugin.labels import PERSON_LABEL, SERVER_LABEL
from tljh_plugin.service import tidying as module
from tljh_plugin.service.tidying import Tidying, forgotten, strays, told
from tljh_plugin.store import LeaseRow, Store

HUB = told(
    [
        HubUser(
            name="ann",
            servers={
                "runs": HubServer(name="runs", ready=True),
                "starts": HubServer(name="starts", pending="spawn"),
                "over": HubServer(name="over", stopped=True),
            },
        )
    ]
)


def container(server: str) -> ContainerRow:
    return ContainerRow(server, server, "sha256:0", {PERSON_LABEL: "ann", SERVER_LABEL: server}, "running")


def test_a_container_that_the_hub_does_not_run_goes_at_the_second_look() -> None:
    rows = [container(name) for name in ("runs", "starts", "over", "unheard-of")]
    assert strays(rows, HUB, ()) == (set(), {"over", "unheard-of"})
    assert strays(rows, HUB, {"over"}) == ({"over"}, {"unheard-of"})


def test_a_lease_ends_with_the_start_it_was_for() -> None:
    leases = [LeaseRow(name, "sha256:0", "", f"ann/{name}") for name in ("runs", "starts", "over")]
    assert forgotten([*leases, LeaseRow("nobody's", "sha256:0", "", "")], HUB) == ["runs", "over"]


async def test_a_mistake_in_one_part_is_told_and_keeps_no_other_from_being_looked_at(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    looked: list[str] = []

    async def looks(what: str) -> None:
        looked.append(what)
        if what == "builds":
            raise ValueError("not foreseen")

    def part(what: str) -> Any:
        return lambda: looks(what)

    for name in ("_tidy_projects", "_tidy_starts"):
        monkeypatch.setattr(Tidying, name, lambda _, what=name: looks(what))
    others: Any = SimpleNamespace(recover=part("imports"), tidy=part("others"))
    queue: Any = SimpleNamespace(tidy=part("builds"))
    nobody: Any = None
    tidying = Tidying(nobody, nobody, nobody, nobody, queue, nobody, nobody, others, others, others)
    await tidying.round()
    assert looked == ["builds", "_tidy_projects", "imports", "_tidy_starts", "others", "others"]
    assert "What builds may have left was not looked for" in caplog.text


class Asked:
    """A hub that counts the questions."""

    def __init__(self) -> None:
        self.times = 0
        self.servers = {"one": HubServer(name="one", ready=True)}

    async def users(self) -> list[HubUser]:
        self.times += 1
        return [HubUser(name="ann", servers=self.servers)]


class Removing(SmallDocker):
    async def remove(self, container: str) -> None:
        self.used_by = [each for each in self.used_by if each.id != container]


async def test_the_hub_is_not_asked_every_ten_seconds_for_servers_that_it_knew(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each question is all people from its database, and a line in its journal."""
    now = 1000.0
    monkeypatch.setattr(module, "time", SimpleNamespace(monotonic=lambda: now))
    docker, hub, nothing = Removing(), Asked(), SimpleNamespace()
    any_docker: Any = docker
    any_hub: Any = hub
    unused: Any = nothing
    store = await Store.open(tmp_path / "store.sqlite")
    leases = Leases(store)
    look = Tidying(
        unused, store, any_docker, any_hub, unused, unused, leases, unused, unused, unused
    )._tidy_starts
    try:
        await look()
        assert hub.times == 0, "nothing runs"
        docker.run("sha256:0", "one", kind="server", person="ann", server="one")
        for _ in range(3):
            await look()
        assert hub.times == 1
        docker.run("sha256:0", "left", kind="server", person="ann", server="left")
        await look()
        await look()
        assert (hub.times, [each.id for each in docker.used_by]) == (3, ["one"]), "a new one at once"
        await look()
        assert hub.times == 3
        lease = await leases.take("sha256:0", 60, "ann/one")
        await look()
        assert hub.times == 4, "a start"
        await leases.release(lease)
        del hub.servers["one"]
        await look()
        assert hub.times == 4
        now += module.KNOWN_S
        for _ in range(2):
            await look()
        assert docker.used_by == [], "what the hub forgot is found all the same"
    finally:
        await store.close()
