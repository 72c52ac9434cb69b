"""The installer on a TLJH that its lab uses: told and asked before, only added to, people's homes at hand,
its backup at work on another machine, and as it was after the uninstaller.

The lab has HTTPS with a certificate of its own, a file of its own in the hub's configuration, and somebody at
work. As test_fresh_tljh.py, it needs a folder with what the internet would supply, and is one story.
"""

from __future__ import annotations

import re
import ssl
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from tljh_machine import (
    CONFIG,
    PLAIN,
    STATE,
    WATCHED,
    Visitor,
    bootstrap,
    files_of,
    firewall_chains,
    in_server,
    needs_folder,
    packages_of,
    seconds,
    servers,
    services,
    settled,
    wait_until_active,
)
from virtual_machine import COMMAND, OFFLINE, VirtualMachine, differences, offline_folder

pytestmark = [pytest.mark.docker, pytest.mark.hub, pytest.mark.timeout(3600), needs_folder]

LABS_OWN = "/opt/tljh/config/jupyterhub_config.d/lab.py"
NOTICE = "The lab of Ada is open until ten."
# What packages of the distribution change beside adding files.
_OF_PACKAGES = re.compile(
    r"/etc/(group|gshadow|passwd|shadow|subuid|subgid)-? |/etc/ld\.so\.cache "
    r"|/etc/(mailcap|alternatives|rc.\.d)"
)


class Before:
    """What the lab had: lines of listings, checksums, packages."""

    def __init__(self, machine: VirtualMachine, bootstrap_s: float) -> None:
        self.bootstrap_s = bootstrap_s
        self.everything = settled(machine, *WATCHED)
        self.files = self._files(machine)
        self.config = files_of(machine, "/opt/tljh/config")
        self.user_environment = settled(machine, "/opt/tljh/user")
        self.packages = packages_of(machine)
        self.home = files_of(machine, "/home/jupyter-ada")

    def missing(self, machine: VirtualMachine) -> list[str]:
        """What of all that is gone or different, but for the machine's own lists of packages' things."""
        return sorted(
            (self.files - self._files(machine))
            | (self.packages - packages_of(machine))
            | (self.home - files_of(machine, "/home/jupyter-ada"))
            | set(differences(self.user_environment, settled(machine, "/opt/tljh/user")))
        )

    def _files(self, machine: VirtualMachine) -> set[str]:
        """The machine's files and links; a folder's time changes with each file that is added."""
        lines = settled(machine, "/etc", "/usr/local")
        return {each for each in lines if each.split(" ", 2)[1] != "d" and not _OF_PACKAGES.match(each)}


@pytest.fixture(scope="module")
def old() -> Iterator[VirtualMachine]:
    with VirtualMachine(offline_folder()) as machine:
        yield machine


@pytest.fixture(scope="module")
def before(old: VirtualMachine) -> Before:
    """After TLJH's own bootstrap and a year of its administrator."""
    begun = time.monotonic()
    bootstrap(old)
    took = time.monotonic() - begun
    announced = f'c.JupyterHub.template_vars = {{"announcement": "{NOTICE}"}}'
    old.run("sh", "-c", f"echo '# The lab of Ada, do not touch.' >>{CONFIG}; echo '{announced}' >{LABS_OWN}")
    old.run(
        "openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "30", "-subj", "/CN=hub.lab",
        "-keyout", "/etc/lab.key", "-out", "/etc/lab.crt",
    )  # fmt: skip
    old.run("tljh-config", "reload")
    for key, value in (("enabled", "true"), ("tls.key", "/etc/lab.key"), ("tls.cert", "/etc/lab.crt")):
        old.run("tljh-config", "set", f"https.{key}", value)
    # The proxy alone, as TLJH has it: its hub would wait for ever for the other one.
    old.run("tljh-config", "reload", "proxy")
    ada = Visitor(old, "ada", "first-word", "https")
    ada.http.get("/hub/spawn")
    ada.wait_for("")
    old.run("sh", "-c", "cd /home/jupyter-ada && echo mine >notes.txt && chown jupyter-ada: notes.txt")
    return Before(old, took)


def certificate(machine: VirtualMachine) -> str:
    """What browsers are shown."""
    return ssl.get_server_certificate((machine.address, 443))


def test_it_tells_what_changes_and_asks(old: VirtualMachine, before: Before) -> None:
    done = old.install()
    assert done.returncode == 2
    for said in ("What changes for them", "containers", "How to go back", "add --yes", "1 servers run now"):
        assert said in done.stdout
    # At a terminal it waits for an answer.
    command = " ".join((*COMMAND, "--offline", OFFLINE))
    asked = old.run(
        "sh", "-c", f"echo n | script --quiet --return --command '{command}' /dev/null", check=False
    )
    assert asked.returncode == 2, asked.stdout
    assert "Do it? [y/N]" in asked.stdout
    assert "Nothing was changed." in asked.stdout
    assert differences(before.everything, settled(old, *WATCHED)) == []


def test_it_only_adds(old: VirtualMachine, before: Before, record_property: pytest.RecordProperty) -> None:
    shown = certificate(old)
    done = old.install("--yes")
    assert done.returncode == 0, done.stdout
    record_property("TLJH's own bootstrap, seconds", round(before.bootstrap_s))
    record_property("onto an existing TLJH, seconds", seconds(done.stdout))
    assert "Stopped servers that ran outside containers: ada" in done.stdout
    assert before.missing(old) == []
    assert before.config - files_of(old, "/opt/tljh/config") == set()
    assert certificate(old) == shown
    ada = Visitor(old, "ada", "first-word", "https")
    assert NOTICE in ada.http.get("/hub/home").text
    # The link has escaped slashes, which traefik lets pass at this entry point as well.
    assert "%2F" in PLAIN
    ada.start_plain("one")
    assert len(servers(old)) == 1
    ada.stop("one")


def test_people_find_their_homes_in_their_servers_and_files_stay_theirs(
    old: VirtualMachine, before: Before
) -> None:
    old.run("tljh-config", "set", "binder.servers.identity", "unix")
    old.run("tljh-config", "set", "binder.servers.home_mount", "read-write")
    old.run("tljh-config", "reload")
    ada = Visitor(old, "ada", "first-word", "https")
    ada.start_plain("one", "tljh-home")
    [server] = servers(old)
    assert in_server(old, server, "whoami; cat /tljh-home/notes.txt") == "jupyter-ada\nmine\n"
    in_server(old, server, "echo more >/tljh-home/new.txt; echo project >~/project.txt")
    owners = old.run("sh", "-c", "stat --format '%U %G' /home/jupyter-ada/n*.txt").stdout.splitlines()
    assert owners == ["jupyter-ada jupyter-ada"] * 2
    found = old.run("sh", "-c", f"stat --format %U {STATE}/projects/*/*/home/project.txt").stdout
    assert found == "jupyter-ada\n"


def test_its_backup_is_at_work_on_another_machine(
    old: VirtualMachine, before: Before, tmp_path: Path, record_property: pytest.RecordProperty
) -> None:
    """Debian 13, made ready by the script that `vagrant up` runs."""
    old.run("littlest-binder", "backup", "--projects", "/root/lab.tar.gz")
    old._docker("cp", f"{old.name}:/root/lab.tar.gz", str(tmp_path))
    with VirtualMachine(offline_folder(), "trixie") as new:
        assert "trixie" in new.run("cat", "/etc/os-release").stdout
        new.run("sh", "-c", "mkdir /srv/data && echo shared >/srv/data/table.csv")
        done = new.provision("ada", "/srv/data")
        assert done.returncode == 0, done.stdout
        assert "/srv/data is offered to everybody's servers" in done.stdout
        record_property("Debian 13, seconds", seconds(done.stdout))
        record_property("of these TLJH's own part", seconds(done.stdout, "TLJH"))
        listed = settled(new, *WATCHED)
        again = new.provision("ada", "/srv/data")
        assert again.returncode == 0, again.stdout
        assert differences(listed, settled(new, *WATCHED)) == []
        # The first one who signs in with the name chooses the password, as TLJH has it.
        ada = Visitor(new, "ada", "correct-horse")
        assert 'value="data"' in ada.http.get(f"/services/binder/{PLAIN}").text
        # Files of hers that are here already would stay, and those of the backup come beside them.
        ada.start_plain("first", "data", files="ephemeral")
        [server] = servers(new)
        assert in_server(new, server, "cat /data/data/table.csv") == "shared\n"
        ada.stop("first")

        new._docker("cp", str(tmp_path / "lab.tar.gz"), f"{new.name}:/root/")
        new.run("systemctl", "stop", "jupyterhub", "tljh-binder")
        done = new.run("littlest-binder", "restore", "/root/lab.tar.gz", "--yes", check=False)
        assert done.returncode == 0, done.stdout
        new.run("systemctl", "start", "jupyterhub", "tljh-binder")
        wait_until_active(new)
        ada = Visitor(new, "ada", "first-word")
        # The server of this name is known with its folders: without them she would be asked.
        ada.start_plain("one", "tljh-home")
        [server] = servers(new)
        assert in_server(new, server, "whoami; cat ~/project.txt") == "jupyter-ada\nproject\n"
        in_server(new, server, "echo again >>~/project.txt")


def test_uninstalled_it_is_as_it_was(old: VirtualMachine, before: Before) -> None:
    kept = files_of(old, f"{STATE}/projects")
    assert firewall_chains(old)
    done = old.run("littlest-binder", "uninstall", "--yes", "--stop-servers", check=False)
    assert done.returncode == 0, done.stdout
    assert servers(old) == []
    assert firewall_chains(old) == []
    assert services(old) == ["docker", "jupyterhub", "traefik"]
    assert files_of(old, f"{STATE}/projects") == kept
    assert before.missing(old) == []
    # Only the section `binder`, which its administrator wrote, is more than it was.
    assert [each for each in files_of(old, "/opt/tljh/config") ^ before.config if CONFIG not in each] == []
    assert "# The lab of Ada, do not touch." in old.run("cat", CONFIG).stdout
    assert not any("littlest-binder" in each for each in packages_of(old))
    assert [each for each in settled(old, "/etc", "/usr/local") if "binder" in each.split()[0]] == []

    old.run("tljh-config", "reload", "proxy")
    ada = Visitor(old, "ada", "first-word", "https")
    assert NOTICE in ada.http.get("/hub/home").text
    ada.http.get("/hub/spawn")
    ada.wait_for("")
    assert old.run("systemctl", "is-active", "jupyter-ada").stdout == "active\n"
    assert old.run("cat", "/home/jupyter-ada/new.txt").stdout == "more\n"
