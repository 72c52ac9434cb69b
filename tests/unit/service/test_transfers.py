"""Images as files, over the API: as long as they are, and never half of one taken for a whole."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import pytest_asyncio
from house import IMAGE, House, image_view, open_house

from tljh_plugin.cache.moves import Wanted
from tljh_plugin.errors import EngineError, Forbidden, InvalidRequest, NotVouchedFor, ServiceDown

LONG = 3_000_000  # more than any other body may have


@pytest_asyncio.fixture
async def house(tmp_path: Path) -> AsyncIterator[House]:
    async with open_house(tmp_path) as house:
        house.inventory.known = [image_view()]
        yield house


async def file(length: int = LONG) -> AsyncIterator[bytes]:
    for _ in range(0, length, 100_000):
        yield b"i" * 100_000


async def test_a_long_file_comes_in_whole(house: House) -> None:
    for client in (house.client("root"), house.own_client("root", admin=True)):
        async with client:
            image = await client.import_image(
                file(), trust=True, title="Our course", visibility="group", groups=["physics", "chemistry"]
            )
        assert image.id == IMAGE
        who, data, wanted = house.moves.received.pop()
        assert (who, len(data)) == ("root", LONG)
        assert wanted == Wanted(True, "Our course", "group", ("physics", "chemistry"))


async def test_a_refusal_is_told_after_a_long_file_too(house: House) -> None:
    house.moves.problem = NotVouchedFor("It came from elsewhere.", "Say that you trust it.")
    async with house.client("root") as client, house.own_client("root", admin=True) as own:
        for each in (client, own):
            with pytest.raises(NotVouchedFor):
                await each.import_image(file())
        house.moves.problem = None
        assert (await client.import_image(file(100_000))).id == IMAGE


async def test_who_is_no_administrator_sends_nothing(house: House) -> None:
    async with house.client("bob") as client:
        with pytest.raises((Forbidden, ServiceDown)):
            await client.import_image(file())
    assert house.moves.received == []


async def test_another_method_begins_no_import(house: House) -> None:
    async with house.client("root") as client:
        for method in ("OPTIONS", "PUT", "GET", "DELETE"):
            answer = await client._http.request(method, "api/v1/images/import")
            assert 400 <= answer.status_code < 500, method
    assert not [task for task in asyncio.all_tasks() if task.get_name() == "import of an image"]


async def test_what_is_asked_for_is_checked(house: House) -> None:
    async with house.client("root") as client:
        with pytest.raises((InvalidRequest, ServiceDown)):
            await client.import_image(file(100_000), visibility="nobody")  # type: ignore[arg-type]


async def test_an_image_goes_out(house: House) -> None:
    async with house.client("root") as client:
        data = b"".join([piece async for piece in client.export_image(IMAGE)])
        assert data == b"".join(bytes([number]) * 1000 for number in range(3))
        answer = await client._http.get(f"api/v1/images/{IMAGE}/export")
        assert answer.headers["Content-Disposition"] == 'attachment; filename="image.tar"'


async def test_an_export_that_breaks_off_does_not_look_whole(house: House) -> None:
    house.moves.problem = EngineError("Docker went away.", "Start it.")
    async with house.client("root") as client:
        with pytest.raises(ServiceDown):
            async for _ in client.export_image(IMAGE):
                pass
