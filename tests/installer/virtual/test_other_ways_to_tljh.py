"""TLJH's own option for plugins, and a TLJH with the first version of this plugin.

As test_fresh_tljh.py, they need a folder with what the internet would supply.
"""

from __future__ import annotations

import json
import subprocess
import time

import httpx
import pytest
from fresh_machine import CHECKOUT, ROOT
from tljh_machine import (
    CONFIG,
    STATE,
    Visitor,
    bootstrap,
    hand_over_base,
    needs_folder,
    seconds,
    servers,
    services,
)
from virtual_machine import VirtualMachine, offline_folder

from tljh_plugin.operation import unit

pytestmark = [pytest.mark.docker, pytest.mark.hub, pytest.mark.timeout(3600), needs_folder]


def test_tljhs_own_option_for_plugins_installs_everything() -> None:
    with VirtualMachine(offline_folder()) as machine:
        machine.run("cp", "--recursive", CHECKOUT, "/root/binder")
        bootstrap(machine, "--plugin", "/root/binder")
        log = machine.run("cat", "/opt/tljh/installer.log").stdout
        assert "not ready" not in log, log[-3000:]
        assert services(machine) == ["docker", "jupyterhub", "traefik", "tljh-binder"]
        Visitor(machine, "ada", "first-word").start_plain("one")
        assert len(servers(machine)) == 1


def test_the_first_version_on_tljh_becomes_this_one(record_property: pytest.RecordProperty) -> None:
    """0.1.0 had no installer for TLJH: what its administrator did by hand is done here first."""
    sources = first_version()
    if not sources:
        pytest.skip("not run: version 0.1.0 is in no history here")
    with VirtualMachine(offline_folder()) as machine:
        unpack(machine, sources, "/root/first")
        bootstrap(machine, "--plugin", "/root/first")
        hand_over_base(machine)
        by_hand(machine)
        ada = Visitor(machine, "ada", "first-word")
        ada.start_plain("one")
        running = servers(machine)
        machine.run("docker", "exec", running[0], "sh", "-c", "echo mine >~/mine.txt")
        kept = [f"{STATE}/secret", f"{STATE}/instance", CONFIG]
        before = machine.run("sha256sum", *kept).stdout
        files = machine.run("sh", "-c", f"cat {STATE}/projects/*/*/home/mine.txt").stdout
        assert files == "mine\n"

        with ada.asking(["one"]) as asked:
            refused = machine.install()
            assert refused.returncode == 2
            assert f"A service works here that {unit.NAME} did not start" in refused.stdout
            machine.run("systemctl", "stop", "own-binder")
            done = machine.install()
            assert done.returncode == 0, done.stdout
            asked.once_more()
        record_property("upgrade from 0.1.0, seconds", seconds(done.stdout))
        assert asked.failed == []
        assert servers(machine) == running
        assert machine.run("sha256sum", *kept).stdout == before
        assert machine.run("sh", "-c", f"cat {STATE}/projects/*/*/home/mine.txt").stdout == "mine\n"
        shown = json.loads(machine.run("littlest-binder", "images", "--json").stdout)
        assert "examples/plain" in json.dumps(shown), "the store's images"
        shown = machine.run("littlest-binder", "config", "show").stdout
        assert "0.7" in shown, "the setting of before"
        assert services(machine) == ["docker", "jupyterhub", "traefik", "tljh-binder"]
        ada.start_plain("two")
        assert len(servers(machine)) == 2
        seen = machine.run("docker", "exec", servers(machine)[0], "sh", "-c", "cat ~/mine.txt").stdout
        assert seen == "mine\n"


def first_version() -> bytes:
    """The files of version 0.1.0, packed; empty where git or its history is not there."""
    git = ["git", "-C", str(ROOT)]
    found = subprocess.run(
        [*git, "log", "-1", "--format=%H", '-G__version__ = "0.1.0"', "--", "tljh_plugin/__init__.py"],
        capture_output=True, text=True, check=False,
    ).stdout.strip()  # fmt: skip
    packed = subprocess.run([*git, "archive", f"{found}^"], capture_output=True, check=False)
    return packed.stdout if found and packed.returncode == 0 else b""


def unpack(machine: VirtualMachine, packed: bytes, folder: str) -> None:
    machine.run("mkdir", folder)
    command = ["docker", "exec", "--interactive", machine.name, "tar", "--extract", "--directory", folder]
    subprocess.run(command, input=packed, check=True)


def by_hand(machine: VirtualMachine) -> None:
    """buildx, a proxy that lets escaped characters pass, a setting, and a service under its own unit."""
    code = (
        "import os, sys; sys.path.insert(0, 'installer')\n"
        "from pathlib import Path\n"
        "from steps import buildx, console, hub, packages, person, site\n"
        "place = site.Site(person.Person('root', 0, 0, Path('/root')), Path('/root/state'), Path(),\n"
        "    Path(), dict(os.environ), mirror=packages.machine_mirror())\n"
        "buildx.ensure(place, console.Console(total=1).start('buildx'))\n"
        "mine = Path('/opt/tljh/config/traefik_config.d/mine.toml')\n"
        "mine.parent.mkdir(exist_ok=True)\n"
        "mine.write_text(hub.traefik_text(['http']))\n"
    )
    machine.run("sudo", "python3", "-c", code, user="ada")
    machine.run("tljh-config", "set", "binder.storage.warn_fraction", "0.7")
    machine.run("tljh-config", "reload", "proxy")
    machine.run("tljh-config", "reload")
    lay_out = (
        "import asyncio\n"
        "from pathlib import Path\n"
        "from tljh_plugin import handover\n"
        "from tljh_plugin.operation.examples import ensure_examples\n"
        f"asyncio.run(ensure_examples(handover.read(Path({str(STATE)!r})).settings()))\n"
    )
    machine.run("/opt/tljh/hub/bin/python3", "-c", lay_out)
    machine.run(
        "systemd-run", "--unit", "own-binder", "--property", "Restart=always",
        "--setenv", f"LITTLEST_BINDER_STATE={STATE}",
        "--setenv", "PATH=/opt/tljh/hub/bin:/usr/sbin:/usr/bin:/sbin:/bin",
        "/opt/tljh/hub/bin/littlest-binder", "serve",
    )  # fmt: skip
    deadline = time.monotonic() + 120
    while httpx.get(f"http://{machine.address}/services/binder/").status_code not in (200, 302):
        assert time.monotonic() < deadline, machine.run("journalctl", "-u", "own-binder", "-n", "30").stdout
        time.sleep(0.3)
