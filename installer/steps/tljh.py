"""The Littlest JupyterHub: what is there of it, and installing it by its own bootstrap.

One that is there is never changed here: neither its configuration, nor its environments, nor its people.
"""

from __future__ import annotations

import contextlib
import os
import re
import shutil
import subprocess
import urllib.error
import urllib.request
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from . import offline
from .command import run
from .console import Step, StepFailed
from .packages import candidate, ensure_packages, update
from .site import Site, record

PREFIX = Path("/opt/tljh")
HUB = PREFIX / "hub"
USER = PREFIX / "user"
STATE = PREFIX / "state"
CONFIG = PREFIX / "config" / "config.yaml"
COMMAND = Path("/usr/bin/tljh-config")
HUB_UNIT = Path("/etc/systemd/system/jupyterhub.service")
BOOTSTRAP = "https://tljh.jupyter.org/bootstrap.py"
LOG = PREFIX / "installer.log"
_BEGUN = "tljh-begun"
_NEW = "tljh-new"
_SOURCES = "tljh-sources"
_UNIVERSE = "software-properties-common"
_SYSTEMD = Path("/usr/lib/systemd/systemd")
_BOOTSTRAP_S = 3600.0


@dataclass(frozen=True)
class Found:
    """What is there. `whole`: its own installer came to its end; `plugin`: ours is in its hub environment."""

    whole: bool
    partial: bool
    plugin: bool
    version: str = ""
    others: tuple[str, ...] = ()


def look(prefix: Path = PREFIX, command: Path = COMMAND, unit: Path = HUB_UNIT) -> Found:
    """Looks, changes nothing."""
    hub = prefix / "hub"
    python = hub / "bin" / "python3"
    packages = _packages(hub)
    # The link is the last thing that TLJH's installer makes before it asks plugins.
    linked = command.exists() and os.path.realpath(command) == os.path.realpath(hub / "bin" / "tljh-config")
    whole = python.exists() and unit.exists() and linked
    return Found(
        whole=whole,
        partial=python.exists() and not whole,
        plugin="the_littlest_binder" in packages,
        version=packages.get("the_littlest_jupyterhub", ""),
        others=tuple(name for name in ("tljh_repo2docker",) if name in packages),
    )


def _packages(environment: Path) -> dict[str, str]:
    """Names (with underscores) and versions of what pip installed there."""
    found = {}
    for info in environment.glob("lib/python3*/site-packages/*.dist-info"):
        name, _, version = info.name.removesuffix(".dist-info").rpartition("-")
        found[re.sub(r"[-_.]+", "_", name).lower()] = version
    return found


def begun(site: Site) -> bool:
    """Whether a run of ours began TLJH's installation and did not see its end."""
    with contextlib.suppress(OSError):  # root's own folder; somebody else is told to become root
        return (site.state / _BEGUN).exists()
    return False


def is_new(site: Site) -> bool:
    """Whether TLJH came by us, and its first administrator was not seen to yet."""
    with contextlib.suppress(OSError):
        return (site.state / _NEW).exists()
    return False


def note_administrator(site: Site) -> None:
    """The first administrator has been seen to."""
    (site.state / _NEW).unlink(missing_ok=True)


def ensure(
    site: Site, step: Step, *, admins: Sequence[str], plugin: Path, folder: offline.OfflineFolder | None
) -> str:
    """TLJH, whole. Raises `StepFailed`.

    `plugin` is a folder that pip can install; a fresh TLJH gets it by its own option `--plugin`.
    """
    here = look()
    mark = site.state / _BEGUN
    if here.whole and not mark.exists():
        return f"version {here.version}, as it was"
    if mark.exists():
        _clear(site, step)
    (site.state / _NEW).write_text("")
    mark.write_text("")
    record("tljh", str(PREFIX))
    env = with_systemd(site.root_env)
    if folder is not None:
        env |= folder.tljh_env(_copied(site, folder))
        version = offline.place_traefik(folder, HUB)
        if version:
            step.log(f"traefik {version} from {folder.traefik}")
    _without_universe(site, step)
    script = _bootstrap(site, step, folder)
    run(
        step,
        ["/usr/bin/python3", str(script), "--admin", *admins, "--plugin", str(plugin)],
        env=env | {"PYTHONUNBUFFERED": "1", "LITTLEST_BINDER_INSTALLER": str(os.getpid())},
        timeout_s=_BOOTSTRAP_S,
        next_step=f"Correct what the last lines say ({LOG} has all of them), then run the command again.",
    )
    found = look()
    if not found.whole:
        raise StepFailed(
            "TLJH's own installation ended well and is not complete.",
            next_step=f"See {LOG}, then run the command again.",
        )
    shutil.rmtree(site.state / _SOURCES, ignore_errors=True)
    (site.state / "tljh-bootstrap.py").unlink(missing_ok=True)
    mark.unlink()
    return f"version {found.version}, installed by its own bootstrap"


def with_systemd(env: Mapping[str, str], place: Path = _SYSTEMD) -> dict[str, str]:
    """TLJH's bootstrap looks for the program `systemd` on the PATH, where Debian 13 no longer has it."""
    if shutil.which("systemd", path=env["PATH"]) or not place.exists():
        return dict(env)
    return {**env, "PATH": f"{env['PATH']}:{place.parent}"}


def _copied(site: Site, folder: offline.OfflineFolder) -> Path | None:
    if folder.sources is None:
        return None
    copy = site.state / _SOURCES
    shutil.rmtree(copy, ignore_errors=True)
    shutil.copytree(folder.sources, copy, ignore=shutil.ignore_patterns(".git"))
    return copy


def _clear(site: Site, step: Step) -> None:
    """Take away what an interrupted installation left half done: environments only, which are made anew.

    pip takes a package for installed whose files are half there. What people and administrators made lies in
    TLJH's state and config folders, and stays; so does a user environment that works.
    """
    step.say("clearing what an interrupted installation left")
    for unit in ("jupyterhub", "traefik"):
        run(step, ["systemctl", "stop", unit], env=site.root_env, next_step="", accept=range(256))
    shutil.rmtree(HUB, ignore_errors=True)
    if USER.exists() and not _user_environment_works():
        shutil.rmtree(USER, ignore_errors=True)


def _user_environment_works() -> bool:
    """Whether conda and the last packages that TLJH puts there answer."""
    for command in (("conda", "list", "--json"), ("python", "-c", "import ipywidgets, jupyterlab, notebook")):
        try:
            program = str(USER / "bin" / command[0])
            done = subprocess.run([program, *command[1:]], capture_output=True, check=False, timeout=300)
        except (OSError, subprocess.TimeoutExpired):
            return False
        if done.returncode != 0:
            return False
    return True


def _without_universe(site: Site, step: Step) -> None:
    """A hub environment made by us where TLJH's bootstrap could not make it.

    It insists on a package that Debian 13 no longer has, but only before it makes the environment.
    """
    update(site, step)
    if candidate(site, _UNIVERSE) or (HUB / "bin" / "pip").exists():
        return
    ensure_packages(site, step, ["python3-venv", "python3-pip", "git", "sudo"])
    run(
        step, ["/usr/bin/python3", "-m", "venv", str(HUB)], env=site.root_env,
        next_step="Correct what the last lines say, then run the command again.",
    )  # fmt: skip


def _bootstrap(site: Site, step: Step, folder: offline.OfflineFolder | None) -> Path:
    if folder is not None and folder.sources is not None:
        return folder.sources / "bootstrap" / "bootstrap.py"
    target = site.state / "tljh-bootstrap.py"
    step.say(f"fetching {BOOTSTRAP}")
    try:
        with urllib.request.urlopen(BOOTSTRAP, timeout=60) as answer:  # a constant https address
            target.write_bytes(answer.read())
    except (urllib.error.URLError, OSError) as error:
        raise StepFailed(
            f"{BOOTSTRAP} cannot be fetched: {getattr(error, 'reason', error)}.",
            next_step="Check the network (behind a proxy: `sudo --preserve-env=https_proxy`), or give a "
            "folder with TLJH's sources: `--offline FOLDER`. Then run the command again.",
        ) from error
    return target
