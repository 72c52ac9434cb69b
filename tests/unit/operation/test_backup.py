"""A backup is whole or not there, and holds what it says."""

from __future__ import annotations

import asyncio
import json
import os
import sqlite3
import subprocess
import tarfile
import threading
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import pytest
from installation_on_disk import BIG, OnDisk, Seen, seen

from tljh_plugin.errors import BackupFailed
from tljh_plugin.installation import LAST_BACKUP
from tljh_plugin.operation import backup
from tljh_plugin.operation.backup import Progress, Wish
from tljh_plugin.operation.backup_file import verify
from tljh_plugin.operation.trees import CHUNK
from tljh_plugin.projects.names import project_id


def make(place: OnDisk, wish: Wish | None = None, progress: Progress | None = None) -> backup.Made:
    return asyncio.run(backup.make(place.installed, wish or Wish(), progress))


def timeless(folder: Path) -> dict[str, Seen]:
    found = seen(folder)
    return {name: replace(x, mtime_ns=0) if x.kind == "folder" else x for name, x in found.items()}


def test_it_lies_in_the_state_folder_readable_by_its_owner_alone(place: OnDisk) -> None:
    made = make(place)
    assert made.file.parent == place.state / "backups"
    assert made.file.name.startswith("littlest-binder-2")
    assert made.file.stat().st_mode & 0o777 == 0o600
    assert [each.name for each in made.file.parent.iterdir()] == [made.file.name]


def test_when_it_ended_is_noted_wherever_it_lies(place: OnDisk, tmp_path: Path) -> None:
    mark = place.state / LAST_BACKUP
    (tmp_path / "file").touch()
    with pytest.raises(BackupFailed):
        make(place, Wish(tmp_path / "file" / "x.tar.gz"))
    assert not mark.exists()
    made = make(place, Wish(tmp_path / "elsewhere.tar.gz"))
    assert mark.stat().st_mtime >= made.file.stat().st_mtime
    os.utime(mark, (1, 1))
    make(place)
    assert mark.stat().st_mtime > 1


def test_every_part_is_in_and_the_manifest_tells_its_checksum(place: OnDisk) -> None:
    found = verify(make(place).file)
    assert {
        "backup.json", "settings.yaml", "state/instance", "state/secret", "state/store.sqlite",
        "state/logs/b-1.jsonl", "hub/jupyterhub.sqlite", "hub/cookie_secret",
    } == set(found.digests)  # fmt: skip
    assert found.header.instance == place.installed.instance
    assert b"# free here" in found.settings
    assert any("People's files" in each for each in found.contents.not_in)


def test_plain_tar_reads_it_with_all_that_files_can_be(place: OnDisk, tmp_path: Path) -> None:
    place.my_files()
    made = make(place, Wish(projects=True))
    out = tmp_path / "by-hand"
    out.mkdir()
    subprocess.run(["tar", "-xpzf", made.file, "-C", out], check=True)
    for project in place.root.glob("*/lab-*"):
        # tar sets a folder's time when it leaves it, and ours come before what is deeper in them.
        mine = timeless(project / "home")
        theirs = timeless(out / "projects" / project.parent.name / project.name / "home")
        assert mine == theirs


def test_set_user_bits_are_not_kept(place: OnDisk) -> None:
    [home, *_] = place.root.glob("*/lab-*/home")
    (home / "run.sh").chmod(0o6755)
    with tarfile.open(make(place, Wish(projects=True)).file) as tar:
        [info] = [each for each in tar if each.name.endswith(f"{home.parent.name}/home/run.sh")]
    assert info.mode == 0o755


def test_pipes_and_sockets_are_named_and_left_out(place: OnDisk) -> None:
    [home, *_] = place.root.glob("*/lab-*/home")
    os.mkfifo(home / "pipe")
    made = make(place, Wish(projects=True))
    [tree] = [each for each in made.contents.projects if each.id == home.parent.name]
    assert tree.skipped == ("home/pipe: neither file, folder nor link",)
    assert not [name for name in verify(made.file).digests if name.endswith("/pipe")]


def test_what_is_half_made_is_no_persons_file(place: OnDisk) -> None:
    [home, *_] = place.root.glob("*/lab-*/home")
    (home.parent / ".filling-0123").mkdir()
    (home.parent / ".filling-0123" / "half").write_text("half")
    assert not [name for name in verify(make(place, Wish(projects=True)).file).digests if "filling" in name]


def test_deleted_projects_and_my_files_are_in(place: OnDisk) -> None:
    place.my_files()
    place.delete("https://example.org/lab/course-1")
    made = make(place, Wish(projects=True))
    assert sorted(each.kind for each in made.contents.projects) == ["deleted", "my-files", "project"]
    verify(made.file)


def test_a_file_that_changes_while_it_is_read_is_named(place: OnDisk) -> None:
    [home, *_] = sorted(place.root.glob("*/lab-*/home"))
    progress = Progress()

    def write_again(count: int) -> None:
        if count == CHUNK:
            with (home / "big.bin").open("ab") as file:
                file.write(b"more")

    progress.advance = write_again
    made = make(place, Wish(projects=True), progress)
    [tree] = [each for each in made.contents.projects if each.id == home.parent.name]
    assert tree.changed == ("home/big.bin",)
    assert (home / "big.bin").stat().st_size > BIG
    verify(made.file)


def test_a_file_that_shrinks_while_it_is_read_leaves_a_whole_backup(place: OnDisk) -> None:
    [home, *_] = sorted(place.root.glob("*/lab-*/home"))
    progress = Progress()
    progress.advance = lambda count: os.truncate(home / "big.bin", 10) if count == CHUNK else None
    made = make(place, Wish(projects=True), progress)
    [tree] = [each for each in made.contents.projects if each.id == home.parent.name]
    assert tree.changed == ("home/big.bin",)
    verify(made.file)


def test_a_store_that_is_written_to_is_copied_between_two_transactions(place: OnDisk, tmp_path: Path) -> None:
    """A writer moves one unit between two rows all the time; a copy with another sum saw half of it."""
    path = place.settings.store_path
    ended = threading.Event()
    moved = 0
    with closing(sqlite3.connect(path)) as db, db:
        db.execute("CREATE TABLE accounts (name TEXT PRIMARY KEY, units INTEGER, ballast TEXT)")
        db.executemany(
            "INSERT INTO accounts VALUES (?, 100, ?)", [(f"{n:05d}", "x" * 2000) for n in range(1000)]
        )

    def write() -> None:
        nonlocal moved
        with closing(sqlite3.connect(path, isolation_level=None, timeout=30)) as db:
            while not ended.is_set():
                db.execute("BEGIN IMMEDIATE")
                db.execute("UPDATE accounts SET units = units - 1 WHERE name = '00000'")
                db.execute("UPDATE accounts SET units = units + 1 WHERE name = '00999'")
                db.execute("COMMIT")
                moved += 1

    writer = threading.Thread(target=write)
    writer.start()
    try:
        sums, seen_units = set(), set()
        for number in range(5):
            file = make(place, Wish(file=tmp_path / f"{number}.tar.gz")).file
            copied = tmp_path / f"{number}.sqlite"
            with tarfile.open(file) as tar:
                member = tar.extractfile("state/store.sqlite")
                assert member is not None
                copied.write_bytes(member.read())
            with closing(sqlite3.connect(copied)) as db:
                assert db.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
                sums |= set(db.execute("SELECT sum(units) FROM accounts"))
                seen_units |= set(db.execute("SELECT units FROM accounts WHERE name = '00999'"))
    finally:
        ended.set()
        writer.join()
    assert sums == {(100_000,)}
    assert moved > 5
    assert len(seen_units) > 1, "nothing was written meanwhile"


def test_a_full_disk_leaves_nothing_half(place: OnDisk, small_disk: Path) -> None:
    with pytest.raises(BackupFailed, match="is full; nothing was left"):
        make(place, Wish(file=small_disk / "b.tar.gz", projects=True))
    assert list(small_disk.iterdir()) == []


def test_what_was_there_stays_if_the_new_one_fails(place: OnDisk, small_disk: Path) -> None:
    before = make(place, Wish(file=small_disk / "b.tar.gz")).file.read_bytes()
    with pytest.raises(BackupFailed):
        make(place, Wish(file=small_disk / "b.tar.gz", projects=True))
    assert (small_disk / "b.tar.gz").read_bytes() == before


def test_it_is_never_inside_itself(place: OnDisk) -> None:
    [home, *_] = place.root.glob("*/lab-*/home")
    made = make(place, Wish(file=home / "mine.tar.gz", projects=True))
    assert made.file.exists()
    assert not [name for name in verify(made.file).digests if "mine.tar.gz" in name]


def test_keep_removes_only_older_ones_of_this_installation(place: OnDisk, elsewhere: OnDisk) -> None:
    elsewhere.fill()
    folder = place.state / "backups"
    first = make(place, Wish(file=folder / "littlest-binder-20200101T000000Z.tar.gz")).file
    foreign = make(elsewhere, Wish(file=folder / "littlest-binder-20200102T000000Z.tar.gz")).file
    other = folder / "littlest-binder-20200103T000000Z.tar.gz"
    other.write_text("no backup")
    made = make(place, Wish(keep=1))
    assert made.removed == (first,)
    assert not first.exists()
    assert foreign.exists()
    assert other.exists()
    assert made.file.exists()


def test_interrupted_it_leaves_nothing(place: OnDisk) -> None:
    async def interrupted() -> None:
        progress = Progress()
        reached = asyncio.Event()
        loop = asyncio.get_running_loop()
        progress.advance = lambda count: loop.call_soon_threadsafe(reached.set)  # type: ignore[assignment]
        running = asyncio.create_task(backup.make(place.installed, Wish(projects=True), progress))
        await reached.wait()
        running.cancel()
        with pytest.raises(asyncio.CancelledError):
            await running

    asyncio.run(interrupted())
    assert list((place.state / "backups").iterdir()) == []


def test_another_database_is_said_to_be_not_in(place: OnDisk) -> None:
    path = place.state / "run" / "service.json"
    path.write_text(path.read_text().replace(str(place.state / "hub" / "jupyterhub.sqlite"), "postgresql://"))
    made = make(place)
    assert not made.contents.hub_database
    assert any("postgresql" in each for each in made.contents.not_in)


def test_images_tell_how_they_can_be_had_again(place: OnDisk) -> None:
    with closing(sqlite3.connect(place.settings.store_path)) as db, db:
        db.execute("UPDATE images SET adopted = 1, spec = 'image/r:1' WHERE title = 'Course 1'")
        db.execute("UPDATE images SET spec = 'local/%2Fsrv%2Fx/c' WHERE title = 'Course 2'")
    found = {each.title: each for each in make(place).contents.images}
    assert (found["Course 0"].again, found["Course 0"].origin) == ("build", "imported")
    assert (found["Course 1"].again, found["Course 1"].origin) == ("nowhere", "adopted")
    assert found["Course 2"].again == "nowhere"
    assert "folder" in found["Course 2"].reason


def test_a_project_read_through_a_link_is_not_read(place: OnDisk, tmp_path: Path) -> None:
    """Whoever works in a project can replace a folder of it by a link at any moment."""
    secret = tmp_path / "secret"
    secret.mkdir()
    (secret / "key").write_text("the key")
    [home, *_] = sorted(place.root.glob("*/lab-*/home"))
    (home / "data").rename(home / "data-before")
    (home / "data").symlink_to(secret)
    found = verify(make(place, Wish(projects=True)).file)
    assert not [name for name in found.digests if name.endswith("/data/key")]
    assert found.links[f"projects/{home.parent.parent.name}/{home.parent.name}/home/data"] == str(secret)


def test_the_project_of_a_repository_has_its_id(place: OnDisk) -> None:
    made = make(place, Wish(projects=True))
    assert {each.id for each in made.contents.projects} == {
        project_id(f"https://example.org/lab/course-{n}") for n in range(2)
    }
    assert json.loads(json.dumps(made.contents.model_dump(mode="json")))
