"""Profiles, what is free, and the end of servers, on the service's pages and in its API."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio
from house import COMMIT, NOW, House, open_house

from tljh_plugin.errors import EngineUnavailable
from tljh_plugin.launch import endings
from tljh_plugin.launch.options import LaunchOptions
from tljh_plugin.launch.running import Running, Span
from tljh_plugin.service.launches import differences

GIB = 1024**3
LINK = "v2/gh/owner/repo/main"
MAIN = {"repository": "gh/owner/repo/main", "commit": COMMIT}
PROFILES = [
    {"id": "small", "title": "Small", "memory_bytes": "1GiB", "cpus": 1},
    {"id": "big", "title": "Big", "memory_bytes": "3GiB", "cpus": 4},
    {"id": "others", "people": ["bob"]},
]


@pytest_asyncio.fixture
async def lab(tmp_path: Path) -> AsyncIterator[House]:
    """A house with three profiles, of which two are Ada's, and a limit on memory."""
    limits = {"memory_bytes": "4GiB", "memory_overcommit": 0, "memory_reserve_bytes": 0}
    async with open_house(tmp_path, profiles=PROFILES, limits=limits) as found:
        yield found


def options(text: str) -> list[tuple[str, bool, bool]]:
    """Value, whether it is selected, whether it is disabled, of the options of the select."""
    select = re.search(r'<select id="profile".*?</select>', text, re.DOTALL)
    found = re.findall(r'<option value="([^"]*)"([^>]*)>', select[0]) if select else []
    return [(value, "selected" in rest, "disabled" in rest) for value, rest in found]


async def test_the_confirmation_offers_what_is_meant_for_the_person(lab: House) -> None:
    async with lab.browser("ada") as browser:
        assert options((await browser.visit(LINK)).text) == [("small", True, False), ("big", False, False)]
        proposed = (await browser.visit(f"{LINK}?profile=big")).text
        assert options(proposed) == [("small", False, False), ("big", True, False)]
        assert "which is not one of yours" not in proposed
        foreign = (await browser.visit(f"{LINK}?profile=others")).text
        assert options(foreign)[0] == ("small", True, False)
        assert "asks for the profile others, which is not one of yours" in foreign


async def test_what_is_chosen_reaches_the_hub(lab: House) -> None:
    async with lab.browser("ada") as browser:
        await browser.visit(LINK)
        answer = await browser.submit(LINK, commit=COMMIT, files="project", server="mine", profile="big")
    assert answer.status_code == 303
    [(person, name, sent)] = lab.hub.started
    assert (person, name, sent["profile"]) == ("ada", "mine", "big")


async def test_another_profile_for_a_server_is_asked_about(lab: House) -> None:
    lab.hub.put("ada", "mine", options={**MAIN, "profile": ""})
    async with lab.browser("ada") as browser:
        await browser.visit(LINK)
        same = await browser.submit(LINK, commit=COMMIT, files="project", server="mine", profile="small")
        assert same.status_code == 303, "the default one is what it has"
        asked = await browser.submit(LINK, commit=COMMIT, files="project", server="mine", profile="big")
        assert asked.status_code == 409
        assert re.search(r"<td>Profile</td>.*small.*big", asked.text)
        assert 'name="profile" value="big"' in asked.text
    assert not lab.hub.started


@pytest.mark.parametrize(
    ("now", "wanted", "differ"),
    [
        ("", "small", False),
        ("", "big", True),
        ("big", "", False),
        ("big", "big", False),
        ("big", "small", True),
    ],
)
def test_a_profile_that_was_not_given_does_not_differ(now: str, wanted: str, differ: bool) -> None:
    found = differences(
        LaunchOptions(**MAIN, profile=now), LaunchOptions(**MAIN, profile=wanted), (), "small"
    )
    assert [each.what for each in found] == (["profile"] if differ else [])


async def test_pages_say_what_is_free_and_what_does_not_fit(lab: House) -> None:
    lab.engine.running = [Running("ada", "one", 2 * GIB, 1.0), Running("bob", "x", 5 * GIB, 1.0)]
    async with lab.browser("ada") as browser:
        for page in ("", LINK):
            text = (await browser.visit(page)).text
            assert "2 servers are running (up to 7 GiB)." in text
            assert "You have 2 GiB of 4 GiB memory." in text
            assert "Big: This server would get 3 GiB of memory." in text
            assert "1 server (one 2 GiB)" in text
            assert len(options(text)) == 2


async def test_the_front_pages_link_carries_only_another_than_the_default_profile(lab: House) -> None:
    async with lab.browser("ada") as browser:
        front = (await browser.visit("")).text
        assert [value for value, *_ in options(front)] == ["", "big"]
        answer = await browser.get("go", params={"repository": "owner/repo", "profile": "big"})
        assert answer.headers["Location"].endswith("/v2/gh/owner/repo/HEAD?profile=big")
        answer = await browser.get("go", params={"repository": "owner/repo", "profile": ""})
        assert "profile" not in answer.headers["Location"]


async def test_a_silent_docker_leaves_out_what_it_would_have_said(lab: House) -> None:
    lab.engine.problem = EngineUnavailable("Docker does not answer.", "Start it.")
    async with lab.browser("ada") as browser:
        text = (await browser.visit(LINK)).text
    assert "memory are free" not in text
    assert len(options(text)) == 2


async def test_one_profile_is_no_choice(house: House) -> None:
    async with house.browser("ada") as browser:
        assert options((await browser.visit(LINK)).text) == []


async def test_the_api_tells_profiles_and_room(lab: House) -> None:
    async with lab.browser() as http:
        answer = await http.get("api/v1/profiles", headers={"Authorization": "token ada-token"})
        assert (await http.get("api/v1/profiles")).status_code in (401, 403)
    said: dict[str, Any] = answer.json()
    assert [(each["id"], each["default"]) for each in said["profiles"]] == [("small", True), ("big", False)]
    assert said["room"]["may_memory_bytes"] == 4 * GIB
    assert said["room"]["memory_bytes"] > said["room"]["available_bytes"] > 0


async def test_the_front_page_says_when_servers_end_and_why_they_ended(lab: House) -> None:
    for name in ("long", "idle", "ended"):
        lab.hub.put("ada", name, ready=name != "ended", options=MAIN)
    begun = datetime.fromisoformat(NOW)
    lab.engine.running = [
        Running("ada", "long", GIB, 1.0, "small", Span(lifetime_s=3600), begun),
        Running("ada", "idle", GIB, 1.0, "small", Span(idle_s=600), begun),
    ]
    endings.note(lab.settings.state_dir, "ada", "ended", "It was idle for 1 h; its profile allows 1 h.")
    endings.note(lab.settings.state_dir, "ada", "ended", "~/y is yours already.", "links")
    endings.note(lab.settings.state_dir, "ada", "long", "~/x is yours <b>already</b>.", "links")
    async with lab.browser("ada") as browser:
        text = " ".join((await browser.visit("")).text.split())
        assert "~/x is yours &lt;b&gt;already&lt;/b&gt;.</span>" in text
        assert "~/y" not in text, "it no longer runs"
        assert re.search(r"ends <time[^>]*>2026-11-21 10:26 UTC</time></span>", text)
        assert re.search(r"ends <time[^>]*>2026-11-21 09:36 UTC</time> unless it is used", text)
        assert "It was idle for 1 h; its profile allows 1 h." in text
        assert "It was idle for 1 h" in (await browser.visit("launch/ended")).text
        assert (await browser.submit("launch/ended/remove")).status_code == 303
    assert endings.read(lab.settings.state_dir, "ada", "ended") is None
