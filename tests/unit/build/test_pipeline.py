"""Promises of the pipeline that need neither git nor Docker."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from small_docker import SmallDocker

from tljh_plugin.build import pipeline
from tljh_plugin.build.base import BaseImage
from tljh_plugin.build.check import CheckResult
from tljh_plugin.build.identity import building_name
from tljh_plugin.build.pipeline import Pipeline, cache_namespace, dockerfile_allowed
from tljh_plugin.build.run import WorkerResult
from tljh_plugin.cache.inventory import Inventory
from tljh_plugin.engine import ImageFacts
from tljh_plugin.installation import ensure_state
from tljh_plugin.settings import Settings, from_mapping
from tljh_plugin.source.resolve import PinnedRepo
from tljh_plugin.source.spec import RepoSpec
from tljh_plugin.store import BuildRow, Store, utc_now
from tljh_plugin.wire import Phase

ROW = BuildRow(
    id="b-1",
    identity="i",
    url="https://github.com/owner/repo",
    commit="c" * 40,
    subdir="",
    platform="linux/amd64",
    spec="gh/owner/repo/main",
    asked_ref="main",
    requested_by="ann",
    created="",
)


def settings(platform: str, **policy: object) -> Settings:
    return from_mapping({"policy": policy}, platform=platform, state_dir=Path("/nonexistent"))


@pytest.mark.parametrize(
    ("platform", "policy", "allowed"),
    [
        ("desktop", {}, True),
        ("tljh", {}, False),
        ("tljh", {"dockerfile_repositories": ("https://github.com/owner/*",)}, True),
        ("tljh", {"dockerfile_repositories": ("https://github.com/own",)}, False),
        ("tljh", {"dockerfile": "everyone"}, True),
        ("desktop", {"dockerfile": "off", "dockerfile_repositories": ("*",)}, False),
    ],
)
def test_whose_dockerfiles_are_built(platform: str, policy: dict[str, object], allowed: bool) -> None:
    assert dockerfile_allowed(settings(platform, **policy), ROW.url) is allowed


@pytest.mark.parametrize("ref", ["", "v1.0", "feature/x", "refs/heads/main", "refs/tags/v1", "reference"])
def test_branches_and_tags_of_one_repository_share_their_caches(ref: str) -> None:
    other = replace(ROW, asked_ref=ref, commit="d" * 40, requested_by="bob")
    assert cache_namespace("me", other) == cache_namespace("me", ROW)


@pytest.mark.parametrize(
    "ref", ["refs/pull/1/head", "pull/1/head", "merge-requests/7/head", "c" * 40, "C" * 40]
)
def test_what_may_be_anybodys_has_a_cache_of_its_own(ref: str) -> None:
    one = replace(ROW, asked_ref=ref)
    assert cache_namespace("me", one) != cache_namespace("me", ROW)
    assert cache_namespace("me", one) != cache_namespace("me", replace(one, commit="d" * 40))


def test_repositories_installations_and_private_builds_never_share() -> None:
    mine = replace(ROW, visibility="private")
    names = {
        cache_namespace("me", ROW),
        cache_namespace("they", ROW),
        cache_namespace("me", replace(ROW, url="https://github.com/owner/other")),
        cache_namespace("me", mine),
        cache_namespace("me", replace(mine, requested_by="bob")),
    }
    assert len(names) == 5


# -- the end of a build: its image is recorded, then named ------------------------------------------------


class Ended(Pipeline):
    """Every build has just made the image `sha256:<build>`; its check ends with that of `at_once` builds."""

    at_once = 1

    def __init__(self, settings: Settings, store: Store) -> None:
        self.docker: Any = SmallDocker()
        self.store = store
        self._here = 0
        self._all_here = asyncio.Event()
        nobody: Any = None
        us: Any = self
        super().__init__(settings, store, self.docker, us, nobody, Inventory(store, self.docker))

    async def resolve(self, spec: RepoSpec, commit: str, login: object) -> PinnedRepo:
        return PinnedRepo(spec, spec.normal_url, commit)

    async def begun(self, name: str) -> BuildRow:
        """The row of a build that runs, for one person."""
        row = replace(ROW, id=name, requested_by=name, visibility="private", created=utc_now())
        await self.store.enqueue(row, per_person=1)
        await self.store.start_build(name)
        return row

    async def check(self, *_: object) -> CheckResult:
        self._here += 1
        if self._here == self.at_once:
            self._all_here.set()
        await self._all_here.wait()
        return CheckResult(True, "/home/jovyan", "/home/jovyan", 1.0)

    async def _base(self, report: object) -> BaseImage:
        return BaseImage("base", "sha256:base", "0" * 64)

    async def _fetch_and_run(self, row: BuildRow, *_: object) -> WorkerResult:
        self.docker.add(f"sha256:{row.id}", building_name(row.id))
        return WorkerResult(True)

    async def _image_of(self, row: BuildRow, *_: object) -> ImageFacts:
        found: ImageFacts = await self.docker.image(building_name(row.id))
        return found


class Quiet:
    def say(self, text: str) -> None: ...
    async def reach(self, phase: Phase, progress: int, text: str = "") -> None: ...
    async def drain(self) -> None: ...


@pytest.fixture
async def ended(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Ended]:
    here = from_mapping({}, platform="tljh", state_dir=tmp_path)
    ensure_state(here)
    store = await Store.open(here.store_path)
    made = Ended(here, store)
    monkeypatch.setattr(pipeline, "check_image", made.check)
    yield made
    await store.close()


async def test_two_peoples_images_of_one_commit_that_are_ready_at_once_both_keep_a_name(ended: Ended) -> None:
    ended.at_once = 2
    rows = [await ended.begun(name) for name in ("ann", "bob")]
    await asyncio.gather(*(ended.build(row, Quiet()) for row in rows))
    recorded = {image.image_id: [image.name] for image in await ended.store.images()}
    assert len(recorded) == 2
    assert ended.docker.names == recorded


async def test_an_image_that_is_recorded_stays_when_its_build_is_ended_before_it_is_named(
    ended: Ended,
) -> None:
    reached, go = asyncio.Event(), asyncio.Event()

    async def slowly(image_id: str) -> None:
        reached.set()
        await go.wait()

    ended.docker.before_naming = slowly
    building = asyncio.ensure_future(ended.build(await ended.begun("ann"), Quiet()))
    await reached.wait()
    building.cancel()
    go.set()
    await asyncio.wait({building})
    [image] = await ended.store.images()
    assert ended.docker.names == {image.image_id: [image.name]}
