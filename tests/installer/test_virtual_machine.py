"""The installer on a machine with systemd, for real: twice, killed after each step, over a reboot.

TLJH's part needs what the public internet would supply in the folder that LITTLEST_BINDER_TLJH_FOLDER names,
as docs/how-to/install-offline.md describes it; it takes many minutes. Without the folder it is reported as
not run, and the rest is: the desktop under a service manager, the service's unit beside a plain JupyterHub.
"""

from __future__ import annotations

import importlib.util
import json
import re
import subprocess
import time
from collections.abc import Iterable, Iterator
from pathlib import Path
from urllib.parse import quote

import httpx
import pytest
from askers import Askers
from fresh_machine import CHECKOUT, IMAGE, ROOT
from fresh_machine import COMMAND as DESKTOP
from running_hub import xsrf
from virtual_machine import OFFLINE, VirtualMachine, differences, offline_folder

from tljh_plugin.operation import unit
from tljh_plugin.operation.units import HUB as HUB_UNIT

pytestmark = [pytest.mark.docker, pytest.mark.hub, pytest.mark.timeout(3600)]

WATCHED = ("/etc", "/opt", "/usr/local", "/var/lib/littlest-binder")
STEPS = (
    "Preflight", "Debian packages", "Docker engine", "Docker client", "Docker buildx", "TLJH", "The package",
    "State and secrets", "Administrator", "Command", "Service unit", "Hub", "Proxy", "Debian base image",
    "Service", "First image", "Health check",
)  # fmt: skip
STATE = Path("/opt/tljh/state/binder")
PLAIN = "v2/local/" + quote(f"{STATE}/examples/plain", safe="")
CONFIG = "/opt/tljh/config/config.yaml"
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


def seconds(output: str) -> float:
    found = re.search(r"this took (\d+) s", output)
    assert found, output
    return float(found[1])


def settled(machine: VirtualMachine, *folders: str) -> list[str]:
    """What lies there, without what a hub at work, Python, or a run of the installer writes all the time."""
    moving = ("/opt/tljh/state", "install.lock", "__pycache__")
    return [line for line in machine.listing(*folders) if not any(part in line for part in moving)]


def services(machine: VirtualMachine) -> list[str]:
    """Those of ours, TLJH's and Docker's that run."""
    names = ("docker", "jupyterhub", "traefik", "tljh-binder")
    shown = machine.run("systemctl", "is-active", *names, check=False).stdout.split()
    return [name for name, state in zip(names, shown, strict=True) if state == "active"]


class Visitor:
    """Somebody at a browser elsewhere: signs in at TLJH's page, starts servers on ours."""

    def __init__(self, machine: VirtualMachine, name: str, password: str) -> None:
        self._machine, self.name = machine, name
        self.http = httpx.Client(base_url=f"http://{machine.address}", timeout=120, follow_redirects=True)
        self.http.headers.update({"Accept": "text/html", "Sec-Fetch-Mode": "navigate"})
        # TLJH's installer takes any answer of the proxy for the hub's.
        deadline = time.monotonic() + 180
        while self.http.get("/hub/login").status_code != 200:
            assert time.monotonic() < deadline, machine.run(
                "journalctl", "-u", "jupyterhub", "-n", "60"
            ).stdout
            time.sleep(0.3)
        form = {"username": name, "password": password, "_xsrf": self.http.cookies.get("_xsrf", path="/hub/")}
        answer = self.http.post("/hub/login", data=form)
        assert answer.status_code == 200, answer.text
        assert "/hub/login" not in str(answer.url), answer.text[:2000]

    def start_plain(self, server: str) -> None:
        page = self.http.get(f"/services/binder/{PLAIN}")
        assert page.status_code == 200, f"{page.status_code} {page.url} {page.text[:2000]}"
        commit = re.search(r'name="commit" value="([0-9a-f]{40})"', page.text)
        assert commit, page.text
        form = {"commit": commit[1], "files": "project", "server": server, "_xsrf": xsrf(page)}
        sent = self.http.post(f"/services/binder/{PLAIN}", data=form)
        assert sent.status_code == 200, sent.text[:2000]
        self.wait_for(server)

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


def servers(machine: VirtualMachine) -> list[str]:
    """Ids of the containers that run."""
    return sorted(machine.run("docker", "ps", "--quiet", "--no-trunc").stdout.split())


# -- a fresh machine ----------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def fresh() -> Iterator[VirtualMachine]:
    with VirtualMachine(offline_folder()) as machine:
        yield machine


@needs_folder
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
    record_property("killed after each step, seconds together", round(time.monotonic() - begun))
    assert services(fresh) == ["docker", "jupyterhub", "traefik", "tljh-binder"]
    assert fresh.run("dpkg", "--audit").stdout == ""
    for place in ("/var/cache/littlest-binder", "/usr/sbin/policy-rc.d"):
        assert fresh.run("ls", "-A", place, check=False).stdout.split()[:1] in ([], ["ls:"])
    assert fresh.run("ls", "/var/lib/littlest-binder/tljh").stdout.split() == [
        "install.lock", "source", "source.sha256",
    ]  # fmt: skip


@needs_folder
def test_the_second_run_changes_nothing(
    fresh: VirtualMachine, record_property: pytest.RecordProperty
) -> None:
    before, running = settled(fresh, *WATCHED), fresh.run("systemctl", "show", "jupyterhub", "-p", "MainPID")
    done = fresh.install("--admin", "ada")
    assert done.returncode == 0, done.stdout
    record_property("second run, seconds", seconds(done.stdout))
    assert differences(before, settled(fresh, *WATCHED)) == []
    assert fresh.run("systemctl", "show", "jupyterhub", "-p", "MainPID").stdout == running.stdout


@needs_folder
def test_secrets_are_for_root_alone(fresh: VirtualMachine) -> None:
    for path in ("/opt/tljh/state/binder/secret", "/opt/tljh/state/binder/run/service.json"):
        assert fresh.run("cat", path, user="ada", check=False).returncode != 0
    shown = fresh.run("stat", "--format", "%a %U", "/opt/tljh/state/binder/secret").stdout
    assert shown == "600 root\n"
    log = fresh.run("cat", "/var/log/littlest-binder/install.log").stdout
    assert "correct-horse" not in log


@needs_folder
def test_the_unit_is_hardened_and_systemd_has_nothing_to_say_against_it(fresh: VirtualMachine) -> None:
    said = fresh.run("systemd-analyze", "verify", f"/etc/systemd/system/{unit.NAME}", check=False).stdout
    assert unit.NAME not in said, said
    for line in ("NoNewPrivileges=yes", "ProtectSystem=full", "KillMode=mixed", "PrivateTmp=no"):
        assert line in fresh.run("systemctl", "show", unit.NAME).stdout.splitlines()


@needs_folder
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


@needs_folder
def test_it_comes_back_after_a_reboot(fresh: VirtualMachine) -> None:
    fresh.reboot()
    deadline = time.monotonic() + 180
    while len(services(fresh)) < 4:
        assert time.monotonic() < deadline, services(fresh)
        time.sleep(0.3)
    done = fresh.install()
    assert done.returncode == 0, done.stdout
    assert "restarted" not in done.stdout
    ada = Visitor(fresh, "ada", "correct-horse")
    ada.start_plain("one")


@needs_folder
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


VERSION = "9.8.7"


def another_version(machine: VirtualMachine) -> str:
    """A folder with the project as it might be later: the hub has to load something new."""
    folder = "/root/newer"
    machine.run("rm", "--recursive", "--force", folder)
    machine.run("cp", "--recursive", CHECKOUT, folder)
    machine.run("sed", "--in-place", f's/^__version__ = .*/__version__ = "{VERSION}"/',
                f"{folder}/tljh_plugin/__init__.py")  # fmt: skip
    machine.run("sh", "-c", f"echo '# {VERSION}' >>{folder}/tljh_plugin/hub.py")
    return folder


@needs_folder
@pytest.mark.skipif(
    importlib.util.find_spec("tljh_plugin.cli.uninstall") is None,
    reason="the command `uninstall` is not there",
)
def test_uninstalled_tljh_is_as_it_was(fresh: VirtualMachine) -> None:
    refused = fresh.run("littlest-binder", "uninstall", "--yes", check=False)
    assert refused.returncode != 0, "servers run"
    assert "--stop-servers" in refused.stdout
    done = fresh.run("littlest-binder", "uninstall", "--yes", "--stop-servers", check=False)
    assert done.returncode == 0, done.stdout
    assert servers(fresh) == []
    assert services(fresh) == ["docker", "jupyterhub", "traefik"]
    assert fresh.run("ls", f"/etc/systemd/system/{unit.NAME}", check=False).returncode != 0


# -- a TLJH that is there -----------------------------------------------------------------------------


@pytest.fixture(scope="module")
def old() -> Iterator[VirtualMachine]:
    """A TLJH of its own bootstrap alone, with an administrator's comments in its configuration."""
    with VirtualMachine(offline_folder()) as machine:
        bootstrap(machine)
        machine.run("sh", "-c", f"echo '# The lab of Ada, do not touch.' >>{CONFIG}")
        yield machine


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


@needs_folder
def test_an_existing_tljh_is_told_what_changes_and_asked(old: VirtualMachine) -> None:
    bob = Visitor(old, "ada", "first-word")
    bob.http.get("/hub/spawn")
    bob.wait_for("")
    before = settled(old, *WATCHED)
    done = old.install()
    assert done.returncode == 2
    for said in ("What changes for them", "containers", "How to go back", "add --yes", "1 servers run now"):
        assert said in done.stdout
    assert differences(before, settled(old, *WATCHED)) == []


@needs_folder
def test_it_only_adds(old: VirtualMachine, record_property: pytest.RecordProperty) -> None:
    config = old.run("cat", CONFIG).stdout
    environment = settled(old, "/opt/tljh/user")
    old.run("sh", "-c", "echo mine >/home/jupyter-ada/notes.txt")
    done = old.install("--yes")
    assert done.returncode == 0, done.stdout
    record_property("onto an existing TLJH, seconds", seconds(done.stdout))
    assert "Stopped servers that ran outside containers: ada" in done.stdout
    assert old.run("cat", CONFIG).stdout == config
    assert differences(environment, settled(old, "/opt/tljh/user")) == []
    assert old.run("cat", "/home/jupyter-ada/notes.txt").stdout == "mine\n"
    ada = Visitor(old, "ada", "first-word")
    ada.start_plain("one")
    assert len(servers(old)) == 1


# -- TLJH's own way, another release, and the first version ------------------------------------------------


@needs_folder
def test_tljhs_own_option_for_plugins_installs_everything() -> None:
    with VirtualMachine(offline_folder()) as machine:
        machine.run("cp", "--recursive", CHECKOUT, "/root/binder")
        bootstrap(machine, "--plugin", "/root/binder")
        log = machine.run("cat", "/opt/tljh/installer.log").stdout
        assert "not ready" not in log, log[-3000:]
        assert services(machine) == ["docker", "jupyterhub", "traefik", "tljh-binder"]
        Visitor(machine, "ada", "first-word").start_plain("one")
        assert len(servers(machine)) == 1


@needs_folder
def test_it_installs_on_debian_13(record_property: pytest.RecordProperty) -> None:
    with VirtualMachine(offline_folder(), "trixie") as machine:
        assert "trixie" in machine.run("cat", "/etc/os-release").stdout
        done = machine.install("--admin", "ada:correct-horse")
        assert done.returncode == 0, done.stdout
        record_property("Debian 13, seconds", seconds(done.stdout))
        before = settled(machine, *WATCHED)
        again = machine.install()
        assert again.returncode == 0, again.stdout
        assert differences(before, settled(machine, *WATCHED)) == []
        Visitor(machine, "ada", "correct-horse").start_plain("one")
        assert len(servers(machine)) == 1


@needs_folder
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


# -- without TLJH -------------------------------------------------------------------------------------


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
    done = plain.run("sudo", *DESKTOP, "--no-start", user="ada", check=False)
    assert done.returncode == 0, done.stdout
    assert "already running" in done.stdout
    assert plain.run("systemctl", "is-active", "docker").stdout == "active\n", "it is the machine's own"
    again = plain.run("sudo", *DESKTOP, "--no-start", user="ada", check=False)
    assert again.returncode == 0, again.stdout


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
