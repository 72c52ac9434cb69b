"""The base image with its name, as the queue hands it to a worker."""

from __future__ import annotations

import asyncio

import pytest

from tljh_plugin.build.base import BaseImage, ensure_base
from tljh_plugin.installation import ensure_state
from tljh_plugin.settings import from_mapping


@pytest.fixture(scope="session")
def base(tmp_path_factory: pytest.TempPathFactory) -> BaseImage:
    settings = from_mapping({}, platform="jupyterhub", state_dir=tmp_path_factory.mktemp("state"))
    ensure_state(settings)
    said: list[str] = []
    return asyncio.run(ensure_base(settings, said.append))
