"""In which order a new project reaches the disk, so that a loss of power leaves it whole or leaves none."""

from __future__ import annotations

import errno
import os
import threading
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from unit.projects.stream import END, MAGIC, file

from tljh_plugin.projects import prepare
from tljh_plugin.projects.inside import receive
from tljh_plugin.projects.staging import new_staging
from tljh_plugin.store import ProjectRow


def test_the_marker_and_the_name_are_on_the_disk_one_after_the_other(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "p"
    staging = new_staging(folder)
    staging.home.mkdir(parents=True)
    staging.pipe.touch()
    done: list[tuple[str, str]] = []
    real = {name: getattr(os, name) for name in ("fsync", "rename", "replace")}

    def fsync(descriptor: int) -> None:
        place = Path(os.readlink(f"/proc/self/fd/{descriptor}"))
        done.append(("flush", "p" if place == folder else "draft" if ".project.json." in place.name else "?"))
        real["fsync"](descriptor)

    def moving(name: str) -> Any:
        def move(source: Path, target: Path) -> None:
            done.append(("name", Path(target).name))
            real[name](source, target)

        return move

    monkeypatch.setattr(os, "fsync", fsync)
    for name in ("rename", "replace"):
        monkeypatch.setattr(os, name, moving(name))
    project = ProjectRow(
        id="p",
        owner="ann",
        repository="https://github.com/owner/repo",
        spec="gh/owner/repo/main",
        commit="a" * 40,
        subdir="",
        image_id="sha256:1",
        path=str(folder / "home"),
        created="2026-01-01",
    )
    prepare._finish(folder, staging, project, "", [])
    assert done == [
        ("flush", "draft"),
        ("name", "project.json"),
        ("flush", "p"),
        ("name", "home"),
        ("flush", "p"),
    ]


@pytest.mark.parametrize("answer", [0, -1])
def test_files_that_did_not_reach_the_disk_are_no_filled_project(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, answer: int
) -> None:
    """The whole file system is flushed, after the last file and before anybody is told."""
    into, pipe = tmp_path / "into", tmp_path / "pipe"
    into.mkdir()
    os.mkfifo(pipe)
    flushed: list[tuple[Path, list[str]]] = []

    def syncfs(descriptor: int) -> int:
        flushed.append((Path(os.readlink(f"/proc/self/fd/{descriptor}")), os.listdir(into)))
        return answer

    library = SimpleNamespace(syncfs=syncfs)
    monkeypatch.setattr(receive.ctypes, "CDLL", lambda *_, **__: library)
    monkeypatch.setattr(receive.ctypes, "get_errno", lambda: errno.EIO)
    writer = threading.Thread(target=pipe.write_bytes, args=(MAGIC + file(b"data", (0, b"1,2")) + END,))
    writer.start()
    said = receive.receive(str(pipe), str(into), 10**6, 10, 0)
    writer.join()
    assert flushed == [(into, ["data"])]
    assert said["ok"] is (answer == 0)
