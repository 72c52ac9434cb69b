"""Hub and service on TLJH: the unit, a restart of the hub where it is needed, and whether all answers."""

from __future__ import annotations

import http.client
import json
import socket
import ssl
import subprocess
import time
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from . import plugin, server, tljh
from .command import run
from .console import Step, StepFailed
from .machine import Problem
from .site import Site, record

UNIT = "tljh-binder.service"
UNIT_FILE = Path("/etc/systemd/system") / UNIT
STATE = tljh.STATE / "binder"
ENVIRONMENT_FILE = Path("/etc/default/tljh-binder")
_HANDOVER = STATE / "run" / "service.json"
_SOCKET = STATE / "run" / "service.sock"
_LOCK = STATE / "store.sqlite.lock"
_TRAEFIK = tljh.PREFIX / "config" / "traefik_config.d" / "littlest-binder.toml"
_CHARACTERS = ("Slash", "QuestionMark", "Hash", "Percent", "Semicolon")
_HUB_S = 180.0
_PROXY_S = 60.0
_SERVICE_S = 120.0
# What builds need of an institution's network, and a unit does not inherit.
_KEPT = ("http_proxy", "https_proxy", "no_proxy", "HTTP_PROXY", "HTTPS_PROXY", "NO_PROXY", "SSL_CERT_FILE",
         "REQUESTS_CA_BUNDLE", "PIP_INDEX_URL", "PIP_EXTRA_INDEX_URL", "PIP_TRUSTED_HOST", "PIP_CERT",
         "UV_INDEX_URL", "UV_DEFAULT_INDEX")  # fmt: skip


def ensure_state(site: Site, step: Step) -> str:
    """The private state folder with this installation's id and secret, created once; root's alone."""
    there = (STATE / "secret").exists() and (STATE / "instance").exists()
    code = (
        "from pathlib import Path\n"
        "from tljh_plugin.installation import ensure_state\n"
        "from tljh_plugin.settings import from_mapping\n"
        f"ensure_state(from_mapping({{}}, platform='tljh', state_dir=Path({str(STATE)!r})))\n"
    )
    if not there:
        _python(site, step, ["-c", code], "See which folder it names, then run the command again.")
    text = environment_text(site.environ)
    if text and not ENVIRONMENT_FILE.exists():
        draft = ENVIRONMENT_FILE.with_name(f".{ENVIRONMENT_FILE.name}")
        draft.touch(mode=0o600)
        draft.write_text(text)
        draft.rename(ENVIRONMENT_FILE)
        record("file", str(ENVIRONMENT_FILE))
        step.note(f"Proxies and indexes of this terminal are kept for builds in {ENVIRONMENT_FILE}.")
    return f"{STATE}" + (", as it was" if there else ", with a secret of its own")


def environment_text(environ: Any) -> str:
    """Lines of systemd's EnvironmentFile; values are quoted as systemd.exec(5) has it."""
    lines = []
    for name in _KEPT:
        value = environ.get(name, "")
        if value and "\n" not in value:
            quoted = value.replace("\\", "\\\\").replace('"', '\\"')
            lines.append(f'{name}="{quoted}"')
    return "".join(f"{line}\n" for line in lines)


def ensure_unit(site: Site, step: Step) -> str:
    """The unit is there and starts at boot; written by the package, since TLJH's own way needs it, too."""
    lines = _python(
        site,
        step,
        ["-m", "tljh_plugin.operation.unit"],
        "See `systemctl status`, then run the command again.",
    )
    made = json.loads(lines[-1])
    record("unit", UNIT)
    if made["written"]:
        (site.state / "restart-service").write_text("")
    return f"{UNIT}, " + ("written" if made["written"] else "enabled" if made["enabled"] else "as it was")


def ensure_hub(site: Site, step: Step) -> str:
    """A hub that has loaded what is installed. Raises `StepFailed`.

    It is restarted only if the package changed, if it never configured us, or if it does not run.
    """
    active = _is_active("jupyterhub")
    reason = (
        "the package changed" if plugin.must_restart(site)
        else "it does not know us yet" if not _HANDOVER.exists()
        else "" if active else "it did not run"
    )  # fmt: skip
    if reason:
        stopped = stop_old_servers(site, step)
        step.say("restarting the hub")
        # The service's own program changed, too; it starts again when the hub has written what it needs.
        (site.state / "restart-service").write_text("")
        run(
            step, ["systemctl", "restart", "jupyterhub"], env=site.root_env,
            next_step="`journalctl -u jupyterhub` says why; then run the command again.",
        )  # fmt: skip
        if stopped:
            step.note(f"Stopped servers that ran outside containers: {', '.join(stopped)}.")
    _wait_for_hub(step)
    plugin.restarted(site)
    return f"restarted, since {reason}" if reason else "as it was"


def stop_old_servers(site: Site, step: Step) -> list[str]:
    """Servers of TLJH's own spawner: the hub that comes does not know them, and nobody could reach them."""
    units = server.running_servers()
    if units:
        step.say("stopping servers that run outside containers")
        run(step, ["systemctl", "stop", *units], env=site.root_env, next_step="", accept=range(256))
    return [unit.removeprefix("jupyter-").removesuffix(".service") for unit in units]


def handed_over() -> dict[str, Any]:
    """What the hub wrote for the service when it was configured; empty if it never was."""
    try:
        value = json.loads(_HANDOVER.read_text())
    except (OSError, ValueError):
        return {}
    return value if isinstance(value, dict) else {}


def settings() -> dict[str, Any]:
    """The section `binder` that is in force; empty if no hub was configured yet."""
    section = handed_over().get("section")
    return section if isinstance(section, dict) else {}


def _wait_for_hub(step: Step) -> None:
    while True:
        api = str(handed_over().get("hub_api_url", "http://127.0.0.1:15001/hub/api"))
        status, said = _get(api.removesuffix("/api") + "/health")
        if status == 200 and _HANDOVER.exists():
            return
        if step.seconds > _HUB_S:
            raise StepFailed(
                f"The hub does not answer: {said or status}.",
                tried=f"GET {api.removesuffix('/api')}/health",
                tail=_journal("jupyterhub"),
                next_step="Correct what the last lines say (`journalctl -u jupyterhub`), then run the "
                "command again. To have TLJH as it was: `sudo littlest-binder uninstall`.",
            )
        step.say("waiting until the hub answers")
        time.sleep(0.2)


def ensure_links(site: Site, step: Step) -> str:
    """A proxy that lets escaped characters through, as in `git/https%3A%2F%2F…`. Raises `StepFailed`.

    Traefik 3.6.5, which TLJH installs, answers 400 to `%2F`, `%3F`, `%23`, `%25` and `%3B` unless its entry
    points say otherwise; earlier ones let them pass and do not know the option. So the proxy itself is asked,
    and TLJH's own folder for additions to its configuration is used.
    """
    wanted = traefik_text(["http", *(["https"] if _config(site, step, "https")["enabled"] else [])])
    ours = _TRAEFIK.read_text() if _TRAEFIK.exists() else ""
    proxy = _proxy(site, step)
    status = _status_of_escaped(proxy, step)
    if not status:
        raise StepFailed(
            f"The proxy does not lead to the hub, also after {_PROXY_S:.0f} s.",
            tried=f"GET {proxy}{_hub_path()}",
            tail=_journal("traefik"),
            next_step="See `journalctl -u traefik -u jupyterhub`, then run the command again.",
        )
    if status != 400 and ours in ("", wanted):
        return "links with escaped characters pass" + (f", by {_TRAEFIK}" if ours else "")
    _TRAEFIK.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    _TRAEFIK.write_text(wanted)
    record("file", str(_TRAEFIK))
    _reload_proxy(site, step)
    if _status_of_escaped(proxy, step) in (0, 400):
        _TRAEFIK.unlink()
        _reload_proxy(site, step)
        step.note("Links with escaped characters (git/…, local/…) are refused by this traefik.")
        return "as it was: this traefik does not take the option"
    return f"lets escaped characters pass, by {_TRAEFIK}"


def traefik_text(points: list[str]) -> str:
    """Additions to traefik's static configuration; a backslash and NUL stay refused."""
    lines = [
        "# Written by The Littlest Binder: links such as git/https%3A%2F%2F... contain these characters."
    ]
    for point in points:
        lines.append(f"[entryPoints.{point}.http.encodedCharacters]")
        lines += [f"allowEncoded{name} = true" for name in _CHARACTERS]
    return "\n".join(lines) + "\n"


def _reload_proxy(site: Site, step: Step) -> None:
    run(
        step, [str(tljh.HUB / "bin" / "tljh-config"), "reload", "proxy"], env=site.root_env,
        next_step="`journalctl -u traefik` says why; then run the command again.",
    )  # fmt: skip


def _status_of_escaped(proxy: str, step: Step) -> int:
    """The proxy's status for a link with an escaped character; 0 if it does not lead to the hub.

    It knows the hub some seconds after both have started, and until then answers 404 to whatever it is asked.
    """
    deadline = time.monotonic() + _PROXY_S
    while _get(proxy + _hub_path())[0] != 200:
        if time.monotonic() > deadline:
            return 0
        step.say("waiting until the proxy leads to the hub")
        time.sleep(0.2)
    return _get(proxy + _service_path() + "a%2Fb")[0]


def ensure_service(site: Site, step: Step) -> str:
    """A service that answers on its socket. Raises `StepFailed`."""
    mark = site.state / "restart-service"
    active = _is_active(UNIT)
    verb = "restart" if mark.exists() else "" if active else "start"
    if verb:
        run(
            step, ["systemctl", verb, UNIT], env=site.root_env,
            next_step=f"`journalctl -u {UNIT}` says why; then run the command again.",
        )  # fmt: skip
    while True:
        health = _ask_service()
        if health is not None:
            mark.unlink(missing_ok=True)
            return {"": "as it was", "start": "started", "restart": "restarted"}[verb]
        if step.seconds > _SERVICE_S:
            raise StepFailed(
                "The service does not answer.",
                tried=f"GET {_SOCKET}",
                tail=_journal(UNIT),
                next_step=f"Correct what the last lines say (`journalctl -u {UNIT}`), then run the "
                "command again.",
            )
        step.say("waiting until the service answers")
        time.sleep(0.2)


def first_image(site: Site, step: Step) -> str:
    """Plain Jupyter, which the service builds by itself. Raises `StepFailed` with the build's reason."""
    begun = time.monotonic()
    lines = _python(
        site, step, ["-m", "tljh_plugin.operation.first_image"],
        "Correct it, then run the command again: everything else is installed. "
        "A build that failed is taken up again by `systemctl restart tljh-binder`.",
    )  # fmt: skip
    if not json.loads(lines[-1])["image"]:
        return "plain Jupyter was removed; it is built again when somebody starts it"
    built = len(lines) > 1 or time.monotonic() - begun > 10
    return "plain Jupyter, " + ("built" if built else "already there")


def check(site: Site, step: Step) -> str:
    """Through the front door: proxy, service and Docker. Raises `StepFailed`.

    TLJH's own installer takes any answer on port 80 for a healthy hub.
    """
    address = _proxy(site, step) + _service_path() + "api/v1/health"
    while True:
        status, text = _get(address)
        try:
            health = json.loads(text)
        except ValueError:
            health = {}
        if status == 200 and health.get("engine"):
            return "proxy, hub, service and Docker answer"
        if step.seconds > _SERVICE_S:
            own = _ask_service() or {}
            raise StepFailed(
                f"The pages do not answer as they should: {status} {text[:200]!r}.",
                tried=f"GET {address}",
                tail=[str(own.get("message", ""))] if own.get("message") else _journal("traefik"),
                next_step="See `journalctl -u traefik -u jupyterhub -u tljh-binder`, then run the "
                "command again.",
            )
        step.say("waiting until the proxy passes on")
        time.sleep(0.2)


def problems(processes: Path = Path("/proc")) -> list[Problem]:
    """A service that our unit did not start, such as an administrator's own for the first version.

    Whether the unit is active says nothing: it tries again and again beside the other one.
    """
    if _ask_service() is None:
        return []
    try:
        number = int(_LOCK.read_text())
        if f"/{UNIT}" in (processes / str(number) / "cgroup").read_text():
            return []
    except (OSError, ValueError):
        return []  # it has just ended
    return [
        Problem(
            f"A service works here that {UNIT} did not start", f"process {number}",
            f"Stop it, also for the next boot: {UNIT} takes its place. Servers go on meanwhile.",
        )
    ]  # fmt: skip


def _config(site: Site, step: Step, section: str) -> dict[str, Any]:
    """A section of TLJH's configuration, its defaults included."""
    code = (
        f"import json\nfrom tljh.configurer import load_config\nprint(json.dumps(load_config()[{section!r}]))"
    )
    lines = _python(site, step, ["-c", code], f"See {tljh.CONFIG}, then run the command again.")
    value = json.loads(lines[-1])
    return value if isinstance(value, dict) else {}


def _proxy(site: Site, step: Step) -> str:
    """Where TLJH's proxy listens, as its configuration says."""
    http = _config(site, step, "http")
    return f"http://{http.get('address') or '127.0.0.1'}:{http.get('port') or 80}"


def _service_path() -> str:
    """Where our pages are behind the proxy."""
    environment = handed_over().get("environment", {})
    return str(environment.get("JUPYTERHUB_SERVICE_PREFIX", "/services/binder/"))


def _hub_path() -> str:
    """What answers 200 behind the proxy as soon as that leads to the hub."""
    return urlsplit(str(handed_over().get("hub_api_url", ""))).path or "/hub/api"


def _python(site: Site, step: Step, arguments: list[str], next_step: str) -> list[str]:
    env = site.root_env | {"LITTLEST_BINDER_STATE": str(STATE)}
    return run(
        step, [str(tljh.HUB / "bin" / "python3"), *arguments], env=env, next_step=next_step, timeout_s=3700.0
    )


def _is_active(unit: str) -> bool:
    done = subprocess.run(["systemctl", "is-active", "--quiet", unit], check=False)
    return done.returncode == 0


def _journal(unit: str) -> list[str]:
    shown = subprocess.run(
        ["journalctl", "--no-pager", "--output=cat", "--lines=12", "--unit", unit],
        capture_output=True,
        text=True,
        check=False,
    )
    return shown.stdout.splitlines()


def _get(address: str) -> tuple[int, str]:
    """Status and text; a redirection to HTTPS is followed on this machine, whatever its certificate says."""
    for _ in range(3):
        parts = urlsplit(address)
        connection: http.client.HTTPConnection
        if parts.scheme == "https":
            context = ssl.create_default_context()
            context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
            connection = http.client.HTTPSConnection("127.0.0.1", parts.port, timeout=10, context=context)
        else:
            connection = http.client.HTTPConnection(parts.hostname or "", parts.port, timeout=10)
        try:
            connection.request("GET", parts.path, headers={"Host": parts.netloc})
            answer = connection.getresponse()
            text = answer.read(65536).decode("utf-8", "replace")
        except (OSError, http.client.HTTPException) as error:
            return 0, str(error)
        finally:
            connection.close()
        where = answer.headers.get("Location", "")
        if answer.status in (301, 302, 307, 308) and where.startswith("https://"):
            address = where
            continue
        return answer.status, text
    return 0, "it leads in a circle"


class _Unix(http.client.HTTPConnection):
    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.sock.settimeout(10.0)
        self.sock.connect(str(_SOCKET))


def _ask_service() -> dict[str, Any] | None:
    """What it says of its health, also where something else is not well (503); None if it says nothing."""
    connection = _Unix("localhost")
    try:
        connection.request(
            "GET",
            "/api/v1/health",
            headers={"Littlest-Binder-Person": json.dumps({"name": "installer", "admin": True})},
        )
        answer = connection.getresponse()
        value = json.loads(answer.read())
        return value if answer.status in (200, 503) and isinstance(value, dict) else None
    except (OSError, http.client.HTTPException, ValueError):
        return None
    finally:
        connection.close()
