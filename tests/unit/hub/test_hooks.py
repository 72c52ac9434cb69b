"""What TLJH calls, against its own hook specifications (tljh/hooks.py at 84ed38f)."""

from __future__ import annotations

import importlib
import importlib.metadata
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pluggy
import pytest
from traitlets.config import Config

from tljh_plugin import hooks
from tljh_plugin.errors import SettingsError
from tljh_plugin.launch.spawner import BinderSpawner
from tljh_plugin.settings import stale


class Specifications:
    """The names and arguments, nothing else."""

    spec = pluggy.HookspecMarker("tljh")

    @spec
    def tljh_extra_user_conda_packages(self) -> None: ...
    @spec
    def tljh_extra_user_conda_channels(self) -> None: ...
    @spec
    def tljh_extra_user_pip_packages(self) -> None: ...
    @spec
    def tljh_extra_hub_pip_packages(self) -> None: ...
    @spec
    def tljh_extra_apt_packages(self) -> None: ...
    @spec
    def tljh_custom_jupyterhub_config(self, c: Any) -> None: ...
    @spec
    def tljh_config_post_install(self, config: Any) -> None: ...
    @spec
    def tljh_post_install(self) -> None: ...
    @spec
    def tljh_new_user_create(self, username: str) -> None: ...


@pytest.fixture
def manager() -> pluggy.PluginManager:
    made = pluggy.PluginManager("tljh")
    made.add_hookspecs(Specifications)
    made.register(hooks)
    return made


@pytest.fixture
def tljh(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """The two modules of TLJH that are asked, with a configuration file to write."""
    package = tmp_path / "modules" / "tljh"
    package.mkdir(parents=True)
    (package / "__init__.py").touch()
    (package / "config.py").write_text(
        f"STATE_DIR = {str(tmp_path / 'state')!r}\nCONFIG_FILE = {str(tmp_path / 'config.yaml')!r}\n"
    )
    (package / "configurer.py").write_text(
        "from ruamel.yaml import YAML\nfrom .config import CONFIG_FILE\n"
        "def load_config(config_file=CONFIG_FILE):\n    return YAML(typ='rt').load(open(config_file)) or {}\n"
    )
    monkeypatch.syspath_prepend(str(package.parent))
    yield tmp_path / "config.yaml"
    for name in [name for name in sys.modules if name.partition(".")[0] == "tljh"]:
        del sys.modules[name]


def test_tljh_finds_us_by_our_entry_point() -> None:
    (found,) = [each for each in importlib.metadata.entry_points(group="tljh") if "tljh_plugin" in each.value]
    assert found.load() is hooks


def test_all_hooks_are_hooks_that_tljh_has(manager: pluggy.PluginManager) -> None:
    manager.check_pending()
    callers = manager.get_hookcallers(hooks)
    assert callers is not None
    assert {caller.name for caller in callers} == {
        "tljh_extra_apt_packages",
        "tljh_custom_jupyterhub_config",
        "tljh_config_post_install",
        "tljh_post_install",
    }


def test_packages_are_a_list_since_tljh_would_take_a_text_apart(manager: pluggy.PluginManager) -> None:
    (packages,) = manager.hook.tljh_extra_apt_packages()
    assert isinstance(packages, list)
    assert "git" in packages


def test_an_engine_that_is_there_stays(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(hooks.shutil, "which", lambda name: "/usr/bin/docker")
    assert hooks.tljh_extra_apt_packages() == ["git"]


@pytest.mark.parametrize(
    ("release", "buildx"),
    [
        ({"ID": "debian", "VERSION_ID": "12"}, False),
        ({"ID": "debian", "VERSION_ID": "13"}, True),
        ({"ID": "ubuntu", "VERSION_ID": "22.04"}, True),
        ({}, True),
    ],
)
def test_no_package_is_asked_for_that_the_distribution_lacks(
    release: dict[str, str], buildx: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(hooks.shutil, "which", lambda name: None)
    monkeypatch.setattr(hooks, "_os_release", lambda: release)
    assert ("docker-buildx" in hooks.tljh_extra_apt_packages()) is buildx


def test_the_configuration_hook_uses_the_section_of_tljhs_own_file(
    manager: pluggy.PluginManager, tljh: Path
) -> None:
    tljh.write_text("limits:\n  memory: 1G\nbinder:\n  servers:\n    cpus: 0.5\n    groups: [100]\n")
    c = Config()
    c.JupyterHub.services = [{"name": "cull-idle"}]
    manager.hook.tljh_custom_jupyterhub_config(c=c)
    spawner = c.JupyterHub.spawner_class
    assert issubclass(spawner, BinderSpawner)
    assert spawner.pad.settings.servers.cpus == 0.5
    assert spawner.pad.settings.platform == "tljh"
    assert spawner.pad.settings.state_dir == tljh.parent / "state" / "binder"
    assert [each["name"] for each in c.JupyterHub.services] == ["cull-idle", "binder"]


@pytest.mark.parametrize("text", ["", "binder:\n", "users:\n  admin: [ada]\n"])
def test_without_a_section_the_defaults_hold(manager: pluggy.PluginManager, tljh: Path, text: str) -> None:
    tljh.write_text(text)
    c = Config()
    manager.hook.tljh_custom_jupyterhub_config(c=c)
    assert c.JupyterHub.spawner_class.pad.settings.policy.images == "off"


def test_a_mistake_in_the_section_is_named_with_the_file(manager: pluggy.PluginManager, tljh: Path) -> None:
    tljh.write_text("binder:\n  polcy: {}\n")
    with pytest.raises(SettingsError, match=rf"binder\.polcy.*{tljh}"):
        manager.hook.tljh_custom_jupyterhub_config(c=Config())


def test_a_mistake_names_its_line(manager: pluggy.PluginManager, tljh: Path) -> None:
    tljh.write_text("users: {}\nbinder:\n  build:\n    concurent: 3\n")
    with pytest.raises(SettingsError, match=rf"binder\.build\.concurent.*{tljh}:4\."):
        manager.hook.tljh_custom_jupyterhub_config(c=Config())


@pytest.mark.parametrize("mistake", ["polcy: {}", "servers: {cpus: many}", "- 5", "owner: root"])
def test_after_a_mistake_the_hub_starts_with_what_held_before(
    manager: pluggy.PluginManager, tljh: Path, mistake: str, capfd: pytest.CaptureFixture[str]
) -> None:
    tljh.write_text("binder:\n  servers:\n    cpus: 0.5\n    idle_s: 3600\n")
    manager.hook.tljh_custom_jupyterhub_config(c=Config())
    tljh.write_text(f"users: {{}}\nbinder:\n  {mistake}\n")
    for _ in range(2):
        c = Config()
        manager.hook.tljh_custom_jupyterhub_config(c=c)
        settings = c.JupyterHub.spawner_class.pad.settings
        assert (settings.servers.cpus, settings.origin) == (0.5, tljh)
        problem = stale(settings)
        assert problem is not None
        assert f"{tljh}:" in problem.message
    tljh.write_text("binder:\n  servers:\n    cpus: 1.5\n")
    c = Config()
    manager.hook.tljh_custom_jupyterhub_config(c=c)
    assert c.JupyterHub.spawner_class.pad.settings.servers.cpus == 1.5


def test_a_mistake_is_told_during_the_installation_and_does_not_end_it(
    manager: pluggy.PluginManager, caplog: pytest.LogCaptureFixture
) -> None:
    config = {"binder": {"polcy": {}}, "users": {"admin": ["ada"]}}
    manager.hook.tljh_config_post_install(config=config)
    assert "binder.polcy" in caplog.text
    assert config == {"binder": {"polcy": {}}, "users": {"admin": ["ada"]}}, "the configuration is not ours"


@pytest.fixture
def rest(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An installer that notes with what it was called, in place of the real one."""
    program = tmp_path / "bootstrap.py"
    program.write_text(f"import sys; open({str(tmp_path / 'called')!r}, 'w').write(' '.join(sys.argv[1:]))")
    monkeypatch.setattr(hooks, "_bootstrap", lambda: program)
    return program


def test_tljhs_own_way_leaves_the_rest_to_our_installer(manager: pluggy.PluginManager, rest: Path) -> None:
    manager.hook.tljh_post_install()
    assert rest.with_name("called").read_text() == "tljh --installed --yes"


def test_our_own_installer_is_not_run_within_itself(
    manager: pluggy.PluginManager, rest: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LITTLEST_BINDER_INSTALLER", "1")
    manager.hook.tljh_post_install()
    assert not rest.with_name("called").exists()


def test_an_installer_that_fails_does_not_end_tljhs_and_says_what_to_run(
    manager: pluggy.PluginManager, rest: Path, caplog: pytest.LogCaptureFixture
) -> None:
    rest.write_text("print('no Docker here'); raise SystemExit(1)")
    manager.hook.tljh_post_install()
    assert "no Docker here" in caplog.text
    assert f"sudo {sys.executable} {rest} tljh --installed --yes" in caplog.text


def test_the_installer_is_found_in_a_checkout() -> None:
    assert hooks._bootstrap().is_file()


def test_it_loads_where_tljh_is_not_installed() -> None:
    code = "import sys; sys.modules['tljh'] = None; import tljh_plugin.hooks"
    subprocess.run([sys.executable, "-c", code], check=True)
