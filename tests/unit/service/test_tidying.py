"""What is left over by a start, decided from what the hub says."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from tljh_plugin.cache.inventory import PERSON_LABEL, SERVER_LABEL
from tljh_plugin.engine import ContainerRow
from tljh_plugin.hub_api import HubServer, HubUser
from tljh_plugin.service.tidying import Tidying, forgotten, strays, told
from tljh_plugin.store import LeaseRow

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
