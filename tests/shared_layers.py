"""Images that share most of their layers, built by BuildKit on an engine of one's own."""

from __future__ import annotations

import ctypes
import io
import json
import os
import random
import subprocess
import tarfile
from collections.abc import Mapping, Sequence
from pathlib import Path

from private_docker import PrivateDocker

BASE = "lb-layers/base:1"
_LIBC = ctypes.CDLL(None, use_errno=True)


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

    def build(self, images: Mapping[str, Sequence[str]], base: str = BASE) -> None:
        """Build images by their names, each with its layers, lowest first; all at once."""
        targets = {}
        for number, (name, stack) in enumerate(images.items()):
            for layer in stack:
                self._write(layer)
            lines = [f"FROM {base}", *(f"COPY {layer} /{layer}" for layer in stack), f"LABEL name={name}"]
            targets[f"t{number}"] = {
                "context": ".",
                "dockerfile-inline": "\n".join(lines),
                "tags": [name],
                "attest": ["type=provenance,disabled=true"],
            }
        wanted = {"target": targets, "group": {"default": {"targets": list(targets)}}}
        (self.folder / "bake.json").write_text(json.dumps(wanted))
        subprocess.run(
            ["docker", "buildx", "--builder", "default", "bake", "--file=bake.json", "--progress=quiet"],
            cwd=self.folder, check=True, capture_output=True,
            env={**os.environ, "DOCKER_HOST": self.docker.host, "BUILDX_CONFIG": f"{self.folder}/.buildx"},
        )  # fmt: skip

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
        if _LIBC.syncfs(descriptor):  # this file system alone: others may have much to write
            raise OSError(ctypes.get_errno(), "syncfs failed")
        figures = os.fstatvfs(descriptor)
    finally:
        os.close(descriptor)
    return (figures.f_blocks - figures.f_bfree) * figures.f_frsize
