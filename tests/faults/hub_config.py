"""JupyterHub as a lab has it: our configuration on a hub of its own, the service beside it, servers that
outlive a restart. Values come from the environment variable `FAULTS`.
"""

import json
import os
from pathlib import Path

from tljh_plugin.hub import configure
from tljh_plugin.settings import from_mapping

c = get_config()  # type: ignore[name-defined]  # noqa: F821
given = json.loads(os.environ["FAULTS"])
state = Path(given["state"])

c.JupyterHub.bind_url = f"http://127.0.0.1:{given['port']}"
c.JupyterHub.hub_bind_url = f"http://127.0.0.1:{given['hub_port']}"
# On a disk of its own where tests fill that of our state.
c.JupyterHub.db_url = f"sqlite:///{given['database']}"
c.JupyterHub.cookie_secret_file = str(state / "cookie_secret")
c.JupyterHub.cleanup_servers = False
c.JupyterHub.authenticator_class = "dummy"
c.Authenticator.allow_all = True
c.ConfigurableHTTPProxy.api_url = f"http://127.0.0.1:{given['proxy_port']}"
c.ConfigurableHTTPProxy.auth_token = given["token"]
c.ConfigurableHTTPProxy.pid_file = str(state / "proxy.pid")
c.Spawner.poll_interval = 2
c.JupyterHub.services.append({"name": "test", "api_token": given["token"]})
c.JupyterHub.load_roles.append(
    {
        "name": "test",
        "services": ["test"],
        "scopes": [
            "admin:users", "admin:servers", "admin:server_state", "tokens", "list:users",
            "access:servers", "access:services", "proxy",
        ],
    }
)  # fmt: skip
configure(c, from_mapping(given["section"], platform="jupyterhub", state_dir=state), service="unit")
