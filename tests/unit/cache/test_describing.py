"""Promises of what administrators say of an image: what is accepted, what is refused, what is noted."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from small_docker import SmallDocker

from tljh_plugin.build.identity import ImageIdentity
from tljh_plugin.cache.describing import Describing, changes, notes, read_end, read_icon
from tljh_plugin.cache.inventory import Inventory
from tljh_plugin.cache.leases import Leases
from tljh_plugin.cache.sharing import Sharing
from tljh_plugin.errors import Forbidden, ImageNotFound, ImageRetired, InvalidRequest
from tljh_plugin.service.preparations import Preparations
from tljh_plugin.settings import from_mapping
from tljh_plugin.store import BuildRow, ImageRow, Store, utc_now
from tljh_plugin.wire import ImageChange, Person, PrepareRequest

ANN, BOB, ROOT = Person(name="ann"), Person(name="bob"), Person(name="root", admin=True)
IDENTITY = ImageIdentity("https://github.com/a/b", "c" * 40, "", "linux/amd64")
IMAGE = f"sha256:{1:064x}"
NOW = "2026-11-21T09:26:52.123+00:00"
ROW = ImageRow(
    image_id=IMAGE,
    name="littlest-binder/a-b:1",
    identity=IDENTITY.key,
    url=IDENTITY.url,
    commit=IDENTITY.commit,
    subdir="",
    platform=IDENTITY.platform,
    spec=f"gh/a/b/{IDENTITY.commit}",
    asked_ref="main",
    title="github.com/a/b",
    built_by="ann",
    build_id="b-1",
    created=NOW,
    size=1,
    recipe="r",
    home="/home/jovyan",
    workdir="/home/jovyan",
)


class TestDeciding:
    def test_only_what_differs_changes(self) -> None:
        asked = ImageChange(title=" Optics ", description="a\r\nb", icon="🔭", urlpath="/lab/tree/a b.ipynb")
        assert changes(ROW, asked, [], NOW) == {
            "title": "Optics",
            "description": "a\nb",
            "icon": "🔭",
            "urlpath": "lab/tree/a%20b.ipynb",
        }
        assert changes(ROW, ImageChange(), [], NOW) == {}
        assert changes(ROW, ImageChange(title=ROW.title, retired=False, pinned=False), [], NOW) == {}

    def test_an_empty_title_is_the_repositorys_name(self) -> None:
        assert changes(replace(ROW, title="Optics"), ImageChange(title=" "), [], NOW) == {
            "title": "github.com/a/b"
        }

    @pytest.mark.parametrize(
        ("bad", "told"),
        [
            ({"title": "x" * 201}, "201 characters"),
            ({"title": "one\ntwo"}, "more than one line"),
            ({"title": "a\x1b[31m"}, "U\\+001B"),
            ({"description": "a\u202eb"}, "U\\+202E"),
            ({"description": "x" * 2001}, "2001 characters"),
            ({"icon": "ab"}, "'ab'"),
            ({"icon": "<b>"}, "icon"),
            ({"profile": "huge"}, "no such profile"),
            ({"urlpath": "https://example.org/"}, "not a path on your own server"),
            ({"urlpath": "../../hub/admin"}, "not a path on your own server"),
            ({"urlpath": "a" * 2001}, "2001 characters"),
            ({"pin_reason": "course"}, "is not pinned"),
            ({"pinned": False, "pinned_until": "2027-01-01"}, "is not pinned"),
            ({"pinned": True, "pinned_until": "2026-11-20"}, "is over"),
            ({"pinned": True, "pinned_until": "soon"}, "'soon'"),
            ({"pinned": True, "pinned_until": "9999-12-31T23:59:59-23:00"}, "pinned_until"),
        ],
    )
    def test_what_is_wrong_is_said_with_its_value(self, bad: dict[str, Any], told: str) -> None:
        with pytest.raises(InvalidRequest, match=told) as caught:
            changes(ROW, ImageChange(**bad), ["small"], NOW)
        assert caught.value.next_step

    @pytest.mark.parametrize(
        "icon",
        ["", "🔭", "❤️", "🧑🏽‍🔬", "🇨🇭", "1️⃣", "🏴\U000e0067\U000e0062\U000e007f", "👨‍👩‍👧‍👦", "↔️", "🏳️‍🌈"],
    )
    def test_one_emoji_is_an_icon(self, icon: str) -> None:
        assert read_icon(f" {icon} ") == icon

    @pytest.mark.parametrize(
        "text", ["x", "1", "🔭🔭", "🔭x", "🇨", "‍", "️", "é", "<", "🔭" * 20, "&#x1F52D;", "🏽x"]
    )
    def test_nothing_else_is(self, text: str) -> None:
        with pytest.raises(InvalidRequest, match="icon"):
            read_icon(text)

    def test_a_pin_lasts_to_the_end_of_its_day(self) -> None:
        assert read_end("2026-12-24", NOW) == "2026-12-25T00:00:00.000+00:00"
        assert read_end("2026-12-24T12:00+01:00", NOW) == "2026-12-24T11:00:00.000+00:00"
        assert read_end("2026-12-24T12:00", NOW) == "2026-12-24T12:00:00.000+00:00"
        assert read_end("2026-11-21", NOW) > NOW, "today is not over"

    def test_a_pin_that_has_ended_is_none_and_leaves_nothing_to_the_next(self) -> None:
        ended = replace(ROW, pinned=True, pin_reason="course", pinned_until="2026-11-20T00:00:00.000+00:00")
        assert not ended.pin_holds(NOW)
        assert changes(ended, ImageChange(pinned=True), [], NOW) == {"pin_reason": "", "pinned_until": ""}
        with pytest.raises(InvalidRequest, match="is not pinned"):
            changes(ended, ImageChange(pin_reason="again"), [], NOW)

    def test_unpinning_takes_reason_and_end_away(self) -> None:
        pinned = replace(ROW, pinned=True, pin_reason="course", pinned_until="2027-01-01T00:00:00.000+00:00")
        assert changes(pinned, ImageChange(pin_reason="exam"), [], NOW) == {"pin_reason": "exam"}
        assert changes(pinned, ImageChange(pinned_until=""), [], NOW) == {"pinned_until": ""}
        gone = changes(pinned, ImageChange(pinned=False), [], NOW)
        assert gone == {"pinned": False, "pin_reason": "", "pinned_until": ""}
        assert notes(pinned, gone) == {"image.unpin": "unpinned"}

    def test_every_change_is_noted_under_its_own_name(self) -> None:
        asked = ImageChange(title="T", pinned=True, pin_reason="course", retired=True)
        assert notes(ROW, changes(ROW, asked, [], NOW)) == {
            "image.describe": "title: 'T'",
            "image.pin": "without end: course",
            "image.retire": "no new starts",
        }


class Place:
    def __init__(self, store: Store, folder: Path) -> None:
        self.store = store
        self.docker = SmallDocker()
        self.inventory = Inventory(store, self.docker, period_s=3600)
        settings = from_mapping({}, platform="tljh", state_dir=folder)
        sharing = Sharing(store, self.inventory)
        self.describing = Describing(store, self.inventory, sharing, lambda: ["small", "big"])
        stand_in: Any = None
        self.preparations = Preparations(settings, stand_in, store, self.docker, Leases(store), stand_in)

    async def built(self, image: ImageRow) -> None:
        build = BuildRow(
            id=image.build_id,
            identity=image.identity,
            url=image.url,
            commit=image.commit,
            subdir="",
            platform=image.platform,
            spec=image.spec,
            asked_ref="main",
            requested_by="ann",
            created=utc_now(),
            rebuild=True,
        )
        await self.store.enqueue(build, per_person=9)
        await self.store.start_build(build.id)
        assert await self.store.finish_built(build.id, image)
        self.docker.add(image.image_id, image.name)
        await self.inventory.refresh()

    async def noted(self) -> list[tuple[str, str, str, str]]:
        return [(each.who, each.what, each.thing, each.result) for each in await self.store.audit_entries()]


@pytest.fixture
async def place(tmp_path: Path) -> AsyncIterator[Place]:
    store = await Store.open(tmp_path / "store.sqlite")
    found = Place(store, tmp_path)
    await found.built(ROW)
    yield found
    await store.close()


async def test_what_is_said_is_seen_at_once_and_noted(place: Place) -> None:
    asked = ImageChange(title="Optics", profile="big", visibility="group", groups=("physics",), pinned=True)
    await place.describing.change(IMAGE, ROOT, asked)
    view = place.inventory.image(IMAGE)
    assert view is not None
    assert (view.title, view.profile, view.groups, view.pinned) == ("Optics", "big", ("physics",), True)
    assert sorted(await place.noted()) == [
        ("root", "image.describe", ROW.name, "title: 'Optics', profile: 'big'"),
        ("root", "image.pin", ROW.name, "without end"),
        ("root", "image.share", ROW.name, "group physics"),
    ]


async def test_what_is_partly_wrong_changes_nothing(place: Place) -> None:
    for bad in (
        ImageChange(title="Optics", profile="huge"),
        ImageChange(title="Optics", visibility="group"),
        ImageChange(title="Optics", groups=("physics",)),
    ):
        with pytest.raises(InvalidRequest):
            await place.describing.change(IMAGE, ROOT, bad)
    assert await place.store.image(IMAGE) == ROW
    assert await place.noted() == []


async def test_who_is_no_administrator_describes_nothing(place: Place) -> None:
    for name, value in {"title": "x", "icon": "🔭", "pinned": True, "retired": True}.items():
        with pytest.raises(Forbidden, match=f"ann may not change `{name}`"):
            await place.describing.change(IMAGE, ANN, ImageChange(**{name: value}))
    await place.describing.change(IMAGE, ROOT, ImageChange(visibility="private"))
    with pytest.raises(ImageNotFound):
        await place.describing.change(IMAGE, BOB, ImageChange(title="x"))


async def test_an_owner_decides_until_it_is_for_everyone(place: Place) -> None:
    await place.store.share_image(IMAGE, "private", ())
    ann = Person(name="ann", groups=("physics",))
    for wish in (
        ImageChange(visibility="group", groups=("physics",)),
        ImageChange(visibility="private"),
        ImageChange(visibility="everyone"),
    ):
        await place.describing.change(IMAGE, ann, wish)
    with pytest.raises(Forbidden, match="everyone may use it"):
        await place.describing.change(IMAGE, ann, ImageChange(visibility="private"))


@pytest.mark.parametrize(
    "said",
    [ImageChange(pinned=True), ImageChange(description="For Tuesday"), ImageChange(visibility="private")],
)
async def test_what_an_administrator_said_of_it_its_owner_does_not_undo(
    place: Place, said: ImageChange
) -> None:
    await place.store.share_image(IMAGE, "private", ())
    await place.describing.change(IMAGE, ROOT, said)
    with pytest.raises(Forbidden, match="one has decided about it"):
        await place.describing.change(IMAGE, ANN, ImageChange(visibility="everyone"))
    view = place.inventory.image(IMAGE, ANN)
    assert view is not None
    assert view.decided


async def test_a_retired_image_is_no_hit_and_its_newer_sister_is(place: Place) -> None:
    await place.describing.change(IMAGE, ROOT, ImageChange(retired=True))
    look = await place.inventory.look(IDENTITY, ANN)
    assert look.hit is None
    assert look.retired is not None
    sister = replace(
        ROW, image_id=f"sha256:{2:064x}", name="littlest-binder/a-b:2", recipe="older", build_id="b-2"
    )
    place.inventory.recipe = "r"
    await place.built(sister)
    look = await place.inventory.look(IDENTITY, ANN)
    assert look.hit is not None
    assert look.hit.image_id == sister.image_id


async def test_the_last_door_before_a_container_is_closed_for_retired_images(place: Place) -> None:
    await place.describing.change(IMAGE, ROOT, ImageChange(retired=True))
    request = PrepareRequest(
        server="x", image_id=IMAGE, repository=ROW.url, spec=ROW.spec, commit=ROW.commit, storage="ephemeral"
    )
    with pytest.raises(ImageRetired, match=r"github\.com/a/b was retired"):
        await place.preparations.prepare(ROOT, request)
    assert await place.store.leases() == []


async def test_a_rebuild_that_gives_the_same_image_keeps_what_was_said(place: Place) -> None:
    asked = ImageChange(icon="🔭", urlpath="lab", pinned=True, pin_reason="course", retired=True)
    await place.describing.change(IMAGE, ROOT, asked)
    before = await place.store.image(IMAGE)
    await place.built(replace(ROW, build_id="b-2"))
    assert before is not None
    assert await place.store.image(IMAGE) == replace(before, build_id="b-2")
