"""TLJH in a virtual machine of the tests: what is put there, and somebody who uses it."""

from __future__ import annotations

import json
import re
import subprocess
import time
from collections.abc import Iterable
from pathlib import Path
from typing import Any
from urllib.parse import quote

import httpx
import pytest
from askers import Askers
from fresh_machine import IMAGE
from running_hub import xsrf
from virtual_machine import OFFLINE, VirtualMachine, offline_folder

STATE = Path("/opt/tljh/state/binder")
PLAIN = "v2/local/" + quote(f"{STATE}/examples/plain", safe="")
CONFIG = "/opt/tljh/config/config.yaml"
HUB_PYTHON = "/opt/tljh/hub/bin/python3"
WATCHED = ("/etc", "/opt", "/usr", "/home", "/var/lib/littlest-binder", "/var/lib/dpkg/status")
needs_folder = pytest.mark.skipif(
    offline_folder() is None,
    reason="TLJH's part was not run: LITTLEST_BINDER_TLJH_FOLDER names no folder with TLJH's sources, see "
    "docs/how-to/install-offline.md",
)


def hand_over_base(machine: VirtualMachine) -> None:
    """The Debian root filesystem from this machine, so that nothing is bootstrapped a second time."""
    saved = subprocess.Popen(["docker", "save", IMAGE], stdout=subprocess.PIPE)
    loaded = subprocess.run(
        ["docker", "exec", "--interactive", machine.name, "docker", "load"], stdin=saved.stdout, check=False
    )
    assert (saved.wait(), loaded.returncode) == (0, 0)


def seconds(output: str, step: str = "") -> float:
    """How long the installer took by its own word, in all or for a step."""
    found = re.search(rf"(?m)^\[[ \d/]+\] {step} +([\d.]+) s" if step else r"this took (\d+) s", output)
    assert found, output
    return float(found[1])


def settled(machine: VirtualMachine, *folders: str) -> list[str]:
    """What lies below, without what a hub at work, Python, or a run of the installer writes all the time."""
    moving = ("/opt/tljh/state", "install.lock", "__pycache__")
    return [line for line in machine.listing(*folders) if not any(part in line for part in moving)]


def services(machine: VirtualMachine) -> list[str]:
    """Those of ours, TLJH's and Docker's that run."""
    names = ("docker", "jupyterhub", "traefik", "tljh-binder")
    shown = machine.run("systemctl", "is-active", *names, check=False).stdout.split()
    return [name for name, state in zip(names, shown, strict=True) if state == "active"]


def bootstrap(machine: VirtualMachine, *options: str) -> None:
    """Run TLJH's own, as its documentation says, with an administrator `ada`."""
    # pip builds where the sources lie.
    machine.run("cp", "--recursive", f"{OFFLINE}/the-littlest-jupyterhub", "/root/tljh")
    machine.run(
        "python3", "/root/tljh/bootstrap/bootstrap.py", "--admin", "ada:first-word", *options,
        environment=offline_environment(machine), timeout_s=2400,
    )  # fmt: skip


def offline_environment(machine: VirtualMachine) -> dict[str, str]:
    """The variables with which the installer runs TLJH's bootstrap in offline mode."""
    code = (
        "import json, sys; sys.path.insert(0, 'installer')\n"
        "from pathlib import Path\n"
        "from steps import offline, tljh\n"
        "folder = offline.look(Path('/offline')); offline.place_traefik(folder, tljh.HUB)\n"
        "print(json.dumps(folder.tljh_env(Path('/root/tljh'))))"
    )
    shown = machine.run("sudo", "python3", "-c", code, user="ada")
    return {str(key): str(value) for key, value in json.loads(shown.stdout).items()}


def servers(machine: VirtualMachine) -> list[str]:
    """Ids of the containers that run."""
    return sorted(machine.run("docker", "ps", "--quiet", "--no-trunc").stdout.split())


class Visitor:
    """Somebody at a browser elsewhere: signs in at TLJH's page, starts servers on ours.

    With `scheme` https whatever certificate the machine shows is taken.
    """

    def __init__(self, machine: VirtualMachine, name: str, password: str, scheme: str = "http") -> None:
        self._machine, self.name = machine, name
        self.http = httpx.Client(
            base_url=f"{scheme}://{machine.address}", timeout=120, follow_redirects=True, verify=False
        )
        self.http.headers.update({"Accept": "text/html", "Sec-Fetch-Mode": "navigate"})
        # TLJH's installer takes any answer of the proxy for the hub's.
        deadline = time.monotonic() + 180
        while not self._hub_answers():
            assert time.monotonic() < deadline, machine.run(
                "journalctl", "-u", "jupyterhub", "-n", "60"
            ).stdout
            time.sleep(0.3)
        form = {"username": name, "password": password, "_xsrf": self.http.cookies.get("_xsrf", path="/hub/")}
        answer = self.http.post("/hub/login", data=form)
        assert answer.status_code == 200, answer.text
        assert "/hub/login" not in str(answer.url), answer.text[:2000]

    def _hub_answers(self) -> bool:
        try:
            return self.http.get("/hub/login").status_code == 200
        except httpx.TransportError:
            return False

    def start_plain(self, server: str, *mounts: str, files: str = "project") -> None:
        page = self.http.get(f"/services/binder/{PLAIN}")
        assert page.status_code == 200, f"{page.status_code} {page.url} {page.text[:2000]}"
        commit = re.search(r'name="commit" value="([0-9a-f]{40})"', page.text)
        assert commit, page.text
        form: dict[str, Any] = {
            "commit": commit[1], "files": files, "server": server, "mounts": mounts, "_xsrf": xsrf(page),
        }  # fmt: skip
        sent = self.http.post(f"/services/binder/{PLAIN}", data=form)
        assert sent.status_code == 200, sent.text[:2000]
        self.wait_for(server)

    def stop(self, server: str) -> None:
        """Stop a server and forget its name."""
        self.http.get("/hub/home")
        token = {"X-XSRFToken": self.http.cookies.get("_xsrf", path="/hub/") or ""}
        place = f"/hub/api/users/{self.name}/servers/{server}"
        deadline = time.monotonic() + 120
        while True:
            answer = self.http.request("DELETE", place, json={"remove": True}, headers=token)
            if answer.status_code in (204, 404):
                return
            assert answer.status_code in (202, 400), answer.text
            assert time.monotonic() < deadline, answer.text
            time.sleep(0.3)

    def wait_for(self, server: str) -> None:
        deadline = time.monotonic() + 300
        while not self.answers(server):
            assert time.monotonic() < deadline, self._machine.run(
                "journalctl", "--no-pager", "-n", "60", "-u", "jupyterhub", "-u", "tljh-binder"
            ).stdout
            time.sleep(0.3)

    def asking(self, servers: Iterable[str]) -> Askers:
        """What asks these servers all the time from now on, as their open pages do."""
        places = [f"{self.http.base_url}/user/{self.name}/{each}/api/status" for each in servers]
        return Askers(places, self.http.cookies, "started")

    def answers(self, server: str) -> bool:
        """Whether the server itself answers, through the proxy, to who is signed in."""
        try:
            place = f"/user/{self.name}/{server}" if server else f"/user/{self.name}"
            answer = self.http.get(f"{place}/api/status")
            if answer.status_code == 403:  # only pages lead to the hub and back, and so sign in at the server
                self.http.get(f"{place}/")
                answer = self.http.get(f"{place}/api/status")
            return answer.status_code == 200 and "started" in answer.json()
        except (httpx.HTTPError, ValueError):
            return False


def files_of(machine: VirtualMachine, *folders: str) -> set[str]:
    """Every file below with its checksum, rights and owner, without what a Jupyter server that runs notes of
    itself; some of the places may not be there.
    """
    script = (
        'find "$@" -type f -not -path "*/jupyter/runtime/*" '
        '-exec sha256sum {} + -exec stat --format "%a %U:%G %n" {} + 2>/dev/null; true'
    )
    return set(machine.run("sh", "-c", script, "-", *folders).stdout.splitlines())


def packages_of(machine: VirtualMachine) -> set[str]:
    """The Python packages of the hub's environment, each `name==version`."""
    listed = machine.run(HUB_PYTHON, "-m", "pip", "list", "--format", "freeze").stdout
    return {line for line in listed.splitlines() if "==" in line}


def firewall_chains(machine: VirtualMachine) -> list[str]:
    """Lines of our rules in the kernel."""
    found = []
    for command in ("iptables-save", "ip6tables-save"):
        found += [each for each in machine.run(command, check=False).stdout.splitlines() if "LB-" in each]
    return found


def in_server(machine: VirtualMachine, server: str, command: str) -> str:
    """What a command says in the container of that id, run as whom the server runs."""
    return machine.run("docker", "exec", server, "sh", "-c", command).stdout


def wrong(machine: VirtualMachine) -> dict[str, str]:
    """What `doctor` takes for a problem, by check, each with its meaning."""
    shown = machine.run("littlest-binder", "doctor", "--json", check=False).stdout
    findings = json.loads(shown)["findings"]
    return {each["id"]: each["meaning"] for each in findings if each["status"] == "problem"}


def wait_until_active(machine: VirtualMachine) -> None:
    """Docker, the hub, its proxy and the service."""
    deadline = time.monotonic() + 180
    while len(services(machine)) < 4:
        assert time.monotonic() < deadline, services(machine)
        time.sleep(0.3)
