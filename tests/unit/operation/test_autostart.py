"""The autostart: a unit that systemd understands, and clear words where no systemd is."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from pathlib import Path

import pytest
from click.testing import CliRunner

from tljh_plugin.cli import group
from tljh_plugin.errors import NoUserManager, SettingsError
from tljh_plugin.operation import autostart, desktop_entries
from tljh_plugin.settings import load_desktop

PROGRAM = Path("/home/ada/.local/share/littlest-binder/venv/bin/littlest-binder")
# A user's systemd as far as we ask it: notes what it is told, and knows what is enabled and active.
SYSTEMCTL = """#!/bin/sh
echo "$*" >>"$STAND_IN/calls"
case "$2" in
    enable) touch "$STAND_IN/enabled"; [ "$3" = --now ] && touch "$STAND_IN/active" ;;
    disable) rm -f "$STAND_IN/enabled" "$STAND_IN/active" ;;
    is-enabled) [ -e "$STAND_IN/enabled" ] && echo enabled || { echo disabled; exit 1; } ;;
    is-active) [ -e "$STAND_IN/active" ] && echo active || { echo inactive; exit 3; } ;;
esac
exit 0
"""


@pytest.fixture
def no_systemd(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "bin").mkdir()
    monkeypatch.setenv("PATH", str(tmp_path / "bin"))
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path / "data"))


@pytest.fixture
def systemd(tmp_path: Path, no_systemd: None, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A stand-in's folder: its `calls`, and what is `enabled` and `active`."""
    monkeypatch.setenv("PATH", f"{tmp_path / 'bin'}:/usr/bin:/bin")
    monkeypatch.setenv("STAND_IN", str(tmp_path))
    for name, text in (("systemctl", SYSTEMCTL), ("loginctl", "#!/bin/sh\ncat $STAND_IN/linger\n")):
        (tmp_path / "bin" / name).write_text(text)
        (tmp_path / "bin" / name).chmod(0o755)
    (tmp_path / "linger").write_text("no\n")
    return tmp_path


def test_on_writes_a_unit_of_the_persons_own_and_enables_it(systemd: Path) -> None:
    done = CliRunner().invoke(group, ["autostart", "on"])
    assert done.exit_code == 0, done.output
    unit = systemd / "config/systemd/user/littlest-binder.service"
    assert str(unit) in done.output
    assert "up --no-link" in unit.read_text(), "others may read the journal"
    assert unit.stat().st_mode & 0o077 == 0, "a proxy's address may hold a password"
    calls = (systemd / "calls").read_text().splitlines()
    assert calls.index("--user daemon-reload") < calls.index("--user enable littlest-binder.service")
    assert not (systemd / "active").exists()
    assert "loginctl enable-linger" in done.output, "told"
    assert not any("linger" in each for each in calls), "not forced"


def test_it_is_started_only_when_that_is_asked_for(systemd: Path) -> None:
    assert CliRunner().invoke(group, ["autostart", "on", "--now"]).exit_code == 0
    assert (systemd / "active").exists()
    assert autostart.status() == autostart.Autostart(True, True, False, autostart.unit_path())
    (systemd / "linger").write_text("yes\n")
    shown = CliRunner().invoke(group, ["autostart", "status", "--json"])
    assert json.loads(shown.output) == {"enabled": True, "active": True, "lingering": True}
    assert "lingering is on" in CliRunner().invoke(group, ["autostart", "status"]).output


def test_off_takes_everything_back(systemd: Path) -> None:
    autostart.switch_on(PROGRAM, now=True)
    assert CliRunner().invoke(group, ["autostart", "off"]).output == "Off.\n"
    assert not autostart.unit_path().exists()
    assert not (systemd / "enabled").exists()
    assert CliRunner().invoke(group, ["autostart", "off"]).output == "It was not on.\n"


def test_the_uninstaller_takes_the_unit_with_the_menu_entry(systemd: Path) -> None:
    autostart.switch_on(PROGRAM, now=False)
    assert desktop_entries.remove(load_desktop()) == [autostart.unit_path()]
    assert not (systemd / "enabled").exists()


def test_somebody_elses_unit_of_that_name_stays(systemd: Path) -> None:
    path = autostart.unit_path()
    path.parent.mkdir(parents=True)
    path.write_text("[Service]\nExecStart=/usr/bin/true\n")
    with pytest.raises(SettingsError, match="not ours"):
        autostart.switch_on(PROGRAM, now=False)
    assert not autostart.switch_off()
    assert path.read_text() == "[Service]\nExecStart=/usr/bin/true\n"


@pytest.mark.usefixtures("no_systemd")
def test_without_systemd_it_says_so_and_what_to_do_instead() -> None:
    with pytest.raises(NoUserManager, match="no systemd") as caught:
        autostart.switch_on(PROGRAM, now=False)
    assert "littlest-binder start" in caught.value.next_step
    assert not autostart.unit_path().exists()


def test_a_systemd_that_cannot_be_reached_is_quoted(systemd: Path) -> None:
    (systemd / "bin/systemctl").write_text("#!/bin/sh\necho 'Failed to connect to bus' >&2\nexit 1\n")
    with pytest.raises(NoUserManager, match="Failed to connect to bus") as caught:
        autostart.switch_on(PROGRAM, now=False)
    assert "ssh" in caught.value.next_step
    assert not autostart.unit_path().exists()


def test_what_is_removed_without_systemd_leaves_no_file(systemd: Path) -> None:
    autostart.switch_on(PROGRAM, now=False)
    wanted = autostart.unit_path().parent / "default.target.wants" / autostart.UNIT
    wanted.parent.mkdir()
    wanted.symlink_to(autostart.unit_path())
    (systemd / "bin/systemctl").unlink()
    os.environ["PATH"] = str(systemd / "bin")
    assert autostart.switch_off()
    assert not autostart.unit_path().exists()
    assert not wanted.is_symlink()


def test_what_reaches_the_network_is_kept_and_nothing_else() -> None:
    text = autostart.unit_text(
        PROGRAM, {"https_proxy": 'http://u:p%40"s@proxy:3128', "AWS_SECRET": "no", "HTTP_PROXY": ""}
    )
    assert 'Environment="https_proxy=http://u:p%%40\\"s@proxy:3128"' in text
    assert "AWS_SECRET" not in text
    assert "HTTP_PROXY" not in text


@pytest.mark.parametrize("text", ["/a\nExecStartPre=/bin/evil/x", "/a\rb"])
def test_no_value_can_add_a_line(text: str) -> None:
    with pytest.raises(SettingsError):
        autostart.unit_text(Path(text), {})
    with pytest.raises(SettingsError):
        autostart.unit_text(PROGRAM, {"https_proxy": text})


@pytest.mark.skipif(not shutil.which("systemd-analyze"), reason="no systemd-analyze (package systemd)")
def test_systemd_finds_no_mistake_in_the_unit(tmp_path: Path) -> None:
    program = tmp_path / "a folder with 100% $HOME" / "littlest-binder"
    program.parent.mkdir()
    program.write_text("#!/bin/sh\n")
    program.chmod(0o755)
    unit = tmp_path / autostart.UNIT
    unit.write_text(autostart.unit_text(program, {"https_proxy": "http://user:p%40ss@proxy:3128"}))
    environment = {**os.environ, "XDG_RUNTIME_DIR": str(tmp_path), "HOME": str(tmp_path)}
    shown = subprocess.run(
        ["systemd-analyze", "verify", "--user", unit],
        capture_output=True,
        text=True,
        check=False,
        env=environment,
    )
    assert (shown.returncode, shown.stdout + shown.stderr) == (0, "")
    unit.write_text(unit.read_text().replace("KillMode=mixed", "KillMode=nonsense"))
    wrong = subprocess.run(
        ["systemd-analyze", "verify", "--user", unit],
        capture_output=True,
        text=True,
        check=False,
        env=environment,
    )
    assert "nonsense" in wrong.stderr, "it would have said so"
