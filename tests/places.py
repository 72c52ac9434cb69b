"""Installations for tests of `source`, and the fingerprint of a folder."""

from __future__ import annotations

import asyncio
import hashlib
import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from git_server import GitServer

from tljh_plugin.settings import Settings, from_mapping
from tljh_plugin.source.checkout import Checkout, Checkouts
from tljh_plugin.source.credentials import Login
from tljh_plugin.source.resolve import PinnedRepo, Resolver
from tljh_plugin.source.spec import parse_typed


class Place:
    """One installation: its settings, resolver and checkouts, below a folder that only we can enter."""

    def __init__(
        self, server: GitServer, state: Path, policy: dict[str, Any], source: dict[str, Any]
    ) -> None:
        state.mkdir(mode=0o700, exist_ok=True)
        self.settings: Settings = from_mapping(
            {"policy": {**server.settings(), **policy}, "source": source}, platform="desktop", state_dir=state
        )
        self.resolver = Resolver(self.settings)
        self.checkouts = Checkouts(self.settings)
        self.said: list[str] = []

    async def pin(self, text: str, commit: str = "", login: Login | None = None) -> PinnedRepo:
        return await self.resolver.resolve(parse_typed(text).spec, commit, login)

    @asynccontextmanager
    async def checkout(self, what: str | PinnedRepo) -> AsyncIterator[Checkout]:
        pinned = await self.pin(what) if isinstance(what, str) else what
        async with self.checkouts.checkout(pinned, self.said.append) as checkout:
            yield checkout

    async def fingerprint(self, what: str | PinnedRepo) -> str:
        async with self.checkout(what) as checkout:
            return await asyncio.to_thread(fingerprint, checkout.path)

    def stored_bytes(self) -> int:
        """Bytes of all packs of all mirrors."""
        return sum(path.stat().st_size for path in self.settings.mirror_dir.rglob("*.pack"))


def fingerprint(root: Path) -> str:
    """Of all that an image could get to see: names, modes, times, links, contents."""
    digest = hashlib.sha256()
    for folder, folders, files in os.walk(root):
        folders.sort()
        for name in sorted([*files, *folders, "."]):
            path = os.path.join(folder, name)
            facts = os.lstat(path)
            place = os.path.relpath(path, root).encode("utf-8", "surrogateescape")
            digest.update(b"%s %o %d\n" % (place, facts.st_mode, facts.st_mtime_ns))
            if os.path.islink(path):
                digest.update(os.fsencode(os.readlink(path)))
            elif os.path.isfile(path):
                digest.update(Path(path).read_bytes())
    return digest.hexdigest()
