"""The unit of the service on TLJH: what it says, and that writing it twice changes nothing."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

from tljh_plugin.errors import SettingsError
from tljh_plugin.operation import unit

PYTHON = Path("/opt/tljh/hub/bin/python3")
STATE = Path("/opt/tljh/state/binder")


@pytest.fixture
def systemctl(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A systemctl that notes what it is asked; what it answers to `show` lies beside it."""
    folder = tmp_path / "bin"
    folder.mkdir()
    program = folder / "systemctl"
    program.write_text(
        f'#!/bin/sh\necho "$*" >>{tmp_path}/asked\n'
        f'case "$4" in UnitFileState) cat {tmp_path}/enabled ;; '
        f"NeedDaemonReload) cat {tmp_path}/stale ;; esac\n"
        f'[ "$1" != enable ] || echo enabled >{tmp_path}/enabled\n'
    )
    program.chmod(0o755)
    (tmp_path / "enabled").write_text("disabled\n")
    (tmp_path / "stale").write_text("no\n")
    monkeypatch.setenv("PATH", f"{folder}:/usr/bin:/bin")
    return tmp_path


def values(name: str) -> list[str]:
    text = unit.text(PYTHON, STATE).replace("\\\n", " ")
    return re.findall(rf"^{name}=(.*)$", text, re.MULTILINE)


def test_it_survives_a_reload_of_the_hub_and_a_restart_of_docker() -> None:
    text = unit.text(PYTHON, STATE)
    for tie in ("Requires", "PartOf", "BindsTo"):
        assert f"{tie}=" not in text
    assert values("Wants") == ["docker.service network-online.target"]
    assert values("After") == ["docker.service network-online.target jupyterhub.service"]


def test_builds_are_ended_by_the_service_and_not_beside_it() -> None:
    assert values("KillMode") == ["mixed"]
    assert values("Restart") == ["on-failure"]


def test_what_docker_is_handed_looks_the_same_to_both() -> None:
    text = unit.text(PYTHON, STATE)
    for hidden in ("PrivateTmp=", "PrivateDevices=", "ProtectHome=", "PrivateUsers=", "PrivateMounts="):
        assert hidden not in text


def test_git_can_be_run_as_nobody() -> None:
    """With `User=root` and NoNewPrivileges, systemd 257 drops CAP_SETUID: no service started on Debian 13."""
    assert values("User") == []


@pytest.mark.parametrize("name", ["NoNewPrivileges", "ProtectKernelModules", "RestrictNamespaces"])
def test_it_is_hardened_as_far_as_docker_allows(name: str) -> None:
    assert values(name) == ["yes"]
    assert values("RestrictAddressFamilies") == ["AF_UNIX AF_INET AF_INET6 AF_NETLINK"]


def test_the_first_time_it_is_written_and_enabled(systemctl: Path) -> None:
    made = unit.ensure(PYTHON, STATE, folder=systemctl)
    assert made == unit.Ensured(written=True, enabled=True)
    path = systemctl / unit.NAME
    assert f"ExecStart={PYTHON} -m tljh_plugin.cli serve\n" in path.read_text()
    assert path.stat().st_mode & 0o777 == 0o644
    asked = (systemctl / "asked").read_text().splitlines()
    assert asked.index("daemon-reload") < asked.index(f"enable {unit.NAME}")
    assert not [each for each in asked if each.startswith(("start", "restart"))]


def test_the_second_time_nothing_is_touched(systemctl: Path) -> None:
    unit.ensure(PYTHON, STATE, folder=systemctl)
    before = (systemctl / unit.NAME).stat().st_mtime_ns
    (systemctl / "asked").write_text("")
    assert unit.ensure(PYTHON, STATE, folder=systemctl) == unit.Ensured(written=False, enabled=False)
    assert (systemctl / unit.NAME).stat().st_mtime_ns == before
    assert "daemon-reload" not in (systemctl / "asked").read_text()


def test_a_run_that_was_killed_after_writing_is_made_good(systemctl: Path) -> None:
    (systemctl / unit.NAME).write_text(unit.text(PYTHON, STATE, folder=systemctl))
    (systemctl / "stale").write_text("yes\n")
    assert unit.ensure(PYTHON, STATE, folder=systemctl) == unit.Ensured(written=False, enabled=True)
    assert "daemon-reload" in (systemctl / "asked").read_text()


def test_a_systemd_that_refuses_is_an_error_with_its_words(systemctl: Path) -> None:
    (systemctl / "bin" / "systemctl").write_text("#!/bin/sh\necho 'no bus' >&2; exit 1\n")
    with pytest.raises(SettingsError, match="no bus"):
        unit.ensure(PYTHON, STATE, folder=systemctl)


@pytest.mark.parametrize("path", ["/a b/python3", "/a%n/python3", '/a"/python3', "/a\n[Install]/python3"])
def test_a_path_that_systemd_would_take_apart_is_refused(path: str) -> None:
    with pytest.raises(SettingsError, match="systemd unit"):
        unit.text(Path(path), STATE)


def test_as_a_module_it_prints_what_it_did(
    systemctl: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(unit.ensure, "__kwdefaults__", {"folder": systemctl})
    assert unit.main() == 0
    assert json.loads(capsys.readouterr().out) == {"written": True, "enabled": True}
