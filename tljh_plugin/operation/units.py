"""Units of systemd, where a machine has it: ours, and TLJH's hub."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

from ..errors import BinderError, StillRunning

SERVICE = "tljh-binder.service"
HUB = "jupyterhub.service"
UNIT_FILE = Path("/etc/systemd/system") / SERVICE

_TIMEOUT_S = 180.0


def has_systemd() -> bool:
    """systemd's own test, sd_booted(3)."""
    return Path("/run/systemd/system").is_dir() and shutil.which("systemctl") is not None


def is_active(unit: str) -> bool:
    """Whether it runs, or is being started."""
    return has_systemd() and _ask("is-active", "--quiet", unit).returncode == 0


def exists(unit: str) -> bool:
    """Whether systemd knows of it."""
    return has_systemd() and _ask("cat", unit).returncode == 0


def run(*arguments: str) -> None:
    """A command of systemctl. Raises `BinderError` with what it said."""
    done = _ask(*arguments)
    if done.returncode:
        said = (done.stderr or done.stdout).strip()[-300:]
        raise StillRunning(
            f"`systemctl {' '.join(arguments)}` failed: {said or f'exit code {done.returncode}'}",
            f"See `journalctl -u {arguments[-1]}`, then run the command again.",
        )


def _ask(*arguments: str) -> subprocess.CompletedProcess[str]:
    command = ["systemctl", *arguments]
    try:
        return subprocess.run(command, capture_output=True, text=True, check=False, timeout=_TIMEOUT_S)
    except (OSError, subprocess.TimeoutExpired) as error:
        raise BinderError(
            f"`{' '.join(command)}` did not work: {error}", "Look at the machine's service manager."
        ) from error
