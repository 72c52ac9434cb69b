"""What a private repository is read with: for one person and one host, in memory, for a short time.

A credential comes with a request, or from the administrator's file of hosts. It reaches git through a pipe of
its own (see `git.py`) and nothing else: it is in no argument, environment, address, label, log or database.
"""

from __future__ import annotations

import asyncio
import base64
import hashlib
import logging
import os
import re
import secrets
import stat
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal
from urllib.parse import urlsplit

from pydantic import BaseModel, ConfigDict, SecretStr, TypeAdapter, ValidationError, field_validator
from ruamel.yaml import YAML
from ruamel.yaml.error import YAMLError

from ..access import is_meant_for
from ..errors import BinderError, InvalidRequest, PolicyRefused, SettingsError
from ..settings import Settings
from ..wire import Credential, Person
from .providers import normal_git_url, shown

log = logging.getLogger("littlest_binder.credentials")

Kind = Literal["request", "host"]

_MOST = 500  # credentials that are held at the same time, of all people
_LONGEST = 4096  # characters
_LARGEST_FILE = 1024**2  # bytes
_LOOPBACK = {"localhost", "127.0.0.1", "::1"}
# What the hosts take as the user name of an access token; elsewhere any name is good.
_TOKEN_USERS = {"github.com": "x-access-token", "bitbucket.org": "x-token-auth"}
_SALT = secrets.token_bytes(16)


@dataclass(frozen=True)
class Login:
    """A person's credential for one host. `origin` is `https://host`, with its port if it is another one."""

    person: str
    origin: str
    username: str = field(repr=False)
    password: str = field(repr=False)
    kind: Kind = "request"

    def serves(self, url: str) -> bool:
        """Whether the credential may be sent to this address."""
        return origin_of(url) == self.origin

    @property
    def mark(self) -> str:
        """Tells logins apart without holding them; means nothing in another process."""
        text = "\n".join((self.person, self.origin, self.username, self.password))
        return hashlib.blake2b(text.encode("utf-8", "surrogatepass"), key=_SALT).hexdigest()

    @property
    def header(self) -> str:
        """The value of HTTP's `Authorization` (RFC 7617)."""
        return f"Basic {self._basic}"

    @property
    def for_git(self) -> bytes:
        """What a credential helper answers, see git-credential(1)."""
        return f"username={self.username}\npassword={self.password}\n".encode()

    @property
    def secrets(self) -> frozenset[str]:
        """What must never be printed."""
        return frozenset({self.password, self._basic})

    def without(self, text: str) -> str:
        """`text` without the secrets, should a host have repeated them."""
        for secret in self.secrets:
            text = text.replace(secret, "***")
        return text

    @property
    def _basic(self) -> str:
        return base64.b64encode(f"{self.username}:{self.password}".encode()).decode("ascii")


def origin_of(url: str) -> str:
    """Scheme, host and port of a normal address; empty where no credential is ever sent.

    Passwords travel encrypted or not at all; to this machine itself they do not travel.
    """
    parts = urlsplit(url)
    safe = parts.scheme == "https" or (parts.scheme == "http" and parts.hostname in _LOOPBACK)
    return f"{parts.scheme}://{parts.netloc}" if safe else ""


class HostEntry(BaseModel):
    """One entry of `source.credentials_file`."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    host: str
    username: str = ""
    password: SecretStr
    people: tuple[str, ...] = ()
    groups: tuple[str, ...] = ()

    @field_validator("host")
    @classmethod
    def _origin(cls, value: str) -> str:
        """As `Login.origin`; may be written without `https://`."""
        text = value if "://" in value else f"https://{value}"
        origin = origin_of(normal_git_url(f"{text.rstrip('/')}/x"))
        if not origin:
            raise ValueError("credentials are sent over https only")
        return origin


@dataclass(frozen=True)
class _Held:
    """A login, and what ends its time."""

    login: Login
    end: asyncio.TimerHandle


class Credentials:
    """Holds what people gave for their requests, and reads the administrator's file. One per process."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._held: dict[tuple[str, str], _Held] = {}
        self._told = ""

    def give(self, person: Person, url: str, credential: Credential) -> Login:
        """Hold a credential for the host of `url`, for `source.credential_s` seconds or until its build ends.

        Raises `PolicyRefused` for an address to which none is sent, `InvalidRequest` for one that git could
        not be told.
        """
        origin = origin_of(url)
        if not origin:
            raise PolicyRefused(
                f"`{shown(url)}`: a password or token is only sent over https.",
                "Give the https address of the repository.",
            )
        login = _login(person.name, origin, credential, "request")
        key = (person.name, origin)
        if key in self._held:
            self.forget(self._held[key].login)
        while len(self._held) >= _MOST:
            self.forget(next(iter(self._held.values())).login)
        end = asyncio.get_running_loop().call_later(self._settings.source.credential_s, self.forget, login)
        self._held[key] = _Held(login, end)
        return login

    def forget(self, login: Login) -> None:
        """Hold it no longer; one that was given since stays."""
        key = (login.person, login.origin)
        held = self._held.get(key)
        if held is not None and held.login is login:
            held.end.cancel()  # or the loop's list of timers would hold it
            del self._held[key]

    async def find(self, person: Person, url: str) -> Login | None:
        """What the person gave for the host of `url`, else what the administrator did for them."""
        origin = origin_of(url)
        if not origin:
            return None
        held = self._held.get((person.name, origin))
        if held is not None:
            return held.login
        if not self._settings.source.credentials_file:
            return None
        try:
            entries = await asyncio.to_thread(read_hosts, Path(self._settings.source.credentials_file))
        except SettingsError as error:
            if str(error) != self._told:
                self._told = str(error)
                log.error("No credential of a host is used: %s", error)
            return None
        for entry in entries:
            if entry.host == origin and is_meant_for(person, entry.people, entry.groups):
                credential = Credential(username=entry.username, password=entry.password)
                return _login(person.name, origin, credential, "host")
        return None


def _login(person: str, origin: str, credential: Credential, kind: Kind) -> Login:
    password = credential.password.get_secret_value()
    host = urlsplit(origin).hostname or ""
    username = credential.username or _TOKEN_USERS.get(host, "oauth2")
    if not password or max(len(password), len(username)) > _LONGEST or ":" in username:
        raise InvalidRequest(
            "The password is empty, it or the user name is very long, or the user name has a colon.",
            "Give a user name (for an access token it may be left out) and a password or token.",
        )
    if re.search(r"[\x00-\x1f\x7f\ud800-\udfff]", username + password):
        # A line break would let git read it as something else (git-credential(1), CVE-2020-5260).
        raise InvalidRequest(
            "The user name or the password has control characters.", "Copy it again, without line breaks."
        )
    return Login(person, origin, username, password, kind)


def read_hosts(path: Path) -> tuple[HostEntry, ...]:
    """The administrator's file. Raises `SettingsError`, which never shows what stands in it.

    Only its owner may be able to read it, and that must be us or root.
    """
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NONBLOCK)
    except OSError as error:
        raise SettingsError(
            f"`binder.source.credentials_file`: {path} cannot be read ({error.strerror}).",
            "Make it a file, not a link, that belongs to the account of the service.",
        ) from None
    try:
        _only_its_owners(path, os.fstat(descriptor))
        text = os.read(descriptor, _LARGEST_FILE).decode("utf-8", "replace")
    finally:
        os.close(descriptor)
    try:
        return _entries.validate_python(YAML(typ="safe").load(text) or [])
    except (YAMLError, ValueError, BinderError) as error:
        # The text of any of them may show the values.
        where = ""
        if isinstance(error, ValidationError):
            first = error.errors(include_input=False, include_url=False, include_context=False)[0]
            where = f" ({'.'.join(map(str, first['loc']))}: {first['type']})"
        raise SettingsError(
            f"`binder.source.credentials_file`: {path} is not a list of hosts{where}.",
            "Give a YAML list of entries: `host`, `password`, and if needed `username`, `people`, `groups`.",
        ) from None


def _only_its_owners(path: Path, facts: os.stat_result) -> None:
    if not stat.S_ISREG(facts.st_mode) or facts.st_uid not in (0, os.geteuid()):
        raise SettingsError(
            f"`binder.source.credentials_file`: {path} belongs to user {facts.st_uid}, or is no file.",
            f"Run: chown {os.geteuid()} {path}",
        )
    if facts.st_mode & 0o077:
        raise SettingsError(
            f"`binder.source.credentials_file`: others than its owner may read {path} "
            f"(mode {stat.S_IMODE(facts.st_mode):04o}).",
            f"Run: chmod 0600 {path} - and consider what stands in it as known to others.",
        )


_entries: TypeAdapter[tuple[HostEntry, ...]] = TypeAdapter(tuple[HostEntry, ...])


def secrets_of(login: Login | None) -> frozenset[str]:
    """What must never be printed because of it."""
    return login.secrets if login is not None else frozenset()


def same_host(login: Login | None, url: str) -> Login | None:
    """The login where it may be sent to `url`, or None."""
    return login if login is not None and login.serves(url) else None
