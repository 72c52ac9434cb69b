"""As whom servers run: what is looked up, what is never given to a container, and what TLJH is asked for."""

from __future__ import annotations

import grp
import os
import pwd
import subprocess
import sys
import time
import types
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from tljh_plugin import accounts
from tljh_plugin.accounts import Group, Identity, account_name, ensure_identity, first_numbers, identity_of
from tljh_plugin.errors import AccountMissing, AccountRefused, SettingsError
from tljh_plugin.hub import configure
from tljh_plugin.settings import Settings, from_mapping

FIRST = {"UID_MIN": 1000, "GID_MIN": 1000}


def settings(platform: Any = "jupyterhub", **servers: Any) -> Settings:
    section = {"servers": {"identity": "unix", **servers}}
    return from_mapping(section, platform=platform, state_dir=Path("/state"))


def account(name: str, uid: int, gid: int, home: str = "/home/x") -> pwd.struct_passwd:
    return pwd.struct_passwd((name, "x", uid, gid, "", home, "/bin/bash"))


class System:
    """The system's name services, with what a test says."""

    def __init__(self) -> None:
        self.people: dict[str, pwd.struct_passwd] = {}
        self.groups: dict[int, str] = {}
        self.members: dict[str, list[int]] = {}

    def getpwnam(self, name: str) -> pwd.struct_passwd:
        return self.people[name]

    def getgrgid(self, gid: int) -> grp.struct_group:
        return grp.struct_group((self.groups[gid], "x", gid, []))

    def getgrouplist(self, name: str, gid: int) -> list[int]:
        return [gid, *self.members.get(name, [])]


@pytest.fixture
def system(monkeypatch: pytest.MonkeyPatch) -> System:
    made = System()
    monkeypatch.setattr(pwd, "getpwnam", made.getpwnam)
    monkeypatch.setattr(grp, "getgrgid", made.getgrgid)
    monkeypatch.setattr(os, "getgrouplist", made.getgrouplist)
    monkeypatch.setattr(accounts, "first_numbers", lambda: FIRST)
    return made


@pytest.fixture
def tljh(monkeypatch: pytest.MonkeyPatch, system: System) -> list[tuple[str, ...]]:
    """What of TLJH is used, under its own names; the list is what it was asked for."""
    asked: list[tuple[str, ...]] = []

    def ensure_user(name: str) -> None:
        asked.append(("user", name))
        if name.endswith("refused"):
            raise subprocess.CalledProcessError(3, ["useradd", name])
        system.people.setdefault(name, account(name, 1001, 1001, f"/home/{name}"))

    def ensure_user_group(name: str, group: str) -> None:
        if group == "nowhere":
            raise KeyError(group)
        asked.append(("into", name, group))

    def remove_user_group(name: str, group: str) -> None:
        asked.append(("out of", name, group))

    people = {"physics": ["ada", "bob"], "biology": ["bob"], "nowhere": ["ada"]}
    parts: dict[str, dict[str, Any]] = {
        "tljh": {},
        "tljh.normalize": {"generate_system_username": lambda name: name[:26]},
        "tljh.user": {
            "ensure_user": ensure_user,
            "ensure_user_group": ensure_user_group,
            "remove_user_group": remove_user_group,
        },
        "tljh.configurer": {"load_config": lambda: {"users": {"extra_user_groups": people}}},
    }
    for name, content in parts.items():
        module = types.ModuleType(name)
        module.__dict__.update(content)
        monkeypatch.setitem(sys.modules, name, module)
        if "." in name:
            monkeypatch.setattr(sys.modules["tljh"], name.partition(".")[2], module, raising=False)
    return asked


# -- who it is ----------------------------------------------------------------------------------------


def test_without_accounts_it_is_the_same_for_everybody(system: System) -> None:
    made = from_mapping(
        {"servers": {"uid": 1500, "gid": 1600, "groups": [7]}}, platform="tljh", state_dir=Path("/s")
    )
    assert identity_of(made, "ada") == identity_of(made, "root") == Identity(1500, 1600, (7,))
    assert ensure_identity(made, "ada", admin=True).uid == 1500, "TLJH is not asked for anything"


def test_it_is_the_account_with_its_groups_and_those_of_the_settings(system: System) -> None:
    system.people["lab-ada"] = account("lab-ada", 2001, 2001, "/home/ada")
    system.groups = {2001: "lab-ada", 3000: "physics", 27: "sudo", 998: "docker", 100: "users", 4000: "wheel"}
    system.members["lab-ada"] = [3000, 27, 998, 100, 4000, 5000]
    found = identity_of(settings(account="lab-{name}", groups=[44]), "ada")
    assert found == Identity(
        2001,
        2001,
        (44, 100, 3000, 5000),
        account="lab-ada",
        home="/home/ada",
        withheld=("sudo (27)", "docker (998)", "wheel (4000)"),
    )


@pytest.mark.parametrize(
    ("uid", "group", "reason"),
    [
        (0, Group(0, "root"), "it is root"),
        (0, Group(2000, "people"), "it is root"),
        (2000, Group(0, "root"), "root (0)"),
        (999, Group(2000, "people"), "a system account"),
        (65534, Group(2000, "people"), "nobody's"),
        (2**32 - 1, Group(2000, "people"), "nobody's"),
        (61200, Group(2000, "people"), "nobody's"),
        (2000, Group(65534, "nogroup"), "nogroup (65534)"),
        (2000, Group(27, "sudo"), "sudo (27)"),
        (2000, Group(5000, "docker"), "docker (5000)"),
        (2000, Group(999, ""), "unnamed (999)"),
        (2000, Group(2000, "people"), ""),
        (2000, Group(100, "users"), ""),
        (1_234_567_890, Group(1_234_567_890, ""), ""),  # of a directory service
    ],
)
def test_root_and_the_systems_accounts_are_refused(
    system: System, uid: int, group: Group, reason: str
) -> None:
    assert reason in accounts.judge(uid, group, FIRST)
    assert bool(accounts.judge(uid, group, FIRST)) is bool(reason)
    system.people["ada"] = account("ada", uid, group.gid)
    system.groups = {group.gid: group.name} if group.name else {}
    if not reason:
        assert identity_of(settings(), "ada").uid == uid
        return
    with pytest.raises(AccountRefused, match="No server runs as the account `ada`"):
        identity_of(settings(), "ada")


def test_the_limit_of_system_accounts_is_the_machines(tmp_path: Path) -> None:
    place = tmp_path / "login.defs"
    assert first_numbers(place) == FIRST
    place.write_text("# UID_MIN 1\nUID_MIN\t\t\t  500\nSYS_UID_MIN 101\nGID_MIN x\n")
    assert first_numbers(place) == {"UID_MIN": 500, "GID_MIN": 1000}


@pytest.mark.parametrize("name", ["nobody-has-it", "a\0b", "../root", "{name}", "{0.__class__}", "\udcff"])
def test_a_name_without_an_account_is_an_answer(name: str) -> None:
    with pytest.raises(AccountMissing, match="useradd"):
        identity_of(settings(account="lb-nobodys-{name}"), name)


def test_a_persons_name_is_never_formatted() -> None:
    assert account_name(settings(account="x-{name}"), "{name.__class__}") == "x-{name.__class__}"


# -- settings -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "pattern", ["ada", "{name}{name}", "{name!r}", "{name.x}", "{0}", "-{name}", "{name} x", "a/{name}", "{"]
)
def test_a_pattern_that_is_none_is_refused(pattern: str) -> None:
    with pytest.raises(SettingsError, match=r"servers\.account"):
        settings(account=pattern)


@pytest.mark.parametrize("pattern", ["{name}", "jupyter-{name}", "LAB\\{name}", "{name}@example.org"])
def test_patterns_of_directory_services_are_taken(pattern: str) -> None:
    assert account_name(settings(account=pattern), "ada") == pattern.replace("{name}", "ada")


def test_what_cannot_be_is_said_with_its_reason() -> None:
    with pytest.raises(SettingsError, match="on a desktop"):
        settings(platform="desktop")
    with pytest.raises(SettingsError, match=r"needs `servers\.identity: unix`"):
        settings(identity="fixed", home_mount="read-only")
    with pytest.raises(SettingsError, match="TLJH says itself"):
        settings(platform="tljh", account="{name}")
    with pytest.raises(SettingsError, match="`tljh-home`"):
        from_mapping(
            {
                "servers": {"identity": "unix", "home_mount": "read-only"},
                "mounts": [{"id": "tljh-home", "source": "/srv/x"}],
            },
            platform="tljh",
            state_dir=Path("/s"),
        )


def test_a_hub_that_is_not_root_is_told_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 1234)
    with pytest.raises(SettingsError, match="runs as user 1234"):
        configure(None, settings())


# -- TLJH ---------------------------------------------------------------------------------------------


def test_on_tljh_an_account_is_made_as_tljh_makes_it(tljh: list[tuple[str, ...]], system: System) -> None:
    made = settings("tljh")
    with pytest.raises(AccountMissing, match="`jupyter-ada`"):
        identity_of(made, "ada")
    assert tljh == [], "only a start makes accounts"
    found = ensure_identity(made, "ada")
    assert (found.uid, found.account, found.home) == (1001, "jupyter-ada", "/home/jupyter-ada")
    assert tljh == [
        ("user", "jupyter-ada"),
        ("into", "jupyter-ada", "jupyterhub-users"),
        ("into", "jupyter-ada", "physics"),
        ("out of", "jupyter-ada", "jupyterhub-admins"),
    ]


def test_accounts_are_made_one_after_the_other(tljh: list[tuple[str, ...]]) -> None:
    """As many begin at one moment as a course has people, and `useradd` locks its files."""
    from tljh import user

    working: list[str] = []
    most: list[int] = []
    ensure_user = user.ensure_user

    def slowly(name: str) -> None:
        working.append(name)
        time.sleep(0.002)
        most.append(len(working))
        ensure_user(name)
        working.remove(name)

    user.ensure_user = slowly
    with ThreadPoolExecutor(20) as pool:
        found = list(pool.map(lambda n: ensure_identity(settings("tljh"), f"person-{n}"), range(20)))
    assert {each.account for each in found} == {f"jupyter-person-{n}" for n in range(20)}
    assert max(most) == 1


def test_an_administrators_account_is_not_given_sudo_for_a_container(tljh: list[tuple[str, ...]]) -> None:
    ensure_identity(settings("tljh"), "eve", admin=True)
    assert tljh == [("user", "jupyter-eve"), ("into", "jupyter-eve", "jupyterhub-users")]


def test_names_are_those_that_tljh_makes_of_them(tljh: list[tuple[str, ...]]) -> None:
    assert account_name(settings("tljh"), "a" * 40) == "jupyter-" + "a" * 18


def test_an_account_that_cannot_be_made_is_an_answer(tljh: list[tuple[str, ...]]) -> None:
    with pytest.raises(AccountMissing, match="cannot be made"):
        ensure_identity(settings("tljh"), "refused")


def test_without_tljh_nobody_guesses_its_names(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "tljh", None)
    with pytest.raises(AccountMissing, match="Only TLJH"):
        identity_of(settings("tljh"), "ada")
