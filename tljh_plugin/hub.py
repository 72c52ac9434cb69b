"""`configure(c, settings)`: all that is set in a JupyterHub configuration, on TLJH, a desktop or elsewhere.

Comes in: JupyterHub's configuration object, perhaps with other people's settings in it. Goes out: the same,
with our spawner, our service, our roles and our addresses added. Lists are extended, never replaced.
"""

from __future__ import annotations

import contextlib
import copy
import os
import secrets
import sys
from collections.abc import Mapping
from typing import Any
from urllib.parse import urlsplit

import jupyterhub

from . import handover
from .desktop import CLI_SERVICE, configure_desktop, free_port, origin
from .doors import LINKS, SERVICE, front_page
from .errors import BinderError
from .installation import ensure_state
from .launch.spawner import spawner_class
from .settings import Settings

ACCESS_SCOPE = f"access:services!service={SERVICE}"

CUSTOM_SCOPES = {
    "custom:binder:admin": {"description": "Administer The Littlest Binder: all builds and images"},
    "custom:binder:build": {"description": "Build images with The Littlest Binder"},
}
# Members of the groups have the roles, so that nobody needs to edit a file to give somebody rights.
ROLES: list[dict[str, Any]] = [
    {
        "name": "binder-admin",
        "description": "Administers The Littlest Binder: all builds and images",
        "scopes": ["custom:binder:admin", "custom:binder:build", ACCESS_SCOPE],
        "groups": ["binder-admin"],
    },
    {
        "name": "binder-builder",
        "description": "Builds images with The Littlest Binder",
        "scopes": ["custom:binder:build", ACCESS_SCOPE],
        "groups": ["binder-builder"],
    },
    {
        "name": "binder-service",
        "description": "What The Littlest Binder's service may do by itself: read",
        "scopes": ["list:users", "read:users:name", "read:users:groups", "read:groups", "read:servers"],
        "services": [SERVICE],
    },
]
# What the service may do for a signed-in person, with that person's own token.
FOR_PEOPLE = (
    "read:users!user",
    "servers!user",
    "access:servers!user",
    ACCESS_SCOPE,
    *CUSTOM_SCOPES,
)

# A person has this many named servers unless the administrator says otherwise; stopped ones count.
_NAMED_SERVERS = 20
# How long the hub's API lets a caller wait for a start before it answers "pending"; a refusal comes sooner.
_SLOW_SPAWN_S = 0.5
# A hub whose own service is not there by then gives up, and a slow disk needs its time.
_SERVICE_START_S = 120
# Variables that are the hub's or a command's own business and must not reach the hub's services.
_HUBS_OWN = ("JUPYTERHUB_", "CONFIGPROXY_", "JPY_", "LITTLEST_BINDER_TOKEN", "LITTLEST_BINDER_USERNAME")


def configure(c: Any, settings: Settings) -> None:
    """Set everything that The Littlest Binder needs in the JupyterHub configuration `c`.

    Can be called on a configuration in which other things are set; raises `SettingsError` if the state
    folder cannot be prepared.
    """
    ensure_state(settings)
    known = _known(settings)
    if settings.platform == "desktop":
        hub_api_url, hub_url = configure_desktop(c, settings), f"{origin(settings)}/hub/"
    else:
        hub_api_url, hub_url = _addresses(c)
    _spawner(c, settings)
    service_token = known.service_token if known else secrets.token_hex(32)
    cli_token = known.cli_token if known else secrets.token_hex(32)
    environment = _service(c, settings, hub_api_url, service_token, known)
    if settings.platform == "desktop":
        _command_line(c, settings, cli_token)
    _rights(c)
    _pages(c, settings)
    handover.write(
        handover.Handover(
            platform=settings.platform,
            state_dir=settings.state_dir,
            owner=settings.owner,
            origin=settings.origin,
            section=settings.model_dump(mode="json"),
            environment=environment,
            hub_api_url=hub_api_url,
            hub_url=hub_url,
            service_token=service_token,
            cli_token=cli_token,
            **_files(c),
        )
    )


def _known(settings: Settings) -> handover.Handover | None:
    """What an earlier start handed over: its tokens stay good, and so does the service's address."""
    with contextlib.suppress(BinderError):
        return handover.read(settings.state_dir)
    return None


# -- servers ------------------------------------------------------------------------------------------


def _spawner(c: Any, settings: Settings) -> None:
    c.JupyterHub.spawner_class = spawner_class(settings)
    c.JupyterHub.allow_named_servers = True
    _default(c.JupyterHub, "named_server_limit_per_user", _NAMED_SERVERS)
    c.JupyterHub.tornado_settings.update({"slow_spawn_timeout": _SLOW_SPAWN_S})


# -- the service --------------------------------------------------------------------------------------


def _service(
    c: Any, settings: Settings, hub_api_url: str, token: str, known: handover.Handover | None
) -> dict[str, str]:
    """Add the service; what it must be told where JupyterHub does not start it."""
    entry: dict[str, Any] = {
        "name": SERVICE,
        "api_token": token,
        "oauth_no_confirm": True,
        "oauth_client_allowed_scopes": list(FOR_PEOPLE),
    }
    if settings.platform == "desktop":
        entry["url"] = f"http://127.0.0.1:{free_port()}"
        entry["command"] = [sys.executable, "-m", "tljh_plugin.cli", "serve", "--keep"]
        entry["environment"] = service_environment(os.environ, settings)
        if jupyterhub.version_info[0] >= 6:
            entry["timeout"] = _SERVICE_START_S
        c.JupyterHub.services.append(entry)
        return {}
    before = known.environment.get("JUPYTERHUB_SERVICE_URL") if known else None
    entry["url"] = before or f"http://127.0.0.1:{free_port()}"
    c.JupyterHub.services.append(entry)
    base_url = urlsplit(hub_api_url).path.removesuffix("hub/api")
    return {
        "JUPYTERHUB_SERVICE_NAME": SERVICE,
        "JUPYTERHUB_SERVICE_URL": entry["url"],
        "JUPYTERHUB_SERVICE_PREFIX": f"{base_url}services/{SERVICE}/",
        "JUPYTERHUB_API_TOKEN": token,
        "JUPYTERHUB_API_URL": hub_api_url,
        "JUPYTERHUB_BASE_URL": base_url,
        "JUPYTERHUB_CLIENT_ID": f"service-{SERVICE}",
    }


def service_environment(env: Mapping[str, str], settings: Settings) -> dict[str, str]:
    """The variables of a service that the hub starts, which JupyterHub itself leaves almost without.

    It needs what a command of the person has: home, path, Docker's address, proxies, package indexes.
    """
    kept = {name: value for name, value in env.items() if not name.startswith(_HUBS_OWN)}
    return {**kept, handover.STATE_VARIABLE: str(settings.state_dir)}


def _command_line(c: Any, settings: Settings, token: str) -> None:
    """Let the owner's commands make short-lived tokens of the owner, and nothing else."""
    c.JupyterHub.services.append({"name": CLI_SERVICE, "api_token": token, "display": False})
    owner = settings.owner
    _add_role(
        c,
        {
            "name": CLI_SERVICE,
            "description": "Lets the owner's own commands act as the owner",
            "scopes": [f"tokens!user={owner}", f"read:users!user={owner}"],
            "services": [CLI_SERVICE],
        },
    )


# -- rights -------------------------------------------------------------------------------------------


def _rights(c: Any) -> None:
    c.JupyterHub.custom_scopes.update(copy.deepcopy(CUSTOM_SCOPES))
    for role in ROLES:
        _add_role(c, role)
    if jupyterhub.version_info[0] >= 6:
        c.JupyterHub.extra_user_scopes.add(ACCESS_SCOPE)
    else:
        _add_role(c, {"name": "user", "scopes": ["self", ACCESS_SCOPE]})


def _add_role(c: Any, role: Mapping[str, Any]) -> None:
    """Add a role, or add its scopes and members to one of that name: defined twice it stops the hub."""
    for known in _entries(c.JupyterHub, "load_roles"):
        if known.get("name") == role["name"]:
            for key in ("scopes", "users", "groups", "services"):
                missing = [each for each in role.get(key, ()) if each not in known.get(key, ())]
                if missing:
                    known[key] = [*known.get(key, ()), *missing]
            return
    c.JupyterHub.load_roles.append(copy.deepcopy(dict(role)))


def _entries(section: Any, name: str) -> list[dict[str, Any]]:
    """What a list of the configuration holds so far, also when traitlets keeps it as changes to come."""
    value = section[name]
    if isinstance(value, list):
        return value
    inserted = [item for _, item in getattr(value, "_inserts", None) or ()]
    return [*(getattr(value, "_prepend", None) or ()), *inserted, *(getattr(value, "_extend", None) or ())]


# -- pages --------------------------------------------------------------------------------------------


def _pages(c: Any, settings: Settings) -> None:
    c.JupyterHub.extra_handlers.extend(LINKS)
    c.JupyterHub.template_paths.append(os.path.join(os.path.dirname(__file__), "web", "templates", "hub"))
    _default(c.JupyterHub, "default_url", front_page(settings.service_socket))


def _addresses(c: Any) -> tuple[str, str]:
    """Addresses of the hub's API and of its pages, as far as the configuration says."""
    section = c.JupyterHub
    base_url = f"/{str(section.get('base_url') or '/').strip('/')}/".replace("//", "/")
    port = section.get("hub_port") or 8081
    bound = urlsplit(str(section.get("hub_bind_url") or ""))
    host = f"{bound.hostname or '127.0.0.1'}:{bound.port or port}"
    public = str(section.get("public_url") or section.get("subdomain_host") or "").rstrip("/")
    return f"http://{host}{base_url}hub/api", f"{public}{base_url}hub/"


def _files(c: Any) -> dict[str, str]:
    """Where the hub keeps what a backup needs, as far as the configuration says; never a password."""
    section = c.JupyterHub
    kind, separator, place = str(section.get("db_url") or "sqlite:///jupyterhub.sqlite").partition("://")
    database = os.path.abspath(place.removeprefix("/").partition("?")[0] if separator else kind)
    if separator and (not kind.startswith("sqlite") or place in ("", "/", "/:memory:")):
        database = f"{kind}://"
    secret_file = os.path.abspath(str(section.get("cookie_secret_file") or "jupyterhub_cookie_secret"))
    return {"hub_database": database, "cookie_secret_file": secret_file}


def _default(section: Any, name: str, value: Any) -> None:
    """Set what nobody has set yet."""
    if name not in section:
        section[name] = value
