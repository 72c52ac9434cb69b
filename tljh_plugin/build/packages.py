"""Which packages an image has, by its own word: asked inside while it runs for its check, without network."""

from __future__ import annotations

import json
from importlib import resources

from ..engine import Engine
from ..errors import EngineError
from ..source.providers import shown
from ..store.about_images import MOST_PACKAGES, Package

_KINDS = ("python", "conda", "debian")
_LONGEST = 120
_LIMIT_S, _LIMIT_BYTES = 20.0, 2 * 1024 * 1024


async def packages_in(engine: Engine, container: str) -> tuple[Package, ...] | None:
    """The packages of a running container's image; None if it does not tell."""
    script = (
        resources.files(__package__).joinpath("probe").joinpath("packages.py").read_text(encoding="utf-8")
    )
    command = ("python3", "-I", "-B", "-c", script)
    try:
        said = await engine.ask_inside(container, command, timeout_s=_LIMIT_S, limit_bytes=_LIMIT_BYTES)
    except EngineError:
        return None
    return read(said)


def read(said: str) -> tuple[Package, ...] | None:
    """What the program inside printed; None for anything else, since an image may say what it likes."""
    try:
        rows = json.loads(said.strip().splitlines()[-1])["packages"]
        found = [
            Package(kind, shown(name, _LONGEST), shown(version, _LONGEST))
            for kind, name, version in rows
            if kind in _KINDS
        ]
    except (ValueError, KeyError, IndexError, TypeError, RecursionError):
        return None
    return tuple(found[:MOST_PACKAGES])
