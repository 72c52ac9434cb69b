"""A checked server gets the environment that JupyterHub's own spawner gives."""

from __future__ import annotations

from types import SimpleNamespace

from jupyterhub.spawner import Spawner

from tljh_plugin.build.check import environment
from tljh_plugin.engine import Limits
from tljh_plugin.engine.images import facts

LIMITS = Limits(1000, 1000, (), 2**31, 1.5, 256, 2**26, 2**20)


def spawners_environment() -> dict[str, str]:
    """What `Spawner.get_env` of the installed JupyterHub gives for a person called `check`."""
    hub = SimpleNamespace(
        public_host="", api_url="http://127.0.0.1:15001/hub/api", base_url="/hub/", server=None
    )
    spawner = SimpleNamespace(
        env={},
        env_keep=[],
        api_token="token",
        admin_access=False,
        oauth_client_id="jupyterhub-user-check",
        cookie_options={},
        cookie_host_prefix_enabled=False,
        hub=hub,
        user=SimpleNamespace(name="check", escaped_name="check", url="/user/check/"),
        name="",
        oauth_access_scopes=["access:servers!server=check/", "access:servers!user=check"],
        oauth_client_allowed_scopes=[],
        hub_connect_url=None,
        server=SimpleNamespace(base_url="/user/check/"),
        internal_ssl=False,
        ip="0.0.0.0",
        port=8888,
        public_url="",
        public_hub_url="",
        mem_limit=LIMITS.memory_bytes,
        mem_guarantee=None,
        cpu_limit=LIMITS.cpus,
        cpu_guarantee=None,
        cert_paths=None,
        notebook_dir="",
        default_url="",
        debug=False,
        disable_user_config=False,
        environment={},
    )
    given: dict[str, str] = Spawner.get_env(spawner)
    return given


def test_it_is_what_the_spawner_gives() -> None:
    image = facts({"Id": "sha256:1", "RepoTags": ["a:1"], "Config": {"Env": ["HOME=/home/ann"]}})
    ours = environment(image, LIMITS)
    tokens = {ours.pop("JUPYTERHUB_API_TOKEN"), ours.pop("JPY_API_TOKEN")}
    theirs = spawners_environment()
    del theirs["JUPYTERHUB_API_TOKEN"], theirs["JPY_API_TOKEN"]
    assert ours == {**theirs, "JUPYTER_IMAGE_SPEC": "a:1", "HOME": "/home/ann"}
    assert len(tokens) == 1
    assert all(len(token) == 32 for token in tokens)
