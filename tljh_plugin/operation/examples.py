"""The bundled repositories, laid out as bare git repositories in the state folder.

Names, times and messages of their commits are fixed, so equal files give equal commits, and an image that was
built once is found again. A new version of the product adds a commit; nothing is rewritten.
"""

from __future__ import annotations

import os
import shutil
from importlib.resources import as_file, files
from pathlib import Path

from ..errors import CheckoutFailed
from ..settings import Settings
from ..source.git import Git, GitFailed

NAMES = ("example", "plain")

_BRANCH = "refs/heads/main"
_COMMITTER = {
    "GIT_AUTHOR_NAME": "The Littlest Binder",
    "GIT_AUTHOR_EMAIL": "examples@littlest-binder.invalid",
    "GIT_COMMITTER_NAME": "The Littlest Binder",
    "GIT_COMMITTER_EMAIL": "examples@littlest-binder.invalid",
    "GIT_AUTHOR_DATE": "1700000000 +0000",
    "GIT_COMMITTER_DATE": "1700000000 +0000",
}


async def ensure_examples(settings: Settings) -> tuple[str, ...]:
    """Lay out what is missing or older than this version; returns the names of what was changed.

    Raises `CheckoutFailed` if the folder cannot be written.
    """
    git = Git(settings)
    changed = []
    try:
        for name in NAMES:
            with as_file(files("tljh_plugin") / "examples" / name) as bundled:
                if await _ensure(git, bundled, settings.examples_dir / name):
                    changed.append(name)
    except OSError as error:
        raise CheckoutFailed(
            f"Cannot write the examples into {settings.examples_dir}: {error.strerror} ({error.filename}).",
            "Check the folder's owner and the free disk.",
        ) from error
    return tuple(changed)


async def _ensure(git: Git, bundled: Path, repository: Path) -> bool:
    # By git's plumbing: `git init`, `git update-ref` and work trees look up the whole path, which the
    # unprivileged account that runs git cannot do below a home of mode 0700.
    _create(repository, git)

    async def ask(*arguments: str, stdin: bytes = b"") -> str:
        output = await git.run(*arguments, cwd=repository, stdin=stdin, environment=_COMMITTER)
        return output.decode().strip()

    entries = []
    for name, content in _contents(bundled):
        blob = await ask("hash-object", "-w", "--stdin", stdin=content)
        entries.append(f"100644 blob {blob}\t{name}\n")
    tree = await ask("mktree", stdin="".join(entries).encode())
    try:
        parent = await ask("rev-parse", "--verify", "--quiet", f"{_BRANCH}^{{commit}}")
    except GitFailed:
        parent = ""
    if parent and await ask("rev-parse", f"{parent}^{{tree}}") == tree:
        return False
    message = f"Bundled with The Littlest Binder: {repository.name}".encode()
    commit = await ask("commit-tree", tree, *(("-p", parent) if parent else ()), stdin=message)
    _point(repository / _BRANCH, commit)
    return True


def _contents(bundled: Path) -> list[tuple[str, bytes]]:
    return [(path.name, path.read_bytes()) for path in sorted(bundled.iterdir())]


def _point(branch: Path, commit: str) -> None:
    draft = branch.with_name("main.lock")  # git's own name for a ref that is being written
    draft.write_text(f"{commit}\n")
    draft.chmod(0o644)
    draft.replace(branch)


def _create(repository: Path, git: Git) -> None:
    if (repository / "HEAD").exists():
        return
    shutil.rmtree(repository, ignore_errors=True)  # of an interrupted attempt: HEAD is written last
    for part in ("objects", "refs/heads"):
        (repository / part).mkdir(parents=True)
    (repository / "config").write_text("[core]\n\trepositoryformatversion = 0\n\tbare = true\n")
    (repository / "HEAD").write_text(f"ref: {_BRANCH}\n")
    if git.account is not None:
        for path in (repository, *repository.rglob("*")):
            os.chown(path, git.account.uid, git.account.gid)
