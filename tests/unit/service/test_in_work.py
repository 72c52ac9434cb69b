"""When the service ends or begins anew, what came in before is answered first."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest
from house import House
from waiting import until

from tljh_plugin.errors import ServiceDown
from tljh_plugin.service import app
from tljh_plugin.wire import ResolveView

REPOSITORY = "https://github.com/owner/repo/tree/main"


@asynccontextmanager
async def asking(house: House) -> AsyncIterator[tuple[asyncio.Event, asyncio.Task[ResolveView]]]:
    """A request that is in work until the event is set."""
    house.resolver.hold = asyncio.Event()
    async with house.own_client("ann") as client:
        asked = asyncio.create_task(client.resolve(REPOSITORY))
        await until(lambda: house.resolver.asked)
        yield house.resolver.hold, asked


async def test_a_request_that_is_in_work_gets_its_answer(house: House) -> None:
    async with asking(house) as (hold, asked):
        going = asyncio.create_task(house.go())
        await asyncio.sleep(0.1)
        assert not going.done()
        hold.set()
        assert (await asked).commit == house.resolver.commit
        await going


async def test_one_that_takes_too_long_is_cut_off(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(app, "_LAST_ANSWERS_S", 0.2)
    async with asking(house) as (hold, asked):
        await house.go()
        with pytest.raises(ServiceDown):
            await asked
        hold.set()


async def test_one_whose_reader_is_gone_holds_nothing_up(house: House) -> None:
    async with asking(house) as (hold, asked):
        asked.cancel()
        hold.set()
    await asyncio.wait_for(house.go(), 4)


async def test_the_last_answers_close_their_connections(house: House) -> None:
    """Who keeps one, as proxies do, would send the next request into it as it is closed."""
    async with asking(house) as (hold, asked), house.own_client("bob") as other:
        first = await other._http.get("api/v1/projects")
        assert first.headers.get("Connection", "") != "close"
        going = asyncio.create_task(house.go())
        await asyncio.sleep(0.1)
        last = await other._http.get("api/v1/projects")
        assert (last.status_code, last.headers["Connection"]) == (200, "close")
        hold.set()
        await asked
        await going


async def test_streams_are_not_waited_for(house: House) -> None:
    """They last as long as what they tell of, and who reads one comes back for the rest."""
    async with house.own_client("ann") as client:
        started = await client._http.send(
            client._http.build_request("GET", "api/v1/launches/none/events"), stream=True
        )
        begun = asyncio.get_running_loop().time()
        await house.go()
        assert asyncio.get_running_loop().time() - begun < 4
        await started.aclose()
