"""A service that is killed is there again at once; one that ends is not."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

PROGRAM = """
import logging, os, signal, sys
from tljh_plugin.operation.keeping import keep
{before}
keep(settled_s={settled})
print(os.getpid(), flush=True)
{then}
"""


@contextmanager
def kept(
    then: str = "signal.pause()", settled: float = 0, before: str = ""
) -> Iterator[subprocess.Popen[str]]:
    script = PROGRAM.format(then=then, settled=settled, before=before)
    with subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE, text=True) as keeper:
        try:
            yield keeper
        finally:
            keeper.kill()


def child_of(keeper: subprocess.Popen[str]) -> int:
    assert keeper.stdout
    return int(keeper.stdout.readline())


def test_it_is_started_again_when_it_is_killed() -> None:
    with kept() as keeper:
        first = child_of(keeper)
        os.kill(first, signal.SIGKILL)
        second = child_of(keeper)
        assert first != second
        assert keeper.poll() is None


def test_one_that_is_killed_right_after_its_start_is_not() -> None:
    with kept(settled=60) as keeper:
        os.kill(child_of(keeper), signal.SIGKILL)
        assert keeper.wait(60) == 128 + signal.SIGKILL


@pytest.mark.parametrize("code", [0, 3])
def test_one_that_ends_by_itself_is_not_and_its_exit_code_is_passed_on(code: int) -> None:
    with kept(f"sys.exit({code})") as keeper:
        child_of(keeper)
        assert keeper.wait(60) == code


def test_a_request_to_end_reaches_it() -> None:
    then = "signal.signal(signal.SIGTERM, lambda *_: sys.exit(7)); print('set', flush=True); signal.pause()"
    with kept(then) as keeper:
        child_of(keeper)
        assert keeper.stdout
        assert keeper.stdout.readline() == "set\n"
        keeper.terminate()
        assert keeper.wait(60) == 7


def test_a_request_to_end_that_comes_between_two_children_ends_it() -> None:
    when_it_says_so = """
class Stop(logging.Handler):
    def emit(self, record):
        os.kill(os.getpid(), signal.SIGTERM)
logging.getLogger("littlest_binder.keeper").addHandler(Stop())
"""
    with kept(before=when_it_says_so) as keeper:
        os.kill(child_of(keeper), signal.SIGKILL)
        assert keeper.wait(20) == 128 + signal.SIGTERM


def test_a_request_to_end_that_comes_when_it_has_just_ended_changes_nothing() -> None:
    just_after_its_end = """
wait = os.waitpid
def then_a_request_comes(*what):
    ended = wait(*what)
    os.kill(os.getpid(), signal.SIGTERM)
    return ended
os.waitpid = then_a_request_comes
"""
    with kept("sys.exit(3)", before=just_after_its_end) as keeper:
        child_of(keeper)
        assert keeper.wait(20) == 3


def test_it_ends_with_its_keeper() -> None:
    with kept() as keeper:
        child_of(keeper)
        keeper.kill()
        assert keeper.stdout
        assert keeper.stdout.read() == ""  # the child, which holds the pipe as well, is gone
