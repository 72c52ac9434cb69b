"""A machine with systemd and no TLJH: the desktop, its autostart, the unit beside a plain JupyterHub."""

from __future__ import annotations

import json
import re
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from fresh_machine import COMMAND as DESKTOP
from tljh_machine import STATE, files_of, hand_over_base, servers
from virtual_machine import VirtualMachine, differences

from tljh_plugin.operation import unit

pytestmark = [pytest.mark.docker, pytest.mark.hub, pytest.mark.timeout(3600)]

WATCHED = ("/etc", "/opt", "/usr/local", "/var/lib/littlest-binder")
_HUB_CONFIG = """\
import sys
from pathlib import Path
from tljh_plugin.hub import configure
from tljh_plugin.settings import from_mapping

configure(c, from_mapping({}, platform="tljh", state_dir=Path("/opt/tljh/state/binder")))
c.JupyterHub.hub_port = 15001
c.JupyterHub.bind_url = "http://127.0.0.1:8000"
c.JupyterHub.cleanup_servers = False
c.ConfigurableHTTPProxy.command = ["/srv/hub/venv/bin/configurable-http-proxy"]
"""
_HUB_UNIT = """\
[Service]
WorkingDirectory=/srv/hub
Environment=PATH=/srv/hub/venv/bin:/usr/sbin:/usr/bin:/sbin:/bin
ExecStart=/srv/hub/venv/bin/python3 -m jupyterhub -f /srv/hub/config.py
"""


@pytest.fixture(scope="module")
def plain() -> Iterator[VirtualMachine]:
    with VirtualMachine() as machine:
        yield machine


def test_the_desktop_installs_where_systemd_runs(plain: VirtualMachine) -> None:
    plain.run("sh", "-c", "apt-get -q update && apt-get -q -y install --no-install-recommends docker.io")
    hand_over_base(plain)
    # As on a computer with a screen, for the entry in its menu.
    done = plain.run("sudo", "DISPLAY=:0", *DESKTOP, "--no-start", user="ada", check=False)
    assert done.returncode == 0, done.stdout
    assert "already running" in done.stdout
    assert plain.run("systemctl", "is-active", "docker").stdout == "active\n", "it is the machine's own"
    again = plain.run("sudo", *DESKTOP, "--no-start", user="ada", check=False)
    assert again.returncode == 0, again.stdout


def test_autostart_runs_from_the_start_of_the_machine_on_until_it_is_switched_off(
    plain: VirtualMachine,
) -> None:
    """With a systemd of her own, which ada keeps when she is not signed in."""
    plain.run("systemctl", "unmask", "systemd-logind")
    plain.run("apt-get", "-q", "-y", "--no-install-recommends", "install", "libpam-systemd")
    plain.run("systemctl", "start", "systemd-logind")
    plain.run("loginctl", "enable-linger", "ada")
    before = plain.processes()
    shown = as_ada(plain, "littlest-binder", "autostart", "on", "--now")
    assert "and now" in shown
    assert "from the start of the machine on" in shown
    assert as_ada_soon(plain, "littlest-binder", "link").startswith("http://")
    plain.reboot()
    assert plain.page(as_ada_soon(plain, "littlest-binder", "link").split()[-1])
    running = json.loads(as_ada(plain, "littlest-binder", "autostart", "status", "--json"))
    assert running == {"enabled": True, "active": True, "lingering": True}
    said = plain.run("journalctl", "--no-pager", "_SYSTEMD_USER_UNIT=littlest-binder.service").stdout
    assert not re.search(r"code=[\w-]{10}", said), "links are for one person"
    assert as_ada(plain, "littlest-binder", "autostart", "off") == "Off.\n"
    assert servers(plain) == []
    assert sorted(each for each in plain.processes() if "littlest-binder" in each) == sorted(
        each for each in before if "littlest-binder" in each
    )
    plain.run("loginctl", "disable-linger", "ada")


def as_ada(machine: VirtualMachine, *command: str) -> str:
    """What a command says in a shell of hers."""
    number = machine.run("id", "-u", "ada").stdout.strip()
    runtime = {"XDG_RUNTIME_DIR": f"/run/user/{number}"}
    return machine.run(*command, user="ada", environment=runtime).stdout


def as_ada_soon(machine: VirtualMachine, *command: str) -> str:
    """The same, as soon as it succeeds."""
    deadline = time.monotonic() + 180
    while True:
        try:
            return as_ada(machine, *command)
        except AssertionError:
            if time.monotonic() > deadline:
                raise
        time.sleep(0.3)


def test_on_a_server_it_says_at_once_what_is_missing_and_changes_nothing(plain: VirtualMachine) -> None:
    before = plain.listing(*WATCHED)
    done = plain.install(timeout_s=120)
    assert done.returncode == 2
    assert "Add `--admin NAME`" in done.stdout
    assert differences(before, plain.listing(*WATCHED)) == []


def test_the_unit_runs_the_service_and_outlives_the_hub(plain: VirtualMachine, tmp_path: Path) -> None:
    """The desktop's environment as the hub's, on a plain JupyterHub: what TLJH would not change."""
    home = "/home/ada/.local/share/littlest-binder"
    plain.run("mkdir", "--parents", "/srv/hub")
    # Root runs nothing that a person could write.
    plain.run("sh", "-c", f"cp -a {home}/venv {home}/node /srv/hub/ && chown -R root: /srv/hub")
    plain.run("sh", "-c", f"grep -rlI {home} /srv/hub/venv/bin | xargs sed -i s:{home}:/srv/hub:g")
    for name, text in (
        ("/srv/hub/config.py", _HUB_CONFIG),
        ("/etc/systemd/system/jupyterhub.service", _HUB_UNIT),
        (f"/etc/systemd/system/{unit.NAME}", unit.text(Path("/srv/hub/venv/bin/python3"), STATE)),
    ):  # fmt: skip
        (tmp_path / "file").write_text(text)
        plain._docker("cp", str(tmp_path / "file"), f"{plain.name}:{name}")
    said = plain.run("systemd-analyze", "verify", f"/etc/systemd/system/{unit.NAME}", check=False).stdout
    assert unit.NAME not in said, said
    plain.run("systemctl", "daemon-reload")
    plain.run("systemctl", "enable", "--now", unit.NAME)
    plain.run("systemctl", "start", "jupyterhub")
    health = healthy(plain)
    assert health["engine"], health
    number = plain.run("systemctl", "show", "-p", "MainPID", unit.NAME).stdout
    plain.run("systemctl", "restart", "jupyterhub")
    plain.run("systemctl", "restart", "docker")
    assert healthy(plain)["engine"]
    assert plain.run("systemctl", "show", "-p", "MainPID", unit.NAME).stdout == number


def test_the_unit_comes_back_when_it_is_killed_and_after_a_reboot(plain: VirtualMachine) -> None:
    plain.run("systemctl", "kill", "--signal", "KILL", unit.NAME)
    assert healthy(plain)["engine"]
    plain.reboot()
    assert healthy(plain)["engine"]
    assert plain.run("systemctl", "is-enabled", unit.NAME).stdout == "enabled\n"


def healthy(machine: VirtualMachine) -> dict[str, object]:
    """What the service says of itself on its socket, as soon as it speaks and has looked at Docker."""
    deadline = time.monotonic() + 180
    while True:
        shown = machine.run(
            "curl", "--silent", "--max-time", "10", "--unix-socket", f"{STATE}/run/service.sock",
            "--header", 'Littlest-Binder-Person: {"name": "test", "admin": true}', "http://x/api/v1/health",
            check=False,
        )  # fmt: skip
        try:
            said = json.loads(shown.stdout)
        except ValueError:
            said = {}
        if said.get("engine"):
            return dict(said)
        assert time.monotonic() < deadline, machine.run(
            "journalctl", "--no-pager", "-n", "60", "-u", unit.NAME, check=False
        ).stdout
        time.sleep(0.3)


def test_the_desktops_uninstaller_leaves_files_and_docker(plain: VirtualMachine) -> None:
    home, link = "/home/ada/.local/share/littlest-binder", "/usr/local/bin/littlest-binder"
    kept = files_of(plain, f"{home}/secret", f"{home}/instance", f"{home}/config.yaml")
    menu = plain.run("find", "/home/ada/.local/share/applications", "-name", "*binder*").stdout
    assert menu, "the installer has made a menu entry"
    done = plain.run("littlest-binder", "uninstall", "--yes", user="ada")
    assert f"`sudo rm {link}` removes it" in done.stdout, "she has no right to"
    for gone in ("venv", "node", "source"):
        assert plain.run("ls", "--directory", f"{home}/{gone}", check=False).returncode != 0, gone
    assert files_of(plain, f"{home}/secret", f"{home}/instance", f"{home}/config.yaml") == kept
    assert plain.run("find", "/home/ada/.local/share/applications", "-name", "*binder*").stdout == ""
    assert plain.run("systemctl", "is-active", "docker").stdout == "active\n"
    # And back again: what stayed is used.
    again = plain.run("sudo", *DESKTOP, "--no-start", user="ada", check=False)
    assert again.returncode == 0, again.stdout
    assert files_of(plain, f"{home}/secret", f"{home}/instance", f"{home}/config.yaml") == kept
