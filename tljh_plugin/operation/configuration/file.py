"""The file of settings that is looked at: where it is, what it holds, and on which line."""

from __future__ import annotations

import os
import pwd
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal

from ruamel.yaml import YAML
from ruamel.yaml.error import YAMLError

from ... import handover
from ...errors import BinderError, SettingsError
from ...settings import PLAIN_STATE_DIR, desktop_state_dir, not_yaml
from ...yaml_places import Places

Platform = Literal["desktop", "tljh", "jupyterhub"]


@dataclass(frozen=True)
class SettingsFile:
    """One file. `document` is all that it holds; None where it is empty or not `there`."""

    path: Path
    platform: Platform
    state_dir: Path
    owner: str = ""
    there: bool = True
    document: Any = None
    places: Places = field(default_factory=Places)

    @property
    def section(self) -> Any:
        """What stands under `binder`."""
        return self.document.get("binder") if isinstance(self.document, Mapping) else None

    def line(self, *keys: str | int) -> int | None:
        """The line of a key of the whole document, or of the innermost one on the way to it that is there."""
        return self.places.nearest(keys)

    def where(self, *keys: str | int) -> str:
        """`FILE:LINE` of that key."""
        line = self.line(*keys)
        return f"{self.path}:{line}" if line is not None else str(self.path)


def find(path: Path | None = None, platform: Platform | None = None) -> SettingsFile:
    """The file at `path`, else the one of the installation that is here; the file need not exist then.

    Raises `SettingsError` if it cannot be read or is no YAML.
    """
    found = _here(platform)
    if path is not None:
        named = path.absolute()
        kind = platform or (found.platform if named == found.path else _kind_of(named, found))
        state_dir = found.state_dir if kind == found.platform else _state_dir(kind)
        found = SettingsFile(named, kind, state_dir, _owner() if kind == "desktop" else "")
    return _read(found, must_exist=path is not None)


def tljh_prefix() -> Path:
    """Where TLJH is, as its own `tljh/config.py` finds it."""
    return Path(os.environ.get("TLJH_INSTALL_PREFIX", "/opt/tljh"))


def _here(platform: Platform | None) -> SettingsFile:
    """The file of this machine's installation, unread."""
    desktop = SettingsFile(desktop_state_dir() / "config.yaml", "desktop", desktop_state_dir(), _owner())
    tljh = SettingsFile(tljh_prefix() / "config" / "config.yaml", "tljh", _state_dir("tljh"))
    named = os.environ.get(handover.STATE_VARIABLE, "")
    plain = _handed_over(Path(named) if named else PLAIN_STATE_DIR)
    if platform == "desktop":
        return desktop
    if platform == "tljh":
        return tljh
    if platform == "jupyterhub":
        return plain or SettingsFile(Path("binder.yaml").absolute(), "jupyterhub", PLAIN_STATE_DIR)
    if named and plain is not None:
        return plain
    if desktop.path.exists() or handover.path(desktop.state_dir).exists():
        return desktop
    return tljh if tljh.path.parent.is_dir() else plain or desktop


def _handed_over(state_dir: Path) -> SettingsFile | None:
    """The file with which a hub works there."""
    try:
        given = handover.read(state_dir)
    except (BinderError, OSError):
        return None
    if given.origin is None:
        return None
    return SettingsFile(given.origin, given.platform, given.state_dir, given.owner)


def _kind_of(path: Path, here: SettingsFile) -> Platform:
    """TLJH's by what else is in it, else what this machine has."""
    try:
        document = YAML(typ="safe").load(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, YAMLError):
        return here.platform
    tljhs = {"users", "auth", "limits", "http", "https", "services", "user_environment", "traefik_api"}
    return "tljh" if isinstance(document, dict) and tljhs & set(document) else here.platform


def _state_dir(platform: Platform) -> Path:
    if platform == "tljh":
        return tljh_prefix() / "state" / "binder"
    return desktop_state_dir() if platform == "desktop" else PLAIN_STATE_DIR


def _owner() -> str:
    return pwd.getpwuid(os.getuid()).pw_name


def _read(found: SettingsFile, *, must_exist: bool) -> SettingsFile:
    path = found.path
    try:
        text = path.read_text(encoding="utf-8")
    except FileNotFoundError:
        if must_exist:
            raise SettingsError(f"{path} does not exist.", "Check the path.") from None
        return replace(found, there=False)
    except PermissionError as error:
        raise SettingsError(
            f"Cannot read {path}: {error.strerror}.", "Put `sudo` before the command."
        ) from None
    except (OSError, UnicodeDecodeError) as error:
        raise SettingsError(f"Cannot read {path}: {error}.", "Check that it is a text file.") from None
    try:
        document = YAML(typ="safe").load(text)
    except YAMLError as error:
        raise not_yaml(path, error) from None
    return replace(found, document=document, places=Places.of(text))
