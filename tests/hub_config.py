"""JupyterHub's configuration for tests: ours, a token for the test, and the service that the test wants."""

import os
import sys
from pathlib import Path

from tljh_plugin.handover import find_state_dir
from tljh_plugin.hub import SERVICE, configure
from tljh_plugin.settings import load_desktop

c = get_config()  # type: ignore[name-defined]  # noqa: F821
settings = load_desktop(find_state_dir())
configure(c, settings)

kind = os.environ["TEST_SERVICE"]
entry = next(each for each in c.JupyterHub.services._extend if each["name"] == SERVICE)
if kind != "real":
    stand_in = Path(__file__).with_name("stand_in.py")
    entry["command"] = [sys.executable, str(stand_in)]
    entry["environment"]["PYTHONPATH"] = str(stand_in.parent)

c.JupyterHub.log_level = "DEBUG" if os.environ.get("TEST_DEBUG") else "INFO"
c.JupyterHub.services.append({"name": "test", "api_token": os.environ["TEST_TOKEN"]})
c.JupyterHub.load_roles.append(
    {
        "name": "test",
        "services": ["test"],
        "scopes": [
            "admin:users", "admin:servers", "admin:server_state", "tokens", "list:users",
            "access:servers", "access:services", "proxy", "admin:groups",
        ],
    }
)  # fmt: skip
if os.environ.get("TEST_KEEP_SERVERS"):
    c.JupyterHub.cleanup_servers = False
if os.environ.get("TEST_PAGE"):
    c.JupyterHub.api_page_max_limit = c.JupyterHub.api_page_default_limit = int(os.environ["TEST_PAGE"])
if os.environ.get("TEST_POLL_S"):
    c.Spawner.poll_interval = int(os.environ["TEST_POLL_S"])
# People besides the owner come by the API in tests.
c.Authenticator.allow_all = True
