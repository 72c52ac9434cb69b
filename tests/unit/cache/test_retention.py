"""Promises of retention: by itself and on demand, to its target, and no use is forgotten."""

from __future__ import annotations

import asyncio
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import pytest
from small_cache import ROOT, FullDisk, House, image_id, small_house
from waiting import until

from tljh_plugin.cache.filesystems import Usage
from tljh_plugin.cache.retention import RETENTION
from tljh_plugin.engine import CacheRecord
from tljh_plugin.errors import EngineError, NotOurs
from tljh_plugin.settings import from_mapping
from tljh_plugin.store import Store, utc_now
from tljh_plugin.time_limit import within

# Of 10 images in the small Docker, 1000 bytes each, the disk has room for so many.
DISK = 10_500


async def full(house: House) -> None:
    """Ten images, the first one unused for longest, on a disk that is 95 % full."""
    house.docker.disk = DISK
    for number in range(1, 11):
        await house.built(number)
    await house.look()


async def test_above_the_high_watermark_it_goes_down_to_the_low_one(tmp_path: Path) -> None:
    async with small_house(tmp_path, high_watermark_percent=90, low_watermark_percent=50) as house:
        await full(house)
        await house.retention.round()
        assert (await house.docker.usage()).percent <= 50
        # The figures promise half of it, since the layers that all share stay: it stops when it is reached.
        runs = await house.sweep.runs()
        assert {run.by for run in runs} == {"retention"}
        assert len(house.docker.names) == 5
        assert image_id(10) in house.docker.names
        assert image_id(1) not in house.docker.names
        said = {entry.what for entry in await house.store.audit_entries()}
        assert {"retention.run", "image.erase", "image.sweep"} <= said
        count = len(runs)
        await house.retention.round()
        assert len(await house.sweep.runs()) == count


async def test_what_stays_is_in_no_history(tmp_path: Path) -> None:
    """Each list of runs reads all of their plans, and a thousand images stay in each."""
    async with small_house(tmp_path, high_watermark_percent=90, low_watermark_percent=80) as house:
        await full(house)
        run = await house.retention.round()
        assert run is not None
        assert run.plan.keep
        kept = await house.sweep.run(run.id)
        assert kept is not None
        assert (kept.plan.take, kept.plan.keep, kept.results) == (run.plan.take, (), run.results)


async def test_on_a_full_disk_it_makes_room_for_the_store_as_well(tmp_path: Path) -> None:
    async with small_house(tmp_path, high_watermark_percent=90, low_watermark_percent=50) as house:
        await full(house)
        house.docker.disk = 10_000
        FullDisk(house.store, lambda: house.docker.disk <= 1000 * len(house.docker.names))
        await house.retention.round()
        assert len(house.docker.names) == 5
        assert len(await house.store.images()) == 5
        assert all(run.finished for run in await house.store.runs())
        said = [entry.what for entry in await house.store.audit_entries()]
        assert (said.count("image.erase"), "retention.run" in said) == (5, True)


async def test_below_it_nothing_happens_until_somebody_asks(tmp_path: Path) -> None:
    async with small_house(tmp_path, high_watermark_percent=96, low_watermark_percent=50) as house:
        await full(house)
        assert await house.retention.round() is None
        assert len(house.docker.names) == 10
        preview = await house.retention.preview()
        assert preview.wanted_bytes == 10_000 - DISK // 2
        assert len(house.docker.names) == 10
        begun = await house.retention.begin(ROOT)
        assert begun is not None
        assert (begun.by, begun.finished) == ("root", "")
        await until(lambda: len(house.docker.names) == 5)
        assert await house.retention.run(ROOT) is None
        assert await house.retention.begin(ROOT) is None


async def test_a_preview_under_other_settings_changes_nothing(tmp_path: Path) -> None:
    async with small_house(tmp_path) as house:
        await full(house)
        other = house.retention.policy.model_copy(update={"low_watermark_percent": 0, "unused_days": 1})
        assert len((await house.retention.preview(other)).take) == 10
        assert house.retention.policy.unused_days == 0
        assert len(house.docker.names) == 10


async def test_it_does_not_run_by_itself_where_it_is_off(tmp_path: Path) -> None:
    async with small_house(tmp_path, enabled=None) as house:  # it is a desktop
        await full(house)
        assert await house.retention.round() is None
        assert len(house.docker.names) == 10
        assert await house.retention.run(ROOT) is not None


async def test_it_runs_by_itself(tmp_path: Path) -> None:
    async with small_house(tmp_path, every_s=0.05) as house:
        await house.look()
        house.retention.start()
        await full(house)
        await until(lambda: len(house.docker.names) < 10)
        await house.retention.stop()


async def test_for_another_limit_the_disk_is_not_brought_below_the_high_watermark(tmp_path: Path) -> None:
    """An overdue image, or a budget, makes no low watermark of the high one."""
    async with small_house(
        tmp_path, high_watermark_percent=90, low_watermark_percent=50, unused_days=1
    ) as house:
        house.docker.disk = 12_500
        await house.built(1)
        for number in range(2, 11):
            await house.built(number, created=utc_now())
        await house.look()
        run = await house.retention.round()
        assert run is not None
        assert {item.rule for item in run.plan.take} == {"unused-days"}
        assert len(await house.sweep.runs()) == 1
        assert len(house.docker.names) == 9


async def test_what_speaks_for_an_image_is_said_and_heeded(tmp_path: Path) -> None:
    async with small_house(tmp_path, low_watermark_percent=0) as house:
        await full(house)
        house.docker.run(image_id(1), "c1", person="bob", server="two")
        await house.store.update_image(image_id(2), pinned=True)
        await house.leases.take(image_id(3), 60)
        await house.look()
        run = await house.retention.run(ROOT)
        assert run is not None
        assert set(house.docker.names) == {image_id(1), image_id(2), image_id(3)}
        assert house.retention.keeps() == {
            image_id(1): "in-use",
            image_id(2): "pinned",
            image_id(3): "starting",
        }


async def test_pages_are_told_from_memory_what_it_makes_of_each(tmp_path: Path) -> None:
    async with small_house(tmp_path) as house:
        await full(house)
        await house.store.update_image(image_id(2), pinned=True)
        await house.retention.usage()
        await house.look()
        house.docker.asked.clear()
        verdicts = house.retention.verdicts()
        assert verdicts[image_id(1)].goes
        assert verdicts[image_id(1)].keep == ""
        assert verdicts[image_id(2)].keep == "pinned"
        assert not verdicts[image_id(10)].goes
        assert house.retention.verdicts() is verdicts
        assert house.docker.asked == []


async def test_a_use_is_remembered_across_restarts_for_as_long_as_it_lasted(tmp_path: Path) -> None:
    async with small_house(tmp_path) as house:
        await house.built(1, created="2026-01-01T00:00:00.000+00:00")
        await house.built(2, created="2026-01-01T00:00:00.000+00:00")
        await house.store.add_use(image_id(1), "ann", "")
        began = "2026-02-01T00:00:00.000+00:00"
        await house.store._change("UPDATE uses SET time = ?", [began])
        house.docker.run(image_id(1), "c1", person="ann", server="")
        await house.look()
        await house.retention.round()
        house.docker.used_by.clear()
    store = await Store.open(tmp_path / "store.sqlite")
    again = House(store, tmp_path)
    again.docker.add(image_id(1), "littlest-binder/a-b:1")
    again.docker.add(image_id(2), "littlest-binder/a-b:2")
    await again.look()
    used = {each.image_id: each.last_used for each in await again.candidates.all()}
    last = used[image_id(1)]
    assert last is not None
    assert datetime.now(timezone.utc) - last < timedelta(minutes=1)
    assert used[image_id(2)] is None
    await store.close()


async def test_what_a_rebuild_costs_is_what_the_longest_build_took(tmp_path: Path) -> None:
    async with small_house(tmp_path) as house:
        await house.built(1)
        await house.built(2)
        times = "UPDATE builds SET started = ?, finished = ? WHERE id = ?"
        for build, minutes in (("b-1", "10"), ("b-2", "01")):
            moment = f"2026-01-01T00:{minutes}:00.000+00:00"
            await house.store._change(times, ["2026-01-01T00:00:00.000+00:00", moment, build])
        await house.look()
        costs = [each.rebuild_s for each in await house.candidates.all()]
        assert [round(each or 0) for each in costs] == [600, 600]


async def test_an_error_of_one_image_keeps_it_from_no_other(tmp_path: Path) -> None:
    async with small_house(tmp_path, low_watermark_percent=50) as house:
        await full(house)
        house.docker.broken[image_id(1)] = EngineError("Docker said no.", "")
        await house.retention.run(ROOT)
        assert (await house.docker.usage()).percent <= 60


async def test_one_that_is_refused_each_time_keeps_it_from_no_other(tmp_path: Path) -> None:
    """It comes first, and the plan cannot know that it will not go."""
    async with small_house(tmp_path, high_watermark_percent=90, low_watermark_percent=85) as house:
        await full(house)
        for number, error in ((1, NotOurs("It has only names of others.", "")), (2, EngineError("No.", ""))):
            house.docker.broken[image_id(number)] = error
        await house.retention.round()
        assert (await house.docker.usage()).percent <= 85
        assert {image_id(1), image_id(2)} < set(house.docker.names)
        verdict = house.retention.verdicts()[image_id(1)]
        assert (verdict.keep, verdict.goes) == ("refused", False)
        assert "It has only names of others." in verdict.text
        # It is not asked for again each minute, but when a person asks.
        tried = house.docker.asked.count("remove_image")
        house.docker.disk = 8800
        await house.retention.round()
        assert house.docker.asked.count("remove_image") == tried + 1
        house.docker.broken.clear()
        house.docker.disk = 7500
        assert await house.retention.run(ROOT) is not None
        assert image_id(1) not in house.docker.names


async def test_an_overdue_one_that_is_refused_is_not_tried_each_minute(tmp_path: Path) -> None:
    async with small_house(tmp_path, unused_days=1) as house:
        await house.built(1)
        house.docker.broken[image_id(1)] = EngineError("Docker said no.", "")
        await house.look()
        assert await house.retention.round() is not None
        assert await house.retention.round() is None
        assert len(await house.sweep.runs()) == 1


async def test_cache_that_cannot_go_keeps_it_from_no_image(tmp_path: Path) -> None:
    """The cache of a failed build stands on what an evicted image left."""
    async with small_house(tmp_path, high_watermark_percent=82, low_watermark_percent=81) as house:
        docker: Any = house.docker

        async def records() -> list[CacheRecord]:
            shared = image_id(1) in house.docker.names
            return [CacheRecord("step", (), 500, shared, False, "", "", "regular", "")]

        async def none(_: str) -> None:
            return None

        docker.cache_records, docker.prune_cache_record = records, none
        await full(house)
        await house.delete(image_id(1), mode="evict")
        await house.look()
        assert {item.rule for item in (await house.retention.preview()).take} >= {"cache-first"}
        await house.retention.round()
        assert (await house.docker.usage()).percent <= 81
        outcomes = [each.outcome for run in await house.sweep.runs() for each in run.results]
        assert outcomes.count("kept") == 1


@pytest.mark.parametrize("change", ["used", "seen in use", "kept by a rule", "not retired any more"])
async def test_what_speaks_for_an_image_since_the_plan_was_made_is_heeded(
    tmp_path: Path, change: str
) -> None:
    """A run may take an hour, in which somebody used it, or an administrator changed the policy."""
    async with small_house(tmp_path, low_watermark_percent=0) as house:
        await full(house)
        third = image_id(3)
        await house.store.change_image(third, {"retired": change == "not retired any more"}, "root", {})
        await house.store.change_image(image_id(1), {"retired": True}, "root", {})

        async def nothing(_: str) -> None:
            return None

        async def meanwhile(_: str) -> None:
            house.docker.before_removal = nothing
            if change == "used":
                await house.store.add_use(third, "bob", "")
            elif change == "seen in use":
                await house.store.note_in_use([third])
            elif change == "kept by a rule":
                keep = [{"newest": 8}]
                said = {"retention": {"min_age_hours": 0, "low_watermark_percent": 0, "keep": keep}}
                house.sweep._settings = from_mapping(said, platform="desktop", state_dir=tmp_path)
            else:
                await house.store.change_image(third, {"retired": False}, "root", {})

        house.docker.before_removal = meanwhile
        await house.look()
        plan = await house.retention.preview()
        assert plan.ids[:2] == (image_id(1), third if change == "not retired any more" else image_id(2))
        run = await house.sweep.carry_out(plan, RETENTION)
        results = {each.image_id: each for each in run.results}
        assert (results[third].outcome, bool(results[third].text)) == ("kept", True)
        assert results[image_id(1)].outcome == "erased"
        assert third in house.docker.names


async def test_what_a_person_chose_goes_also_where_a_rule_keeps_it(tmp_path: Path) -> None:
    async with small_house(tmp_path, keep=[{"newest": 9}]) as house:
        await house.built(1)
        plan = await house.plan(image_id(1), mode="erase")
        await house.store.add_use(image_id(1), "bob", "")
        assert [each.outcome for each in (await house.sweep.carry_out(plan, ROOT)).results] == ["erased"]


async def test_the_bundled_images_are_always_offered(tmp_path: Path) -> None:
    async with small_house(tmp_path, low_watermark_percent=0) as house:
        url = f"file://{tmp_path}/examples/plain"
        await house.built(1, url=url, created=utc_now())
        await house.built(2, url=url, created="2026-01-01T00:00:00.000+00:00")
        house.docker.disk = 2000
        await house.look()
        assert RETENTION.admin
        run = await house.retention.run(ROOT)
        assert run is not None
        assert {item.rule for item in run.plan.keep} == {"ready"}
        assert set(house.docker.names) == {image_id(1)}


async def test_a_budget_is_kept_also_where_the_disk_has_room(tmp_path: Path) -> None:
    async with small_house(tmp_path, max_bytes=2600) as house:
        for number in range(1, 8):
            await house.built(number)
        await house.look()
        # Each has 500 bytes of its own and shares 500 with all: 4 fit.
        run = await house.retention.round()
        assert run is not None
        assert {item.rule for item in run.plan.take} == {"budget"}
        assert sorted(house.docker.names) == [image_id(number) for number in (4, 5, 6, 7)]


async def test_a_disk_that_is_down_does_not_end_a_run_for_the_budget(tmp_path: Path) -> None:
    async with small_house(tmp_path, low_watermark_percent=60, max_bytes=1000) as house:
        await full(house)
        await house.retention.round()
        assert len(house.docker.names) == 1


async def test_pages_that_are_shown_while_the_disk_is_measured_are_told_the_same(tmp_path: Path) -> None:
    async with small_house(tmp_path) as house:
        await full(house)
        await house.retention.usage()
        before = house.retention.verdicts()
        seen: list[bool] = []

        async def measured() -> Usage:
            seen.append(house.retention.verdicts() is before)
            return await house.docker.usage()

        house.retention._usage = measured
        await house.retention.usage()
        assert seen == [True]


async def test_a_mistake_of_ours_ends_neither_the_rounds_nor_a_request(tmp_path: Path) -> None:
    async with small_house(tmp_path, every_s=0.01) as house:
        await full(house)
        usage, failed = house.docker.usage, asyncio.Event()

        async def wrong() -> Usage:
            failed.set()
            raise ZeroDivisionError

        house.retention._usage = wrong
        with pytest.raises(ZeroDivisionError):
            await within(60, house.retention.begin(ROOT))
        failed.clear()
        house.retention.start()
        await failed.wait()
        house.retention._usage = usage
        await until(lambda: len(house.docker.names) < 10)


async def test_who_asks_while_a_run_goes_on_is_told_of_that_one(tmp_path: Path) -> None:
    async with small_house(tmp_path, low_watermark_percent=0) as house:
        await full(house)
        at_it, go_on = asyncio.Event(), asyncio.Event()

        async def held(_: str) -> None:
            at_it.set()
            await go_on.wait()

        house.docker.before_removal = held
        first = await house.retention.begin(ROOT)
        await at_it.wait()
        asked = asyncio.create_task(house.retention.begin(ROOT))
        await within(60, asyncio.shield(asked))
        second = asked.result()
        assert first is not None
        assert second is not None
        assert (second.id, second.finished) == (first.id, "")
        go_on.set()
        await until(lambda: not house.docker.names)
        assert len({run.id for run in await house.sweep.runs()}) == 1
