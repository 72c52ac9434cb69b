"""Programs of a build that will not end, and words that look like the builder's."""

from __future__ import annotations

import asyncio
import sys
import time
from asyncio.subprocess import PIPE
from contextlib import suppress
from pathlib import Path

import pytest
from waiting import until

from tljh_plugin.build.builder import last_state
from tljh_plugin.build.explain import explain
from tljh_plugin.build.job import LogEvent, PhaseEvent, WorkerJob
from tljh_plugin.build.log import clean
from tljh_plugin.build.processes import process_facts
from tljh_plugin.build.progress import Progress
from tljh_plugin.build.run import Watch, run_worker
from tljh_plugin.engine.buildx import running

# Fills its pipes, and has a child; says in a file who they are.
FLOOD = """
import os, subprocess, sys
born = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"])
open(sys.argv[1], "w").write(f"{os.getpid()} {born.pid}")
while True:
    os.write(1, b"x" * 65536)
    os.write(2, b"x" * 65536)
"""
# The same, and both ignore SIGTERM.
IGNORE = "import signal; signal.signal(signal.SIGTERM, signal.SIG_IGN)"
STUBBORN = FLOOD.replace("import time", f"{IGNORE}; import time").replace("import os", f"{IGNORE}; import os")


def alive(pid: int) -> bool:
    facts = process_facts(pid)
    return facts is not None and facts.state not in "ZX"


def pids(place: Path) -> list[int]:
    """Of the program and its child; empty until both are there."""
    found = place.read_text().split() if place.exists() else []
    return [int(word) for word in found] if len(found) == 2 else []


def hold_up(place: Path) -> None:
    """Let the program go on while the event loop stands still, as it does on a busy machine.

    Until it has said who they are; if nothing was started yet, for a moment.
    """
    begun = time.monotonic()
    while not pids(place) and time.monotonic() - begun < (60 if is_started(place) else 0.1):
        time.sleep(0.01)


def is_started(place: Path) -> bool:
    """Whether a process has it on its command line."""
    for entry in Path("/proc").glob("[0-9]*"):
        with suppress(OSError):
            if str(place).encode() in (entry / "cmdline").read_bytes().split(b"\0"):
                return True
    return False


@pytest.mark.attack("build: processes")
async def test_a_command_that_floods_and_stays_ends_with_its_children(tmp_path: Path) -> None:
    """`docker` runs buildx as a child; killing the leader alone leaves that, and its full pipe for ever."""
    place = tmp_path / "pids"

    async def run() -> None:
        async with running(sys.executable, "-c", STUBBORN, str(place), stdout=PIPE, stderr=PIPE):
            await asyncio.Event().wait()

    task = asyncio.create_task(run())
    family = await until(lambda: pids(place))
    assert all(map(alive, family))
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await asyncio.wait_for(task, 60)
    await until(lambda: not any(map(alive, family)))  # killed; the kernel is still at it


@pytest.mark.attack("build: processes")
@pytest.mark.parametrize("which", ["worker", "buildx"])
async def test_a_start_that_is_cancelled_half_way_leaves_nothing(which: str, tmp_path: Path) -> None:
    """At every step that the start takes on the event loop, and by then its children may be born."""
    places: list[Path] = []

    async def hear(event: LogEvent | PhaseEvent) -> None:
        return

    async def started(pid: int, start: int) -> None:
        return

    async def guard() -> None:
        return

    async def run(place: Path) -> None:
        command = (sys.executable, "-c", FLOOD, str(place))
        if which == "buildx":
            async with running(*command, stdout=PIPE, stderr=PIPE):
                await asyncio.Event().wait()
        job = WorkerJob(
            checkout=tmp_path, image_name="x", uid=1, gid=1, base_image="x", cache_namespace="n" * 8
        )
        watch = Watch(300, 300, started, guard)
        await run_worker(job, hear, watch, mark="b-1", temporary=tmp_path, command=command)

    for steps in range(8):
        places.append(tmp_path / f"pids-{steps}")
        task = asyncio.create_task(run(places[-1]))
        for _ in range(steps):
            await asyncio.sleep(0)
        hold_up(places[-1])
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await asyncio.wait_for(task, 60)
    born = [pid for place in places for pid in pids(place)]
    assert born
    await until(lambda: not any(map(alive, born)))


# -- the log ------------------------------------------------------------------------------------------


@pytest.mark.attack("build: log")
@pytest.mark.parametrize(
    "text",
    [
        "------",
        "#9 DONE 0.0s",
        "#0 building with x",
        "ERROR: failed to solve",
        "#9 [internal] load",
        "#9 CACHED",
    ],
)
def test_a_program_cannot_write_the_builders_own_lines(text: str) -> None:
    """Else it could hide what follows: after `------` the builder only repeats what was said."""
    progress = Progress()
    progress.read("#8 [2/2] RUN ./postBuild")
    said = progress.read(last_state(f"#8 0.123 drawn over\r{text}"))
    assert said == text
    assert progress.read("#8 0.456 the next line") == "the next line"


def test_what_was_drawn_over_is_left_out() -> None:
    assert last_state("#8 0.123 10 %\r50 %\r100 %") == "#8 0.123 100 %"
    assert last_state("#8 0.123 plain") == "#8 0.123 plain"
    assert last_state("no prefix\rstate") == "state"


@pytest.mark.attack("build: log")
@pytest.mark.parametrize(
    ("text", "left"),
    [
        ("\x1b[2J\x1b[1;1Hhello", "hello"),
        ("\x1b]0;title\x07hello", "hello"),
        ("\x1b]8;;https://evil.example/\x1b\\hello\x1b]8;;\x1b\\", "hello"),
        ("\x1b]52;c;cm0gLXJmIH4=\x07hello", "hello"),
        ("\x1bPq payload\x1b\\hello", "q payloadhello"),
        ("\x9b31mhello", "31mhello"),
        ("hel\x08\x08\x08lo", "hello"),
        ("\x00\x07hello\x7f", "hello"),
        ("ad\u202eolleh\u202c", "adolleh"),
        ("\u2066hello\u2069", "hello"),
        ("data: x\u2028event: failed", "data: xevent: failed"),
        ("\ud800hello", "hello"),
        ("50 %\rhello", "hello"),
        ("שלום \u200fhello", "שלום \u200fhello"),  # letters that run the other way are nobody's trick
    ],
)
def test_a_line_moves_no_cursor_and_turns_no_text_round(text: str, left: str) -> None:
    assert clean(text) == left


@pytest.mark.attack("build: log")
def test_a_giant_line_is_cut() -> None:
    assert len(clean("x" * 10_000_000)) < 9000


@pytest.mark.attack("build: log")
@pytest.mark.parametrize(
    "line",
    [
        "a" * 200_000,
        "0" * 200_000,
        '"' * 200_000,
        " " * 200_000,
        "error: " * 30_000,
        "\x1b[" * 100_000,
        "\x1b[" + "0" * 200_000,
        "\x1b]" * 100_000,
        "x\r" * 100_000,
        "-- " * 60_000,
        "[" + " " * 200_000,
        "No module named '" * 12_000,
        "RUN /usr/bin/python3 -I -S x/install.py " + ' -- "' * 40_000,
    ],
    ids=lambda line: ascii(line[:12]),
)
def test_no_line_takes_long_to_read(line: str) -> None:
    """The service reads the last lines of a build that ended without a word; everybody waits meanwhile."""
    began = time.process_time()
    for begin in ("", "#1 ", "#1 [x 1/2] "):
        Progress().read(begin + line)
    explain([line] * 10)
    clean(line)
    last_state(f"#1 0.1 {line}")
    assert time.process_time() - began < 3  # seconds; some patterns took minutes
