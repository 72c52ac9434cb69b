"""`docker buildx`: how it is called, and whether it is there."""

from __future__ import annotations

import asyncio
import os
import re
import signal
from asyncio.subprocess import DEVNULL, PIPE, Process
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from typing import Any

from ..errors import EngineError, EngineTimedOut, EngineUnavailable
from ..time_limit import within

_TIMEOUT_S = 20.0
_GRACE_S = 3.0
_KILLED_S = 10.0


def buildx_command() -> list[str]:
    """The beginning of every buildx command line."""
    return ["docker", "buildx"]


def not_taken_up(patience_s: float) -> EngineTimedOut:
    """What to raise for a build that printed nothing for `patience_s` seconds after its start.

    buildx asks Docker for its version and opens a connection to BuildKit before its first line, and waits for
    both without a limit. Everything that may rightly take long is announced by a line.
    """
    return EngineTimedOut(
        f"Docker did not take up the build within {patience_s:g} s: `docker buildx` printed nothing.",
        "Check that `docker info` answers, and the machine's load and disk; then build again.",
    )


@asynccontextmanager
async def running(*command: str, **options: Any) -> AsyncIterator[Process]:
    """A process; afterwards it and what it started have ended, also when we are cancelled meanwhile.

    `docker` runs buildx as a child of its own. Raises `EngineUnavailable` if there is no such program.
    """
    options["start_new_session"] = True
    starting = asyncio.ensure_future(asyncio.create_subprocess_exec(*command, **options))
    try:
        process = await asyncio.shield(starting)
    except asyncio.CancelledError:
        # Cancelled half-way asyncio would end the leader alone, and wait for what that has started.
        with suppress(OSError):
            await asyncio.shield(_end(await starting))
        raise
    except FileNotFoundError:
        raise EngineUnavailable(
            f"The `{command[0]}` command was not found.",
            "Install the Docker command line (Debian: `docker-cli`).",
        ) from None
    try:
        yield process
    finally:
        await asyncio.shield(_end(process))


async def _end(process: Process) -> None:
    """SIGTERM to the whole group, so that BuildKit cancels its steps, then SIGKILL."""
    pipes = [pipe for pipe in (process.stdout, process.stderr) if pipe is not None]
    if process.returncode is not None and all(pipe.at_eof() for pipe in pipes):
        return
    # asyncio takes a process for ended when its pipes have, and a full one is never at its end.
    gone = asyncio.gather(process.wait(), *map(_to_end, pipes))
    for number, seconds in ((signal.SIGTERM, _GRACE_S), (signal.SIGKILL, _KILLED_S)):
        with suppress(ProcessLookupError):
            os.killpg(process.pid, number)
        done, _ = await asyncio.wait({gone}, timeout=seconds)
        if done:
            break
    gone.cancel()
    await asyncio.gather(gone, return_exceptions=True)


async def _to_end(pipe: asyncio.StreamReader) -> None:
    while await pipe.read(64 * 1024):
        pass


async def version() -> str:
    """The version of buildx, such as `0.13.1`.

    Raises `EngineUnavailable` if the docker command or the plugin is missing.
    """
    command = [*buildx_command(), "version"]
    async with running(*command, stdin=DEVNULL, stdout=PIPE, stderr=PIPE) as process:
        try:
            output, complaint = await within(_TIMEOUT_S, process.communicate())
        except (TimeoutError, asyncio.TimeoutError):
            raise EngineTimedOut(
                f"`docker buildx version` did not end within {_TIMEOUT_S:g} s.", "Try again."
            ) from None
    text = output.decode(errors="replace")
    if process.returncode != 0:
        raise EngineUnavailable(
            f"Docker has no `buildx` plugin: {complaint.decode(errors='replace').strip()}",
            "Install it (Debian, Ubuntu: `docker-buildx`; Docker's own packages: `docker-buildx-plugin`).",
        )
    found = re.search(r"\bv?([0-9]+\.[0-9]+\.[0-9]+)", text)
    if not found:
        raise EngineError(
            f"`docker buildx version` said {text.strip()!r:.120}.", "Reinstall the buildx plugin."
        )
    return found.group(1)
