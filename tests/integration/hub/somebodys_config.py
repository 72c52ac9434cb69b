"""A JupyterHub that somebody configured long ago, with something of theirs wherever we add something."""

import os
import sys
from pathlib import Path

from jupyterhub.auth import Authenticator
from jupyterhub.handlers import BaseHandler

c = get_config()  # type: ignore[name-defined]  # noqa: F821
home = Path(os.environ["SOMEBODYS_HOME"])
proxy_port, hub_port, api_port, service_port = os.environ["SOMEBODYS_PORTS"].split()


class PasswordOfTheLab(Authenticator):  # type: ignore[misc]
    """Lets in who knows the password of the lab."""

    async def authenticate(self, handler, data):  # type: ignore[no-untyped-def]
        return data["username"] if data["password"] == "of the lab" else None


class Imprint(BaseHandler):  # type: ignore[misc]
    """A page of theirs."""

    def get(self) -> None:
        self.finish("the lab's imprint")


c.JupyterHub.bind_url = f"http://127.0.0.1:{proxy_port}/lab/"
c.JupyterHub.hub_port = int(hub_port)
c.ConfigurableHTTPProxy.api_url = f"http://127.0.0.1:{api_port}"
c.JupyterHub.db_url = f"sqlite:///{home / 'hub.sqlite'}"
c.JupyterHub.cookie_secret_file = str(home / "cookie_secret")
c.ConfigurableHTTPProxy.pid_file = str(home / "proxy.pid")

c.JupyterHub.authenticator_class = PasswordOfTheLab
c.Authenticator.allow_all = True
c.Authenticator.admin_users = {"grace"}
c.JupyterHub.load_groups = {"physics": {"users": ["ada"]}, "binder-builder": {"users": ["ada"]}}

# Assigned, appended, inserted: all three are found in other people's files.
c.JupyterHub.services = [
    {
        "name": "status",
        "url": f"http://127.0.0.1:{service_port}",
        "command": [sys.executable, "-m", "http.server", service_port, "--bind", "127.0.0.1"],
    },
    {"name": "robot", "api_token": os.environ["ROBOTS_TOKEN"]},
]
c.JupyterHub.load_roles.append(
    {"name": "robot", "scopes": ["list:users", "admin:groups"], "services": ["robot"]}
)
c.JupyterHub.load_roles.append({"name": "user", "scopes": ["self", "read:groups!group=physics"]})
c.JupyterHub.load_roles.append({"name": "binder-builder", "users": ["bob"]})
c.JupyterHub.custom_scopes = {"custom:lab:door": {"description": "Open the lab's door"}}
c.JupyterHub.template_paths.insert(0, str(home / "templates"))
c.JupyterHub.template_vars = {"announcement": "Tea at four"}
c.JupyterHub.extra_handlers = [(r"/imprint", Imprint)]
c.JupyterHub.tornado_settings = {"headers": {"X-Lab": "ours"}}
c.JupyterHub.named_server_limit_per_user = 3
