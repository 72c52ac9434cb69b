"""A folder that is being filled: `<project>/.filling-<random>/`, with `home`, and the pipe that the files
come through.

What a process that was killed has left is found by that name, and its containers by the random part in
their label.
"""

from __future__ import annotations

import os
import secrets
from contextlib import suppress
from dataclasses import dataclass, replace
from importlib import resources
from pathlib import Path

from ..engine import ContainerSpec, Engine, Limits, Mount
from ..engine.threads import in_thread
from ..errors import ProjectFailed
from ..labels import STAGING_LABEL
from .marker import HOME

_PREFIX = ".filling-"
_EMPTY_TIMEOUT_S = 300.0


@dataclass(frozen=True, slots=True)
class Staging:
    path: Path

    @property
    def label(self) -> dict[str, str]:
        """Of the containers that work on it."""
        return {STAGING_LABEL: self.path.name.removeprefix(_PREFIX)}

    @property
    def home(self) -> Path:
        return self.path / HOME

    @property
    def pipe(self) -> Path:
        return self.path / "pipe"

    def wake_reader(self) -> None:
        """Let a reader that waits for a writer see the end; without one, or with data on the way,
        nothing happens.
        """
        with suppress(OSError):
            os.close(os.open(self.pipe, os.O_WRONLY | os.O_NONBLOCK | os.O_NOFOLLOW))


def new_staging(project_folder: Path) -> Staging:
    """One that is still to be made, with a name that no other has."""
    return Staging(project_folder / f"{_PREFIX}{secrets.token_hex(8)}")


def make_staging(staging: Staging, limits: Limits, sender: Limits) -> None:
    """Make its folder. `home` belongs to the person's servers' user, what is around it to us.

    The pipe is written by `sender`, as whom the image was made, and read by the group of the one who fills.
    """
    staging.path.mkdir(mode=0o700)
    staging.home.mkdir(mode=0o700)
    os.mkfifo(staging.pipe, 0o600)
    staging.pipe.chmod(0o640)
    if os.geteuid() == 0:
        os.chown(staging.home, limits.uid, limits.gid, follow_symlinks=False)
        os.chown(staging.pipe, sender.uid, limits.gid, follow_symlinks=False)


def stagings(project_folder: Path) -> list[Staging]:
    """What is being filled, or was when a process was killed."""
    try:
        entries = sorted(project_folder.iterdir())
    except FileNotFoundError:
        return []
    return [Staging(each) for each in entries if each.name.startswith(_PREFIX) and not each.is_symlink()]


def script(name: str) -> str:
    """The text of a program that runs inside a container."""
    return resources.files(__package__).joinpath("inside").joinpath(name).read_text(encoding="utf-8")


def python(name: str) -> tuple[str, ...]:
    """Entry point of our base image with one of our programs."""
    return ("python3", "-I", "-S", "-B", "-c", script(name))


async def clear(engine: Engine, base_image: str, limits: Limits, staging: Staging) -> None:
    """Remove a staging folder and the containers that work on it; the files as the user to whom they belong.

    That user need not be the one of `limits`: whose servers are whose may have changed meanwhile. Raises
    `ProjectFailed` if something of it cannot be removed, or an `EngineError`.
    """
    for row in await engine.containers():
        if engine.is_ours(row.labels) and staging.label.items() <= row.labels.items():
            await engine.remove(row.id)
    if await in_thread(lambda: _has_files(staging.home)):
        ended = await engine.run(
            ContainerSpec(
                image=base_image,
                entrypoint=python("empty.py"),
                command=("/into",),
                limits=await in_thread(lambda: _of_owner(staging.home, limits)),
                kind="fill",
                labels=staging.label,
                mounts=(Mount(str(staging.home), "/into"),),
                workdir="/",
                read_only=True,
            ),
            _EMPTY_TIMEOUT_S,
        )
        if ended.exit_code != 0:
            raise ProjectFailed(
                f"What a broken-off fill left in {staging.home} cannot be removed: {ended.output[-300:]}",
                "Remove that folder by hand; it is no finished project.",
            )
    await in_thread(lambda: remove_empty(staging))


def _of_owner(folder: Path, limits: Limits) -> Limits:
    facts = folder.lstat()
    return replace(limits, uid=facts.st_uid or limits.uid, gid=facts.st_gid or limits.gid, groups=())


def _has_files(folder: Path) -> bool:
    try:
        with os.scandir(folder) as entries:
            return any(True for _ in entries)
    except FileNotFoundError:
        return False
    except PermissionError:
        return True


def remove_empty(staging: Staging) -> None:
    """Remove a staging folder whose files are gone, moved to their place or removed."""
    staging.pipe.unlink(missing_ok=True)
    for folder in (staging.home, staging.path):
        with suppress(FileNotFoundError):
            folder.rmdir()
