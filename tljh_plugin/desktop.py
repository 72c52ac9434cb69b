"""Binder at home: one person, loopback only, signed in by single-use links instead of passwords.

A link's code is 256 random bits; only its SHA-256 is on disk, as the name of a file in `run/sign-in/`. Using
a link is removing that file, which the file system lets only one succeed in.
"""

from __future__ import annotations

import contextlib
import ctypes
import hashlib
import json
import os
import random
import secrets
import signal
import socket
import time
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

from .errors import SettingsError
from .settings import Settings

HOST = "binder.localhost"
CLI_SERVICE = "binder-cli"
# The number of the process in whose foreground the hub runs.
PARENT_VARIABLE = "LITTLEST_BINDER_UP"

_CODE_BYTES = 32
_FIRST_PORT = 24_000
_chosen_ports: set[int] = set()  # this process will need them, though nobody listens there yet
_PR_SET_PDEATHSIG = 1


# -- addresses ----------------------------------------------------------------------------------------


def origin(settings: Settings) -> str:
    """The hub's own origin. Servers and the service have subdomains of it; browsers resolve `*.localhost`
    to this machine without asking anybody (RFC 6761, section 6.3).
    """
    return f"http://{HOST}:{settings.desktop.port}"


def free_port() -> int:
    """A port on 127.0.0.1 that nobody listens on, another at each call.

    It is below those that the kernel gives to connections (ip(7), `ip_local_port_range`), one of which could
    take it before who is to listen there does; where that leaves none, it is any.
    """
    ports = range(_FIRST_PORT, _first_ephemeral_port())
    for port in (*random.sample(ports, len(ports)), 0):  # not a secret
        with contextlib.suppress(OSError), socket.socket() as probe:
            probe.bind(("127.0.0.1", port))
            found = int(probe.getsockname()[1])
            if found not in _chosen_ports:
                _chosen_ports.add(found)
                return found
    raise SettingsError("No port of 127.0.0.1 is free.", "See with `ss -ltn` who listens on so many.")


def _first_ephemeral_port() -> int:
    try:
        return int(Path("/proc/sys/net/ipv4/ip_local_port_range").read_text().split()[0])
    except (OSError, ValueError, IndexError):
        return _FIRST_PORT


# -- links --------------------------------------------------------------------------------------------


def new_link(settings: Settings, next_path: str = "") -> str:
    """A link that signs the owner in once, within `binder.desktop.sign_in_link_s` seconds.

    `next_path` is where it leads: a path on the hub or an address below its own host. Raises
    `SettingsError` if the code cannot be written.
    """
    code = secrets.token_urlsafe(_CODE_BYTES)
    folder = _codes(settings)
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        _forget_expired(folder)
        descriptor = os.open(folder / _digest(code), os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with os.fdopen(descriptor, "w") as file:
            json.dump({"boot": boot_id(), "expires": _uptime() + settings.desktop.sign_in_link_s}, file)
    except OSError as error:
        raise SettingsError(
            f"Cannot write a sign-in code into {folder}: {error.strerror}.",
            "Run the command as the owner of the installation, and check the free disk.",
        ) from error
    query = {"code": code, **({"next": next_path} if next_path else {})}
    return f"{origin(settings)}/hub/sign-in?{urlencode(query)}"


def use_code(settings: Settings, code: str) -> bool:
    """Whether `code` was good; it is not any more."""
    place = _codes(settings) / _digest(code)
    try:
        known = json.loads(place.read_text())
        place.unlink()
        return known["boot"] == boot_id() and _uptime() < float(known["expires"])
    except (OSError, ValueError, KeyError, TypeError):
        return False


def _codes(settings: Settings) -> Path:
    return settings.run_dir / "sign-in"


def _digest(code: str) -> str:
    return hashlib.sha256(code.encode()).hexdigest()


def _forget_expired(folder: Path) -> None:
    for place in folder.iterdir():
        with contextlib.suppress(OSError, ValueError, KeyError, TypeError):
            known = json.loads(place.read_text())
            if known["boot"] != boot_id() or float(known["expires"]) < _uptime():
                place.unlink(missing_ok=True)


def boot_id() -> str:
    """A random text that the kernel chooses at each start of the machine."""
    return Path("/proc/sys/kernel/random/boot_id").read_text().strip()


def _uptime() -> float:
    """Seconds since the start of the machine: a clock that nobody sets back."""
    return time.clock_gettime(time.CLOCK_BOOTTIME)


def hub_files(state_dir: Path) -> tuple[Path, Path]:
    """The hub's database and its cookie secret."""
    return state_dir / "hub" / "jupyterhub.sqlite", state_dir / "hub" / "cookie_secret"


# -- the hub's configuration --------------------------------------------------------------------------


def configure_desktop(c: Any, settings: Settings) -> str:
    """Set what only a desktop has: loopback, subdomains of localhost, files in the state folder, one person.

    Returns the address of the hub's API.
    """
    from .sign_in import DesktopAuthenticator  # loads JupyterHub, which commands can do without

    _end_with(int(os.environ.pop(PARENT_VARIABLE, 0)))
    state = settings.state_dir / "hub"
    state.mkdir(mode=0o700, exist_ok=True)
    hub_port, proxy_port = free_port(), free_port()
    c.JupyterHub.bind_url = f"http://127.0.0.1:{settings.desktop.port}"
    c.JupyterHub.subdomain_host = origin(settings)
    c.JupyterHub.hub_bind_url = f"http://127.0.0.1:{hub_port}"
    database, cookie_secret = hub_files(settings.state_dir)
    c.JupyterHub.db_url = f"sqlite:///{database}"
    c.JupyterHub.upgrade_db = True
    c.JupyterHub.cookie_secret_file = str(cookie_secret)
    c.JupyterHub.cleanup_servers = True
    c.JupyterHub.authenticator_class = DesktopAuthenticator
    c.DesktopAuthenticator.binder = settings
    c.Authenticator.allowed_users = {settings.owner}
    c.Authenticator.admin_users = {settings.owner}
    c.ConfigurableHTTPProxy.api_url = f"http://127.0.0.1:{proxy_port}"
    c.ConfigurableHTTPProxy.auth_token = secrets.token_hex(32)
    c.ConfigurableHTTPProxy.pid_file = str(state / "proxy.pid")
    return f"http://127.0.0.1:{hub_port}/hub/api"


def _end_with(parent: int) -> None:
    """End in order when `littlest-binder up` is killed and cannot tell us: see prctl(2), PR_SET_PDEATHSIG."""
    if not parent:
        return
    ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_PDEATHSIG, signal.SIGTERM, 0, 0, 0)
    if os.getppid() != parent:  # it ended before we had asked
        raise SettingsError("`littlest-binder up` has ended.", "Run it again.")
