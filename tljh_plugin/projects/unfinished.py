"""What a fill leaves that was killed: staging folders, drafts of markers, projects' folders without files."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

from .marker import HOME, MARKER
from .people import people
from .staging import Staging, stagings


def unfinished(root: Path) -> Iterator[tuple[str, Staging]]:
    """All staging folders below `root` with the person whose project they are for, those at work included."""
    for owner, folder in people(root):
        for project in sorted(folder.iterdir()):
            if project.is_dir() and not project.is_symlink():
                for staging in stagings(project):
                    yield owner, staging


def remove_unfinished(folder: Path) -> None:
    """Remove a project's folder in which nothing came into being."""
    if not os.path.lexists(folder / HOME):
        for draft in (folder / MARKER, *folder.glob(f".{MARKER}.*")):
            draft.unlink(missing_ok=True)
        with suppress(OSError):
            folder.rmdir()
