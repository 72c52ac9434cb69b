"""One run at a time, and signals on their way to the hub."""

from __future__ import annotations

import fcntl
import os
import pty
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
from steps import running
from steps.console import StepFailed
from steps.site import Site

ROOT = Path(__file__).resolve().parents[2]
INSTALLER = ROOT / "installer"
# Stands where the real command stands, and takes note of every signal.
UP = """#!{python}
import os, pathlib, signal, sys, time
notes = pathlib.Path("{notes}")
got = []
def note(signum, frame):
    got.append(signal.Signals(signum).name)
    (notes / "signals").write_text(" ".join(got))
for s in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGQUIT):
    signal.signal(s, note)
(notes / "arguments").write_text(" ".join(sys.argv[1:]))
(notes / "held").write_text(" ".join(sorted(os.listdir("/proc/self/fd"))))
(notes / "ready").write_text(str(os.getpid()))
while not got:
    time.sleep(0.02)
time.sleep(0.3)
sys.exit(5)
"""
# The installer's part of it: hold a pipe, run the hub in the foreground, pass its exit code on.
CALL = """
import os, sys
from pathlib import Path
from steps import running
from steps.person import Person
from steps.site import Site
state = Path({state!r})
root = Person("somebody", os.geteuid(), os.getegid(), state)
site = Site(root, state, state / "venv", state, dict(os.environ))
reader, writer = os.pipe()
sys.exit(running.foreground(site, ["--no-browser"], (writer,)))
"""


@pytest.fixture
def state(tmp_path: Path) -> Path:
    program = tmp_path / "venv" / "bin" / "littlest-binder"
    program.parent.mkdir(parents=True)
    program.write_text(UP.format(python=sys.executable, notes=tmp_path))
    program.chmod(0o755)
    return tmp_path


def until(condition: Callable[[], object]) -> None:
    deadline = time.monotonic() + 120
    while not condition():
        assert time.monotonic() < deadline, "it did not come to pass"
        time.sleep(0.02)


def call(state: Path) -> list[str]:
    return [sys.executable, "-c", CALL.format(state=str(state))]


def environment() -> dict[str, str]:
    return {**os.environ, "PYTHONPATH": str(INSTALLER)}


def test_ctrl_c_in_a_terminal_reaches_the_hub_exactly_once(state: Path) -> None:
    pid, terminal = pty.fork()
    if pid == 0:
        os.execvpe(sys.executable, call(state), environment())
    until((state / "ready").exists)
    os.write(terminal, b"\x03")
    _, status = os.waitpid(pid, 0)
    os.close(terminal)
    assert os.waitstatus_to_exitcode(status) == 5
    assert (state / "signals").read_text() == "SIGINT"


@pytest.mark.parametrize(
    ("sent", "arrives"),
    [
        (signal.SIGINT, "SIGINT"),
        (signal.SIGTERM, "SIGTERM"),
        (signal.SIGHUP, "SIGTERM"),
        (signal.SIGQUIT, "SIGTERM"),
    ],
)
def test_a_signal_to_the_installer_reaches_the_hub(state: Path, sent: signal.Signals, arrives: str) -> None:
    installer = subprocess.Popen(call(state), env=environment(), start_new_session=True)
    until((state / "ready").exists)
    installer.send_signal(sent)
    assert installer.wait(timeout=60) == 5
    assert (state / "signals").read_text() == arrives
    assert (state / "arguments").read_text() == "up --no-browser"


def test_a_terminal_that_closes_ends_the_hub_in_order(state: Path) -> None:
    pid, terminal = pty.fork()
    if pid == 0:
        os.execvpe(sys.executable, call(state), environment())
    until((state / "ready").exists)
    os.close(terminal)
    _, status = os.waitpid(pid, 0)
    assert os.waitstatus_to_exitcode(status) == 5
    assert (state / "signals").read_text() == "SIGTERM"


def test_a_signal_that_nohup_made_us_ignore_stays_ignored(state: Path) -> None:
    installer = subprocess.Popen(["nohup", *call(state)], env=environment(), start_new_session=True)
    until((state / "ready").exists)
    installer.send_signal(signal.SIGHUP)
    installer.send_signal(signal.SIGTERM)
    assert installer.wait(timeout=60) == 5
    assert (state / "signals").read_text() == "SIGTERM"


def test_the_hub_outlives_a_killed_installer_and_holds_the_engines_lifeline(state: Path) -> None:
    installer = subprocess.Popen(call(state), env=environment(), start_new_session=True)
    until(lambda: (state / "ready").exists() and (state / "ready").read_text())
    installer.kill()
    installer.wait()
    hub = int((state / "ready").read_text())
    os.kill(hub, 0)
    assert len((state / "held").read_text().split()) > 4, "standard streams, the listing, and the lifeline"
    os.kill(hub, signal.SIGTERM)
    until((state / "signals").exists)


def test_a_hub_that_was_killed_gives_the_exit_code_of_a_shell(state: Path) -> None:
    installer = subprocess.Popen(call(state), env=environment(), start_new_session=True)
    until(lambda: (state / "ready").exists() and (state / "ready").read_text())
    os.kill(int((state / "ready").read_text()), signal.SIGKILL)
    assert installer.wait(timeout=60) == 128 + signal.SIGKILL


def test_the_lock_says_how_far_the_other_run_is(site: Site) -> None:
    site.state.mkdir()
    assert running.holder(site.state, site.person) == {}
    with running.lock(site) as lock:
        assert running.holder(site.state, site.person) == {"pid": os.getpid(), "phase": "installing"}
        lock.write("running")
        assert running.holder(site.state, site.person)["phase"] == "running"
        with pytest.raises(StepFailed, match="Another run"), running.lock(site):
            pass
    assert running.holder(site.state, site.person) == {}


STARTED_AGAIN = """
import argparse, sys
sys.path[:0] = ["installer"]
import binder_at_home

class Shown(binder_at_home.Desktop):
    def _refusal(self):
        print("looks at the machine", flush=True)
        return 7

options = argparse.Namespace(mirror="", verbose=False)
raise SystemExit(Shown(options, binder_at_home.Path.cwd()).run())
"""


def test_a_run_that_is_stopping_is_waited_for_and_then_started_again(site: Site, tmp_path: Path) -> None:
    env = {**os.environ, "XDG_DATA_HOME": str(tmp_path)}
    stopping = replace(site, state=site.person.state_dir(env))
    stopping.state.mkdir()
    with running.lock(stopping) as lock:
        lock.write("stopping")
        again = subprocess.Popen(
            [sys.executable, "-c", STARTED_AGAIN], cwd=ROOT, env=env, stdout=subprocess.PIPE, text=True
        )
        assert again.stdout is not None
        assert "is stopping" in again.stdout.readline()
        assert again.poll() is None
    rest, _ = again.communicate(timeout=60)
    assert "looks at the machine" in rest
    assert again.returncode == 7


def test_a_hub_that_was_started_by_hand_counts_as_running(site: Site) -> None:
    (site.state / "run").mkdir(parents=True)
    with (site.state / "run" / "up.lock").open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        assert running.holder(site.state, site.person) == {"pid": 0, "phase": "running"}
    assert running.holder(site.state, site.person) == {}


def test_looking_at_the_lock_makes_no_folder(site: Site) -> None:
    assert running.holder(site.state, site.person) == {}
    assert not site.state.exists()


def test_a_log_that_grew_large_is_begun_anew(tmp_path: Path) -> None:
    path = tmp_path / "install.log"
    for line, expected in (("one\n", "one\n"), ("two\n", "one\ntwo\n"), ("three\n", "three\n")):
        with running.open_log(path, 7) as log:
            log.write(line)
        assert path.read_text() == expected


def test_a_log_that_is_a_link_is_not_followed(tmp_path: Path) -> None:
    (tmp_path / "install.log").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(OSError, match="symbolic"):
        running.open_log(tmp_path / "install.log", 100)
    assert not (tmp_path / "elsewhere").exists()
