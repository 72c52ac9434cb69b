"""The page of the disk, its pictures, and the row of the administrators' pages."""

from __future__ import annotations

import re
from datetime import datetime, timedelta, timezone
from pathlib import Path

import pytest
from house import IMAGE, House, disk_samples, disk_view

from tljh_plugin.build.identity import ImageIdentity
from tljh_plugin.cache.claims import blank_row
from tljh_plugin.errors import Forbidden, InvalidRequest
from tljh_plugin.service.pages.disk import NAMES, outlook, shown_filesystem
from tljh_plugin.service.pictures import WIDTH, lengths, split_bar, stacked
from tljh_plugin.source.mirror import folder_name
from tljh_plugin.source.spec import parse_link
from tljh_plugin.wire import DiskView, ErrorView

NOW = datetime(2026, 11, 21, tzinfo=timezone.utc)
SPEC = parse_link("gh/owner/needed/" + "a" * 40)
IDENTITY = ImageIdentity(SPEC.normal_url, "a" * 40, "", "linux/amd64")


@pytest.fixture
def full(house: House) -> House:
    house.disk.now, house.disk.samples = disk_view(), disk_samples()
    return house


# -- pictures ---------------------------------------------------------------------------------------------


def test_a_bar_is_split_as_the_parts_are_and_nothing_has_no_piece() -> None:
    pieces = split_bar([("a", 25), ("nothing", 0), ("b", 50)], 100)
    assert [(each.id, each.x, each.width) for each in pieces] == [("a", 0, 250), ("b", 250, 500)]
    assert split_bar([("a", 0)], 0) == []


def test_a_part_that_is_more_than_the_whole_stays_in_the_picture() -> None:
    assert all(each.x + each.width <= WIDTH for each in split_bar([("a", 80), ("b", 90)], 100))


def test_areas_lie_on_each_other_over_the_time() -> None:
    samples = [(NOW, {"a": 10, "b": 20}), (NOW + timedelta(hours=1), {"a": 30, "b": 20})]
    areas = stacked(["a", "b", "none"], samples, 100)
    assert [each.id for each in areas] == ["a", "b"]
    assert areas[0].points == "0.0,90.00 1000.0,70.00 1000.0,100.00 0.0,100.00"
    assert areas[1].points == "0.0,70.00 1000.0,50.00 1000.0,70.00 0.0,90.00"


def test_one_sample_is_no_picture() -> None:
    assert stacked(["a"], [(NOW, {"a": 1})], 100) == []


def test_the_longest_bar_is_as_wide_as_the_picture() -> None:
    assert lengths([1.0, 4.0, 0.0]) == [250.0, 1000.0, 0.0]
    assert lengths([]) == []
    assert lengths([0.0]) == [0.0]


def test_a_picture_of_a_year_has_few_points_and_ends_now() -> None:
    view, samples = disk_view().filesystems[0], disk_samples(3000)
    shown = shown_filesystem(view, samples)
    assert len(shown.areas[0].points.split()) <= 2 * 401
    assert (shown.first, shown.last) == (samples[0].time, samples[-1].time)
    assert len(shown.history) <= 13


def test_the_outlook_says_what_the_last_day_says() -> None:
    disk = disk_view().filesystems[0]
    assert "full in 2 d 12 h" in outlook(disk)
    assert "not known yet" in outlook(disk.model_copy(update={"growth": None, "full_in_s": None}))
    assert "did not grow" in outlook(disk.model_copy(update={"growth": -5.0, "full_in_s": None}))
    assert "full in" not in outlook(disk.model_copy(update={"full_in_s": 1e9}))


# -- the page ---------------------------------------------------------------------------------------------


async def test_every_part_is_told_with_its_size(full: House) -> None:
    async with full.browser("root") as browser:
        text = (await browser.visit("disk")).text
    for name in NAMES.values():
        assert name.replace("'", "&#39;") in text
    assert "at least 20 GiB" in text
    assert "not known here" in text
    assert text.count('class="gauge"') == 2
    assert f"images/{IMAGE}" in text
    assert not re.search(r"\sstyle=", text)


async def test_without_a_first_look_it_says_so(house: House) -> None:
    house.disk.now = DiskView()
    async with house.browser("root") as browser:
        assert "measured for the first time" in (await browser.visit("disk")).text


async def test_old_figures_are_called_old(full: House) -> None:
    problem = ErrorView(code="engine-unavailable", message="Docker does not answer.", next="Start it.")
    full.disk.now = disk_view(problem=problem)
    async with full.browser("root") as browser:
        text = (await browser.visit("disk")).text
    assert "Docker does not answer." in text
    assert "The figures below are old" in text
    assert "2026-11-21 09:26 UTC" in text


async def test_the_picture_goes_back_as_far_as_is_asked(full: House) -> None:
    async with full.browser("root") as browser:
        week, day = (await browser.visit("disk")).text, (await browser.visit("disk?days=1")).text
        assert len(re.findall(r"[\d.]+,[\d.]+", day)) < len(re.findall(r"[\d.]+,[\d.]+", week))
        assert (await browser.visit("disk?days=12")).status_code == InvalidRequest.http_status


async def test_what_images_and_containers_are_called_is_only_text(full: House) -> None:
    evil = '<img src=x onerror="alert(1)">'
    view = disk_view()
    largest = tuple(each.model_copy(update={"title": evil, "owner": evil}) for each in view.largest)
    full.disk.now = view.model_copy(update={"largest": largest})
    async with full.browser("root") as browser:
        assert "<img src=x" not in (await browser.visit("disk")).text


async def test_the_warning_stands_on_administrators_pages_and_on_no_others(full: House) -> None:
    async with full.browser("root") as browser:
        for path in ("disk", "images"):
            assert "90 % full: 10 GiB are free" in (await browser.visit(path)).text, path
        assert "10 GiB are free, and" not in (await browser.visit("builds")).text


async def test_only_administrators_have_the_second_row_of_the_menu(full: House) -> None:
    async with full.browser("root") as browser:
        assert 'aria-label="Administration"' in (await browser.visit("disk")).text
        assert 'aria-label="Administration"' not in (await browser.visit("")).text
    async with full.browser("ada") as browser:
        assert ">Administration<" not in (await browser.visit("")).text
        assert (await browser.visit("disk")).status_code == Forbidden.http_status


# -- the API ----------------------------------------------------------------------------------------------


async def test_the_api_gives_what_was_measured_and_its_history(full: House) -> None:
    async with full.client("root") as client:
        assert await client.disk() == full.disk.now
        found = await client.disk_history(days=2)
        assert len(found.samples) == 48
        for days in (-1.0, float("nan"), 1e9):
            with pytest.raises(InvalidRequest):
                await client.disk_history(days=days)
    async with full.client("ada") as client:
        with pytest.raises(Forbidden):
            await client.disk()


# -- stored repositories ----------------------------------------------------------------------------------


def a_mirror(house: House, name: str = "github-com-owner-repo-0123456789abcdef") -> Path:
    folder = house.settings.mirror_dir / name
    folder.mkdir(parents=True)
    (folder / "lock").touch()
    (folder / "state.json").write_text("x" * 9000)
    return folder


async def test_stored_repositories_go_by_a_button_of_the_page(full: House) -> None:
    folder = a_mirror(full)
    async with full.browser("root") as browser:
        await browser.visit("disk")
        answer = await browser.post("disk/mirrors", data={"_xsrf": browser.xsrf})
        assert "1 stored repositories went" in answer.text
        assert not folder.exists()
        again = await browser.post("disk/mirrors", data={"_xsrf": browser.xsrf})
        assert "Nothing went" in again.text
    assert full.audit.known[0].what == "mirror.remove"


async def test_stored_repositories_are_for_administrators(full: House) -> None:
    folder = a_mirror(full)
    async with full.client("root") as root, full.client("ada") as ada:
        for call in (ada.mirrors, ada.remove_mirrors):
            with pytest.raises(Forbidden):
                await call()
        assert [each.name for each in await root.mirrors()] == [folder.name]
        full.mirrored = [blank_row(IDENTITY, SPEC, ref="", recipe="")]
        needed = a_mirror(full, folder_name(IDENTITY.url))
        assert {each.name: each.needed for each in await root.mirrors()} == {
            folder.name: False,
            needed.name: True,
        }
        assert [each.name for each in await root.remove_mirrors()] == [folder.name]
    async with full.browser("ada") as browser:
        await browser.visit("")
        assert (await browser.post("disk/mirrors", data={"_xsrf": browser.xsrf})).status_code == 403
    assert (folder.exists(), needed.exists()) == (False, True)
