"""Files from before are handed over: those of the old user, once, and nothing that links lead to."""

from __future__ import annotations

import asyncio
import os
import stat
import subprocess
from pathlib import Path
from typing import Any

import pytest

from tljh_plugin.accounts import Identity
from tljh_plugin.engine import ContainerRow
from tljh_plugin.errors import ProjectFailed, ProjectInUse
from tljh_plugin.projects import child, owning
from tljh_plugin.projects.owning import HandedOver, choose_former, hand_over, refuse_if_open
from tljh_plugin.settings import Settings, from_mapping

OLD, NEW = Identity(4321, 4322), Identity(5432, 5433, (77,))
STRANGER = 6543

root_only = pytest.mark.skipif(os.geteuid() != 0, reason="gives files to others")


@pytest.fixture
def home(tmp_path: Path) -> Path:
    """A home of the old user with a file in it, below a folder into which that user cannot look."""
    made = tmp_path / "ours" / "home"
    made.mkdir(parents=True)
    (tmp_path / "ours").chmod(0o700)
    (made / "file").write_text("x")
    return made


def give(home: Path, to: Identity = OLD) -> None:
    for folder, folders, files in os.walk(home):
        for name in [".", *folders, *files]:
            os.chown(Path(folder) / name, to.uid, to.gid, follow_symlinks=False)


def done(home: Path) -> HandedOver:
    return asyncio.run(hand_over(home, OLD, NEW))


def owner(path: Path) -> tuple[int, int]:
    facts = path.lstat()
    return facts.st_uid, facts.st_gid


def is_new(*paths: Path) -> bool:
    return all(owner(path) == (NEW.uid, NEW.gid) for path in paths)


@root_only
def test_everything_of_the_old_user_is_the_new_ones_with_its_rights_and_times(home: Path) -> None:
    (home / "a" / "b").mkdir(parents=True)
    (home / "a" / "b" / "program").write_text("x")
    (home / "a" / "b" / "program").chmod(0o750)
    os.utime(home / "a" / "b" / "program", ns=(1, 2))
    (home / "a" / "link").symlink_to("b")
    os.mkfifo(home / "a" / "fifo")
    give(home)
    os.chown(home / "file", OLD.uid, 77)
    (home / "a" / "b").chmod(0)  # its user has closed it
    (home / "file").chmod(0)
    assert done(home) == HandedOver(7, 0, 0)
    assert is_new(home, home / "a", home / "a" / "b", home / "a" / "link", home / "a" / "fifo")
    assert owner(home / "file") == (NEW.uid, 77), "another group is another group"
    assert stat.S_IMODE((home / "a" / "b").stat().st_mode) == 0
    program = home / "a" / "b" / "program"
    assert is_new(program)
    assert (stat.S_IMODE(program.stat().st_mode), program.stat().st_mtime_ns) == (0o750, 2)
    assert done_nothing(home)


def done_nothing(home: Path) -> bool:
    return done(home).changed == 0


@root_only
def test_what_links_lead_to_is_left_alone(home: Path, tmp_path: Path) -> None:
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "file").write_text("x")
    give(outside)
    (home / "to-folder").symlink_to(outside)
    (home / "to-file").symlink_to(outside / "file")
    give(home)
    assert done(home).changed == 4
    assert owner(outside) == owner(outside / "file") == (OLD.uid, OLD.gid)
    assert is_new(home / "to-folder", home / "to-file")


@root_only
def test_a_file_with_a_name_elsewhere_is_left_alone_whosever_it_is(home: Path, tmp_path: Path) -> None:
    give(home)
    for name, uid in (("roots", 0), ("strangers", STRANGER), ("old-users", OLD.uid)):
        (tmp_path / name).write_text("not the person's")
        os.chown(tmp_path / name, uid, uid)
        os.link(tmp_path / name, home / name)
    assert done(home) == HandedOver(2, 2, 1)
    assert owner(tmp_path / "roots") == (0, 0)
    assert owner(tmp_path / "strangers") == (STRANGER, STRANGER)
    assert owner(tmp_path / "old-users") == (OLD.uid, OLD.uid)


@root_only
def test_a_file_with_all_its_names_inside_is_given_once(home: Path) -> None:
    (home / "z").mkdir()
    os.link(home / "file", home / "z" / "again")
    os.link(home / "file", home / "third")
    give(home)
    assert done(home) == HandedOver(3, 0, 0)
    assert is_new(home / "file", home / "z" / "again")


@root_only
def test_one_that_was_broken_off_is_finished(home: Path) -> None:
    for number in range(20):
        (home / f"folder-{number}").mkdir()
        (home / f"folder-{number}" / "file").write_text("x")
    give(home)
    for number in range(0, 20, 3):  # as far as it came
        give(home / f"folder-{number}", NEW)
    assert asyncio.run(choose_former(settings(), "ada", home, NEW)) == OLD
    assert done(home) == HandedOver(28, 0, 0)
    assert is_new(home, *home.rglob("*"))
    assert asyncio.run(choose_former(settings(), "ada", home, NEW)) is None


@root_only
def test_one_that_ends_in_the_middle_leaves_the_folder_to_be_done(
    home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (home / "a").mkdir()
    give(home)
    whole = child.script("hand_over.py")
    stops = whole.replace("self.changed += 1", "self.changed += 1; sys.exit(9)")
    monkeypatch.setattr(child, "script", lambda name: stops)
    with pytest.raises(ProjectFailed, match="exit code 9"):
        done(home)
    assert owner(home) == (OLD.uid, OLD.gid)
    monkeypatch.setattr(child, "script", lambda name: whole)
    done(home)
    assert is_new(home, home / "a", home / "file")


@root_only
def test_one_that_was_deleted_in_the_middle_can_be_removed(
    home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    account = type("Account", (), {"pw_uid": NEW.uid, "pw_gid": NEW.gid, "pw_name": "ada"})()
    monkeypatch.setattr(owning, "account_of", lambda settings, person: account)
    (home / "a").mkdir()
    (home / "a" / "file").write_text("x")
    give(home)
    give(home / "a", NEW)
    (home / "a").chmod(0o700)
    with pytest.raises(ProjectFailed):
        asyncio.run(child.run_as_owner(home, "remove.py", 60))
    assert asyncio.run(owning.gather(settings(), "ada", home))
    assert owner(home / "a" / "file") == (OLD.uid, OLD.gid)
    assert asyncio.run(child.run_as_owner(home, "remove.py", 60))["removed"] >= 1
    assert list(home.iterdir()) == []
    assert not asyncio.run(owning.gather(settings(), "ada", home))


@root_only
def test_very_deep_folders_are_handed_over_whole(home: Path) -> None:
    folder = os.open(home, os.O_RDONLY)
    for _ in range(3000):
        os.mkdir("deeper", 0o700, dir_fd=folder)
        os.chown("deeper", OLD.uid, OLD.gid, dir_fd=folder)
        inner = os.open("deeper", os.O_RDONLY, dir_fd=folder)
        os.close(folder)
        folder = inner
    give_top = os.fstat(folder)
    assert give_top.st_uid == OLD.uid
    os.chown(home, OLD.uid, OLD.gid)
    assert done(home).changed == 3001
    assert os.fstat(folder).st_uid == NEW.uid
    os.close(folder)
    subprocess.run(["rm", "-rf", str(home)], check=True)  # Python's own way of removing it is too deep


@root_only
def test_the_child_may_change_owners_and_nothing_else(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    ask = (
        "import json; said = dict(line.split(':', 1) for line in open('/proc/self/status'));"
        "keys = ('Uid', 'Groups', 'CapEff', 'NoNewPrivs');"
        "print(json.dumps({'said': [said[key].split() for key in keys]}))"
    )
    monkeypatch.setattr(child, "script", lambda name: ask)
    give(home)
    said = asyncio.run(child.run_as_owner(home, "any", 60, give=True))["said"]
    assert said == [[str(OLD.uid)] * 4, [], ["0000000000000005"], ["1"]]


@root_only
def test_a_link_in_place_of_the_folder_is_refused(home: Path, tmp_path: Path) -> None:
    give(home)
    (tmp_path / "link").symlink_to(home)
    with pytest.raises(ProjectFailed):
        done(tmp_path / "link")
    assert owner(home) == (OLD.uid, OLD.gid)


# -- from whom ----------------------------------------------------------------------------------------


def settings(**more: Any) -> Settings:
    section = {"servers": {"uid": OLD.uid, "gid": OLD.gid, **more}}
    return from_mapping(section, platform="jupyterhub", state_dir=Path("/state"))


@root_only
def test_a_strangers_folder_is_refused_with_the_command(home: Path) -> None:
    os.chown(home, STRANGER, STRANGER)
    with pytest.raises(ProjectFailed, match=f"--from={STRANGER} {NEW.uid}:{NEW.gid} {home}"):
        asyncio.run(choose_former(settings(), "ada", home, NEW))


@root_only
def test_the_way_back_is_from_the_persons_own_account(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    account = type("Account", (), {"pw_uid": NEW.uid, "pw_gid": NEW.gid, "pw_name": "ada"})()
    monkeypatch.setattr(owning, "account_of", lambda settings, person: account if person == "ada" else None)
    give(home, NEW)
    found = asyncio.run(choose_former(settings(), "ada", home, OLD))
    assert found is not None
    assert (found.uid, found.gid) == (NEW.uid, NEW.gid)
    with pytest.raises(ProjectFailed):
        asyncio.run(choose_former(settings(), "bob", home, OLD))


def test_a_folder_that_is_not_there_is_nobodys(tmp_path: Path) -> None:
    assert asyncio.run(choose_former(settings(), "ada", tmp_path / "none", NEW)) is None


def test_nothing_is_handed_over_while_a_container_has_it_open() -> None:
    def container(source: str, state: str = "running") -> ContainerRow:
        return ContainerRow("id", "one", "image", {}, state, (source,))

    home = Path("/projects/ada/p/home")
    refuse_if_open(home, [container("/projects/ada/q/home"), container("/projects/ada/p/home", "exited")])
    for source in ("/projects/ada/p/home", "/projects/ada/p/home/inside"):
        with pytest.raises(ProjectInUse, match="one has it open"):
            refuse_if_open(home, [container(source)])


def test_who_is_not_root_is_told_the_command(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 1234)
    with pytest.raises(ProjectFailed, match="chown --recursive --no-dereference --from=4321"):
        done(home)
