"""What the installer left on a server besides the unit, the command and the state folder; for `uninstall`."""

from __future__ import annotations

import shutil
from pathlib import Path

from ..settings import Settings
from .unit import ENVIRONMENT_FILE, FOLDER, NAME

# The installer's own folder: a copy of what pip installed, its marks and its lock.
INSTALLER_STATE = Path("/var/lib/littlest-binder/tljh")
_TRAEFIK = Path("/opt/tljh/config/traefik_config.d/littlest-binder.toml")
_STAMP = Path("/opt/tljh/hub/littlest-binder.json")


def remove(settings: Settings, dry_run: bool) -> list[str]:
    """What is removed, or would be, one sentence each; nothing on a desktop. Can be run again."""
    if settings.platform == "desktop":
        return []
    said = []
    for path, what in (
        (ENVIRONMENT_FILE, "the proxies and indexes in"),
        (FOLDER / f"{NAME}.d", "the changes of the unit in"),
        (INSTALLER_STATE, "the installer's notes in"),
        (_STAMP, "the installer's note"),
        (_TRAEFIK, "what lets escaped characters pass, at the next `tljh-config reload proxy`,"),
    ):
        if not path.exists():
            continue
        said.append(f"{what} {path}")
        if dry_run:
            continue
        if path.is_dir():
            shutil.rmtree(path)
        else:
            path.unlink()
    return said
