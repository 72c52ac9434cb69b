"""The project in a virtual environment of its own, and its command on the PATH."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import subprocess
from collections.abc import Iterator, Sequence
from pathlib import Path

from .command import run, which
from .console import Step, StepFailed
from .packages import ensure_packages
from .site import Site, record, write_as_person

LINK = Path("/usr/local/bin/littlest-binder")
# What a step says that found everything as it should be.
KEPT = ", as it was"
_STAMP = "littlest-binder.json"
_FILES = ("pyproject.toml", "README.md", "LICENSE")
_PACKAGE = "tljh_plugin"
# The package carries it, for TLJH's own way of installing us.
_INSTALLER = "installer"
_AGAIN = (
    "Check that the Python package index can be reached (behind a proxy: `sudo --preserve-env=https_proxy`), "
    "then run the command again."
)


def base_python() -> str:
    """The distribution's Python: environments made with another one break when its owner changes it."""
    return which("python3") or "/usr/bin/python3"


def python_version(python: str) -> str:
    """`3.11.2`, or empty if `python` does not run."""
    shown = subprocess.run(
        [python, "-I", "-c", "import platform; print(platform.python_version())"],
        capture_output=True,
        text=True,
        check=False,
    )
    return shown.stdout.strip()


def ensure_venv_package(site: Site, step: Step) -> list[str]:
    """Debian packages `venv` and `ensurepip` apart from Python."""
    return ensure_packages(site, step, venv_package())


def venv_package() -> list[str]:
    """What must be installed before an environment can be made; empty if it is there."""
    shown = subprocess.run(
        [base_python(), "-I", "-c", "import venv, ensurepip"], capture_output=True, check=False
    )
    return [] if shown.returncode == 0 else ["python3-venv"]


def project_files(checkout: Path) -> Iterator[Path]:
    """The files of the checkout that make up the installed project."""
    yield from (checkout / name for name in _FILES)
    for folder in (_PACKAGE, _INSTALLER):
        for path in sorted((checkout / folder).rglob("*")):
            if path.is_file() and not path.is_symlink() and "__pycache__" not in path.parts:
                yield path


def digest(checkout: Path, files: Sequence[Path]) -> str:
    """SHA-256 of names and contents."""
    total = hashlib.sha256()
    for path in files:
        total.update(f"{path.relative_to(checkout)}\0".encode())
        total.update(hashlib.sha256(path.read_bytes()).digest())
    return total.hexdigest()


def ensure_environment(site: Site, step: Step) -> str:
    """The checkout installed in `site.venv`; installed again only when its content changed."""
    files = list(project_files(site.checkout))
    wanted = {"project": digest(site.checkout, files), "python": _minor(python_version(base_python()))}
    with site.person.acting():
        found = read_stamp(site.venv)
        intact = (site.venv / "bin" / "littlest-binder").exists()
    if found == wanted and intact and _imports(site):
        return f"{site.venv}{KEPT}"
    ensure_venv_package(site, step)
    remake_venv(site, step, keep=found.get("python") == wanted["python"])
    source = site.state / "source"
    step.say("copying the project")
    with_rights = {path.relative_to(site.checkout): path.read_bytes() for path in files}
    with site.person.acting():
        shutil.rmtree(source, ignore_errors=True)
        for name, content in with_rights.items():
            (source / name).parent.mkdir(parents=True, exist_ok=True)
            (source / name).write_bytes(content)
    pip_install(site, step, [str(source)])
    with site.person.acting():
        write_stamp(site.venv, wanted)
    return f"{site.venv}, installed"


def remake_venv(site: Site, step: Step, *, keep: bool) -> None:
    """An environment that can take packages: what is there if `keep` and it runs, else a new one."""
    python = site.venv / "bin" / "python"
    with site.person.acting():
        (site.venv / _STAMP).unlink(missing_ok=True)
    if keep and _runs(site, [str(python), "-m", "pip", "--version"]):
        return
    step.say("making the virtual environment")
    with site.person.acting():
        shutil.rmtree(site.venv, ignore_errors=True)
        site.venv.parent.mkdir(parents=True, exist_ok=True)
    run(
        step, [base_python(), "-m", "venv", str(site.venv)], env=site.person_env, person=site.person,
        next_step="Check the free disk and the folder's owner, then run the command again.",
    )  # fmt: skip


def pip_install(site: Site, step: Step, what: Sequence[str], *, cwd: str = "/") -> None:
    run(
        step,
        [
            str(site.venv / "bin" / "python"),
            "-m",
            "pip",
            "install",
            "--no-input",
            "--progress-bar=off",
            *what,
        ],
        env=site.person_env,
        person=site.person,
        cwd=cwd,
        next_step=_AGAIN,
        show=lambda line: line.strip().split(" (from ")[0],
    )


def read_stamp(venv: Path) -> dict[str, str]:
    try:
        value = json.loads((venv / _STAMP).read_text())
    except (OSError, ValueError):
        return {}
    return value if isinstance(value, dict) else {}


def write_stamp(venv: Path, value: dict[str, str]) -> None:
    write_as_person(venv / _STAMP, json.dumps(value), 0o644)


def ensure_command(site: Site, step: Step, link: Path = LINK) -> str:
    """`littlest-binder` on everybody's PATH; what is not ours is left alone."""
    target = site.venv / "bin" / "littlest-binder"
    if link.is_symlink():
        there = os.readlink(link)
        if there == str(target):
            return f"{link}, as it was"
        if not is_ours(there):
            return f"{link} belongs to something else and stays; use {target}"
        if os.path.exists(there):
            return f"{link} belongs to another person's installation and stays; use {target}"
        link.unlink()
    elif link.exists():
        return f"{link} belongs to something else and stays; use {target}"
    link.parent.mkdir(parents=True, exist_ok=True)
    try:
        link.symlink_to(target)
    except FileExistsError:
        raise StepFailed(f"{link} appeared just now.", next_step="Run the command again.") from None
    record("link", str(link))
    return str(link)


def is_ours(target: str) -> bool:
    """A link to the command in some person's installation."""
    return target.endswith(("/littlest-binder/venv/bin/littlest-binder", "/tljh/hub/bin/littlest-binder"))


def _minor(version: str) -> str:
    return ".".join(version.split(".")[:2])


def _imports(site: Site) -> bool:
    return _runs(site, [str(site.venv / "bin" / "python"), "-c", f"import {_PACKAGE}"])


def _runs(site: Site, command: list[str]) -> bool:
    try:
        return (
            subprocess.run(
                command,
                capture_output=True,
                check=False,
                cwd="/",
                env=site.person_env,
                **site.person.as_child(),
            ).returncode
            == 0
        )
    except OSError:
        return False
