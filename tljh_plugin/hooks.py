"""What The Littlest JupyterHub calls; see its `tljh/hooks.py`. Thin: each hook translates and calls.

TLJH runs them as root in its hub environment. An exception would end its installer, or keep its hub from
starting, so only a mistake in the administrator's own settings raises one, and only on the first start.
"""

from __future__ import annotations

import copy
import logging
import os
import platform
import shlex
import shutil
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pluggy

from .errors import SettingsError
from .settings import Settings

# The marker works by its name alone: this module loads where TLJH is not installed.
hookimpl = pluggy.HookimplMarker("tljh")

# TLJH's own, whose lines go to the administrator's screen and into its installer.log.
log = logging.getLogger("tljh")

# Set by our installer, which runs TLJH's and does the rest itself.
_INSTALLER = "LITTLEST_BINDER_INSTALLER"
_REST_S = 3600.0


@hookimpl
def tljh_extra_apt_packages() -> list[str]:
    """The distribution's Docker with buildx, and git; an engine that is there already stays as it is."""
    wanted = ["git"]
    if shutil.which("docker") is None:
        wanted.append("docker.io")
        if _has_buildx(_os_release()):
            wanted.append("docker-buildx")
    return wanted


@hookimpl
def tljh_custom_jupyterhub_config(c: Any) -> None:
    """Our servers and our service in TLJH's hub; Docker need not be there yet.

    After a mistake in the `binder` section of `config.yaml` the hub works with what the section said before,
    and its journal says what is wrong; `SettingsError` is raised only where it said nothing valid before.
    """
    from .hub import configure, survive

    settings = _settings()
    with survive(c, settings):
        configure(c, settings)


def _settings() -> Settings:
    from tljh.config import CONFIG_FILE, STATE_DIR
    from tljh.configurer import load_config
    from traitlets.log import get_logger

    from .handover import last_settings
    from .settings import from_mapping

    state_dir = Path(STATE_DIR) / "binder"
    try:
        return from_mapping(
            copy.deepcopy(load_config().get("binder") or {}),
            platform="tljh",
            state_dir=state_dir,
            source=str(CONFIG_FILE),
            origin=Path(CONFIG_FILE),
        )
    except SettingsError as error:
        before = last_settings(state_dir)
        if before is None:
            raise
        get_logger().error(
            "%s Until then the settings of before hold; `littlest-binder config check` finds all mistakes.",
            error,
        )
        return before


@hookimpl
def tljh_config_post_install(config: Mapping[str, Any]) -> None:
    """Tell of a mistake in the `binder` section now; the hub that is started next would end on it."""
    from .errors import SettingsError
    from .settings import from_mapping

    try:
        section = copy.deepcopy(config.get("binder") or {})
        from_mapping(section, platform="tljh", state_dir=Path("/opt/tljh/state/binder"), source="config.yaml")
    except SettingsError as error:
        log.error("The Littlest Binder: %s %s", error, error.next_step)


@hookimpl
def tljh_post_install() -> None:
    """What `--plugin` leaves to do: Docker, the base image, the service's unit, the first image, a check."""
    if os.environ.get(_INSTALLER):
        return
    command = [sys.executable, str(_bootstrap()), "tljh", "--installed", "--yes"]
    log.info("The Littlest Binder: installing Docker, the service and the first image; this takes minutes.")
    try:
        done = subprocess.run(
            command,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            errors="replace",
            check=False,
            timeout=_REST_S,
        )
        problem = "" if done.returncode == 0 else done.stdout[-2000:]
        log.debug("%s", done.stdout)
    except (OSError, subprocess.SubprocessError) as error:
        problem = str(error)
    if problem:
        log.error("The Littlest Binder is installed, but not ready:\n%s", problem)
        log.error("Run this to go on: sudo %s", shlex.join(command))


def _bootstrap() -> Path:
    """The installer: beside us in the wheel, beside the package in a checkout."""
    here = Path(__file__).resolve().parent
    inside = here / "installer" / "bootstrap.py"
    return inside if inside.exists() else here.parent / "installer" / "bootstrap.py"


def _has_buildx(release: Mapping[str, str]) -> bool:
    """Whether the distribution has the package: Debian 12 does not, and apt would refuse the whole list."""
    return not (release.get("ID") == "debian" and release.get("VERSION_ID") == "12")


def _os_release() -> Mapping[str, str]:
    try:
        return platform.freedesktop_os_release()
    except OSError:
        return {}
