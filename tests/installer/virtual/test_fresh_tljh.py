"""The installer makes a TLJH with us of a machine that has nothing: killed after each step, twice, over a
reboot, another version, and away again.

It needs what the public internet would supply in the folder that LITTLEST_BINDER_TLJH_FOLDER names, as
docs/how-to/install-offline.md describes it, and takes many minutes. The tests are one story, in this order.
"""

from __future__ import annotations

import re
import time
from collections.abc import Iterator

import pytest
from fresh_machine import CHECKOUT
from tljh_machine import (
    STATE,
    WATCHED,
    Visitor,
    files_of,
    firewall_chains,
    in_server,
    needs_folder,
    seconds,
    servers,
    services,
    settled,
    wait_until_active,
    wrong,
)
from virtual_machine import VirtualMachine, differences, offline_folder

from tljh_plugin.operation import unit
from tljh_plugin.operation.units import HUB as HUB_UNIT

pytestmark = [pytest.mark.docker, pytest.mark.hub, pytest.mark.timeout(3600), needs_folder]

STEPS = (
    "Preflight", "Debian packages", "Docker engine", "Docker client", "Docker buildx", "TLJH", "The package",
    "State and secrets", "Administrator", "Command", "Service unit", "Hub", "Proxy", "Debian base image",
    "Service", "First image", "Health check",
)  # fmt: skip
VERSION = "9.8.7"
SECRETS = (f"{STATE}/secret", f"{STATE}/instance")


@pytest.fixture(scope="module")
def fresh() -> Iterator[VirtualMachine]:
    with VirtualMachine(offline_folder()) as machine:
        yield machine


def test_killed_after_each_step_it_goes_on_from_there(
    fresh: VirtualMachine, record_property: pytest.RecordProperty
) -> None:
    options = ("--admin", "ada", "--password-file", "/root/password")
    fresh.run("sh", "-c", "umask 077; echo correct-horse >/root/password")
    begun = time.monotonic()
    for step in STEPS[:-1]:
        output = fresh.install_killed_after(step, *options)
        assert "ended with -9" in output, output
        assert "FAILED" not in output, output
    done = fresh.install(*options)
    assert done.returncode == 0, done.stdout
    assert "FAILED" not in done.stdout
    told = re.findall(r"^\[ *(\d+)/(\d+)\] (.*)", done.stdout, re.M)
    assert {int(total) for _, total, _ in told} == {len(STEPS)}
    for number, _, rest in told:
        assert rest.startswith(f"{STEPS[int(number) - 1]} "), "another step: it is to be killed, too"
    record_property("killed after each step, seconds together", round(time.monotonic() - begun))
    assert services(fresh) == ["docker", "jupyterhub", "traefik", "tljh-binder"]
    assert fresh.run("dpkg", "--audit").stdout == ""
    for place in ("/var/cache/littlest-binder", "/usr/sbin/policy-rc.d"):
        assert fresh.run("ls", "-A", place, check=False).stdout.split()[:1] in ([], ["ls:"])
    assert fresh.run("ls", "/var/lib/littlest-binder/tljh").stdout.split() == [
        "install.lock", "source", "source.sha256",
    ]  # fmt: skip


def test_the_second_run_changes_nothing(
    fresh: VirtualMachine, record_property: pytest.RecordProperty
) -> None:
    before, running = settled(fresh, *WATCHED), fresh.run("systemctl", "show", "jupyterhub", "-p", "MainPID")
    kept = files_of(fresh, *SECRETS)
    done = fresh.install("--admin", "ada")
    assert done.returncode == 0, done.stdout
    record_property("second run, seconds", seconds(done.stdout))
    assert differences(before, settled(fresh, *WATCHED)) == []
    assert files_of(fresh, *SECRETS) == kept
    assert f"http://{fresh.address}/" in done.stdout, "where to go"
    assert fresh.run("systemctl", "show", "jupyterhub", "-p", "MainPID").stdout == running.stdout


def test_secrets_are_for_root_alone(fresh: VirtualMachine) -> None:
    for path in ("/opt/tljh/state/binder/secret", "/opt/tljh/state/binder/run/service.json"):
        assert fresh.run("cat", path, user="ada", check=False).returncode != 0
    shown = fresh.run("stat", "--format", "%a %U", "/opt/tljh/state/binder/secret").stdout
    assert shown == "600 root\n"
    log = fresh.run("cat", "/var/log/littlest-binder/install.log").stdout
    assert "correct-horse" not in log


def test_the_unit_is_hardened_and_systemd_has_nothing_to_say_against_it(fresh: VirtualMachine) -> None:
    said = fresh.run("systemd-analyze", "verify", f"/etc/systemd/system/{unit.NAME}", check=False).stdout
    assert unit.NAME not in said, said
    for line in ("NoNewPrivileges=yes", "ProtectSystem=full", "KillMode=mixed", "PrivateTmp=no"):
        assert line in fresh.run("systemctl", "show", unit.NAME).stdout.splitlines()


def test_a_person_signs_in_and_a_server_survives_reload_and_restart(fresh: VirtualMachine) -> None:
    ada = Visitor(fresh, "ada", "correct-horse")
    ada.start_plain("one")
    running = servers(fresh)
    assert len(running) == 1
    for command in (("tljh-config", "reload"), ("systemctl", "restart", unit.NAME)):
        fresh.run(*command)
        ada.wait_for("one")
        assert servers(fresh) == running, command
    deadline = time.monotonic() + 120
    while "tljh-binder" not in services(fresh) or ada.http.get("/services/binder/").status_code != 200:
        assert time.monotonic() < deadline
        time.sleep(0.3)


def test_the_doctor_finds_nothing_wrong_and_names_what_was_stopped(fresh: VirtualMachine) -> None:
    assert wrong(fresh) == {}
    fresh.run("systemctl", "stop", unit.NAME)
    try:
        assert set(wrong(fresh)) == {"service"}
    finally:
        fresh.run("systemctl", "start", unit.NAME)
    listed = fresh.run("littlest-binder", "doctor", "firewall").stdout.splitlines()
    in_kernel = [line for line in firewall_chains(fresh) if line.startswith("-A LB-")]
    assert in_kernel
    assert {line.split(None, 1)[1] for line in listed if " -A LB-" in line} >= set(in_kernel)


def test_a_setting_of_tljh_config_holds_after_a_reload(fresh: VirtualMachine) -> None:
    fresh.run("tljh-config", "set", "binder.servers.memory_bytes", "700MiB")
    fresh.run("tljh-config", "reload")
    ada = Visitor(fresh, "ada", "correct-horse")
    before = servers(fresh)
    ada.start_plain("small")
    [server] = set(servers(fresh)) - set(before)
    shown = fresh.run("docker", "inspect", "--format", "{{.HostConfig.Memory}}", server).stdout
    assert int(shown) == 700 * 1024**2
    ada.stop("small")
    # What only the service reads: policies at once, all else when the hub hands it over.
    number = fresh.run("systemctl", "show", "-p", "MainPID", unit.NAME).stdout
    fresh.run("tljh-config", "add-item", "binder.policy.blocked_hosts", "git.example.org")
    link = "/services/binder/v2/git/https%3A%2F%2Fgit.example.org%2Fa%2Fb/main"
    assert "is blocked here" in ada.http.get(link).text
    fresh.run("tljh-config", "set", "binder.build.concurrent", "3")
    fresh.run("tljh-config", "reload")
    deadline = time.monotonic() + 60
    while "beginning anew" not in fresh.run("journalctl", "--no-pager", "-u", unit.NAME).stdout:
        assert time.monotonic() < deadline
        time.sleep(0.3)
    assert fresh.run("systemctl", "show", "-p", "MainPID", unit.NAME).stdout == number
    for key in ("servers.memory_bytes", "policy.blocked_hosts", "build.concurrent"):
        fresh.run("tljh-config", "unset", f"binder.{key}")
    fresh.run("tljh-config", "reload")


def test_it_comes_back_after_a_reboot_with_everybodys_files(fresh: VirtualMachine) -> None:
    [server] = servers(fresh)
    in_server(fresh, server, "echo mine >~/mine.txt")
    fresh.reboot()
    wait_until_active(fresh)
    ada = Visitor(fresh, "ada", "correct-horse")
    ada.start_plain("one")
    [server] = servers(fresh)
    assert in_server(fresh, server, "cat ~/mine.txt") == "mine\n"
    done = fresh.install()
    assert done.returncode == 0, done.stdout
    assert "restarted" not in done.stdout


def test_servers_answer_all_the_time_while_hub_service_and_version_change(
    fresh: VirtualMachine, soak: bool, record_property: pytest.RecordProperty
) -> None:
    # A person may have 20, of which another test made the first.
    names = ["one", *(f"s{number}" for number in range(1, 20 if soak else 2))]
    ada = Visitor(fresh, "ada", "correct-horse")
    for name in names:
        ada.start_plain(name)
    running = servers(fresh)
    newer = another_version(fresh)
    with ada.asking(names) as asked:
        for command in (
            ("tljh-config", "reload"),
            ("systemctl", "restart", unit.NAME),
            ("littlest-binder", "upgrade", newer, "--yes"),
        ):
            before = asked.total
            done = fresh.run(*command)
            asked.once_more()
            assert asked.failed == [], command
            record_property(f"answers during {' '.join(command[:2])}", asked.total - before)
    assert f"Restarting {HUB_UNIT}" in done.stdout
    record_property("servers", len(names))
    record_property("slowest answer, seconds", round(asked.slowest_s, 2))
    assert servers(fresh) == running
    assert VERSION in fresh.run("littlest-binder", "--version").stdout


def another_version(machine: VirtualMachine, version: str = VERSION) -> str:
    """A folder with the project as it might be later: the hub has to load something new."""
    folder = "/root/newer"
    machine.run("rm", "--recursive", "--force", folder)
    machine.run("cp", "--recursive", CHECKOUT, folder)
    machine.run("sed", "--in-place", f's/^__version__ = .*/__version__ = "{version}"/',
                f"{folder}/tljh_plugin/__init__.py")  # fmt: skip
    machine.run("sh", "-c", f"echo '# {version}' >>{folder}/tljh_plugin/hub.py")
    return folder


@pytest.mark.parametrize("part", ["cli/serve.py", "hub.py"])
def test_a_version_whose_service_or_hub_does_not_start_is_taken_back(
    fresh: VirtualMachine, part: str
) -> None:
    broken = another_version(fresh, "9.9.9")
    fresh.run("sh", "-c", f"echo 'raise SystemExit(3)' >>{broken}/tljh_plugin/{part}")
    running, before = servers(fresh), people_have(fresh)
    ada = Visitor(fresh, "ada", "correct-horse")
    ada.wait_for("one")
    with ada.asking(["one"]) as asked:
        done = fresh.run("littlest-binder", "upgrade", broken, "--yes", check=False)
        asked.once_more()
    assert done.returncode != 0
    assert f"version {VERSION} is back with its store as it was" in " ".join(done.stdout.split())
    assert asked.failed == []
    assert servers(fresh) == running
    assert VERSION in fresh.run("littlest-binder", "--version").stdout
    assert people_have(fresh) == before
    assert services(fresh) == ["docker", "jupyterhub", "traefik", "tljh-binder"]
    ada.start_plain("after")
    ada.stop("after")


def people_have(machine: VirtualMachine) -> set[str]:
    """Their files, and the installation's secrets."""
    return files_of(machine, f"{STATE}/projects", *SECRETS)


def test_uninstalled_it_leaves_tljh_at_work_and_everybodys_files(fresh: VirtualMachine) -> None:
    kept = people_have(fresh)
    assert firewall_chains(fresh)
    refused = fresh.run("littlest-binder", "uninstall", "--yes", check=False)
    assert refused.returncode != 0, "servers run"
    assert "--stop-servers" in refused.stdout
    done = fresh.run("littlest-binder", "uninstall", "--yes", "--stop-servers", check=False)
    assert done.returncode == 0, done.stdout
    assert servers(fresh) == []
    assert firewall_chains(fresh) == []
    assert people_have(fresh) == kept
    assert services(fresh) == ["docker", "jupyterhub", "traefik"]
    assert fresh.run("ls", f"/etc/systemd/system/{unit.NAME}", check=False).returncode != 0
