"""Which images are looked at, which are built anew, and when."""

from __future__ import annotations

from datetime import datetime, timedelta, timezone
from typing import Any

import pytest
from house import build_view, image_view

from tljh_plugin.service.newer import Newer, chosen, heads, is_due
from tljh_plugin.source.resolve import PinnedRepo
from tljh_plugin.source.spec import RepoSpec
from tljh_plugin.wire import BuildView, ImageView, Person


def image(number: int, repository: str = "a", ref: str = "main", **more: Any) -> ImageView:
    commit = f"{number:040x}"
    values: dict[str, Any] = {
        "repository": f"https://github.com/lab/{repository}",
        "spec": f"gh/lab/{repository}/{commit}",
        "commit": commit,
        "asked_ref": ref,
        "created": f"2026-11-21T09:26:{number:02d}.000+00:00",
    }
    return image_view(f"sha256:{number:064x}", **{**values, **more})


def ids(images: list[ImageView]) -> set[int]:
    return {int(each.id.removeprefix("sha256:"), 16) for each in images}


def test_the_newest_of_a_branch_is_looked_at_unless_another_one_is_pinned() -> None:
    assert ids(heads([image(1), image(2), image(3, ref="v1"), image(4, "b")])) == {2, 3, 4}
    assert ids(heads([image(1, pinned=True), image(2)])) == {1}
    subdir = image(2, spec=f"gh/lab/a/{2:040x}?subdir=course")
    assert ids(heads([image(1), subdir])) == {1, 2}


def test_what_was_asked_by_its_commit_or_retired_or_adopted_is_left_out() -> None:
    adopted = image(3, adopted=True, spec="image/course:1", repository="image/course:1", asked_ref="")
    assert heads([image(1, ref="F" * 40), image(2, retired=True), adopted]) == []


@pytest.mark.parametrize(
    ("rule", "expected"), [("none", set()), ("pinned", {2}), ("ready", {1, 2}), ("all", {1, 2, 4, 5})]
)
def test_a_rule_says_which_are_built_anew(rule: str, expected: set[int]) -> None:
    images = [
        image(1),
        image(2, "b", pinned=True),
        # Not for everyone, and asked by another ref than the newest of its repository.
        image(4, "d", visibility="private"),
        image(5, "b", ref="old", created="2026-11-20T09:26:00.000+00:00"),
    ]
    assert ids(chosen(images, rule)) == expected


@pytest.mark.parametrize(
    ("now", "last", "due"),
    [
        ("03:29", "", False),
        ("03:30", "", True),
        ("04:29", "", True),
        ("04:31", "", False),
        ("03:45", "2026-11-21T03:31:00+01:00", False),
        ("03:45", "2026-11-20T03:31:00+01:00", True),
    ],
)
def test_the_night_comes_once(now: str, last: str, due: bool) -> None:
    here = timezone(timedelta(hours=1))
    moment = datetime.fromisoformat(f"2026-11-21T{now}:00").replace(tzinfo=here)
    assert is_due(moment, "03:30", last) is due
    assert not is_due(moment, "", last)


def test_a_night_around_midnight_is_one() -> None:
    moment = datetime(2026, 11, 22, 0, 10, tzinfo=timezone.utc)
    assert is_due(moment, "23:50", "2026-11-20T23:50:00+00:00")
    assert not is_due(moment, "23:50", "2026-11-21T23:51:00+00:00")


class Found:
    """What `Newer` asks, where the image of the newer commit is there already, or is built."""

    def __init__(self, *, hit: bool) -> None:
        self.hit = hit
        self.successors: list[tuple[str, str]] = []

    def image(self, image_id: str, person: Person) -> ImageView:
        return image(1)

    async def resolve(self, spec: RepoSpec, login: object = None) -> PinnedRepo:
        return PinnedRepo(spec, spec.normal_url, f"{2:040x}")

    async def request(self, person: Person, pinned: PinnedRepo, what: str) -> BuildView:
        return build_view("b-2", state="built", phase="built", hit=self.hit)

    async def finished(self, build_id: str) -> BuildView:
        return build_view(build_id, state="built", phase="built")

    async def newer(self) -> dict[str, object]:
        return {}

    async def set_newer(self, found: object) -> None: ...

    async def look_again(self) -> None: ...

    async def add_successor(self, build_id: str, image_id: str) -> None:
        self.successors.append((build_id, image_id))

    async def succeed(self, build_id: str, who: str) -> bool:
        return True


@pytest.mark.parametrize("hit", [True, False])
async def test_an_image_that_is_there_already_takes_nobodys_place(hit: bool) -> None:
    found: Any = Found(hit=hit)
    newer = Newer(found, found, found, found, found, found)
    try:
        await newer.build(Person(name="root", admin=True), image(1).id)
        assert found.successors == ([] if hit else [("b-2", image(1).id)])
    finally:
        await newer.stop()
