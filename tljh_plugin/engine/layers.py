"""The layers of an image: which they are, and what each occupies.

Their ids follow from the image's description. Their sizes are measured in Docker's own folder where we may
read it (overlay2, as root); elsewhere they are Docker's word. That counts contents of files without the
blocks that they are kept in: 5 to 25 % less than the disk, the more the smaller the files.
"""

from __future__ import annotations

import hashlib
import os
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

# An archive of nothing: what a step leaves that changed no file.
_NOTHING = "sha256:5f70bf18a086007016e948b04aed3b82103a36bea41755b6cddfaf10ace3c6ef"
_BLOCK = 512  # the unit of `st_blocks`, whatever the file system's own is
_FOLDER = re.compile(r"[0-9a-z]+(-init)?")
_SETTING = re.compile(
    r"(/bin/sh -c #\(nop\)\s+)?"
    r"(ARG|CMD|ENTRYPOINT|ENV|EXPOSE|HEALTHCHECK|LABEL|MAINTAINER|ONBUILD|SHELL|STOPSIGNAL|USER|VOLUME)\b"
)


def chain_ids(digests: Sequence[str]) -> tuple[str, ...]:
    """The id of each layer together with all below it, lowest first.

    The rule is that of the OCI image specification ("Layer ChainID").
    """
    chains: list[str] = []
    for digest in digests:
        both = f"{chains[-1]} {digest}" if chains else ""
        chains.append(f"sha256:{hashlib.sha256(both.encode()).hexdigest()}" if both else digest)
    return tuple(chains)


def sizes(digests: Sequence[str], history: Sequence[Mapping[str, Any]]) -> list[int | None]:
    """What Docker says of each layer, lowest first; `history` is its answer, newest step first.

    Docker does not say which steps made a layer. What is certain is told: a step with a size made one, a
    setting made none, and where several ways are left that differ, the size is `None`.
    """
    steps = [(int(each.get("Size") or 0), str(each.get("CreatedBy") or "")) for each in reversed(history)]
    forth = _ways(steps, digests)
    back = [row[::-1] for row in _ways(steps[::-1], digests[::-1])][::-1]
    found: list[int | None] = []
    for number, digest in enumerate(digests):
        possible = {
            size
            for step, (size, text) in enumerate(steps)
            if _fits(size, text, digest) and forth[step][number] and back[step + 1][number + 1]
        }
        found.append(possible.pop() if len(possible) == 1 else None)
    return found


def _ways(steps: Sequence[tuple[int, str]], digests: Sequence[str]) -> list[list[bool]]:
    """Whether the first *i* steps can have made exactly the first *j* layers, by *i* and *j*."""
    table = [[True, *[False] * len(digests)]]
    for size, text in steps:
        last = table[-1]
        row = [(known and size == 0) for known in last]
        for number, digest in enumerate(digests):
            row[number + 1] |= last[number] and _fits(size, text, digest)
        table.append(row)
    return table


def _fits(size: int, text: str, digest: str) -> bool:
    """Whether a step can have made a layer."""
    if size:
        return digest != _NOTHING
    return not _SETTING.match(text)


def on_disk(root_dir: str, chain_id: str) -> int | None:
    """Bytes that a layer occupies on Docker's disk; `None` where that cannot be looked at.

    Read from what Docker's classic store with overlay2 keeps of a layer: its files, and the list with which
    it can be packed again.
    """
    algorithm, _, digest = chain_id.partition(":")
    note = Path(root_dir) / "image" / "overlay2" / "layerdb" / algorithm / digest
    try:
        name = (note / "cache-id").read_text()
        if not _FOLDER.fullmatch(name):
            return None
        return _occupied(Path(root_dir) / "overlay2" / name) + _occupied(note)
    except OSError:
        return None


def _occupied(folder: Path) -> int:
    """Allocated bytes of a folder and all in it, hard links once."""
    total = folder.lstat().st_blocks * _BLOCK
    linked: set[int] = set()
    waiting = [str(folder)]
    while waiting:
        with os.scandir(waiting.pop()) as entries:
            for entry in entries:
                facts = entry.stat(follow_symlinks=False)
                if entry.is_dir(follow_symlinks=False):
                    waiting.append(entry.path)
                elif facts.st_nlink > 1:
                    if facts.st_ino in linked:
                        continue
                    linked.add(facts.st_ino)
                total += facts.st_blocks * _BLOCK
    return total
