"""The time that is trusted before something is removed for good."""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime, timedelta, timezone
from pathlib import Path

import pytest

from tljh_plugin.projects import clock
from tljh_plugin.projects.clock import Clock, Note, Reading, follow

NOON = datetime(2026, 11, 21, 12, tzinfo=timezone.utc)
NOTE = Note(NOON, "boot", 1000.0)


def later(seconds: float = 0, boot: str = "boot", uptime_s: float | None = None, **ahead: float) -> Reading:
    """`seconds` after the note, by a wall clock that has jumped ahead by `ahead`."""
    wall = NOON + timedelta(seconds=seconds) + timedelta(**ahead)
    return Reading(wall, boot, 1000.0 + seconds if uptime_s is None else uptime_s)


def test_it_goes_with_a_clock_that_goes_right() -> None:
    assert follow(NOTE, later(300)).trusted == NOON + timedelta(seconds=300)


def test_a_jump_ahead_is_believed_hour_by_hour() -> None:
    note = follow(NOTE, later(3600, days=365))
    assert note.trusted == NOON + timedelta(hours=5)
    for hour in range(2, 200):
        note = follow(note, later(3600 * hour, days=30))
    assert note.trusted == NOON + timedelta(days=30, hours=199)


def test_a_jump_ahead_within_a_moment_is_not_believed_at_all() -> None:
    assert follow(NOTE, later(0, days=365)).trusted == NOON


def test_a_clock_that_is_set_back_takes_nothing_of_the_time_that_has_passed() -> None:
    assert follow(NOTE, later(300, days=-365)).trusted == NOON + timedelta(seconds=300)


def test_a_night_in_which_the_machine_was_off_is_caught_up_in_the_morning() -> None:
    note = follow(NOTE, later(16 * 3600 + 60, "next", 60.0))
    assert note.trusted == NOON + timedelta(minutes=5)
    for minute in range(2, 260):
        note = follow(note, later(16 * 3600 + 60 * minute, "next", 60.0 * minute))
    assert note.trusted == NOON + timedelta(hours=16, minutes=259)


def test_it_begins_with_the_newest_time_that_is_known() -> None:
    assert follow(None, later()).trusted == NOON
    assert follow(None, later(days=365), NOON).trusted == NOON


def test_it_is_noted_over_restarts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "clock.json"
    reading = later()
    monkeypatch.setattr(clock, "read_clocks", lambda: reading)
    assert Clock(path).for_removal() == NOON
    reading = later(0, days=365)
    assert Clock(path).for_removal() == NOON
    assert Clock(path).for_keeping() == NOON + timedelta(days=365)
    reading = later(0, days=-365)
    assert Clock(path).for_removal() == NOON - timedelta(days=365)
    assert Clock(path).for_keeping() == NOON


@pytest.mark.parametrize("content", ["", "{}", "[]", '{"trusted": 1, "boot": "", "uptime_s": 0}', "\0"])
def test_a_note_that_cannot_be_read_is_none(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, content: str
) -> None:
    path = tmp_path / "clock.json"
    path.write_text(content)
    monkeypatch.setattr(clock, "read_clocks", later)
    assert Clock(path).for_removal(NOON - timedelta(days=1)) == NOON - timedelta(days=1)


def test_the_clocks_of_this_machine_are_read() -> None:
    first, second = clock.read_clocks(), clock.read_clocks()
    assert replace(second, wall=first.wall, uptime_s=first.uptime_s) == first
    assert second.uptime_s >= first.uptime_s > 0
