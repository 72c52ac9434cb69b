"""Work on the disk, in a thread and to its end."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import TypeVar

from ..engine.threads import in_thread
from ..errors import ProjectFailed

T = TypeVar("T")


async def on_disk(work: Callable[[], T]) -> T:
    """Run `work` in a thread to its end, also when cancelled; raises `ProjectFailed` for what the disk
    refuses.
    """
    running = asyncio.ensure_future(in_thread(work))
    try:
        return await asyncio.shield(running)
    except asyncio.CancelledError:
        await asyncio.wait({running})
        raise
    except OSError as error:
        raise ProjectFailed(
            f"The disk refused to work on {error.filename or 'the projects'}: {error.strerror}.",
            "Check the owner of `storage.root` and the free disk, then try again.",
        ) from error
