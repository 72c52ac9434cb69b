"""What the base image is made of, and when it is another one."""

from __future__ import annotations

import asyncio
import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from packaging.requirements import Requirement
from small_docker import SmallDocker

from tljh_plugin.build import base as base_module
from tljh_plugin.build.base import (
    PYTHON_VARIABLE,
    BaseImage,
    _context,
    _lines,
    _Patience,
    _reason,
    ensure_python,
    recipe_digest,
    sources,
)
from tljh_plugin.build.machine import IndexSettings, Machine
from tljh_plugin.engine import ImageFacts
from tljh_plugin.errors import BuildTimedOut, EngineError, EngineTimedOut
from tljh_plugin.settings import Settings, from_mapping

RECIPE = Path(base_module.__file__).parent / "recipe"
PEM = b"-----BEGIN CERTIFICATE-----\n"


def settings(**build: object) -> Settings:
    section = {"build": build, "servers": {"uid": 1001, "gid": 1002}}
    return from_mapping(section, platform="jupyterhub", state_dir=Path("/nowhere"))


def test_the_mirrors_security_updates_are_used() -> None:
    assert sources("http://mirror/debian/", "bookworm").splitlines() == [
        "deb http://mirror/debian bookworm main",
        "deb http://mirror/debian bookworm-updates main",
        "deb http://mirror/debian-security bookworm-security main",
    ]
    assert "security" not in sources("http://mirror/other", "bookworm")


def test_the_name_changes_with_what_goes_into_the_image() -> None:
    plain = _context(settings(), Machine(), "sha256:1").digest
    assert plain == _context(settings(), Machine(), "sha256:1").digest
    assert plain != _context(settings(), Machine(), "sha256:2").digest
    assert plain != _context(settings(), Machine(certificates=(("a.crt", PEM),)), "sha256:1").digest
    assert plain != _context(settings(mirror="http://mirror/debian"), Machine(), "sha256:1").digest
    assert plain != _context(settings(release="trixie"), Machine(), "sha256:1").digest


def test_the_name_does_not_change_with_the_way_to_the_network(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    there = Machine(proxies={"http_proxy": "http://x"}, index=IndexSettings(url="https://ann:geheim@index/"))
    digest = _context(settings(), Machine(), "x").digest
    assert _context(settings(), there, "x").digest == digest
    monkeypatch.setattr(base_module, "_BUNDLE", tmp_path / "bundle.pem")
    (tmp_path / "bundle.pem").write_bytes(PEM)
    assert _context(settings(), Machine(), "x").digest == digest


def test_neither_proxies_nor_index_settings_are_in_the_context() -> None:
    machine = Machine(
        proxies={"http_proxy": "http://geheim@x"}, index=IndexSettings(url="https://ann:geheim@index/")
    )
    assert not any(b"geheim" in content for content in _context(settings(), machine, "x").content.values())


def test_files_belong_to_the_servers_user() -> None:
    text = _context(settings(), Machine(), "x").content["Dockerfile"].decode()
    assert "--uid 1001 --gid 1002" in text
    assert "USER 1001:1002" in text


def test_certificates_are_installed_only_where_there_are_some(tmp_path: Path) -> None:
    with_some = _context(settings(), Machine(certificates=(("ours.crt", PEM),)), "x")
    assert b"update-ca-certificates" in with_some.content["Dockerfile"]
    assert with_some.content["certificates/extra/ours.crt"] == PEM
    assert b"update-ca-certificates" not in _context(settings(), Machine(), "x").content["Dockerfile"]
    with_some.write(tmp_path)
    assert (tmp_path / "certificates" / "extra" / "ours.crt").read_bytes() == PEM


def test_the_recipe_of_images_follows_the_base_and_the_settings() -> None:
    base = BaseImage("littlest-binder/base:x", "sha256:1", "digest")
    plain = recipe_digest(settings(), base)
    assert re.fullmatch(r"[0-9a-f]{64}", plain)
    assert plain == recipe_digest(settings(timeout_s=1), base)
    for other in (settings(appendix="RUN true"), settings(fast_python=False)):
        assert plain != recipe_digest(other, base)
    assert plain != recipe_digest(settings(), BaseImage("littlest-binder/base:x", "sha256:1", "other"))


@pytest.mark.parametrize(
    ("lines", "reason"),
    [
        (["#4 1.2   cause: dns error", "#4 ERROR: executor failed"], "cause: dns error"),
        (["3.4   cause: deeper", "ERROR: failed to solve"], "cause: deeper"),
        (["#4 1.2 E: no such package", "ERROR: failed to solve"], "E: no such package"),
        (["something", "ERROR: failed to solve: x"], "ERROR: failed to solve: x"),
        (["something"], "something"),
        ([], "it said nothing"),
    ],
)
def test_the_reason_of_a_failure_is_the_programs_own(lines: list[str], reason: str) -> None:
    assert _reason(lines) == reason


def locked() -> dict[str, list[Requirement]]:
    found: dict[str, list[Requirement]] = {}
    for line in (RECIPE / "jupyter.txt").read_text().splitlines():
        requirement = Requirement(line)
        found.setdefault(requirement.name, []).append(requirement)
    return found


def test_the_jupyter_packages_are_those_of_repo2docker() -> None:
    """As in repo2docker's `conda/environment.yml`, which calls `jupyterhub` `jupyterhub-singleuser`."""
    majors = {
        name: {next(iter(each.specifier)).version.split(".")[0] for each in each_version}
        for name, each_version in locked().items()
    }
    wanted = {"ipywidgets": "8", "jupyter-server": "2", "jupyterhub": "5", "jupyterlab": "4", "notebook": "7"}
    assert {name: majors[name] for name in wanted} == {name: {major} for name, major in wanted.items()}
    assert {"jupyter-offlinenotebook", "jupyter-resource-usage", "pip", "setuptools", "wheel"} <= set(majors)


@pytest.mark.parametrize("python", ["3.10", "3.11", "3.12", "3.13", "3.14"])
def test_everything_is_locked_once_for_every_python(python: str) -> None:
    environment = {
        "python_version": python,
        "python_full_version": f"{python}.2",
        "sys_platform": "linux",
        "platform_machine": "x86_64",
        "implementation_name": "cpython",
        "os_name": "posix",
        "platform_python_implementation": "CPython",
    }
    for name, requirements in locked().items():
        fitting = [each for each in requirements if not each.marker or each.marker.evaluate(environment)]
        assert len(fitting) <= 1, name
        assert all(re.match(r"==", str(each.specifier)) for each in requirements)


async def test_a_builder_that_never_says_a_word_is_not_waited_for() -> None:
    silent = asyncio.StreamReader()
    with pytest.raises(EngineTimedOut, match=r"within 0\.01 s"):
        [line async for line in _lines(silent, "base", _Patience(0.01))]


async def test_a_builder_that_falls_silent_is_waited_for_as_long_as_a_build_may_be_silent() -> None:
    output = asyncio.StreamReader()
    output.feed_data(b"#1 a step\n")
    lines = _lines(output, "base", _Patience(0.01, 0.05))
    assert await anext(lines) == b"#1 a step\n"
    with pytest.raises(BuildTimedOut, match=r"base printed nothing for 0\.05 seconds"):
        await anext(lines)


async def test_a_builder_that_speaks_is_heard_to_its_end() -> None:
    output = asyncio.StreamReader()
    output.feed_data(b"one\ntwo")
    output.feed_eof()
    assert [line async for line in _lines(output, "base", _Patience(1))] == [b"one\n", b"two"]


@pytest.mark.parametrize("other_got_it", [True, False])
async def test_a_python_that_another_build_has_got_is_not_noted_as_none(
    monkeypatch: pytest.MonkeyPatch, other_got_it: bool
) -> None:
    docker: Any = SmallDocker()
    docker.add("sha256:base", "base")
    docker.close = docker.info
    image = docker.image

    async def image_with_python(ref: str) -> ImageFacts | None:
        found = await image(ref)
        python = "3.12" if found and found.id == "sha256:other" else "3.11"
        return found and replace(found, env={PYTHON_VARIABLE: python})

    async def build(*_: object) -> None:
        if other_got_it:
            docker.add("sha256:other", "base-python-3.12")
        raise EngineError("The network was slow.", "Try again.")

    docker.image = image_with_python
    monkeypatch.setattr(base_module, "Engine", lambda *_, **__: docker)
    monkeypatch.setattr(base_module, "_build", build)
    said = await ensure_python(
        "base", "3.12", machine=Machine(), owner=(1000, 1000), again=False, say=lambda _: None
    )
    assert said == ("base-python-3.12" if other_got_it else None)
    holder = await docker.image("base-python-3.12")
    assert holder.id == ("sha256:other" if other_got_it else "sha256:base")
