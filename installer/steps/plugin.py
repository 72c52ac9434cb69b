"""Our package in TLJH's hub environment: installed where it is not there or was another one."""

from __future__ import annotations

import shutil
from pathlib import Path

from . import offline, project, tljh
from .command import run
from .console import Step, StepFailed
from .site import Site

# The hub works with what it loaded when it started, so it must be restarted after this file was made.
_RESTART = "restart-hub"
_AGAIN = "Check that the Python package index can be reached, then run the command again."


def ensure_source(site: Site) -> Path:
    """A copy of what pip installs, without anything else of the checkout."""
    files = list(project.project_files(site.checkout))
    source = site.state / "source"
    wanted = project.digest(site.checkout, files)
    mark = site.state / "source.sha256"
    if mark.exists() and mark.read_text() == wanted and source.is_dir():
        return source
    mark.unlink(missing_ok=True)
    shutil.rmtree(source, ignore_errors=True)
    for path in files:
        target = source / path.relative_to(site.checkout)
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(path, target)
    mark.write_text(wanted)
    return source


def note_installed(site: Site) -> None:
    """Say that the hub environment holds what the checkout holds now."""
    project.write_stamp(tljh.HUB, _wanted(site))


def is_current(site: Site) -> bool:
    return project.read_stamp(tljh.HUB) == _wanted(site) and tljh.look().plugin


def ensure(site: Site, step: Step, source: str, folder: offline.OfflineFolder | None) -> str:
    """The package is there. `source` is what pip is given, or empty for the checkout. Raises `StepFailed`.

    JupyterHub and what else TLJH names stay within TLJH's own bounds.
    """
    if source:
        wanted = {"plugin": source}
        if project.read_stamp(tljh.HUB) == wanted and tljh.look().plugin:
            return f"{source}, as it was"
    else:
        wanted = _wanted(site)
        if is_current(site):
            return "as it was"
    restart_later(site)
    given = source or str(ensure_source(site))
    bounds = sorted(tljh.HUB.glob("lib/python3*/site-packages/tljh/requirements-hub-env.txt"))
    within = [part for path in bounds[:1] for part in ("--constraint", str(path))]
    # pip installs a folder anew each time, also where the version is the same.
    run(
        step,
        [
            str(tljh.HUB / "bin" / "python3"), "-m", "pip", "install", "--no-input", "--progress-bar=off",
            *within, given,
        ],
        env=_env(site, folder),
        next_step=_AGAIN,
        show=lambda line: line.strip().split(" (from ")[0],
    )  # fmt: skip
    if not tljh.look().plugin:
        raise StepFailed(f"pip installed {given} and it is not there.", next_step=_AGAIN)
    project.write_stamp(tljh.HUB, wanted)
    return "installed"


def restart_later(site: Site) -> None:
    (site.state / _RESTART).write_text("")


def must_restart(site: Site) -> bool:
    return (site.state / _RESTART).exists()


def restarted(site: Site) -> None:
    (site.state / _RESTART).unlink(missing_ok=True)


def _wanted(site: Site) -> dict[str, str]:
    files = list(project.project_files(site.checkout))
    return {"project": project.digest(site.checkout, files)}


def _env(site: Site, folder: offline.OfflineFolder | None) -> dict[str, str]:
    return site.root_env | (folder.python_env if folder is not None else {})
