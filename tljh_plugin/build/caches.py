"""The caches of packages that build steps mount, and taking away what is left half unpacked in them.

A build that is ended in the middle kills its installer, which then cannot tidy up. A package may unpack to
any size, the disk would stay as full as it made it, and nothing more would be built.
"""

from __future__ import annotations

import asyncio
import os
import secrets
import tempfile
from asyncio.subprocess import DEVNULL, PIPE, STDOUT
from pathlib import Path

from ..engine.buildx import buildx_command, running
from ..errors import EngineError, EngineTimedOut
from ..time_limit import within
from .builder import buildx_environment

# What a build step runs to install, in images of our base.
INSTALL = "/usr/bin/python3 -I -S /usr/local/lib/littlest-binder/install.py"
_PLACE = "/run/littlest-binder"
_LIMIT_S = 30.0

_TIDY = """\
FROM {base}
USER root
RUN --mount=type=cache,id={shared},target={place}/shared \\
    --mount=type=cache,id={own},target={place}/own,uid={uid},gid={gid} \\
    : {moment}; {install} --tidy
"""


def shared_cache(uid: int) -> str:
    """The name of the cache of wheels that all repositories share."""
    return f"littlest-binder-wheels-{uid}"


def own_cache(namespace: str, uid: int) -> str:
    """The name of the cache of packages of one repository."""
    return f"littlest-binder-own-{namespace}-{uid}"


async def tidy(base: str, namespace: str, owner: tuple[int, int]) -> None:
    """Take away what is half unpacked in both caches, unless a build works there: then that one is left.

    Makes no image. `owner` is uid and gid of the servers. Raises `EngineError`.
    """
    uid, gid = owner
    text = _TIDY.format(
        base=base,
        shared=shared_cache(uid),
        own=own_cache(namespace, uid),
        place=_PLACE,
        uid=uid,
        gid=gid,
        moment=secrets.token_hex(8),
        install=INSTALL,
    )
    with tempfile.TemporaryDirectory(prefix="littlest-binder-tidy-") as scratch:
        folder = Path(scratch) / "context"
        folder.mkdir()
        (folder / "Dockerfile").write_text(text)
        command = [*buildx_command(), "build", "--progress", "plain", "--output", "type=cacheonly"]
        environment = {**os.environ, **buildx_environment(Path(scratch))}
        async with running(
            *command, str(folder), stdin=DEVNULL, stdout=PIPE, stderr=STDOUT, env=environment
        ) as process:
            try:
                said, _ = await within(_LIMIT_S, process.communicate())
            except (TimeoutError, asyncio.TimeoutError):
                raise EngineTimedOut(
                    f"The caches of packages were not tidied within {_LIMIT_S:g} s.", "Look at Docker's log."
                ) from None
    if process.returncode != 0:
        raise EngineError(
            f"The caches of packages could not be tidied: {said.decode(errors='replace')[-300:]}",
            "Look at Docker's log.",
        )
