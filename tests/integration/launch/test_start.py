"""Starting servers on a real hub and a real Docker, with a service that does as it is told."""

from __future__ import annotations

import asyncio
import json
import re
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import docker
import httpx
import pytest
from running_hub import BOTH_MAJORS, Localhost, RunningHub
from stand_in_facts import COMMIT
from waiting import LONG_S, Overdue, until

from tljh_plugin.errors import BinderError
from tljh_plugin.installation import instance_id
from tljh_plugin.labels import INSTANCE_LABEL
from tljh_plugin.launch import endings

pytestmark = [pytest.mark.docker, pytest.mark.hub]

HIT = {"repository": "gh/test/hit/main"}


@pytest.fixture(params=BOTH_MAJORS)
async def hub(request: pytest.FixtureRequest, tmp_path: Path, base_image: str) -> AsyncIterator[RunningHub]:
    async with RunningHub(tmp_path, python=request.param) as running:
        yield running
        # JupyterHub 5 itself logs a traceback of every start that fails late.
        if not (await running.api().version()).startswith("5."):
            assert unexpected_tracebacks(running.log) == []


def unexpected_tracebacks(log: str) -> list[str]:
    """JupyterHub logs one when a reader of the progress leaves while it is answered; that is no error."""
    found = re.findall(
        r"^\s*Traceback.*?^\s*[\w.]+(?:Error|Exception)\b[^\n]*$", log, re.DOTALL | re.MULTILINE
    )
    return [each for each in found if "StreamClosedError" not in each]


async def events(hub: RunningHub, server: str = "one") -> list[dict[str, Any]]:
    """What the progress API says of a start, to its end."""
    return [event async for event in hub.api().progress(hub.owner, server)]


async def start(
    hub: RunningHub, options: dict[str, Any] | None = None, server: str = "one"
) -> list[dict[str, Any]]:
    await hub.api().start(hub.owner, server, options)
    return await events(hub, server)


def containers(hub: RunningHub, client: docker.APIClient) -> list[dict[str, Any]]:
    label = f"{INSTANCE_LABEL}={instance_id(hub.settings)}"
    return list(client.containers(all=True, filters={"label": label}))


def asked(hub: RunningHub, path: str) -> list[dict[str, Any]]:
    lines = (hub.state / "asked.jsonl").read_text().splitlines()
    return [said for said in map(json.loads, lines) if said["path"] == f"/api/v1/{path}"]


async def options_of(hub: RunningHub, server: str = "one") -> dict[str, Any]:
    found = await hub.api().server(hub.owner, server)
    assert found is not None
    return found.user_options


async def test_a_server_starts_isolated_answers_and_leaves_nothing(
    hub: RunningHub, client: docker.APIClient
) -> None:
    last = (await start(hub, {**HIT, "path": "lab/tree/a%20{b}.ipynb"}))[-1]
    assert last["ready"], hub.log
    (row,) = containers(hub, client)
    found = client.inspect_container(row["Id"])
    host, config = found["HostConfig"], found["Config"]
    assert config["User"] == f"{hub.settings.server_uid}:{hub.settings.server_gid}"
    assert host["CapDrop"] == ["ALL"]
    assert host["SecurityOpt"] == ["no-new-privileges:true"]
    assert host["Memory"] == host["MemorySwap"] == hub.settings.servers.memory_bytes
    assert config["Labels"]["org.littlest-binder.person"] == hub.owner
    assert config["Labels"]["org.littlest-binder.server"] == "one"
    assert [(m["Destination"], m["RW"]) for m in found["Mounts"]] == [("/home/jovyan", True)]
    environment = dict(each.partition("=")[::2] for each in config["Env"])
    assert environment["BINDER_REPO_URL"] == "https://github.com/test/hit"
    assert environment["HOME"] == "/home/jovyan"
    assert environment["MEM_LIMIT"] == str(hub.settings.servers.memory_bytes)
    assert environment["JUPYTERHUB_DEFAULT_URL"] == "/lab/tree/a%20%7Bb%7D.ipynb"
    async with httpx.AsyncClient(transport=Localhost(), timeout=LONG_S) as http:
        answer = await http.get(f"{last['url']}api")
    assert answer.status_code == 200
    assert "version" in answer.json()
    assert await until(lambda: asked(hub, "release"))
    assert asked(hub, "release")[0]["body"] == {"lease": "lease-0", "ok": True}
    assert await hub.api().stop(hub.owner, "one")
    assert containers(hub, client) == []


async def test_what_was_started_before_starts_again_at_its_commit_without_options(hub: RunningHub) -> None:
    assert (await start(hub, {**HIT, "project": "new"}))[-1].get("ready"), hub.log
    await hub.api().stop(hub.owner, "one")
    kept = await options_of(hub)
    assert (kept["commit"], kept["project"]) == (COMMIT, "new-1")
    assert (await start(hub))[-1].get("ready")
    assert asked(hub, "builds")[-1]["body"]["commit"] == COMMIT
    assert asked(hub, "prepare")[-1]["body"]["project"] == "new-1"


async def test_refused_options_do_not_replace_the_last_good_ones(hub: RunningHub) -> None:
    assert (await start(hub, HIT))[-1].get("ready")
    await hub.api().stop(hub.owner, "one")
    good = await options_of(hub)
    for bad, word in (
        ({"repository": "gh/test/hit/main", "volumes": "/etc"}, "volumes"),
        ({"image": "debian:bookworm"}, "debian:bookworm"),
        ({"repository": "gh/test/hit/main", "path": "//evil.example"}, "//evil.example"),
        ({"repository": "gh/test/hit/main", "project": "/etc"}, "/etc"),
        ({"repository": "gh/test/unknown/main"}, "There is no repository gh/test/unknown/main"),
    ):
        assert word in await hub.refusal(bad)
        assert await options_of(hub) == good
    assert (await start(hub))[-1].get("ready")


async def test_a_server_that_was_never_started_says_what_is_missing(hub: RunningHub) -> None:
    assert "never started" in await hub.refusal(None)


async def test_the_progress_of_a_build_comes_first_and_names_the_build(hub: RunningHub) -> None:
    await hub.api().start(hub.owner, "one", {"repository": "gh/test/slow/main"})
    seen: list[dict[str, Any]] = []
    async for event in hub.api().progress(hub.owner, "one"):
        seen.append(event)
        if event["message"] == "Building the image":
            (hub.state / "go").touch()
    assert seen[-1]["ready"], hub.log
    percents = [event["progress"] for event in seen]
    assert percents == sorted(percents)
    named = [event for event in seen if event.get("build") == "b1"]
    assert named[0]["progress"] < 70 < named[-1]["progress"] < 100
    assert all("html_message" not in event for event in seen[:-1])


async def test_a_failed_build_tells_its_cause_and_leaves_nothing(
    hub: RunningHub, client: docker.APIClient
) -> None:
    assert "No package is called nonsense. Correct line 1." in await hub.refusal(
        {"repository": "gh/test/bad/main"}
    )
    assert containers(hub, client) == []
    # Correcting the repository and starting again is the next step: the options stay.
    assert (await options_of(hub))["repository"] == "gh/test/bad/main"


async def test_a_failure_after_a_while_carries_its_error_as_a_value(hub: RunningHub) -> None:
    said = await start(hub, {"repository": "gh/test/dies/main"})
    (error,) = [event["error"] for event in said if "error" in event]
    assert error["code"] == "server-not-ready"
    assert "I cannot do that" in error["message"]
    assert "exit code 3" in error["message"]
    assert said[-1]["failed"]


async def test_a_server_that_dies_leaves_its_log_but_no_container(
    hub: RunningHub, client: docker.APIClient
) -> None:
    await start(hub, {"repository": "gh/test/dies/main"})
    (log,) = (hub.settings.log_dir / "servers").iterdir()
    assert log.read_text() == "I cannot do that\n"
    assert containers(hub, client) == []
    assert await until(lambda: asked(hub, "release"))
    assert asked(hub, "release")[0]["body"]["ok"] is False


async def test_a_start_can_be_cancelled_while_its_image_is_built(
    hub: RunningHub, client: docker.APIClient
) -> None:
    await hub.api().start(hub.owner, "one", {"repository": "gh/test/slow/main"})
    await hub.api().stop(hub.owner, "one")
    found = await hub.api().server(hub.owner, "one")
    assert found is not None
    assert not found.active
    assert containers(hub, client) == []
    assert not [said for said in asked(hub, "builds/b1") if said["method"] == "DELETE"], "the build goes on"
    (hub.state / "go").touch()
    assert (await start(hub))[-1].get("ready")


async def test_a_start_can_be_cancelled_while_the_server_does_not_answer(
    hub: RunningHub, client: docker.APIClient
) -> None:
    await hub.api().start(hub.owner, "one", {"repository": "gh/test/silent/main"})
    async for event in hub.api().progress(hub.owner, "one"):
        if event["progress"] == 85:
            break
    assert len(containers(hub, client)) == 1
    await hub.api().stop(hub.owner, "one")
    await until(lambda: containers(hub, client) == [])
    assert endings.read(hub.state, hub.owner, "one") is None


async def test_a_silent_server_is_given_up_with_its_last_lines(
    tmp_path: Path, base_image: str, client: docker.APIClient
) -> None:
    async with RunningHub(tmp_path, settings={"servers": {"start_timeout_s": 5}}) as hub:
        said = await start(hub, {"repository": "gh/test/silent/main"})
        assert said[-1]["failed"]
        assert "did not answer within 5 s" in said[-1]["message"]
        assert "I say nothing" in said[-1]["message"]
        (log,) = (hub.settings.log_dir / "servers").iterdir()
        assert log.read_text() == "I say nothing\n"
        assert containers(hub, client) == []


async def test_an_image_evicted_at_the_last_moment_is_built_once_more(hub: RunningHub) -> None:
    assert (await start(hub, {"repository": "gh/test/evicted/main"}))[-1].get("ready"), hub.log
    assert len([said for said in asked(hub, "builds") if said["method"] == "POST"]) == 2


async def test_an_image_chosen_by_id_comes_back_after_its_eviction(hub: RunningHub, base_image: str) -> None:
    assert (await start(hub, {"image": base_image}))[-1].get("ready"), hub.log
    await hub.api().stop(hub.owner, "one")
    (hub.state / "image-gone").touch()
    assert (await start(hub))[-1].get("ready"), hub.log
    assert asked(hub, "builds")[-1]["body"]["spec"] == "gh/test/hit/main"
    assert "not on this machine any more" in await hub.refusal({"image": base_image}, "two")


async def test_without_the_service_a_start_fails_at_once(tmp_path: Path) -> None:
    async with RunningHub(tmp_path, service="none") as hub:
        assert "is not running" in await hub.refusal(HIT)
        page = (await (await hub.signed_in()).get("/hub/spawn")).text
        assert "images cannot be listed" in page


async def test_without_docker_people_sign_in_and_a_start_says_what_is_wrong(
    tmp_path: Path, base_image: str
) -> None:
    nowhere = {"DOCKER_HOST": "unix:///nonexistent/docker.sock", "HOME": str(tmp_path)}
    async with RunningHub(tmp_path, environment=nowhere) as hub:
        assert (await (await hub.signed_in()).get("/hub/home")).status_code == 200
        assert "Docker cannot be reached" in await hub.refusal(HIT)


# The kernel prefers all other programs of the server to this one. Some of them end by themselves meanwhile.
TAKES_TOO_MUCH = """
import contextlib, glob, os
for place in glob.glob("/proc/[0-9]*/oom_score_adj"):
    if place != f"/proc/{os.getpid()}/oom_score_adj":
        with contextlib.suppress(OSError), open(place, "w") as adjustment:
            adjustment.write("1000")
x = bytearray(600 * 1024**2)
"""


async def test_a_running_server_that_dies_leaves_its_log_and_can_be_started_again(
    tmp_path: Path, base_image: str, client: docker.APIClient
) -> None:
    """And its person is told why: it was killed, it needed too much memory, or nobody saw it."""
    settings = {"servers": {"memory_bytes": "256MiB"}}
    environment = {"TEST_POLL_S": "1", "TEST_KEEP_SERVERS": "1"}
    async with RunningHub(tmp_path, settings=settings, environment=environment) as hub:

        def told() -> str:
            found = endings.read(hub.state, hub.owner, "one")
            return found.why if found else ""

        async def over() -> bool:
            found = await hub.api().server(hub.owner, "one")
            return found is not None and not found.active

        assert (await start(hub, HIT))[-1].get("ready")
        (row,) = containers(hub, client)
        client.kill(row["Id"])
        assert "the hub had not stopped it: exit code 137" in await until(told, 60)
        await until(over, 60)
        assert containers(hub, client) == []
        (log,) = (hub.settings.log_dir / "servers").iterdir()
        assert "Jupyter" in log.read_text()

        assert (await start(hub))[-1].get("ready"), hub.log
        assert told() == ""
        (second,) = containers(hub, client)
        run = client.exec_create(second["Id"], ["/srv/venv/bin/python", "-c", TAKES_TOO_MUCH])
        said = await asyncio.to_thread(client.exec_start, run)
        try:
            assert "memory" in await until(told, 60)
        except Overdue:
            pytest.fail(f"{said!r}, {client.exec_inspect(run)}, {client.top(second['Id'])}")
        await until(over, 60)

        assert (await start(hub))[-1].get("ready"), hub.log
        (third,) = containers(hub, client)
        await hub.stop()
        client.kill(third["Id"])
        await hub.start_again()
        assert (await until(told, 60)).startswith("It ended while the hub was not running")
        await until(over, 60)

        assert (await start(hub))[-1].get("ready"), hub.log
        assert await hub.api().stop(hub.owner, "one")
        assert told() == "", "who stops it needs not be told"


async def test_a_hub_that_is_told_to_end_takes_its_servers_with_it(
    tmp_path: Path, base_image: str, client: docker.APIClient
) -> None:
    async with RunningHub(tmp_path) as hub:
        await asyncio.gather(*(start(hub, HIT, name) for name in ("one", "two")))
        assert len(containers(hub, client)) == 2
    assert containers(hub, client) == []


async def test_a_restarted_hub_finds_its_servers_and_they_find_the_hub(
    tmp_path: Path, base_image: str, client: docker.APIClient
) -> None:
    running = RunningHub(tmp_path, environment={"TEST_KEEP_SERVERS": "1"})
    async with running as hub:
        assert (await start(hub, HIT))[-1].get("ready"), hub.log
        (before,) = containers(hub, client)
        await hub.stop()
        assert [row["Id"] for row in containers(hub, client)] == [before["Id"]]
        await hub.start_again()
        found = await hub.api().server(hub.owner, "one")
        assert found is not None
        assert found.ready
        ask = "import os, urllib.request as u; print(u.urlopen(os.environ['JUPYTERHUB_API_URL']).status)"
        run = client.exec_create(before["Id"], ["/srv/venv/bin/python", "-c", ask])
        assert client.exec_start(run).strip() == b"200"
        await hub.api().stop(hub.owner, "one")
        assert containers(hub, client) == []


async def test_a_server_can_do_little_with_its_own_token(hub: RunningHub, client: docker.APIClient) -> None:
    await start(hub, HIT)
    (row,) = containers(hub, client)
    environment = client.inspect_container(row["Id"])["Config"]["Env"]
    (token,) = [each.partition("=")[2] for each in environment if each.startswith("JUPYTERHUB_API_TOKEN=")]
    api = hub.api(token)
    scopes = set((await api._request("GET", "/user")).json()["scopes"])
    owner = hub.owner
    assert f"access:servers!server={owner}/one" in scopes
    assert {scope.split("!")[0] for scope in scopes} <= {
        "access:servers", "users:activity", "read:users:activity", "read:users:name", "read:users:groups",
    }  # fmt: skip
    with pytest.raises(BinderError):
        await api.start(owner, "two", HIT)
    gateway = dict(each.partition("=")[::2] for each in environment)["JUPYTERHUB_API_URL"]
    assert not gateway.startswith("http://127.")
    async with httpx.AsyncClient(timeout=LONG_S) as http:
        assert (await http.get(gateway)).status_code == 200
        assert (await http.get(gateway.removesuffix("/api") + "/login")).status_code == 404
