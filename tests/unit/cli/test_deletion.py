"""Evicting, erasing and retention at the command line."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import pytest_asyncio
from click.testing import CliRunner, Result
from house import IMAGE, House, image_view, open_house

from tljh_plugin.cli import _service, group
from tljh_plugin.errors import ImageNotFound, InvalidRequest

OTHER = "sha256:" + "cd" * 32


@pytest_asyncio.fixture
async def house(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[House]:
    async with open_house(tmp_path) as opened:
        monkeypatch.setattr(_service, "load_desktop", lambda: opened.settings)
        opened.inventory.known = [
            image_view(title="Course"),
            image_view(OTHER, name="littlest-binder/other:1", title="Other", pinned=True, pin_reason="exam"),
        ]
        yield opened


async def run(*words: str, typed: str = "") -> Result:
    return await asyncio.to_thread(lambda: CliRunner().invoke(group, words, input=typed or None))


@pytest.mark.parametrize("text", ["Course", "cours", "abababab", IMAGE])
async def test_an_image_is_erased_after_its_plan_was_shown(house: House, text: str) -> None:
    assert (await run("erase", text, typed="n\n")).exit_code == 1
    assert house.sweep.deleted == []
    done = await run("erase", text, typed="y\n")
    assert done.exit_code == 0
    assert "which frees 1.1 GiB" in done.output
    assert "1 image went; the disk gained 4 KiB (r-1)" in done.output
    assert house.sweep.deleted == [IMAGE]


async def test_a_dry_run_changes_nothing_and_tells_programs_the_plan(house: House) -> None:
    done = await run("evict", "Course", "--dry-run", "--json")
    said = json.loads(done.output)
    assert [item["rule"] for item in said["plan"]["take"]] == ["asked"]
    assert said["plan"]["mode"] == "evict"
    assert said["run"] is None
    assert house.sweep.deleted == []


async def test_what_stays_is_told_and_the_exit_code_is_not_nothing(house: House) -> None:
    done = await run("evict", "Course", "Other", "--yes")
    assert done.exit_code == 1
    assert "stays: Other · Pinned: exam" in done.output
    assert house.sweep.deleted == [IMAGE]
    nothing = await run("erase", "Other")
    assert nothing.exit_code == 1
    assert "Nothing is to go." in nothing.output


async def test_an_image_that_there_is_not_is_an_error(house: House) -> None:
    assert isinstance((await run("erase", "Nothing")).exception, ImageNotFound)


async def test_retention_shows_its_plan_and_runs_after_a_question(house: House) -> None:
    shown = await run("retention", "--dry-run")
    assert "90 % in use" in shown.output
    assert "Course" in shown.output
    assert "stays: Other · Pinned: exam" in shown.output
    assert house.sweep.deleted == []
    assert (await run("retention", typed="n\n")).exit_code == 1
    done = await run("retention", "--yes", "--json")
    assert json.loads(done.output)["run"]["by"] == "root"
    assert house.sweep.deleted == [IMAGE]
    assert "Nothing is to go." in (await run("retention")).output


async def test_a_word_that_could_mean_several_deletes_none(house: House) -> None:
    done = await run("erase", "littlest-binder", "--yes")
    assert isinstance(done.exception, InvalidRequest)
    assert "(Course)" in done.exception.message
    assert "(Other)" in done.exception.message
    assert house.sweep.deleted == []
