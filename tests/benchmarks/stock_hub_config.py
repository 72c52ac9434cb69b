"""A stock JupyterHub with a stock DockerSpawner, as its documentation sets it up, for comparison."""

import json
import os

c = get_config()  # type: ignore[name-defined]  # noqa: F821

c.JupyterHub.bind_url = f"http://127.0.0.1:{os.environ['STOCK_PORT']}"
c.JupyterHub.hub_bind_url = f"http://{os.environ['STOCK_GATEWAY']}:{os.environ['STOCK_HUB_PORT']}"
c.JupyterHub.db_url = "sqlite:///stock.sqlite"
c.JupyterHub.allow_named_servers = True
c.JupyterHub.cleanup_servers = True
c.JupyterHub.authenticator_class = "dummy"
c.ConfigurableHTTPProxy.api_url = f"http://127.0.0.1:{os.environ['STOCK_PROXY_PORT']}"
c.Authenticator.allow_all = True

c.JupyterHub.spawner_class = "dockerspawner.DockerSpawner"
c.DockerSpawner.image = os.environ["STOCK_IMAGE"]
c.DockerSpawner.cmd = ["jupyterhub-singleuser"]
c.DockerSpawner.network_name = os.environ["STOCK_NETWORK"]
c.DockerSpawner.use_internal_ip = True
c.DockerSpawner.pull_policy = "never"
c.DockerSpawner.remove = True
c.DockerSpawner.volumes = json.loads(os.environ["STOCK_VOLUMES"])
c.DockerSpawner.prefix = os.environ["STOCK_NETWORK"]

c.JupyterHub.services = [{"name": "test", "api_token": os.environ["TEST_TOKEN"]}]
c.JupyterHub.load_roles = [
    {"name": "test", "services": ["test"], "scopes": ["admin:users", "admin:servers", "list:users"]}
]
