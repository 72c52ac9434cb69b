"""The recorder and a real Docker: what ran while nobody listened, and how it ended, is in Docker's memory."""

from __future__ import annotations

from pathlib import Path

import pytest
from waiting import until

from tljh_plugin.engine import ContainerSpec, Engine, Limits
from tljh_plugin.launch.running import Running
from tljh_plugin.service.recorder import Recorder
from tljh_plugin.store import ServerRun, Store

pytestmark = pytest.mark.docker

EARLY, LATE = "2000-01-01", "2999-01-01"


async def test_servers_are_counted_while_they_run_and_while_the_service_is_away(
    tmp_path: Path, engine: Engine, limits: Limits, base_image: str
) -> None:
    store = await Store.open(tmp_path / "store.sqlite")

    async def serve(name: str, *command: str) -> str:
        held = Running("ann", name, limits.memory_bytes, limits.cpus, "small", groups=("physics",))
        spec = ContainerSpec(base_image, command, limits, "server", entrypoint=(), labels=held.labels())
        return await engine.start(spec)

    async def runs() -> dict[str, ServerRun]:
        return {run.server: run for run in await store.server_runs.between(EARLY, LATE)}

    async def open_ones() -> list[str]:
        return sorted(run.server for run in await store.server_runs.open())

    recorder = Recorder(store, engine, period_s=3600)
    recorder.start()
    one, two = await serve("one", "sleep", "600"), await serve("two", "sleep", "600")

    async def both() -> bool:
        return await open_ones() == ["one", "two"]

    await until(both)
    await engine.remove(one)

    async def one_ended() -> bool:
        return await open_ones() == ["two"]

    await until(one_ended)
    await recorder.stop()

    await engine.remove(two)
    three = await serve("three", "true")

    async def ended() -> bool:
        found = await engine.inspect(three)
        return found is not None and not found["State"]["Running"]

    await until(ended)
    await engine.remove(three)

    later = Recorder(store, engine, period_s=3600)
    later.start()

    async def all_told() -> bool:
        found = await runs()
        return len(found) == 3 and all(run.ended and run.exact for run in found.values())

    await until(all_told)
    await later.stop()
    found = await runs()
    await store.close()
    assert {run.groups for run in found.values()} == {("physics",)}
    assert {run.image_id for run in found.values()} == {base_image}
    assert found["one"].started <= found["one"].ended <= found["two"].ended <= found["three"].started
    assert found["three"].started <= found["three"].ended
