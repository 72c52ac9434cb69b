"""What every run of the installer has in common."""

from __future__ import annotations

import io
import os
import signal

import pytest
from steps import stages
from steps.command import requests
from steps.console import Console, Step
from steps.machine import Problem


def test_the_first_stage_with_an_exit_code_ends_the_run(console: Console) -> None:
    ran: list[str] = []

    def stage(name: str, code: int | None) -> int | None:
        ran.append(name)
        return code

    code = stages.run(
        console, lambda: stage("first", None), lambda: stage("second", 2), lambda: stage("third", 0)
    )
    assert (code, ran) == (2, ["first", "second"])


def test_who_is_asked_to_end_says_that_nothing_is_lost(
    console: Console, screen: io.StringIO, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("steps.command.requests", requests[:])

    def asked_to_end() -> int:
        os.kill(os.getpid(), signal.SIGTERM)
        return 0

    assert stages.run(console, asked_to_end) == 128 + signal.SIGTERM
    assert "Ended by SIGTERM. What is done stays" in screen.getvalue()


@pytest.mark.parametrize("count", [0, 2])
def test_everything_that_is_missing_is_shown_at_once(
    console: Console, screen: io.StringIO, count: int
) -> None:
    def look(step: Step, found: list[Problem]) -> str:
        found += [Problem(f"Thing {number}", f"value {number}", "Mend it.") for number in range(count)]
        return "this machine"

    assert stages.preflight(console, look) == (2 if count else None)
    for number in range(count):
        assert f"{number + 1}. Thing {number}: value {number}." in screen.getvalue()
