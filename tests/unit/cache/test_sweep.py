"""Promises of deletions: looked at again in the moment before, going on after an error, repeatable."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from small_cache import ANN, BOB, ROOT, FullDisk, House, image_id, small_house
from waiting import until

from tljh_plugin.cache.plan import Item, Mode, Plan
from tljh_plugin.cache.run import Run, to_row
from tljh_plugin.errors import (
    EngineError,
    EngineTimedOut,
    EngineUnavailable,
    Forbidden,
    ImageNotFound,
    NotFound,
)
from tljh_plugin.store import utc_now
from tljh_plugin.store.layers import RemovalRow


@pytest.fixture
async def house(tmp_path: Path) -> AsyncIterator[House]:
    async with small_house(tmp_path) as found:
        yield found


def outcomes(run: Run) -> list[str]:
    return [each.outcome for each in run.results]


@pytest.mark.parametrize("mode", ["evict", "erase"])
async def test_it_goes_and_its_history_stays(house: House, mode: Mode) -> None:
    image = await house.built(1)
    run = await house.delete(image.image_id, mode=mode)
    assert run.finished
    assert (run.by, run.gained_bytes, run.problem) == ("root", 1000, None)
    [result] = run.results
    assert (result.name, result.freed_bytes) == (image.name, 1000)
    assert result.outcome == {"evict": "evicted", "erase": "erased"}[mode]
    assert house.docker.names == {}
    assert house.inventory.images() == []
    assert await house.store.image(image.image_id) is None
    assert await house.store.build("b-1") is not None
    entries = [(each.who, each.what, each.thing) for each in await house.store.audit_entries(limit=2)]
    assert entries == [("root", "image.sweep", run.id), ("root", f"image.{mode}", image.name)]
    assert await house.sweep.run(run.id) == run
    assert await house.sweep.runs() == [run]


async def test_what_others_wrote_meanwhile_is_not_hidden(house: House) -> None:
    image = await house.built(1)
    remove = house.docker.remove_image

    async def while_others_write(*arguments: Any) -> None:
        house.docker.disk -= 5000
        await remove(*arguments)

    house.docker.remove_image = while_others_write  # type: ignore[method-assign]
    run = await house.delete(image.image_id)
    assert (run.gained_bytes, run.results[0].freed_bytes) == (-4000, -4000)


@pytest.mark.parametrize(
    ("labels", "name"), [({"person": "bob", "server": "two"}, "bob/two"), ({}, "container c1")]
)
async def test_in_use_by_anybody_it_stays(house: House, labels: dict[str, str], name: str) -> None:
    image = await house.built(1)
    free = await house.plan(image.image_id)
    house.docker.run(image.image_id, "c1", **labels)
    # The plan was made before: it is looked at again.
    run = await house.sweep.carry_out(free, ROOT)
    assert [(each.outcome, each.text) for each in run.results] == [("kept", f"In use by {name}.")]
    assert image.image_id in house.docker.names
    assert await house.store.image(image.image_id) is not None
    plan = await house.plan(image.image_id)
    assert [(item.rule, item.text) for item in plan.keep] == [("in-use", f"In use by {name}.")]


async def test_leased_it_stays(house: House) -> None:
    image = await house.built(1)
    free = await house.plan(image.image_id)
    lease = await house.leases.take(image.image_id, 60)
    assert [item.rule for item in (await house.plan(image.image_id)).keep] == ["starting"]
    run = await house.sweep.carry_out(free, ROOT)
    assert [(each.outcome, "being started" in each.text) for each in run.results] == [("kept", True)]
    await house.leases.release(lease)
    assert outcomes(await house.delete(image.image_id)) == ["evicted"]


async def test_pinned_it_stays_until_the_pin_ends(house: House) -> None:
    image = await house.built(1)
    free = await house.plan(image.image_id)
    await house.store.update_image(image.image_id, pinned=True)
    assert [item.rule for item in (await house.plan(image.image_id)).keep] == ["pinned"]
    assert outcomes(await house.sweep.carry_out(free, ROOT)) == ["kept"]
    ended = {"pinned": True, "pinned_until": "2026-01-01T00:00:00.000+00:00"}
    await house.store.change_image(image.image_id, ended, "root", {})
    assert outcomes(await house.delete(image.image_id)) == ["evicted"]


@pytest.mark.parametrize("change", ["pinned", "built again", "not theirs any more"])
async def test_what_happens_while_it_waits_for_the_build_cache_is_seen(house: House, change: str) -> None:
    """Others may erase for minutes between the first look at an image and its turn."""
    image = await house.built(1, visibility="private")
    plan = await house.plan(image.image_id, mode="erase", person=ANN)
    records = house.docker.cache_records

    async def meanwhile() -> list[Any]:
        if change == "pinned":
            await house.store.update_image(image.image_id, pinned=True)
        elif change == "built again":
            build = await house.store.build("b-1")
            assert build is not None
            wish = replace(build, id="b-2", state="queued", created=utc_now())
            await house.store.enqueue(wish, per_person=9)
        else:
            await house.store.change_image(image.image_id, {"visibility": "everyone"}, "root", {})
        house.docker.cache_records = records  # type: ignore[method-assign]
        return await records()

    house.docker.cache_records = meanwhile  # type: ignore[method-assign]
    run = await house.sweep.carry_out(plan, ANN)
    assert outcomes(run) == ["kept"]
    assert image.image_id in house.docker.names
    assert await house.store.image(image.image_id) is not None
    assert await house.store.layers.removals() == []


async def test_while_it_is_built_again_it_stays(house: House) -> None:
    image = await house.built(1)
    free = await house.plan(image.image_id)
    again = await house.store.build("b-1")
    assert again is not None
    wish = replace(again, id="b-2", state="queued", created=utc_now())
    await house.store.enqueue(wish, per_person=9)
    assert outcomes(await house.sweep.carry_out(free, ROOT)) == ["kept"]
    assert [item.rule for item in (await house.plan(image.image_id)).keep] == ["building"]


async def test_too_young_it_stays_whoever_asks(tmp_path: Path) -> None:
    async with small_house(tmp_path, min_age_hours=1) as house:
        image = await house.built(1, created=utc_now())
        plan = await house.plan(image.image_id)
        assert [item.rule for item in plan.keep] == ["young"]
        forged = replace(plan, take=plan.keep, keep=())
        assert outcomes(await house.sweep.carry_out(forged, ROOT)) == ["kept"]
        assert image.image_id in house.docker.names


async def test_others_images_are_not_touched(house: House) -> None:
    house.docker.add("sha256:stranger", "postgres:16")
    plan = await house.plan("sha256:stranger")
    assert [(item.name, item.rule) for item in plan.keep] == [("postgres:16", "not-ours")]
    # Who is no administrator does not hear of it.
    with pytest.raises(ImageNotFound):
        await house.plan("sha256:stranger", person=ANN)
    with pytest.raises(ImageNotFound):
        await house.plan("sha256:none")
    forged = replace(plan, take=plan.keep, keep=())
    assert outcomes(await house.sweep.carry_out(forged, ROOT)) == ["gone"]
    assert "sha256:stranger" in house.docker.names


async def test_what_everyone_uses_only_an_administrator_deletes(house: House) -> None:
    image = await house.built(1)
    with pytest.raises(Forbidden):
        await house.plan(image.image_id, person=ANN)
    forged = await house.plan(image.image_id)
    assert outcomes(await house.sweep.carry_out(forged, ANN)) == ["kept"]
    private = await house.built(2, visibility="private")
    with pytest.raises(ImageNotFound):
        await house.plan(private.image_id, person=BOB)
    await house.store.change_image(private.image_id, {"description": "For Tuesday"}, "root", {})
    with pytest.raises(Forbidden, match="one has decided about it"):
        await house.plan(private.image_id, person=ANN)
    theirs = await house.built(3, visibility="private")
    assert outcomes(await house.delete(theirs.image_id, person=ANN)) == ["evicted"]


async def test_removed_behind_our_back_its_record_goes(house: House) -> None:
    image = await house.built(1)
    plan = await house.plan(image.image_id, mode="erase")
    del house.docker.names[image.image_id]
    assert outcomes(await house.sweep.carry_out(plan, ROOT)) == ["gone"]
    assert await house.store.image(image.image_id) is None
    lost = await house.built(2)
    del house.docker.names[lost.image_id]
    plan = await house.plan(lost.image_id)
    assert [item.frees_bytes for item in plan.take] == [0]
    assert outcomes(await house.sweep.carry_out(plan, ROOT)) == ["gone"]
    assert await house.store.images() == []


async def test_one_that_somebody_else_named_too_loses_our_name_alone(house: House) -> None:
    image = await house.built(1)
    house.docker.names[image.image_id].append("mine:1")
    assert [item.frees_bytes for item in (await house.plan(image.image_id, mode="erase")).take] == [0]
    [result] = (await house.delete(image.image_id)).results
    assert (result.outcome, "mine:1" in result.text, result.freed_bytes) == ("evicted", True, 0)
    assert house.docker.names == {image.image_id: ["mine:1"]}


async def test_after_an_error_it_goes_on_and_the_same_again_does_the_rest(house: House) -> None:
    ids = [(await house.built(number)).image_id for number in (1, 2, 3)]
    house.docker.broken[ids[1]] = EngineError("Docker said no.", "Look at its log.")
    run = await house.delete(*ids)
    assert outcomes(run) == ["evicted", "failed", "evicted"]
    assert (run.results[1].text, run.problem) == ("Docker said no.", None)
    del house.docker.broken[ids[1]]
    again = await house.sweep.carry_out(run.plan, ROOT)
    assert outcomes(again) == ["gone", "evicted", "gone"]


async def test_a_docker_that_is_gone_ends_it_and_nothing_is_said_done(house: House) -> None:
    ids = [(await house.built(number)).image_id for number in (1, 2, 3)]
    plan = await house.plan(*ids)

    async def fall(_: str) -> None:
        house.docker.down = True

    house.docker.before_removal = fall
    run = await house.sweep.carry_out(plan, ROOT)
    assert outcomes(run)[1:] == ["failed", "not-done"] or outcomes(run) == ["failed", "not-done", "not-done"]
    assert run.problem is not None
    assert run.problem.code == "engine-unavailable"
    house.docker.down = False
    assert len(await house.store.images()) >= 2


async def test_a_docker_that_does_not_answer_is_not_asked_for_ever(house: House) -> None:
    ids = [(await house.built(number)).image_id for number in range(1, 6)]
    for each in ids:
        house.docker.broken[each] = EngineTimedOut("No answer within 60 s.", "Try again.")
    run = await house.delete(*ids)
    assert outcomes(run) == ["failed", "failed", "not-done", "not-done", "not-done"]
    assert run.problem is not None
    assert run.problem.code == "engine-timed-out"


@pytest.mark.parametrize("error", [EngineTimedOut, EngineUnavailable])
async def test_what_went_although_docker_did_not_answer_is_not_said_to_have_failed(
    house: House, error: type[EngineError]
) -> None:
    image = await house.built(1)

    async def late(image_id: str) -> None:
        del house.docker.names[image_id]
        raise error("No answer.", "Try again.")

    house.docker.before_removal = late
    run = await house.delete(image.image_id)
    assert (outcomes(run), run.problem) == (["evicted"], None)
    assert await house.store.image(image.image_id) is None


async def test_what_may_still_go_is_said_so_and_looked_at_again(house: House) -> None:
    first, second = await house.built(1), await house.built(2)
    house.docker.broken[first.image_id] = EngineTimedOut("No answer within 600 s.", "Try again.")
    house.docker.broken[second.image_id] = EngineTimedOut("No answer within 600 s.", "Try again.")
    run = await house.delete(first.image_id, second.image_id)
    assert outcomes(run) == ["failed", "failed"]
    assert "go yet" in run.results[0].text
    del house.docker.names[first.image_id]  # Docker has come to it
    await house.build_cache.resume()
    assert await house.store.images() == [second]


async def test_what_the_store_cannot_take_is_noted_when_it_can(house: House) -> None:
    """A disk that is full keeps nobody from making room, and no run goes on for ever."""
    image = await house.built(1)
    plan = await house.plan(image.image_id, mode="erase")
    writes = FullDisk(house.store)
    run = await house.sweep.carry_out(plan, ROOT)
    assert (outcomes(run), run.finished != "", house.docker.names) == (["erased"], True, {})
    assert await house.sweep.run(run.id) == run
    assert await house.sweep.runs() == [run]
    assert await house.store.runs() == []
    writes.full = False
    await house.retention.round()
    assert [each.finished for each in await house.store.runs()] == [run.finished]
    assert await house.sweep.runs() == [run]
    assert await house.store.images() == []
    assert await house.store.layers.removals() == []
    said = [entry.what for entry in await house.store.audit_entries(limit=2)]
    assert said == ["image.sweep", "image.erase"]


async def test_two_deletions_at_once_are_one(house: House) -> None:
    image = await house.built(1)
    plan = await house.plan(image.image_id, mode="erase")
    runs = await asyncio.gather(*(house.sweep.carry_out(plan, ROOT) for _ in range(2)))
    assert sorted(each for run in runs for each in outcomes(run)) == ["erased", "gone"]
    assert house.docker.asked.count("remove_image") == 1


async def test_it_can_be_stopped_after_the_image_that_it_is_at(house: House) -> None:
    ids = [(await house.built(number)).image_id for number in (1, 2, 3)]
    plan = await house.plan(*ids)
    at_it, go_on = asyncio.Event(), asyncio.Event()

    async def held(_: str) -> None:
        at_it.set()
        await go_on.wait()

    house.docker.before_removal = held
    begun = await house.sweep.begin(plan, ROOT)
    await at_it.wait()
    seen = await house.sweep.wait(begun.id, 0.01)
    assert (seen.finished, seen.results) == ("", ())
    house.sweep.stop(begun.id)
    go_on.set()
    run = await house.sweep.wait(begun.id, 60)
    assert outcomes(run) == ["evicted", "not-done", "not-done"]
    assert run.problem is not None
    assert run.problem.code == "run-ended"
    house.sweep.stop(begun.id)  # it has ended
    assert (await house.sweep.run(begun.id)) == run
    assert outcomes(await house.sweep.carry_out(plan, ROOT)) == ["gone", "evicted", "evicted"]


async def test_a_caller_that_goes_away_stops_nothing(house: House) -> None:
    image = await house.built(1)
    plan = await house.plan(image.image_id)
    at_it, go_on = asyncio.Event(), asyncio.Event()

    async def held(_: str) -> None:
        at_it.set()
        await go_on.wait()

    house.docker.before_removal = held
    caller = asyncio.create_task(house.sweep.carry_out(plan, ROOT))
    await at_it.wait()
    caller.cancel()
    with pytest.raises(asyncio.CancelledError):
        await caller
    go_on.set()
    await until(lambda: not house.docker.names)
    [run] = await house.sweep.runs()
    assert outcomes(await house.sweep.wait(run.id, 60)) == ["evicted"]


@pytest.mark.parametrize("went", [True, False])
async def test_what_a_crash_cut_off_is_ended_at_the_next_start(house: House, went: bool) -> None:
    ids = [(await house.built(number)).image_id for number in (1, 2, 3)]
    plan = await house.plan(*ids)
    done = await house.sweep.carry_out(replace(plan, take=plan.take[:1]), ROOT)
    cut_off = replace(done, id="r-cut", plan=plan, finished="")
    await house.store.put_run(to_row(cut_off))
    if went:
        del house.docker.names[ids[1]]  # and the service was killed before it noted that
    await house.sweep.recover()
    run = await house.sweep.run("r-cut")
    assert run is not None
    assert outcomes(run) == ["evicted", "evicted" if went else "not-done", "not-done"]
    assert run.finished
    assert run.problem is not None
    assert run.problem.code == "run-ended"
    assert (await house.store.image(ids[1]) is None) is went
    await house.sweep.recover()
    assert await house.sweep.run("r-cut") == run
    assert outcomes(await house.sweep.carry_out(plan, ROOT))[2] == "evicted"


@pytest.mark.parametrize("docker", ["has it", "has pruned it", "has its cache", "is not up yet"])
async def test_of_what_an_erasing_was_at_no_more_is_said_than_is_known(house: House, docker: str) -> None:
    image = await house.built(1)
    plan = await house.plan(image.image_id, mode="erase")
    await house.store.put_run(to_row(Run("r-cut", "erase", "root", utc_now(), plan)))
    if docker != "has pruned it":
        await house.store.layers.begin_removal(RemovalRow(image.image_id, True, frozenset(), utc_now()))
    if docker != "has it":
        del house.docker.names[image.image_id]
    house.docker.down = docker == "is not up yet"
    await house.sweep.recover()
    run = await house.sweep.run("r-cut")
    assert run is not None
    [result] = run.results
    assert (result.outcome, result.text.partition(" ")[0]) == {
        "has it": ("not-done", ""),
        "has pruned it": ("erased", "The"),
        "has its cache": ("evicted", "The"),
        "is not up yet": ("not-done", "Docker"),
    }[docker]
    house.docker.down = False
    await house.build_cache.resume()
    assert (await house.store.image(image.image_id) is not None) is (docker == "has it")


async def test_what_an_evicted_image_left_is_not_said_to_be_erased(house: House) -> None:
    left = Item("cache:a", "build cache of a", "", 0, 0, None, "cache-first", "")
    plan = Plan("erase", (left,), (), 0)
    await house.store.put_run(to_row(Run("r-cut", "erase", "retention", utc_now(), plan)))
    await house.sweep.recover()
    run = await house.sweep.run("r-cut")
    assert run is not None
    assert outcomes(run) == ["not-done"]


async def test_a_rebuild_that_gave_the_same_image_keeps_its_record(house: House) -> None:
    image = await house.built(1)
    assert not await house.store.forget_image(image.image_id, "another time")
    assert await house.store.forget_image(image.image_id, image.created)


async def test_an_image_that_was_built_a_moment_ago_is_known(house: House) -> None:
    image = await house.built(1)
    assert (await house.sweep.plan([image.image_id], "erase", ROOT)).ids == (image.image_id,)


async def test_there_is_no_run_of_that_id(house: House) -> None:
    assert await house.sweep.run("r-none") is None
    with pytest.raises(NotFound):
        await house.sweep.wait("r-none", 0)


async def test_what_others_hold_is_not_promised(house: House) -> None:
    first, second = await house.built(1), await house.built(2)
    # Each has 500 bytes of its own and 500 that both share.
    assert (await house.plan(first.image_id, mode="erase")).frees_bytes == 500
    both = await house.plan(first.image_id, second.image_id, mode="erase")
    assert [item.frees_bytes for item in both.take] == [500, 1000]
    assert (await house.plan(first.image_id, mode="evict")).frees_bytes == 0
    house.docker.add(image_id(9), "postgres:16")
    await house.look()
    assert (await house.plan(first.image_id, second.image_id, mode="erase")).frees_bytes == 1000


async def test_of_an_adopted_image_nothing_is_promised(house: House) -> None:
    """The names that it had stay, whatever they begin with."""
    image = await house.built(1, adopted=True)
    assert [item.frees_bytes for item in (await house.plan(image.image_id, mode="erase")).take] == [1000]
    house.docker.names[image.image_id].append("littlest-binder/theirs:1")
    assert [item.frees_bytes for item in (await house.plan(image.image_id, mode="erase")).take] == [0]


async def test_what_another_installation_named_as_well_keeps_that_name(house: House) -> None:
    image = await house.built(1)
    theirs = f"{image.name}-01234567"
    house.docker.names[image.image_id].append(theirs)
    [result] = (await house.delete(image.image_id)).results
    assert theirs in result.text
    assert house.docker.names == {image.image_id: [theirs]}
    assert await house.store.image(image.image_id) is None


async def test_of_what_came_from_a_file_there_is_no_build_cache(house: House) -> None:
    await house.built(1)
    for number, imported in ((2, True), (3, False)):
        row = replace(await house.built(number), imported=imported, build_id="")
        await house.store.forget_image(row.image_id)
        await house.store.record_image(row, "root", "image.import")
    await house.look()
    cached = {each.image_id: each.cached for each in await house.candidates.all()}
    # Of one that was read back from its labels nobody knows whether it was built here.
    assert cached == {image_id(1): True, image_id(2): False, image_id(3): None}
