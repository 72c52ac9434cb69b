"""What every run has in common: stages that may end it, and what people are told when one does."""

from __future__ import annotations

import signal
from collections.abc import Callable

from . import running
from .command import Stopped
from .console import Console, Step
from .machine import Problem

GOES_ON = "What is done stays; the same command goes on from there."


def run(console: Console, *stages: Callable[[], int | None]) -> int:
    """The exit code of the first stage that has one; 128 + signal if we are asked to end."""
    try:
        with running.stoppable():
            return next((code for stage in stages if (code := stage()) is not None), 0)
    except Stopped as stopped:
        console.say(f"Ended by {signal.Signals(stopped.signum).name}. {GOES_ON}")
        return 128 + stopped.signum


def preflight(console: Console, look: Callable[[Step, list[Problem]], str]) -> int | None:
    """2 if `look`, which adds to the list what is not as it must be, found something; all of it is shown."""
    found: list[Problem] = []
    console.do("Preflight", lambda step: look(step, found))
    if not found:
        return None
    console.say("")
    console.say("This machine is not ready yet; nothing was changed.")
    for number, problem in enumerate(found, 1):
        console.say(f" {number}. {problem.what}: {problem.value}.")
        console.say(f"    {problem.next_step}")
    return 2
