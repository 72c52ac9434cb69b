"""What BuildKit keeps of builds: listed, and one record pruned.

Engines from 23.0 on list them by their API. Before that the API tells them only together with every volume
and container, which takes minutes on a large machine; there `docker buildx du` is asked, which rounds sizes
to four digits and does not tell which record stands on which.
"""

from __future__ import annotations

import asyncio
import os
import re
import tempfile
from asyncio.subprocess import DEVNULL, PIPE
from collections.abc import Iterable, Mapping
from dataclasses import replace
from typing import Any

from ..errors import EngineError, EngineTimedOut
from ..time_limit import within
from .buildx import buildx_command, running
from .values import CacheRecord

_FIRST_API = (1, 42)
_LATER_S = 2.0
_ID = re.compile(r"[0-9a-z]{20,40}")
_SIZE = re.compile(r"([0-9.]+(?:e\+[0-9]+)?)([kMGTPE]?)B")
_UNITS = {"": 1, "k": 10**3, "M": 10**6, "G": 10**9, "T": 10**12, "P": 10**15, "E": 10**18}


def by_api(client: Any) -> list[CacheRecord] | None:
    """What the API tells; `None` if it cannot be asked for this alone."""
    if tuple(int(part) for part in client.api_version.split(".")) < _FIRST_API:
        return None
    answer = client.get(
        f"{client.base_url}/v{client.api_version}/system/df",
        params={"type": "build-cache"},
        timeout=client.timeout,
    )
    client._raise_for_status(answer)  # as Docker's refusal, not as a Docker that cannot be reached
    return [read(each) for each in answer.json().get("BuildCache") or ()]


def read(said: Mapping[str, Any]) -> CacheRecord:
    """One record of the API's list."""
    parents = said.get("Parents") or ([said["Parent"]] if said.get("Parent") else [])
    return CacheRecord(
        id=said["ID"],
        parents=tuple(parents),
        bytes=said.get("Size"),
        shared=bool(said.get("Shared")),
        in_use=bool(said.get("InUse")),
        last_used=said.get("LastUsedAt") or "",
        description=said.get("Description") or "",
        kind=said.get("Type") or "",
        created=said.get("CreatedAt") or "",
    )


async def by_buildx(environment: Mapping[str, str], timeout_s: float) -> list[CacheRecord]:
    """What `docker buildx du` tells of Docker's own builder. Raises `EngineError`."""
    with tempfile.TemporaryDirectory(prefix="littlest-binder-du-") as folder:
        # Should we be killed, it ends all the same: a Docker that hangs would keep it for ever.
        bounded = ["timeout", "--kill-after=5", f"{timeout_s + _LATER_S:g}"]
        command = [*bounded, *buildx_command(), "--builder", "default", "du", "--verbose"]
        surroundings = {**os.environ, **environment, "BUILDX_CONFIG": folder}
        async with running(*command, stdin=DEVNULL, stdout=PIPE, stderr=PIPE, env=surroundings) as process:
            try:
                output, complaint = await within(timeout_s, process.communicate())
            except (TimeoutError, asyncio.TimeoutError):
                raise EngineTimedOut(
                    f"`docker buildx du` did not end within {timeout_s:g} s.",
                    "Look at the machine's load and disk; then try again.",
                ) from None
    if process.returncode != 0:
        raise EngineError(
            f"`docker buildx du` failed: {complaint.decode(errors='replace').strip()[-500:]}",
            "Check that `docker buildx --builder default du` answers.",
        )
    return parse(output.decode(errors="replace"))


def parse(text: str) -> list[CacheRecord]:
    """The records in what `docker buildx du --verbose` printed.

    A description is a line of somebody's Dockerfile, and may be many lines that look like a record: it
    overrides nothing, and what it makes of another record is one that is shared, which is never pruned.
    """
    records: dict[str, CacheRecord] = {}
    for block in re.split(r"\n\n(?=ID:)", text):
        said: dict[str, str] = {}
        for line in block.splitlines():
            key, _, value = line.partition(":")
            said.setdefault(key.strip(), value.strip())  # the list ends with sums under the same words
        record = _printed(said)
        if not _ID.fullmatch(record.id):
            continue
        twice = record.id in records
        records[record.id] = replace(records[record.id], shared=True) if twice else record
    return list(records.values())


def _printed(said: Mapping[str, str]) -> CacheRecord:
    parents = said.get("Parents") or said.get("Parent") or ""
    return CacheRecord(
        id=said.get("ID", ""),
        parents=tuple(each for each in re.split(r"[,\s]+", parents) if each),
        bytes=_bytes(said.get("Size", "")),
        shared=said.get("Shared") == "true",
        in_use=said.get("Reclaimable") == "false",
        last_used="",  # it says only "3 hours ago"
        description=said.get("Description", ""),
        kind=said.get("Type", ""),
        created=said.get("Created at", ""),
    )


def _bytes(text: str) -> int | None:
    found = _SIZE.fullmatch(text)
    return round(float(found[1]) * _UNITS[found[2]]) if found else None


def prune(client: Any, record_id: str) -> int | None:
    """Remove one record; its bytes as Docker counts them, `None` if it is in use, shared, or not there.

    Docker itself leaves alone what an image shares (`all` is false) and what another record stands on.
    """
    if not _ID.fullmatch(record_id):
        # The id is Docker's own, and goes into a filter of Docker's that knows patterns.
        raise EngineError(
            f"{record_id!r:.80} is no id of a cache record.", "Look at `docker buildx du --verbose`."
        )
    said = client.prune_builds(filters={"id": [record_id]}, all=False)
    gone = said.get("CachesDeleted") or []
    if set(gone) - {record_id}:
        # An engine that ignored the filter would empty everybody's cache, one call after the other.
        raise EngineError(
            f"Docker was to remove the cache record {record_id} and removed {len(gone)} others.",
            "Erase nothing more with this engine, and tell its version in a report.",
        )
    return int(said.get("SpaceReclaimed") or 0) if gone else None


def beside_images(records: Iterable[CacheRecord]) -> int | None:
    """Bytes of the records that no image shares; `None` if one of them is not known."""
    sizes = [each.bytes for each in records if not each.shared]
    known = [size for size in sizes if size is not None]
    return sum(known) if len(known) == len(sizes) else None
