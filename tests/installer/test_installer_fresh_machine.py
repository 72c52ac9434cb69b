"""The first command of the README on a machine that never saw the project.

One machine for all tests of this file, in this order: each begins where the one before has ended, as a
person's days do.
"""

from __future__ import annotations

import json
import re
import subprocess
import time
from collections.abc import Iterator
from itertools import product
from pathlib import Path

import pytest
from desktop import LINK
from fresh_machine import COMMAND, FreshMachine
from lab import BUILD_MS, FLAGS, arrive, run_the_notebook
from playwright.sync_api import sync_playwright

pytestmark = [pytest.mark.docker, pytest.mark.timeout(900)]

STATE = "/home/ada/.local/share/littlest-binder"
LOG = f"{STATE}/install.log"
STEPS = 11
# What a kill takes with it: only the installer, or all of ours at once, as a lack of memory may.
KILLED = {"installer": "^python3 installer/bootstrap.py", "all": "bootstrap.py|keeper.py|dockerd|containerd"}
PLUGIN = "/usr/local/lib/docker/cli-plugins/docker-buildx"


@pytest.fixture(scope="module")
def machine() -> Iterator[FreshMachine]:
    with FreshMachine() as machine:
        yield machine


def install(machine: FreshMachine, *options: str) -> subprocess.CompletedProcess[str]:
    return machine.run("sudo", *COMMAND, "--no-start", *options, user="ada", check=False)


def test_without_root_rights_it_says_what_to_type_and_changes_nothing(machine: FreshMachine) -> None:
    far = {"DOCKER_HOST": "tcp://far:2375"}
    done = machine.run(*COMMAND, "--port", "9000", user="ada", environment=far, check=False)
    assert done.returncode == 2
    assert "Run: sudo python3 installer/bootstrap.py desktop --port 9000" in done.stdout
    assert "tcp://far:2375" in done.stdout, "every problem is shown at once"
    assert machine.run("ls", "-A", "/home/ada/.local", check=False).returncode != 0


def test_killed_in_the_middle_of_dpkg_it_leaves_nothing_that_runs(machine: FreshMachine) -> None:
    installer = subprocess.Popen(
        machine.command("sudo", *COMMAND, "--no-start", user="ada"), stdout=subprocess.DEVNULL
    )
    machine.wait_for(LOG, "Unpacking docker.io")
    machine.run("pkill", "--signal", "KILL", "--full", "^python3 installer/bootstrap.py")
    installer.wait(timeout=120)
    deadline = time.monotonic() + 120
    while machine.processes():
        assert time.monotonic() < deadline, machine.processes()
        time.sleep(0.1)


def test_the_same_command_goes_on_from_there(machine: FreshMachine) -> None:
    done = install(machine)
    assert done.returncode == 0, done.stdout
    for step in ("Preflight", "Docker engine", "Docker buildx", "Python environment", "Debian base image"):
        assert step in done.stdout
    assert "started by us" in done.stdout
    assert "Members of group docker can act as root" in done.stdout
    assert machine.processes() == [], "Docker was started by the installer, and is stopped by it"
    assert machine.run("ls", "/usr/sbin/policy-rc.d", check=False).returncode != 0
    assert machine.run("dpkg", "--audit").stdout == ""


def test_everything_of_the_person_is_theirs(machine: FreshMachine) -> None:
    foreign = machine.run("find", "/home/ada", "!", "-user", "ada").stdout
    assert foreign == ""
    assert sorted(machine.run("ls", "-A", "/home/ada/.local/share").stdout.split()) == ["littlest-binder"]
    assert "docker" in machine.run("id", "-nG", "ada").stdout.split()
    version = machine.run("littlest-binder", "--version", user="ada").stdout
    assert "littlest-binder" in version
    assert machine.run(f"{STATE}/venv/bin/configurable-http-proxy", "--version", user="ada").stdout


def test_what_it_changed_on_the_machine_is_recorded(machine: FreshMachine) -> None:
    text = machine.run("cat", "/var/lib/littlest-binder/machine.jsonl").stdout
    changes = {(entry["what"], entry["name"]) for entry in map(json.loads, text.splitlines())}
    assert ("file", PLUGIN) in changes
    assert ("link", "/usr/local/bin/littlest-binder") in changes
    assert ("group", "docker:ada") in changes
    assert machine.run("ls", "-A", "/etc/apt/sources.list.d").stdout == ""
    assert machine.run("ls", "-A", "/var/cache/littlest-binder").stdout == ""


def test_a_second_run_installs_nothing(machine: FreshMachine) -> None:
    machine.run("truncate", "--size", "0", LOG)
    done = install(machine)
    assert done.returncode == 0, done.stdout
    log = machine.run("cat", LOG).stdout
    for installing in ("apt-get", "pip install", "npm-cli", "debootstrap --"):
        assert installing not in log


def test_a_changed_project_is_installed_again_and_nothing_else_is(machine: FreshMachine) -> None:
    machine.run("truncate", "--size", "0", LOG)
    machine.run("sh", "-c", "echo '# changed' >>/home/ada/littlest-binder/tljh_plugin/__init__.py")
    done = install(machine, "--port", "9123")
    assert done.returncode == 0, done.stdout
    assert "port 9123" in done.stdout
    log = machine.run("cat", LOG).stdout
    assert "pip install" in log
    assert "apt-get" not in log
    installed = machine.run(
        "sh", "-c", f"tail -n 1 {STATE}/venv/lib/python3*/site-packages/tljh_plugin/__init__.py"
    )
    assert installed.stdout == "# changed\n"


def test_all_that_is_missing_is_said_at_once(machine: FreshMachine) -> None:
    listening = subprocess.Popen(
        machine.command("python3", "-m", "http.server", "--bind", "127.0.0.1", "9123"),
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        deadline = time.monotonic() + 120
        while "Port 9123 is taken" not in (done := install(machine)).stdout:
            assert time.monotonic() < deadline, done.stdout
        assert done.returncode == 2
        assert "by python3 (process" in done.stdout
        assert "nothing was changed" in done.stdout
    finally:
        machine.run("pkill", "--full", "^python3 -m http.server")
        listening.wait(timeout=120)


@pytest.mark.hub
@pytest.mark.browser
def test_the_first_command_ends_in_a_browser_with_an_executed_notebook(
    machine: FreshMachine, tmp_path: Path
) -> None:
    installer = subprocess.Popen(
        machine.command("sudo", *COMMAND, "--no-browser", user="ada"),
        stdout=(tmp_path / "output").open("w"),
        stderr=subprocess.STDOUT,
    )
    link = wait_for_link(tmp_path / "output", installer)
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=machine.browser(tmp_path), args=FLAGS)
        page = browser.new_page()
        page.set_default_timeout(BUILD_MS)
        page.goto(link)
        page.locator("li.card", has_text="Example").get_by_role("link", name="Launch").click()
        page.get_by_role("button", name="Launch").click()
        arrive(page, BUILD_MS)
        run_the_notebook(page)
        browser.close()
    servers = machine.run("docker", "ps", "--format", "{{.Names}}").stdout.split()
    assert len(servers) == 1
    assert machine.run("pgrep", "--uid", "ada", "--full", "jupyterhub").stdout, "the hub runs as the person"
    machine.run("pkill", "--signal", "INT", "--full", "^python3 installer/bootstrap.py")
    assert installer.wait(timeout=120) == 0, (tmp_path / "output").read_text()
    assert machine.processes() == []


def wait_for_link(output: Path, installer: subprocess.Popen[bytes]) -> str:
    deadline = time.monotonic() + 600
    while not (found := LINK.search(output.read_text())):
        assert installer.poll() is None, output.read_text()
        assert time.monotonic() < deadline, output.read_text()
        time.sleep(0.2)
    return found[0]


def killed_after(machine: FreshMachine, number: int, what: str) -> None:
    """Run the installer and kill it when it says that its step `number` is done."""
    installer = subprocess.Popen(
        machine.command("sudo", *COMMAND, "--no-start", user="ada"),
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    assert installer.stdout is not None
    told = []
    for line in installer.stdout:
        told.append(line)
        if re.match(rf"\[ *{number}/{STEPS}\] \S.*? \d+\.\d s  (?!FAILED)", line):
            machine.run("pkill", "--signal", "KILL", "--full", KILLED[what], check=False)
            installer.wait(timeout=120)
            return
    raise AssertionError("".join(told))


def ends_in_a_working_page(machine: FreshMachine, output: Path) -> None:
    installer = subprocess.Popen(
        machine.command("sudo", *COMMAND, "--no-browser", user="ada"),
        stdout=output.open("w"),
        stderr=subprocess.STDOUT,
    )
    assert machine.page(wait_for_link(output, installer)).endswith("/services/binder/")
    machine.run("pkill", "--signal", "INT", "--full", KILLED["installer"])
    assert installer.wait(timeout=120) == 0, output.read_text()
    assert machine.processes() == []
    assert machine.run("ls", "-A", "/var/cache/littlest-binder").stdout == ""
    assert machine.run("ls", "/usr/sbin/policy-rc.d", check=False).returncode != 0
    assert machine.run("dpkg", "--audit").stdout == ""


@pytest.mark.hub
@pytest.mark.rounds(few=1, soak=1 + STEPS * len(KILLED))
def test_killed_after_each_step_and_run_again_it_ends_in_a_working_page(
    round_number: int, tmp_path: Path
) -> None:
    """The first round kills each run one step later than the one before, on one machine; each of the others
    kills once, on a machine of its own."""
    cases = [(number, what) for what, number in product(KILLED, range(1, STEPS + 1))]
    with FreshMachine() as machine:
        if round_number == 0:
            for number in range(1, STEPS + 1):
                killed_after(machine, number, "all" if number % 3 else "installer")
        else:
            killed_after(machine, *cases[round_number - 1])
        ends_in_a_working_page(machine, tmp_path / "output")
