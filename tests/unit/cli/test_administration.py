"""Describing images, the audit log and accounting, at the command line."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import pytest_asyncio
from click.testing import CliRunner, Result
from house import House, image_view, open_house

from tljh_plugin import request_ids
from tljh_plugin.cli import _service, group, main
from tljh_plugin.errors import InvalidRequest
from tljh_plugin.wire import ImageChange


@pytest_asyncio.fixture
async def house(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[House]:
    async with open_house(tmp_path) as opened:
        monkeypatch.setattr(_service, "load_desktop", lambda: opened.settings)
        opened.inventory.known = [image_view(title="Optics", pinned=True, pin_reason="exam")]
        yield opened


async def run(*words: str) -> Result:
    return await asyncio.to_thread(lambda: CliRunner().invoke(group, words))


async def test_an_image_is_described_by_its_title(house: House) -> None:
    done = await run(
        "describe",
        "Optics",
        "--icon",
        "🔭",
        "--unpin",
        "--retire",
        "--visibility",
        "group",
        "--group",
        "physics",
    )
    assert done.exit_code == 0, done.output
    [(_, _, asked)] = house.describing.asked
    assert asked == ImageChange(
        icon="🔭", pinned=False, retired=True, visibility="group", groups=("physics",)
    )


async def test_without_options_it_is_only_shown(house: House) -> None:
    done = await run("describe", "Optics")
    assert house.describing.asked == []
    assert "without end: exam" in done.output


async def test_groups_without_their_visibility_are_refused(house: House) -> None:
    done = await run("describe", "Optics", "--group", "physics")
    assert isinstance(done.exception, InvalidRequest)
    assert house.describing.asked == []


async def test_images_are_searched_and_sorted(house: House) -> None:
    small = image_view("sha256:" + "cd" * 32, title="Waves", size=10, own_bytes=7_000_000)
    house.inventory.known += [small]

    async def found(*words: str) -> list[str]:
        return [each["title"] for each in json.loads((await run("images", "--json", *words)).output)]

    assert await found("--sort", "size") == ["Optics", "Waves"]
    assert await found("--sort", "-size") == ["Waves", "Optics"]
    assert await found("--search", "waves") == ["Waves"]
    assert await found("--filter", "pinned") == ["Optics"]
    assert await found("--sort", "title", "--limit", "1", "--page", "2") == ["Waves"]
    told = await run("images", "--sort", "-size", "--limit", "1")
    assert "6.6 MiB" in told.output
    assert "1 of 2" in told.output
    assert "No image is like that" in (await run("images", "--search", "nowhere")).output
    for words in (("--filter", "not-ours"), ("--sort", "price"), ("--limit", "0"), ("--page", "2")):
        assert (await run("images", *words)).exit_code == 2


async def test_the_audit_log_is_shown_filtered_and_exported(house: House) -> None:
    assert "until the exam" in (await run("audit", "--thing", "owner-repo")).output
    done = await run("audit", "--who", "ada", "--json")
    assert [each["what"] for each in json.loads(done.output)] == ["project.delete"]
    done = await run("audit", "--csv")
    assert done.output.splitlines()[0] == "number,time,who,what,thing,result,request"


async def test_an_error_of_the_service_ends_with_the_id_that_its_log_has(
    house: House, capfd: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as ended:
        await asyncio.to_thread(main, ["audit", "--since", "never"])
    assert ended.value.code == 1
    *_, last = capfd.readouterr().err.splitlines()
    told, _, request = last.partition(": ")
    assert told == "id for the administrator"
    assert request_ids.valid(request)


async def test_a_mistake_on_the_command_line_has_no_id(
    house: House, capfd: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit):
        await asyncio.to_thread(main, ["describe", "Optics", "--group", "physics"])
    assert "administrator" not in capfd.readouterr().err


async def test_accounting_is_shown_and_exported(house: House) -> None:
    assert "7.50" in (await run("accounting", "--by", "group", "--since", "2026-11-01")).output
    assert house.accounting.asked[0][0] == "group"
    assert json.loads((await run("accounting", "--json")).output)["rows"][0]["name"] == "ada"
    assert (await run("accounting", "--csv")).output.startswith("name,people,servers,")
