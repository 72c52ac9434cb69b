"""What the pieces of a soak run note of the calls that they failed, and what the proxy does to answers."""

from __future__ import annotations

import asyncio
import time
from pathlib import Path

import pytest
from docker_proxy import FAULTS, MANNERS, Call, DockerProxy, Fault
from soak import Ledger
from trials import ABSENT, RECOVERED, TOLD, Pair, Trials
from waiting import Overdue

CALLS = [Call("GET /info", 1), Call("POST /containers/create", 1)]


def note(trials: Trials, pair: Pair, ended: str) -> None:
    with trials.trying("start", pair) as trial:
        trial.ended = ended


def test_every_call_is_failed_in_every_way_and_the_list_stays_what_it_was(tmp_path: Path) -> None:
    trials = Trials(tmp_path / "notes")
    pairs = trials.pairs("start", CALLS)
    assert set(pairs) == {Pair(call.what, call.number, fault) for call in CALLS for fault in FAULTS}
    assert len(pairs) == len(CALLS) * len(FAULTS)
    assert pairs[1].fault == "late"
    # Every call in every manner before any in another way of the same manner.
    assert {(pair.call, pair.manner) for pair in pairs[:6]} == {(c, m) for c in CALLS for m in MANNERS}
    again = Trials(tmp_path / "notes")
    assert again.pairs("start", [*CALLS, Call("GET /info", 2)]) == pairs
    assert again.pairs("stop", CALLS[:1]) != pairs


def test_the_end_of_a_run_says_what_was_tried_and_what_is_left(tmp_path: Path) -> None:
    trials = Trials(tmp_path)
    assert trials.summary() == []
    first, second, third, fourth, fifth, *others = trials.pairs("start", CALLS)
    for pair, ended in ((first, RECOVERED), (second, TOLD), (third, ABSENT)):
        note(trials, pair, ended)
    for pair, wrong in ((fourth, Overdue("not over")), (fifth, AssertionError("left over"))):
        with pytest.raises(AssertionError), trials.trying("start", pair):
            raise wrong
    head, manners, _, *bad = Trials(tmp_path).summary()
    assert head == (
        "Docker calls failed one by one, 20 in all: 4 tried, 1 recovered, 1 in a stated error, 1 hang,"
        " 1 failed; 1 did not come, 15 left"
    )
    assert manners == "  each call an error or missing or late: 3 of 6 ended well or did not come"
    assert bad == [f"  start: {fourth}: hang: not over", f"  start: {fifth}: failed: left over"]
    for pair in (fourth, fifth, *others):
        note(trials, pair, TOLD)
    head, *lines = trials.summary()
    assert len(lines) == 2
    assert ": 6 of 6 ended" in lines[0]
    assert "19 tried, 1 recovered, 18 in a stated error, 0 hang, 0 failed; 1 did not come, 0 left" in head


def test_notes_go_when_a_soak_run_begins_anew(tmp_path: Path) -> None:
    ledger = Ledger(tmp_path / "passed")
    Trials(ledger.notes).pairs("start", CALLS)
    ledger.add("a case")
    ledger.begin_anew()
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(("fault", "seconds"), [("late", 0.1), ("too late", 0.3)])
async def test_an_answer_that_is_late_comes_whole(tmp_path: Path, fault: Fault, seconds: float) -> None:
    body = b"x" * 200_000

    async def docker(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 200 OK\r\n\r\n" + body)
        await writer.drain()
        writer.close()

    async with (
        await asyncio.start_unix_server(docker, tmp_path / "docker"),
        DockerProxy(tmp_path / "proxy", tmp_path / "docker", late_s=(0.1, 0.3)) as proxy,
    ):
        proxy.begin(CALLS[0], fault)
        begun = time.monotonic()
        reader, writer = await asyncio.open_unix_connection(tmp_path / "proxy")
        writer.write(b"GET /info HTTP/1.1\r\n\r\n")
        answer = await reader.read()
        assert seconds <= time.monotonic() - begun < seconds + 5
        assert answer.endswith(b"\r\n\r\n" + body)
        assert proxy.failed == [CALLS[0]]
        writer.close()
