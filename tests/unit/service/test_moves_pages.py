"""The buttons that build again, look for newer commits, find images again and adopt others."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest_asyncio
from house import COMMIT, IMAGE, NOW, PREFIX, House, build_view, image_view, open_house

from tljh_plugin.errors import ImageNotLaunchable
from tljh_plugin.wire import ProposalView, RefusedImageView, RescanView


@pytest_asyncio.fixture
async def house(tmp_path: Path) -> AsyncIterator[House]:
    async with open_house(tmp_path) as house:
        house.inventory.known = [image_view(asked_ref="main")]
        house.rescan.known = [
            ProposalView(id=IMAGE, names=("our-lab/<b>course</b>:1",), size=5, reason="not built here")
        ]
        yield house


async def test_a_failed_build_and_an_image_are_built_again(house: House) -> None:
    house.queue.add(build_view("b-1", state="failed", phase="failed", requested_by="root"))
    async with house.browser("root") as browser:
        await browser.visit("builds/b-1")
        again = await browser.submit("builds/b-1/retry")
        assert (again.status_code, again.headers["location"]) == (303, f"{PREFIX}builds/b-2")
        anew = await browser.submit(f"images/{IMAGE}/rebuild", no_cache="1")
        assert (anew.status_code, anew.headers["location"]) == (303, f"{PREFIX}builds/b-3")
    assert [(who, pinned.commit, pinned.spec.ref) for who, pinned in house.queue.requested] == [
        ("root", COMMIT, "main"),
        ("root", COMMIT, "main"),
    ]


async def test_newer_commits_are_looked_for_and_built(house: House) -> None:
    async with house.browser("root") as browser:
        await browser.visit("")
        for path, fields, where in (
            ("images/newer", {}, "images?looked=newer"),
            ("images/newer", {"build": "1"}, "images?looked=newer"),
            (f"images/{IMAGE}/newer", {}, f"images/{IMAGE}"),
            (f"images/{IMAGE}/newer", {"build": "1"}, "builds/b-1"),
        ):
            answer = await browser.submit(path, **fields)
            assert (answer.status_code, answer.headers["location"]) == (303, PREFIX + where)
    assert house.newer.asked == [
        ("root", (), False),
        ("root", (), True),
        ("root", (IMAGE,), False),
        ("root", (IMAGE,), True),
    ]


async def test_what_a_look_for_newer_commits_found_is_said(house: House) -> None:
    async with house.browser("root") as browser:
        house.inventory.known = [image_view()]
        assert "there is nothing newer to look for" in (await browser.visit("images?looked=newer")).text
        house.inventory.known = [
            image_view(newer_looked=NOW),
            image_view("sha256:" + "1" * 64, newer_looked=NOW, newer_commit="f" * 40),
            image_view("sha256:" + "2" * 64, newer_looked=NOW, newer_problem="The host did not answer."),
        ]
        text = (await browser.visit("images?looked=newer")).text
    assert "1 of 3 images have one" in text
    assert "One could not be looked at" in text
    assert "images?show=newer" in text


async def test_an_image_is_adopted_with_a_title(house: House) -> None:
    async with house.browser("root") as browser:
        page = await browser.visit("images/adopt")
        assert "our-lab/&lt;b&gt;course&lt;/b&gt;:1" in page.text
        house.rescan.found = RescanView(
            restored=(image_view(),),
            known=3,
            refused=(RefusedImageView(id=IMAGE, names=("x:1",), reason="it is for linux/s390x"),),
        )
        again = (await browser.submit("images/rescan")).text
        for said in ("One image of ours was found again", "3 were in the list", f"images/{IMAGE}", "s390x"):
            assert said in again, said
        done = await browser.submit(
            "images/adopt", image="our-lab/course:1", title="Ours", visibility="private"
        )
        assert (done.status_code, done.headers["location"]) == (303, f"{PREFIX}images/{IMAGE}")
        assert house.adoption.adopted == [("root", "our-lab/course:1")]
        assert house.adoption.said == {"title": "Ours", "visibility": "private"}
        house.adoption.problem = ImageNotLaunchable("Nothing answers in it.", "Install jupyterhub.")
        failed = await browser.submit("images/adopt", image="our-lab/course:1")
        assert failed.status_code == 422
        assert "Install jupyterhub." in failed.text
    assert house.rescan.run_by == ["root"]
