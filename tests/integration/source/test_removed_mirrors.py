"""Stored copies of repositories go when nobody needs them, and never under somebody who reads them."""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import pytest
from git_server import GitServer
from places import Place
from waiting import until

from tljh_plugin.build.identity import ImageIdentity
from tljh_plugin.cache.claims import blank_row
from tljh_plugin.cache.mirrors import Mirrors
from tljh_plugin.settings import from_mapping
from tljh_plugin.source.git import Git
from tljh_plugin.source.mirror import Mirror
from tljh_plugin.source.mirrors import StoredMirror, remove, stored, unneeded
from tljh_plugin.source.spec import RepoSpec
from tljh_plugin.store import ImageRow

MakePlace = Callable[..., Place]
DAY_S = 86_400


class Keeper:
    """What removes them, with a list of images and an audit log to look at."""

    def __init__(self, place: Place, **retention: Any) -> None:
        self.images: list[ImageRow] = []
        self.noted: list[tuple[str, str]] = []
        settings = place.settings
        if retention:
            sections = {"retention": retention}
            settings = from_mapping(sections, platform="desktop", state_dir=settings.state_dir)
        self.mirrors = Mirrors(settings, self._images, self._note)

    async def _images(self) -> Sequence[ImageRow]:
        return self.images

    async def _note(self, who: str, what: str, thing: str, result: str) -> None:
        self.noted.append((who, what))


def image(url: str, commit: str, built_by: str = "ann") -> ImageRow:
    row = blank_row(ImageIdentity(url, commit, "", "linux/amd64"), RepoSpec("git", url), ref="", recipe="")
    return replace(row, built_by=built_by)


def folders(place: Place) -> list[Path]:
    return [each.folder for each in stored(place.settings.mirror_dir)]


def unused_for(folder: Path, days: float) -> None:
    moment = time.time() - days * DAY_S
    for name in ("lock", "state.json"):
        os.utime(folder / name, (moment, moment))


async def test_what_nobody_needs_goes_after_its_time_and_comes_again(
    git_server: GitServer, place: MakePlace
) -> None:
    ours = place()
    keeper = Keeper(ours)
    for name in ("needed", "old", "new"):
        git_server.new(name, {"a": name})
        async with ours.checkout(git_server.spec(name)):
            pass
    pinned = await ours.pin(git_server.spec("needed"))
    keeper.images = [image(pinned.url, pinned.commit)]
    for folder in folders(ours):
        unused_for(folder, 29.9 if "-new-" in folder.name else 31)
    await keeper.mirrors.tidy()
    assert sorted(each.name.rsplit("-", 2)[-2] for each in folders(ours)) == ["needed", "new"]
    assert keeper.noted == [("system", "mirror.remove")]
    # Use makes it young again.
    async with ours.checkout(git_server.spec("new")):
        pass
    [new] = [each for each in await keeper.mirrors.all() if "-new-" in each.name]
    assert datetime.now(timezone.utc) - new.used < timedelta(minutes=5)
    assert (new.needed, new.bytes > 0) == (False, True)
    # An administrator waits for no time.
    [gone] = await keeper.mirrors.remove("root")
    assert gone.name == new.name
    assert [each.needed for each in await keeper.mirrors.all()] == [True]
    async with ours.checkout(git_server.spec("new")) as checkout:
        assert (checkout.path / "a").read_text() == "new"


@pytest.mark.parametrize(("enabled", "left"), [(True, ["new"]), (False, ["new", "old"])])
async def test_on_a_disk_that_is_too_full_a_day_is_enough(
    git_server: GitServer, place: MakePlace, enabled: bool, left: list[str]
) -> None:
    ours = place()
    keeper = Keeper(
        ours, enabled=enabled, high_watermark_percent=0.002, low_watermark_percent=0.001
    )  # any disk is fuller
    for name in ("old", "new"):
        git_server.new(name, {"a": name})
        async with ours.checkout(git_server.spec(name)):
            pass
    for folder in folders(ours):
        unused_for(folder, 2 if "-old-" in folder.name else 0.5)
    await keeper.mirrors.tidy()
    assert sorted(each.name.rsplit("-", 2)[-2] for each in folders(ours)) == left


async def test_with_no_time_set_none_goes_by_itself(git_server: GitServer, place: MakePlace) -> None:
    ours = place(mirror_days=0)
    git_server.new("kept", {"a": "1"})
    async with ours.checkout(git_server.spec("kept")):
        pass
    [folder] = folders(ours)
    unused_for(folder, 5000)
    await Keeper(ours).mirrors.tidy()
    assert folders(ours) == [folder]


async def test_one_that_is_read_stays(git_server: GitServer, place: MakePlace) -> None:
    ours = place()
    keeper = Keeper(ours)
    git_server.new("read", {"a": "1"})
    pinned = await ours.pin(git_server.spec("read"))
    mirror = Mirror(ours.settings, Git(ours.settings), pinned.url, pinned.commit)
    async with mirror.held():
        await mirror.obtain(pinned, lambda _: None)
        assert await keeper.mirrors.remove("root") == []
        assert await mirror.read("cat-file", "-t", pinned.commit) == b"commit\n"
    # One that was read since it was found to be unused stays as well.
    [found] = stored(ours.settings.mirror_dir)
    assert remove(replace(found, used=found.used - timedelta(seconds=1))) is None
    assert mirror.folder.exists()


async def test_who_waits_for_a_copy_that_goes_makes_a_new_one(
    git_server: GitServer, place: MakePlace
) -> None:
    """The lock that they wait for is of a folder which has another name when they get it."""
    ours = place()
    git_server.new("awaited", {"a": "1"})
    pinned = await ours.pin(git_server.spec("awaited"))
    holder, waiter = (Mirror(ours.settings, Git(ours.settings), pinned.url, pinned.commit) for _ in range(2))

    async def obtain() -> None:
        async with waiter.held():
            await waiter.obtain(pinned, lambda _: None)
            assert (waiter.folder / "lock").exists()  # without it the next one would not wait
            assert await waiter.read("cat-file", "-t", pinned.commit) == b"commit\n"

    async with holder.held():
        waiting = asyncio.create_task(obtain())
        await until(lambda: _openers(holder.folder / "lock") == 2)
        holder.folder.rename(holder.folder.with_name("gone-by-a-test"))
    await waiting
    assert (waiter.folder / "state.json").exists()


def _openers(path: Path) -> int:
    wanted = path.stat()
    found = 0
    for each in Path("/proc/self/fd").iterdir():
        try:
            found += os.path.samestat(each.stat(), wanted)
        except FileNotFoundError:
            continue
    return found


async def test_what_a_removal_that_was_cut_off_left_goes(place: MakePlace) -> None:
    ours = place()
    left = ours.settings.mirror_dir / "gone-0123"
    (left / "git").mkdir(parents=True)
    await Keeper(ours).mirrors.tidy()
    assert not left.exists()


@pytest.mark.parametrize(("days", "gone"), [(0.0, ["b", "c"]), (2.0, ["c"]), (9.0, [])])
def test_what_goes_is_neither_needed_nor_used_lately(days: float, gone: list[str]) -> None:
    now = datetime(2026, 11, 21, tzinfo=timezone.utc)
    found = [
        StoredMirror(Path("/m") / name, now - timedelta(days=age))
        for name, age in (("a", 50), ("b", 1), ("c", 2))
    ]
    assert [each.folder.name for each in unneeded(found, {"a"}, days, now)] == gone
