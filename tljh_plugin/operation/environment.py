"""The Python environment that we are installed in: what it is, and what pip does to it.

Comes in: an interpreter. Goes out: facts, and pip's work. Everything runs in processes of their own, since
the modules of this one are of the version before.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, distribution, distributions
from pathlib import Path

from ..errors import UpgradeFailed, UpgradeImpossible

DISTRIBUTION = "the-littlest-binder"
_PIP_S = 1800.0
_TAIL = 12
# What the hub's process loads of us; see `tests/unit/test_walls.py`.
_HUB_PARTS = (
    "hub.py", "hooks.py", "hub_api.py", "desktop.py", "sign_in.py", "settings.py", "errors.py", "client.py",
    "wire.py", "doors.py", "handover.py", "installation.py", "amounts.py", "launch", "engine", "access",
    "source", "web/templates/hub",
)  # fmt: skip


@dataclass(frozen=True)
class Change:
    """One distribution that pip would install; `before` is empty if it is not there yet."""

    name: str
    before: str
    after: str


def check() -> None:
    """Raises `UpgradeImpossible` where a command cannot upgrade us, with what to do instead."""
    try:
        ours = distribution(DISTRIBUTION)
    except PackageNotFoundError:
        raise UpgradeImpossible(
            f"{sys.executable} runs The Littlest Binder without its being installed.",
            "Install it: `pip install the-littlest-binder`.",
        ) from None
    origin = json.loads(ours.read_text("direct_url.json") or "{}")
    if origin.get("dir_info", {}).get("editable"):
        raise UpgradeImpossible(
            f"This is a development checkout ({origin.get('url', '')}).",
            "Update it with git, and run `pip install -e .` in it.",
        )
    if sys.prefix == sys.base_prefix:
        raise UpgradeImpossible(
            f"{sys.executable} is the system's own Python, not an environment of ours.",
            "Upgrade it the way it was installed.",
        )
    if not os.access(Path(str(ours.locate_file(""))), os.W_OK):
        raise UpgradeImpossible(
            f"{ours.locate_file('')} cannot be written.", "Run the command as its owner (`sudo` on a server)."
        )
    done = _pip("--version")
    if done.returncode:
        raise UpgradeImpossible(f"{sys.executable} has no pip.", f"Make it: `{sys.executable} -m ensurepip`.")


def changes(wanted: Sequence[str]) -> list[Change]:
    """What pip would install, without doing it. Raises `UpgradeImpossible` with pip's last lines."""
    done = _pip("install", "--dry-run", "--quiet", "--report", "-", *wanted)
    try:
        found = json.loads(done.stdout)["install"]
    except (ValueError, KeyError, TypeError):
        raise UpgradeImpossible(
            f"pip cannot install {' '.join(wanted)}: {_tail(done)}",
            "Correct what it says; nothing was changed.",
        ) from None
    there = {_plain(each.metadata["Name"]): each.version for each in distributions()}
    return [
        Change(
            str(each["metadata"]["name"]),
            there.get(_plain(str(each["metadata"]["name"])), ""),
            str(each["metadata"]["version"]),
        )
        for each in found
    ]


def install(wanted: Sequence[str]) -> None:
    """Raises `UpgradeFailed` with pip's last lines."""
    done = _pip("install", *wanted)
    if done.returncode:
        raise UpgradeFailed(f"pip could not install {' '.join(wanted)}: {_tail(done)}", "See what it says.")


def uninstall(names: Sequence[str]) -> None:
    """Raises `UpgradeFailed` with pip's last lines; what is not there is no error."""
    done = _pip("uninstall", "--yes", *names) if names else None
    if done is not None and done.returncode:
        raise UpgradeFailed(f"pip could not remove {' '.join(names)}: {_tail(done)}", "See what it says.")


def ask_new(code: str, *arguments: str, timeout_s: float = 120.0) -> str:
    """What a program prints that runs with what is installed now. Raises `UpgradeFailed` if it fails."""
    command = [sys.executable, "-c", code, *arguments]
    try:
        done = subprocess.run(
            command, capture_output=True, text=True, check=False, timeout=timeout_s, cwd="/"
        )
    except subprocess.TimeoutExpired:
        raise UpgradeFailed(
            f"The new version did not answer within {timeout_s:.0f} s.", "See its log."
        ) from None
    if done.returncode:
        raise UpgradeFailed(f"The new version does not work: {_tail(done)}", "Report this with its message.")
    return done.stdout.strip()


def hub_parts() -> dict[str, str]:
    """Digests of what a running hub has loaded: if one differs it needs a restart to be the new version."""
    code = (
        "import hashlib, importlib.metadata as m, json, pathlib, sys, tljh_plugin\n"
        "root, found = pathlib.Path(tljh_plugin.__file__).parent, {}\n"
        "for part in sys.argv[1:]:\n"
        "    place = root / part\n"
        "    for path in sorted(place.rglob('*')) if place.is_dir() else [place]:\n"
        "        if path.is_file() and '__pycache__' not in path.parts:\n"
        "            found[str(path.relative_to(root))] = hashlib.sha256(path.read_bytes()).hexdigest()\n"
        "for name in ('jupyterhub', 'dockerspawner', 'docker', 'pydantic', 'tornado', 'httpx'):\n"
        "    found[name] = m.version(name)\n"
        "print(json.dumps(found))\n"
    )
    found: dict[str, str] = json.loads(ask_new(code, *_HUB_PARTS))
    return found


def _pip(*arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "pip", "--disable-pip-version-check", "--no-input", *arguments]
    # On TLJH the hub's environment is root's, and that is meant.
    environment = {**os.environ, "PIP_ROOT_USER_ACTION": "ignore"}
    return subprocess.run(
        command, capture_output=True, text=True, check=False, timeout=_PIP_S, env=environment, cwd="/"
    )


def _tail(done: subprocess.CompletedProcess[str]) -> str:
    lines = (done.stderr or done.stdout).strip().splitlines()[-_TAIL:]
    return "\n".join(lines) or f"exit code {done.returncode}"


def _plain(name: str) -> str:
    return name.lower().replace("_", "-").replace(".", "-")
