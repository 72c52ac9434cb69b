"""Folders on the pages: who sees which boxes, what is ticked by whom, and picking on a desktop."""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncIterator
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

import pytest
import pytest_asyncio
from house import COMMIT, PREFIX, House, open_house
from waiting import until

from tljh_plugin.launch import grants
from tljh_plugin.service.pages import confirm
from tljh_plugin.settings import load_desktop

LINK = "v2/gh/owner/repo/main"


class Boxes(HTMLParser):
    """The boxes of a page and their state, and what its forms would send."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.state: dict[str, str] = {}
        self.hidden: dict[str, list[str]] = {}
        self.feed(text)

    def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        given = {name: value or "" for name, value in attributes}
        if tag == "input" and given.get("type") == "checkbox":
            state = "ticked" if "checked" in given else "off"
            self.state[f"{given['name']}={given['value']}"] = "disabled" if "disabled" in given else state
        elif tag == "input" and given.get("type") == "hidden":
            self.hidden.setdefault(given["name"], []).append(given.get("value", ""))


@pytest_asyncio.fixture
async def house(tmp_path: Path) -> AsyncIterator[House]:
    lab = tmp_path / "lab"
    for name in ("course", "shared", "mine/deep"):
        (lab / name).mkdir(parents=True)
    mounts = [
        {"id": "course", "source": str(lab / "course"), "default": True},
        {"id": "shared", "source": str(lab / "shared"), "access": "read-write"},
        {"id": "gone", "source": str(lab / "<gone>"), "default": True},
        {"id": "bobs", "source": str(lab / "course"), "people": ["bob"]},
    ]
    section = {"mounts": mounts, "desktop": {"mount_roots": [str(lab)]}}
    async with open_house(tmp_path / "state", **section) as made:
        yield made


def boxes(**state: str) -> dict[str, str]:
    """What a page shows to ada; anything not said is off."""
    names = {"my_files": "my_files=1", "course": "mounts=course", "shared": "mounts=shared"}
    return {**dict.fromkeys(names.values(), "off"), "mounts=gone": "disabled"} | {
        names[name]: value for name, value in state.items()
    }


DEFAULTS = boxes(my_files="ticked", course="ticked")


async def test_the_front_page_ticks_what_is_on_by_default_and_says_what_cannot_be_had(house: House) -> None:
    async with house.browser("ada") as browser:
        page = (await browser.visit("")).text
    assert Boxes(page).state == DEFAULTS
    assert "lab/&lt;gone&gt;" in page
    assert "<gone>" not in page
    async with house.browser("bob") as browser:
        assert "mounts=bobs" in Boxes((await browser.visit("")).text).state


@pytest.mark.parametrize(
    "headers",
    [
        {},
        {"Referer": "https://evil.example/services/binder/"},
        {"Referer": "http://127.0.0.1:1/services/binder/"},
        {"Referer": "{own}user/mallory/lab"},
        {"Referer": "{own}v2/gh/owner/repo/main"},
    ],
)
@pytest.mark.parametrize(
    "query", ["", "?ticked=1&mounts=shared&my_files=1", "?mounts=course&voucher=made-up"]
)
async def test_a_link_ticks_nothing(house: House, headers: dict[str, str], query: str) -> None:
    sent = {name: value.replace("{own}", house.url) for name, value in headers.items()}
    async with house.browser("ada", **sent) as browser:
        assert Boxes((await browser.visit(LINK + query)).text).state == boxes()
        # Through the form's own address as well.
        answer = await browser.get(f"go?repository=owner/repo&{query[1:]}&mounts=shared&my_files=1")
        assert answer.status_code == 302
        assert not {"ticked", "mounts", "my_files"} & set(
            parse_qs(urlsplit(answer.headers["location"]).query)
        )


async def test_what_was_ticked_on_the_front_page_is_ticked_on_the_confirmation(house: House) -> None:
    async with house.browser("ada", Referer=house.url) as browser:
        answer = await browser.get("go?repository=owner/repo&ref=main&mounts=shared&my_files=1")
        page = (await browser.get(house.environment.url + answer.headers["location"])).text
        assert Boxes(page).state == boxes(my_files="ticked", shared="ticked")
        assert "mounts=" not in re.findall(r'id="share-link" value="([^"]*)"', page)[0], (
            "a link carried folders"
        )
        answer = await browser.get("go?repository=owner/repo&ref=main")
        page = (await browser.get(house.environment.url + answer.headers["location"])).text
        assert Boxes(page).state == boxes(), "everything was unticked"
        assert Boxes((await browser.get(LINK)).text).state == DEFAULTS, "a card of the front page"
        answer = await browser.get("go?repository=foo bar&mounts=shared")
        assert Boxes(answer.text).state == boxes(shared="ticked"), "what was typed wrong is asked again"


async def test_who_was_not_signed_in_comes_by_a_link(house: House) -> None:
    """A link may lead to `go`, whose page leads on: what stands there is not the person's wish."""
    async with house.browser() as browser:
        answer = await browser.visit("go?repository=owner/repo&mounts=shared&my_files=1")
        onward = re.findall(r"0;url=([^\"]+)", answer.text)[0]
    assert "mounts" not in onward
    async with house.browser("ada", Referer=f"{house.url}go?repository=owner/repo") as browser:
        page = (await browser.get(house.environment.url + onward)).text
        assert Boxes(page).state == boxes()


async def test_a_slow_look_up_loses_no_tick(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(confirm, "_PATIENCE_S", 0.01)
    house.resolver.hold = asyncio.Event()
    query = "?ticked=1&mounts=shared"
    async with house.browser("ada", Referer=house.url) as browser:
        waiting = await browser.visit(LINK + query)
        assert waiting.status_code == 202
        onward = re.findall(r"content=\"1; url=([^\"]+)", waiting.text)[0].replace("&amp;", "&")
    house.resolver.hold.set()
    monkeypatch.setattr(confirm, "_PATIENCE_S", 60)
    async with house.browser("ada") as browser:
        page = await browser.get(house.environment.url + onward)
        assert Boxes(page.text).state == boxes(shared="ticked")
        # It vouches for this address of this person alone.
        other = onward.replace("mounts=shared", "mounts=course")
        assert Boxes((await browser.get(house.environment.url + other)).text).state == boxes()
    async with house.browser("bob") as browser:
        page = await browser.get(house.environment.url + onward)
        assert "ticked" not in Boxes(page.text).state.values()


async def test_what_is_ticked_is_what_starts(house: House) -> None:
    async with house.browser("ada") as browser:
        await browser.visit(LINK)
        form = {"commit": COMMIT, "files": "project", "server": "one"}
        await browser.post(LINK, data={"_xsrf": browser.xsrf, **form, "mounts": ["shared", "course"]})
        [(_, _, sent)] = house.hub.started
        assert (sent["mounts"], sent["my_files"]) == (["course", "shared"], False)
        # The same again goes there; others are asked about, and the question keeps them.
        again = {"_xsrf": browser.xsrf, **form, "mounts": ["course", "shared"]}
        assert (await browser.post(LINK, data=again)).status_code == 303
        asked = await browser.post(LINK, data={**again, "mounts": ["shared"], "my_files": "1"})
    assert asked.status_code == 409
    assert "course, shared" in asked.text
    hidden = Boxes(asked.text).hidden
    assert (hidden["mounts"], hidden["my_files"]) == (["shared"], ["1"])
    assert len(house.hub.started) == 1


async def test_the_api_lists_what_a_person_may_have(house: House) -> None:
    async with house.client("ada") as client:
        found = {each.id: each for each in await client.mounts()}
    assert set(found) == {"course", "shared", "gone"}
    assert found["course"].error is None
    assert found["shared"].access == "read-write"
    assert found["gone"].error is not None
    assert found["gone"].error.code == "mount-missing"


# -- picking ------------------------------------------------------------------------------------------


async def test_a_folder_is_found_picked_and_let_go_without_scripts(house: House, tmp_path: Path) -> None:
    lab = tmp_path / "lab"
    async with house.browser("root") as browser:
        assert "Folders" in (await browser.visit("")).text
        page = (await browser.visit("folders")).text
        assert str(lab) in page
        page = (await browser.visit("folders", params={"path": str(lab)})).text
        assert ">mine</a>" in page
        await browser.visit("folders", params={"path": str(lab / "mine")})
        answer = await browser.submit("folders/pick", path=str(lab / "mine"), access="read-write")
        assert (answer.status_code, answer.headers["location"]) == (303, f"{PREFIX}folders")
        (grant,) = grants.read(house.settings.grants_path)
        assert (grant.path, grant.access) == (str(lab / "mine"), "read-write")
        page = (await browser.visit(LINK, headers={"Referer": house.url})).text
        assert Boxes(page).state[f"mounts={grant.id}"] == "off"
        assert str(lab / "mine") in page
        assert str(lab / "mine") in (await browser.visit("folders")).text
        assert (await browser.submit(f"folders/{grant.id}/forget")).status_code == 303
        assert grants.read(house.settings.grants_path) == ()
    noted = [(each.who, each.what, each.thing, each.result) for each in house.audit.known[:2]]
    assert noted == [
        ("root", "mount.forget", str(lab / "mine"), "read-write"),
        ("root", "mount.grant", str(lab / "mine"), "read-write"),
    ]


async def test_nothing_outside_the_roots_is_listed_or_picked(house: House, tmp_path: Path) -> None:
    async with house.browser("root") as browser:
        for path in (
            "/etc",
            str(tmp_path / "state"),
            "/",
            "relative",
            str(tmp_path / "lab" / ".." / "state"),
        ):
            answer = await browser.visit("folders", params={"path": path})
            assert answer.status_code == 409, path
            assert "ssl" not in answer.text
            refused = await browser.submit("folders/pick", path=path)
            assert refused.status_code == 409, path
        assert (await browser.submit("folders/pick", path="/etc", access="all")).status_code == 400
        await browser.visit("folders")
        forged = await browser.post("folders/pick", data={"path": str(tmp_path / "lab" / "mine")})
        assert forged.status_code == 403
    assert grants.read(house.settings.grants_path) == ()
    async with house.browser("ada") as browser:
        assert (await browser.visit("folders")).status_code == 404
        assert "/folders" not in (await browser.visit("")).text


async def test_the_pages_follow_the_file(tmp_path: Path) -> None:
    (tmp_path / "config.yaml").write_text("binder: {}")
    async with open_house(tmp_path) as house:
        loaded = load_desktop(tmp_path, "root")
        house._context.folders._settings = loaded
        async with house.client("ada") as client:
            assert await client.mounts() == []
            (tmp_path / "config.yaml").write_text("binder: {mounts: [{id: lab, source: /srv}]}")
            assert await until(client.mounts)
