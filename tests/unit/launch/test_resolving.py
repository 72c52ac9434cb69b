"""From ids to folders of a real disk: what a form shows and what a start gets."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest

from tljh_plugin.errors import MountError, MountUnsafe, NotFound, SettingsError
from tljh_plugin.launch import grants, picking
from tljh_plugin.launch.resolving import resolve, views
from tljh_plugin.settings import Settings, from_mapping
from tljh_plugin.wire import Person

ADA = Person(name="ada")
OWNER = Person(name="root")


@pytest.fixture
def lab(tmp_path: Path) -> Path:
    base = tmp_path / "lab"
    for name in ("course", "people/ada", "shared/inside", ".keys/deep"):
        (base / name).mkdir(parents=True)
    (tmp_path / "state" / "inner").mkdir(parents=True)
    return base


def settings(lab: Path, *mounts: dict[str, Any], platform: Any = "jupyterhub", **more: Any) -> Settings:
    section = {"mounts": list(mounts), "servers": {"uid": os.geteuid() or 1000}, **more}
    state = lab.parent / "state"
    return from_mapping(section, platform=platform, state_dir=state, owner="root" if more else "")


def mount(identifier: str, source: Path | str, **more: Any) -> dict[str, Any]:
    return {"id": identifier, "source": str(source), **more}


def problem(made: Settings, person: Person = ADA, root: str = "") -> str:
    """What a form says of the one mount; the start says the same."""
    (view,) = views(made, person, root)
    if view.error is None:
        assert resolve(made, person, [view.id], root)
        return ""
    with pytest.raises(MountError) as caught:
        resolve(made, person, [view.id], root)
    assert caught.value.message == view.error.message
    return view.error.message


def test_a_mount_is_the_folder_itself(lab: Path) -> None:
    (lab.parent / "disk").symlink_to(lab)
    made = settings(lab, mount("course", lab.parent / "disk" / "course", title="The course"))
    (found,) = resolve(made, ADA, ["course"], "")
    assert (found.mount.source, found.mount.target) == (str(lab / "course"), "/data/course")
    assert found.mount.read_only
    assert found.link == "course"
    (view,) = views(made, ADA, "")
    assert (view.title, view.access, view.target, view.link) == (
        "The course",
        "read-only",
        "/data/course",
        "course",
    )


@pytest.mark.parametrize(
    "source",
    ["/", "/etc", "/etc/ssl", "/proc", "/sys", "/dev", "/dev/shm", "/run", "/var/run", "/boot", "/root",
     "/usr/share", "/bin"],
)  # fmt: skip
def test_folders_of_the_system_are_never_mounted(lab: Path, source: str) -> None:
    if not os.path.isdir(source):
        pytest.skip(f"no {source} here")
    assert "never mounted" in problem(settings(lab, mount("x", source)))


def test_our_own_state_and_dockers_folder_are_never_mounted_nor_what_is_around_them(lab: Path) -> None:
    docker = lab / "course"
    (docker / "overlay2").mkdir()
    for source, root in (
        (lab.parent / "state", ""),
        (lab.parent / "state" / "inner", ""),
        (lab.parent, ""),
        (docker, str(docker)),
        (docker / "overlay2", str(docker)),
        (lab, str(docker)),
    ):
        assert "never mounted" in problem(settings(lab, mount("x", source)), root=root), source
    storage = settings(lab, mount("x", lab / "shared"), storage={"root": str(lab / "shared" / "inside")})
    assert "people's files" in problem(storage)


def test_the_folder_of_dockers_socket_is_never_mounted_wherever_it_is(
    lab: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also where the address leads to it by a link, as Docker Desktop's does."""
    link = lab / "shared" / "link.sock"
    link.symlink_to(lab / "course" / "docker.sock")
    course = settings(lab, mount("x", lab / "course"))
    assert problem(course) == ""
    for place in (lab / "course" / "docker.sock", link):
        monkeypatch.setenv("DOCKER_HOST", f"unix://{place}")
        assert "Docker's own" in problem(course), place
        assert "Docker's own" in problem(settings(lab, mount("x", lab))), place


def test_what_is_below_a_folder_that_servers_write_in_is_refused(lab: Path) -> None:
    shared = mount("shared", lab / "shared", access="read-write", people=["bob"])
    assert "in which servers can write" in problem(
        settings(lab, shared, mount("x", lab / "shared" / "inside"))
    )
    assert problem(settings(lab, shared, mount("x", lab / "shared"))) == ""
    own = mount("own", lab / "people", access="read-write", per_person=True, people=["bob"])
    (lab / "people" / "ada" / "deep").mkdir()
    assert problem(settings(lab, own, mount("x", lab / "people" / "ada"))) == ""
    assert "can write" in problem(settings(lab, own, mount("x", lab / "people" / "ada" / "deep")))


def test_a_folder_of_each_person_is_theirs(lab: Path) -> None:
    read = settings(lab, mount("own", lab / "people", per_person=True))
    assert resolve(read, ADA, ["own"], "")[0].mount.source == str(lab / "people" / "ada")
    assert "people/bob does not exist" in problem(read, Person(name="bob"))
    written = settings(lab, mount("own", lab / "people", per_person=True, access="read-write"))
    (view,) = views(written, Person(name="bob"), "")
    assert view.error is None
    assert not (lab / "people" / "bob").exists(), "a form made a folder"
    assert resolve(written, Person(name="bob"), ["own"], "")[0].mount.source == str(lab / "people" / "bob")
    around = settings(lab, mount("own", lab.parent, per_person=True))
    assert "never mounted" in problem(around, Person(name="lab")), "a name chooses among folders of others"
    (lab / "people" / "eve").symlink_to(lab / "people" / "ada")
    assert "is a link" in problem(written, Person(name="eve"))


def test_tljhs_hub_and_docker_see_different_temporary_folders(lab: Path) -> None:
    made = settings(lab, mount("x", "/tmp"), platform="tljh")
    assert "never mounted" in problem(made)


# -- picking on a desktop -----------------------------------------------------------------------------


@pytest.fixture
def desktop(lab: Path) -> Settings:
    return settings(lab, platform="desktop", desktop={"mount_roots": [str(lab)]})


def test_a_picked_folder_is_had_by_its_id_until_it_is_let_go(desktop: Settings, lab: Path) -> None:
    grant = picking.pick(desktop, str(lab / "course"), "read-only", "")
    assert (lab.parent / "state" / "grants.json").stat().st_mode & 0o777 == 0o600
    (found,) = resolve(desktop, OWNER, [grant.id], "")
    assert (found.mount.source, found.mount.read_only) == (str(lab / "course"), True)
    again = picking.pick(desktop, str(lab / "course"), "read-write", "")
    assert again.id == grant.id
    assert not resolve(desktop, OWNER, [grant.id], "")[0].mount.read_only
    with pytest.raises(MountError):
        resolve(desktop, ADA, [grant.id], "")
    grants.remove(desktop.grants_path, grant.id)
    with pytest.raises(MountError):
        resolve(desktop, OWNER, [grant.id], "")
    with pytest.raises(NotFound):
        grants.remove(desktop.grants_path, grant.id)


def test_only_what_is_below_a_root_and_not_hidden_can_be_picked(desktop: Settings, lab: Path) -> None:
    (lab / "out").symlink_to(lab.parent / "state")
    (lab.parent / "beside").mkdir()
    for path, shown in (
        (lab, "mount_roots"),
        (lab.parent / "beside", "mount_roots"),
        (lab / "out", "is a link"),
        (lab / ".keys", "hidden"),
        (lab / ".keys" / "deep", "hidden"),
        (Path("/etc"), "never mounted"),
    ):
        with pytest.raises(MountError, match=shown):
            picking.pick(desktop, str(path), "read-only", "")


def test_a_pick_is_judged_again_at_each_start(desktop: Settings, lab: Path) -> None:
    grant = picking.pick(desktop, str(lab / "course"), "read-write", "")
    (lab / "course").rmdir()
    (lab / "course").symlink_to(lab / ".keys")
    with pytest.raises(MountUnsafe, match="is a link"):
        resolve(desktop, OWNER, [grant.id], "")
    (view,) = views(desktop, OWNER, "")
    assert view.error is not None
    elsewhere = settings(lab, platform="desktop", desktop={"mount_roots": [str(lab / "people")]})
    (lab / "course").unlink()
    (lab / "course").mkdir()
    with pytest.raises(MountUnsafe, match="mount_roots"):
        resolve(elsewhere, OWNER, [grant.id], "")


def test_what_is_listed_leads_from_a_root_to_what_can_be_picked(desktop: Settings, lab: Path) -> None:
    (lab / "file").touch()
    (lab / "link").symlink_to("/etc")
    (lab / "{braces}").mkdir()
    assert picking.beginnings(desktop, "") == [picking.Root(str(lab))]
    top = picking.browse(desktop, str(lab), "")
    assert top.names == ("course", "people", "shared")
    assert top.problem
    deeper = picking.browse(desktop, str(lab / "people"), "")
    assert (deeper.names, deeper.problem) == (("ada",), "")
    assert deeper.trail == (str(lab), str(lab / "people"))
    for path in ("/etc", str(lab.parent), str(lab / ".keys"), str(lab / "link"), str(lab / "gone")):
        with pytest.raises(MountError):
            picking.browse(desktop, path, "")


def test_a_damaged_list_of_picks_is_told_and_the_forms_go_on(desktop: Settings, lab: Path) -> None:
    desktop.grants_path.write_text("{")
    with pytest.raises(SettingsError, match="damaged"):
        resolve(desktop, OWNER, ["grant-000000000000"], "")
    assert views(desktop, OWNER, "") == ()


def test_a_root_in_which_nothing_can_be_picked_says_so_at_once(desktop: Settings) -> None:
    """Such as the home of root, who runs a desktop of their own."""
    roots = desktop.desktop.model_copy(update={"mount_roots": ("/etc", "/")})
    [system, whole] = picking.beginnings(desktop.model_copy(update={"desktop": roots}), "")
    assert (system.path, whole.path) == ("/etc", "/")
    assert "never mounted" in system.problem
    assert not whole.problem
    with pytest.raises(MountUnsafe):
        picking.browse(desktop.model_copy(update={"desktop": roots}), "/etc", "")
