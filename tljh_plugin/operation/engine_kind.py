"""Which kinds of Docker the desktop refuses, and why; the installer's preflight has the same rules.

Images are built, and servers limited and isolated, by an engine that runs as root on this machine's own
kernel and sees its folders.
"""

from __future__ import annotations

import os
from collections.abc import Mapping

from ..engine.values import EngineInfo
from ..errors import EngineUnsupported

_OWN = (
    "Binder at home then uses the machine's own (`sudo python3 installer/bootstrap.py desktop` installs it)."
)


def check_address(environ: Mapping[str, str] = os.environ) -> None:
    """Raises `EngineUnsupported` if `DOCKER_HOST` leads to another machine or to a virtual one.

    Contexts of the `docker` command lead us nowhere: we do not follow them.
    """
    host = environ.get("DOCKER_HOST", "")
    if host and not host.startswith("unix://"):
        raise EngineUnsupported(
            f"DOCKER_HOST is {host}: that Docker is on another machine, and folders of this one cannot be "
            "mounted there.",
            f"`unset DOCKER_HOST`, and take it out of your shell's files. {_OWN}",
        )


def check_kind(
    info: EngineInfo, environ: Mapping[str, str] = os.environ, *, kernel: str | None = None
) -> None:
    """Raises `EngineUnsupported` for Docker Desktop, rootless Docker, Docker from a snap, and any Docker that
    runs on another kernel than ours.
    """
    host = environ.get("DOCKER_HOST", "")
    undo = f"`unset DOCKER_HOST` (it is {host}). " if host else ""
    value = f"Docker {info.version} ({info.system or 'unknown system'}, data in {info.root_dir})"
    if "Docker Desktop" in info.system:
        raise EngineUnsupported(
            f"{value} is Docker Desktop, which runs in a virtual machine of its own: servers could not reach "
            "the hub, and its limits are not this machine's.",
            f"Quit Docker Desktop. {undo}{_OWN}",
        )
    if info.rootless:
        raise EngineUnsupported(
            f"{value} is rootless: it cannot give files to their owners, nor limit and isolate servers.",
            f"{undo or 'Stop it: `systemctl --user disable --now docker`. '}{_OWN}",
        )
    if info.root_dir.startswith("/var/snap/"):
        raise EngineUnsupported(
            f"{value} comes from a snap, which sees no hidden folder and nothing outside of homes.",
            f"`sudo snap remove docker` (its images go with it). {undo}{_OWN}",
        )
    here = os.uname().release if kernel is None else kernel
    if info.kernel and info.kernel != here:
        raise EngineUnsupported(
            f"{value} runs on kernel {info.kernel}, this machine on {here}: it is in a virtual machine, or "
            "on another one.",
            f"Stop it. {undo}{_OWN}",
        )
