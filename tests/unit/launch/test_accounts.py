"""Servers as people's own accounts: their home as a mount, their own folders, and what their images lack."""

from __future__ import annotations

import os
import subprocess
import sys
import venv
from pathlib import Path
from typing import Any

import pytest

from tljh_plugin.accounts import Identity
from tljh_plugin.errors import AccountMissing, MountError, MountUnknown
from tljh_plugin.launch import accounts, resolving
from tljh_plugin.launch.mounts import check_targets
from tljh_plugin.launch.resolving import offered, resolve, views
from tljh_plugin.settings import Settings, from_mapping
from tljh_plugin.wire import MountView, Person, Prepared

ADA = Person(name="ada")
UID = 4321

root_only = pytest.mark.skipif(os.geteuid() != 0, reason="gives folders to others")


@pytest.fixture
def homes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """`homes/ada` is the home of Ada's account; nobody else has one."""
    made = tmp_path / "homes"
    (made / "ada").mkdir(parents=True)
    if os.geteuid() == 0:
        os.chown(made / "ada", UID, UID)

    def identity_of(settings: Settings, person: str) -> Identity:
        if person != "ada":
            raise AccountMissing(f"There is no account `{person}`.", "Make it.")
        return Identity(UID, UID, account="ada", home=str(made / "ada"))

    monkeypatch.setattr(resolving, "identity_of", identity_of)
    return made


def settings(
    homes: Path, *mounts: dict[str, Any], platform: Any = "jupyterhub", home_mount: str = "read-write"
) -> Settings:
    section = {"servers": {"identity": "unix", "home_mount": home_mount}, "mounts": list(mounts)}
    state = homes.parent / "state"
    state.mkdir(exist_ok=True)
    return from_mapping(section, platform=platform, state_dir=state)


def home_of(made: Settings, person: Person = ADA) -> MountView:
    return next(each for each in views(made, person, "") if each.id == made.home_mount_id)


def problem(made: Settings, person: Person = ADA) -> str:
    """What a form says of the home; the start says the same."""
    view = home_of(made, person)
    if view.error is None:
        assert resolve(made, person, [view.id], "")
        return ""
    with pytest.raises(MountError) as caught:
        resolve(made, person, [view.id], "")
    assert caught.value.message == view.error.message
    return view.error.message


# -- the home -----------------------------------------------------------------------------------------


@root_only
@pytest.mark.parametrize("access", ["read-only", "read-write"])
def test_a_persons_home_is_a_mount_that_they_may_tick(homes: Path, access: str) -> None:
    made = settings(homes, home_mount=access)
    view = home_of(made)
    assert (view.id, view.access, view.target, view.link) == ("unix-home", access, "/unix-home", "unix-home")
    assert view.default is False
    (found,) = resolve(made, ADA, ["unix-home"], "")
    assert (found.mount.source, found.mount.read_only) == (str(homes / "ada"), access == "read-only")
    check_targets([found.offer], "/home/jovyan", "/home/jovyan", my_files=True)
    assert settings(homes, platform="tljh").home_mount_id == "tljh-home"


def test_without_the_setting_there_is_none(homes: Path) -> None:
    made = settings(homes, home_mount="off")
    assert offered(made, ADA) == ()
    with pytest.raises(MountUnknown):
        resolve(made, ADA, ["unix-home"], "")


@root_only
def test_a_home_of_somebody_else_is_refused(homes: Path) -> None:
    os.chown(homes / "ada", UID + 1, UID)
    assert f"belongs to user {UID + 1}" in problem(settings(homes))
    os.chown(homes / "ada", 0, 0)
    assert "belongs to user 0" in problem(settings(homes))


@root_only
def test_a_home_that_is_a_link_of_the_person_is_refused(homes: Path, tmp_path: Path) -> None:
    (tmp_path / "else").mkdir()
    os.chown(tmp_path / "else", UID, UID)
    (homes / "ada").rmdir()
    (homes / "ada").symlink_to(tmp_path / "else")
    os.chown(homes, UID, UID)
    assert "is a link" in problem(settings(homes))


@root_only
def test_a_home_in_a_place_that_is_never_mounted_is_refused(
    homes: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = settings(homes)
    inner = made.state_dir / "home"
    inner.mkdir(parents=True)
    os.chown(inner, UID, UID)
    monkeypatch.setattr(
        resolving, "identity_of", lambda *_: Identity(UID, UID, account="ada", home=str(inner))
    )
    assert "The Littlest Binder's own" in problem(made)


def test_a_home_that_is_not_there_is_said(homes: Path) -> None:
    (homes / "ada").rmdir()
    assert "cannot be used" in problem(settings(homes))


def test_who_has_no_account_is_told_and_on_tljh_they_get_one(homes: Path) -> None:
    bob = Person(name="bob")
    view = home_of(settings(homes), bob)
    assert view.error is not None
    assert view.error.code == "account-missing"
    assert home_of(settings(homes, platform="tljh"), bob).error is None


@root_only
def test_what_lies_in_a_home_that_servers_write_in_is_no_other_mount(homes: Path) -> None:
    for name, uid in (("bob", UID + 1), ("shared", 0)):
        (homes / name / "data").mkdir(parents=True)
        os.chown(homes / name, uid, uid)
    for place, refused in (("ada/data", True), ("bob/data", True), ("shared/data", False)):
        (homes / place).mkdir(exist_ok=True)
        made = settings(homes, {"id": "x", "source": str(homes / place)})
        (view,) = [each for each in views(made, ADA, "") if each.id == "x"]
        assert bool(view.error) is refused, place
        only_read = settings(homes, {"id": "x", "source": str(homes / place)}, home_mount="read-only")
        assert all(each.error is None for each in views(only_read, ADA, "")), place


# -- folders for each person --------------------------------------------------------------------------


@root_only
def test_a_persons_folder_is_made_for_their_account_and_must_be_theirs(homes: Path, tmp_path: Path) -> None:
    (tmp_path / "scratch").mkdir()
    scratch = {"id": "s", "source": str(tmp_path / "scratch"), "access": "read-write", "per_person": True}
    made = settings(homes, scratch)
    (found,) = resolve(made, ADA, ["s"], "")
    assert os.stat(found.mount.source).st_uid == UID
    os.chown(found.mount.source, 1000, 1000)
    with pytest.raises(MountError, match="--from=1000 4321:4321"):
        resolve(made, ADA, ["s"], "")
    read_only = settings(homes, {**scratch, "access": "read-only"})
    assert resolve(read_only, ADA, ["s"], ""), "what is only read may be the administrator's"


# -- what images lack ---------------------------------------------------------------------------------

WHO = Identity(UID, UID, account="lab-ada")
PREPARED = Prepared(
    image_id="i", image_name="n", home="/home/jovyan", workdir="/home/jovyan", packages="/srv/x"
)


def test_images_get_the_name_of_the_account_and_a_home_of_its_own() -> None:
    assert accounts.environment(WHO) == {"USER": "lab-ada", "LOGNAME": "lab-ada"}
    assert list(accounts.files(WHO, PREPARED)) == ["/srv/x/littlest-binder-user-site.pth"]
    assert accounts.files(WHO, PREPARED.model_copy(update={"packages": ""})) == {}
    assert accounts.owned(WHO, PREPARED) == "/home/jovyan"
    assert accounts.owned(WHO, PREPARED.model_copy(update={"project_path": "/p"})) == ""


def test_without_accounts_images_are_as_they_were() -> None:
    everybody = Identity(1000, 1000)
    assert accounts.environment(everybody) == {}
    assert accounts.files(everybody, PREPARED) == {}
    assert accounts.owned(everybody, PREPARED) == ""


def test_a_python_environment_finds_what_is_in_the_home(tmp_path: Path) -> None:
    """The line is put into the image's environment, whatever its version of Python."""
    place = tmp_path / "venv"
    venv.create(place, symlinks=True)
    (packages,) = place.glob("lib/python3*/site-packages")
    mine = tmp_path / "home" / ".local" / "lib" / packages.parent.name / "site-packages"
    mine.mkdir(parents=True)
    (mine / "of_the_person.py").touch()

    def found(*options: str) -> bool:
        command = [str(place / "bin" / "python"), *options, "-c", "import of_the_person"]
        environment = {"HOME": str(tmp_path / "home")}
        return subprocess.run(command, env=environment, capture_output=True, check=False).returncode == 0

    assert not found(), f"{sys.version} needs nothing"
    for path, text in accounts.files(WHO, PREPARED.model_copy(update={"packages": str(packages)})).items():
        Path(path).write_text(text)
    assert found()
    assert not found("-s")
    assert not found("-I")
