"""An error of ours as the exception that JupyterHub shows to the person, on both majors."""

from __future__ import annotations

from typing import Any

from tornado.web import HTTPError

from ..errors import BinderError

try:
    from jupyterhub.spawner import SpawnException
except ImportError:  # JupyterHub 5
    SpawnException = None


def spawn_error(error: BinderError) -> Exception:
    """What `Spawner.start` and its hooks raise: text only, with what happened and the next step.

    JupyterHub 6 counts it as a refusal with `error.code` as its reason, not as a failure of the hub.
    """
    text = str(error)
    raised: Any
    if SpawnException is not None:
        raised = SpawnException(text, reason=error.code, status_code=error.http_status)
    else:
        raised = HTTPError(error.http_status, text.replace("%", "%%"))
    # Pages and API of both majors show this attribute, if there is one.
    raised.jupyterhub_message = text
    return raised  # type: ignore[no-any-return]
