"""Deleted projects on the disk: one rename there, one rename back, and gone only step by step."""

from __future__ import annotations

import os
from dataclasses import replace
from datetime import datetime, timedelta, timezone
from pathlib import Path

import pytest
from unit.projects.test_marker import make

from tljh_plugin.projects import archive
from tljh_plugin.projects.archive import (
    ARCHIVE,
    archive_name,
    bring_back,
    deleted_at,
    give_up,
    given_up,
    put_away,
    read_deleted,
    remove,
)
from tljh_plugin.projects.marker import MARKER, read_projects

NOW = datetime(2026, 11, 21, 12, 30, 0, 123456, tzinfo=timezone.utc)


def test_the_name_says_when(tmp_path: Path) -> None:
    assert archive_name("owner-repo-1a2b3c4d", NOW) == "owner-repo-1a2b3c4d.20261121t123000123456"
    assert deleted_at("owner-repo-1a2b3c4d.20261121t123000123456") == NOW
    for other in ("owner-repo", "p.20261121", "p.20269921t123000123456", ".removing-p.20261121t123000123456"):
        assert deleted_at(other) is None


def test_a_deleted_project_is_listed_and_comes_back_whole(tmp_path: Path) -> None:
    project = make(tmp_path / "p")
    (tmp_path / "p" / "home" / "notes").write_text("mine")
    moved = put_away(project, NOW)
    assert read_projects(tmp_path, "ann") == []
    [deleted] = read_deleted(tmp_path, "ann")
    assert (deleted.row, deleted.project, deleted.deleted) == (moved, "p", NOW)
    assert deleted.until(14) == NOW + timedelta(days=14)
    assert read_deleted(tmp_path, "bob") == []
    assert bring_back(deleted) == project
    assert (tmp_path / "p" / "home" / "notes").read_text() == "mine"
    assert read_deleted(tmp_path, "ann") == []
    assert read_projects(tmp_path, "ann") == [project]


def test_what_was_begun_anew_meanwhile_keeps_its_name(tmp_path: Path) -> None:
    first = make(tmp_path / "p")
    (tmp_path / "p" / "home" / "which").write_text("first")
    put_away(first, NOW)
    make(tmp_path / "p")
    [deleted] = read_deleted(tmp_path, "ann")
    back = bring_back(deleted)
    assert back.id != "p"
    assert (Path(back.path) / "which").read_text() == "first"
    assert {row.id for row in read_projects(tmp_path, "ann")} == {"p", back.id}


def test_what_is_begun_anew_in_that_very_moment_keeps_its_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    put_away(make(tmp_path / "p"), NOW)
    lexists = os.path.lexists

    def looked_before(path: Path) -> bool:
        monkeypatch.setattr(os.path, "lexists", lexists)
        (tmp_path / "p" / ".filling-1").mkdir(parents=True)
        return False

    monkeypatch.setattr(os.path, "lexists", looked_before)
    back = bring_back(read_deleted(tmp_path, "ann")[0])
    assert back.id != "p"
    assert read_projects(tmp_path, "ann") == [back]


def test_a_crash_between_marker_and_rename_loses_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    put_away(make(tmp_path / "p"), NOW)
    make(tmp_path / "p")
    with monkeypatch.context() as broken:
        broken.setattr(Path, "rename", lambda *_: (_ for _ in ()).throw(OSError("power cut")))
        with pytest.raises(OSError, match="power cut"):
            bring_back(read_deleted(tmp_path, "ann")[0])
    [deleted] = read_deleted(tmp_path, "ann")
    assert bring_back(deleted).id not in ("", "p")


def test_two_deletions_at_one_moment_are_two(tmp_path: Path) -> None:
    put_away(make(tmp_path / "p"), NOW)
    put_away(make(tmp_path / "p"), NOW)
    assert len(read_deleted(tmp_path, "ann")) == 2


async def test_removing_can_be_broken_off_anywhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    project = make(tmp_path / "p")
    (tmp_path / "p" / ".filling-00" / "home").mkdir(parents=True)
    os.mkfifo(tmp_path / "p" / ".filling-00" / "pipe")
    put_away(project, NOW)
    place = give_up(read_deleted(tmp_path, "ann")[0])
    assert read_deleted(tmp_path, "ann") == []
    steps = 0

    class PowerCut(Exception):
        pass

    async def empty(folder: Path) -> None:
        assert folder.name == "home"

    real = {name: getattr(Path, name) for name in ("rmdir", "unlink")}
    budget = 0

    def counted(name: str):  # type: ignore[no-untyped-def]
        def act(path: Path, **more: bool) -> None:
            nonlocal steps
            if steps >= budget:
                raise PowerCut
            steps += 1
            real[name](path, **more)

        return act

    for name in real:
        monkeypatch.setattr(Path, name, counted(name))
    cuts = 0
    while place.exists():
        assert given_up(tmp_path) == [place]
        steps, budget = 0, cuts + 1
        try:
            await remove(place, empty)
        except PowerCut:
            cuts += 1
    assert cuts >= 3
    assert given_up(tmp_path) == []
    assert os.listdir(tmp_path) == [ARCHIVE]


async def test_links_in_the_archive_are_not_followed(tmp_path: Path) -> None:
    outside = tmp_path / "outside"
    (outside / "home").mkdir(parents=True)
    (outside / MARKER).write_text("kept")
    put_away(make(tmp_path / "ann" / "p"), NOW)
    (tmp_path / "ann" / ARCHIVE / "x.20261121t123000123456").symlink_to(outside)
    (tmp_path / "ann" / ARCHIVE / ".removing-y").symlink_to(outside)
    assert [each.project for each in read_deleted(tmp_path / "ann", "ann")] == ["p"]
    assert given_up(tmp_path / "ann") == []
    place = give_up(read_deleted(tmp_path / "ann", "ann")[0])
    (place / "home").rmdir()
    (place / "home").symlink_to(outside)

    async def never(folder: Path) -> None:
        raise AssertionError(folder)

    await remove(place, never)
    assert (outside / MARKER).read_text() == "kept"
    assert not place.exists()


def test_a_person_sees_only_their_deleted_ones(tmp_path: Path) -> None:
    put_away(make(tmp_path / "a"), NOW)
    put_away(make(tmp_path / "b", owner="bob"), NOW)
    assert [each.project for each in read_deleted(tmp_path, "bob")] == ["b"]
    assert archive.read_deleted(tmp_path / "none", "bob") == []
    assert replace(read_deleted(tmp_path, "bob")[0].row, id="x").owner == "bob"
