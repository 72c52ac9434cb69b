"""Copy an image's home into a staging folder, trusting nothing that the image says.

Two containers and a pipe between them: the image itself reads its home under the servers' user, without
network, unable to write anywhere but into the pipe; our base image reads the pipe and is the only one that
writes files. See `inside/__init__.py`.
"""

from __future__ import annotations

import asyncio
import json
from dataclasses import dataclass
from typing import Any

from ..engine import ContainerSpec, Engine, Finished, ImageFacts, Limits, Mount
from ..errors import ProjectError, ProjectFailed, ProjectTooLarge
from .staging import Staging, python, script

TIMEOUT_S = 900.0
MAX_ENTRIES = 1_000_000

_WAKE_EVERY_S = 0.05
_LAST_WORDS_S = 5.0
_PIPE = "/.littlest-binder-pipe"
_INTO = "/into"
# The image's own Python, by whichever name: the one thing that every image that passed its check has.
_FIND_PYTHON = (
    'for name in python3 python; do command -v "$name" >/dev/null 2>&1 '
    '&& exec "$name" -I -S -B -c "$@"; done; echo "no python3 on PATH"; exit 127'
)


@dataclass(frozen=True, slots=True)
class Filled:
    """What was copied: entries, allocated bytes, and the names (at most 20) of what was not."""

    entries: int
    bytes: int
    skipped: int
    skipped_names: list[str]


async def fill(
    engine: Engine,
    image: ImageFacts,
    base_image: str,
    limits: Limits,
    staging: Staging,
    *,
    sender: Limits,
    max_bytes: int,
    reserve_bytes: int,
    timeout_s: float = TIMEOUT_S,
) -> Filled:
    """Fill `staging.home` from the image; neither container is left behind, also when cancelled.

    `limits` say as whom files are written, `sender` as whom the image is read: as whom it was made, who can
    read also what is only for its user. `reserve_bytes` stay free on the disk. Raises `ProjectTooLarge`,
    `ProjectFailed`, or an `EngineError`.
    """
    sending = asyncio.ensure_future(engine.run(_sender(image, sender, staging), timeout_s))
    receiving = asyncio.ensure_future(
        engine.run(_receiver(base_image, limits, staging, max_bytes, reserve_bytes), timeout_s)
    )
    sent: Finished | None
    try:
        await asyncio.wait({sending, receiving}, return_when=asyncio.FIRST_COMPLETED)
        if not receiving.done():
            sent = sending.result()
            received = await _when_read(receiving, staging)
        else:
            received = receiving.result()
            sent = await _last_words(sending) if _report(received).get("error") == "broken-off" else None
    finally:
        for task in (sending, receiving):
            task.cancel()
        await asyncio.gather(sending, receiving, return_exceptions=True)
    return _read(received, sent, image, max_bytes)


async def _when_read(receiving: asyncio.Task[Finished], staging: Staging) -> Finished:
    """The image's side has ended: if it never opened the pipe, the reader would wait for ever."""
    while not receiving.done():
        staging.wake_reader()
        await asyncio.wait({receiving}, timeout=_WAKE_EVERY_S)
    return receiving.result()


async def _last_words(sending: asyncio.Task[Finished]) -> Finished | None:
    """The pipe was closed too early: how the image's side ended, which is known a moment later."""
    await asyncio.wait({sending}, timeout=_LAST_WORDS_S)
    return sending.result() if sending.done() and sending.exception() is None else None


def _sender(image: ImageFacts, limits: Limits, staging: Staging) -> ContainerSpec:
    return ContainerSpec(
        image=image.id,
        entrypoint=("/bin/sh", "-c", _FIND_PYTHON, "fill"),
        command=(script("send.py"), image.home, _PIPE),
        environment={"HOME": image.home},
        limits=limits,
        kind="fill",
        labels=staging.label,
        mounts=(Mount(str(staging.pipe), _PIPE, read_only=True),),
        workdir="/",
        read_only=True,
    )


def _receiver(
    base_image: str, limits: Limits, staging: Staging, max_bytes: int, reserve_bytes: int
) -> ContainerSpec:
    return ContainerSpec(
        image=base_image,
        entrypoint=python("receive.py"),
        command=(_PIPE, _INTO, str(max_bytes), str(MAX_ENTRIES), str(reserve_bytes)),
        limits=limits,
        kind="fill",
        labels=staging.label,
        mounts=(Mount(str(staging.pipe), _PIPE, read_only=True), Mount(str(staging.home), _INTO)),
        workdir="/",
        read_only=True,
    )


def _report(received: Finished) -> dict[str, Any]:
    """What the receiver printed; empty if it was ended before it could."""
    try:
        said = json.loads(received.output.strip().splitlines()[-1])
    except (ValueError, IndexError):
        return {}
    return said if isinstance(said, dict) else {}


def _read(received: Finished, sent: Finished | None, image: ImageFacts, max_bytes: int) -> Filled:
    said = _report(received)
    if not said:
        raise ProjectFailed(
            f"Copying the files of the image {_name(image)} ended with exit code {received.exit_code}: "
            f"{received.output.strip()[-300:] or 'it said nothing'}",
            "Try again; if it happens again, run the installer once more (it makes the base image anew).",
        )
    if not said["ok"]:
        raise _error(said["error"], said["detail"], sent, image, max_bytes)
    return Filled(said["entries"], said["bytes"], said["skipped"], said["skipped_names"])


def _error(error: str, detail: str, sent: Finished | None, image: ImageFacts, max_bytes: int) -> ProjectError:
    name = _name(image)
    if error in ("too-large", "too-many"):
        limit = f"{MAX_ENTRIES} files" if error == "too-many" else f"{max_bytes / 2**30:.3g} GiB"
        return ProjectTooLarge(
            f"The files in {image.home} of the image {name} are more than {limit}: too much.",
            "Keep large data out of the repository and the home (a mount, or a download at use), "
            "or ask the administrator to raise `storage.max_fill_bytes`.",
        )
    if error == "disk-low":
        return ProjectFailed(
            f"The disk is too full to copy the files of the image {name} ({detail}).",
            "Free space on the disk of the projects, then start again.",
        )
    if sent is not None and sent.exit_code == 127:
        return ProjectFailed(
            f"The files in {image.home} of the image {name} cannot be copied: it has no python3 on PATH.",
            "Add Python 3 to the image, or start it without keeping files (storage `ephemeral`).",
        )
    ended = f" Its side ended with exit code {sent.exit_code}: {sent.output.strip()[-300:]}" if sent else ""
    return ProjectFailed(
        f"The files in {image.home} of the image {name} could not be copied: {detail}.{ended}",
        "Check that the image's Python works, or start it without keeping files (storage `ephemeral`).",
    )


def _name(image: ImageFacts) -> str:
    return image.tags[0] if image.tags else image.id
