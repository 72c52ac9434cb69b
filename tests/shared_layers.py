"""Images that share most of their layers, built by BuildKit on an engine of one's own."""

from __future__ import annotations

import io
import os
import random
import shutil
import subprocess
import tarfile
from collections.abc import Sequence
from pathlib import Path

from private_docker import PrivateDocker

BASE = "lb-layers/base:1"


class LayerBench:
    """Builds images as stacks of named layers; equal names on equal stacks are the same layer.

    A layer has one large file and many small ones, as an environment of packages has: up to `size` bytes in
    all, half of them in files of `small` bytes.
    """

    def __init__(self, docker: PrivateDocker, folder: Path, *, size: int, small: int = 2500) -> None:
        self.docker = docker
        self.folder = folder
        self.size = size
        self.small = small
        folder.mkdir(parents=True, exist_ok=True)

    def import_base(self) -> str:
        """The base that all stand on, which comes from no build, as ours does not."""
        data = io.BytesIO()
        with tarfile.open(fileobj=data, mode="w") as archive:
            content = random.Random("base").randbytes(self.size)
            entry = tarfile.TarInfo("base")
            entry.size = len(content)
            archive.addfile(entry, io.BytesIO(content))
        with self.docker.client() as client:
            client.import_image_from_data(data.getvalue(), repository="lb-layers/base", tag="1")
        return BASE

    def build(self, stack: Sequence[str], name: str, base: str = BASE) -> str:
        """The id of an image with these layers, lowest first."""
        self.folder.mkdir(exist_ok=True)
        for layer in stack:
            self._write(layer)
        lines = [f"FROM {base}", *(f"COPY {layer} /{layer}" for layer in stack), f"LABEL name={name}"]
        (self.folder / "Dockerfile").write_text("\n".join(lines))
        (self.folder / ".dockerignore").write_text("\n".join(["*", *(f"!{layer}" for layer in stack)]))
        number = self.folder / "image-id"
        subprocess.run(
            ["docker", "buildx", "--builder", "default", "build", "--quiet", "--provenance=false",
             "--iidfile", str(number), "--tag", name, str(self.folder)],
            env={**os.environ, "DOCKER_HOST": self.docker.host, "BUILDX_CONFIG": f"{self.folder}/.buildx"},
            check=True, capture_output=True,
        )  # fmt: skip
        return number.read_text().strip()

    def forget(self, layer: str) -> None:
        """Drop a layer that no later image will have from what builds are made of."""
        shutil.rmtree(self.folder / layer)

    def _write(self, layer: str) -> None:
        place = self.folder / layer
        if place.exists():
            return
        content = random.Random(layer)
        size = content.randrange(self.size // 4, self.size)
        place.mkdir()
        (place / "large").write_bytes(content.randbytes(size // 2))
        for number in range(size // 2 // self.small):
            folder = place / f"package-{number // 50}"
            folder.mkdir(exist_ok=True)
            (folder / f"module-{number}").write_bytes(content.randbytes(self.small))


def used(docker: PrivateDocker) -> int:
    """Bytes that are taken on its file system, as the kernel says after all was written."""
    descriptor = os.open(docker.data, os.O_RDONLY)
    try:
        os.sync()
        figures = os.fstatvfs(descriptor)
    finally:
        os.close(descriptor)
    return (figures.f_blocks - figures.f_bfree) * figures.f_frsize
