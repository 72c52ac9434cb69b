"""How JupyterHub's own limits for a start follow ours."""

from __future__ import annotations

from pathlib import Path

from tljh_plugin.installation import ensure_state
from tljh_plugin.launch.spawner import spawner_class
from tljh_plugin.settings import from_mapping


def test_jupyterhub_waits_for_an_answer_as_long_as_we_do(tmp_path: Path) -> None:
    """A server that has answered us must not be given up after 30 seconds because the machine is busy."""
    settings = from_mapping({"servers": {"start_timeout_s": 200}}, platform="jupyterhub", state_dir=tmp_path)
    ensure_state(settings)
    spawner = spawner_class(settings)()
    assert spawner.http_timeout == 200
    assert spawner.start_timeout > 3600
