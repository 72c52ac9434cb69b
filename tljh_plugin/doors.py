"""What the hub answers at addresses that belong to the service: launch links, badges, the front page.

Comes in: a browser at the hub. Goes out: a redirect to the service. Nothing is decided here.
"""

from __future__ import annotations

import socket
from collections.abc import Callable
from pathlib import Path

from jupyterhub.handlers import BaseHandler

from .errors import ServiceDown

SERVICE = "binder"

# The service is on this machine: one that runs takes a connection at once.
_ANSWERS_S = 0.2


class LaunchLink(BaseHandler):  # type: ignore[misc]  # JupyterHub is untyped
    """Sends a launch link of BinderHub's grammar to the service, letter for letter.

    JupyterHub has led `/v2/…` to `/hub/v2/…` before. Nobody needs to be signed in: the service asks for that.
    """

    def get(self) -> None:
        """Redirect; the escapes of path and query stay as they are."""
        path = self.request.path.removeprefix(self.hub.base_url)
        query = f"?{self.request.query}" if self.request.query else ""
        self.redirect(service_url(self) + path + query)


LINKS = [
    (rf"/{path}", LaunchLink) for path in (r"v2/.*", r"build/.*", r"repo/.*", r"badge\.svg", r"versions")
]


def service_url(handler: BaseHandler) -> str:
    """The address of the service for a browser, with a slash at its end. Raises `ServiceDown`."""
    service = handler.services.get(SERVICE)
    if service is None:
        raise ServiceDown(
            f"This hub has no service {SERVICE!r}.", "Restart the hub with The Littlest Binder configured."
        )
    return str(service.host + service.prefix)


def front_page(service_socket: Path) -> Callable[[BaseHandler], str]:
    """For `c.JupyterHub.default_url`: our front page, or the hub's home page while the service is down."""

    def default_url(handler: BaseHandler) -> str:
        if SERVICE in handler.services and _listens(service_socket):
            return service_url(handler)
        return f"{handler.hub.base_url}home"

    return default_url


def _listens(place: Path) -> bool:
    with socket.socket(socket.AF_UNIX) as probe:
        probe.settimeout(_ANSWERS_S)
        try:
            probe.connect(str(place))
        except OSError:
            return False
    return True
