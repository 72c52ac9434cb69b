"""`my-files`: one folder of a person that all their servers may have, whatever repository they run.

It lies beside their projects, in a folder that is ours alone, belongs to the servers' user, and is never
filled by us.
"""

from __future__ import annotations

import os
import stat
from contextlib import suppress
from pathlib import Path

from ..engine import Limits
from ..errors import ProjectFailed
from .marker import sync_folder
from .people import MY_FILES, ensure_person_folder


def ensure_my_files(root: Path, person: str, limits: Limits) -> Path:
    """The folder `my-files` of a person, made if it is not there; the root must exist.

    Looks at the disk: run it in a thread. Raises `ProjectFailed`, `OSError`.
    """
    if os.geteuid() not in (0, limits.uid):
        raise ProjectFailed(
            f"Servers run as user {limits.uid}, and user {os.geteuid()} cannot make folders for them.",
            "Leave `servers.uid` out of the settings, or run as root.",
        )
    around = ensure_person_folder(root, person)
    folder = around / MY_FILES
    with suppress(FileExistsError):
        folder.mkdir(mode=0o700)
        sync_folder(around)
    facts = folder.lstat()
    if stat.S_ISDIR(facts.st_mode) and facts.st_uid == os.geteuid() == 0:
        # Ours, since nobody else can write around it: new, or of a start that was broken off here.
        os.chown(folder, limits.uid, limits.gid, follow_symlinks=False)
    facts = folder.lstat()
    if not stat.S_ISDIR(facts.st_mode) or facts.st_uid != limits.uid:
        raise ProjectFailed(
            f"{folder} is not a folder of user {limits.uid}, as whom servers run.",
            "Move what stands there away; if `servers.uid` was changed on purpose, give the files to that "
            f"user: `chown --recursive --no-dereference {limits.uid}:{limits.gid} {folder}`.",
        )
    return folder
