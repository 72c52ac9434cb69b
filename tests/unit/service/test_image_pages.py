"""The administrator's pages of images: what they show, who may see them, and that nothing goes unseen."""

from __future__ import annotations

import re
from datetime import datetime, timedelta, timezone
from typing import Any
from urllib.parse import parse_qsl

import pytest
from forms import Forms
from house import COMMIT, IMAGE, NOW, House, build_view, image_view

from tljh_plugin.cache.dossier import Dossier, LayerOf
from tljh_plugin.cache.filesystems import Usage
from tljh_plugin.cache.listing import Listed
from tljh_plugin.cache.plan import plan_of
from tljh_plugin.errors import EngineUnavailable, InvalidRequest
from tljh_plugin.service.pages.image import change_of, last_day, shown_layers
from tljh_plugin.service.pages.images import stale
from tljh_plugin.wire import ImageView

OTHER = "sha256:" + "cd" * 32
PAGES = ["images", "images/new", f"images/{IMAGE}", f"images/plan?id={IMAGE}", "retention", "runs/r-1"]
POSTS = ["images/new", f"images/{IMAGE}/edit", "images/plan", "retention", "runs/r-1/stop"]


def text_of(answer: Any) -> str:
    return " ".join("".join(Forms(answer.text).texts).split())


async def seen(browser: Any, path: str) -> dict[str, str]:
    """The hidden fields of the form on a page."""
    return Forms((await browser.visit(path)).text).fields


async def test_only_administrators_see_the_pages_and_send_their_forms(house: House) -> None:
    house.inventory.known = [image_view()]
    async with house.browser("root") as browser:
        await browser.visit(f"images/plan?id={IMAGE}")
        house.sweep.held = True
        await browser.submit("images/plan", **await seen(browser, f"images/plan?id={IMAGE}"))
    async with house.browser("ada") as browser:
        for path in PAGES:
            assert (await browser.visit(path)).status_code == 403, path
        await browser.visit("")
        for path in POSTS:
            assert (await browser.submit(path, id=IMAGE)).status_code == 403, path
    assert house.sweep.stopped == []


@pytest.mark.parametrize("path", POSTS)
async def test_no_form_counts_without_its_token(house: House, path: str) -> None:
    house.inventory.known = [image_view()]
    async with house.browser("root") as browser:
        await browser.visit("images")
        browser.xsrf = "guessed"
        assert (await browser.submit(path, id=IMAGE, mode="erase")).status_code == 403
    assert not house.sweep.known


# -- the table ----------------------------------------------------------------------------------------


async def test_the_table_says_what_an_administrator_needs(house: House) -> None:
    house.inventory.known = [
        image_view(
            asked_ref="main",
            build_seconds=95,
            launches=12,
            last_used=NOW,
            last_used_by="eve",
            users=("eve/calm-otter",),
            own_bytes=2 * 1024**2,
            pinned=True,
            older_recipe=True,
            building=True,
        )
    ]
    house.inventory.others = [
        Listed(id=OTHER, name="postgres:16", title="postgres:16", ours=False, size=1024)
    ]
    async with house.browser("root") as browser:
        answer = await browser.visit("images")
    text = text_of(answer)
    for said in (
        "1 built here, 1 of others",
        COMMIT[:7],
        "main",
        "ada · 1 min 35 s",
        "eve · 12 launches",
        "eve/calm-otter",
        "1.1 GiB",
        "2 MiB",
        "pinned",
        "older recipe",
        "building",
        "postgres:16",
        "not built here",
        "never touched",
        "not known",
    ):
        assert said in text, said
    assert f"images/{OTHER}" not in answer.text  # there is no page of what is not ours


async def test_a_thousand_images_fit_onto_small_pages(house: House) -> None:
    house.inventory.known = [
        image_view(f"sha256:{n:064x}", title=f"owner/repo-{n:04}", size=n, users=("eve/calm-otter",))
        for n in range(1000)
    ]
    async with house.browser("root") as browser:
        first = await browser.visit("images?sort=size")
        assert len(first.content) <= 100_000
        assert text_of(first).count("Select owner/repo-") == 50
        assert "owner/repo-0999" in first.text
        assert "1 to 50 of 1000" in text_of(first)
        next_page = re.search(r'rel="next" href="([^"]+)"', first.text)
        assert next_page
        second = await browser.get(house.environment.url + next_page[1].replace("&amp;", "&"))
        assert "owner/repo-0949" in second.text
        assert "51 to 100 of 1000" in text_of(second)
        found = await browser.visit("images?q=repo-0007")
        assert "owner/repo-0007" in found.text
        assert "owner/repo-0008" not in found.text
        assert "No image is like that" in (await browser.visit("images?q=nothing-such")).text


@pytest.mark.parametrize("query", ["show=nonsense", "sort=price", "page=0"])
async def test_a_table_that_is_none_is_refused_with_its_value(house: House, query: str) -> None:
    async with house.browser("root") as browser:
        answer = await browser.visit(f"images?{query}")
    assert answer.status_code == 400
    assert dict(parse_qsl(query)).popitem()[1] in answer.text


async def test_old_figures_say_since_when_and_why(house: House) -> None:
    house.inventory.known = [image_view()]
    async with house.browser("root") as browser:
        assert "These figures are old" not in (await browser.visit("images")).text
        house.inventory.problem = EngineUnavailable("Docker does not answer.", "Start it.")
        for path in ("images", f"images/{IMAGE}", f"images/plan?id={IMAGE}", "retention"):
            text = (await browser.visit(path)).text
            assert "These figures are old" in text, path
            assert house.inventory.looked in text
            assert "Start it." in text


def test_a_list_that_nobody_could_make_anew_is_old_without_an_error_too(house: Any) -> None:
    looked = datetime.fromisoformat(house.inventory.looked)
    assert stale(house.inventory, looked + timedelta(seconds=60)) is None
    found = stale(house.inventory, looked + timedelta(minutes=5))
    assert found is not None
    assert found.looked == house.inventory.looked


# -- one image ----------------------------------------------------------------------------------------


async def test_an_images_page_tells_what_is_in_it(house: House) -> None:
    house.inventory.known = [
        image_view(pinned=True, pin_reason="the course", newer_commit="f" * 40, asked_ref="main")
    ]
    async with house.browser("root") as browser:
        text = text_of(await browser.visit(f"images/{IMAGE}"))
        for said in (COMMIT, "numpy 2.3.1", "git 1:2.39.5", "owner/other", "eve", "calm-otter", "the course"):
            assert said in text, said
        assert "main is at another commit now" in text
        house.dossiers.packages = None
        assert "Not recorded" in text_of(await browser.visit(f"images/{IMAGE}"))
        assert (await browser.visit(f"images/{OTHER}")).status_code == 404


def test_layers_that_the_same_images_have_do_not_name_them_again() -> None:
    def layer(name: str, *shared: str, size: int = 1) -> LayerOf:
        return LayerOf(name, size, shared)

    layers = (layer("a", "x", "y"), layer("b", "x", "y"), layer("e", size=0), layer("c", "x"), layer("d"))
    dossier = Dossier(None, layers, None, (), ())  # type: ignore[arg-type]
    assert [(each.place, each.as_below) for each in shown_layers(dossier) or ()] == [
        (1, False),
        (2, True),
        (4, False),
        (5, False),
    ]


async def test_the_form_changes_only_what_was_changed(house: House) -> None:
    house.inventory.known = [
        image_view(title="owner/repo", profile="small", visibility="group", groups=("lab",))
    ]
    async with house.browser("root") as browser:
        await browser.visit(f"images/{IMAGE}")
        same = {"title": "owner/repo", "profile": "small", "visibility": "group", "groups": "lab"}
        answer = await browser.submit(
            f"images/{IMAGE}/edit", **same, pinned="1", pin_reason="the course", pinned_until="2027-01-31"
        )
    assert answer.status_code == 303
    [(image_id, person, change)] = house.describing.asked
    assert (image_id, person) == (IMAGE, "root")
    assert change.model_dump(exclude_none=True) == {
        "pinned": True,
        "pin_reason": "the course",
        "pinned_until": "2027-01-31",
    }


async def test_what_was_typed_stays_when_it_is_refused(house: House) -> None:
    house.inventory.known = [image_view()]
    house.describing.problem = InvalidRequest("`icon` has the value 'xx'.", "Give one emoji.")
    async with house.browser("root") as browser:
        await browser.visit(f"images/{IMAGE}")
        answer = await browser.submit(f"images/{IMAGE}/edit", title="My title", icon="xx", pinned="1")
    assert answer.status_code == 400
    assert "Give one emoji." in answer.text
    page = Forms(answer.text)
    assert (page.fields["title"], page.fields["icon"]) == ("My title", "xx")
    assert re.search(r'id="pinned"[^>]* checked', answer.text)


def test_a_pin_ends_with_the_day_that_the_field_shows() -> None:
    view = image_view(pinned=True, pinned_until="2027-02-01T00:00:00.000+00:00")
    assert last_day(view) == "2027-01-31"
    assert unchanged(view) == {}


def test_a_visibility_that_is_none_is_refused() -> None:
    with pytest.raises(InvalidRequest, match="nobody"):
        change_of(
            image_view(), {**typed(image_view()), "visibility": "nobody"}, {"pinned": False, "retired": False}
        )


def typed(view: ImageView) -> dict[str, str]:
    names = ("title", "description", "icon", "profile", "urlpath", "pin_reason", "visibility")
    return {**{name: getattr(view, name) for name in names}, "pinned_until": last_day(view), "groups": ""}


def unchanged(view: ImageView) -> dict[str, Any]:
    boxes = {"pinned": view.pinned, "retired": view.retired}
    return change_of(view, typed(view), boxes).model_dump(exclude_none=True)


# -- deleting -----------------------------------------------------------------------------------------


async def test_nothing_goes_before_its_plan_was_seen(house: House) -> None:
    house.inventory.known = [image_view(), image_view(OTHER, title="owner/used", users=("bob/x",))]
    async with house.browser("root") as browser:
        path = f"images/plan?id={IMAGE}&id={OTHER}"
        plan = await browser.visit(path)
        assert "Delete 1 image?" in plan.text
        assert "bob/x" in plan.text
        assert (await browser.submit("images/plan", id=IMAGE, mode="erase")).status_code == 409
        assert not house.sweep.known
        fields = Forms(plan.text).fields
        answer = await browser.submit("images/plan", **{**fields, "id": IMAGE})
        assert answer.status_code == 303
        assert house.sweep.deleted == [IMAGE]
        run = text_of(await browser.get(house.environment.url + answer.headers["location"]))
    assert "1 of 1 images went" in run
    assert "4 KiB" in run


async def test_what_changed_since_the_plan_is_shown_again(house: House) -> None:
    house.inventory.known = [image_view(), image_view(OTHER, title="owner/second")]
    async with house.browser("root") as browser:
        fields = await seen(browser, "images/plan?all=1&q=owner")
        house.inventory.known.append(image_view("sha256:" + "ef" * 32, title="owner/third"))
        answer = await browser.submit("images/plan", **fields)
        assert answer.status_code == 409
        assert "owner/third" in answer.text
        assert not house.sweep.known
        answer = await browser.submit("images/plan", **Forms(answer.text).fields)
    assert answer.status_code == 303
    assert len(house.sweep.deleted) == 3


async def test_the_way_of_deleting_is_part_of_what_was_seen(house: House) -> None:
    house.inventory.known = [image_view()]
    async with house.browser("root") as browser:
        fields = await seen(browser, f"images/plan?id={IMAGE}&mode=evict")
        assert (await browser.submit("images/plan", **{**fields, "mode": "erase"})).status_code == 409
        assert (await browser.submit("images/plan", **{**fields, "mode": "everything"})).status_code == 400
        assert not house.sweep.known
        assert (await browser.submit("images/plan", **fields)).status_code == 303
    assert [run.mode for run in house.sweep.known.values()] == ["evict"]


@pytest.mark.parametrize("query", ["", "?id=", f"?id={OTHER}"])
async def test_a_plan_of_nothing_is_refused(house: House, query: str) -> None:
    house.inventory.known = [image_view()]
    async with house.browser("root") as browser:
        assert (await browser.visit(f"images/plan{query}")).status_code in (400, 404)


async def test_a_run_that_goes_on_is_followed_and_can_be_stopped(house: House) -> None:
    house.inventory.known = [image_view()]
    house.sweep.held = True
    async with house.browser("root") as browser:
        fields = await seen(browser, f"images/plan?id={IMAGE}")
        page = (await browser.submit("images/plan", **fields)).headers["location"].rpartition("binder/")[2]
        shown = await browser.visit(page)
        assert "0 of 1 done" in shown.text
        assert "The disk gained" not in shown.text
        assert '<noscript><meta http-equiv="refresh"' in shown.text
        assert (await browser.submit(f"{page}/stop")).status_code == 303
        assert (await browser.visit("runs/r-99")).status_code == 404
    assert house.sweep.stopped == ["r-1"]


async def test_a_failed_build_is_tried_again_by_a_button(house: House) -> None:
    house.queue.add(build_view("b-1", state="failed", phase="failed", requested_by="ada"))
    house.queue.add(build_view("b-2", state="built", phase="built", requested_by="ada"))
    async with house.browser("ada") as browser:
        assert 'action="/services/binder/builds/b-1/retry"' in (await browser.visit("builds/b-1")).text
        text = (await browser.visit("builds")).text
        assert 'action="/services/binder/builds/b-1/retry"' in text
        assert "builds/b-2/retry" not in text
        answer = await browser.submit("builds/b-1/retry")
    assert answer.status_code == 303
    assert [person for person, _ in house.queue.requested] == ["ada"]


async def test_an_image_is_built_without_starting_it(house: House) -> None:
    async with house.browser("root") as browser:
        await browser.visit("images/new")
        answer = await browser.submit("images/new", repository="owner/repo", ref="main")
        assert answer.headers["location"].endswith("builds/b-1")
        refused = await browser.submit("images/new", repository="owner/repo", ref="gone")
        assert refused.status_code == 404
        assert "Did you mean" in refused.text
        assert Forms(refused.text).fields["ref"] == "gone"
    assert len(house.queue.requested) == 1
    assert not house.hub.started


# -- retention ----------------------------------------------------------------------------------------


async def test_retention_shows_what_it_would_do_under_other_settings_and_changes_none(house: House) -> None:
    house.retention.disk = Usage(10**12, 10**11, 9 * 10**11)
    house.inventory.known = [
        image_view(created=(datetime.now(timezone.utc) - timedelta(days=40)).isoformat())
    ]
    async with house.browser("root") as browser:
        assert "A run now would take nothing" in (await browser.visit("retention")).text
        tried = await browser.visit("retention?unused_days=30")
        assert "A run now would take 1 image" in tried.text
        assert "unused_days: 30" in tried.text
        assert "Run now" not in tried.text
        assert not house.sweep.known
        refused = await browser.visit("retention?high_watermark_percent=lots")
        assert refused.status_code == 400
        assert "lots" in refused.text
        refused = await browser.visit("retention?low_watermark_percent=99")
        assert "above" in refused.text
        answer = await browser.submit("retention")
        assert answer.headers["location"].endswith("retention")  # nothing was to go
        house.retention.policy = house.retention.policy.model_copy(update={"unused_days": 30.0})
        answer = await browser.submit("retention")
        assert answer.headers["location"].endswith("runs/r-1")
        assert "runs/r-1" in (await browser.visit("retention")).text


def test_no_rule_of_a_plan_is_without_a_name() -> None:
    from typing import get_args

    from tljh_plugin.cache.listing import Badge
    from tljh_plugin.cache.plan import Rule
    from tljh_plugin.cache.run import Outcome
    from tljh_plugin.service.pages import deletion, images, retention

    going = {"asked", "unused-days", "retired-first", "watermark", "budget", "cache-first"}
    assert set(retention.RULES) == set(get_args(Rule)) - going
    assert set(images.BADGES) == set(get_args(Badge))
    assert set(deletion.OUTCOMES) == set(get_args(Outcome))
    assert plan_of([], [], "erase", min_age_hours=0, now=datetime.now(timezone.utc)).take == ()
