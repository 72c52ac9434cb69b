"""What says, inside a server that keeps nothing, that it keeps nothing.

A file at the top of what the file browser shows is the one thing that every image can show, whatever its
interface; programs find the same in the environment.
"""

from __future__ import annotations

import posixpath

from ..wire import Prepared

NOTICE = "NOTHING-HERE-IS-KEPT.txt"
VARIABLE = "LITTLEST_BINDER_STORAGE"

_TEXT = """\
This server keeps nothing.

Everything that you change or make in it is lost when it stops: when you stop it, when it was idle for too
long, when its image is built anew, or when the machine restarts. Download what you want to keep, or put it
into a mounted folder (my-files, or one of the data folders) if you ticked one when you launched the server.

To have your files kept, launch the repository again and choose "Keep my files".
"""


def notice(prepared: Prepared) -> dict[str, str]:
    """The file, by its path in the server; none where files are kept."""
    return {} if prepared.project_path else {posixpath.join(prepared.workdir, NOTICE): _TEXT}


def environment(prepared: Prepared) -> dict[str, str]:
    """`LITTLEST_BINDER_STORAGE`: `project` or `ephemeral`."""
    return {VARIABLE: "project" if prepared.project_path else "ephemeral"}
