"""Binder at home as a service of the person's own systemd: it starts when they sign in.

The unit is a file of theirs; nothing here needs root rights, and whether it runs without anybody being signed
in (lingering, see loginctl(1)) is theirs to say.
"""

from __future__ import annotations

import os
import subprocess
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from ..errors import NoUserManager, SettingsError

UNIT = "littlest-binder.service"
_MARK = "# Written by `littlest-binder autostart on`"
_TIMEOUT_S = 60.0

# What of the environment reaches builds and downloads; a service has none of what a shell sets.
_KEPT = (
    "http_proxy", "https_proxy", "no_proxy", "all_proxy",
    "HTTP_PROXY", "HTTPS_PROXY", "NO_PROXY", "ALL_PROXY",
    "SSL_CERT_FILE", "SSL_CERT_DIR", "REQUESTS_CA_BUNDLE", "NODE_EXTRA_CA_CERTS", "GIT_SSL_CAINFO",
    "PIP_INDEX_URL", "PIP_EXTRA_INDEX_URL", "PIP_TRUSTED_HOST", "PIP_CERT", "UV_INDEX_URL",
    "UV_DEFAULT_INDEX", "XDG_DATA_HOME", "DOCKER_HOST",
)  # fmt: skip

# Servers, service and hub are stopped by `up` itself on SIGTERM: only it is told (KillMode=mixed), and what
# is left at the end is killed. Its link is not asked for: others may read the journal.
_UNIT = """\
{mark}; it is written anew by it.
[Unit]
Description=The Littlest Binder: Binder at home

[Service]
Type=exec
ExecStart={command} up --no-link
{environment}WorkingDirectory=%h
KillMode=mixed
TimeoutStopSec=180
Restart=on-failure
RestartSec=5
RestartPreventExitStatus=2

[Install]
WantedBy=default.target
"""


@dataclass(frozen=True)
class Autostart:
    """Whether the unit starts at the next sign-in, runs now, and goes on after the last sign-out."""

    enabled: bool
    active: bool
    lingering: bool
    unit: Path


def unit_path(environ: Mapping[str, str] = os.environ) -> Path:
    """`$XDG_CONFIG_HOME/systemd/user/littlest-binder.service`, see systemd.unit(5)."""
    base = environ.get("XDG_CONFIG_HOME", "")
    root = Path(base) if os.path.isabs(base) else Path.home() / ".config"
    return root / "systemd" / "user" / UNIT


def unit_text(program: Path, environ: Mapping[str, str]) -> str:
    """The unit that runs `program`, with those variables of `environ` that reach the network."""
    lines = [f"Environment={_quoted(f'{name}={environ[name]}')}\n" for name in _KEPT if environ.get(name)]
    return _UNIT.format(mark=_MARK, command=_quoted(str(program)), environment="".join(lines))


def _quoted(text: str) -> str:
    """One word of a unit file: `%` begins a specifier, a backslash an escape; see systemd.syntax(7).

    Not for arguments of a program, in which `$` begins a variable.
    """
    if any(ord(letter) < 32 for letter in text):
        raise SettingsError(f"A unit cannot hold {text!r}.", "Use a value without control characters.")
    return '"' + text.replace("\\", "\\\\").replace('"', '\\"').replace("%", "%%") + '"'


def switch_on(program: Path, *, now: bool) -> Autostart:
    """The unit is written and enabled; with `now` it is started as well.

    Raises `NoUserManager`, and `SettingsError` if a unit of somebody else has that name.
    """
    _systemctl("show-environment")
    path = unit_path()
    text = unit_text(program, os.environ)
    if path.is_symlink() or (path.exists() and not path.read_text().startswith(_MARK)):
        raise SettingsError(f"{path} is not ours.", "Move it away, then run the command again.")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        draft = path.with_name(f".{path.name}.{os.getpid()}")
        # A proxy's address may hold a password.
        descriptor = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
        with os.fdopen(descriptor, "w") as file:
            file.write(text)
        draft.rename(path)
    except OSError as error:
        raise SettingsError(
            f"Cannot write {path}: {error.strerror}.", "Check the folder's owner and the free disk."
        ) from error
    _systemctl("daemon-reload")
    _systemctl("enable", *(["--now"] if now else []), UNIT)
    return status()


def switch_off() -> bool:
    """Stop it, disable it and remove its unit; whether there was one. What runs by hand goes on.

    Without a user's systemd only the files go. Raises `NoUserManager` never.
    """
    path = unit_path()
    if path.is_symlink() or not path.is_file() or not path.read_text().startswith(_MARK):
        return False
    try:
        _systemctl("disable", "--now", UNIT)
    except NoUserManager:
        (path.parent / "default.target.wants" / UNIT).unlink(missing_ok=True)
    path.unlink()
    with suppress(NoUserManager):
        _systemctl("daemon-reload")
    return True


def status() -> Autostart:
    """How it is now. Raises `NoUserManager`."""
    _systemctl("show-environment")
    return Autostart(
        enabled=_says("is-enabled") == "enabled",
        active=_says("is-active") in ("active", "activating", "deactivating"),
        lingering=_lingers(),
        unit=unit_path(),
    )


def installed() -> bool:
    """Whether our unit is there."""
    return unit_path().is_file()


def start() -> None:
    """Start the unit. Raises `NoUserManager`."""
    _systemctl("start", UNIT)


def _says(question: str) -> str:
    shown = _run("systemctl", "--user", question, UNIT)
    return shown.stdout.strip()


def _lingers() -> bool:
    try:
        shown = _run("loginctl", "show-user", str(os.getuid()), "--property", "Linger", "--value")
        return shown.stdout.strip() == "yes"
    except NoUserManager:
        return False


def _systemctl(*arguments: str) -> None:
    shown = _run("systemctl", "--user", *arguments)
    if shown.returncode != 0:
        said = (shown.stderr or shown.stdout).strip() or f"exit code {shown.returncode}"
        raise NoUserManager(
            f"`systemctl --user {' '.join(arguments)}` failed: {said}",
            "It needs a systemd of your own, which you have when you sign in on the machine itself or by ssh "
            "(not by `su` or `sudo`). Without one, run `littlest-binder start`.",
        )


def _run(*command: str) -> subprocess.CompletedProcess[str]:
    try:
        return subprocess.run(
            list(command),
            capture_output=True,
            text=True,
            check=False,
            timeout=_TIMEOUT_S,
            stdin=subprocess.DEVNULL,
        )
    except FileNotFoundError:
        raise NoUserManager(
            f"There is no `{command[0]}` on this machine: no systemd runs here.",
            "Run `littlest-binder start` when you need it.",
        ) from None
    except subprocess.TimeoutExpired:
        raise NoUserManager(
            f"`{' '.join(command)}` did not answer within {_TIMEOUT_S:.0f} s.",
            "See how your systemd is: `systemctl --user status`.",
        ) from None
