"""Promises of exports and imports that need no Docker: what is told of them, and what is known already."""

from __future__ import annotations

import asyncio
import io
import json
import tarfile
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import suppress
from dataclasses import replace
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import pytest
from small_docker import SmallDocker
from waiting import until

from tljh_plugin.build.check import CheckResult
from tljh_plugin.build.identity import ImageIdentity, labels_for
from tljh_plugin.cache import leases, moves
from tljh_plugin.cache.claims import blank_row
from tljh_plugin.cache.inventory import Inventory
from tljh_plugin.cache.leases import Leases
from tljh_plugin.cache.moves import Moves, Wanted
from tljh_plugin.engine import Engine, ImageFacts
from tljh_plugin.errors import (
    BadImageFile,
    DiskLow,
    EngineError,
    EngineTimedOut,
    EngineUnavailable,
    InvalidRequest,
)
from tljh_plugin.installation import ensure_state, secret
from tljh_plugin.settings import Settings, from_mapping
from tljh_plugin.source.spec import parse_link
from tljh_plugin.store import ImageRow, Store
from tljh_plugin.wire import Person

ROOT = Person(name="root", admin=True)
CONFIG = "c0" * 32
ID = f"sha256:{CONFIG}"
SPEC = parse_link("gh/a/b/" + "c" * 40)
IDENTITY = ImageIdentity(SPEC.normal_url, "c" * 40, "", "linux/amd64")
LAYERS = ("sha256:1",)


class Docker(SmallDocker):
    """With one image, which it saves and loads; `breaks` is after how many pieces of it Docker goes away."""

    def __init__(self, labels: dict[str, str]) -> None:
        super().__init__()
        self.labels = labels
        self.breaks = -1
        self.loaded = b""
        self.unpacking: BaseException | None = None  # what happens while it unpacks, which it goes on with

    async def image(self, ref: str) -> ImageFacts | None:
        for key, names in self.names.items():
            if ref == key or ref in names:
                return ImageFacts(key, tuple(names), self.labels, 1, "", {}, "", "", (), (), LAYERS, "amd64")
        return None

    async def save(self, image_id: str) -> AsyncGenerator[bytes, None]:
        for number, piece in enumerate([SAVED[:5000], SAVED[5000:]]):
            if number == self.breaks:
                raise EngineError("Docker went away.", "Start it.")
            yield piece

    async def load(self, pieces: AsyncIterator[bytes]) -> None:
        async for piece in pieces:
            self.loaded += piece
        if self.unpacking is not None:
            raise self.unpacking
        self.names[ID] = []

    async def tag(self, image_id: str, name: str) -> None:
        self.names[image_id].append(name)

    async def untag(self, name: str) -> None:
        for names in self.names.values():
            with suppress(ValueError):
                names.remove(name)
        self.names = {key: names for key, names in self.names.items() if names}


def saved() -> bytes:
    """What `docker save` gives."""
    said = [{"Config": f"{CONFIG}.json", "RepoTags": None, "Layers": ["layer.tar"]}]
    members = {f"{CONFIG}.json": b"{}", "layer.tar": b"l" * 9000, "manifest.json": json.dumps(said).encode()}
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w") as made:
        for name, data in members.items():
            entry = tarfile.TarInfo(name)
            entry.size = len(data)
            made.addfile(entry, io.BytesIO(data))
    return out.getvalue()


SAVED = saved()


class Place:
    """One installation, with the image in its list and in its Docker."""

    def __init__(self, settings: Settings, store: Store) -> None:
        self.settings, self.store = settings, store
        labels = labels_for(IDENTITY, spec=SPEC.path, ref="main", recipe="r", secret=secret(settings))
        self.docker = Docker(labels)
        self.docker.add(ID, "littlest-binder/a-b:1")
        docker: Any = self.docker
        inventory = Inventory(store, docker, period_s=3600)
        self.moves = Moves(settings, store, docker, inventory, Leases(store))

    async def exported(self) -> bytes:
        async with self.moves.export(ROOT, ID) as export:
            return b"".join([piece async for piece in export.pieces])

    async def told(self, what: str) -> list[str]:
        return [entry.result for entry in reversed(await self.store.audit_entries()) if entry.what == what]

    async def row(self) -> ImageRow:
        row = await self.store.image(ID)
        assert row
        return row


@pytest.fixture
async def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Place]:
    async def starts(engine: Engine, settings: Settings, image_id: str) -> CheckResult:
        return CheckResult(ok=True, home="/home/jovyan", workdir="/home/jovyan", seconds=0.1)

    monkeypatch.setattr(moves, "try_start", starts)
    settings = from_mapping({"build": {"disk_reserve_bytes": 0}}, platform="desktop", state_dir=tmp_path)
    ensure_state(settings)
    store = await Store.open(tmp_path / "store.sqlite")
    row = blank_row(IDENTITY, SPEC, ref="main", recipe="r")
    row = replace(row, image_id=ID, name="littlest-binder/a-b:1", title="Course", built_by="ann")
    await store.record_image(row, "ann", "image.restore")
    yield Place(settings, store)
    await store.close()


async def content(data: bytes) -> AsyncIterator[bytes]:
    for begin in range(0, len(data), 3000):
        yield data[begin : begin + 3000]


async def test_an_export_is_done_when_all_of_it_was_taken(place: Place) -> None:
    await place.exported()
    assert await place.told("image.export") == ["begun", "done"]


async def test_an_export_that_nobody_takes_to_its_end_broke_off(place: Place) -> None:
    async with place.moves.export(ROOT, ID) as export:
        assert await anext(export.pieces)
    assert await place.told("image.export") == ["begun", "broke off"]
    assert await place.store.leases() == []


@pytest.mark.parametrize("handled", [True, False])
async def test_an_export_in_which_docker_goes_away_broke_off(place: Place, handled: bool) -> None:
    place.docker.breaks = 1
    if handled:  # as the API does, whose answer has begun
        async with place.moves.export(ROOT, ID) as export:
            with pytest.raises(EngineError):
                _ = [piece async for piece in export.pieces]
    else:
        with pytest.raises(EngineError):
            await place.exported()
    assert await place.told("image.export") == ["begun", "broke off"]


@pytest.mark.parametrize(
    "wanted",
    [Wanted(title="Other"), Wanted(visibility="private"), Wanted(visibility="group", groups=("physics",))],
)
async def test_what_is_in_the_list_is_not_changed_in_silence(place: Place, wanted: Wanted) -> None:
    data, before = await place.exported(), await place.row()
    with pytest.raises(InvalidRequest, match="in the list already"):
        await place.moves.receive(ROOT, content(data), wanted)
    assert await place.row() == before
    assert await place.told("image.import") == ["invalid-request"]


@pytest.mark.parametrize("wanted", [Wanted(), Wanted(title="Course", visibility="everyone")])
async def test_what_is_in_the_list_may_come_in_again(place: Place, wanted: Wanted) -> None:
    data = await place.exported()
    assert await place.moves.receive(ROOT, content(data), wanted) == ID
    assert place.docker.loaded == b""
    with pytest.raises(BadImageFile):
        await place.moves.receive(ROOT, content(data[:-5000]), wanted)


async def test_what_docker_had_lost_gets_the_name_that_its_record_has(place: Place) -> None:
    data = await place.exported()
    place.docker.names.clear()
    assert await place.moves.receive(ROOT, content(data), Wanted()) == ID
    row = await place.row()
    assert place.docker.names[ID] == [row.name]
    assert (row.title, row.built_by) == ("Course", "ann")


async def test_what_came_from_a_file_is_known_as_that(place: Place) -> None:
    data = await place.exported()
    await place.store.forget_image(ID)
    place.docker.names.clear()
    assert await place.moves.receive(ROOT, content(data), Wanted()) == ID
    assert (await place.row()).imported


async def test_an_export_holds_its_image_for_as_long_as_it_takes(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    """And not for hours after the service was killed."""
    in_seconds = leases._in
    monkeypatch.setattr(leases, "_in", lambda seconds: in_seconds(seconds + 3600))  # a slow machine has time
    monkeypatch.setattr(moves, "_LEASE_S", 0.4)
    async with place.moves.export(ROOT, ID) as export:
        [first] = await place.store.leases()

        async def is_renewed() -> bool:
            return [each.until > first.until for each in await place.store.leases()] == [True]

        await until(is_renewed)
        assert await anext(export.pieces)
    assert await place.store.leases() == []


async def notes(place: Place) -> list[str]:
    return [name for name in await place.store.notes() if name.startswith("import")]


@pytest.mark.parametrize(
    "happens", [asyncio.CancelledError(), EngineTimedOut("It is slow.", ""), EngineUnavailable("Away.", "")]
)
async def test_what_docker_makes_of_an_import_that_nobody_waits_for_is_removed(
    place: Place, happens: BaseException
) -> None:
    data = await place.exported()
    await place.store.forget_image(ID)
    place.docker.names.clear()
    place.docker.unpacking = happens
    with pytest.raises(type(happens)):
        await place.moves.receive(ROOT, content(data), Wanted())
    await place.moves.recover()
    assert len(await notes(place)) == 1
    place.docker.names[ID] = []  # Docker is done
    await place.moves.recover()
    assert place.docker.names == {}
    assert await notes(place) == []


async def test_who_goes_before_docker_has_all_leaves_nothing_to_wait_for(place: Place) -> None:
    data = await place.exported()
    await place.store.forget_image(ID)
    place.docker.names.clear()

    async def cut_off() -> AsyncIterator[bytes]:
        async for piece in content(data[:-5000]):
            yield piece
        raise asyncio.CancelledError

    with pytest.raises(asyncio.CancelledError):
        await place.moves.receive(ROOT, cut_off(), Wanted())
    assert await notes(place) == []


async def test_an_import_is_over_when_docker_said_so_or_has_not_all_of_it(place: Place) -> None:
    data = await place.exported()
    await place.store.forget_image(ID)
    place.docker.names.clear()
    with pytest.raises(BadImageFile):
        await place.moves.receive(ROOT, content(data[:-5000]), Wanted())
    assert await notes(place) == []
    place.docker.unpacking = EngineError("No room.", "")
    with pytest.raises(EngineError):
        await place.moves.receive(ROOT, content(data), Wanted())
    assert await notes(place) == []


async def test_what_never_came_is_not_waited_for_without_end(place: Place) -> None:
    begun = (datetime.now(timezone.utc) - timedelta(hours=1)).isoformat()
    await place.store.set_note("import sha256:1", f"littlest-binder/building:import-1 {begun}")
    await place.store.set_note("import sha256:2", "littlest-binder/building:import-1")
    await place.moves.recover()
    assert await notes(place) == []


async def test_room_is_needed_for_the_file_and_for_the_layers(place: Place) -> None:
    row = await place.row()
    data = await place.exported()  # says that the image has 1 byte
    await place.store.forget_image(ID)
    place.docker.names.clear()
    place.docker.disk = 1
    with pytest.raises(DiskLow):
        await place.moves.receive(ROOT, content(data), Wanted())
    assert (place.docker.loaded, await notes(place)) == (b"", [])
    # What is there needs none.
    await place.store.record_image(row, "root", "image.restore")
    place.docker.add(ID, row.name)
    assert await place.moves.receive(ROOT, content(data), Wanted()) == ID


async def test_a_disk_that_gets_full_meanwhile_ends_the_import(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(moves, "_LOOK_AFTER", 6000)
    data = await place.exported()
    await place.store.forget_image(ID)
    place.docker.names.clear()

    async def filled() -> AsyncIterator[bytes]:
        async for piece in content(data):
            yield piece
            if place.docker.loaded:
                place.docker.disk = -1

    with pytest.raises(DiskLow):
        await place.moves.receive(ROOT, filled(), Wanted())
    assert len(place.docker.loaded) < len(SAVED)
    assert (place.docker.names, await notes(place)) == ({}, [])
