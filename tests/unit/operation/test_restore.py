"""What a backup holds comes back, and nothing that is here is lost by it."""

from __future__ import annotations

import asyncio
import contextlib
import gzip
import io
import json
import os
import sqlite3
import tarfile
import zlib
from collections.abc import Callable, Sequence
from contextlib import closing
from pathlib import Path

import pytest
from installation_on_disk import OnDisk, seen

from tljh_plugin.errors import BackupTooNew, BadBackup, RestoreRefused, SettingsError, StillRunning
from tljh_plugin.installation import UNFINISHED, ensure_state
from tljh_plugin.operation import backup, restore, restored_images, restoring
from tljh_plugin.operation.backup import Progress, Wish
from tljh_plugin.operation.backup_file import Header, read_header, verify
from tljh_plugin.projects.marker import read_project
from tljh_plugin.store import Store

NOW = "20261122T101500Z"


@pytest.fixture
def file(place: OnDisk) -> Path:
    """A backup of everything on the disk."""
    place.my_files()
    place.delete("https://example.org/lab/course-1")
    return asyncio.run(backup.make(place.installed, Wish(projects=True))).file


def decide(file: Path, to: OnDisk) -> restore.Plan:
    return restore.decide(verify(file), to.installed, None, NOW)


def carry_out(file: Path, to: OnDisk, progress: Progress | None = None) -> restoring.Report:
    return asyncio.run(restoring.carry_out(decide(file, to), progress))


def people_files(place: OnDisk) -> dict[str, object]:
    """Without the root's own marker and the folders around people's files, which are new."""
    found = seen(place.root)
    return {name: facts for name, facts in found.items() if name.count("/") > 1 and name[-8:] != ".deleted"}


# -- on an empty machine ------------------------------------------------------------------------------


def test_everything_comes_back_on_an_empty_machine(place: OnDisk, elsewhere: OnDisk, file: Path) -> None:
    carry_out(file, elsewhere)
    assert people_files(elsewhere) == people_files(place)
    for name in ("instance", "secret", "config.yaml", "hub/cookie_secret", "logs/b-1.jsonl"):
        assert (elsewhere.state / name).read_bytes() == (place.state / name).read_bytes()
    for query in ("SELECT * FROM images", "SELECT id, owner FROM projects"):
        assert elsewhere.rows(query) == place.rows(query)
    with closing(sqlite3.connect(elsewhere.state / "hub" / "jupyterhub.sqlite")) as db:
        assert db.execute("SELECT name FROM users").fetchall() == [(place.owner,)]


def test_projects_are_recorded_where_they_are_now(place: OnDisk, elsewhere: OnDisk, file: Path) -> None:
    carry_out(file, elsewhere)
    paths = [str(row[0]) for row in elsewhere.rows("SELECT path FROM projects")]
    assert paths
    assert all(path.startswith(f"{elsewhere.root}/") for path in paths)


def test_the_root_of_files_is_the_restored_installations(elsewhere: OnDisk, file: Path) -> None:
    ensure_state(elsewhere.settings)  # it was started once, and has an id of its own
    before = elsewhere.installed.instance
    carry_out(file, elsewhere)
    marker = json.loads((elsewhere.root / ".littlest-binder-storage").read_text())
    assert marker["installation"] == elsewhere.installed.instance != before


def test_secrets_are_readable_by_their_owner_alone(elsewhere: OnDisk, file: Path) -> None:
    carry_out(file, elsewhere)
    for name in ("secret", "store.sqlite", "hub/jupyterhub.sqlite", "hub/cookie_secret"):
        assert (elsewhere.state / name).stat().st_mode & 0o777 == 0o600


def test_nothing_that_the_other_machine_did_goes_on(place: OnDisk, elsewhere: OnDisk) -> None:
    with closing(sqlite3.connect(place.settings.store_path)) as db, db:
        db.execute("INSERT INTO leases (id, image_id, until) VALUES ('l', 'i', '9999')")
    carry_out(asyncio.run(backup.make(place.installed, Wish())).file, elsewhere)
    assert elsewhere.rows("SELECT * FROM leases") == []


def test_what_was_restored_starts_with_this_versions_store(elsewhere: OnDisk, file: Path) -> None:
    carry_out(file, elsewhere)

    async def read() -> int:
        store = await Store.open(elsewhere.settings.store_path)
        try:
            return len(await store.images())
        finally:
            await store.close()

    assert asyncio.run(read()) == 3


def test_an_older_store_is_migrated(place: OnDisk, elsewhere: OnDisk) -> None:
    with closing(sqlite3.connect(place.settings.store_path)) as db, db:
        db.execute("ALTER TABLE images DROP COLUMN decided")
        db.execute("DELETE FROM _sqlite_migrations WHERE name = 'm0014_decided'")
    carry_out(asyncio.run(backup.make(place.installed, Wish())).file, elsewhere)
    assert elsewhere.rows("SELECT sum(decided) FROM images") == [(0,)]


def test_files_of_the_servers_user_become_those_of_the_one_here(
    place: OnDisk, elsewhere: OnDisk, file: Path
) -> None:
    if os.geteuid():
        pytest.skip("only root gives files to others")
    [home] = place.root.glob("*/lab-course-0-*/home")
    for path in (home, *home.rglob("*")):
        os.chown(path, 1000, 1000, follow_symlinks=False)
    os.chown(home / "run.sh", 4242, 4243)
    made = asyncio.run(backup.make(place.installed, Wish(projects=True))).file
    elsewhere.state.mkdir(parents=True)
    plan = decide(made, elsewhere)
    servers = plan.into.settings.servers.model_copy(update={"uid": 1234, "gid": 1235})
    moved = plan.into.with_settings(plan.into.settings.model_copy(update={"servers": servers}))
    asyncio.run(restoring.carry_out(restore.replace_into(plan, moved)))
    [there] = elsewhere.root.glob("*/lab-course-0-*/home")
    assert ((there / "a.txt").stat().st_uid, (there / "a.txt").stat().st_gid) == (1234, 1235)
    assert ((there / "run.sh").stat().st_uid, (there / "run.sh").stat().st_gid) == (4242, 4243)


# -- where something is -------------------------------------------------------------------------------


def test_restored_twice_changes_no_file_of_anybody(place: OnDisk, elsewhere: OnDisk, file: Path) -> None:
    carry_out(file, elsewhere)
    before = people_files(elsewhere)
    assert {each.action for each in decide(file, elsewhere).trees} == {"same"}
    carry_out(file, elsewhere)
    assert people_files(elsewhere) == before


def test_newer_files_stay_and_those_of_the_backup_are_laid_beside(place: OnDisk, file: Path) -> None:
    [home] = place.root.glob("*/lab-course-0-*/home")
    (home / "a.txt").write_text("newer work")
    notes = home.parents[1] / "my-files" / "notes.txt"
    notes.write_text("newer notes")
    report = carry_out(file, place)
    assert (home / "a.txt").read_text() == "newer work"
    laid = {each.kind: each for each in report.laid if each.action == "beside"}
    project = read_project(laid["project"].place)
    assert project is not None
    assert "of the backup of" in project.title
    assert "work on" in (laid["project"].place / "home" / "a.txt").read_text()
    assert notes.read_text() == "newer notes"
    assert (laid["my-files"].place / "notes.txt").read_text() == "mine\n"


def test_what_was_laid_beside_once_is_not_laid_there_again(place: OnDisk, file: Path) -> None:
    [home] = place.root.glob("*/lab-course-0-*/home")
    (home / "a.txt").write_text("newer work")
    carry_out(file, place)
    before = sorted(path.name for path in home.parents[1].iterdir())
    again = carry_out(file, place)
    assert sorted(path.name for path in home.parents[1].iterdir()) == before
    assert "there" in {each.action for each in again.laid}


def test_what_was_here_is_put_aside(place: OnDisk, file: Path) -> None:
    with closing(sqlite3.connect(place.settings.store_path)) as db, db:
        db.execute("UPDATE images SET title = 'later'")
    (place.state / "config.yaml").write_text("binder:\n  desktop:\n    port: 9999\n")
    report = carry_out(file, place)
    aside = place.state / f"store.sqlite.before-restore-{NOW}"
    assert aside in report.aside
    with closing(sqlite3.connect(aside)) as db:
        assert db.execute("SELECT DISTINCT title FROM images").fetchall() == [("later",)]
    assert "9999" in (place.state / f"config.yaml.before-restore-{NOW}").read_text()
    assert place.settings.desktop.port == 9123


def test_the_log_of_the_old_store_is_not_taken_for_one_of_the_new(place: OnDisk, file: Path) -> None:
    """A service that was killed leaves its last transactions in `store.sqlite-wal`."""
    path = place.settings.store_path
    held = sqlite3.connect(path, isolation_level=None)
    held.execute("UPDATE images SET title = 'in the log'")
    copies = {suffix: path.with_name(path.name + suffix).read_bytes() for suffix in ("-wal", "-shm")}
    main = path.read_bytes()
    held.close()
    path.write_bytes(main)
    for suffix, content in copies.items():
        path.with_name(path.name + suffix).write_bytes(content)
    carry_out(file, place)
    assert place.rows("SELECT DISTINCT title FROM images WHERE title = 'in the log'") == []
    with closing(sqlite3.connect(path.with_name(f"store.sqlite.before-restore-{NOW}"))) as db:
        assert db.execute("SELECT DISTINCT title FROM images").fetchall() == [("in the log",)]


@pytest.mark.parametrize("where", range(0, 12))
def test_interrupted_anywhere_it_can_be_run_again(
    place: OnDisk, elsewhere: OnDisk, file: Path, where: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Killed before the `where`th name is given: nothing more is done, as after a loss of power."""
    renames = 0
    real = Path.rename

    def rename(self: Path, target: Path) -> Path:
        nonlocal renames
        renames += 1
        if renames > where:
            raise KeyboardInterrupt
        return real(self, target)

    # What tidies up does not run either when the power is lost.
    monkeypatch.setattr(Path, "rename", rename)
    monkeypatch.setattr(restoring._Drafts, "clear", lambda self: None)
    finished = False
    try:
        carry_out(file, elsewhere)
        finished = True
    except KeyboardInterrupt:
        pass
    monkeypatch.undo()
    if not finished and (elsewhere.state / UNFINISHED).exists():
        with pytest.raises(SettingsError, match="interrupted"):
            ensure_state(elsewhere.settings)
    carry_out(file, elsewhere)
    assert people_files(elsewhere) == people_files(place)
    assert elsewhere.rows("SELECT * FROM images") == place.rows("SELECT * FROM images")
    assert not (elsewhere.state / UNFINISHED).exists()
    left = [path for path in elsewhere.state.rglob("*") if ".restoring-" in path.name]
    assert left == []


def test_a_full_disk_leaves_what_was_here(place: OnDisk, file: Path, small_disk: Path) -> None:
    there = OnDisk(small_disk / "state")
    there.state.mkdir()
    with pytest.raises(RestoreRefused, match="MiB free"):
        decide(file, there)
    assert list(there.state.iterdir()) == []


# -- refusals -----------------------------------------------------------------------------------------


def test_a_service_that_works_with_the_store_is_not_disturbed(place: OnDisk, file: Path) -> None:
    async def beside() -> None:
        store = await Store.open(place.settings.store_path)
        try:
            with pytest.raises(StillRunning, match="A service works"):
                await restoring.carry_out(decide(file, place))
        finally:
            await store.close()

    asyncio.run(beside())


def test_a_hub_at_home_is_not_disturbed(place: OnDisk, file: Path) -> None:
    from tljh_plugin.operation import at_home

    with at_home.only_one(place.settings), pytest.raises(StillRunning, match="Ctrl-C"):
        carry_out(file, place)


def test_another_persons_desktop_is_refused(place: OnDisk, elsewhere: OnDisk, file: Path) -> None:
    header = read_header(file).model_copy(update={"owner": "somebody"})
    with pytest.raises(RestoreRefused, match="somebody"):
        restore._check_kind(header, elsewhere.installed)


def test_another_kind_of_installation_is_refused(elsewhere: OnDisk, file: Path) -> None:
    header = read_header(file).model_copy(update={"platform": "tljh"})
    with pytest.raises(RestoreRefused, match="tljh"):
        restore._check_kind(header, elsewhere.installed)


def test_a_disk_of_a_third_installation_is_refused(elsewhere: OnDisk, file: Path) -> None:
    elsewhere.root.mkdir(parents=True)
    (elsewhere.root / ".littlest-binder-storage").write_text('{"installation": "feedfeedfeedfeed"}')
    with pytest.raises(RestoreRefused, match="feedfeedfeedfeed"):
        decide(file, elsewhere)


@pytest.mark.parametrize(
    "newer", [{"version": "99.0"}, {"schema_names": ("m9999_later",)}, {"jupyterhub": "99.0"}]
)
def test_what_a_newer_version_wrote_is_refused(file: Path, newer: dict[str, object]) -> None:
    header = Header.model_validate({**read_header(file).model_dump(), **newer})
    known = frozenset(read_header(file).schema_names)
    restore.check_versions(read_header(file), known, "98.0", "98.0")
    with pytest.raises(BackupTooNew):
        restore.check_versions(header, known, "98.0", "98.0")


def test_a_newer_format_is_refused(file: Path, tmp_path: Path) -> None:
    text = json.dumps({**read_header(file).model_dump(mode="json"), "format": 2, "version": "9.9"})

    def change(info: tarfile.TarInfo, data: bytes) -> tuple[tarfile.TarInfo, bytes]:
        return info, text.encode() if info.name == "backup.json" else data

    changed = rewritten(file, tmp_path, change)
    with pytest.raises(BackupTooNew, match=r"9\.9"):
        verify(changed)


# -- files that are not what they were ----------------------------------------------------------------

Change = Callable[[tarfile.TarInfo, bytes], tuple[tarfile.TarInfo, bytes]]


def rewritten(file: Path, folder: Path, change: Change, also: Sequence[tarfile.TarInfo] = ()) -> Path:
    """The same backup with other members, as somebody who means harm would write it."""
    target = folder / "changed.tar.gz"
    with tarfile.open(file) as old, tarfile.open(target, "w:gz", compresslevel=1) as new:
        for info in old:
            data = old.extractfile(info) if info.isreg() else None
            content = data.read() if data is not None else b""
            if info.name == "manifest.json":
                for each in also:
                    new.addfile(each, io.BytesIO(bytes(each.size)))
            info, content = change(info, content)
            info.size = len(content)
            info.pax_headers = {}
            new.addfile(info, io.BytesIO(content))
    return target


def member(name: str, kind: bytes = tarfile.REGTYPE, mode: int = 0o644, link: str = "") -> tarfile.TarInfo:
    info = tarfile.TarInfo(name)
    info.type, info.mode, info.linkname = kind, mode, link
    return info


def test_a_truncated_file_is_refused_wherever_it_ends(file: Path, tmp_path: Path) -> None:
    whole = file.read_bytes()
    for part in (0, 10, 1000, len(whole) // 2, len(whole) - 2000, len(whole) - 9, len(whole) - 1):
        (tmp_path / "part").write_bytes(whole[:part])
        with pytest.raises(BadBackup):
            verify(tmp_path / "part")


def unpacked(data: bytes) -> bytes:
    """What is in it; nothing if it is damaged."""
    with contextlib.suppress(OSError, EOFError, zlib.error):
        return gzip.decompress(data)
    return b""


def test_a_flipped_bit_is_refused(file: Path, tmp_path: Path) -> None:
    whole = bytearray(file.read_bytes())
    for at in range(1000, len(whole), len(whole) // 7):
        changed = bytearray(whole)
        changed[at] ^= 0x10
        if unpacked(changed) == unpacked(whole):
            continue  # zeros taken from elsewhere among zeros
        (tmp_path / "flipped").write_bytes(changed)
        with pytest.raises(BadBackup):
            verify(tmp_path / "flipped")


def test_other_content_under_a_right_archive_is_refused(file: Path, tmp_path: Path) -> None:
    def change(info: tarfile.TarInfo, data: bytes) -> tuple[tarfile.TarInfo, bytes]:
        return info, b"another secret" if info.name == "state/secret" else data

    with pytest.raises(BadBackup, match="checksum of 'state/secret'"):
        verify(rewritten(file, tmp_path, change))


def test_other_rights_under_a_right_archive_are_refused(file: Path, tmp_path: Path) -> None:
    def change(info: tarfile.TarInfo, data: bytes) -> tuple[tarfile.TarInfo, bytes]:
        info.mode = 0o777 if info.name.endswith("/nothing") else info.mode
        return info, data

    with pytest.raises(BadBackup):
        verify(rewritten(file, tmp_path, change))


@pytest.mark.parametrize(
    ("info", "why"),
    [
        (member("projects/a/b/../../../../etc/cron.d/x"), "leads elsewhere"),
        (member("/etc/passwd"), "leads elsewhere"),
        (member("etc/passwd"), "no place"),
        (member("state/../../x"), "leads elsewhere"),
        (member("projects/a/dev", tarfile.CHRTYPE), "neither file, folder nor link"),
        (member("projects/a/fifo", tarfile.FIFOTYPE), "neither file, folder nor link"),
        (member("projects/a/suid", mode=0o4755), "rights 4755"),
        (member("projects/a/sgid", mode=0o2755), "rights 2755"),
        (member("state/secret", tarfile.SYMTYPE, link="/etc/shadow"), "is no file"),
        (member("projects/a/x", tarfile.LNKTYPE, link="state/secret"), "further name"),
        (member("projects/a/x", tarfile.LNKTYPE, link="/etc/shadow"), "further name"),
        (member("projects/a/b/home/x"), "no folder"),
        (member("state/secret"), "twice"),
        (member("backup.json"), "twice"),
    ],
    ids=lambda value: value.name if isinstance(value, tarfile.TarInfo) else "",
)
def test_members_that_lead_elsewhere_are_refused(
    file: Path, tmp_path: Path, info: tarfile.TarInfo, why: str
) -> None:
    changed = rewritten(file, tmp_path, lambda found, data: (found, data), [info])
    with pytest.raises(BadBackup, match=why):
        verify(changed)


def test_a_file_below_a_link_is_refused(file: Path, tmp_path: Path) -> None:
    link = member("projects/a/b", tarfile.SYMTYPE, link="/etc")
    changed = rewritten(file, tmp_path, lambda i, d: (i, d), [link, member("projects/a/b/cron")])
    with pytest.raises(BadBackup, match="no folder"):
        verify(changed)


def test_something_else_is_refused(tmp_path: Path) -> None:
    for content in (b"", b"no backup", gzip.compress(b"no tar")):
        (tmp_path / "x").write_bytes(content)
        with pytest.raises(BadBackup):
            verify(tmp_path / "x")


# -- images -------------------------------------------------------------------------------------------


def test_missing_images_can_be_queued_for_the_next_start(
    place: OnDisk, elsewhere: OnDisk, file: Path
) -> None:
    plan = decide(file, elsewhere)
    assert {each.action for each in plan.images} == {"build"}
    asyncio.run(restoring.carry_out(plan))
    ids = [each.view.image_id for each in plan.images]
    left = asyncio.run(restored_images.queue(elsewhere.settings, "linux/amd64", ids))
    assert left == []
    assert (
        elsewhere.rows("SELECT state, commit FROM builds".replace("commit", '"commit"'))
        == [("queued", "0123456789abcdef0123456789abcdef01234567")] * 3
    )
    assert {row[0] for row in elsewhere.rows("SELECT image_id FROM successors")} == set(ids)
    # Once more: what waits already is not queued again.
    asyncio.run(restored_images.queue(elsewhere.settings, "linux/amd64", ids))
    assert elsewhere.rows("SELECT count(*) FROM builds") == [(3,)]


def test_images_of_another_kind_of_machine_are_not_queued(elsewhere: OnDisk, file: Path) -> None:
    carry_out(file, elsewhere)
    ids = [str(row[0]) for row in elsewhere.rows("SELECT image_id FROM images")]
    assert asyncio.run(restored_images.queue(elsewhere.settings, "linux/arm64", ids)) == ids
