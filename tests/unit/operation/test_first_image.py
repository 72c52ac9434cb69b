"""Waiting for the first image: it comes, its build fails, or it was removed."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tljh_plugin.errors import BuildFailed, ServiceDown
from tljh_plugin.operation import first_image
from tljh_plugin.settings import Settings
from tljh_plugin.wire import BuildView, ErrorView, ImageView


class Service:
    """Answers as the service would; each list is what it says one look after the other, the last for ever."""

    def __init__(self, url: str) -> None:
        self.url = url
        self.images_said: list[bool] = [False]
        self.builds_said: list[str] = [""]

    async def __aenter__(self) -> Service:
        return self

    async def __aexit__(self, *_: object) -> None: ...

    async def images(self) -> list[ImageView]:
        there = self.images_said.pop(0) if len(self.images_said) > 1 else self.images_said[0]
        values: dict[str, Any] = {
            "id": "sha256:1",
            "name": "n",
            "title": "t",
            "spec": "s",
            "repository": self.url,
            "commit": "c",
            "built_by": "system",
            "created": "2026-01-01T00:00:00Z",
            "size": 1,
        }
        return [ImageView(**values)] if there else []

    async def builds(self, *, everyone: bool) -> list[BuildView]:
        state = self.builds_said.pop(0) if len(self.builds_said) > 1 else self.builds_said[0]
        if not state:
            return []
        error = ErrorView(code="x", message="no index", next="") if state == "failed" else None
        values: dict[str, Any] = {
            "id": "b1",
            "state": state,
            "phase": "building",
            "progress": 5,
            "spec": "s",
            "repository": self.url,
            "commit": "c",
            "requested_by": "system",
            "error": error,
        }
        return [BuildView(**values)]


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    return Settings(platform="tljh", state_dir=tmp_path)


@pytest.fixture
def service(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> Iterator[Service]:
    made = Service(first_image.RepoSpec("local", str(settings.examples_dir / "plain")).normal_url)
    monkeypatch.setattr(first_image, "ServiceClient", lambda **_: made)
    monkeypatch.setattr(first_image, "_PAUSE_S", 0.0)
    return made


async def test_it_is_waited_for_and_its_build_is_told(
    service: Service, settings: Settings, capsys: pytest.CaptureFixture[str]
) -> None:
    service.images_said = [False, False, False, True]
    service.builds_said = ["", "queued", "running"]
    assert await first_image.wait(settings) == "sha256:1"
    assert capsys.readouterr().out == "build b1: queued 5%\nbuild b1: running 5%\n"


async def test_a_build_that_failed_is_an_error_with_its_reason(service: Service, settings: Settings) -> None:
    service.builds_said = ["running", "failed"]
    with pytest.raises(BuildFailed, match="no index"):
        await first_image.wait(settings)


async def test_one_that_somebody_removed_is_not_waited_for(
    service: Service, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(first_image, "_SETTLED_S", 0.01)
    service.builds_said = ["built"]
    assert await first_image.wait(settings) == ""


async def test_patience_has_an_end(service: Service, settings: Settings) -> None:
    with pytest.raises(ServiceDown, match="not there after"):
        await first_image.wait(settings, patience_s=0.05)
