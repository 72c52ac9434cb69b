"""The machine's clock is set back: what was promised for some time is not promised for longer, nothing is
lost, and what came later is still known to have come later.
"""

from __future__ import annotations

import time
from collections.abc import AsyncIterator
from datetime import datetime, timedelta, timezone
from pathlib import Path

import docker
import pytest
import pytest_asyncio
from machine import Machine, content
from private_docker import PrivateDocker
from waiting import until
from warm_python import MovedClock

from tljh_plugin import desktop
from tljh_plugin.build.log import BuildLog
from tljh_plugin.cache import leases as leases_module
from tljh_plugin.cache.leases import Leases
from tljh_plugin.desktop import new_link, use_code
from tljh_plugin.hub_api import HubServer, HubUser
from tljh_plugin.installation import ensure_state
from tljh_plugin.service.tidying import forgotten, told
from tljh_plugin.settings import Settings, from_mapping
from tljh_plugin.store import ProjectRow, Store, rows


class Clock:
    """The wall clock as `datetime.now` and `time.time` tell it, moved by `offset`."""

    def __init__(self) -> None:
        self.offset = timedelta(0)

    def set_back(self, **by: float) -> None:
        self.offset -= timedelta(**by)


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    moved = Clock()

    class Moved(datetime):
        @classmethod
        def now(cls, tz: object = None) -> datetime:  # type: ignore[override]
            return datetime.now(timezone.utc) + moved.offset

    for module in (rows, leases_module):
        monkeypatch.setattr(module, "datetime", Moved)
    wall = time.time
    monkeypatch.setattr(time, "time", lambda: wall() + moved.offset.total_seconds())
    return moved


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    made = from_mapping(
        {"desktop": {"sign_in_link_s": 600}}, platform="desktop", state_dir=tmp_path, owner="root"
    )
    ensure_state(made)
    return made


@pytest.fixture
async def store(tmp_path: Path) -> AsyncIterator[Store]:
    opened = await Store.open(tmp_path / "store.sqlite")
    yield opened
    await opened.close()


def code_of(link: str) -> str:
    return link.split("code=")[1].split("&")[0]


def test_a_sign_in_link_ends_when_it_was_said_to(
    clock: Clock, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    good, late = (code_of(new_link(settings)) for _ in range(2))
    clock.set_back(hours=1)
    assert use_code(settings, good)
    boot = time.clock_gettime(time.CLOCK_BOOTTIME)
    monkeypatch.setattr(desktop, "_uptime", lambda: boot + 601)
    assert not use_code(settings, late)


def test_a_sign_in_link_does_not_outlive_the_machines_run(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    code = code_of(new_link(settings))
    monkeypatch.setattr(desktop, "boot_id", lambda: "another")
    assert not use_code(settings, code)


async def test_a_lease_protects_its_start_and_ends_with_it(clock: Clock, store: Store) -> None:
    leases = Leases(store)
    lease = await leases.take("sha256:0", 3600, "ann/one")
    clock.set_back(days=2)
    assert await leases.held("sha256:0")
    over = told([HubUser(name="ann", servers={"one": HubServer(name="one", ready=True)})])
    assert forgotten(await store.leases(), over) == [lease]


async def test_a_log_goes_on_with_the_next_number_and_a_reader_resumes(clock: Clock, tmp_path: Path) -> None:
    log = BuildLog(tmp_path / "b.jsonl")
    await log.open()
    log.append("building", "before")
    clock.set_back(hours=3)
    log.append("building", "after")
    log.append("built", "done")
    await log.close()
    lines = [line async for line in BuildLog(tmp_path / "b.jsonl").follow(1)]
    assert [(line.n, line.text) for line in lines] == [(2, "after"), (3, "done")]


async def test_the_project_that_was_used_last_is_the_one_that_was_used_last(
    clock: Clock, store: Store
) -> None:
    def project(identifier: str) -> ProjectRow:
        return ProjectRow(
            id=identifier, owner="ann", repository="https://example.org/r", spec="gh/a/r/main",
            commit="c" * 40, subdir="", image_id="sha256:0", path=f"/{identifier}", created=rows.utc_now(),
        )  # fmt: skip

    for each in ("first", "second"):
        await store.add_project(project(each))
    await store.use_project("ann", "first", "sha256:0")
    clock.set_back(days=1)
    await store.use_project("ann", "second", "sha256:0")
    last = max(await store.projects("ann"), key=lambda row: row.last_used)
    assert last.id == "second"


@pytest_asyncio.fixture(loop_scope="session")
async def moved(machine: Machine, tmp_path: Path) -> AsyncIterator[MovedClock]:
    """The time of day of hub and service; both are new ones afterwards."""

    async def start_again(clock: MovedClock | None) -> None:
        machine.brisk, machine.clock = True, clock
        await machine.kill_service()
        await machine.kill_hub()
        await machine.start_hub()
        await machine.start_service()

    clock = MovedClock(tmp_path / "clock")
    await start_again(clock)
    yield clock
    await start_again(None)


@pytest.mark.docker
@pytest.mark.hub
@pytest.mark.asyncio(loop_scope="session")
async def test_hub_and_service_go_on_when_the_clock_goes_back(
    machine: Machine, moved: MovedClock, private_docker: PrivateDocker
) -> None:
    spec = machine.specs[0]
    await machine.ready("stays", spec)
    await machine.ready("deleted", machine.repository())
    await machine.gone("deleted")
    name = machine.specs[-1].split("%2F")[-1].split("/")[0]
    [(project, home)] = [each for each in machine.projects().items() if each[0].startswith(name)]
    files = content(home)
    async with machine.client() as client:
        deleted = await client.delete_project(project.split()[0])

    moved.move(-timedelta(days=1).total_seconds())
    await machine.ready("later", machine.repository())
    before, after = (row["created"] for row in machine.rows("SELECT created FROM builds ORDER BY rowid")[-2:])
    assert after < before, "their clock was not set back"
    async with machine.client() as client:
        assert [each.id for each in await client.deleted_projects()] == [deleted.id]
        await client.undelete_project(deleted.id)
    assert content(home) == files
    await machine.sound()
    # Both are still looked after: what ends is noticed, and starts again.
    await end_container(machine, private_docker, "stays")
    async with machine.hub_api as api:

        async def noticed() -> bool:
            found = await api.server("ann", "stays")
            return found is None or not found.active

        await until(noticed)
    await machine.ready("stays")
    for each in ("stays", "later"):
        await machine.gone(each)
    await machine.sound()


async def end_container(machine: Machine, private_docker: PrivateDocker, server: str) -> None:
    """As a crash does, behind the hub's back."""
    container = await machine.container(server)
    client = docker.APIClient(base_url=private_docker.host)
    try:
        client.kill(container)
    finally:
        client.close()
