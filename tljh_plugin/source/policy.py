"""What may be fetched at all: asked before any network access, and again after every redirect.

`check_spec` looks at the text alone (and at the file system for `local/`), `check_host` looks up the host's
addresses. Both return or raise `PolicyRefused` with the value and what would have to change. What the file of
the settings says now holds, also where the service was started before it was changed.
"""

from __future__ import annotations

import asyncio
import ipaddress
import os
import re
import socket
from fnmatch import fnmatchcase
from pathlib import Path
from urllib.parse import urlsplit
from urllib.request import getproxies_environment, proxy_bypass

from ..errors import PolicyRefused, RepositoryNotFound, RepositoryUnreachable
from ..settings import Settings, fresh
from .providers import DEFAULT_PORTS, shown
from .spec import RepoSpec

Address = ipaddress.IPv4Address | ipaddress.IPv6Address

# What Python's `is_global` does not refuse, or refuses only in newer versions.
_SPECIAL = tuple(
    ipaddress.ip_network(text)
    for text in (
        "0.0.0.0/8",
        "100.64.0.0/10",  # carrier-grade NAT, RFC 6598
        "192.0.0.0/24",
        "192.88.99.0/24",
        "198.18.0.0/15",
        "240.0.0.0/4",
        "fec0::/10",
        "2001::/32",  # Teredo
    )
)
_NAT64 = ipaddress.ip_network("64:ff9b::/96")


def check_spec(spec: RepoSpec, settings: Settings) -> None:
    """Refuse what the settings do not allow.

    Raises `PolicyRefused`; for a folder that is no repository `RepositoryNotFound`.
    """
    settings = fresh(settings)
    if spec.provider == "image":
        _check_image(spec, settings)
        return
    _check_blocked(spec.normal_url, settings)
    if spec.provider == "local":
        local_folder(spec, settings)
    else:
        check_url(spec.clone_url, settings)


def check_url(url: str, settings: Settings) -> None:
    """Refuse an address by its protocol, host or pattern, without any look-up; raises `PolicyRefused`."""
    parts = urlsplit(url)
    settings = fresh(settings)
    policy = settings.policy
    if parts.scheme not in policy.protocols:
        raise PolicyRefused(
            f"`{shown(url)}`: the protocol `{parts.scheme}` is not allowed here.",
            f"Allowed are: {', '.join(policy.protocols)} (setting `binder.policy.protocols`).",
        )
    host, port = _host_port(url)
    names = (host, f"{host}:{port}")
    if _matches(names, policy.blocked_hosts):
        raise PolicyRefused(
            f"`{shown(url)}`: the host `{host}` is blocked here.",
            "Ask the administrator (setting `binder.policy.blocked_hosts`).",
        )
    if policy.allowed_hosts and not _matches(names, policy.allowed_hosts):
        raise PolicyRefused(
            f"`{shown(url)}`: the host `{host}` is not one of those allowed here.",
            f"Allowed are: {', '.join(policy.allowed_hosts)} (setting `binder.policy.allowed_hosts`).",
        )
    _check_blocked(url, settings)


async def check_host(url: str, settings: Settings) -> list[str]:
    """The host's addresses, none of which is private unless listed; empty where a proxy looks them up.

    Raises `PolicyRefused`, or `RepositoryUnreachable` where the host is unknown.
    """
    host, port = _host_port(url)
    settings = await asyncio.to_thread(fresh, settings)
    literal = _literal(host)
    if literal is None and proxy_for(url):
        if host == "localhost" or host.endswith(".localhost"):
            _refuse_address(url, host, "the loopback address", settings)
        return []
    try:
        found = await asyncio.get_running_loop().getaddrinfo(host, port, type=socket.SOCK_STREAM)
    except (socket.gaierror, UnicodeError) as error:
        raise RepositoryUnreachable(
            f"`{shown(url)}`: the host `{host}` is unknown ({getattr(error, 'strerror', None) or error}).",
            "Check the spelling of the address, and the machine's network and DNS.",
        ) from None
    addresses = list(dict.fromkeys(str(entry[4][0]) for entry in found))
    for text in addresses:
        address = ipaddress.ip_address(text.partition("%")[0])
        if not is_public(address) and not _listed(host, port, address, settings.policy.private_hosts):
            _refuse_address(url, host, text, settings)
    return addresses


def is_public(address: Address) -> bool:
    """Whether an address is one of the internet's, also looking into those that embed an IPv4 address."""
    if isinstance(address, ipaddress.IPv6Address):
        inner = address.ipv4_mapped or address.sixtofour
        if inner is None and address in _NAT64:
            inner = ipaddress.IPv4Address(int(address) & 0xFFFFFFFF)
        if inner is not None:
            return is_public(inner)
    if any(address.version == network.version and address in network for network in _SPECIAL):
        return False
    return address.is_global and not address.is_multicast


def proxy_for(url: str) -> str:
    """The proxy that the environment names for this URL, by `https_proxy`, `all_proxy` and `no_proxy`."""
    parts = urlsplit(url)
    if parts.scheme not in ("http", "https"):
        return ""
    proxies = getproxies_environment()
    host = parts.netloc.rpartition("@")[2]
    if proxy_bypass(host):
        return ""
    return proxies.get(parts.scheme) or proxies.get("all") or ""


def local_folder(spec: RepoSpec, settings: Settings) -> Path:
    """The folder of a `local/` repository, without links in its path.

    Raises `PolicyRefused` where it does not lie below an allowed root, `RepositoryNotFound` where it is
    no git repository.
    """
    asked, settings = spec.repository, fresh(settings)
    folder = Path(os.path.realpath(asked))
    roots = [Path(os.path.realpath(root)) for root in settings.policy.local_roots]
    roots.append(Path(os.path.realpath(settings.examples_dir)))
    if not any(folder.is_relative_to(root) for root in roots):
        allowed = ", ".join(settings.policy.local_roots) or "none"
        raise PolicyRefused(
            f"The folder `{shown(asked)}` does not lie below an allowed folder.",
            f"Allowed folders are set in `binder.policy.local_roots` (now: {allowed}).",
        )
    if not folder.is_dir():
        raise RepositoryNotFound(f"The folder `{shown(asked)}` does not exist.", "Check its spelling.")
    if (folder / ".git").is_dir() and not (folder / ".git").is_symlink():
        return folder
    if all((folder / part).exists() for part in ("HEAD", "objects", "refs")):
        return folder  # a bare repository
    if (folder / ".git").exists():
        raise RepositoryNotFound(
            f"`{shown(asked)}` is a work tree whose git repository lies elsewhere.",
            "Give the folder of the repository itself, or of a clone of it.",
        )
    raise RepositoryNotFound(
        f"The folder `{shown(asked)}` is not a git repository.",
        f"Make it one: cd '{shown(asked)}' && git init && git add --all && git commit -m First",
    )


def _check_image(spec: RepoSpec, settings: Settings) -> None:
    policy = settings.policy
    if policy.images == "off":
        raise PolicyRefused(
            f"Starting existing images such as `{shown(spec.repository)}` is switched off here.",
            "Give a repository, or ask the administrator (setting `binder.policy.images`).",
        )
    if not _matches((spec.repository,), policy.image_names):
        raise PolicyRefused(
            f"The image `{shown(spec.repository)}` is not one of those allowed here.",
            "Ask the administrator (setting `binder.policy.image_names`).",
        )


def _check_blocked(url: str, settings: Settings) -> None:
    """All spellings of one repository are blocked: another protocol, user, letters' case or `.git`."""
    parts = urlsplit(url)
    host = parts.netloc.rpartition("@")[2]
    path = parts.path.removesuffix(".git")
    spellings = {url, *(f"{scheme}://{host}{path}{end}" for scheme in DEFAULT_PORTS for end in ("", ".git"))}
    if _matches(tuple(spellings), settings.policy.blocked_repositories):
        raise PolicyRefused(
            f"The repository `{shown(url)}` is blocked here.",
            "Ask the administrator (setting `binder.policy.blocked_repositories`).",
        )


def _matches(values: tuple[str, ...], patterns: tuple[str, ...]) -> bool:
    return any(fnmatchcase(value.lower(), pattern.lower()) for pattern in patterns for value in values)


def _host_port(url: str) -> tuple[str, int]:
    parts = urlsplit(url)
    return parts.hostname or "", parts.port or DEFAULT_PORTS.get(parts.scheme, 0)


def _literal(host: str) -> str | None:
    """The address if the host is written as one, also in the old forms `127.1` and `0x7f000001`."""
    if ":" in host:
        return host
    if not re.fullmatch(r"[0-9a-fx.]+", host):
        return None
    try:
        return socket.inet_ntoa(socket.inet_aton(host))
    except OSError:
        return None


def _listed(host: str, port: int, address: Address, entries: tuple[str, ...]) -> bool:
    for entry in entries:
        text = entry.lower()
        if text in (host, f"{host}:{port}", f"[{host}]", f"[{host}]:{port}"):
            return True
        try:
            network = ipaddress.ip_network(text, strict=False)
        except ValueError:
            continue
        if network.version == address.version and address in network:
            return True
    return False


def _refuse_address(url: str, host: str, address: str, settings: Settings) -> None:
    """Raises unless the name itself is listed."""
    port = _host_port(url)[1]
    if host in settings.policy.private_hosts or f"{host}:{port}" in settings.policy.private_hosts:
        return
    raise PolicyRefused(
        f"`{shown(url)}`: the host `{host}` is at {address}, which is not an address of the internet.",
        f"If it is meant, the administrator can list `{host}:{port}` in `binder.policy.private_hosts`.",
    )
