"""The bundled repositories, laid out as git repositories in the state folder.

Names, times and messages of their commits are fixed, so equal files give equal commits, and an image that was
built once is found again. A new version of the product adds a commit; nothing is rewritten.
"""

from __future__ import annotations

import hashlib
import os
import shutil
from importlib.resources import as_file, files
from pathlib import Path

from ..errors import CheckoutFailed
from ..settings import Settings
from ..source.git import Git

NAMES = ("example", "plain")

_COMMITTER = {
    "GIT_AUTHOR_NAME": "The Littlest Binder",
    "GIT_AUTHOR_EMAIL": "examples@littlest-binder.invalid",
    "GIT_COMMITTER_NAME": "The Littlest Binder",
    "GIT_COMMITTER_EMAIL": "examples@littlest-binder.invalid",
    "GIT_AUTHOR_DATE": "1700000000 +0000",
    "GIT_COMMITTER_DATE": "1700000000 +0000",
}
_STAMP = ".git/littlest-binder-files"


async def ensure_examples(settings: Settings) -> tuple[str, ...]:
    """Lay out what is missing or older than this version; returns the names of what was changed.

    Raises `CheckoutFailed` if the folder cannot be written.
    """
    git = Git(settings)
    changed = []
    try:
        settings.examples_dir.mkdir(exist_ok=True)
        for name in NAMES:
            with as_file(files("tljh_plugin") / "examples" / name) as bundled:
                if await _lay_out(git, bundled, settings.examples_dir / name):
                    changed.append(name)
    except OSError as error:
        raise CheckoutFailed(
            f"Cannot write the examples into {settings.examples_dir}: {error.strerror} ({error.filename}).",
            "Check the folder's owner and the free disk.",
        ) from error
    return tuple(changed)


async def _lay_out(git: Git, bundled: Path, place: Path) -> bool:
    wanted = _digest(bundled)
    stamp = place / _STAMP
    if _said(stamp) == wanted:
        return False
    _copy(bundled, place)
    _give(place, git)
    if not (place / ".git" / "HEAD").exists():
        await git.run("init", "--quiet", "--initial-branch=main", "--template=", cwd=place)
    await git.run("add", "--all", cwd=place)
    await git.run(
        "commit", "--quiet", "--allow-empty", "--message", place.name, cwd=place, environment=_COMMITTER
    )
    stamp.write_text(wanted)
    return True


def _said(stamp: Path) -> str:
    try:
        return stamp.read_text()
    except OSError:
        return ""


def _copy(bundled: Path, place: Path) -> None:
    place.mkdir(mode=0o755, exist_ok=True)
    for path in _files(bundled):
        target = place / path.relative_to(bundled)
        target.parent.mkdir(exist_ok=True)
        shutil.copyfile(path, target)
        target.chmod(0o644)


def _files(folder: Path) -> list[Path]:
    return sorted(path for path in folder.rglob("*") if path.is_file())


def _digest(folder: Path) -> str:
    total = hashlib.sha256()
    for path in _files(folder):
        content = path.read_bytes()
        total.update(f"{path.relative_to(folder)}\0{len(content)}\0".encode() + content)
    return total.hexdigest()


def _give(place: Path, git: Git) -> None:
    """Let the account that runs git write there, where that is not ourselves."""
    if git.account is None:
        return
    for path in (place, *place.rglob("*")):
        os.chown(path, git.account.uid, git.account.gid, follow_symlinks=False)
