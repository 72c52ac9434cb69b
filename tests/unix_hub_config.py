"""JupyterHub's configuration for tests of servers that run as people's own accounts: no desktop, no TLJH."""

import os
import secrets
from pathlib import Path

from tljh_plugin.desktop import free_port
from tljh_plugin.hub import configure
from tljh_plugin.settings import from_mapping, read_file

c = get_config()  # type: ignore[name-defined]  # noqa: F821
state = Path(os.environ["LITTLEST_BINDER_STATE"])
place = state / "config.yaml"
settings = from_mapping(
    read_file(place), platform="jupyterhub", state_dir=state, source=str(place), origin=place
)
c.JupyterHub.bind_url = f"http://127.0.0.1:{os.environ['TEST_PORT']}"
c.JupyterHub.hub_bind_url = f"http://127.0.0.1:{free_port()}"
c.JupyterHub.db_url = f"sqlite:///{state / 'hub.sqlite'}"
c.JupyterHub.cookie_secret_file = str(state / "hub-cookie-secret")
c.ConfigurableHTTPProxy.api_url = f"http://127.0.0.1:{free_port()}"
c.ConfigurableHTTPProxy.auth_token = secrets.token_hex(32)
c.ConfigurableHTTPProxy.pid_file = str(state / "proxy.pid")
c.JupyterHub.authenticator_class = "dummy"
c.Authenticator.allow_all = True
c.Authenticator.admin_users = {"boss"}
configure(c, settings, service="unit")
c.JupyterHub.services.append({"name": "test", "api_token": os.environ["TEST_TOKEN"]})
c.JupyterHub.load_roles.append(
    {
        "name": "test",
        "services": ["test"],
        "scopes": [
            "admin:users",
            "admin:servers",
            "tokens",
            "list:users",
            "access:servers",
            "access:services",
        ],
    }
)
