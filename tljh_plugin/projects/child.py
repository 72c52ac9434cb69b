"""Work on a person's files in a process of its own, as the user to whom they belong.

The service may be root, and what lies in a project was made by whatever ran there: the child gets one open
folder, no rights of ours, no environment, the lowest priority, and a time after which it is ended.
"""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
import sys
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from ..engine.threads import in_thread
from ..errors import ProjectFailed
from .staging import script

# Not `Popen(user=…)`: the interpreter may lie where that user cannot go. So it is loaded first, with all that
# the programs import, and gives its rights up for good before it looks at anything of a person.
_BECOME = """
import __future__, json, os, resource, stat, sys, time
uid, gid, program = int(sys.argv[2]), int(sys.argv[3]), sys.argv[4]
if os.geteuid() == 0:
    os.setgroups([])
    os.setresgid(gid, gid, gid)
    os.setresuid(uid, uid, uid)
exec(compile(program, "program", "exec", dont_inherit=True))
"""
# The same, but with two rights that the user does not have: to change owners, and to look into all folders.
# Their numbers are those of <linux/capability.h>, the options of `prctl` those of <linux/prctl.h>.
_BECOME_AND_GIVE = """
import __future__, ctypes, json, os, resource, stat, struct, sys, time
uid, gid, program = int(sys.argv[2]), int(sys.argv[3]), sys.argv[4]
library = ctypes.CDLL(None, use_errno=True)
CHOWN, DAC_READ_SEARCH, KEEPCAPS, NO_NEW_PRIVS = 0, 2, 8, 38
library.prctl(KEEPCAPS, 1, 0, 0, 0)
os.setgroups([])
os.setresgid(gid, gid, gid)
os.setresuid(uid, uid, uid)
rights = 1 << CHOWN | 1 << DAC_READ_SEARCH
if library.capset(struct.pack("Ii", 0x20080522, 0), struct.pack("6I", rights, rights, 0, 0, 0, 0)):
    raise SystemExit("the service may not change owners: " + os.strerror(ctypes.get_errno()))
library.prctl(NO_NEW_PRIVS, 1, 0, 0, 0)
exec(compile(program, "program", "exec", dont_inherit=True))
"""


async def run_as_owner(
    folder: Path, program: str, timeout_s: float, *arguments: str, give: bool = False
) -> dict[str, Any]:
    """Run one of the programs of `inside/` on a folder; what it printed as JSON.

    With `give` it may also change owners, for which we must be root. Raises `ProjectFailed`: the folder is
    root's or gone, the program failed or took longer than `timeout_s` seconds. A cancelled call ends the
    child.
    """
    running: list[subprocess.Popen[bytes]] = []
    become = _BECOME_AND_GIVE if give else _BECOME
    try:
        return await in_thread(lambda: _run(folder, become, (program, *arguments), timeout_s, running))
    except asyncio.CancelledError:
        for child in running:
            with suppress(ProcessLookupError):
                child.kill()
        raise


def _run(
    folder: Path,
    become: str,
    program: Sequence[str],
    timeout_s: float,
    running: list[subprocess.Popen[bytes]],
) -> dict[str, Any]:
    try:
        # O_PATH: its user may have taken every right on the folder away.
        descriptor = os.open(folder, os.O_PATH | os.O_DIRECTORY | os.O_NOFOLLOW)
    except OSError as error:
        raise _failed(folder, error.strerror or str(error)) from error
    try:
        facts = os.fstat(descriptor)
        if facts.st_uid == 0:
            raise _failed(folder, "it belongs to root, and servers never run as root")
        identity = (facts.st_uid, facts.st_gid or facts.st_uid)
        with subprocess.Popen(
            [
                sys.executable,
                "-I",
                "-S",
                "-B",
                "-c",
                become,
                str(descriptor),
                *map(str, identity),
                script(program[0]),
                *program[1:],
            ],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            cwd="/",
            env={},
            pass_fds=(descriptor,),
            start_new_session=True,
        ) as child:
            running.append(child)
            try:
                said, complaint = child.communicate(timeout=timeout_s)
            except subprocess.TimeoutExpired:
                child.kill()
                raise _failed(folder, f"it took longer than {timeout_s:.0f} s") from None
    except OSError as error:
        raise _failed(folder, f"{sys.executable} cannot be run: {error.strerror}") from error
    finally:
        os.close(descriptor)
    try:
        answer = json.loads(said)
    except ValueError:
        answer = None
    if child.returncode != 0 or not isinstance(answer, dict):
        reason = complaint.decode(errors="replace").strip()[-300:]
        raise _failed(folder, f"exit code {child.returncode}: {reason or 'it said nothing'}")
    return answer


def _failed(folder: Path, reason: str) -> ProjectFailed:
    return ProjectFailed(
        f"The files in {folder} cannot be worked on: {reason}.",
        "Look at the owner of that folder and at the service's log.",
    )
