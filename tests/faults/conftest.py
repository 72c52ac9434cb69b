"""A Docker of their own for tests of faults, with the base image in it."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator

import pytest
from private_docker import PrivateDocker

from tljh_plugin.build.base import ensure_base
from tljh_plugin.installation import ensure_state
from tljh_plugin.settings import from_mapping

DEBIAN = "littlest-binder/debian:bookworm"


@pytest.fixture(scope="session")
def private_docker(tmp_path_factory: pytest.TempPathFactory) -> Iterator[PrivateDocker]:
    settings = from_mapping({}, platform="jupyterhub", state_dir=tmp_path_factory.mktemp("state"))
    ensure_state(settings)
    base = asyncio.run(ensure_base(settings, lambda line: None))
    with PrivateDocker() as engine:
        engine.copy_in(base.name, DEBIAN)
        yield engine
