"""BinderHub's event stream, as its clients read it."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import httpx
import pytest
from house import COMMIT, House, build_view, line
from waiting import LONG_S, until

from tljh_plugin.errors import QueueFull
from tljh_plugin.service.api import binderhub
from tljh_plugin.wire import ErrorView

STREAM = "build/gh/owner/repo/main"
READY = {"progress": 100, "ready": True, "url": "/user/ada/x/", "message": "ready"}


@pytest.fixture(autouse=True)
def soon_over(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(binderhub, "_HOLD_S", 0.0)


async def events(house: House, path: str = STREAM, person: str = "ada") -> list[dict[str, Any]]:
    headers = {"Authorization": f"token {person}-token", "Accept": "text/event-stream, */*"}
    async with httpx.AsyncClient(base_url=house.url, headers=headers, timeout=LONG_S) as client:
        answer = await client.get(path)
    assert answer.status_code == 200
    assert answer.headers["content-type"].startswith("text/event-stream")
    return [json.loads(each[6:]) for each in answer.text.splitlines() if each.startswith("data: ")]


async def test_it_builds_and_launches_with_the_token_that_asked(house: House) -> None:
    house.queue.add(
        build_view("b-1", state="built", phase="built"),
        [line(1, "fetching"), line(2, text="Step 1"), line(3, "built")],
    )
    house.hub.progress["ada", "x"] = [
        {"progress": 0, "message": "Looking"},
        {"progress": 10, "message": "Building", "build": "b-1"},
        {"progress": 95, "message": "Starting the server"},
        READY,
    ]
    told = await events(house, f"{STREAM}?server=x&urlpath=lab/tree/a.ipynb")
    [(name, server, options)] = house.hub.started
    assert (name, server, options["commit"], options["path"]) == ("ada", "x", COMMIT, "lab/tree/a.ipynb")
    phases = list(dict.fromkeys(each["phase"] for each in told))
    # The hub of the tests says everything at once: how much of the log comes before that, is chance.
    assert [each for each in phases if each != "building"] == ["fetching", "built", "launching", "ready"]
    ready = told[-1]
    assert ready["url"] == f"{house.url.removesuffix('/services/binder/')}/user/ada/x/"
    assert ready["repo_url"] == "https://github.com/owner/repo"
    assert ready["binder_persistent_request"] == f"v2/gh/owner/repo/{COMMIT}"


async def test_a_browser_that_is_sent_there_starts_nothing(house: House) -> None:
    async with house.browser("ada") as browser:
        answer = await browser.visit(STREAM)
        assert (answer.status_code, answer.json()["code"]) == (403, "forbidden")
        assert (await browser.visit(f"{STREAM}?token=ada-token")).status_code == 403
    assert not house.hub.started
    assert not house.queue.requested


@pytest.mark.parametrize("header", ["Basic eDp5", "token wrong", "Bearer wrong", "token"])
async def test_a_browser_that_sends_another_header_of_itself_starts_nothing(
    house: House, header: str
) -> None:
    async with house.browser("ada") as browser:
        answer = await browser.visit(STREAM, headers={"Authorization": header})
    assert (answer.status_code, answer.json()["code"]) == (403, "forbidden")
    assert not house.hub.started
    assert not house.queue.requested


@pytest.mark.parametrize(
    ("path", "code"),
    [
        ("build/gh/owner/repo/gone", "ref-not-found"),
        ("build/gh/owner", "invalid-spec"),
        ("build/nonsense/x", "invalid-spec"),
        (f"{STREAM}?urlpath=https://elsewhere.example.org/", "invalid-spec"),
        (f"{STREAM}?build_only=maybe", "invalid-request"),
    ],
)
async def test_errors_are_events(house: House, path: str, code: str) -> None:
    [told] = await events(house, path)
    assert (told["phase"], told["code"]) == ("failed", code)
    assert told["message"].endswith("\n")
    assert not house.hub.started


async def test_build_only_starts_no_server(house: House) -> None:
    async def build() -> None:
        await until(lambda: bool(house.queue.requested))
        [build_id] = house.queue.builds
        house.queue.builds[build_id] = build_view(
            build_id, state="built", phase="built", image_name="littlest-binder/owner-repo:1"
        )
        await house.queue.write(build_id, line(1, text="Step 1"), line(2, "built"))

    building = asyncio.create_task(build())
    told = await events(house, f"{STREAM}?build_only=true")
    await building
    assert [each["phase"] for each in told] == ["waiting", "building", "building", "ready"]
    assert told[-1]["imageName"] == "littlest-binder/owner-repo:1"
    assert not house.hub.started


async def test_a_failed_build_is_told_and_nothing_after_it(house: House) -> None:
    error = ErrorView(code="build-failed", message="No such package.", next="Correct it.")
    house.queue.add(
        build_view("b-1", state="failed", phase="failed", error=error),
        [line(1, text="Step 1"), line(2, "failed", error=error)],
    )
    house.hub.progress["ada", "x"] = [
        {"progress": 10, "message": "Building", "build": "b-1"},
        {"progress": 10, "message": "failed", "failed": True},
    ]
    told = await events(house, f"{STREAM}?server=x")
    assert (told[-1]["phase"], told[-1]["code"]) == ("failed", "build-failed")
    assert "No such package. Correct it." in told[-1]["message"]
    assert {"phase": "building", "message": "Step 1\n"} in told


async def test_a_full_queue_is_told(house: House) -> None:
    house.queue.problem = QueueFull("ada has 5 builds.", "Wait.")
    [told] = await events(house, f"{STREAM}?build_only=true")
    assert (told["phase"], told["status_code"]) == ("failed", 429)


async def test_it_stays_open_at_its_end(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its clients connect again when it is closed, and that would begin anew."""
    monkeypatch.setattr(binderhub, "_HOLD_S", 3600.0)
    headers = {"Authorization": "token ada-token"}
    async with (
        httpx.AsyncClient(base_url=house.url, headers=headers, timeout=LONG_S) as client,
        client.stream("GET", "build/gh/owner/repo/gone") as answer,
    ):
        lines = answer.aiter_lines()
        async for text in lines:
            if text.startswith("data: "):
                break
        with pytest.raises(asyncio.TimeoutError):
            await asyncio.wait_for(_data(lines), 0.3)


async def _data(lines: Any) -> None:
    async for text in lines:
        assert not text.startswith("data: ")
