"""What builds reach outside: package index, Debian's mirror, registry; the way there, and what time it is."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timezone
from email.utils import parsedate_to_datetime
from pathlib import Path
from urllib.parse import urlsplit

import httpx

from ....build.base import DEBIAN, base_name, how_to_have
from ....build.machine import Machine
from ....engine.threads import in_thread
from ....errors import EngineError
from ....projects.clock import Clock
from ....source.providers import printable
from ....time_limit import within
from ..findings import CannotCheck, Verdict, note, ok, problem, warning
from ..registry import check
from ..site import Site

PYPI = "https://pypi.org/simple/"
DEBIANS = "http://deb.debian.org/debian"
REGISTRY = "https://registry-1.docker.io"

_ANSWER_S = 2.0
_CONNECT_S = 1.5
_OFF_S, _WRONG_S = 30.0, 300.0
_BUNDLE = Path("/etc/ssl/certs/ca-certificates.crt")


@dataclass(frozen=True, slots=True)
class Answer:
    """What an address said: an HTTP status (0: nothing), the time there, or why there is none."""

    status: int = 0
    date: datetime | None = None
    error: str = ""
    distrusted: bool = False


@check("index", "Reach", "Package index")
async def index(site: Site) -> Verdict:
    """Whether the Python package index that builds use answers, by the machine's proxy if it has one."""
    address = site.machine.index.url or PYPI
    shown = site.machine.index.without_credentials().url or PYPI
    said = await site.once("index", lambda: ask(address, site.machine))
    return _verdict(said, shown, "Python packages", "that of pip's or uv's configuration")


@check("debian-mirror", "Reach", "Debian mirror")
async def debian_mirror(site: Site) -> Verdict:
    """Whether the mirror of `binder.build.mirror`, or Debian's own, answers."""
    address = site.settings.build.mirror or DEBIANS
    suite = f"{address.rstrip('/')}/dists/{site.settings.build.release}/InRelease"
    if not address.startswith(("http://", "https://")):
        raise CannotCheck(f"The mirror is {printable(address, 100)}, which is no address of the web.")
    said = await ask(suite, site.machine)
    return _verdict(
        said, _bare(address), "the base image and the packages of `apt.txt`", "that of `binder.build.mirror`"
    )


@check("registry", "Reach", "Registry of images")
async def registry(site: Site) -> Verdict:
    """Whether Docker's registry, or the first mirror that Docker is told to ask, answers. Only Dockerfiles
    and repo2docker's own packs need it.
    """
    info = await site.docker()
    address = (info.mirrors or (REGISTRY,))[0].rstrip("/")
    said = await ask(f"{address}/v2/", site.machine)
    return _verdict(
        said,
        _bare(address),
        "the images that Dockerfiles stand on",
        "that of `registry-mirrors` in /etc/docker/daemon.json",
        fine=(401,),
    )


@check("proxy", "Reach", "Proxy")
async def proxy(site: Site) -> Verdict:
    """The proxies of this environment, which builds get, and Docker's own: named rightly, and listening."""
    ours = {name: url for name, url in site.machine.proxies.items() if name.islower() and name != "no_proxy"}
    try:
        dockers = dict((await site.docker()).proxies)
    except EngineError:  # said by another check
        dockers = {}
    seen = {name: _bare(url) for name, url in ours.items()}
    seen |= {f"docker_{name}": _bare(url) for name, url in dockers.items() if name != "no"}
    for name, url in ours.items():
        host, port = _proxy_place(url)
        if not host:
            return problem(
                f"The proxy `{name}` is {_bare(url)!r}, which is no address.",
                f"Set it as `{name}=http://HOST:PORT` where the hub is started.",
                seen=seen,
            )
        if not await _listens(host, port):
            return problem(
                f"Nothing answers at the proxy {host}:{port} (`{name}`): builds fetch nothing.",
                "Correct it where the hub is started, or start the proxy.",
                seen=seen,
            )
    if ours and not (dockers.get("http") or dockers.get("https")):
        return note(
            "This environment has a proxy and Docker has none: what Docker fetches itself (`FROM`) goes "
            "without.",
            "See Docker's documentation, “Configure the daemon to use a proxy”, if it is needed.",
            seen=seen,
        )
    return ok(seen=seen)


@check("base-image", "Reach", "Base image")
async def base_image(site: Site) -> Verdict:
    """Debian's image and our base image on it, up to date with the settings and this machine's
    certificates.
    """
    if not site.made:
        raise CannotCheck("Nothing was started here yet.")
    debian = f"{DEBIAN}:{site.settings.build.release}"
    await site.docker()
    name = await base_name(site.settings)
    if not name:
        if not site.settings.build.fast_python:
            return note(
                f"{debian} is not there, and `binder.build.fast_python` is off.", seen={"debian": debian}
            )
        return problem(
            f"The image {debian} is missing, on which the images of Python repositories stand: they cannot "
            "be "
            "built.",
            how_to_have(site.settings, debian),
            seen={"debian": debian},
        )
    if await site.engine.image(name) is None:
        return note(
            "The base image is not there in its present form, since the settings, the version or the "
            "machine's "
            "certificates changed. The next build makes it, which takes some minutes.",
            "Build any repository when it suits.",
            seen={"wanted": name},
        )
    return ok(seen={"name": name})


@check("certificates", "Reach", "Certificate authorities")
async def certificates(site: Site) -> Verdict:
    """The machine's own certificate authorities (`/usr/local/share/ca-certificates`): trusted by this
    machine, not expired, and carried into the base image.
    """
    ours = site.machine.certificates
    if not ours:
        return ok("This machine has none of its own.", seen={"count": 0})
    unread, expired, unknown = await in_thread(lambda: _look_at(ours))
    seen = {"count": str(len(ours)), "names": ", ".join(name for name, _ in ours)}
    if unread or expired:
        names = ", ".join([*unread, *expired])
        return warning(
            f"Certificates that are {'expired' if expired else 'not readable'}: {names}. Addresses that need "
            "them are refused, here and in images.",
            "Put the institution's present certificate there, and run `sudo update-ca-certificates`.",
            seen=seen,
        )
    if unknown:
        return warning(
            f"This machine does not trust {', '.join(unknown)} itself, though it lies in "
            "/usr/local/share/ca-certificates: git and Docker refuse what images accept.",
            "Run `sudo update-ca-certificates`, and restart Docker.",
            seen=seen,
        )
    return ok(seen=seen)


@check("clock", "Reach", "Clock")
async def clock(site: Site) -> Verdict:
    """The time here against that of the package index, and against the time that was noted before."""
    behind = await in_thread(lambda: _behind(site.settings.clock_path))
    if behind > _WRONG_S:
        return warning(
            f"The clock says {_shown(behind)} less than before: it was set back. What is kept for some days "
            "is "
            "kept longer until it has caught up.",
            "Turn on time synchronisation (`timedatectl set-ntp true`), and look whether the time is right.",
            seen={"behind_s": round(behind)},
        )
    said = await site.once("index", lambda: ask(site.machine.index.url or PYPI, site.machine))
    if said.date is None:
        raise CannotCheck("The package index, whose time is compared, does not answer or tells none.")
    off = abs((datetime.now(timezone.utc) - said.date).total_seconds())
    seen = {"off_s": f"{off:.0f}", "there": said.date.isoformat()}
    if off > _WRONG_S:
        return problem(
            f"The clock is wrong by {_shown(off)}: certificates and tokens are refused, and what is kept "
            "for some "
            "days ends at a wrong time.",
            "Run `sudo timedatectl set-ntp true`, or `sudo hwclock --hctosys` in a virtual machine.",
            seen=seen,
        )
    if off > _OFF_S:
        return warning(
            f"The clock is off by {_shown(off)}.",
            "Turn on time synchronisation: `timedatectl set-ntp true`.",
            seen=seen,
        )
    return ok(seen=seen)


# -- addresses ----------------------------------------------------------------------------------------


async def ask(address: str, machine: Machine, environ: Mapping[str, str] | None = None) -> Answer:
    """Ask for an address as a build would: with the machine's authorities, by its proxy."""
    trusted = urlsplit(address).hostname in {each.partition(":")[0] for each in machine.index.trusted_hosts}
    verify = False if trusted else await in_thread(ssl.create_default_context)
    try:
        async with (
            httpx.AsyncClient(
                timeout=_ANSWER_S, verify=verify, trust_env=True, follow_redirects=False
            ) as http,
            http.stream("GET", address) as answer,
        ):
            return Answer(answer.status_code, _date(answer.headers.get("Date", "")))
    except (httpx.HTTPError, httpx.InvalidURL, ValueError, OSError) as error:
        text = str(error) or type(error).__name__
        return Answer(error=_without(text, machine), distrusted="CERTIFICATE_VERIFY_FAILED" in text)


def index_host(machine: Machine) -> str:
    """The host of the package index."""
    return urlsplit(machine.index.url or PYPI).hostname or "pypi.org"


def _verdict(said: Answer, shown: str, what: str, where: str, fine: tuple[int, ...] = ()) -> Verdict:
    seen = {"address": shown, "answer": str(said.status or said.error)}
    if said.distrusted:
        return problem(
            f"{shown} has a certificate that this machine does not trust, so builds do not get {what}. An "
            "institution's proxy may have put its own in the place.",
            "Put the institution's authority into /usr/local/share/ca-certificates (`NAME.crt`) and run "
            "`sudo update-ca-certificates`.",
            seen=seen,
        )
    if not said.status:
        return note(
            f"{shown} cannot be reached from here: builds get {what} only where they are cached.",
            f"If this machine is to be online, look at its network; the address is {where}.",
            seen=seen,
        )
    if said.status >= 400 and said.status not in fine:
        return warning(
            f"{shown} answers with the status {said.status}: builds may not get {what}.",
            f"Look at the address and its credentials; it is {where}.",
            seen=seen,
        )
    return ok(seen=seen)


def _date(text: str) -> datetime | None:
    try:
        found = parsedate_to_datetime(text)
    except (ValueError, TypeError):
        return None
    return found if found.tzinfo else found.replace(tzinfo=timezone.utc)


def _without(text: str, machine: Machine) -> str:
    for secret in machine.secrets:
        text = text.replace(secret, "***")
    return printable(text, 200)


def _bare(url: str) -> str:
    """An address without user name and password."""
    scheme, mark, rest = url.partition("://")
    place, slash, path = (rest if mark else scheme).partition("/")
    return printable(f"{scheme + mark if mark else ''}{place.rpartition('@')[2]}{slash}{path}", 200)


def _proxy_place(url: str) -> tuple[str, int]:
    try:
        parts = urlsplit(url if "://" in url else f"http://{url}")
        return parts.hostname or "", parts.port or (443 if parts.scheme == "https" else 80)
    except ValueError:
        return "", 0


async def _listens(host: str, port: int) -> bool:
    try:
        _, writer = await within(_CONNECT_S, asyncio.open_connection(host, port))
    except (OSError, asyncio.TimeoutError, TimeoutError):
        return False
    writer.close()
    return True


# -- certificates and clocks --------------------------------------------------------------------------


def _look_at(ours: tuple[tuple[str, bytes], ...]) -> tuple[list[str], list[str], list[str]]:
    """Names of those that are not readable, expired, or not among those that this machine trusts."""
    trusted = _trusted()
    unread, expired, unknown = [], [], []
    for name, pem in ours:
        try:
            known = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
            known.load_verify_locations(cadata=pem.decode("ascii", errors="ignore"))
            end = [ssl.cert_time_to_seconds(str(each["notAfter"])) for each in known.get_ca_certs()]
            mine = set(known.get_ca_certs(binary_form=True))
        except (ssl.SSLError, ValueError, KeyError):
            unread.append(name)
            continue
        if end and max(end) < datetime.now(timezone.utc).timestamp():
            expired.append(name)
        elif trusted is not None and mine and not mine <= trusted:
            unknown.append(name)
    return unread, expired, unknown


def _trusted() -> set[bytes] | None:
    """What this machine trusts; None where it keeps that elsewhere than Debian does."""
    if not _BUNDLE.exists():
        return None
    everything = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    try:
        everything.load_verify_locations(cafile=str(_BUNDLE))
    except ssl.SSLError:
        return None
    return set(everything.get_ca_certs(binary_form=True))


def _behind(note_of_the_time: Path) -> float:
    """Seconds by which the wall clock is behind the time that was trusted before; 0 if it is not."""
    if not note_of_the_time.exists():
        return 0.0
    now = datetime.now(timezone.utc)
    return max(0.0, (Clock(note_of_the_time).for_keeping() - now).total_seconds())


def _shown(seconds: float) -> str:
    if seconds > 7200:
        return f"{seconds / 3600:.1f} hours"
    return f"{seconds / 60:.0f} minutes" if seconds > 120 else f"{seconds:.0f} seconds"
