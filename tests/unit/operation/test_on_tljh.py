"""On TLJH the settings are a section of a file of others, and the hub's files are TLJH's."""

from __future__ import annotations

import asyncio
import os
import shutil
import sqlite3
import stat
from contextlib import closing
from pathlib import Path

import pytest
from ruamel.yaml import YAML

from tljh_plugin import handover
from tljh_plugin.engine import Engine
from tljh_plugin.errors import UpgradeFailed
from tljh_plugin.installation import ensure_state
from tljh_plugin.operation import backup, restore, restoring, uninstall, units, upgrade
from tljh_plugin.operation.backup import Wish
from tljh_plugin.operation.backup_file import verify
from tljh_plugin.operation.installed import Installed, find
from tljh_plugin.settings import from_mapping
from tljh_plugin.store import Store

CONFIG = """\
# the lab's
users:
  admin: [ann]
binder:
  # fewer on this machine
  build:
    concurrent: 1
https:
  enabled: true
"""


def tljh(folder: Path, config: str = CONFIG) -> Installed:
    """Laid out as TLJH does, after its hub was started once."""
    state, file = folder / "state" / "binder", folder / "config" / "config.yaml"
    state.mkdir(parents=True)
    file.parent.mkdir()
    file.write_text(config)
    file.chmod(0o600)
    section = (YAML(typ="safe").load(config) or {}).get("binder") or {}
    settings = from_mapping(section, platform="tljh", state_dir=state, origin=file)
    ensure_state(settings)
    handover.write(
        handover.Handover(
            platform="tljh",
            state_dir=state,
            origin=file,
            section=settings.model_dump(mode="json"),
            hub_database=str(folder / "state" / "jupyterhub.sqlite"),
            cookie_secret_file=str(folder / "state" / "jupyterhub_cookie_secret"),
        )
    )
    asyncio.run(_open(settings.store_path))
    return find(state)


async def _open(path: Path) -> None:
    await (await Store.open(path)).close()


@pytest.fixture
def here(tmp_path: Path) -> Installed:
    made = tljh(tmp_path / "one")
    folder = tmp_path / "one" / "state"
    with closing(sqlite3.connect(folder / "jupyterhub.sqlite")) as db, db:
        db.execute("CREATE TABLE users (name TEXT)")
        db.execute("INSERT INTO users VALUES ('ann')")
    (folder / "jupyterhub_cookie_secret").write_text("secret\n")
    (folder / "passwords.dbm").write_bytes(b"\0dbm")
    return made


def test_only_our_section_is_taken_and_put_back(here: Installed, tmp_path: Path) -> None:
    file = asyncio.run(backup.make(here, Wish())).file
    found = verify(file)
    assert b"fewer on this machine" in found.settings
    assert b"https" not in found.settings
    assert b"ann" not in found.settings
    there = tljh(tmp_path / "two", "# theirs\nusers:\n  admin: [bob]\nbinder:\n  build:\n    concurrent: 7\n")
    plan = restore.decide(found, there, None, "20260101T000000Z")
    asyncio.run(restoring.carry_out(plan))
    config = tmp_path / "two" / "config" / "config.yaml"
    said = YAML(typ="safe").load(config.read_text())
    assert said == {"users": {"admin": ["bob"]}, "binder": {"build": {"concurrent": 1}}}
    assert "# theirs" in config.read_text()
    assert stat.S_IMODE(config.stat().st_mode) == 0o600


def test_the_hubs_database_secret_and_passwords_come_back(here: Installed, tmp_path: Path) -> None:
    found = verify(asyncio.run(backup.make(here, Wish())).file)
    there = tljh(tmp_path / "two")
    asyncio.run(restoring.carry_out(restore.decide(found, there, None, "20260101T000000Z")))
    folder = tmp_path / "two" / "state"
    with closing(sqlite3.connect(folder / "jupyterhub.sqlite")) as db:
        assert db.execute("SELECT name FROM users").fetchall() == [("ann",)]
    assert (folder / "jupyterhub_cookie_secret").read_text() == "secret\n"
    assert (folder / "passwords.dbm").read_bytes() == b"\0dbm"


def test_uninstalling_keeps_the_section_and_erasing_takes_only_ours(
    here: Installed, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(uninstall, "LINKS", ())
    monkeypatch.setattr(units, "UNIT_FILE", tmp_path / "tljh-binder.service")
    config = here.settings_file
    assert config is not None
    before = config.read_text()

    async def run(wish: uninstall.Wish) -> None:
        engine = Engine(here.instance, base_url="unix:///nowhere/docker.sock")
        plan = await uninstall.decide(here, wish, engine)
        await uninstall.carry_out(plan, engine, lambda text: None)
        await engine.close()

    units.UNIT_FILE.write_text("[Service]\n")
    asyncio.run(run(uninstall.Wish()))
    assert config.read_text() == before
    assert not units.UNIT_FILE.exists()
    asyncio.run(run(uninstall.Wish(erase_data=True)))
    left = YAML(typ="safe").load(config.read_text())
    assert left == {"users": {"admin": ["ann"]}, "https": {"enabled": True}}
    assert not here.state_dir.exists()
    assert (tmp_path / "one" / "state" / "jupyterhub.sqlite").exists()


@pytest.fixture
def systemctl(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A machine with systemd, of which only what it is asked for is seen."""
    folder, said = tmp_path / "programs", tmp_path / "said"
    folder.mkdir()
    program = folder / "systemctl"
    program.write_text(
        f'#!/bin/sh\necho "$@" >> {said}\ncase "$*" in *broken*) echo no such unit >&2; exit 5;; esac\n'
    )
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{folder}{os.pathsep}{os.environ['PATH']}")
    monkeypatch.setattr(units, "has_systemd", lambda: shutil.which("systemctl") is not None)
    return said


def test_an_upgrade_starts_the_hub_only_if_it_has_to(
    here: Installed, systemctl: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def healthy(settings: object) -> None:
        systemctl.open("a").write("asked the service\n")

    def hub_answers(installed: Installed) -> bool:
        systemctl.open("a").write("asked the hub\n")
        return systemctl.read_text().count("asked the hub") > 1  # it takes its time

    monkeypatch.setattr(upgrade, "_healthy", healthy)
    monkeypatch.setattr(upgrade, "hub_runs", hub_answers)
    plan = upgrade.Plan(("x",), (), service_unit=True, hub_unit=True)
    for restart in (False, True):
        asyncio.run(upgrade._start(here, plan, restart, lambda text: None))
    assert systemctl.read_text().splitlines() == [
        "start tljh-binder.service", "asked the service",
        "restart jupyterhub.service", "asked the hub", "asked the hub",
        "start tljh-binder.service", "asked the service",
    ]  # fmt: skip


def test_a_hub_that_does_not_answer_makes_an_upgrade_fail(
    here: Installed, systemctl: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(upgrade, "_HUB_S", 0.0)
    plan = upgrade.Plan(("x",), (), service_unit=True, hub_unit=True)
    with pytest.raises(UpgradeFailed, match="The hub does not answer"):
        asyncio.run(upgrade._start(here, plan, True, lambda text: None))
    assert systemctl.read_text().splitlines() == ["restart jupyterhub.service"]


def test_an_upgrade_has_the_new_version_write_the_unit(
    here: Installed, systemctl: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The unit of before stayed, whatever the new version wanted of systemd."""

    async def healthy(settings: object) -> None:
        pass

    asked: list[str] = []
    monkeypatch.setattr(upgrade, "_healthy", healthy)
    monkeypatch.setattr(units, "UNIT_FILE", tmp_path / units.SERVICE)
    monkeypatch.setattr(upgrade.environment, "ask_new", asked.append)
    plan = upgrade.Plan(("x",), (), service_unit=True, hub_unit=False)
    asyncio.run(upgrade._start(here, plan, False, lambda text: None))
    assert asked == [], "there is none"
    units.UNIT_FILE.write_text("[Service]\nUser=root\n")
    asyncio.run(upgrade._start(here, plan, False, lambda text: None))
    assert len(asked) == 1
    compile(asked[0], "what runs with the new version", "exec")
    assert "operation.unit" in asked[0]
    assert systemctl.read_text().splitlines()[-1] == f"start {units.SERVICE}"


def test_what_systemd_refuses_is_said(systemctl: Path) -> None:
    with pytest.raises(Exception, match="no such unit"):
        units.run("start", "broken.service")
