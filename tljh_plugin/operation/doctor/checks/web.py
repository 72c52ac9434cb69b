"""Hub and service, the ports at which they are, and how browsers come to them."""

from __future__ import annotations

import asyncio
import ipaddress
import shutil
import socket
from contextlib import suppress
from importlib import metadata
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from ruamel.yaml import YAML
from ruamel.yaml.error import YAMLError

from ....engine.threads import in_thread
from ....errors import BinderError, SettingsError
from ....launch.gateway import read_port
from ... import at_home
from ..findings import CannotCheck, Repair, Verdict, note, ok, problem, warning
from ..registry import check
from ..site import Site, listens

UNIT = "tljh-binder.service"
_UNIT_PLACES = (
    "/etc/systemd/system",
    "/run/systemd/system",
    "/usr/lib/systemd/system",
    "/lib/systemd/system",
)


@check("hub", "Web", "The hub")
async def hub(site: Site) -> Verdict:
    """Whether the hub answers where the service and servers ask it, and whether it is the version of this
    environment.
    """
    if site.handover is None:
        reason = site.handover_problem
        if isinstance(reason, SettingsError):
            return problem(reason.message, reason.next_step)
        return note(
            "No hub was ever started with this state folder.", _start(site), seen={"folder": site.state}
        )
    seen = {"address": site.handover.hub_api_url}
    try:
        version = await site.hub_version()
    except BinderError as error:
        if site.settings.platform == "desktop" and not await in_thread(site.is_up):
            return note("The Littlest Binder does not run now.", _start(site), seen=seen)
        return problem(f"The hub does not answer: {error.message}", _start(site), seen=seen)
    seen["version"] = version
    mine = metadata.version("jupyterhub")
    if version != mine:
        return warning(
            f"The hub that runs is JupyterHub {version}, and this environment has {mine}: it was upgraded "
            "meanwhile.",
            "Restart the hub.",
            seen={**seen, "installed": mine},
        )
    return ok(seen=seen)


@check(
    "service",
    "Web",
    "The service",
    repairs=f"starts the unit `{UNIT}` where there is one and it does not run; nothing else is started",
)
async def service(site: Site) -> Verdict:
    """Whether our service answers at its socket, and what it says of Docker and the firewall."""
    seen = {"socket": str(site.settings.service_socket)}
    try:
        health = await site.health()
    except BinderError as error:
        if site.settings.platform == "desktop" and not await in_thread(site.is_up):
            return note("The Littlest Binder does not run now.", _start(site), seen=seen)
        if site.handover is None:
            return note("It was never started.", _start(site), seen=seen)
        return problem(
            f"The service does not answer: {error.message} There are no pages, and no server starts.",
            f"Run `journalctl -u {UNIT} -n 50`, and `systemctl restart {UNIT}`."
            if site.settings.platform != "desktop"
            else "Look at the log, end `littlest-binder up` and start it again.",
            repair=_start_unit(site),
            seen=seen,
        )
    seen |= {"docker": health.engine_version, "firewall": health.firewall}
    if not health.ok:
        return problem(
            f"The service runs, and cannot use Docker: {health.message}", "See the check `docker`.", seen=seen
        )
    return ok(seen=seen)


def _start_unit(site: Site) -> Repair | None:
    """Starting our own unit, where the machine has one and we may."""
    if not site.root or not site.systemd.is_dir() or shutil.which("systemctl") is None:
        return None
    if not any(Path(place, UNIT).exists() for place in _UNIT_PLACES):
        return None

    async def start() -> str:
        process = await asyncio.create_subprocess_exec(
            "systemctl", "start", UNIT, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT
        )
        said, _ = await process.communicate()
        if process.returncode != 0:
            raise OSError(said.decode(errors="replace").strip()[-300:] or f"`systemctl start {UNIT}` failed")
        return f"{UNIT} was started."

    return Repair(f"start {UNIT}", start)


@check("ports", "Web", "Ports")
async def ports(site: Site) -> list[Verdict]:
    """Who listens at the ports that are ours: the desktop's, TLJH's 80 and 443, and the gateway's."""
    found = await in_thread(lambda: [*_public_ports(site), *_own_port(site)])
    gateway = site.settings.network.gateway_port
    if gateway and not await site.runs():
        holder = await in_thread(lambda: at_home.holder_of(gateway))
        if holder:
            found.append(
                problem(
                    f"Port {gateway}, which `binder.network.gateway_port` names, is taken by {holder}.",
                    "End that program, or leave the setting out: then a free port is taken.",
                    about=str(gateway),
                )
            )
    port = gateway or read_port(site.state / "gateway-port")
    return found or [ok(seen={"gateway": port or "not chosen yet"})]


def _own_port(site: Site) -> list[Verdict]:
    if site.settings.platform != "desktop":
        return []
    port = site.settings.desktop.port
    if site.is_up():
        return [ok(about=str(port), seen={"holder": at_home.holder_of(port)})]
    try:
        at_home.check_port(site.settings)
    except SettingsError as error:
        return [
            problem(error.message, error.next_step, about=str(port), seen={"holder": at_home.holder_of(port)})
        ]
    return [ok(about=str(port), seen={"holder": "nobody"})]


def _public_ports(site: Site) -> list[Verdict]:
    if site.settings.platform != "tljh" or not (site.tljh / "hub").is_dir():
        return []
    if not site.root:
        return []
    config = _tljh(site)
    wanted = [int(_within(config, "http", "port") or 80)]
    if _within(config, "https", "enabled"):
        wanted.append(int(_within(config, "https", "port") or 443))
    found = []
    for port in wanted:
        holder = at_home.holder_of(port)
        if not holder and listens(port):
            found.append(ok(about=str(port), seen={"holder": "not visible to this process"}))
        elif not holder:
            found.append(
                problem(
                    f"Nobody listens at port {port}: TLJH's pages cannot be reached.",
                    "Run `sudo systemctl restart traefik`, and look at `journalctl -u traefik`.",
                    about=str(port),
                )
            )
        elif not holder.startswith("traefik"):
            found.append(
                problem(
                    f"Port {port} is taken by {holder}, and not by TLJH's proxy.",
                    "End that program, or give TLJH another port: `sudo tljh-config set http.port PORT`.",
                    about=str(port),
                    seen={"holder": holder},
                )
            )
        else:
            found.append(ok(about=str(port), seen={"holder": holder}))
    return found


@check("https", "Web", "HTTPS")
async def https(site: Site) -> Verdict:
    """Whether passwords and work travel encrypted: TLJH's section `https`, and whether this machine has
    a public address.
    """
    if site.settings.platform == "desktop":
        return ok("Everything stays on this computer.")
    public = await in_thread(_public_address)
    if site.settings.platform == "tljh":
        return await in_thread(lambda: _tljh_https(site, public))
    url = site.handover.hub_url if site.handover else ""
    seen = {"address": url or "not known", "public": public or "no"}
    if url.startswith("https://") or not public:
        return ok(seen=seen)
    if not urlsplit(url).scheme:
        return note("This machine has a public address, and the hub does not say how browsers reach it.",
                    "Set `c.JupyterHub.public_url`, and put HTTPS in front of it.", seen=seen)  # fmt: skip
    return warning(
        "The hub is reached by plain http, and this machine has a public address: passwords can be read on "
        "the way.",
        "Put a proxy with HTTPS in front, or give JupyterHub a certificate (`c.JupyterHub.ssl_cert`).",
        seen=seen,
    )


def _tljh_https(site: Site, public: str) -> Verdict:
    config = _tljh(site)
    on = bool(_within(config, "https", "enabled"))
    seen = {"https": "on" if on else "off", "public": public or "no"}
    if not on and public:
        return warning(
            f"HTTPS is off, and this machine has a public address ({public}): passwords and work can be "
            "read on the "
            "way.",
            "See TLJH's documentation, “Enable HTTPS”: `sudo tljh-config set https.enabled true` and what "
            "belongs to "
            "it.",
            seen=seen,
        )
    if not on:
        return note(
            "HTTPS is off: passwords can be read in the local network.",
            "Turn it on: `https.enabled`.",
            seen=seen,
        )
    key, certificate = _within(config, "https", "tls", "key"), _within(config, "https", "tls", "cert")
    domains = _within(config, "https", "letsencrypt", "domains")
    if not (key and certificate) and not domains:
        return problem(
            "HTTPS is on, without a certificate of your own and without a name for Let's Encrypt.",
            "Set `https.tls.key` and `https.tls.cert`, or `https.letsencrypt.email` and `.domains`.",
            seen=seen,
        )
    for place in filter(None, (key, certificate)):
        if not Path(str(place)).is_file():
            return problem(
                f"HTTPS is on, and its file {place} is missing.",
                "Put it there, and `tljh-config reload proxy`.",
                seen=seen,
            )
    return ok(seen={**seen, "domains": domains or ""})


@check("origins", "Web", "Pages and notebooks apart")
def origins(site: Site) -> Verdict:
    """Whether notebooks have host names of their own, so that a script in one cannot act on the hub's pages
    as the person who opens it.
    """
    apart = site.settings.platform == "desktop" or bool(site.handover and site.handover.subdomains)
    if apart:
        return ok(seen={"subdomains": "yes"})
    if site.handover is None:
        raise CannotCheck("No hub was started yet.")
    return note(
        "Notebooks share their origin with the hub's pages: a script in a notebook that an administrator "
        "opens can do "
        "what the administrator may.",
        "With a wildcard name (`*.hub.example.org`) set `c.JupyterHub.subdomain_host`; without, open other "
        "people's "
        "notebooks with a second account that is no administrator. See the page on security, “One origin”.",
        seen={"subdomains": "no"},
    )


# -- what they share ----------------------------------------------------------------------------------


def _start(site: Site) -> str:
    return {
        "desktop": "Run `littlest-binder up`.",
        "tljh": "Run `sudo systemctl restart jupyterhub`, and look at `journalctl -u jupyterhub -n 50`.",
    }.get(site.settings.platform, "Start JupyterHub, and look at its log.")


def _tljh(site: Site) -> dict[str, Any]:
    """TLJH's configuration; empty where it cannot be read."""
    path = site.tljh / "config" / "config.yaml"
    try:
        found = YAML(typ="safe").load(path.read_text(encoding="utf-8"))
    except (OSError, YAMLError):
        return {}
    return found if isinstance(found, dict) else {}


def _within(config: dict[str, Any], *names: str) -> Any:
    value: Any = config
    for name in names:
        value = value.get(name) if isinstance(value, dict) else None
    return value


def _public_address() -> str:
    """This machine's address on the internet, if one of its own is; nothing is sent for it."""
    for family, there in ((socket.AF_INET, "192.0.2.1"), (socket.AF_INET6, "2001:db8::1")):
        with suppress(OSError), socket.socket(family, socket.SOCK_DGRAM) as probe:
            probe.connect((there, 9))
            address = ipaddress.ip_address(probe.getsockname()[0].partition("%")[0])
            if address.is_global:
                return str(address)
    return ""
