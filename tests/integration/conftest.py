"""A real Docker engine: each test has an installation of its own, and must leave nothing of it behind."""

from __future__ import annotations

import asyncio
import io
import secrets
import subprocess
import tarfile
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path

import docker
import docker.utils
import pytest

from tljh_plugin.build.base import ensure_base
from tljh_plugin.engine import Engine, Limits
from tljh_plugin.installation import ensure_state
from tljh_plugin.settings import from_mapping

DEBIAN = "littlest-binder/debian:bookworm"


@pytest.fixture
async def engine() -> AsyncIterator[Engine]:
    """An engine whose containers must all be gone at the end of the test."""
    ours = Engine(f"test-{secrets.token_hex(6)}")
    yield ours
    left = [row for row in await ours.containers() if ours.is_ours(row.labels)]
    for row in left:
        await ours.remove(row.id)
    await ours.remove_network()
    await ours.close()
    assert [row.name for row in left] == []


@pytest.fixture
def limits() -> Limits:
    """Small ones."""
    return Limits(
        uid=1000,
        gid=1000,
        groups=(),
        memory_bytes=256 * 1024**2,
        cpus=1.0,
        pids=256,
        shm_bytes=16 * 1024**2,
        log_bytes=1024**2,
    )


@pytest.fixture(scope="session")
def base_image(tmp_path_factory: pytest.TempPathFactory) -> str:
    """The id of our base image; made if it is not there, which takes some minutes once."""
    settings = from_mapping({}, platform="jupyterhub", state_dir=tmp_path_factory.mktemp("state"))
    ensure_state(settings)
    said: list[str] = []
    return asyncio.run(ensure_base(settings, said.append)).id


@pytest.fixture
def client() -> Iterator[docker.APIClient]:
    """Docker itself, for what belongs to somebody else."""
    low_level = docker.APIClient(**docker.utils.kwargs_from_env(), version="auto")
    yield low_level
    low_level.close()


@pytest.fixture
def small_image(client: docker.APIClient) -> Iterator[Callable[..., str]]:
    """Makes images of one small file, different each time; removes them afterwards."""
    made: list[str] = []

    def make(*changes: str) -> str:
        data = io.BytesIO()
        with tarfile.open(fileobj=data, mode="w") as archive:
            content = secrets.token_bytes(16)
            entry = tarfile.TarInfo("content")
            entry.size = len(content)
            archive.addfile(entry, io.BytesIO(content))
        said = client.import_image_from_data(data.getvalue(), changes=list(changes))
        identifier: str = "sha256:" + said.split("sha256:")[1][:64]
        made.append(identifier)
        return identifier

    yield make
    for identifier in made:
        subprocess.run(["docker", "image", "rm", "-f", identifier], capture_output=True, check=False)


@pytest.fixture
def build_image(tmp_path: Path) -> Iterator[Callable[..., str]]:
    """Builds images from a Dockerfile's text and files beside it; removes them afterwards."""
    made: list[str] = []

    def build(dockerfile: str, files: dict[str, str] | None = None) -> str:
        context = tmp_path / f"context-{len(made)}"
        context.mkdir()
        (context / "Dockerfile").write_text(dockerfile)
        for name, text in (files or {}).items():
            (context / name).write_text(text)
            (context / name).chmod(0o755)
        name = f"littlest-binder-test/{secrets.token_hex(6)}:1"
        subprocess.run(
            ["docker", "buildx", "build", "--quiet", "--tag", name, str(context)],
            check=True,
            capture_output=True,
        )
        made.append(name)
        return name

    yield build
    for name in made:
        subprocess.run(["docker", "image", "rm", "-f", name], capture_output=True, check=False)
