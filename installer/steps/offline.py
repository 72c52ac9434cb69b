"""`--offline FOLDER`: what the internet would supply, from a folder; what is not in it is fetched as usual.

the-littlest-jupyterhub/    TLJH's sources, as cloned, with bootstrap/bootstrap.py
traefik                     the program of the version that TLJH's sources name
Miniforge3-….sh             the installer that TLJH's sources name
wheels/                     Python packages; if the folder is there, no package index is asked
images/*.tar                images that `docker save` wrote, such as littlest-binder/debian:bookworm
"""

from __future__ import annotations

import hashlib
import platform
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path

from .command import ask_docker, run
from .console import Step, StepFailed
from .site import Site

# Python reads `sitecustomize.py` from there when TLJH's installer starts.
PATCH = Path(__file__).resolve().parent / "offline_python"
# Names the Miniforge installer for that file.
MINIFORGE_VARIABLE = "LITTLEST_BINDER_MINIFORGE"


@dataclass(frozen=True)
class OfflineFolder:
    """What of the folder is there; None for the rest."""

    path: Path
    sources: Path | None
    traefik: Path | None
    miniforge: Path | None
    wheels: Path | None
    images: tuple[Path, ...]

    @property
    def python_env(self) -> dict[str, str]:
        """For pip: the folder's packages alone."""
        return {"PIP_NO_INDEX": "1", "PIP_FIND_LINKS": str(self.wheels)} if self.wheels else {}

    def tljh_env(self, sources: Path | None) -> dict[str, str]:
        """For TLJH's bootstrap: its sources (a copy that can be written: pip builds where they lie), and the
        Miniforge installer for its own installer.
        """
        found = dict(self.python_env)
        if sources:
            found["TLJH_BOOTSTRAP_PIP_SPEC"] = str(sources)
        if self.miniforge:
            found |= {"PYTHONPATH": str(PATCH), MINIFORGE_VARIABLE: str(self.miniforge)}
        return found

    def named(self) -> str:
        """What it holds, for people."""
        parts = {
            "TLJH's sources": self.sources,
            "traefik": self.traefik,
            "Miniforge": self.miniforge,
            "Python packages": self.wheels,
            f"{len(self.images)} image files": self.images,
        }
        return ", ".join(name for name, there in parts.items() if there) or "nothing that is known"


def look(path: Path) -> OfflineFolder:
    """What is in the folder at `path`."""

    def there(name: str, inside: str = "") -> Path | None:
        return path / name if (path / name / inside).exists() else None

    installers = sorted(path.glob(f"Miniforge3-*{platform.machine()}.sh")) or sorted(
        path.glob("Miniforge3*.sh")
    )
    return OfflineFolder(
        path=path,
        sources=there("the-littlest-jupyterhub", "bootstrap/bootstrap.py"),
        traefik=there("traefik"),
        miniforge=installers[-1] if installers else None,
        wheels=there("wheels"),
        images=tuple(sorted((path / "images").glob("*.tar"))),
    )


def place_traefik(folder: OfflineFolder, prefix: Path) -> str:
    """The program where TLJH's installer looks before it downloads; what it says of itself.

    TLJH takes it only if its version is the one that it wants.
    """
    if folder.traefik is None:
        return ""
    target = prefix / "bin" / "traefik"
    if not (target.exists() and _digest(target) == _digest(folder.traefik)):
        target.parent.mkdir(parents=True, exist_ok=True)
        draft = target.with_name(".traefik.draft")
        shutil.copyfile(folder.traefik, draft)
        draft.chmod(0o755)
        draft.rename(target)
    try:
        shown = subprocess.run(
            [str(target), "version"], capture_output=True, text=True, check=False, timeout=60
        )
    except OSError as error:
        raise StepFailed(
            f"{folder.traefik} does not run here: {error.strerror}.",
            next_step="Put traefik for this machine's architecture there, then run the command again.",
        ) from error
    return next((line.split()[-1] for line in shown.stdout.splitlines() if line.startswith("Version")), "")


def load_images(folder: OfflineFolder, site: Site, step: Step) -> list[str]:
    """The folder's images in Docker; names of those files that were loaded now."""
    loaded = []
    for path in folder.images:
        mark = site.state / "loaded" / f"{path.name}.{path.stat().st_size}"
        if (
            mark.exists()
            and ask_docker("image", "inspect", mark.read_text(), env=site.root_env).returncode == 0
        ):
            continue
        step.say(f"loading {path.name}")
        lines = run(
            step, ["docker", "load", "--input", str(path)], env=site.root_env,
            next_step=f"See whether {path} is what `docker save` wrote, then run the command again.",
        )  # fmt: skip
        name = next((line.split(": ", 1)[1] for line in lines if line.startswith("Loaded image")), "")
        mark.parent.mkdir(parents=True, exist_ok=True)
        mark.write_text(name)
        loaded.append(path.name)
    return loaded


def _digest(path: Path) -> str:
    total = hashlib.sha256()
    with path.open("rb") as file:
        while chunk := file.read(2**20):
            total.update(chunk)
    return total.hexdigest()
