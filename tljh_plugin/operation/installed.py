"""Where the parts of an installation are: what backup, restore, upgrade and uninstall work with.

Comes in: a state folder. Goes out: one value. Nothing is changed here, and nothing needs to run.
"""

from __future__ import annotations

import fcntl
import os
import urllib.error
import urllib.request
from dataclasses import dataclass, replace
from pathlib import Path

from .. import handover
from ..desktop import hub_files
from ..errors import HubUnavailable, SettingsError, StoreError
from ..settings import Settings, from_mapping, load_desktop, read_file
from ..store.lock import StoreLock

TLJH = Path("/opt/tljh")
PASSWORDS = "passwords.dbm"  # of TLJH's own authenticator, beside the hub's database
BACKUPS = "backups"
_ANSWER_S = 3.0


@dataclass(frozen=True)
class Installed:
    """One installation. `instance` is empty where nothing was ever started; `hub_database` is None where it
    is not known, or another database than SQLite, whose kind `other_database` then says."""

    settings: Settings
    instance: str = ""
    hub_database: Path | None = None
    other_database: str = ""
    cookie_secret: Path | None = None
    hub_api_url: str = ""

    @property
    def state_dir(self) -> Path:
        return self.settings.state_dir

    @property
    def settings_file(self) -> Path | None:
        """The file with the section `binder`; None where it is in somebody's own configuration."""
        return self.settings.origin

    @property
    def backups(self) -> Path:
        return self.state_dir / BACKUPS

    def with_settings(self, settings: Settings) -> Installed:
        """The same places under other settings."""
        return replace(self, settings=settings)


def find(state_dir: Path | None = None) -> Installed:
    """The installation of a state folder (by default: the one a command here belongs to).

    Raises `SettingsError` for what cannot be read.
    """
    where = (state_dir or handover.find_state_dir()).absolute()
    try:
        given = handover.read(where)
    except HubUnavailable:
        return _never_started(where)
    settings = given.settings()
    if given.platform == "desktop":
        settings = load_desktop(where, owner=given.owner or None)
    known = given.hub_database
    return Installed(
        settings=settings,
        instance=_instance(where),
        hub_database=Path(known) if known and not known.endswith("://") else None,
        other_database=known.removesuffix("://") if known.endswith("://") else "",
        cookie_secret=Path(given.cookie_secret_file) if given.cookie_secret_file else None,
        hub_api_url=given.hub_api_url,
    )


def _never_started(where: Path) -> Installed:
    """A fresh installation: what its hub will choose is known beforehand."""
    if where == TLJH / "state" / "binder":
        file = TLJH / "config" / "config.yaml"
        settings = from_mapping(
            read_file(file, alone=False), platform="tljh", state_dir=where, source=str(file), origin=file
        )
        folder = TLJH / "state"
        database, secret = folder / "jupyterhub.sqlite", folder / "jupyterhub_cookie_secret"
    else:
        settings = load_desktop(where)
        database, secret = hub_files(where)
    return Installed(settings, _instance(where), database, cookie_secret=secret)


def _instance(where: Path) -> str:
    try:
        return (where / "instance").read_text().strip()
    except FileNotFoundError:
        return ""
    except OSError as error:
        raise SettingsError(
            f"Cannot read {where / 'instance'}: {error.strerror}.",
            "Run the command as the owner of the installation (`sudo` on a server).",
        ) from error


# -- what runs ----------------------------------------------------------------------------------------


def service_runs(installed: Installed) -> bool:
    """Whether a service has the store."""
    if not installed.state_dir.is_dir():
        return False
    lock = StoreLock(installed.settings.store_path.with_name(installed.settings.store_path.name + ".lock"))
    try:
        lock.take()
    except StoreError:
        return True
    lock.release()
    return False


def hub_runs(installed: Installed) -> bool:
    """Whether a hub works with this state folder: ours at home by its lock, others by their address."""
    if installed.settings.platform == "desktop" and _is_locked(installed.settings.run_dir / "up.lock"):
        return True
    if not installed.hub_api_url:
        return False
    # Our own hub on this machine: a proxy of the environment has no business there.
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    try:
        with opener.open(f"{installed.hub_api_url}/", timeout=_ANSWER_S) as answer:
            return bool(b'"version"' in answer.read(200))
    except (urllib.error.URLError, OSError, ValueError):
        return False


def _is_locked(path: Path) -> bool:
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW)
    except OSError:
        return False
    try:
        fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    finally:
        os.close(descriptor)
    return False
