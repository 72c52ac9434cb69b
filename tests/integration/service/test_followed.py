"""One launch is found by its id in the logs of hub, service and worker, in the store and in answers."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import pytest_asyncio
from git_server import GitServer
from running_hub import RunningHub
from waiting import until

from tljh_plugin import request_ids
from tljh_plugin.client import ServiceClient
from tljh_plugin.wire import Person

pytestmark = [pytest.mark.hub, pytest.mark.docker]

ID = "3f9a-of-the-launch"


@pytest_asyncio.fixture
async def hub(tmp_path: Path, git_server: GitServer) -> AsyncIterator[RunningHub]:
    """A hub with the real service; the repository begins to be built, and is refused by the worker."""
    git_server.add("foreign-from")
    policy = {key: list(value) for key, value in git_server.settings().items()}
    async with RunningHub(tmp_path, service="real", settings={"policy": policy}) as running:
        await running.service_answers()
        yield running


def lines_of(hub: RunningHub, request: str, logger: str) -> list[str]:
    """Lines of one logger that belong to a request, without their head."""
    marked = [line for line in hub.log.splitlines() if f"[req {request}] " in line]
    return [
        line.partition(f"[req {request}] ")[2] for line in marked if f" {logger}" in line.partition("]")[0]
    ]


async def test_a_launch_is_followed_by_its_id(hub: RunningHub, git_server: GitServer) -> None:
    spec = git_server.spec("foreign-from")
    token = await hub.person(hub.owner)
    with request_ids.belonging(ID):
        async with hub.service_client(token) as client:
            await client.launch({"repository": spec}, server="followed")
    async with hub.service_client(token) as client:
        last = [event async for event in client.launch_events("followed")][-1]
        assert last.type == "failed"
        assert last.error is not None
        [build] = await client.builds()
        lines = [line.text for line in await client.log(build.id)]
        answer = await client._http.get("api/v1/builds/none")
    # In the service: the request itself, its build, the worker's number, its end.
    service = lines_of(hub, ID, "littlest_binder.")
    worker = next(line.rpartition(" ")[2] for line in service if "The worker of build" in line)
    for part in ("POST /services/binder/api/v1/launches", "begins", f"Build {build.id} ended: failed"):
        assert any(part in line for line in service), (part, service)
    # In the hub: what was asked for, and how it ended.
    in_hub = lines_of(hub, ID, "JupyterHub")
    for part in (f"is to start from {spec}", "did not start"):
        assert any(part in line for line in in_hub), (part, in_hub)
    # In the worker: what it says first, in the build's own log.
    assert f"[req {ID}] The worker is process {worker}." in lines
    # In the store, for administrators to look up.
    assert build.request == ID
    owner = Person(name=hub.owner, admin=True)
    async with ServiceClient(socket=hub.settings.service_socket, person=owner) as own:
        entries = await own.audit(request=ID)
    assert {"build.request", "build.end"} <= {entry.what for entry in entries}
    # With the error that people see.
    assert last.error.request == ID
    # What lies in the state folder now is in the reference.
    text = (Path(__file__).parents[3] / "docs" / "reference" / "files.md").read_text(encoding="utf-8")
    for folder, prefix in ((hub.state, ""), (hub.settings.run_dir, "run/")):
        for place in folder.iterdir():
            name = prefix + place.name.removesuffix("-wal").removesuffix("-shm") + "/" * place.is_dir()
            assert f"`{name}`" in text, name
    # Other requests are others.
    other = answer.headers["X-Request-ID"]
    assert other != ID
    assert request_ids.valid(other)
    assert await until(lambda: lines_of(hub, other, "littlest_binder.service"))


async def test_a_start_at_the_hub_itself_has_an_id_as_well(hub: RunningHub, git_server: GitServer) -> None:
    options = {"repository": git_server.spec("foreign-from")}
    async with hub.api() as api:
        body = {"user_options": options} if await api._major_version() >= 6 else options
        answer = await api._request("POST", api._server_path(hub.owner, "unnamed"), body=body, starting=True)
    request = answer.headers["X-Request-ID"]
    assert request_ids.valid(request)
    assert any("is to start from" in line for line in lines_of(hub, request, "JupyterHub"))
    assert await until(
        lambda: any("begins" in line for line in lines_of(hub, request, "littlest_binder.queue"))
    )
    assert await until(lambda: any("did not start" in line for line in lines_of(hub, request, "JupyterHub")))
