"""The engine's keeper: it stops the engine when nobody needs it, and at no other time."""

from __future__ import annotations

import fcntl
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

KEEPER = Path(__file__).resolve().parents[2] / "installer" / "steps" / "keeper.py"
# An engine that takes note of how it was ended and does not hurry.
ENGINE = """
import pathlib, signal, sys, time
folder = pathlib.Path(sys.argv[1])
def end(signum, frame):
    time.sleep(0.3)
    (folder / "ended").write_text(signal.Signals(signum).name)
    sys.exit(0)
signal.signal(signal.SIGTERM, end)
(folder / "pid").write_text(str(__import__("os").getpid()))
while True:
    signal.pause()
"""


def until(condition: Callable[[], object]) -> None:
    deadline = time.monotonic() + 120
    while not condition():
        assert time.monotonic() < deadline, "it did not come to pass"
        time.sleep(0.02)


class Kept:
    """A keeper with its engine, and the pipe's other end in `lifeline`."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        reader, self.lifeline = os.pipe()
        self.keeper = subprocess.Popen(
            [
                *(sys.executable, "-I", str(KEEPER), "--lifeline", str(reader)),
                *("--note", str(folder / "note")),
                *("--", sys.executable, "-c", ENGINE, str(folder)),
            ],
            pass_fds=(reader,),
            start_new_session=True,
            stdout=subprocess.DEVNULL,
        )
        os.close(reader)
        until(lambda: (folder / "pid").exists() and (folder / "pid").read_text())

    @property
    def engine_runs(self) -> bool:
        return Path(f"/proc/{(self.folder / 'pid').read_text()}").exists()

    @property
    def ended_by(self) -> str:
        note = self.folder / "ended"
        return note.read_text() if note.exists() else ""


@pytest.fixture
def kept(tmp_path: Path) -> Iterator[Kept]:
    kept = Kept(tmp_path)
    yield kept
    if kept.keeper.poll() is None:
        kept.keeper.terminate()
    kept.keeper.wait(timeout=60)


def test_the_engine_ends_in_order_when_the_last_holder_lets_go(kept: Kept) -> None:
    second = os.dup(kept.lifeline)
    os.close(kept.lifeline)
    with pytest.raises(subprocess.TimeoutExpired):
        kept.keeper.wait(timeout=0.5)
    os.close(second)
    assert kept.keeper.wait(timeout=60) == 0
    assert kept.ended_by == "SIGTERM"


def test_a_holder_that_is_killed_lets_go(kept: Kept) -> None:
    holder = subprocess.Popen(["sleep", "600"], pass_fds=(kept.lifeline,))
    os.close(kept.lifeline)
    assert kept.keeper.poll() is None
    holder.kill()
    holder.wait()
    assert kept.keeper.wait(timeout=60) == 0
    assert kept.ended_by == "SIGTERM"


def test_while_the_engine_is_being_stopped_the_note_says_so(kept: Kept) -> None:
    with (kept.folder / "note").open() as note:
        with pytest.raises(BlockingIOError):
            fcntl.flock(note, fcntl.LOCK_SH | fcntl.LOCK_NB)
        assert note.read() == "running"
        os.close(kept.lifeline)
        until(lambda: (kept.folder / "note").read_text() == "stopping")
        fcntl.flock(note, fcntl.LOCK_SH)
    assert kept.ended_by == "SIGTERM"


@pytest.mark.parametrize("signum", [signal.SIGINT, signal.SIGHUP, signal.SIGQUIT])
def test_what_a_terminal_sends_does_not_reach_the_engine(kept: Kept, signum: signal.Signals) -> None:
    os.killpg(kept.keeper.pid, 0)
    kept.keeper.send_signal(signum)
    with pytest.raises(subprocess.TimeoutExpired):
        kept.keeper.wait(timeout=0.5)
    assert kept.engine_runs
    os.close(kept.lifeline)


def test_being_asked_to_end_it_ends_the_engine(kept: Kept) -> None:
    kept.keeper.terminate()
    assert kept.keeper.wait(timeout=60) == 0
    assert kept.ended_by == "SIGTERM"
    os.close(kept.lifeline)


def test_the_engine_does_not_outlive_a_killed_keeper(kept: Kept) -> None:
    kept.keeper.kill()
    kept.keeper.wait()
    until(lambda: kept.ended_by == "SIGTERM")
    os.close(kept.lifeline)


def test_an_engine_that_ends_by_itself_ends_the_keeper_with_its_exit_code(tmp_path: Path) -> None:
    reader, lifeline = os.pipe()
    keeper = subprocess.run(
        [sys.executable, "-I", str(KEEPER), "--lifeline", str(reader), "--", "sh", "-c", "exit 7"],
        pass_fds=(reader,),
        timeout=60,
        check=False,
    )
    os.close(reader)
    os.close(lifeline)
    assert keeper.returncode == 7
