"""An error of ours as the exception that JupyterHub shows to the person, on both majors."""

from __future__ import annotations

from typing import Any

from tornado.web import HTTPError

from ..errors import BinderError
from ..hub_api import error_headers
from ..source.providers import printable

try:
    from jupyterhub.spawner import SpawnException
except ImportError:  # JupyterHub 5
    SpawnException = None

# With these the hub itself says that it knows no such server, or that somebody may not start it.
_HUBS_OWN = (403, 404)
_LOGGED_CHARACTERS = 4000


def spawn_error(error: BinderError) -> Exception:
    """What `Spawner.start` raises: text only, with what happened and the next step.

    JupyterHub 6 counts it as a refusal with `error.code` as its reason, not as a failure of the hub. Programs
    find the error as a value in a header of the answer, if the start fails before the hub answers.
    """
    text = str(error)
    # JupyterHub writes it into its log, where lines of a server's output would pass for the hub's own.
    logged = printable(text, _LOGGED_CHARACTERS)
    status = 400 if error.http_status in _HUBS_OWN else error.http_status
    raised: Any
    if SpawnException is not None:
        raised = SpawnException(text, reason=error.code, log_message=logged, status_code=status)
    else:
        raised = HTTPError(status, logged)
    # Pages and API of both majors show this attribute, if there is one.
    raised.jupyterhub_message = text
    raised.headers = error_headers(error)
    return raised  # type: ignore[no-any-return]
