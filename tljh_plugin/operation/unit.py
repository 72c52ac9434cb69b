"""`tljh-binder.service`, the systemd unit of the service on TLJH.

A unit of its own, because TLJH's hub unit kills every process that it started when the hub is reloaded. The
installer runs this as a module (`python -m tljh_plugin.operation.unit`); it prints what it did as JSON.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from dataclasses import asdict, dataclass
from pathlib import Path

from ..errors import SettingsError

NAME = "tljh-binder.service"
FOLDER = Path("/etc/systemd/system")
# Proxies, package indexes and certificate bundles for builds; a unit inherits nothing of a login's.
ENVIRONMENT_FILE = Path("/etc/default/tljh-binder")
_SYSTEMCTL_S = 90.0

# Whoever can talk to Docker can become root, so this does not contain an attacker who took the service over;
# it keeps mistakes, and what a repository's files make our own tools do, away from the rest of the machine.
_TEXT = """\
# Written by The Littlest Binder; put changes into {folder}/{name}.d/*.conf.
[Unit]
Description=The Littlest Binder: builds images and serves its pages
# Wants and not Requires: without Docker the pages say what is wrong, and a hub that reloads is not our end.
Wants=docker.service network-online.target
After=docker.service network-online.target jupyterhub.service
# The hub writes what we start with: until it has, we are started again and again.
StartLimitIntervalSec=0

[Service]
# No `User=`, not even root's: beside NoNewPrivileges systemd 257 then takes the right to become somebody else
# away, and git runs as nobody.
ExecStart={python} -m tljh_plugin.cli serve
WorkingDirectory=/
Environment=LITTLEST_BINDER_STATE={state}
Environment=HOME=/root
Environment=PYTHONUNBUFFERED=1
Environment=PATH={bin}:/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin
EnvironmentFile=-{environment_file}
Restart=on-failure
RestartSec=2
# The service ends its builds in order and queues them again; what does not listen is killed after that.
KillMode=mixed
TimeoutStopSec=60
OOMPolicy=continue

NoNewPrivileges=yes
# Not strict, and no ProtectHome: the administrator chooses where projects and mounts lie.
ProtectSystem=full
# No PrivateTmp and no PrivateDevices: paths and devices are handed to Docker, which must see the same ones.
ProtectClock=yes
ProtectControlGroups=yes
ProtectHostname=yes
ProtectKernelLogs=yes
ProtectKernelModules=yes
ProtectKernelTunables=yes
LockPersonality=yes
RestrictAddressFamilies=AF_UNIX AF_INET AF_INET6 AF_NETLINK
RestrictNamespaces=yes
RestrictRealtime=yes
RestrictSUIDSGID=yes
SystemCallArchitectures=native
SystemCallFilter=@system-service
SystemCallErrorNumber=EPERM
CapabilityBoundingSet=~CAP_SYS_MODULE CAP_SYS_RAWIO CAP_SYS_BOOT CAP_SYS_TIME CAP_SYS_TTY_CONFIG CAP_MKNOD \\
    CAP_MAC_ADMIN CAP_MAC_OVERRIDE CAP_AUDIT_CONTROL CAP_SYSLOG CAP_WAKE_ALARM CAP_BLOCK_SUSPEND CAP_BPF \\
    CAP_LINUX_IMMUTABLE CAP_SYS_PACCT CAP_LEASE

[Install]
WantedBy=multi-user.target
"""


@dataclass(frozen=True)
class Ensured:
    """What `ensure` found: whether the file was written, and whether the unit was enabled just now."""

    written: bool
    enabled: bool


def text(python: Path, state_dir: Path, *, folder: Path = FOLDER) -> str:
    """The unit. `python` is the interpreter of the environment in which we are installed."""
    for path in (python, state_dir):
        # systemd takes words apart at spaces and replaces what begins with a percent sign.
        if any(c.isspace() or c in "%\"'\\$" for c in str(path)):
            raise SettingsError(
                f"{path} cannot stand in a systemd unit.", "Install into a folder with a plain name."
            )
    return _TEXT.format(
        name=NAME,
        folder=folder,
        python=python,
        bin=python.parent,
        state=state_dir,
        environment_file=ENVIRONMENT_FILE,
    )


def ensure(python: Path, state_dir: Path, *, folder: Path = FOLDER) -> Ensured:
    """The unit is there as this version writes it, systemd knows it, and it starts at boot.

    Neither starts nor restarts it. Raises `SettingsError` if systemd refuses.
    """
    wanted = text(python, state_dir, folder=folder)
    path = folder / NAME
    written = not path.exists() or path.read_text(encoding="utf-8") != wanted
    if written:
        draft = path.with_name(f".{NAME}.{os.getpid()}")
        draft.write_text(wanted, encoding="utf-8")
        draft.chmod(0o644)
        draft.replace(path)
    # Also after a run that was killed between writing the file and telling systemd.
    if written or _property("NeedDaemonReload") == "yes":
        _systemctl("daemon-reload")
    enabled = _property("UnitFileState") != "enabled"
    if enabled:
        _systemctl("enable", NAME)
    return Ensured(written, enabled)


def _property(name: str) -> str:
    return _systemctl("show", "--value", "--property", name, NAME).strip()


def _systemctl(*arguments: str) -> str:
    command = ["systemctl", *arguments]
    try:
        done = subprocess.run(
            command,
            capture_output=True,
            text=True,
            check=False,
            timeout=_SYSTEMCTL_S,
            stdin=subprocess.DEVNULL,
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        raise SettingsError(
            f"`{' '.join(command)}` could not be run: {error}.", "The server needs systemd."
        ) from error
    if done.returncode != 0:
        raise SettingsError(
            f"`{' '.join(command)}` failed: {done.stderr.strip() or done.returncode}.",
            f"See `systemctl status {NAME}`.",
        )
    return done.stdout


def main() -> int:
    try:
        made = ensure(Path(sys.executable), Path("/opt/tljh/state/binder"))
    except SettingsError as error:
        sys.stderr.write(f"{error} {error.next_step}\n")
        return 1
    sys.stdout.write(json.dumps(asdict(made)) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
