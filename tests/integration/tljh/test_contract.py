"""TLJH itself with our plugin: its plugin manager, its configuration, its schema, its `tljh-config`, its hub.

Runs TLJH's own modules, in JupyterHub 5 as TLJH does, in a prefix of the test's own: those of an installed
`tljh`, or of the folder that LITTLEST_BINDER_TLJH_FOLDER names (`<folder>/the-littlest-jupyterhub`). Without
them these tests are skipped and say so; what holds without TLJH is in tests/unit/hub/test_hooks.py.
"""

from __future__ import annotations

import inspect
import json
import os
import signal
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from desktop import free_port
from ruamel.yaml import YAML
from running_hub import PYTHON_5
from waiting import LONG_S, until

from tljh_plugin import handover, hooks
from tljh_plugin.operation.configuration.check import check
from tljh_plugin.operation.configuration.file import find
from tljh_plugin.operation.configuration.keys import all_keys
from tljh_plugin.operation.configuration.tljh import CULL
from tljh_plugin.settings import from_mapping

FOLDER = os.environ.get("LITTLEST_BINDER_TLJH_FOLDER", "")
SOURCES = Path(FOLDER) / "the-littlest-jupyterhub" if FOLDER else None

SECTION = "binder:\n  servers:\n    idle_s: 3600\n    cpus: 1\n"


class Tljh:
    """TLJH's modules, and a prefix of their own."""

    def __init__(self, prefix: Path) -> None:
        self.prefix = prefix
        self.config = prefix / "config" / "config.yaml"
        self.later = prefix / "config" / "jupyterhub_config.d"
        self.state = prefix / "state" / "binder"
        self.later.mkdir(parents=True)
        (prefix / "state").mkdir()
        self.environment = {**os.environ, "TLJH_INSTALL_PREFIX": str(prefix), "PYTHONUNBUFFERED": "1"}
        if SOURCES is not None:
            self.environment["PYTHONPATH"] = str(SOURCES)

    def ask(self, code: str) -> Any:
        """What a program says that has TLJH's modules: its last line, as JSON."""
        done = subprocess.run(
            [str(PYTHON_5), "-c", code], env=self.environment, capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, done.stderr
        return json.loads(done.stdout.splitlines()[-1])

    def fails(self, code: str) -> str:
        """The last line of what a program says that does not end well."""
        done = subprocess.run(
            [str(PYTHON_5), "-c", code], env=self.environment, capture_output=True, text=True, check=False
        )
        assert done.returncode != 0, done.stdout
        return done.stderr.strip().splitlines()[-1]

    def configured(self) -> Any:
        """What TLJH's own jupyterhub_config.py makes of its file, as JupyterHub loads it."""
        return self.ask(LOADED)


# As `python -m jupyterhub -f …/tljh/jupyterhub_config.py` does it.
LOADED = """
import json, os, tljh
from jupyterhub.app import JupyterHub
app = JupyterHub()
app.load_config_file(os.path.join(os.path.dirname(tljh.__file__), "jupyterhub_config.py"))
c = app.config
spawner = c.JupyterHub.spawner_class
print(json.dumps({
    "services": [{k: v for k, v in each.items() if k != "api_token"} for each in c.JupyterHub.services],
    "spawner": spawner.__name__,
    "proxy": c.JupyterHub.proxy_class, "hub_port": c.JupyterHub.hub_port,
    "cleanup": c.JupyterHub.cleanup_servers, "authenticator": c.JupyterHub.authenticator_class,
    "mem_limit": c.Spawner.mem_limit, "cpus": spawner.pad.settings.servers.cpus,
    "state": str(spawner.pad.settings.state_dir), "admins": sorted(c.Authenticator.admin_users),
}))
"""


@pytest.fixture
def tljh(tmp_path: Path) -> Tljh:
    if not PYTHON_5.exists():
        pytest.skip(f"not run: {PYTHON_5} is not there (tests/run makes it)")
    made = Tljh(tmp_path / "tljh")
    there = subprocess.run(
        [str(PYTHON_5), "-c", "import tljh.configurer"],
        env=made.environment,
        capture_output=True,
        text=True,
        check=False,
    )
    if there.returncode:
        reason = (there.stderr.strip().splitlines() or ["?"])[-1]
        pytest.skip(f"not run: TLJH is not here ({reason}); LITTLEST_BINDER_TLJH_FOLDER names its sources")
    return made


# -- hooks ----------------------------------------------------------------------------------------------


def test_its_specifications_are_those_that_we_were_written_for(tljh: Tljh) -> None:
    theirs = tljh.ask(
        "import inspect, json, tljh.hooks as h\n"
        "print(json.dumps({n: list(inspect.signature(f).parameters) for n, f in vars(h).items() "
        "if n.startswith('tljh_')}))"
    )
    ours = {name: hook for name, hook in vars(hooks).items() if name.startswith("tljh_")}
    assert ours
    for name, hook in ours.items():
        assert name in theirs
        assert set(inspect.signature(hook).parameters) <= set(theirs[name])


def test_its_plugin_manager_finds_us_and_takes_our_packages(tljh: Tljh) -> None:
    packages = tljh.ask(
        "import itertools, json\nfrom tljh.utils import get_plugin_manager\n"
        "pm = get_plugin_manager(); pm.check_pending()\n"
        "print(json.dumps(sorted(set(itertools.chain(*pm.hook.tljh_extra_apt_packages())))))"
    )
    assert "git" in packages
    assert all(len(each) > 1 for each in packages), "a text was taken for a list"


# -- its configuration ----------------------------------------------------------------------------------


def test_its_configuration_is_ours_as_well(tljh: Tljh) -> None:
    tljh.config.write_text("users:\n  admin: [grace]\nlimits:\n  memory: 1G\n" + SECTION)
    made = tljh.configured()
    assert made["spawner"] == "BinderSpawner"
    assert made["cpus"] == 1
    assert made["state"] == str(tljh.state)
    assert [each["name"] for each in made["services"]] == ["cull-idle", "binder"]
    assert "command" not in made["services"][0], "TLJH's culler does not run beside ours"
    assert "command" not in made["services"][1], "the service is a unit of its own"
    # What is TLJH's stays.
    assert made["proxy"] == "traefik_file"
    assert made["hub_port"] == 15001
    assert made["cleanup"] is False
    assert made["mem_limit"] == "1G"
    assert made["admins"] == ["grace"]
    assert made["authenticator"] == "firstuseauthenticator.FirstUseAuthenticator"
    assert handover.read(tljh.state).hub_api_url == "http://127.0.0.1:15001/hub/api"


@pytest.mark.parametrize("text", [None, "{}", "users:\n  admin: []\n", "binder: {}\n"])
def test_without_idle_times_of_ours_its_culler_runs(tljh: Tljh, text: str | None) -> None:
    if text is not None:
        tljh.config.write_text(text)
    culler = tljh.configured()["services"][0]
    assert "--timeout=600" in culler["command"]


def test_after_a_mistake_its_configuration_is_that_of_before(tljh: Tljh) -> None:
    tljh.config.write_text(SECTION)
    tljh.configured()
    tljh.config.write_text(SECTION + "    concurent: 3\n")
    assert tljh.configured()["cpus"] == 1


def test_a_mistake_on_the_first_start_is_told_with_its_line(tljh: Tljh) -> None:
    tljh.config.write_text(SECTION + "    concurent: 3\n")
    assert f"{tljh.config}:5" in tljh.fails(LOADED)


def test_files_of_its_administrator_come_after_us(tljh: Tljh) -> None:
    tljh.config.write_text(SECTION)
    lab = "{'name': 'lab', 'url': 'http://127.0.0.1:1'}"
    (tljh.later / "lab.py").write_text(f"c.JupyterHub.services.append({lab})")
    assert [each["name"] for each in tljh.configured()["services"]] == ["cull-idle", "binder", "lab"]
    (tljh.later / "lab.py").write_text("c.JupyterHub.services = []")
    assert tljh.configured()["services"] == []
    assert [each.key for each in check(find(tljh.config, "tljh")) if each.level == "mistake"] == [":services"]


# -- tljh-config ----------------------------------------------------------------------------------------

SET = """
import json, shlex
from tljh.config import CONFIG_FILE, add_config_value, parse_value, set_config_value
for command in json.loads({commands!r}):
    _, _, verb, key, value = shlex.split(command)
    (set_config_value if verb == "set" else add_config_value)(CONFIG_FILE, key, parse_value(value))
print(json.dumps("done"))
"""


def test_each_command_that_we_explain_writes_what_we_take(tljh: Tljh) -> None:
    """Also against TLJH's schema, which `tljh-config` asks before it writes."""
    plain = [each for each in all_keys() if each.name != "servers.profile"]
    commands = [each.tljh_config() for each in plain if each.tljh_config()]
    assert len(commands) > 60
    tljh.config.write_text("users:\n  admin: [grace]\n")
    tljh.ask(SET.format(commands=json.dumps(commands)))
    document = YAML(typ="safe").load(tljh.config.read_text())
    assert document["users"] == {"admin": ["grace"]}
    from_mapping(document["binder"], platform="tljh", state_dir=tljh.state)
    wrong = [each for each in check(find(tljh.config, "tljh")) if each.level == "mistake" and each.line]
    # Folders and files of the examples, which this machine has not.
    assert {each.key for each in wrong} <= {"source.credentials_file", "storage.root"}


@pytest.mark.parametrize(
    ("key", "value", "advice"),
    [
        ("binder.build.appendix", "0755", "`0755` becomes 755"),
        ("binder.updates.rebuild", "none", "unset binder.updates.rebuild"),
        (
            "binder.policy.allowed_hosts",
            "github.com,gitlab.com",
            "add-item binder.policy.allowed_hosts gitlab.com",
        ),
        ("binder.mounts.0.source", "/srv/other", "cannot reach into a list"),
    ],
)
def test_what_it_makes_of_values_is_found(tljh: Tljh, key: str, value: str, advice: str) -> None:
    tljh.config.write_text("binder:\n  mounts:\n  - id: lab\n    source: /srv\n")
    tljh.ask(SET.format(commands=json.dumps([f"sudo tljh-config set {key} {value}"])))
    (mistake,) = [each for each in check(find(tljh.config, "tljh")) if each.level == "mistake"]
    assert advice in mistake.next


def test_what_we_say_of_its_own_settings_is_so(tljh: Tljh) -> None:
    theirs = tljh.ask("import json, tljh.configurer as c; print(json.dumps(c.default['services']['cull']))")
    assert {key: theirs[key] for key in CULL} == CULL
    tljh.config.write_text("# nothing\n")
    assert "TypeError" in tljh.fails(LOADED), "an empty file stops TLJH"


# -- its hub --------------------------------------------------------------------------------------------


@pytest.fixture
def start(tljh: Tljh) -> Iterator[Callable[[], tuple[subprocess.Popen[bytes], Path]]]:
    """TLJH's hub, but with JupyterHub's own proxy and database: traefik is not TLJH's to bring."""
    proxy, api = free_port(), free_port()
    (tljh.later / "test.py").write_text(
        f"c.JupyterHub.proxy_class = 'jupyterhub.proxy.ConfigurableHTTPProxy'\n"
        f"c.JupyterHub.bind_url = 'http://127.0.0.1:{proxy}'\n"
        f"c.ConfigurableHTTPProxy.api_url = 'http://127.0.0.1:{api}'\n"
        f"c.ConfigurableHTTPProxy.pid_file = '{tljh.prefix / 'proxy.pid'}'\n"
        "c.JupyterHub.load_roles.append("
        "{'name': 'culler', 'scopes': ['list:users'], 'services': ['cull-idle']})\n"
    )
    running: list[subprocess.Popen[bytes]] = []

    def begin() -> tuple[subprocess.Popen[bytes], Path]:
        config = tljh.ask("import json, tljh; print(json.dumps(tljh.__path__[0]))") + "/jupyterhub_config.py"
        log = tljh.prefix / f"hub{len(running)}.log"
        with log.open("wb") as file:
            process = subprocess.Popen(
                [str(PYTHON_5), "-m", "jupyterhub", "-f", config, "--upgrade-db"],
                cwd=tljh.prefix / "state",
                env=tljh.environment,
                stdout=file,
                stderr=file,
                start_new_session=True,
            )
        running.append(process)
        return process, log

    yield begin
    for process in running:
        end(process)


def end(process: subprocess.Popen[bytes]) -> None:
    if process.poll() is None:
        process.send_signal(signal.SIGTERM)
    try:
        process.wait(LONG_S)
    finally:
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()


async def is_up(process: subprocess.Popen[bytes], log: Path) -> str:
    """What the hub has said when it runs."""

    def said() -> str:
        return log.read_text(errors="replace")

    async def up() -> bool:
        assert process.poll() is None, said()
        return "JupyterHub is now running" in said()

    await until(up)
    return said()


@pytest.mark.hub
async def test_its_hub_starts_with_us_and_without_its_culler(
    tljh: Tljh, start: Callable[[], tuple[subprocess.Popen[bytes], Path]]
) -> None:
    """A role of the administrator's names the culler; a mistake later does not keep the hub down."""
    tljh.config.write_text(SECTION)
    process, log = start()
    said = await is_up(process, log)
    assert "TLJH's culler does not run" in said
    assert "jupyterhub_idle_culler" not in said
    end(process)
    tljh.config.write_text(SECTION + "    concurent: 3\n")
    said = await is_up(*start())
    assert f"{tljh.config}:5" in said, "the journal names the mistake"
    assert "Traceback" not in said
