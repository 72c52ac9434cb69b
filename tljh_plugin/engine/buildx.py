"""`docker buildx`: how it is called, and whether it is there."""

from __future__ import annotations

import asyncio
import re
from asyncio.subprocess import DEVNULL, PIPE

from ..errors import EngineError, EngineTimedOut, EngineUnavailable

_TIMEOUT_S = 20.0


def buildx_command() -> list[str]:
    """The beginning of every buildx command line."""
    return ["docker", "buildx"]


async def version() -> str:
    """The version of buildx, such as `0.13.1`.

    Raises `EngineUnavailable` if the docker command or the plugin is missing.
    """
    try:
        process = await asyncio.create_subprocess_exec(
            *buildx_command(), "version", stdin=DEVNULL, stdout=PIPE, stderr=PIPE
        )
    except FileNotFoundError:
        raise EngineUnavailable(
            "The `docker` command was not found.", "Install the Docker command line (Debian: `docker-cli`)."
        ) from None
    try:
        output, complaint = await asyncio.wait_for(process.communicate(), _TIMEOUT_S)
    except (TimeoutError, asyncio.TimeoutError):
        raise EngineTimedOut(
            f"`docker buildx version` did not end within {_TIMEOUT_S:g} s.", "Try again."
        ) from None
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
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
