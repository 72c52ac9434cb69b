"""Promises of plans: without what must stay, enough, without needless victims, stable."""

from __future__ import annotations

import time
from collections.abc import Collection, Sequence
from dataclasses import replace
from datetime import datetime, timedelta, timezone

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tljh_plugin.cache.bytes import freed_by, occupied_by
from tljh_plugin.cache.filesystems import Usage
from tljh_plugin.cache.plan import Candidate, Plan, kept, must_stay, plan_of, plan_retention
from tljh_plugin.engine import Layer
from tljh_plugin.settings import KeepSettings, RetentionSettings

NOW = datetime(2026, 11, 21, 12, tzinfo=timezone.utc)
DAY = timedelta(days=1)
PROTECTED = {"users": ("bob/x",), "leased": True, "building": True, "pinned": True, "ours": False}


def usage(used: int, total: int = 1000) -> Usage:
    return Usage(total, used, total - used)


def policy(**changes: object) -> RetentionSettings:
    return RetentionSettings.model_validate(
        {"high_watermark_percent": 90, "low_watermark_percent": 60, "min_age_hours": 1, **changes}
    )


def image(number: int, *sizes: int, **changes: object) -> Candidate:
    """An old image with layers of its own of these sizes."""
    plain = Candidate(
        image_id=f"sha256:{number}",
        name=f"littlest-binder/a-b:{number}",
        title="a/b",
        created=NOW - 100 * DAY,
        chain=tuple(Layer(f"{number}.{place}", size) for place, size in enumerate(sizes)),
        size=sum(sizes),
        repository="https://example.org/a/b",
        built_by="ann",
        newest=number,
        rebuild_s=100.0,
    )
    return replace(plain, **changes)


# What a machine under load takes is no matter of these tests.
SOME = settings(max_examples=60, deadline=None)

# -- whole machines -----------------------------------------------------------------------------------

LAYERS = [Layer(f"layer-{number}", size) for number, size in enumerate((5, 0, 40, 7, 100, 30, 30, 12))]


@st.composite
def candidates(draw: st.DrawFn) -> list[Candidate]:
    """Images that share layers, some of which are protected in one way or another."""
    found = []
    for number in range(draw(st.integers(0, 12))):
        idle = draw(st.integers(0, 60))
        protection = draw(st.sampled_from([None, None, None, *PROTECTED]))
        chain = tuple(each for each in LAYERS if draw(st.booleans()))
        found.append(
            image(
                number,
                chain=chain,
                size=sum(layer.bytes or 0 for layer in chain),
                created=NOW - timedelta(hours=draw(st.integers(0, 3)), days=draw(st.integers(0, 90))),
                last_used=draw(st.sampled_from([None, NOW - idle * DAY])),
                rebuild_s=draw(st.sampled_from([None, 1.0, 60.0, 900.0])),
                retired=draw(st.booleans()),
                ready=draw(st.sampled_from([False, False, True])),
                **({protection: PROTECTED[protection]} if protection else {}),
            )
        )
    return found


policies = st.builds(
    policy,
    low_watermark_percent=st.integers(0, 60),
    high_watermark_percent=st.integers(60, 100),
    max_bytes=st.sampled_from([0, 10, 60, 150]),
    unused_days=st.sampled_from([0, 0, 30]),
    keep=st.sampled_from([(), (KeepSettings(newest=2),), (KeepSettings(built_by="ann", rebuild_s=100),)]),
)
disks = st.one_of(st.none(), st.integers(0, 1000).map(usage))


def chains(images: Collection[Candidate]) -> dict[str, tuple[Layer, ...]]:
    return {each.image_id: each.chain or () for each in images}


def occupied(images: Sequence[Candidate], gone: Collection[str] = ()) -> int:
    ours = [each.image_id for each in images if each.ours and each.image_id not in gone]
    return occupied_by(ours, chains(images)) or 0


def enough(images: Sequence[Candidate], gone: Collection[str], wanted: int, budget: int) -> bool:
    """Whether, with these gone, the disk and the budget have what they want."""
    return (freed_by(gone, chains(images)) or 0) >= wanted and (
        not budget or occupied(images, gone) <= budget
    )


@SOME
@given(candidates(), policies, disks, st.booleans())
def test_a_plan_never_contains_what_must_stay(
    images: list[Candidate], asked: RetentionSettings, disk: Usage | None, begun: bool
) -> None:
    plan = plan_retention(images, asked, disk, NOW, begun=begun)
    known = {each.image_id: each for each in images}
    assert [each for each in plan.ids if kept(known[each], asked, NOW) is not None] == []
    everything = plan_of(list(known), images, "erase", min_age_hours=1, now=NOW)
    assert [each for each in everything.ids if must_stay(known[each], 1, NOW) is not None] == []
    # And each image of ours is in the plan once, with a reason.
    said = [item.image_id for item in (*plan.take, *plan.keep)]
    assert sorted(said) == sorted(each.image_id for each in images if each.ours)
    assert all(item.rule and item.text for item in (*plan.take, *plan.keep))


@SOME
@given(candidates(), policies, disks, st.booleans())
def test_a_plan_is_enough_without_needless_victims(
    images: list[Candidate], asked: RetentionSettings, disk: Usage | None, begun: bool
) -> None:
    plan = plan_retention(images, asked, disk, NOW, begun=begun)
    wanted = wanted_of(asked, disk, begun)
    overdue = {item.image_id for item in plan.take if item.rule == "unused-days"}
    could_go = [each.image_id for each in images if each.ours and kept(each, asked, NOW) is None]
    if enough(images, could_go, wanted, asked.max_bytes):
        assert enough(images, plan.ids, wanted, asked.max_bytes)
        for each in set(plan.ids) - overdue:
            assert not enough(images, set(plan.ids) - {each}, wanted, asked.max_bytes)
    else:  # all that is in reach is taken, and nothing that brings nothing
        assert freed_by(plan.ids, chains(images)) == freed_by(could_go, chains(images)) or not wanted
        for each in set(plan.ids) - overdue:
            fewer = set(plan.ids) - {each}
            less = (freed_by(fewer, chains(images)), -occupied(images, fewer))
            assert less != (freed_by(plan.ids, chains(images)), -occupied(images, plan.ids))


def wanted_of(asked: RetentionSettings, disk: Usage | None, begun: bool) -> int:
    if disk is None:
        return 0
    above = asked.low_watermark_percent if begun else asked.high_watermark_percent
    if disk.percent <= above:
        return 0
    return disk.used - int(asked.low_watermark_percent * disk.total / 100)


@SOME
@given(candidates(), policies, disks, st.data())
def test_a_plan_is_stable(
    images: list[Candidate], asked: RetentionSettings, disk: Usage | None, data: st.DataObject
) -> None:
    plan = plan_retention(images, asked, disk, NOW)
    assert plan_retention(data.draw(st.permutations(images)), asked, disk, NOW) == plan
    # When it was carried out there is nothing left to do.
    left = [each for each in images if each.image_id not in plan.ids]
    freed = plan.frees_bytes
    assert freed is not None
    after = disk and usage(disk.used - freed, disk.total)
    high = disk is not None and disk.percent > asked.high_watermark_percent
    if enough(images, plan.ids, wanted_of(asked, disk, False), asked.max_bytes):
        assert plan_retention(left, asked, after, NOW, begun=high).take == ()


@SOME
@given(candidates(), policies, disks)
def test_the_bytes_of_a_plan_are_those_that_become_free(
    images: list[Candidate], asked: RetentionSettings, disk: Usage | None
) -> None:
    for plan in (
        plan_retention(images, asked, disk, NOW),
        plan_of([each.image_id for each in images], images, "erase", min_age_hours=0, now=NOW),
    ):
        assert plan.frees_bytes == freed_by(plan.ids, chains(images))
        assert plan.frees_bytes == sum(item.frees_bytes or 0 for item in plan.take)


# -- one rule at a time -------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("changes", "rule", "text"),
    [
        ({"ours": False}, "not-ours", "not built or adopted here"),
        ({"users": ("bob/two", "container db")}, "in-use", "bob/two, container db"),
        ({"leased": True}, "starting", "being started"),
        ({"building": True}, "building", "built again"),
        ({"pinned": True, "pin_reason": "the course"}, "pinned", "Pinned: the course"),
        ({"created": NOW - timedelta(minutes=59)}, "young", "Younger than 1 h"),
    ],
)
def test_what_must_stay_stays_whoever_asks(changes: dict[str, object], rule: str, text: str) -> None:
    one = image(1, 10, **changes)
    asked = plan_of([one.image_id], [one], "erase", min_age_hours=1, now=NOW)
    assert asked.take == ()
    assert [(item.rule, text in item.text) for item in asked.keep] == [(rule, True)]
    by_itself = plan_retention([one], policy(unused_days=1), usage(1000), NOW)
    assert by_itself.take == ()
    assert [item.rule for item in by_itself.keep] == ([rule] if one.ours else [])


def rules(plan: Plan) -> dict[str, str]:
    return {item.image_id.removeprefix("sha256:"): item.rule for item in (*plan.take, *plan.keep)}


def test_below_the_high_watermark_nothing_goes_until_somebody_asks() -> None:
    images = [image(1, 200), image(2, 200)]
    assert plan_retention(images, policy(), usage(890), NOW).take == ()
    asked = plan_retention(images, policy(), usage(890), NOW, begun=True)
    assert (asked.wanted_bytes, asked.frees_bytes, len(asked.take)) == (290, 400, 2)


def test_what_was_idle_longest_for_what_a_rebuild_costs_goes_first() -> None:
    images = [
        image(1, 100, last_used=NOW - 30 * DAY, rebuild_s=1200.0),
        image(2, 100, last_used=NOW - 10 * DAY, rebuild_s=60.0),
        image(3, 100, last_used=NOW - 5 * DAY, rebuild_s=100.0),
        image(4, 100, last_used=NOW - 40 * DAY, rebuild_s=1200.0),
    ]
    order = [plan_retention(images, policy(), usage(600 + wanted), NOW, begun=True) for wanted in (100, 400)]
    assert order[0].ids == ("sha256:2",)
    assert order[1].ids == ("sha256:2", "sha256:3", "sha256:4", "sha256:1")


def test_retired_ones_go_first_and_no_rule_keeps_them() -> None:
    images = [
        image(1, 100),
        image(2, 100, retired=True, last_used=NOW - timedelta(hours=2)),
    ]
    plan = plan_retention(images, policy(keep=({"repository": "*"},)), usage(950), NOW)
    assert rules(plan) == {"1": "kept-by-rule", "2": "retired-first"}


def test_rules_keep_what_fits_all_that_they_say() -> None:
    images = [image(1, 50), image(2, 50, built_by="bob"), image(3, 50, repository="https://example.org/c")]
    rule = {"repository": "https://example.org/a/*", "built_by": "ann"}
    plan = plan_retention(images, policy(keep=(rule,)), usage(1000), NOW)
    assert rules(plan) == {"1": "kept-by-rule", "2": "watermark", "3": "watermark"}
    assert "rule 1" in plan.keep[0].text
    assert "built_by ann" in plan.keep[0].text


def test_the_budget_counts_shared_layers_once_and_only_ours() -> None:
    base = Layer("base", 100)
    images = [
        image(1, chain=(base, Layer("1", 10)), last_used=NOW - 3 * DAY),
        image(2, chain=(base, Layer("2", 10)), last_used=NOW - 2 * DAY),
        image(3, chain=(Layer("3", 500),), ours=False),
    ]
    assert plan_retention(images, policy(max_bytes=120), usage(1), NOW).take == ()
    plan = plan_retention(images, policy(max_bytes=119), usage(1), NOW)
    assert (plan.ids, plan.take[0].rule) == (("sha256:1",), "budget")


def test_unused_days_take_also_where_there_is_room() -> None:
    images = [image(1, 10, last_used=NOW - 31 * DAY), image(2, 10, last_used=NOW - 29 * DAY)]
    plan = plan_retention(images, policy(unused_days=30), usage(1), NOW)
    assert rules(plan) == {"1": "unused-days", "2": "not-needed"}
    assert "31 days" in plan.take[0].text


def test_what_evicted_images_left_goes_before_any_image() -> None:
    left = image(8, 200, ours=False, leftover=True)
    images = [image(1, 200), image(2, 200), left]
    plan = plan_retention(images, policy(), usage(950), NOW)
    assert (plan.take[0].image_id, plan.take[0].rule) == ("sha256:8", "cache-first")
    assert (len(plan.take), plan.frees_bytes, len(plan.keep)) == (2, 400, 1)
    assert plan_retention(images, policy(), usage(890), NOW).take == ()
    # Layers that only the cache still holds are not promised by the image that has them too.
    sharing = [image(1, chain=left.chain), left]
    assert plan_of(["sha256:1"], sharing, "erase", min_age_hours=0, now=NOW).frees_bytes == 0


def test_a_large_one_spares_many_small_ones() -> None:
    small = [image(number, 5, last_used=NOW - 50 * DAY) for number in range(1, 20)]
    large = image(99, 400, last_used=NOW - 40 * DAY)
    plan = plan_retention([*small, large], policy(), usage(950), NOW)
    assert plan.ids == ("sha256:99",)


def test_layers_that_two_share_go_with_both_or_not_at_all() -> None:
    shared = Layer("shared", 300)
    images = [image(1, chain=(shared,)), image(2, chain=(shared,)), image(3, 1)]
    both = plan_retention(images, policy(), usage(901), NOW)
    assert rules(both) == {"1": "watermark", "2": "watermark", "3": "watermark"}
    pinned = [images[0], replace(images[1], pinned=True), images[2]]
    assert plan_retention(pinned, policy(), usage(901), NOW).ids == ("sha256:3",)


def test_evicting_what_was_built_here_frees_nothing() -> None:
    images = [image(1, 10), image(2, 20, cached=False)]
    plan = plan_of(["sha256:1", "sha256:2"], images, "evict", min_age_hours=0, now=NOW)
    assert [item.frees_bytes for item in plan.take] == [0, 20]


def test_what_is_not_known_is_not_guessed() -> None:
    images = [image(1, 10), image(2, chain=None, size=20), image(3, chain=(Layer("3", None),), size=30)]
    ids = [each.image_id for each in images]
    plan = plan_of(ids, images, "erase", min_age_hours=0, now=NOW)
    assert [item.frees_bytes for item in plan.take] == [None, None, None]
    assert plan.frees_bytes is None
    # Sizes that are not known matter to that image alone, layers that are not known to all.
    plan = plan_of(ids[::2], images[::2], "erase", min_age_hours=0, now=NOW)
    assert [item.frees_bytes for item in plan.take] == [10, None]
    # Retention then takes rather too little, and looks again afterwards.
    assert plan_retention(images, policy(), usage(950), NOW, begun=True).frees_bytes is None


def test_a_disk_that_cannot_be_looked_at_is_no_reason() -> None:
    assert plan_retention([image(1, 10)], policy(), None, NOW, begun=True).take == ()


def test_a_selection_keeps_its_order_and_forgets_what_is_unknown() -> None:
    images = [image(1, 1), image(2, 2), image(3, 3)]
    plan = plan_of(
        ["sha256:3", "sha256:none", "sha256:1", "sha256:3"], images, "erase", min_age_hours=0, now=NOW
    )
    assert plan.ids == ("sha256:3", "sha256:1")


def test_a_record_of_an_image_that_is_gone_may_go_and_frees_nothing() -> None:
    lost = image(1, 10, present=False, created=NOW)
    plan = plan_of([lost.image_id], [lost, image(2, 5)], "erase", min_age_hours=1, now=NOW)
    assert [item.frees_bytes for item in plan.take] == [0]


def test_a_thousand_images_are_planned_at_once() -> None:
    base = tuple(Layer(f"base {number}", 10) for number in range(8))
    images = [
        image(number, chain=(*base, *(Layer(f"{number}.{place}", 1) for place in range(10))))
        for number in range(1200)
    ]
    began = time.process_time()
    plan = plan_retention(images, policy(low_watermark_percent=0), usage(10_000, 10_500), NOW)
    assert len(plan.take) == 1000  # 10 bytes each, the base stays
    assert time.process_time() - began < 2


def test_what_docker_keeps_under_other_names_frees_nothing_and_is_not_taken() -> None:
    """Only our names go: one that was tagged for a push as well keeps all its bytes."""
    pushed = image(1, 100, other_names=("registry.lab/course:1",), retired=True)
    both = [pushed, replace(image(2), chain=pushed.chain, size=100), image(3, 40)]
    by_hand = plan_of([each.image_id for each in both], both, "erase", min_age_hours=0, now=NOW)
    assert [item.frees_bytes for item in by_hand.take] == [0, 0, 40]
    assert "registry.lab/course:1" in by_hand.take[0].text
    by_itself = plan_retention(both, policy(unused_days=1), usage(950), NOW)
    assert by_itself.ids == ("sha256:2", "sha256:3")
    [stays] = by_itself.keep
    assert (stays.rule, stays.frees_bytes) == ("other-name", 0)
    assert "registry.lab/course:1" in stays.text


@pytest.mark.parametrize(("cached", "freed"), [(True, 0), (False, 7), (None, None)])
def test_evicting_frees_what_no_build_cache_holds(cached: bool | None, freed: int | None) -> None:
    plan = plan_of(["sha256:1"], [image(1, 7, cached=cached)], "evict", min_age_hours=0, now=NOW)
    assert plan.frees_bytes == freed
    erased = plan_of(["sha256:1"], [image(1, 7, cached=cached)], "erase", min_age_hours=0, now=NOW)
    assert erased.frees_bytes == 7


def test_what_came_from_a_file_stays_unless_it_was_built_here_as_well() -> None:
    why = kept(image(1, 7, imported=True, rebuild_s=None), policy(), NOW)
    assert why is not None
    assert why.rule == "not-ours"
    assert kept(image(1, 7, imported=True), policy(), NOW) is None
