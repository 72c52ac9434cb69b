"""Who occupies the disk, at the command line."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import pytest_asyncio
from click.testing import CliRunner, Result
from house import House, disk_samples, disk_view, open_house

from tljh_plugin.cli import _service, group
from tljh_plugin.wire import DiskView


@pytest_asyncio.fixture
async def house(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[House]:
    async with open_house(tmp_path) as opened:
        monkeypatch.setattr(_service, "load_desktop", lambda: opened.settings)
        opened.disk.now, opened.disk.samples = disk_view(), disk_samples()
        yield opened


async def run(*words: str) -> Result:
    return await asyncio.to_thread(lambda: CliRunner().invoke(group, words))


async def test_the_parts_are_listed_with_the_warning(house: House) -> None:
    done = await run("disk")
    assert done.exit_code == 0
    [cache] = [line for line in done.output.splitlines() if line.strip().startswith("build-cache")]
    assert cache.split() == ["build-cache", "at", "least", "20", "GiB", "20.0", "%"]
    [other] = [line for line in done.output.splitlines() if line.strip().startswith("other-docker")]
    assert other.split() == ["other-docker", "not", "known"]
    assert "90 % full" in done.output
    assert house.disk.now.warning is not None
    assert house.disk.now.warning.message.split(":")[0] in done.output.replace("\n", " ")


async def test_programs_get_json(house: House) -> None:
    done = await run("disk", "--json")
    assert DiskView(**json.loads(done.output)) == house.disk.now
    done = await run("disk", "--days", "3", "--json")
    assert len(json.loads(done.output)["samples"]) == 3 * 24


async def test_before_the_first_look_it_is_said_that_one_goes_on(house: House) -> None:
    house.disk.now = DiskView()
    assert "for the first time" in (await run("disk")).output


async def test_stored_repositories_are_listed_and_removed(house: House) -> None:
    folder = house.settings.mirror_dir / "github-com-owner-repo-0123456789abcdef"
    folder.mkdir(parents=True)
    (folder / "lock").touch()
    told = await run("mirrors", "--remove", "--dry-run")
    assert "1 would go" in told.output
    assert [each["needed"] for each in json.loads((await run("mirrors", "--json")).output)] == [False]
    assert folder.exists()
    assert "1 went" in (await run("mirrors", "--remove")).output
    assert not folder.exists()
