"""Promises to people who start images: what an image is set to holds for those who chose nothing, and a
retired one is offered nowhere and refused with words.
"""

from __future__ import annotations

import re
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import pytest_asyncio
from house import COMMIT, IMAGE, House, build_view, image_view, open_house

from tljh_plugin.errors import ImageRetired
from tljh_plugin.launch import form
from tljh_plugin.launch.obtain import default_profile, obtain
from tljh_plugin.launch.options import LaunchOptions
from tljh_plugin.launch.profiles import choose
from tljh_plugin.launch.progress import Progress
from tljh_plugin.settings import from_mapping
from tljh_plugin.wire import Person, ProfilesView, ProfileView

LINK = "v2/gh/owner/repo/main"
MAIN = {"repository": "gh/owner/repo/main", "commit": COMMIT}
PROFILES = [{"id": "small"}, {"id": "big"}, {"id": "others", "people": ["bob"]}]
ADA = Person(name="ada")


@pytest_asyncio.fixture
async def lab(tmp_path: Path) -> AsyncIterator[House]:
    async with open_house(tmp_path, profiles=PROFILES) as found:
        found.queue.add(build_view(state="built", phase="built", image_id=IMAGE))
        found.inventory.known = [image_view(profile="big", urlpath="lab/tree/index.ipynb")]
        yield found


def selected(page: str) -> list[str]:
    page = page[page.index('name="profile"') :]
    return re.findall(r'<option value="([^"]*)" selected', page)


@pytest.mark.parametrize(
    ("asked", "of_image", "got"),
    [
        ("", "", "small"),
        ("", "big", "big"),
        ("small", "big", "small"),
        ("", "others", "small"),
        ("", "gone", "small"),
    ],
)
def test_an_images_profile_holds_for_who_chose_none_and_may_have_it(
    tmp_path: Path, asked: str, of_image: str, got: str
) -> None:
    settings = from_mapping({"profiles": PROFILES}, platform="tljh", state_dir=tmp_path)
    assert choose(settings, ADA, asked, of_image).id == got


async def test_the_spawner_learns_it_of_an_image_and_of_a_repository(lab: House) -> None:
    async with lab.client("ada") as client:
        assert await default_profile(client, LaunchOptions(image=IMAGE)) == "big"
        assert await default_profile(client, LaunchOptions(**MAIN)) == "big"
        assert await default_profile(client, LaunchOptions(image="sha256:" + "0" * 64)) == ""
        lab.queue.builds.clear()
        assert await default_profile(client, LaunchOptions(**MAIN)) == "", "nothing is there yet"


async def test_the_confirmation_preselects_it_and_says_what_opens(lab: House) -> None:
    async with lab.browser("ada") as browser:
        page = (await browser.visit(LINK)).text
        assert selected(page) == ["big"]
        assert "lab/tree/index.ipynb" in page
        page = (await browser.visit(f"{LINK}?profile=small&labpath=other.ipynb")).text
        assert selected(page) == ["small"]
        assert "index.ipynb" not in page


async def test_a_server_that_got_the_images_profile_is_not_another_one(lab: House) -> None:
    lab.hub.put("ada", "mine", options={**MAIN, "profile": ""})
    async with lab.browser("ada") as browser:
        await browser.visit(LINK)
        same = await browser.submit(LINK, commit=COMMIT, files="project", server="mine", profile="big")
        assert same.status_code == 303
        asked = await browser.submit(LINK, commit=COMMIT, files="project", server="mine", profile="small")
        assert asked.status_code == 409


def test_the_hubs_form_leaves_it_to_the_image() -> None:
    views = ProfilesView(
        profiles=tuple(
            ProfileView(id=name, title=name, memory_bytes=1, cpus=1, default=name == "small")
            for name in ("small", "big")
        )
    )
    plain = form.render(form.Choice(), [image_view()], profiles=views)
    assert selected(plain) == ["small"]
    left = form.render(form.Choice(), [image_view(profile="big")], profiles=views)
    assert selected(left) == [""]
    assert selected(form.render(form.Choice(profile="big"), [image_view(profile="big")], profiles=views)) == [
        "big"
    ]


async def test_what_an_administrator_says_of_an_image_is_on_the_front_page(lab: House) -> None:
    older = image_view("sha256:" + "1" * 64, title="Optics", icon="🔭", description="For the <b>course</b>")
    lab.inventory.known = [image_view(title="github.com/owner/repo", commit="1" * 40), older]
    async with lab.browser("ada") as browser:
        page = (await browser.visit("")).text
    assert "🔭</span> Optics</h3>" in page
    assert "For the &lt;b&gt;course&lt;/b&gt; · Commit" in page
    assert ">github.com/owner/repo</h3>" not in page, "a newer one of nobody's choice does not take its place"


class TestRetired:
    async def test_it_is_not_started_by_its_id(self, lab: House) -> None:
        lab.inventory.known = [image_view(retired=True)]
        accepted: list[object] = []
        async with lab.client("root") as client:
            with pytest.raises(ImageRetired, match="owner/repo was retired"):
                await obtain(client, LaunchOptions(image=IMAGE), None, Progress(), accepted.append)
        assert accepted == [], "refused options replace nothing"

    async def test_nor_by_its_repository(self, lab: House) -> None:
        lab.queue.problem = ImageRetired.of("owner/repo")
        async with lab.client("ada") as client:
            with pytest.raises(ImageRetired) as caught:
                await obtain(client, LaunchOptions(**MAIN), None, Progress(), lambda source: None)
            assert "newer commit" in caught.value.next_step
            view = await client.resolve("gh/owner/repo/main", COMMIT)
        assert view.image == "missing"
        assert "was retired" in view.warnings[0]

    async def test_the_confirmation_says_so(self, lab: House) -> None:
        lab.queue.problem = ImageRetired.of("owner/repo")
        async with lab.browser("ada") as browser:
            page = (await browser.visit(LINK)).text
        assert "The image owner/repo was retired: no new server is started from it." in page

    async def test_it_is_offered_nowhere(self, lab: House) -> None:
        async with lab.browser("ada") as browser:
            assert "v2/gh/owner/repo" in (await browser.visit("")).text
            lab.inventory.known = [image_view(retired=True)]
            assert "v2/gh/owner/repo" not in (await browser.visit("")).text
        assert IMAGE not in form.render(form.Choice(), lab.inventory.known)
