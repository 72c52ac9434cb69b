"""Promises of the recorder: whatever order Docker tells things in, and whoever was away, a server's time is
counted once and not longer than it was seen.
"""

from __future__ import annotations

import random
from collections.abc import AsyncIterator
from dataclasses import replace
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

import pytest
from small_docker import SmallDocker
from waiting import until

from tljh_plugin.cache.inventory import Inventory
from tljh_plugin.engine import ContainerRow, EngineEvent
from tljh_plugin.errors import EngineUnavailable
from tljh_plugin.labels import INSTANCE_LABEL, KIND_LABEL
from tljh_plugin.launch.running import Running, of_labels
from tljh_plugin.moments import as_stored, read_moment
from tljh_plugin.service import recorder as recording
from tljh_plugin.service.recorder import Recorder
from tljh_plugin.store import ServerRun, Store, utc_now

EARLY, LATE = "2000-01-01T00:00:00.000+00:00", "2999-01-01T00:00:00.000+00:00"
HELD = Running("ann", "one", 512 * 1024**2, 0.5, "small", groups=("physics", "über"))
START = 1_790_000_000.0  # in 2026


def moment(seconds: float) -> str:
    return as_stored(datetime.fromtimestamp(START + seconds, timezone.utc))


class Docker(SmallDocker):
    """Has servers that start and end."""

    def __init__(self) -> None:
        super().__init__()
        self.states: dict[str, dict[str, Any]] = {}

    def labels(self, held: Running = HELD) -> dict[str, str]:
        return {INSTANCE_LABEL: self.instance, KIND_LABEL: "server", **held.labels()}

    def start(self, name: str, seconds: float) -> EngineEvent:
        self.used_by.append(ContainerRow(name, name, "sha256:1", self.labels(), "running"))
        self.states[name] = {
            "StartedAt": f"{moment(seconds)[:-6]}456789Z",
            "FinishedAt": "0001-01-01T00:00:00Z",
        }
        return EngineEvent(
            "container", "start", name, {**self.labels(), "image": "sha256:1"}, START + seconds
        )

    def die(self, name: str, seconds: float, *, remove: bool = True) -> EngineEvent:
        row = next(each for each in self.used_by if each.id == name)
        self.used_by.remove(row)
        if not remove:
            self.used_by.append(replace(row, state="exited"))
            self.states[name]["FinishedAt"] = f"{moment(seconds)[:-6]}456789Z"
        return EngineEvent("container", "die", name, {**self.labels(), "image": "sha256:1"}, START + seconds)

    async def inspect(self, container: str) -> dict[str, Any] | None:
        self._answer("inspect")
        state = self.states.get(container)
        return None if state is None else {"State": state}


class Place:
    def __init__(self, store: Store) -> None:
        self.store = store
        self.docker = Docker()
        self.recorder = self.again()

    def again(self) -> Recorder:
        """Another one, as after a restart of the service."""
        engine: Any = self.docker
        return Recorder(self.store, engine, period_s=3600)

    async def runs(self) -> list[ServerRun]:
        return await self.store.server_runs.between(EARLY, LATE)


@pytest.fixture
async def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Place]:
    monkeypatch.setattr(recording, "_booted", lambda: EARLY)
    store = await Store.open(tmp_path / "store.sqlite")
    yield Place(store)
    await store.close()


def test_the_container_itself_says_in_which_groups_its_person_was() -> None:
    assert of_labels(HELD.labels()) == HELD
    assert of_labels({**HELD.labels(), "org.littlest-binder.groups": "{"}) is None


async def test_events_alone_tell_whose_it_was_and_how_long(place: Place) -> None:
    await place.recorder.hear(place.docker.start("c1", 0))
    await place.recorder.hear(place.docker.die("c1", 90))
    [run] = await place.runs()
    assert (run.person, run.server, run.profile, run.groups) == ("ann", "one", "small", HELD.groups)
    assert (run.memory_bytes, run.cpus, run.image_id) == (512 * 1024**2, 0.5, "sha256:1")
    assert (run.started, run.ended, run.exact) == (moment(0), moment(90), True)


async def test_looks_alone_do_too(place: Place) -> None:
    place.docker.start("c1", 0)
    await place.recorder.look()
    place.docker.die("c1", 90, remove=False)
    await place.recorder.look()
    [run] = await place.runs()
    assert (run.started[:19], run.ended[:19], run.exact) == (moment(0)[:19], moment(90)[:19], True)


async def test_what_is_not_a_server_of_ours_is_not_counted(place: Place) -> None:
    for labels in (
        {},
        {**place.docker.labels(), INSTANCE_LABEL: "another"},
        {**place.docker.labels(), KIND_LABEL: "check"},
    ):
        await place.recorder.hear(EngineEvent("container", "start", "x", labels, START))
        place.docker.used_by.append(ContainerRow("x", "x", "sha256:1", labels, "running"))
    await place.recorder.hear(EngineEvent("image", "start", "x", place.docker.labels(), START))
    await place.recorder.look()
    assert await place.runs() == []


async def test_what_ended_while_nobody_looked_ends_when_it_was_seen_last(place: Place) -> None:
    await place.recorder.hear(place.docker.start("c1", 0))
    await place.recorder.look()
    seen = (await place.runs())[0].seen
    place.docker.die("c1", 90)
    await place.again().look()
    [run] = await place.runs()
    assert (run.ended, run.exact) == (seen, False)


async def test_dockers_memory_mends_it(place: Place) -> None:
    begun = place.docker.start("c1", 0)
    await place.recorder.hear(begun)
    ended = place.docker.die("c1", 90)
    later = place.again()
    await later.look()
    for event in (begun, ended):  # what Docker says first to who asks for its memory
        await later.hear(event)
    [run] = await place.runs()
    assert (run.started, run.ended, run.exact) == (moment(0), moment(90), True)


async def test_what_came_and_went_while_the_service_was_away_is_in_dockers_memory(place: Place) -> None:
    events = [place.docker.start("c1", 0), place.docker.die("c1", 60)]
    later = place.again()
    await later.look()
    for event in events:
        await later.hear(event)
    assert [(run.started, run.ended) for run in await place.runs()] == [(moment(0), moment(60))]


async def test_a_machine_that_was_off_does_not_count(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    await place.recorder.hear(place.docker.start("c1", 0))
    await place.store.server_runs.still(["c1"], moment(60))
    place.docker.die("c1", 90_000, remove=False)  # as Docker says once the machine is up again
    monkeypatch.setattr(recording, "_booted", lambda: moment(89_000))
    await place.again().look()
    [run] = await place.runs()
    assert (run.ended, run.exact) == (moment(60), False)


async def test_a_docker_that_does_not_answer_ends_nothing(place: Place) -> None:
    await place.recorder.hear(place.docker.start("c1", 0))
    place.docker.down = True
    with pytest.raises(EngineUnavailable):
        await place.recorder.look()
    assert len(await place.store.server_runs.open()) == 1


async def test_it_goes_on_by_itself_and_hears(place: Place) -> None:
    place.recorder.start()
    try:
        place.docker.happening.put_nowait(place.docker.start("c1", 0))
        await until_open(place, 1)
        place.docker.happening.put_nowait(place.docker.die("c1", 30))
        await until_open(place, 0)
    finally:
        await place.recorder.stop()
    assert [run.ended for run in await place.runs()] == [moment(30)]


async def until_open(place: Place, count: int) -> None:
    async def so_many() -> bool:
        return len(await place.store.server_runs.open()) == count

    await until(so_many)


@pytest.mark.rounds(few=8, soak=400)
async def test_looks_restarts_and_events_told_again_never_change_the_sum(
    place: Place, round_number: int
) -> None:
    """Servers come and go; the recorder is restarted, looks at any time, and hears all events again."""
    chance = random.Random(round_number)
    wanted: dict[str, tuple[str, str]] = {}
    events: list[EngineEvent] = []
    clock = 0.0
    for step in range(16):
        clock += chance.randint(1, 60)
        name = f"c{chance.randint(0, 3)}-{step // 4}"
        if name in [row.id for row in place.docker.used_by]:
            events.append(place.docker.die(name, clock))
            wanted[name] = (wanted[name][0], moment(clock))
        elif name not in wanted:
            events.append(place.docker.start(name, clock))
            wanted[name] = (moment(clock), "")
        else:
            continue
        if chance.random() < 0.7:  # else the service is away
            await place.recorder.hear(events[-1])
        if chance.random() < 0.4:
            place.recorder = place.again()
            for each in events:
                await place.recorder.hear(each)
        if chance.random() < 0.5:
            await place.recorder.look()
    for each in events:
        await place.recorder.hear(each)
    found = {run.container_id: (run.started[:22], run.ended, run.exact) for run in await place.runs()}
    assert found == {name: (start[:22], end, True) for name, (start, end) in wanted.items()}


async def test_a_running_servers_image_is_in_use_now_and_later_until_it_ended(place: Place) -> None:
    place.docker.add("sha256:1", "n:1")
    engine: Any = place.docker
    inventory = Inventory(place.store, engine)
    await inventory.refresh()
    assert inventory.use_of("sha256:1").last_used == ""
    await place.recorder.hear(place.docker.start("c1", 0))
    await inventory.refresh()
    before = utc_now()
    use = inventory.use_of("sha256:1")
    assert use.last_used >= before
    assert use.last_used_by == "ann"
    await place.recorder.hear(place.docker.die("c1", 300))
    await inventory.refresh()
    assert inventory.use_of("sha256:1").last_used == moment(300)


def test_moments_are_read_as_people_write_them() -> None:
    assert read_moment("2026-11-21") == "2026-11-21T00:00:00.000+00:00"
    assert read_moment("2026-11-21", to_the_end=True) == "2026-11-22T00:00:00.000+00:00"
    assert read_moment("2026-11-21T10:00:00Z") == "2026-11-21T10:00:00.000+00:00"
    assert read_moment("2026-11-21T10:00:00+02:00") == "2026-11-21T08:00:00.000+00:00"
    for bad in ("", "tomorrow", "2026-13-01", "9999-12-31T23:59:59-12:00", "1' OR 1=1"):
        with pytest.raises(ValueError):  # noqa: PT011 - whose words are those of the library
            read_moment(bad)
