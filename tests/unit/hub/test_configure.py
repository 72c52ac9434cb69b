"""What `configure` does to a JupyterHub configuration, on both majors and among other people's settings."""

from __future__ import annotations

import re
import socket
from pathlib import Path
from typing import Any

import jupyterhub
import pytest
from traitlets.config import Config

from tljh_plugin import desktop, handover, hub
from tljh_plugin.errors import SettingsError
from tljh_plugin.hub import ACCESS_SCOPE, configure
from tljh_plugin.launch.spawner import BinderSpawner
from tljh_plugin.settings import Settings, from_mapping


def settings_for(tmp_path: Path, platform: Any = "tljh", **section: Any) -> Settings:
    return from_mapping(
        section, platform=platform, state_dir=tmp_path, owner="ada" if platform == "desktop" else ""
    )


def entries(c: Config, name: str) -> list[dict[str, Any]]:
    return hub._entries(c.JupyterHub, name)


@pytest.fixture(params=[5, 6])
def major(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> int:
    monkeypatch.setattr(jupyterhub, "version_info", (request.param, 5, 4, ""))
    return int(request.param)


@pytest.mark.parametrize("platform", ["desktop", "tljh", "jupyterhub"])
def test_servers_are_ours_and_may_be_several(tmp_path: Path, platform: str) -> None:
    c = Config()
    configure(c, settings_for(tmp_path, platform))
    assert issubclass(c.JupyterHub.spawner_class, BinderSpawner)
    assert c.JupyterHub.spawner_class.__name__ == "BinderSpawner", "so that c.BinderSpawner configures it"
    assert c.JupyterHub.allow_named_servers is True


def test_other_services_and_roles_stay(tmp_path: Path) -> None:
    c = Config()
    c.JupyterHub.services = [{"name": "cull-idle"}]
    c.JupyterHub.load_roles = [{"name": "cull-idle", "scopes": ["list:users"]}]
    configure(c, settings_for(tmp_path))
    assert [each["name"] for each in c.JupyterHub.services] == ["cull-idle", "binder"]
    assert c.JupyterHub.load_roles[0] == {"name": "cull-idle", "scopes": ["list:users"]}


def test_everybody_may_use_the_service(tmp_path: Path, major: int) -> None:
    c = Config()
    configure(c, settings_for(tmp_path))
    users = [role for role in entries(c, "load_roles") if role["name"] == "user"]
    if major == 5:
        assert users == [{"name": "user", "scopes": ["self", ACCESS_SCOPE]}]
    else:
        assert users == []
        assert ACCESS_SCOPE in c.JupyterHub.extra_user_scopes.to_dict()["update"]


def test_a_role_that_is_defined_already_is_extended_since_twice_stops_the_hub(
    tmp_path: Path, major: int
) -> None:
    c = Config()
    c.JupyterHub.load_roles.append({"name": "user", "scopes": ["self", "shares!user"]})
    c.JupyterHub.load_roles.append({"name": "binder-builder", "users": ["bob"]})
    configure(c, settings_for(tmp_path))
    roles = entries(c, "load_roles")
    names = [role["name"] for role in roles]
    assert len(names) == len(set(names))
    builder = next(role for role in roles if role["name"] == "binder-builder")
    assert builder["users"] == ["bob"]
    assert "custom:binder:build" in builder["scopes"]
    user = next(role for role in roles if role["name"] == "user")
    assert user["scopes"] == ["self", "shares!user", ACCESS_SCOPE], "6 ignores extra scopes beside it"


def test_the_service_can_only_read_by_itself(tmp_path: Path) -> None:
    c = Config()
    configure(c, settings_for(tmp_path))
    role = next(each for each in entries(c, "load_roles") if each.get("services") == ["binder"])
    assert all(re.match(r"(read|list):", scope) for scope in role["scopes"])


def test_what_others_have_chosen_stays(tmp_path: Path) -> None:
    c = Config()
    c.JupyterHub.default_url = "/hub/home"
    c.JupyterHub.named_server_limit_per_user = 3
    configure(c, settings_for(tmp_path))
    assert c.JupyterHub.default_url == "/hub/home"
    assert c.JupyterHub.named_server_limit_per_user == 3


def test_a_service_manager_starts_the_service_with_what_the_hub_hands_over(tmp_path: Path) -> None:
    c = Config()
    c.JupyterHub.hub_port = 15001
    c.JupyterHub.base_url = "/jupyter"
    configure(c, settings_for(tmp_path, servers={"memory_bytes": 1 << 29}))
    (entry,) = entries(c, "services")
    given = handover.read(tmp_path)
    assert "command" not in entry
    assert given.environment["JUPYTERHUB_SERVICE_URL"] == entry["url"]
    assert given.environment["JUPYTERHUB_API_TOKEN"] == entry["api_token"]
    assert given.environment["JUPYTERHUB_API_URL"] == "http://127.0.0.1:15001/jupyter/hub/api"
    assert given.environment["JUPYTERHUB_SERVICE_PREFIX"] == "/jupyter/services/binder/"
    assert given.settings() == settings_for(tmp_path, servers={"memory_bytes": 1 << 29})
    assert handover.path(tmp_path).stat().st_mode & 0o777 == 0o600
    again = Config()
    configure(again, settings_for(tmp_path))
    assert entries(again, "services")[0]["url"] == entry["url"], "the service need not be restarted"
    assert entries(again, "services")[0]["api_token"] == entry["api_token"]


def test_at_home_everything_is_on_loopback_and_below_the_state_folder(tmp_path: Path) -> None:
    c = Config()
    configure(c, settings_for(tmp_path, "desktop", desktop={"port": 18888}))
    assert c.JupyterHub.bind_url == "http://127.0.0.1:18888"
    assert c.JupyterHub.subdomain_host == "http://binder.localhost:18888"
    for address in (
        c.JupyterHub.hub_bind_url,
        c.ConfigurableHTTPProxy.api_url,
        entries(c, "services")[0]["url"],
    ):
        assert re.fullmatch(r"http://127\.0\.0\.1:\d+", address)
    for place in (
        c.JupyterHub.db_url.removeprefix("sqlite:///"),
        c.JupyterHub.cookie_secret_file,
        c.ConfigurableHTTPProxy.pid_file,
    ):
        assert Path(place).parent == tmp_path / "hub"
    assert c.Authenticator.allowed_users == c.Authenticator.admin_users == {"ada"}
    assert c.JupyterHub.cleanup_servers is True


def test_at_home_commands_may_make_tokens_of_the_owner_and_nothing_else(tmp_path: Path) -> None:
    c = Config()
    configure(c, settings_for(tmp_path, "desktop"))
    role = next(each for each in entries(c, "load_roles") if each["name"] == "binder-cli")
    assert role["scopes"] == ["tokens!user=ada", "read:users!user=ada"]
    token = next(each for each in entries(c, "services") if each["name"] == "binder-cli")["api_token"]
    assert handover.read(tmp_path).cli_token == token
    assert len(token) == 64


def test_elsewhere_there_is_no_such_token(tmp_path: Path) -> None:
    c = Config()
    configure(c, settings_for(tmp_path))
    assert "binder-cli" not in [each["name"] for each in entries(c, "services")]


def test_the_hubs_own_secrets_do_not_reach_the_service(tmp_path: Path) -> None:
    env = {
        "PATH": "/bin", "HOME": "/home/ada", "HTTPS_PROXY": "http://p", "CONFIGPROXY_AUTH_TOKEN": "secret",
        "JUPYTERHUB_CRYPT_KEY": "secret", "JPY_API_TOKEN": "secret",
    }  # fmt: skip
    given = hub.service_environment(env, settings_for(tmp_path))
    assert "secret" not in given.values()
    assert given == {
        "PATH": "/bin", "HOME": "/home/ada", "HTTPS_PROXY": "http://p", handover.STATE_VARIABLE: str(tmp_path)
    }  # fmt: skip


def test_each_port_that_is_chosen_is_another_one(monkeypatch: pytest.MonkeyPatch) -> None:
    """Hub, proxy and service choose theirs before any of them listens."""
    monkeypatch.setattr(desktop, "_FIRST_PORT", desktop._first_ephemeral_port() - 20)
    chosen = [desktop.free_port() for _ in range(30)]  # more than there are: the rest are any
    assert len(set(chosen)) == 30
    assert desktop._FIRST_PORT <= chosen[0] < desktop._first_ephemeral_port()


def test_a_port_on_which_somebody_listens_is_not_chosen(monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        taken = other.getsockname()[1]
        monkeypatch.setattr(desktop, "_FIRST_PORT", taken)
        monkeypatch.setattr(desktop, "_first_ephemeral_port", lambda: taken + 1)
        assert desktop.free_port() != taken


# -- TLJH's culler ------------------------------------------------------------------------------------


def with_culler(tmp_path: Path, platform: str = "tljh", **section: Any) -> list[dict[str, Any]]:
    c = Config()
    c.JupyterHub.services = [{"name": "cull-idle", "admin": True, "command": ["cull"]}, {"name": "robot"}]
    configure(c, settings_for(tmp_path, platform, **section))
    return entries(c, "services")


@pytest.mark.parametrize(
    "section",
    [
        {"servers": {"idle_s": 3600}},
        {"servers": {"lifetime_s": 3600}},
        {"profiles": [{"id": "a"}, {"id": "b", "idle_s": 3600}]},
    ],
)
def test_tljhs_culler_does_not_run_where_ours_ends_servers(tmp_path: Path, section: dict[str, Any]) -> None:
    culler = with_culler(tmp_path, **section)[0]
    assert culler == {"name": "cull-idle", "admin": True}, "roles may name it, so it stays, without a process"


@pytest.mark.parametrize("section", [{}, {"servers": {"idle_s": 0}}, {"profiles": [{"id": "a"}]}])
def test_tljhs_culler_stays_where_nothing_else_ends_servers(tmp_path: Path, section: dict[str, Any]) -> None:
    assert with_culler(tmp_path, **section)[0]["command"] == ["cull"]


def test_a_culler_of_another_hub_is_not_ours_to_stop(tmp_path: Path) -> None:
    assert with_culler(tmp_path, "jupyterhub", servers={"idle_s": 3600})[0]["command"] == ["cull"]


# -- who starts the service, and where everything is ----------------------------------------------------


@pytest.mark.parametrize(
    ("platform", "service", "managed"),
    [
        ("tljh", None, False),
        ("jupyterhub", None, True),
        ("jupyterhub", "unit", False),
        ("jupyterhub", "hub", True),
    ],
)
def test_who_starts_the_service(tmp_path: Path, platform: str, service: Any, managed: bool) -> None:
    c = Config()
    configure(c, settings_for(tmp_path, platform), service=service)
    (entry,) = entries(c, "services")
    assert ("command" in entry) is managed
    assert bool(handover.read(tmp_path).environment) is not managed


@pytest.mark.parametrize(
    ("said", "address"),
    [
        ({}, "http://127.0.0.1:8081/hub/api"),
        ({"hub_port": 15001}, "http://127.0.0.1:15001/hub/api"),
        ({"base_url": "/lab"}, "http://127.0.0.1:8081/lab/hub/api"),
        ({"bind_url": "http://:8000/lab/"}, "http://127.0.0.1:8081/lab/hub/api"),
        ({"hub_ip": "10.0.0.7"}, "http://10.0.0.7:8081/hub/api"),
        ({"hub_ip": "0.0.0.0", "hub_port": 9}, "http://127.0.0.1:9/hub/api"),
        ({"hub_bind_url": "http://10.0.0.7:9"}, "http://10.0.0.7:9/hub/api"),
        ({"hub_bind_url": "http://*:9"}, "http://127.0.0.1:9/hub/api"),
        ({"hub_ip": "::1"}, "http://[::1]:8081/hub/api"),
    ],
)
def test_the_hubs_address_is_that_of_its_configuration(
    tmp_path: Path, said: dict[str, Any], address: str
) -> None:
    c = Config()
    c.JupyterHub.update(said)
    configure(c, settings_for(tmp_path, "jupyterhub"))
    assert handover.read(tmp_path).hub_api_url == address


@pytest.mark.parametrize(
    ("said", "hub_url"),
    [
        ({}, "/hub/"),
        ({"public_url": "https://lab.example.org/x/", "base_url": "/x/"}, "https://lab.example.org/x/hub/"),
        ({"public_url": "https://lab.example.org/"}, "https://lab.example.org/hub/"),
        ({"subdomain_host": "https://lab.example.org"}, "https://lab.example.org/hub/"),
    ],
)  # fmt: skip
def test_the_hubs_address_for_browsers(tmp_path: Path, said: dict[str, Any], hub_url: str) -> None:
    c = Config()
    c.JupyterHub.update(said)
    configure(c, settings_for(tmp_path, "jupyterhub"))
    assert handover.read(tmp_path).hub_url == hub_url


@pytest.mark.parametrize(
    ("hook", "name"),
    [
        (None, "binder--service"),
        ("idna", "binder--service"),
        ("legacy", "services"),
        (lambda name, domain, kind: f"x.{domain}", "x"),
    ],
)
def test_with_subdomains_the_service_knows_its_own_name(tmp_path: Path, hook: Any, name: str) -> None:
    c = Config()
    c.JupyterHub.subdomain_host = "https://lab.example.org:8443"
    if hook is not None:
        c.JupyterHub.subdomain_hook = hook
    configure(c, settings_for(tmp_path))
    given = handover.read(tmp_path).environment
    assert given["JUPYTERHUB_HOST"] == "https://lab.example.org:8443"
    assert given["JUPYTERHUB_OAUTH_CALLBACK_URL"] == (
        f"https://{name}.lab.example.org:8443/services/binder/oauth_callback"
    )


# -- a hub that must start ------------------------------------------------------------------------------


def test_on_a_full_disk_the_service_goes_on_with_what_it_knew(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    configure(Config(), settings_for(tmp_path))
    before = handover.read(tmp_path)

    def full(given: handover.Handover) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(handover, "write", full)
    c = Config()
    configure(c, settings_for(tmp_path, servers={"cpus": 1}))
    assert handover.read(tmp_path) == before
    assert issubclass(c.JupyterHub.spawner_class, BinderSpawner)
    assert entries(c, "services")[0]["api_token"] == before.service_token


def test_a_fault_of_ours_leaves_the_hub_with_our_servers(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    settings = settings_for(tmp_path)
    monkeypatch.setattr(hub, "_rights", lambda c: 1 / 0)
    c = Config()
    c.JupyterHub.spawner_class = "somebody's"
    with hub.survive(c, settings):
        configure(c, settings)
    assert issubclass(c.JupyterHub.spawner_class, BinderSpawner)


def test_a_state_folder_that_cannot_be_is_not_survived(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    settings = settings_for(tmp_path / "file" / "state")
    with pytest.raises(SettingsError), hub.survive(Config(), settings):
        configure(Config(), settings)
