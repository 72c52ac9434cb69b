"""How the attempt to start an image ended, and what that means for its repository. All pure."""

from __future__ import annotations

import re
import signal
from dataclasses import dataclass

from ..engine import Limits
from ..settings import MIB

_LINES = 5
_LINE_LENGTH = 300


@dataclass(frozen=True, slots=True)
class Ending:
    """How the attempt of an image that did not answer ended; `exit_code` is `None` if it was still
    running.
    """

    exit_code: int | None
    log: str
    out_of_memory: bool = False


_NO_PROGRAM = re.compile(
    r"jupyterhub-singleuser['\"]?(: | failed: |.{0,20})?(command )?(not found|No such file or directory)"
    r"|(not found|No such file or directory):? ['\"]?jupyterhub-singleuser"
    r"|exec: \"jupyterhub-singleuser\": executable file not found"
)
_NO_MODULE = re.compile(r"ModuleNotFoundError: No module named ['\"]([\w.]+)['\"]")
_DENIED = re.compile(
    r".*(Permission ?(denied|Error)|Operation not permitted|not permitted to|superuser|are you root"
    r"|must be (run|started) as root|needs? (to be )?root|requires? root).*",
    re.IGNORECASE,
)
_ESCAPES = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]|[\x00-\x08\x0b-\x1f\x7f]")

_IMAGES_FAULT = re.compile(
    r"OCI runtime create failed|executable file not found|exec format error|working directory"
    r"|not a directory",
    re.IGNORECASE,
)

_KILLED = 128 + signal.SIGKILL  # by the kernel: nobody else ends a server that is being checked

_ADD_JUPYTER = (
    "Add `jupyterhub` and `jupyterlab` to the image (`pip install jupyterhub jupyterlab`, in the environment "
    "that is first on PATH) and build it again."
)


def is_the_images_fault(refusal: str) -> bool:
    """Whether Docker did not start a container because of what is in the image, not of the machine."""
    return bool(_IMAGES_FAULT.search(refusal)) and "no space left" not in refusal


def explain(ending: Ending, limits: Limits, timeout_s: float) -> tuple[str, str]:
    """One sentence about what happened, with the lines that tell it, and the next step."""
    lines = _last_lines(ending.log)
    shown = f" Its last lines: {' | '.join(lines)}" if lines else " It printed nothing."
    if _NO_PROGRAM.search(ending.log):
        return "The image has no `jupyterhub-singleuser`.", _ADD_JUPYTER
    if "exec format error" in ending.log:
        return f"The image's programs are of another architecture.{shown}", "Build it for this machine."
    if ending.out_of_memory:
        return (
            f"The server needed more than {limits.memory_bytes // MIB} MiB of memory to start.",
            "Load less at start, or ask the administrator to raise `servers.memory_bytes`.",
        )
    denied = next((line for line in reversed(lines) if _DENIED.match(line)), "")
    if denied and ending.exit_code is not None:
        return (
            f"The image wants to run as root or as a user of its own: {denied}",
            f"Servers run as user {limits.user} without privileges, whatever the image says: give that user "
            f"what is written to (`chown -R {limits.user} …` in the build), and start nothing as root.",
        )
    missing = _NO_MODULE.findall(ending.log)
    if missing:
        return (
            f"`jupyterhub-singleuser` ended because the Python module `{missing[-1]}` is missing.",
            _ADD_JUPYTER
            if missing[-1].startswith(("jupyter", "notebook", "tornado"))
            else f"Add it to what is installed, in the environment of `jupyterhub-singleuser`.{shown}",
        )
    if ending.exit_code == _KILLED:
        most = limits.memory_bytes // MIB
        return (
            f"The server was killed while it started: most likely it needed more than {most} MiB of memory, "
            f"which Docker does not always notice.{shown}",
            "Load less at start, or ask the administrator to raise `servers.memory_bytes`.",
        )
    if ending.exit_code is None:
        return (
            f"`jupyterhub-singleuser` did not answer on its port within {timeout_s:g} s.{shown}",
            "Check that the ENTRYPOINT runs the command it is given and that nothing waits for the network.",
        )
    return (
        f"`jupyterhub-singleuser` ended with exit code {ending.exit_code} instead of answering.{shown}",
        "Correct what these lines say and build again; `docker run` with that command shows more.",
    )


def _last_lines(log: str) -> list[str]:
    found = [_ESCAPES.sub("", line).strip()[:_LINE_LENGTH] for line in log.splitlines()]
    return [line for line in found if line][-_LINES:]
