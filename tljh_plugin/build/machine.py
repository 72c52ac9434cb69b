"""What a build must know of this machine to reach the network: certificate authorities, proxy, package index.

Institutions sit behind such proxies. All of it is read from where Debian, pip and uv keep it. Only what makes
sense inside a build is taken: `file://` indexes and `find-links` folders of this machine do not.
"""

from __future__ import annotations

import configparser
import os
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from urllib.parse import urlsplit, urlunsplit

CERTIFICATES = Path("/usr/local/share/ca-certificates")
PROXY_VARIABLES = ("http_proxy", "https_proxy", "ftp_proxy", "no_proxy", "all_proxy")


@dataclass(frozen=True)
class IndexSettings:
    """Where packages come from. `url` empty means the public index; everything is http or https."""

    url: str = field(default="", repr=False)
    extra_urls: tuple[str, ...] = field(default=(), repr=False)
    trusted_hosts: tuple[str, ...] = ()

    def __bool__(self) -> bool:
        return bool(self.url or self.extra_urls or self.trusted_hosts)

    @property
    def secrets(self) -> frozenset[str]:
        """User names and passwords in the addresses: must never be printed."""
        found: set[str] = set()
        for url in (self.url, *self.extra_urls):
            parts = urlsplit(url)
            userinfo = parts.netloc.rpartition("@")[0]
            found |= {userinfo, parts.password or ""} if userinfo else set()
        return frozenset(found - {""})

    def without_credentials(self) -> IndexSettings:
        """For steps that run a repository's own code."""
        return replace(self, url=_bare(self.url), extra_urls=tuple(_bare(each) for each in self.extra_urls))

    def pip_conf(self) -> str:
        lines = ["[global]"]
        if self.url:
            lines.append(f"index-url = {self.url}")
        if self.extra_urls:
            lines += ["extra-index-url =", *(f"    {url}" for url in self.extra_urls)]
        if self.trusted_hosts:
            lines += ["trusted-host =", *(f"    {host}" for host in self.trusted_hosts)]
        return "\n".join(lines) + "\n"

    def uv_toml(self) -> str:
        lines = []
        if self.url:
            lines.append(f"index-url = {_toml(self.url)}")
        if self.extra_urls:
            lines.append(f"extra-index-url = [{', '.join(map(_toml, self.extra_urls))}]")
        if self.trusted_hosts:
            lines.append(f"allow-insecure-host = [{', '.join(map(_toml, self.trusted_hosts))}]")
        return "\n".join(lines) + "\n"


@dataclass(frozen=True)
class Machine:
    """`certificates` are PEM files by name; `proxies` are BuildKit's predefined build arguments, which enter
    neither an image's history nor the cache key."""

    certificates: tuple[tuple[str, bytes], ...] = ()
    proxies: Mapping[str, str] = field(default_factory=dict, repr=False)
    index: IndexSettings = IndexSettings()

    def proxy_arguments(self) -> list[str]:
        """For `docker buildx build`: names alone, the values stay in the environment (see `environment`)."""
        return [part for name in sorted(self.proxies) for part in ("--build-arg", name)]

    def secret_arguments(self, *, trusted: bool) -> list[str]:
        """For `docker buildx build`: the index settings as BuildKit's secrets, taken from the environment.

        `pip.conf` and `uv.toml` are without credentials; `trusted` adds `pip-trusted.conf` and
        `uv-trusted.toml` with them, for steps of our own that run nobody's code.
        """
        names = [name for name in self._secret_files() if trusted or "trusted" not in name]
        return [part for name in names for part in ("--secret", f"id={name},env={_variable(name)}")]

    def _secret_files(self) -> dict[str, str]:
        if not self.index:
            return {}
        bare = self.index.without_credentials()
        return {
            "pip.conf": bare.pip_conf(),
            "uv.toml": bare.uv_toml(),
            "pip-trusted.conf": self.index.pip_conf(),
            "uv-trusted.toml": self.index.uv_toml(),
        }

    def environment(self) -> dict[str, str]:
        """What a `docker buildx build` that was given these arguments must find in its environment."""
        return {**self.proxies, **{_variable(name): text for name, text in self._secret_files().items()}}

    @property
    def secrets(self) -> frozenset[str]:
        """What must never be printed: credentials in the addresses of proxies and indexes."""
        found = set(self.index.secrets)
        for url in self.proxies.values():
            parts = urlsplit(url if "://" in url else f"//{url}")
            userinfo = parts.netloc.rpartition("@")[0]
            found |= {userinfo, parts.password or ""} if userinfo else set()
        return frozenset(found - {""})


def _variable(name: str) -> str:
    return "LITTLEST_BINDER_" + re.sub(r"\W", "_", name).upper()


def read_machine(
    environ: Mapping[str, str] | None = None,
    *,
    certificates: Path = CERTIFICATES,
    pip_files: Iterable[Path] | None = None,
) -> Machine:
    """Read this machine's settings; what cannot be read counts as not there."""
    environ = os.environ if environ is None else environ
    return Machine(
        certificates=_certificates(certificates),
        proxies=_proxies(environ),
        index=read_index(environ, _pip_files(environ) if pip_files is None else pip_files),
    )


def _certificates(folder: Path) -> tuple[tuple[str, bytes], ...]:
    """As `update-ca-certificates` takes them: `*.crt`, also in subfolders; private keys never leave."""
    found = []
    for path in sorted(folder.rglob("*.crt")):
        try:
            content = path.read_bytes()
        except OSError:
            continue
        if b"-----BEGIN CERTIFICATE-----" in content and b"PRIVATE KEY" not in content:
            found.append((str(path.relative_to(folder)).replace(os.sep, "_"), content))
    return tuple(found)


def _proxies(environ: Mapping[str, str]) -> dict[str, str]:
    """Both spellings: programs disagree about which one they read."""
    found: dict[str, str] = {}
    for name in PROXY_VARIABLES:
        value = environ.get(name) or environ.get(name.upper()) or ""
        if value:
            found[name] = found[name.upper()] = value
    return found


def _pip_files(environ: Mapping[str, str]) -> list[Path]:
    """pip's own order, later ones win (pip's documentation, "Configuration")."""
    if environ.get("PIP_CONFIG_FILE"):
        return [Path("/etc/pip.conf"), Path(environ["PIP_CONFIG_FILE"])]
    shared = environ.get("XDG_CONFIG_DIRS") or "/etc/xdg"
    home = Path(environ.get("HOME") or Path.home())
    personal = Path(environ.get("XDG_CONFIG_HOME") or home / ".config")
    return [
        *(Path(each) / "pip" / "pip.conf" for each in shared.split(":") if each),
        Path("/etc/pip.conf"),
        home / ".pip" / "pip.conf",
        personal / "pip" / "pip.conf",
    ]


def read_index(environ: Mapping[str, str], pip_files: Iterable[Path]) -> IndexSettings:
    """The package index of this machine: uv's variables, else pip's, else pip's files."""
    values: dict[str, str] = {}
    for path in pip_files:
        parser = configparser.RawConfigParser()
        try:
            parser.read_string(path.read_text(encoding="utf-8"))
        except (OSError, UnicodeDecodeError, configparser.Error):
            continue
        for section in ("global", "install"):
            if parser.has_section(section):
                values |= {key.replace("_", "-"): value for key, value in parser.items(section)}

    def first(*names: str) -> str:
        return next((environ[name] for name in names if environ.get(name)), "")

    url = first("UV_DEFAULT_INDEX", "UV_INDEX_URL", "PIP_INDEX_URL") or values.get("index-url", "")
    extra = first("UV_INDEX", "UV_EXTRA_INDEX_URL", "PIP_EXTRA_INDEX_URL") or values.get(
        "extra-index-url", ""
    )
    trusted = first("UV_INSECURE_HOST", "PIP_TRUSTED_HOST") or values.get("trusted-host", "")
    return IndexSettings(
        url=next(iter(_web_addresses(url)), ""),
        extra_urls=tuple(_web_addresses(extra)),
        trusted_hosts=tuple(host for host in trusted.split() if re.fullmatch(r"[\w.:\[\]-]+", host)),
    )


def _web_addresses(text: str) -> list[str]:
    """uv allows `name=address`. Loopback of this machine is not loopback of a build."""
    found = []
    for word in text.split():
        url = re.sub(r"^[\w.-]+=(?=https?://)", "", word)
        try:
            parts = urlsplit(url)
            host = parts.hostname or ""
        except ValueError:
            continue
        if parts.scheme in ("http", "https") and host and host != "localhost" and not host.startswith("127."):
            found.append(url)
    return found


def _bare(url: str) -> str:
    parts = urlsplit(url)
    return urlunsplit(parts._replace(netloc=parts.netloc.rpartition("@")[2]))


def _toml(text: str) -> str:
    return '"' + text.replace("\\", "\\\\").replace('"', '\\"') + '"'
