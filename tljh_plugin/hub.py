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
from collections.abc import Iterator, Mapping
from typing import Any, Literal
from urllib.parse import urlsplit

import jupyterhub
from jupyterhub.utils import subdomain_hook_idna, subdomain_hook_legacy
from traitlets.log import get_logger

from . import handover
from .desktop import CLI_SERVICE, configure_desktop, free_port, origin
from .doors import LINKS, SERVICE, front_page
from .errors import BinderError, SettingsError
from .installation import ensure_state
from .launch.spawner import spawner_class
from .settings import Settings

# As tljh/configurer.py names it.
TLJHS_CULLER = "cull-idle"

ACCESS_SCOPE = f"access:services!service={SERVICE}"

CUSTOM_SCOPES = {
    "custom:binder:admin": {"description": "Administer The Littlest Binder: all builds and images"},
    "custom:binder:build": {"description": "Build images with The Littlest Binder"},
    "custom:binder:metrics": {"description": "Read metrics and health of The Littlest Binder"},
}
# Members of the groups have the roles, so that nobody needs to edit a file to give somebody rights.
ROLES: list[dict[str, Any]] = [
    {
        "name": "binder-admin",
        "description": "Administers The Littlest Binder: all builds and images",
        "scopes": ["custom:binder:admin", "custom:binder:build", "custom:binder:metrics", ACCESS_SCOPE],
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


def configure(c: Any, settings: Settings, *, service: Literal["hub", "unit"] | None = None) -> None:
    """Set everything that The Littlest Binder needs in the JupyterHub configuration `c`.

    `service` says who starts our service: the hub, or a unit of a service manager that runs `littlest-binder
    serve` (default on TLJH). Can be called on a configuration in which other things are set; raises
    `SettingsError` if the state folder cannot be prepared, or if servers are to run as people's accounts and
    we are not root.
    """
    if settings.servers.identity == "unix" and os.geteuid() != 0:
        raise SettingsError(
            f"`binder.servers.identity` is `unix`, but this hub runs as user {os.geteuid()}: only root can "
            "let servers run as other people's accounts.",
            "Run the hub as root, or set it to `fixed`.",
        )
    ensure_state(settings)
    _spawner(c, settings)
    known = _known(settings)
    if settings.platform == "desktop":
        hub_api_url, hub_url = configure_desktop(c, settings), f"{origin(settings)}/hub/"
    else:
        hub_api_url, hub_url = _addresses(c)
    service_token = known.service_token if known else secrets.token_hex(32)
    cli_token = known.cli_token if known else secrets.token_hex(32)
    managed = settings.platform != "tljh" if service is None else service == "hub"
    if managed:
        _managed_service(c, settings, service_token)
        environment = {}
    else:
        environment = _unit_service(c, hub_api_url, service_token, known)
    if settings.platform == "desktop":
        _command_line(c, settings, cli_token)
    if settings.platform == "tljh":
        _tljhs_culler(c, settings)
    _rights(c)
    _pages(c, settings)
    _hand_over(
        handover.Handover(
            platform=settings.platform,
            state_dir=settings.state_dir,
            owner=settings.owner,
            origin=settings.origin,
            section=settings.model_dump(mode="json"),
            environment=environment,
            hub_api_url=hub_api_url,
            hub_url=hub_url,
            subdomains=bool(c.JupyterHub.get("subdomain_host")),
            service_token=service_token,
            cli_token=cli_token,
            **_files(c),
        ),
        known,
    )


@contextlib.contextmanager
def survive(c: Any, settings: Settings) -> Iterator[None]:
    """Let somebody else's hub start although a fault of ours ended the block; its log gets the traceback.

    Servers stay ours: another spawner would take those that run for gone, and start new ones unconfined.
    """
    try:
        yield
    except BinderError:
        raise
    except Exception:
        get_logger().exception(
            "The Littlest Binder could not be configured to the end; the hub starts anyway."
        )
        _spawner(c, settings)


def _known(settings: Settings) -> handover.Handover | None:
    """What an earlier start handed over: its tokens stay good, and so does the service's address."""
    with contextlib.suppress(BinderError):
        return handover.read(settings.state_dir)
    return None


def _hand_over(given: handover.Handover, known: handover.Handover | None) -> None:
    """On a full disk the service goes on with what it was given before, and people can sign in."""
    if given == known:
        return
    try:
        handover.write(given)
    except OSError as error:
        if given.platform == "desktop":
            raise SettingsError(
                f"Cannot write {handover.path(given.state_dir)}: {error.strerror}.", "Check the free disk."
            ) from error
        get_logger().error(
            "Cannot write %s: %s. The Littlest Binder's service does not know the settings of now.",
            handover.path(given.state_dir),
            error.strerror,
        )


# -- servers ------------------------------------------------------------------------------------------


def _spawner(c: Any, settings: Settings) -> None:
    spawner = spawner_class(settings)
    c.JupyterHub.spawner_class = spawner
    # The hub's loop runs while it reads its configuration; servers of before may run as well.
    spawner.pad.guard()
    c.JupyterHub.allow_named_servers = True
    _default(c.JupyterHub, "named_server_limit_per_user", _NAMED_SERVERS)
    c.JupyterHub.tornado_settings.update({"slow_spawn_timeout": _SLOW_SPAWN_S})


# -- the service --------------------------------------------------------------------------------------


def _entry(token: str, url: str) -> dict[str, Any]:
    return {
        "name": SERVICE,
        "api_token": token,
        "oauth_no_confirm": True,
        "oauth_client_allowed_scopes": list(FOR_PEOPLE),
        "url": url,
    }


def _managed_service(c: Any, settings: Settings, token: str) -> None:
    """A service that the hub starts, and that ends with it."""
    entry = _entry(token, f"http://127.0.0.1:{free_port()}")
    entry["command"] = [sys.executable, "-m", "tljh_plugin.cli", "serve", "--keep"]
    entry["environment"] = service_environment(os.environ, settings)
    if jupyterhub.version_info[0] >= 6:
        entry["timeout"] = _SERVICE_START_S
    c.JupyterHub.services.append(entry)


def _unit_service(c: Any, hub_api_url: str, token: str, known: handover.Handover | None) -> dict[str, str]:
    """A service that a service manager starts; the variables that JupyterHub would have given it."""
    before = known.environment.get("JUPYTERHUB_SERVICE_URL") if known else None
    entry = _entry(token, before or f"http://127.0.0.1:{free_port()}")
    c.JupyterHub.services.append(entry)
    base_url = urlsplit(hub_api_url).path.removesuffix("hub/api")
    prefix = f"{base_url}services/{SERVICE}/"
    hub_host, own_host = _hosts(c.JupyterHub)
    return {
        "JUPYTERHUB_SERVICE_NAME": SERVICE,
        "JUPYTERHUB_SERVICE_URL": entry["url"],
        "JUPYTERHUB_SERVICE_PREFIX": prefix,
        "JUPYTERHUB_API_TOKEN": token,
        "JUPYTERHUB_API_URL": hub_api_url,
        "JUPYTERHUB_BASE_URL": base_url,
        "JUPYTERHUB_CLIENT_ID": f"service-{SERVICE}",
        "JUPYTERHUB_HOST": hub_host,
        "JUPYTERHUB_OAUTH_CALLBACK_URL": f"{own_host}{prefix}oauth_callback",
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


# -- TLJH's culler -------------------------------------------------------------------------------------


def _tljhs_culler(c: Any, settings: Settings) -> None:
    """Take TLJH's own culler out of the running configuration where ours ends servers.

    It ends them after ten minutes by default, whatever their profile says, and takes a silent computation for
    idleness. The entry stays, without a process: a role that names a service that is not there stops the hub.
    """
    if not settings.ends_servers:
        return
    for entry in _entries(c.JupyterHub, "services"):
        if entry.get("name") == TLJHS_CULLER and entry.pop("command", None):
            get_logger().info(
                "TLJH's culler does not run: `binder.servers` and `binder.profiles` say when servers end."
            )


# -- rights -------------------------------------------------------------------------------------------


def _rights(c: Any) -> None:
    c.JupyterHub.custom_scopes.update(copy.deepcopy(CUSTOM_SCOPES))
    for role in ROLES:
        _add_role(c, role)
    # JupyterHub 6 ignores these extra scopes where somebody defined the role `user` with scopes.
    defined = any(
        each.get("name") == "user" and "scopes" in each for each in _entries(c.JupyterHub, "load_roles")
    )
    if jupyterhub.version_info[0] >= 6 and not defined:
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
    base = section.get("base_url") or urlsplit(str(section.get("bind_url") or "")).path
    base_url = f"/{str(base or '/').strip('/')}/".replace("//", "/")
    bound = urlsplit(str(section.get("hub_bind_url") or ""))
    address = bound.hostname or str(section.get("hub_ip") or "")
    if address in ("", "*", "0.0.0.0", "::"):  # noqa: S104 - everywhere is also here
        address = "127.0.0.1"
    if ":" in address:
        address = f"[{address}]"
    port = bound.port or section.get("hub_port") or 8081
    public = str(section.get("public_url") or section.get("subdomain_host") or "")
    hub_origin = public.removesuffix(base_url).rstrip("/")
    return f"http://{address}:{port}{base_url}hub/api", f"{hub_origin}{base_url}hub/"


def _hosts(section: Any) -> tuple[str, str]:
    """The origins of the hub and of our service where each has a name (`subdomain_host`), else empty."""
    hub_origin = str(section.get("subdomain_host") or "").rstrip("/")
    if not hub_origin:
        return "", ""
    hooks = {"idna": subdomain_hook_idna, "legacy": subdomain_hook_legacy}
    given = section.get("subdomain_hook") or "idna"
    hook = hooks[given] if isinstance(given, str) else given
    parts = urlsplit(hub_origin)
    return hub_origin, f"{parts.scheme}://{hook(SERVICE, parts.netloc, 'service')}"


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
