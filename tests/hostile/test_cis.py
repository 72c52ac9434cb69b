"""The container section of the CIS Docker Benchmark, on a running server of a real hub."""

from __future__ import annotations

from collections.abc import AsyncIterator

import docker
import pytest
import pytest_asyncio
from cis import ITEMS, PAGE, Item, Server, page
from inside import Inside
from running_hub import RunningHub

from tljh_plugin.engine.kernel import look


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def server(
    base_image: str, client: docker.APIClient, tmp_path_factory: pytest.TempPathFactory
) -> AsyncIterator[Server]:
    async with RunningHub(tmp_path_factory.mktemp("hub")) as hub:
        found = (
            await Inside(hub, hub.owner, "one").open(client, {"repository": "gh/test/hit/main"})
        ).container
        seen = look(found)
        assert seen is not None
        running = tuple(" ".join(row) for row in client.top(found["Id"])["Processes"])
        yield Server(found, seen, client.info(), running)


@pytest.mark.docker
@pytest.mark.hub
@pytest.mark.asyncio(loop_scope="module")
@pytest.mark.parametrize("item", ITEMS, ids=lambda item: f"{item.number} {item.subject}")
async def test_each_item_is_met_or_explained(item: Item, server: Server) -> None:
    """An explanation of what is met by now is no longer true."""
    assert item.is_met(server) is not bool(item.instead)


def test_the_benchmarks_items_are_all_there() -> None:
    assert [item.number for item in ITEMS] == [f"5.{number}" for number in range(1, 33)]
    assert all(bool(item.how) is not bool(item.instead) for item in ITEMS)


def test_the_page_is_what_the_items_say() -> None:
    assert PAGE.read_text(encoding="utf-8") == page(), "run `python tests/cis.py`"
