"""Keeps a Docker engine running where no service manager does, for as long as somebody needs it.

A process of its own, in a session of its own, so that Ctrl-C in the terminal does not reach the engine
before the hub has stopped its containers. It is given a pipe whose other end is held by the installer and by
`littlest-binder up`: when both are gone, however they ended, nobody can write to the pipe any more, and the
engine is stopped. The standard library only, and no other module of ours: it is started as a script.

While it lives it holds a lock on a note, which says `running` or `stopping`: an engine that is being stopped
still answers for a while, and the next run must not take it for one that it can use.
"""

from __future__ import annotations

import argparse
import ctypes
import fcntl
import os
import select
import signal
import subprocess
import sys
import time

_PR_SET_PDEATHSIG = 1
# dockerd gives each container 10 s and containerd some more.
_STOP_S = 90.0


def _end_with_parent() -> None:
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)


def write_note(note: int, phase: str) -> None:
    os.ftruncate(note, 0)
    os.pwrite(note, phase.encode(), 0)


def keep(command: list[str], lifeline: int, note: int | None = None) -> int:
    """Run `command` until it ends, SIGTERM comes, or `lifeline` has no writer left; its exit code."""
    if note is not None:
        fcntl.flock(note, fcntl.LOCK_EX)
        write_note(note, "running")
    for ignored in (signal.SIGINT, signal.SIGHUP, signal.SIGQUIT):
        signal.signal(ignored, signal.SIG_IGN)
    woken, waker = os.pipe()
    os.set_blocking(waker, False)
    signal.set_wakeup_fd(waker)
    asked: list[int] = []
    signal.signal(signal.SIGTERM, lambda signum, frame: asked.append(signum))
    signal.signal(signal.SIGCHLD, lambda signum, frame: None)
    engine = subprocess.Popen(command, stdin=subprocess.DEVNULL, preexec_fn=_end_with_parent)
    while engine.poll() is None and not asked:
        ready, _, _ = select.select([lifeline, woken], [], [], 60.0)
        if woken in ready:
            os.read(woken, 4096)
        if lifeline in ready and not os.read(lifeline, 4096):
            break
    if note is not None:
        write_note(note, "stopping")
    return _stop(engine)


def _stop(engine: subprocess.Popen[bytes]) -> int:
    if engine.poll() is None:
        print(f"{time.strftime('%H:%M:%S')} stopping the engine", flush=True)
        engine.terminate()
        try:
            engine.wait(timeout=_STOP_S)
        except subprocess.TimeoutExpired:
            print(f"the engine did not stop within {_STOP_S:.0f} s and is killed", flush=True)
            engine.kill()
            engine.wait()
    return engine.returncode


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--lifeline", type=int, required=True, help="file descriptor to read from")
    parser.add_argument("--note", help="file that says how far we are")
    parser.add_argument("command", nargs="+")
    given = parser.parse_args()
    # Not inherited by the engine (Python opens so), whose containers may outlive everybody.
    opened = os.open(given.note, os.O_RDWR | os.O_CREAT, 0o644) if given.note else None
    sys.exit(keep(given.command, given.lifeline, opened))
