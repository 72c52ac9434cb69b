"""What JupyterHub tells its services: addresses, our token, our OAuth client."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from dataclasses import dataclass
from urllib.parse import urlsplit

from jupyterhub.services.auth import HubOAuth

from ..errors import SettingsError

# Rights removed at the hub hold here after this many seconds.
_SIGN_IN_CACHE_S = 60


@dataclass(frozen=True)
class HubEnvironment:
    """The variables of JupyterHub's service contract, validated.

    `prefix` is where our pages are (`/services/binder/`), `hub_host` the hub's own origin where subdomains
    are used, else empty, `hub_prefix` the path of the hub's pages (`/hub/`).
    """

    url: str
    prefix: str
    api_url: str
    api_token: str
    client_id: str
    hub_host: str
    hub_prefix: str
    access_scopes: frozenset[str]
    callback_url: str = ""

    @property
    def address(self) -> tuple[str, int]:
        """Host and port on which the public listener listens."""
        parts = urlsplit(self.url)
        return parts.hostname or "127.0.0.1", parts.port or 80

    @property
    def hub_home(self) -> str:
        """The address of the hub's home page, for a browser."""
        return f"{self.hub_host}{self.hub_prefix}home"

    @property
    def sign_out(self) -> str:
        """The address at which a browser signs out."""
        return f"{self.hub_host}{self.hub_prefix}logout"

    def hub_auth(self) -> HubOAuth:
        """JupyterHub's own sign-in for services, with these values."""
        given = {"oauth_redirect_uri": self.callback_url} if self.callback_url else {}
        return HubOAuth(
            api_url=self.api_url,
            api_token=self.api_token,
            base_url=self.prefix,
            hub_host=self.hub_host,
            hub_prefix=self.hub_prefix,
            oauth_client_id=self.client_id,
            access_scopes=set(self.access_scopes),
            cache_max_age=_SIGN_IN_CACHE_S,
            **given,
        )


def from_environment(env: Mapping[str, str] | None = None) -> HubEnvironment:
    """Read the variables; raises `SettingsError` naming the first that is missing."""
    env = os.environ if env is None else env
    for name in ("JUPYTERHUB_SERVICE_URL", "JUPYTERHUB_SERVICE_PREFIX", "JUPYTERHUB_API_TOKEN"):
        if not env.get(name):
            raise SettingsError(
                f"The variable {name} is not set: this process was not started as a service of JupyterHub.",
                "Start everything with `littlest-binder up`, or give the service JupyterHub's variables.",
            )
    base = env.get("JUPYTERHUB_BASE_URL") or "/"
    name = env.get("JUPYTERHUB_SERVICE_NAME") or "binder"
    scopes = env.get("JUPYTERHUB_OAUTH_ACCESS_SCOPES") or env.get("JUPYTERHUB_OAUTH_SCOPES")
    return HubEnvironment(
        url=env["JUPYTERHUB_SERVICE_URL"],
        prefix=env["JUPYTERHUB_SERVICE_PREFIX"].rstrip("/") + "/",
        api_url=env.get("JUPYTERHUB_API_URL") or f"http://127.0.0.1:8081{base}hub/api",
        api_token=env["JUPYTERHUB_API_TOKEN"],
        client_id=env.get("JUPYTERHUB_CLIENT_ID") or f"service-{name}",
        hub_host=env.get("JUPYTERHUB_HOST", "").rstrip("/"),
        hub_prefix=f"{base}hub/",
        access_scopes=frozenset(json.loads(scopes) if scopes else {f"access:services!service={name}"}),
        callback_url=env.get("JUPYTERHUB_OAUTH_CALLBACK_URL", ""),
    )
