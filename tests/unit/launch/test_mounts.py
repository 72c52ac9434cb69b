"""Which folders a person may have, and where: decided without looking at any disk."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tljh_plugin.errors import MountTargetTaken, MountUnknown, MountUnsafe
from tljh_plugin.launch.grants import Grant
from tljh_plugin.launch.host_folders import Folder
from tljh_plugin.launch.mounts import (
    Offer,
    Place,
    check_targets,
    choose,
    folder_name,
    judge,
    link_name,
    link_of,
    offers,
)
from tljh_plugin.settings import Settings, from_mapping
from tljh_plugin.wire import Person

ADA = Person(name="ada", groups=("physics",))
HOME = "/home/jovyan"


def settings(*mounts: dict[str, Any], platform: Any = "jupyterhub") -> Settings:
    given = [{"source": "/srv/data", **each} for each in mounts]
    return from_mapping({"mounts": given}, platform=platform, state_dir=Path("/state"), owner="ada")


def offer(identifier: str, target: str) -> Offer:
    return Offer(identifier, identifier, "", "/srv/data", target, read_only=True)


# -- for whom -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("mount", "meant"),
    [
        ({}, True),
        ({"people": ["ada"]}, True),
        ({"people": ["bob"]}, False),
        ({"groups": ["physics"]}, True),
        ({"groups": ["biology"]}, False),
        ({"people": ["bob"], "groups": ["physics"]}, True),
    ],
)
def test_a_mount_is_offered_to_those_for_whom_it_is_meant(mount: dict[str, Any], meant: bool) -> None:
    made = settings({"id": "lab", **mount})
    assert bool(offers(made, ADA)) is meant
    assert bool(offers(made, ADA.model_copy(update={"admin": True}))) is meant, "rights are no membership"


def test_what_is_anothers_and_what_is_nobodys_are_refused_alike() -> None:
    made = offers(settings({"id": "theirs", "people": ["bob"]}, {"id": "lab"}), ADA)
    said = []
    for each in ("theirs", "nowhere"):
        with pytest.raises(MountUnknown) as caught:
            choose(["lab", each], made)
        said.append(str(caught.value).replace(each, "…"))
    assert said[0] == said[1]
    assert "`lab`" in said[0]


def test_picked_folders_are_their_pickers_and_a_desktops_alone() -> None:
    grant = Grant(id="grant-0123456789ab", path="/home/ada/Data (old)", access="read-write")
    (found,) = offers(settings(platform="desktop"), ADA, [grant])
    assert (found.id, found.read_only, found.picked) == (grant.id, False, True)
    assert (found.target, link_of(found)) == ("/data/Data-old-0123", "Data-old")
    assert offers(settings(platform="desktop"), Person(name="bob", admin=True), [grant]) == ()
    assert offers(settings(platform="tljh"), ADA, [grant]) == ()


# -- names --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["ada", "anna.meier", "a-b_c", "ada@example.org", "x1"])
def test_a_plain_name_is_its_own_folder(name: str) -> None:
    assert folder_name(name) == name


@pytest.mark.parametrize(
    "name", ["Ada", "../etc", "a--b", ".ssh", "a/b", "", "ä", "a b", "-x", "x" * 101, "."]
)
def test_any_other_name_becomes_readable_and_a_hash(name: str) -> None:
    made = folder_name(name)
    assert made != name
    assert len(made.rpartition("--")[2]) == 16


@given(st.text(max_size=30), st.text(max_size=30))
def test_names_of_people_never_collide_and_are_never_paths(one: str, other: str) -> None:
    first, second = folder_name(one), folder_name(other)
    assert (first == second) == (one == other)
    assert first == folder_name(one)
    assert "/" not in first
    assert first not in (".", "..")
    assert not first.startswith((".", "-"))
    assert len(first) <= 100


@given(st.text(max_size=300))
def test_the_name_of_a_link_is_plain(name: str) -> None:
    made = link_name(name)
    assert made
    assert made.isascii()
    assert not made.startswith((".", "-"))
    assert not set(made) & set("/\\ \n\"'$`{}")


# -- where --------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "target",
    ["/", "/usr", "/usr/share/data", "/etc", "/home", "/srv", "/srv/venv/bin", "/srv/conda", "/opt", "/tmp",
     "/proc/self", "/dev/shm", "/var", "/run/x", "/root", HOME, f"{HOME}/data", "/my-files", "/my-files/x",
     "/srv/repository", "/srv/repository/data"],
)  # fmt: skip
def test_nothing_is_hidden_by_a_mount(target: str) -> None:
    with pytest.raises(MountTargetTaken, match=f"cannot be at {target}:") as caught:
        check_targets([offer("lab", target)], HOME, "/srv/repository", my_files=True)
    assert "target" in caught.value.next_step


@pytest.mark.parametrize(
    "target", ["/data/lab", "/data", "/mnt/x", "/media/disk", "/srv/data", "/lab", "/homes", "/optional"]
)
def test_anywhere_else_is_fine(target: str) -> None:
    check_targets([offer("lab", target)], HOME, HOME, my_files=True)


@pytest.mark.parametrize(
    ("one", "other", "fine"),
    [
        ("/data/a", "/data/b", True),
        ("/data/a", "/data/ab", True),
        ("/data/a", "/data/a", False),
        ("/data/a", "/data/a/b", False),
        ("/data/a/b", "/data/a", False),
    ],
)
def test_two_mounts_are_never_in_one_another(one: str, other: str, fine: bool) -> None:
    chosen = [offer("one", one), offer("other", other)]
    if fine:
        check_targets(chosen, HOME, HOME)
        return
    with pytest.raises(MountTargetTaken, match=r"`other`.*`one`"):
        check_targets(chosen, HOME, HOME)


# -- which folders ------------------------------------------------------------------------------------


def folder(*chain: int, kind: str = "ext4") -> Folder:
    names = [str(each) for each in chain[1:]]
    return Folder("/" + "/".join(names), tuple((1, each) for each in chain), "8:1", "/x", kind)


def place(*chain: int, below: int = 1) -> Place:
    return Place("why", "/place", tuple((1, each) for each in chain), below)


@pytest.mark.parametrize(
    ("found", "refused"),
    [
        (folder(0, 5), False),
        (folder(0, 7, 8), True),  # it is the protected one
        (folder(0, 7, 8, 9), True),  # it is in it
        (folder(0, 7), True),  # it contains it
        (folder(0), True),
        (folder(0, 7, 6), False),
        (folder(0, 3, 8), True),  # under another name
    ],
)
def test_a_protected_folder_is_not_mounted_nor_what_is_in_or_around_it(found: Folder, refused: bool) -> None:
    problem = judge(found, [place(0, 7, 8)], [])
    assert (problem is not None) is refused
    if problem:
        assert "/place" in problem.message
        assert problem.next_step


@pytest.mark.parametrize(
    ("found", "below", "refused"),
    [
        (folder(0, 4), 1, False),  # the writable folder itself cannot be swapped from within
        (folder(0, 4, 5), 1, True),
        (folder(0, 4, 5), 2, False),  # a person's own folder
        (folder(0, 4, 5, 6), 2, True),
        (folder(0, 3), 1, False),
    ],
)
def test_nothing_below_a_folder_that_servers_write_in(found: Folder, below: int, refused: bool) -> None:
    problem = judge(found, [], [place(0, 4, below=below)])
    assert isinstance(problem, MountUnsafe) is refused


def test_the_kernels_own_views_are_no_folders() -> None:
    for kind in ("proc", "sysfs", "devtmpfs", "cgroup2"):
        assert judge(folder(0, 5, kind=kind), [], []) is not None
    assert judge(folder(0, 5, kind="nfs4"), [], []) is None


def test_a_picked_folder_is_below_a_root() -> None:
    roots = [place(0, 4)]
    assert judge(folder(0, 4, 5), [], [], roots) is None
    for outside in (folder(0, 5), folder(0, 4)):
        problem = judge(outside, [], [], roots)
        assert problem is not None
        assert "mount_roots" in str(problem)
    assert judge(folder(0, 4, 5), [], [], []) is not None
