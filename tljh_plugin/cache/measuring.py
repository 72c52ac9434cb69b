"""Measuring folders in a process of its own, with the lowest priority, which rests as long as it works.

For folders of Docker and of ours, with our own rights; people's files are measured as their owners
(`projects.sizes`).
"""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from importlib import resources
from pathlib import Path

from ..engine.threads import in_thread

# The program that measures one folder serves here for many; it follows no link and leaves out what is mounted
# below. One folder a line, one answer a line, so that an interrupted round keeps what it has.
_MANY = """
import __future__, json, os, resource, stat, sys, time
program = {}
exec(compile(sys.argv[1], "measure", "exec", dont_inherit=True), program)
os.nice(19)
resource.setrlimit(resource.RLIMIT_AS, (program["MEMORY"], program["MEMORY"]))
for line in sys.stdin:
    try:
        root = os.open(json.loads(line), program["FOLDER"])
        measure = program["Measure"](root)
        measure.measure(root)
        print(json.dumps([measure.bytes, measure.whole]), flush=True)
    except OSError:
        print("null", flush=True)
"""


@dataclass(frozen=True, slots=True)
class Measured:
    """What a folder occupies: allocated bytes, hard links counted once; `whole` false: at least so much."""

    bytes: int
    whole: bool = True


async def measure_folders(folders: Sequence[Path], limit_s: float) -> dict[Path, Measured]:
    """What each occupies; those that are gone or that we may not look into are left out, and so is what was
    not reached within `limit_s` seconds. A cancelled call ends the process.
    """
    if not folders:
        return {}
    running: list[subprocess.Popen[str]] = []
    try:
        said = await in_thread(lambda: _run(folders, limit_s, running))
    except asyncio.CancelledError:
        for child in running:
            with suppress(ProcessLookupError):
                child.kill()
        raise
    return {folder: answer for folder, answer in zip(folders, said, strict=False) if answer is not None}


def _run(
    folders: Sequence[Path], limit_s: float, running: list[subprocess.Popen[str]]
) -> list[Measured | None]:
    program = resources.files("tljh_plugin.projects.inside").joinpath("measure.py").read_text("utf-8")
    with subprocess.Popen(
        [sys.executable, "-I", "-S", "-B", "-c", _MANY, program],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        cwd="/",
        env={},
        text=True,
        encoding="ascii",
        start_new_session=True,
    ) as child:
        running.append(child)
        try:
            said, _ = child.communicate("".join(f"{json.dumps(str(each))}\n" for each in folders), limit_s)
        except subprocess.TimeoutExpired:
            child.kill()
            said, _ = child.communicate()
    # The last line is half of one if the process was ended while it wrote.
    return [_read(line) for line in said.splitlines(keepends=True) if line.endswith("\n")]


def _read(line: str) -> Measured | None:
    answer = json.loads(line)
    return Measured(*answer) if answer is not None else None
