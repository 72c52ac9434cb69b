"""Building again, adopting, exporting and importing, at the command line."""

from __future__ import annotations

import asyncio
import importlib
import io
import json
import os
import tarfile
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
import pytest_asyncio
from click.testing import CliRunner, Result
from house import COMMIT, IMAGE, House, build_view, image_view, line, open_house

from tljh_plugin.cache.image_file import Manifest, write
from tljh_plugin.cache.moves import Export
from tljh_plugin.cli import _service, group
from tljh_plugin.errors import (
    BadImageFile,
    EngineError,
    ImageNotFound,
    InvalidRequest,
    NotFound,
    NotVouchedFor,
    ServiceDown,
    SettingsError,
)
from tljh_plugin.wire import ErrorView, NewerView, Person, ProposalView, RefusedImageView, RescanView


@pytest_asyncio.fixture
async def house(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[House]:
    async with open_house(tmp_path / "state") as opened:
        monkeypatch.setattr(_service, "load_desktop", lambda: opened.settings)
        opened.inventory.known = [
            image_view(title="Optics"),
            image_view("sha256:" + "cd" * 32, title="Other"),
        ]
        yield opened


async def run(*words: str, typed: str = "") -> Result:
    return await asyncio.to_thread(lambda: CliRunner().invoke(group, words, input=typed or None))


async def exported() -> AsyncIterator[bytes]:
    """A file of an image that is none, but is understood."""
    inner = io.BytesIO()
    said = [{"Config": f"{'ab' * 32}.json", "RepoTags": None, "Layers": []}]
    with tarfile.open(fileobj=inner, mode="w") as archive:
        text = json.dumps(said).encode()
        entry = tarfile.TarInfo("manifest.json")
        entry.size = len(text)
        archive.addfile(entry, io.BytesIO(text))

    async def pieces() -> AsyncIterator[bytes]:
        yield inner.getvalue()

    manifest = Manifest(
        image_id=IMAGE,
        layers=("sha256:1",),
        labels={},
        platform="linux/amd64",
        size=1,
        spec="image/our-lab/course:1",
        installation="0123",
        exported="2026-11-21",
    )
    async for piece in write(manifest, pieces()):
        yield piece


def gives(house: House, pieces: AsyncIterator[bytes], monkeypatch: pytest.MonkeyPatch) -> None:
    @asynccontextmanager
    async def export(person: Person, image_id: str) -> AsyncIterator[Export]:
        yield Export("image.tar", pieces)

    monkeypatch.setattr(house.moves, "export", export)


async def test_an_export_appears_when_it_is_whole(
    house: House, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "optics.tar"
    gives(house, exported(), monkeypatch)
    done = await run("export", "Optics", str(file), "--json")
    assert done.exception is None
    assert json.loads(done.output) == {"image": IMAGE, "file": str(file), "bytes": file.stat().st_size}
    before = file.read_bytes()
    assert isinstance((await run("export", "Optics", str(file))).exception, SettingsError)
    assert file.read_bytes() == before

    async def broken() -> AsyncIterator[bytes]:
        yield before[:2000]
        raise EngineError("Docker went away.", "Start it.")

    async def short() -> AsyncIterator[bytes]:
        yield before[:2000]

    for pieces, kind in ((broken(), ServiceDown), (short(), BadImageFile)):
        gives(house, pieces, monkeypatch)
        failed = await run("export", "Optics", str(file), "--force")
        assert isinstance(failed.exception, kind)
        assert file.read_bytes() == before
        assert [name for name in os.listdir(tmp_path) if "tar" in name] == ["optics.tar"]


async def test_an_import_asks_whether_the_file_is_trusted(
    house: House, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "optics.tar"
    file.write_bytes(b"".join([piece async for piece in exported()]))
    done = await run("import", str(file), "--trust", "--title", "Ours", "--group", "physics")
    assert done.exception is None
    _, data, wanted = house.moves.received.pop()
    assert data == file.read_bytes()
    assert (wanted.trust, wanted.title, wanted.visibility, wanted.groups) == (
        True,
        "Ours",
        "group",
        ("physics",),
    )

    house.moves.problem = NotVouchedFor("From elsewhere.", "Say so.")
    assert isinstance((await run("import", str(file))).exception, NotVouchedFor)
    command = importlib.import_module("tljh_plugin.cli.import")
    asked: list[Manifest] = []

    def vouch(manifest: Manifest) -> bool:
        asked.append(manifest)
        house.moves.problem = None
        return True

    monkeypatch.setattr(command, "_is_asked", lambda: True)
    monkeypatch.setattr(command, "_vouched", vouch)
    assert (await run("import", str(file))).exception is None
    assert (asked[0].spec, house.moves.received.pop()[2].trust) == ("image/our-lab/course:1", True)

    file.write_bytes(b"no archive" * 1000)
    assert isinstance((await run("import", str(file))).exception, BadImageFile)
    file.write_bytes(b"")
    assert isinstance((await run("import", str(file))).exception, BadImageFile)
    assert house.moves.received == []


async def test_an_image_is_found_by_what_is_known_of_it(house: House) -> None:
    for text in ("Optics", IMAGE, "abab"):
        assert (await run("update", text)).exception is None
        assert house.newer.asked.pop() == ("root", (IMAGE,), False)
    assert isinstance((await run("update", "none")).exception, ImageNotFound)
    house.inventory.known = [image_view(), image_view("sha256:abab" + "0" * 60)]
    assert isinstance((await run("update", "abab")).exception, InvalidRequest)


async def test_newer_commits_are_listed(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "200")
    error = ErrorView(code="repository-not-found", message="It is gone.")
    house.newer.found = [
        NewerView(image_id=IMAGE, title="Optics", newer_commit=COMMIT, state="newer", build_id="b-7"),
        NewerView(image_id=IMAGE, title="Other", state="failed", error=error),
    ]
    done = await run("update", "--build")
    assert house.newer.asked == [("root", (), True)]
    assert "newer commit, build b-7" in done.output
    assert "It is gone." in done.output
    assert [each["state"] for each in json.loads((await run("update", "--json")).output)] == [
        "newer",
        "failed",
    ]


async def test_what_was_found_again_is_told(house: House) -> None:
    house.rescan.found = RescanView(
        restored=(image_view(title="Optics"),),
        known=3,
        refused=(RefusedImageView(id=IMAGE, names=("a:1",), reason="it was made by hand"),),
        proposals=(ProposalView(id=IMAGE, names=("our-lab/course:1",), size=1, reason="not built here"),),
    )
    done = await run("rescan")
    for text in ("3 known, 1 found again", "Optics", "a:1: it was made by hand", "our-lab/course:1"):
        assert text in done.output
    done = await run("adopt", "our-lab/course:1", "--private")
    assert house.adoption.adopted == [("root", "our-lab/course:1")]
    assert "Adopted Optics" in done.output


async def test_a_build_is_cancelled(house: House) -> None:
    house.queue.add(build_view("b-1", state="running"))
    assert "b-1: cancelled" in (await run("cancel", "b-1")).output
    assert json.loads((await run("cancel", "b-1", "--json")).output)["state"] == "cancelled"
    assert isinstance((await run("cancel", "b-2")).exception, NotFound)


async def test_a_failed_build_is_retried(house: House) -> None:
    house.queue.add(build_view("b-1", state="failed", phase="failed"))
    house.queue.add(build_view("b-9", state="built", phase="built", image_id=IMAGE), [line(1, "built")])
    assert (await run("retry", "b-9")).output.splitlines()[-1] == IMAGE
