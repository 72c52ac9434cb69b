"""The base image on a real Docker."""

from __future__ import annotations

import asyncio
import json
import time
from pathlib import Path

import pytest
from image_bench import in_image

from tljh_plugin.build import base as base_module
from tljh_plugin.build.base import BaseImage, ensure_base, ensure_python
from tljh_plugin.build.machine import CERTIFICATES, Machine, read_machine
from tljh_plugin.engine import Engine
from tljh_plugin.errors import EngineError
from tljh_plugin.installation import ensure_state
from tljh_plugin.operation.configuration.file import Platform
from tljh_plugin.settings import Settings, from_mapping

pytestmark = pytest.mark.docker


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    made = from_mapping({}, platform="jupyterhub", state_dir=tmp_path)
    ensure_state(made)
    return made


async def test_a_base_that_is_there_is_found_at_once(settings: Settings, base: BaseImage) -> None:
    said: list[str] = []
    began = time.monotonic()
    assert await ensure_base(settings, said.append) == base
    assert time.monotonic() - began < 5  # milliseconds on a quiet machine
    assert said == []


async def test_latest_follows(
    settings: Settings, base: BaseImage, engine: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(base_module, "BASE", "littlest-binder-test/base")
    here = "littlest-binder-test/base:latest"
    await engine.tag("littlest-binder/debian:bookworm", here)
    made = await ensure_base(settings, lambda _: None)
    try:
        latest = await engine.image(here)
        assert latest is not None
        assert latest.id == made.id == base.id
    finally:
        for name in (here, made.name):
            await engine.untag(name)


@pytest.mark.parametrize(
    ("platform", "next_step"),
    [
        ("desktop", "sudo python3 installer/bootstrap.py desktop"),
        ("tljh", "sudo python3 installer/bootstrap.py tljh"),
        ("jupyterhub", "docker pull debian:bookworm"),
    ],
)
async def test_a_missing_debian_names_what_makes_it(
    settings: Settings, monkeypatch: pytest.MonkeyPatch, platform: Platform, next_step: str
) -> None:
    monkeypatch.setattr(base_module, "DEBIAN", "littlest-binder-test/no-such-debian")
    with pytest.raises(EngineError, match="no-such-debian:bookworm") as caught:
        await ensure_base(settings.model_copy(update={"platform": platform}), lambda _: None)
    assert caught.value.code == "base-missing"
    assert next_step in caught.value.next_step


async def test_a_build_that_fails_says_why(
    settings: Settings, base: BaseImage, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(base_module, "UV", "0.0.0.0.1")
    with pytest.raises(EngineError, match=r"uv==0\.0\.0\.0\.1") as caught:
        await ensure_base(settings, lambda _: None)
    assert caught.value.code == "base-failed"


def test_the_machines_certificates_are_in_it(base: BaseImage) -> None:
    ours = [name for name, _ in read_machine().certificates]
    assert in_image(base.id, "ls /usr/local/share/ca-certificates").split() == sorted(ours)
    assert ours == [] or CERTIFICATES.exists()


def test_a_login_shell_keeps_the_path(base: BaseImage) -> None:
    assert in_image(base.id, "echo $PATH") == in_image(base.id, "bash -lc 'echo $PATH'")
    assert in_image(base.id, "PATH=/first:$PATH bash -lc 'echo $PATH'").startswith("/first:")


def test_its_user_can_install_into_it(base: BaseImage) -> None:
    assert (
        in_image(base.id, "touch /srv/venv/x /srv/npm/x ~/x && id -un && stat -c %u:%g /srv/venv")
        == "jovyan\n1000:1000"
    )


READ_OVERRIDES = """
import json
from jupyterlab_server.settings_utils import _get_overrides
print(json.dumps(_get_overrides("/srv/venv/share/jupyter/lab/settings")[0]))
"""


@pytest.mark.parametrize(
    ("theirs", "news", "theme"),
    [
        ({}, "false", None),
        ({"@jupyterlab/apputils-extension:themes": {"theme": "JupyterLab Dark"}}, "false", "JupyterLab Dark"),
        ({"@jupyterlab/apputils-extension:notification": {"fetchNews": "true"}}, "true", None),
    ],
)
def test_lab_asks_nobody_about_news_and_a_repository_decides(
    base: BaseImage, theirs: dict[str, dict[str, str]], news: str, theme: str | None
) -> None:
    """A `postBuild` writes `overrides.json` itself, which is not ours."""
    place = "/srv/venv/share/jupyter/lab/settings/overrides.json"
    write = f"test ! -e {place} && echo '{json.dumps(theirs)}' > {place} && " if theirs else ""
    found = json.loads(in_image(base.id, f"{write}python -c '{READ_OVERRIDES}'"))
    assert found["@jupyterlab/apputils-extension:notification"] == {"fetchNews": news}
    assert found.get("@jupyterlab/apputils-extension:themes", {}).get("theme") == theme


def test_its_packages_are_compiled(base: BaseImage) -> None:
    missing = in_image(
        base.id,
        "cd /srv/venv/lib/python3*/site-packages/jupyter_server && "
        "for each in *.py; do ls __pycache__/${each%.py}.*.pyc >/dev/null || echo $each; done",
    )
    assert missing == ""


def test_nothing_of_the_build_is_left(base: BaseImage) -> None:
    assert in_image(
        base.id, "ls -A /tmp /var/lib/apt/lists /home/jovyan/.cache 2>/dev/null || true"
    ).split() == [
        "/tmp:",
        "/var/lib/apt/lists:",
    ]


async def test_a_python_that_cannot_be_had_is_remembered(base: BaseImage, engine: Engine) -> None:
    said: list[str] = []
    ask = {"machine": Machine(), "owner": (1000, 1000), "say": said.append}
    name = f"{base.name}-python-3.0"
    try:
        assert await ensure_python(base.name, "3.0", again=False, **ask) is None
        assert said[0] == "Fetching Python 3.0; this is done once."
        assert said[1].startswith("Python 3.0 could not be had")
        said.clear()
        assert await ensure_python(base.name, "3.0", again=False, **ask) is None
        assert said == []
        assert await ensure_python(base.name, "3.0", again=True, **ask) is None
        assert len(said) == 2
        remembered = await engine.image(name)
        assert remembered is not None
        assert remembered.id == base.id
    finally:
        await engine.untag(name)


async def test_two_at_once_get_the_same(settings: Settings, base: BaseImage) -> None:
    made = await asyncio.gather(*(ensure_base(settings, lambda _: None) for _ in range(3)))
    assert set(made) == {base}
