"""What a person keeps, at the command line."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import pytest_asyncio
from click.testing import CliRunner, Result
from house import House, open_house, project_view

from tljh_plugin.cli import _service, group
from tljh_plugin.errors import NotFound, ProjectInUse

PROJECT = "owner-repo-0123abcd"


@pytest_asyncio.fixture
async def house(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[House]:
    async with open_house(tmp_path) as opened:
        monkeypatch.setattr(_service, "load_desktop", lambda: opened.settings)
        opened.projects.known = [
            project_view(PROJECT, owner="root", title="Thesis", size_bytes=1_500_000_000)
        ]
        yield opened


async def run(*words: str, typed: str = "") -> Result:
    return await asyncio.to_thread(lambda: CliRunner().invoke(group, words, input=typed or None))


async def test_projects_are_listed_with_what_is_kept_in_all(house: House) -> None:
    done = await run("projects", "--json")
    assert [each["id"] for each in json.loads(done.output)] == [PROJECT]
    done = await run("projects")
    assert "You keep" in done.output


async def test_a_project_is_deleted_after_a_question_and_brought_back_by_its_name(house: House) -> None:
    assert (await run("projects", "delete", "Thesis", typed="n\n")).exit_code == 1
    assert len(house.projects.known) == 1
    done = await run("projects", "delete", "Thesis", typed="y\n")
    [gone] = house.kept_files.gone
    assert f"littlest-binder projects undelete {gone.id}" in done.output
    done = await run("projects", "undelete", PROJECT)
    assert done.output == f"{PROJECT} is back.\n"
    assert house.kept_files.gone == []


async def test_a_deleted_project_is_removed_for_good(house: House) -> None:
    await run("projects", "delete", PROJECT, "--yes")
    [gone] = house.kept_files.gone
    done = await run("projects", "delete", gone.id, "--yes")
    assert "is being removed" in done.output
    assert house.kept_files.gone == []


async def test_what_cannot_be_done_is_said(house: House) -> None:
    house.kept_files.in_use = {PROJECT}
    assert isinstance((await run("projects", "delete", PROJECT, "--yes")).exception, ProjectInUse)
    assert isinstance((await run("projects", "delete", "none", "--yes")).exception, NotFound)
    assert isinstance((await run("projects", "undelete", PROJECT)).exception, NotFound)


async def test_a_project_is_renamed(house: House) -> None:
    done = await run("projects", "rename", "Thesis", "Chapter two")
    assert done.output == f"{PROJECT} is called Chapter two.\n"


async def test_a_new_disk_is_adopted_after_a_question(house: House) -> None:
    assert (await run("storage", "adopt", typed="n\n")).exit_code == 1
    assert house.kept_files.adopted_by == ""
    assert (await run("storage", "adopt", typed="y\n")).exit_code == 0
    assert house.kept_files.adopted_by == "root"
