"""JupyterHub's configuration file at home, with which `littlest-binder up` starts the hub.

The state folder comes from the environment, so that several installations can run at the same time.
"""

from tljh_plugin.handover import find_state_dir
from tljh_plugin.hub import configure
from tljh_plugin.settings import load_desktop

# JupyterHub puts `get_config` into the namespace in which it runs this file.
configure(get_config(), load_desktop(find_state_dir()))  # type: ignore[name-defined]  # noqa: F821
