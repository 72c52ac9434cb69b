"""Folders built by the real worker, and a look into what comes out."""

from __future__ import annotations

import secrets
import shutil
import subprocess
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from worker_process import WorkerProcess

from tljh_plugin.build.base import BaseImage
from tljh_plugin.build.job import ResultEvent, WorkerJob


class Bench:
    """Builds folders with the worker; `clean` removes the images."""

    def __init__(self, base: BaseImage, folder: Path) -> None:
        self.base = base
        self.folder = folder
        self.temporary = folder / "temporary"
        self.temporary.mkdir()
        self.namespace = secrets.token_hex(8)
        self.images: list[str] = []

    def checkout(self, files: Mapping[str, str] | Path) -> Path:
        path = self.folder / f"checkout-{secrets.token_hex(4)}"
        if isinstance(files, Path):
            shutil.copytree(files, path, symlinks=True)
            return path
        path.mkdir()
        for name, text in files.items():
            (path / name).parent.mkdir(parents=True, exist_ok=True)
            (path / name).write_text(text)
        return path

    def job(self, files: Mapping[str, str] | Path, **more: Any) -> WorkerJob:
        name = f"littlest-binder-test/{secrets.token_hex(6)}:1"
        self.images.append(name)
        values = {
            "checkout": self.checkout(files),
            "image_name": name,
            "uid": 1000,
            "gid": 1000,
            "base_image": self.base.name,
            "cache_namespace": self.namespace,
            "dockerfile_allowed": True,
        }
        return WorkerJob.model_validate({**values, **more})

    def start(self, job: WorkerJob, environment: Mapping[str, str] | None = None) -> WorkerProcess:
        return WorkerProcess(job, self.temporary, environment)

    def build(self, files: Mapping[str, str] | Path, **more: Any) -> tuple[ResultEvent, WorkerProcess]:
        environment = more.pop("environment", None)
        with self.start(self.job(files, **more), environment) as worker:
            return worker.finish(), worker

    def made(self, files: Mapping[str, str] | Path, **more: Any) -> str:
        """The id of an image that must come out."""
        result, worker = self.build(files, **more)
        assert result.ok, f"{result.error}\n{worker.log}"
        return result.image_id

    def clean(self) -> None:
        for name in self.images:
            subprocess.run(["docker", "image", "rm", name], capture_output=True, check=False)


def in_image(image: str, script: str) -> str:
    """Run it as servers are run: by number, without rights, through the entry point."""
    command = ["docker", "run", "--rm", "--network", "none", "--user", "1000:1000", "--cap-drop", "ALL"]
    done = subprocess.run(
        [*command, image, "bash", "-c", script], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()
