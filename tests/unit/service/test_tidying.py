"""What is left over by a start, decided from what the hub says."""

from __future__ import annotations

from tljh_plugin.cache.inventory import PERSON_LABEL, SERVER_LABEL
from tljh_plugin.engine import ContainerRow
from tljh_plugin.hub_api import HubServer, HubUser
from tljh_plugin.service.tidying import forgotten, strays, told
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
