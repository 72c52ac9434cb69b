"""Servers outlive their hub and service; files outlive all of them; an end that nobody asked for is told; one
person's trouble is nobody else's.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio
from docker_proxy import Call, DockerProxy
from machine import Machine, content, light_files
from private_docker import PrivateDocker
from waiting import until

from tljh_plugin.errors import BinderError, ServiceDown

pytestmark = [pytest.mark.docker, pytest.mark.hub, pytest.mark.asyncio(loop_scope="session")]

NOTE = b"written in the server that Docker's end ended\n"
FRONT = "/services/binder/"
WRITE = "cd; echo mine > results.csv; echo new > data/1; rm data/2; ln -s 1 link; echo all > my-files/notes"
# Longer than any test waits: as long as nobody lets it go, a call hangs.
FOR_EVER_S = 900.0


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def one(machine: Machine) -> AsyncIterator[Path]:
    """The files of a server that runs, `one`."""
    spec = machine.specs[0]
    await machine.ready("one", spec)
    name = spec.split("%2F")[-1].split("/")[0]
    [home] = [home for project, home in machine.projects().items() if project.startswith(name)]
    yield home
    await machine.gone("one")


async def is_ready(machine: Machine, server: str) -> bool:
    async with machine.hub_api as api:
        found = await api.server("ann", server)
    return found is not None and found.ready


async def has_stopped(machine: Machine, server: str) -> bool:
    async with machine.hub_api as api:
        found = await api.server("ann", server)
    return found is None or not found.active


async def test_servers_outlive_hub_and_service(machine: Machine, one: Path) -> None:
    before = await machine.container("one")
    await machine.kill_service()
    await machine.start_service()
    await machine.kill_hub()
    await machine.start_hub()
    await until(lambda: is_ready(machine, "one"))
    await machine.sound()
    assert await machine.container("one") == before


async def test_a_hub_with_other_settings_has_the_service_begin_anew_with_them(
    machine: Machine, one: Path
) -> None:
    """As after `tljh-config reload`; on TLJH nobody else restarts the service."""
    server, service, policy = await machine.container("one"), machine.service, machine.section["policy"]
    link = "git/https%3A%2F%2Fgit.example.org%2Fa%2Fb/main"

    async def blocked() -> bool:
        try:
            async with machine.client() as client:
                await client.resolve(link, "a" * 40)
        except ServiceDown:
            return False
        except BinderError as error:
            return "is blocked here" in error.message
        return False

    async def with_settings_of(section: dict[str, Any]) -> None:
        machine.section["policy"] = section
        await machine.kill_hub()
        await machine.start_hub()

    over = asyncio.Event()

    async def knock() -> int:
        """As new visitors do all the time; raises if one is refused."""
        times = 0
        while not over.is_set():
            _, writer = await asyncio.open_unix_connection(machine.settings.service_socket)
            writer.close()
            await writer.wait_closed()
            await asyncio.sleep(0.01)
            times += 1
        return times

    assert not await blocked()
    knocking = asyncio.create_task(knock())
    try:
        await with_settings_of({**policy, "blocked_hosts": ["git.example.org"]})
        await until(blocked)
        over.set()
        assert await knocking
        assert machine.service is service
        assert service is not None
        assert service.poll() is None, "the same process: a service manager has nothing to do"
        assert await machine.container("one") == server
        await machine.ready("another", machine.specs[0], storage="ephemeral")
        await machine.gone("another")
    finally:
        over.set()
        await with_settings_of(policy)

    async def as_before() -> bool:
        return not await blocked()

    await until(as_before)
    began = machine.log("service").count("beginning anew")
    await machine.kill_hub()
    await machine.start_hub()
    await until(lambda: is_ready(machine, "one"))
    assert machine.log("service").count("beginning anew") == began, "nothing had changed"


async def test_a_server_has_the_image_that_was_built_whatever_its_name_leads_to_now(
    machine: Machine, private_docker: PrivateDocker
) -> None:
    """Whoever may use Docker can give our names to other images, by mistake or not."""

    async def image() -> str:
        await machine.ready("named", machine.specs[0])
        container = await machine.container("named")
        shown = await asyncio.to_thread(private_docker.docker, "inspect", "--format", "{{.Image}}", container)
        await machine.gone("named")
        return shown.strip()

    built = await image()
    [row] = machine.rows(f"SELECT name FROM images WHERE image_id = '{built}'")
    await asyncio.to_thread(private_docker.docker, "tag", "littlest-binder/debian:bookworm", row["name"])
    try:
        assert await image() == built
    finally:
        await asyncio.to_thread(private_docker.docker, "tag", built, row["name"])


async def test_docker_stops_and_servers_can_be_started_again(
    machine: Machine, one: Path, private_docker: PrivateDocker
) -> None:
    (one / "note.txt").write_bytes(NOTE)
    looks = machine.log("hub").count("Cannot look after ann:one")
    await asyncio.to_thread(private_docker.stop)

    async def told() -> str:
        async with machine.client() as client:
            health = await client.health()
        return "" if health.engine else health.message  # what it knows may be some seconds old

    try:
        assert "Docker cannot be reached" in await until(told)
        refused = machine.begin("two", machine.specs[0])
        assert await refused.over() == "failed"
        assert "Docker cannot be reached" in refused.error
        await until(lambda: machine.log("hub").count("Cannot look after ann:one") > looks)
    finally:  # other tests need it too
        await asyncio.to_thread(private_docker.start)

    await until(lambda: has_stopped(machine, "one"))
    await machine.sound()
    why = "Docker was stopped or restarted, and the server ended with it."
    assert why in await machine.page(FRONT)
    await machine.ready("one")
    assert why not in await machine.page(FRONT)
    assert (one / "note.txt").read_bytes() == NOTE


@asynccontextmanager
async def endless_patience(machine: Machine) -> AsyncIterator[None]:
    """Hub and service give up no call to Docker, so that one lasts until the test lets it go."""
    usual = machine.section["docker"]
    try:
        await restarted(machine, {**usual, "timeout_s": FOR_EVER_S})
        yield
    finally:
        await restarted(machine, usual)


async def restarted(machine: Machine, docker: dict[str, float]) -> None:
    machine.section["docker"] = docker
    await machine.kill_service()
    await machine.kill_hub()
    await asyncio.to_thread((machine.settings.run_dir / "service.json").unlink)  # what the last hub told it
    await asyncio.gather(machine.start_service(), machine.start_hub())


async def test_stopping_and_deleting_wait_for_nobody_elses_call(
    machine: Machine, one: Path, proxy: DockerProxy
) -> None:
    """One call of the hub and one of the service hang until the end: who waited for them would not end."""
    spec, project, before = machine.specs[0], one.parent.name, content(one)
    async with endless_patience(machine):
        await until(lambda: is_ready(machine, "one"), 60)
        proxy.begin(Call("POST /containers/create", 1), "hang")
        stuck = machine.begin("stuck", spec, person="bob", storage="ephemeral")
        await until(lambda: proxy.failed, 60)
        proxy.begin(Call("POST /containers/create", 1), "hang")
        filling = machine.begin("filling", spec, person="bob")
        await until(lambda: proxy.failed, 60)
        await machine.gone("one")
        async with machine.client() as client:
            deleted = await client.delete_project(project)
            assert project not in str(machine.projects())
            assert (await client.undelete_project(deleted.id)).id == project
        assert {name for name in before if not name.startswith(".")} <= content(one).keys()
        assert (stuck.ended, filling.ended) == ("", "")
        await machine.gone("stuck", "bob")  # and what hangs can be given up
        await machine.gone("filling", "bob")
        proxy.begin()
        proxy.let_go()
        await machine.sound()
    await machine.ready("one", spec)
    await machine.sound()


async def test_files_stay_over_a_crash_an_eviction_a_rebuild_and_a_dead_machine(
    machine: Machine, private_docker: PrivateDocker
) -> None:
    """Those of a project, and `my-files`, which is one folder in servers of all repositories."""
    machine.git_server.new("stays", light_files("stays"))
    await machine.ready("first", machine.git_server.spec("stays"), my_files=True)
    [home] = [each for name, each in machine.projects().items() if name.startswith("stays")]
    mine = home.parents[1] / "my-files"
    private_docker.docker("exec", await machine.container("first"), "sh", "-c", WRITE)
    before = content(home), content(mine)
    assert len(before[0]) > 300
    assert list(before[1]) == ["notes"]

    async def stop() -> None:
        async with machine.hub_api as api:
            await api.stop("ann", "first")
        await until(lambda: has_stopped(machine, "first"), 60)

    async def as_before() -> str:
        """The image with which it was started again, and found all of its files."""
        await machine.ready("first")
        assert (content(home), content(mine)) == before
        found = await machine.engine.inspect(await machine.container("first"))
        assert found is not None
        assert {each["Source"] for each in found["Mounts"]} == {str(home), str(mine)}
        return str(found["Image"])

    private_docker.docker("kill", await machine.container("first"))
    await until(lambda: has_stopped(machine, "first"), 60)
    image = await as_before()

    builds = len(machine.rows("SELECT id FROM builds"))
    await stop()
    await machine.erase(image)
    again = await as_before()  # the same image where all of it was in the build cache
    assert len(machine.rows("SELECT id FROM builds")) == builds + 1

    await stop()
    async with machine.client() as client:
        build = await client.rebuild_image(again, no_cache=True)

        async def built() -> bool:
            return (await client.get_build(build.id)).state == "built"

        await until(built, 120)
    assert await as_before() not in (image, again)
    await machine.erase(again)  # both are kept, the new one is taken

    await machine.kill_service()
    await machine.kill_hub()
    machine.kill_proxy()
    await asyncio.to_thread(private_docker.stop)  # ends the servers
    await asyncio.to_thread(private_docker.start)
    await asyncio.gather(machine.start_service(), machine.start_hub())
    await until(lambda: has_stopped(machine, "first"), 60)
    assert "It ended while the hub was not running" in await machine.page(FRONT)
    await as_before()

    await machine.ready("second", machine.specs[0], my_files=True)
    other = await machine.container("second")
    assert private_docker.docker("exec", other, "sh", "-c", "cat ~/my-files/notes") == "all\n"
    for name in ("second", "first"):
        await machine.gone(name)
    await machine.sound()
