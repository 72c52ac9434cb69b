"""Processes of a build: who belongs to one, and how all of them end.

A worker leads a session and a process group of its own. Both are asked for, since a program may leave the
group. The kernel gives a number to no new process while a session or a group still has it.
"""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

MARK = "LITTLEST_BINDER_BUILD"
TERM_GRACE_S = 3.0
_POLL_S = 0.05
_KILL_WAIT_S = 10.0
_PROC = Path("/proc")


@dataclass(frozen=True)
class ProcessFacts:
    """From `/proc/PID/stat` (proc(5)); `start` is field 22, in clock ticks since boot."""

    pid: int
    state: str
    group: int
    session: int
    start: int


def process_facts(pid: int) -> ProcessFacts | None:
    """None if there is no such process."""
    try:
        text = (_PROC / str(pid) / "stat").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return None
    # The name, in parentheses, may itself contain parentheses and blanks.
    rest = text[text.rindex(")") + 2 :].split()
    return ProcessFacts(pid, rest[0], int(rest[2]), int(rest[3]), int(rest[19]))


def members(leader: int) -> list[int]:
    """The living processes of the leader's session or group; zombies are dead."""
    return [facts.pid for facts in _all_processes() if _belongs(facts, leader)]


async def end_group(leader: int, *, grace_s: float = TERM_GRACE_S) -> bool:
    """SIGTERM to all, after `grace_s` SIGKILL; whether none is left when this returns."""
    now = asyncio.get_running_loop().time
    left = await asyncio.to_thread(_signal_all, leader, signal.SIGTERM)
    deadline = now() + grace_s
    while left and now() < deadline:
        await asyncio.sleep(_POLL_S)
        left = await asyncio.to_thread(members, leader)
    # Also when nobody was seen any more: a look takes time, and a child may be born behind its back.
    left = await asyncio.to_thread(_signal_all, leader, signal.SIGKILL)
    deadline = now() + _KILL_WAIT_S
    while left and now() < deadline:
        await asyncio.sleep(_POLL_S)
        left = await asyncio.to_thread(_signal_all, leader, signal.SIGKILL)
    return not left


async def end_orphan(leader: int, start: int, mark: str) -> bool:
    """End what a worker of a dead service left running; whether there was anything.

    It is the same process only if its start time is, too. Where the leader is gone, only processes that
    carry the build's mark in their environment are taken for its own.
    """
    facts = process_facts(leader)
    if facts is not None and facts.state not in "ZX":
        if facts.start != start:
            return False
    elif not any(_carries(pid, mark) for pid in await asyncio.to_thread(members, leader)):
        return False
    await end_group(leader)
    return True


def _signal_all(leader: int, number: signal.Signals) -> list[int]:
    """Group by group, since the kernel lets nobody slip out of a signal to a group; who was there."""
    found = [facts for facts in _all_processes() if _belongs(facts, leader)]
    for group in {leader, *(facts.group for facts in found)}:
        with suppress(ProcessLookupError, PermissionError):
            os.killpg(group, number)
    return [facts.pid for facts in found]


def _belongs(facts: ProcessFacts, leader: int) -> bool:
    return leader in (facts.group, facts.session) and facts.state not in "ZX"


def _carries(pid: int, mark: str) -> bool:
    try:
        environment = (_PROC / str(pid) / "environ").read_bytes()
    except OSError:
        return False
    return f"{MARK}={mark}".encode() in environment.split(b"\0")


def _all_processes() -> Iterator[ProcessFacts]:
    for entry in os.listdir(_PROC):
        if entry.isdecimal():
            facts = process_facts(int(entry))
            if facts is not None:
                yield facts
