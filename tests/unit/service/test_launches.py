"""Servers: connect, start again, ask, restart; always with the person's own token."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from house import COMMIT, OLDER, House, build_view, line, project_view
from waiting import until

from tljh_plugin.errors import Forbidden, InvalidOptions, NotFound, RefNotFound, ServerExists
from tljh_plugin.launch.options import LaunchOptions
from tljh_plugin.service.launches import OptionsDiffer, Server, address, decide, differences
from tljh_plugin.wire import ErrorView, LaunchEvent

MAIN = {"repository": "gh/owner/repo/main", "commit": COMMIT}


def options(**more: Any) -> LaunchOptions:
    return LaunchOptions.model_validate({**MAIN, **more})


def server(*, ready: bool = True, pending: str = "", **more: Any) -> Server:
    return Server("x", ready, pending, "/user/ada/x/", "/launch/x", options(**more))


# -- deciding -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("now", "wanted", "what"),
    [
        (options(), options(), []),
        (options(), options(path="lab/tree/b.ipynb"), []),
        (options(storage="ephemeral"), LaunchOptions(repository="gh/owner/repo/main"), []),
        (options(), options(commit=OLDER), ["commit"]),
        (options(), options(storage="ephemeral"), ["storage"]),
        (options(), LaunchOptions(repository="gh/owner/other/main"), ["repository"]),
        (options(), options(repository="gh/owner/repo/HEAD"), []),
        (options(), options(repository="gh/owner/repo/HEAD", commit=OLDER), ["commit"]),
        (options(), options(repository="gh/owner/repo/main?subdir=day-2"), ["repository"]),
        (options(), LaunchOptions(repository="gh/owner/repo/v1"), ["repository"]),
        (options(project="p-1"), options(project=""), []),
        (options(project="p-2"), options(project=""), ["project"]),
        (options(project=""), options(project="p-1"), []),
        (options(project="p-1"), options(project="new"), ["project"]),
        (options(project="p-1"), options(storage="ephemeral", project=""), ["storage"]),
    ],
)
def test_only_what_was_given_and_matters_differs(
    now: LaunchOptions, wanted: LaunchOptions, what: list[str]
) -> None:
    projects = [project_view("p-1"), project_view("p-2"), project_view("p-3", commit=OLDER)]
    assert [each.what for each in differences(now, wanted, projects)] == what


def test_a_server_that_somebody_else_started_differs() -> None:
    assert differences(None, options())


@pytest.mark.parametrize(
    ("found", "changed", "restart", "decision"),
    [
        (None, False, False, "start"),
        (None, False, True, "start"),
        (server(), False, False, "connect"),
        (server(), False, True, "connect"),
        (server(), True, False, "ask"),
        (server(), True, True, "restart"),
        (server(ready=False), False, False, "start"),
        (server(ready=False), True, False, "ask"),
        (server(ready=False), True, True, "restart"),
        (server(ready=False, pending="spawn"), False, False, "connect"),
        (server(ready=False, pending="spawn"), True, False, "ask"),
        (server(ready=True, pending="stop"), False, False, "wait"),
        (server(ready=True, pending="stop"), True, True, "wait"),
    ],
)
def test_what_a_wish_means(found: Server | None, changed: bool, restart: bool, decision: str) -> None:
    changes = differences(options(), options(commit=OLDER)) if changed else []
    assert decide(found, changes, restart) == decision


def test_where_to_go_on_a_server_keeps_the_escapes() -> None:
    assert address("/user/ada/x/", "lab/tree/a%20b.ipynb") == "/user/ada/x/lab/tree/a%20b.ipynb"
    assert (
        address("http://ada.binder.localhost:1/user/ada/x/", "")
        == "http://ada.binder.localhost:1/user/ada/x/"
    )


# -- doing --------------------------------------------------------------------------------------------


async def test_a_new_server_gets_a_readable_name_and_the_commit(house: House) -> None:
    async with house.client("ada") as client:
        view = await client.launch({"repository": "gh/owner/repo/main"})
    assert view.url == f"/services/binder/launch/{view.server}"
    assert view.state == "starting"
    [(person, name, sent)] = house.hub.started
    assert (person, name) == ("ada", view.server)
    assert (sent["repository"], sent["commit"]) == ("gh/owner/repo/main", COMMIT)


async def test_the_hub_is_asked_with_the_persons_own_token(house: House) -> None:
    # Over our socket the person is believed, but servers need their token all the same.
    async with house.own_client("ada") as client:
        with pytest.raises(Forbidden, match="own hub token"):
            await client.launch(MAIN)
    assert not house.hub.started


async def test_the_same_wish_connects(house: House) -> None:
    house.hub.put("ada", "mine", options=MAIN)
    async with house.client("ada") as client:
        view = await client.launch({**MAIN, "path": "lab/tree/b.ipynb"}, server="mine")
    assert (view.state, view.url) == ("ready", "/services/binder/launch/mine?path=lab/tree/b.ipynb")
    assert not house.hub.started


async def test_the_same_wish_starts_a_stopped_server_again_at_its_commit(house: House) -> None:
    house.hub.put("ada", "mine", ready=False, options={**MAIN, "commit": OLDER, "project": "p-1"})
    async with house.client("ada") as client:
        await client.launch({"repository": "gh/owner/repo/main"}, server="mine")
    [(_, _, sent)] = house.hub.started
    assert (sent["commit"], sent["project"]) == (OLDER, "p-1")


async def test_other_options_ask_and_a_restart_answers(house: House) -> None:
    house.hub.put("ada", "mine", options={**MAIN, "commit": OLDER})
    async with house.client("ada") as client:
        with pytest.raises(ServerExists) as caught:
            await client.launch(MAIN, server="mine")
        assert OLDER in caught.value.message
        assert not house.hub.stopped
        await client.launch(MAIN, server="mine", restart=True)
    assert house.hub.stopped == [("ada", "mine")]
    assert [sent["commit"] for _, _, sent in house.hub.started] == [COMMIT]


async def test_a_server_that_is_stopping_is_waited_for(house: House) -> None:
    house.hub.put("ada", "mine", pending="stop", options=MAIN)
    async with house.client("ada") as client:
        with pytest.raises(ServerExists, match="being stopped"):
            await client.launch(MAIN, server="mine", restart=True)


async def test_a_bad_name_or_ref_starts_nothing(house: House) -> None:
    async with house.client("ada") as client:
        with pytest.raises(InvalidOptions, match="No Name"):
            await client.launch(MAIN, server="No Name")
        with pytest.raises(RefNotFound):
            await client.launch({"repository": "gh/owner/repo/gone"})
    assert not house.hub.started


async def test_an_old_name_that_the_hub_knows_can_still_be_used(house: House) -> None:
    house.hub.put("ada", "My_Old.Server", ready=False, options=MAIN)
    async with house.client("ada") as client:
        view = await client.launch(MAIN, server="My_Old.Server")
    assert view.server == "My_Old.Server"


# -- events -------------------------------------------------------------------------------------------


async def collect(house: House, name: str, after: str = "", path: str = "") -> list[LaunchEvent]:
    async with house.client("ada") as client:
        answer = await client._http.get(
            f"api/v1/launches/{name}/events", params={"path": path, "after": after}
        )
    found = []
    for block in answer.text.split("\n\n"):
        for text in block.splitlines():
            if text.startswith("data: "):
                found.append(LaunchEvent.model_validate_json(text[6:]))
    return found


async def test_a_launch_is_told_from_the_hub_and_the_log_to_the_open_file(house: House) -> None:
    house.queue.add(build_view("b-1"), [line(1, "fetching"), line(2), line(3, "built")])
    house.hub.put("ada", "x", ready=False, pending="spawn", options={**MAIN, "path": "lab/tree/a%20b.ipynb"})
    house.hub.progress["ada", "x"] = [
        {"progress": 5, "message": "Building", "build": "b-1"},
        {"progress": 75, "message": "Your files are ready", "build": "b-1"},
        {"progress": 100, "ready": True, "url": "/user/ada/x/"},
    ]
    events = await collect(house, "x")
    assert [each.line.n for each in events if each.line] in ([1, 2, 3], [1, 2], [1], [])
    assert events[-1].type == "ready"
    assert events[-1].url == "/user/ada/x/lab/tree/a%20b.ipynb"
    other = await collect(house, "x", path="lab/tree/other.ipynb")
    assert other[-1].url == "/user/ada/x/lab/tree/other.ipynb"


async def test_a_failure_is_told_again_with_its_log_to_who_comes_back_later(house: House) -> None:
    error = ErrorView(code="build-package-missing", message="No package `nump`.", next="Line 3.")
    house.queue.add(
        build_view("b-7", state="failed", phase="failed", error=error),
        [line(1), line(2, "failed", error=error)],
    )
    house.hub.put("ada", "x", ready=False, options=MAIN)
    # What JupyterHub says of a start that is over: the message alone, no build, no code.
    house.hub.progress["ada", "x"] = [
        {"progress": 100, "failed": True, "message": "Spawn failed: No package"}
    ]
    events = await collect(house, "x")
    assert [each.line.n for each in events if each.line] == [1, 2]
    assert (events[-1].type, events[-1].error) == ("failed", error)
    later = await collect(house, "x", after="b-7:2")
    assert [each.type for each in later if each.type != "progress"] == ["failed"]


@pytest.mark.parametrize("status", [400, 404])
async def test_a_server_that_neither_runs_nor_starts_is_said_to_be_stopped(house: House, status: int) -> None:
    house.hub.not_starting = status
    house.hub.put("ada", "x", ready=False, options=MAIN)
    [event] = [each for each in await collect(house, "x") if each.type == "failed"]
    assert event.error is not None
    assert event.error.code == "server-stopped"


async def test_an_unknown_server_has_no_events(house: House) -> None:
    async with house.client("ada") as client:
        with pytest.raises(NotFound):
            await anext(client.launch_events("nobody"))


async def test_a_reader_that_leaves_ends_the_request_at_the_hub(house: House) -> None:
    house.hub.put("ada", "x", ready=False, pending="spawn", options=MAIN)
    house.hub.progress["ada", "x"] = [{"progress": 5, "message": "Building"}]
    async with house.client("ada") as client:
        stream = client.launch_events("x")
        assert (await anext(stream)).message == "Building"
        assert house.hub.watchers == 1
        await stream.aclose()  # type: ignore[attr-defined]
        await until(lambda: not house.hub.watchers)


@pytest.mark.parametrize(
    "path", ["//evil.example/", "https://evil.example/", "../../hub/logout", "lab/%2e%2e/x"]
)
async def test_the_path_of_an_address_cannot_lead_off_the_server(house: House, path: str) -> None:
    house.hub.put("ada", "x", options=MAIN)
    house.hub.progress["ada", "x"] = [{"progress": 100, "ready": True, "url": "/user/ada/x/"}]
    async with house.client("ada") as client:
        answer = await client._http.get("api/v1/launches/x/events", params={"path": path})
    assert (answer.status_code, answer.json()["code"]) == (400, "invalid-spec")


async def test_many_readers_of_one_launch_all_get_everything(house: House) -> None:
    house.queue.add(build_view("b-1"), [*(line(n) for n in range(1, 500)), line(500, "failed")])
    house.hub.put("ada", "x", ready=False, pending="spawn", options=MAIN)
    house.hub.progress["ada", "x"] = [{"progress": 5, "build": "b-1"}, {"failed": True, "message": "x"}]
    for events in await asyncio.gather(*(collect(house, "x") for _ in range(20))):
        assert [each.line.n for each in events if each.line] == list(range(1, 501))


def test_a_question_names_what_would_change() -> None:
    error = OptionsDiffer(server(), differences(options(), options(commit=OLDER)))
    assert COMMIT in error.message
    assert "restart" in error.next_step
