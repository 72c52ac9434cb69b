"""The `buildx` plugin of the `docker` command, which repo2docker builds with.

Ubuntu and Debian 13 package it. Debian 12 does not: there the plugin comes out of Debian 13's package,
fetched through apt's signed index of Debian 13 with folders of its own, so that the machine's sources, lists
and pins are never changed, not even if we are killed in between.
"""

from __future__ import annotations

import contextlib
import os
import re
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path

from .command import alive, ask_docker, run
from .console import Step, StepFailed
from .packages import candidate, ensure_packages, machine_mirror, update
from .site import WORK_DIR, Site, record

PLUGIN = Path("/usr/local/lib/docker/cli-plugins/docker-buildx")
KEYRING = Path("/usr/share/keyrings/debian-archive-keyring.gpg")
_PACKAGE = "docker-buildx"
_NEXT_RELEASE = "trixie"
_INSIDE = re.compile(r"(\./)?usr/(lib|libexec)/docker/cli-plugins/docker-buildx")


def version(site: Site) -> str:
    """The plugin's version line; empty if there is none."""
    shown = ask_docker("buildx", "version", env=site.root_env)
    return shown.stdout.strip() if shown.returncode == 0 else ""


def ensure(site: Site, step: Step) -> str:
    """A `docker buildx` that answers. Raises `StepFailed`."""
    if found := version(site):
        return f"{found}, as it was"
    update(site, step)
    if candidate(site, _PACKAGE):
        ensure_packages(site, step, [_PACKAGE])
        source = f"package {_PACKAGE}"
    else:
        with work_folder("buildx-") as folder:
            _install_from(fetch(site, step, folder), site, step, folder)
        source = f"plugin of Debian {_NEXT_RELEASE}'s package, in {PLUGIN}"
    found = version(site)
    if not found:
        raise StepFailed(
            "`docker buildx version` fails although the plugin was installed.",
            tried="docker buildx version",
            next_step=f"Run it by hand; remove {PLUGIN} if it is broken and run the command again.",
        )
    return f"{found} ({source})"


def fetch(site: Site, step: Step, folder: Path) -> Path:
    """Debian 13's package, checked by apt against the archive's keys; all is written below `folder`."""
    mirror = site.mirror or machine_mirror(("http://", "https://"))
    if not mirror:
        raise StepFailed(
            "This machine's apt knows no mirror of Debian.",
            next_step="Name one with `--mirror URL`, then run the command again.",
        )
    apt = isolated_apt(folder, mirror)
    hint = (
        f"The mirror {mirror} must be reachable and its Debian {_NEXT_RELEASE} index signed by a key in "
        f"{KEYRING} (if the key is missing, upgrade debian-archive-keyring). Then run the command again."
    )
    ensure_packages(site, step, ["debian-archive-keyring"])
    step.say(f"reading Debian {_NEXT_RELEASE}'s package list")
    run(step, ["apt-get", "-q", *apt, "update", "--error-on=any"], env=site.root_env, next_step=hint)
    shown = run(step, ["apt-cache", *apt, "show", _PACKAGE], env=site.root_env, next_step=hint)
    unmet = unmet_dependencies("\n".join(shown))
    if unmet:
        raise StepFailed(
            f"Debian {_NEXT_RELEASE}'s {_PACKAGE} needs what this machine lacks: {'; '.join(unmet)}.",
            next_step="Install a docker-buildx plugin by your own means, then run the command again.",
        )
    run(
        step, ["apt-get", "-q", *apt, "download", _PACKAGE],
        cwd=str(folder), env=site.root_env, next_step=hint,
    )  # fmt: skip
    found = sorted(folder.glob(f"{_PACKAGE}_*.deb"))
    if len(found) != 1:
        raise StepFailed(f"apt fetched {len(found)} packages instead of one.", next_step=hint)
    return found[0]


def isolated_apt(folder: Path, mirror: str) -> list[str]:
    """Options with which apt knows one source only and writes into `folder` only."""
    for name in ("state/lists/partial", "cache/archives/partial", "etc/empty"):
        (folder / name).mkdir(parents=True, exist_ok=True)
    source = folder / "etc" / "debian.sources"
    source.write_text(
        f"Types: deb\nURIs: {mirror}\nSuites: {_NEXT_RELEASE}\nComponents: main\nSigned-By: {KEYRING}\n"
    )
    empty = folder / "etc" / "empty"
    values = {
        "Dir::State": folder / "state",
        "Dir::State::status": "/var/lib/dpkg/status",
        "Dir::Cache": folder / "cache",
        "Dir::Etc::sourcelist": source,
        "Dir::Etc::sourceparts": empty,
        "Dir::Etc::preferences": empty / "none",
        "Dir::Etc::preferencesparts": empty,
        # apt's unprivileged downloader may not enter our folder.
        "APT::Sandbox::User": "root",
        "APT::Update::Post-Invoke-Success": "",
        "Acquire::Languages": "none",
        "Acquire::Retries": "3",
    }
    options: list[str] = []
    for key, value in values.items():
        options += ["-o", f"{key}={value}"]
    return options


def unmet_dependencies(control: str) -> list[str]:
    """Those of a package's `Depends` that are not installed on this machine, as apt writes them."""
    found = re.search(r"^Depends: (.+)$", control, re.MULTILINE)
    if found is None:
        return []
    return [group for group in found[1].split(", ") if not any(map(_met, group.split(" | ")))]


def _met(dependency: str) -> bool:
    match = re.fullmatch(r"([a-z0-9+.-]+)(?::\w+)?(?: \((<<|<=|=|>=|>>) ([^)]+)\))?", dependency.strip())
    if match is None:
        return False
    name, relation, wanted = match.groups()
    shown = subprocess.run(
        ["dpkg-query", "--show", "--showformat", "${db:Status-Status} ${Version}\n", name],
        capture_output=True,
        text=True,
        check=False,
    )
    words = shown.stdout.split()
    if words[:1] != ["installed"]:
        return False
    if relation is None:
        return True
    word = {"<<": "lt", "<=": "le", "=": "eq", ">=": "ge", ">>": "gt"}[relation]
    return subprocess.run(["dpkg", "--compare-versions", words[1], word, wanted], check=False).returncode == 0


def _install_from(package: Path, site: Site, step: Step, folder: Path) -> None:
    """Put the plugin alone in its place, complete or not at all."""
    unpacked = folder / "unpacked"
    hint = f"Look at {package.name} by hand; the package may have been rearranged."
    run(step, ["dpkg-deb", "--extract", str(package), str(unpacked)], env=site.root_env, next_step=hint)
    plugins = [p for p in unpacked.rglob("docker-buildx") if _INSIDE.fullmatch(str(p.relative_to(unpacked)))]
    if len(plugins) != 1:
        raise StepFailed(f"{package.name} holds no buildx plugin where it is expected.", next_step=hint)
    if PLUGIN.exists() or PLUGIN.is_symlink():
        raise StepFailed(
            f"{PLUGIN} exists and does not work; it is not ours to replace.",
            next_step=f"Remove {PLUGIN}, then run the command again.",
        )
    PLUGIN.parent.mkdir(parents=True, exist_ok=True)
    draft = PLUGIN.with_name(f".{PLUGIN.name}.{os.getpid()}")
    try:
        shutil.copyfile(plugins[0], draft)
        draft.chmod(0o755)
        draft.rename(PLUGIN)
    finally:
        draft.unlink(missing_ok=True)
    record("file", str(PLUGIN))


@contextlib.contextmanager
def work_folder(prefix: str) -> Iterator[Path]:
    """A folder of root's, gone at the end; those of killed runs go, too."""
    WORK_DIR.mkdir(parents=True, exist_ok=True)
    WORK_DIR.chmod(0o700)
    for old in WORK_DIR.glob(f"{prefix}*"):
        number = old.name.removeprefix(prefix).split("-")[0]
        if not alive(int(number)):
            shutil.rmtree(old, ignore_errors=True)
    folder = Path(tempfile.mkdtemp(prefix=f"{prefix}{os.getpid()}-", dir=WORK_DIR))
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)
