"""From what was asked for to an address that git may be given.

The policy is asked before the first packet and at every redirect, which we follow by hand: git itself never
follows one, and connects to the address that was checked. A folder of the machine is handed to git as an open
descriptor, so that what was checked is what is read.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import re
import ssl
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from urllib.parse import urljoin, urlsplit

import httpx

from ..errors import (
    BinderError,
    CheckoutFailed,
    CredentialRefused,
    InvalidSpec,
    PolicyRefused,
    RefNotFound,
    RepositoryNotFound,
    RepositoryUnreachable,
)
from ..settings import Settings
from ..time_limit import within
from . import git, policy, web
from .credentials import Login, same_host
from .git import Access
from .providers import DEFAULT_PORTS, normal_git_url, shown
from .spec import RepoSpec

_MAX_REDIRECTS = 5
_SERVICE = "/info/refs?service=git-upload-pack"


# Since 2.46 git looks up the whole path of a repository that somebody else owns, which its account may not be
# able to (see `git.py`); entered first, the repository is `.`. What the shell is given is never a person's.
_UPLOAD_PACK = 'enter() { cd "$1" && exec git upload-pack --strict .; }; enter'


@dataclass(frozen=True)
class Remote:
    """A repository that the policy allows: `url` for git, and what git needs to get there.

    `access.login` is set where it cannot be read without.
    """

    spec: RepoSpec
    url: str
    access: Access
    folder: Path | None = None

    @contextlib.contextmanager
    def opened(self, settings: Settings) -> Iterator[Access]:
        """What a git command may reach, within the `with`, under the name `origin`.

        A local folder is opened once, and what was opened is checked, not its name.
        """
        if self.folder is None:
            yield replace(self.access, options=(*self.access.options, ("remote.origin.url", self.url)))
            return
        with contextlib.ExitStack() as closing:
            folder = os.open(self.folder, os.O_PATH | os.O_DIRECTORY)
            closing.callback(os.close, folder)
            there = os.readlink(f"/proc/self/fd/{folder}")
            policy.local_folder(RepoSpec("local", there), settings)
            with contextlib.suppress(FileNotFoundError):
                folder = os.open(".git", os.O_PATH | os.O_DIRECTORY | os.O_NOFOLLOW, dir_fd=folder)
                closing.callback(os.close, folder)
            options = (
                ("remote.origin.url", f"/proc/self/fd/{folder}"),
                ("remote.origin.uploadpack", _UPLOAD_PACK),
            )
            yield Access("file", options, folders=(folder,))


async def reach(spec: RepoSpec, settings: Settings, login: Login | None = None) -> Remote:
    """Ask the policy, look up the host, follow redirects; `login` is used only where the host wants one.

    Raises `PolicyRefused`, `RepositoryUnreachable`, `RepositoryNotFound`, `InvalidSpec`, and
    `CredentialRefused` where the host refuses the login.
    """
    await asyncio.to_thread(policy.check_spec, spec, settings)
    if spec.provider == "local":
        return Remote(spec, spec.repository, Access(), policy.local_folder(spec, settings))
    seconds = settings.source.resolve_timeout_s
    try:
        return await within(seconds, _reach(spec, settings, login))
    except asyncio.TimeoutError:
        raise RepositoryUnreachable(
            f"`{shown(spec.clone_url)}` did not answer within {seconds:g} seconds.",
            "Try again; check the machine's network, and its proxy settings if it has a proxy.",
        ) from None


async def _reach(spec: RepoSpec, settings: Settings, login: Login | None) -> Remote:
    url = spec.clone_url
    login = same_host(login, url)
    addresses = await policy.check_host(url, settings)
    if url.startswith("ssh://"):
        return Remote(spec, url, _ssh_access(url, addresses))
    for _ in range(_MAX_REDIRECTS + 1):
        target, used = await _ask(url, addresses, login)
        if target is None:
            return Remote(spec, url, replace(_http_access(url, addresses), login=used))
        url = _redirected(url, target)
        login = same_host(login, url)
        try:
            policy.check_url(url, settings)
            addresses = await policy.check_host(url, settings)
        except PolicyRefused as error:
            raise PolicyRefused(
                f"`{shown(spec.clone_url)}` redirects. {error.message}", error.next_step
            ) from None
    raise RepositoryUnreachable(
        f"`{shown(spec.clone_url)}` redirects more than {_MAX_REDIRECTS} times.", "Give the final address."
    )


async def _ask(url: str, addresses: Sequence[str], login: Login | None) -> tuple[str | None, Login | None]:
    """Whether git would be served at `url`: None, or the address to which it redirects; and the login, if it
    was needed for that."""
    proxy = policy.proxy_for(url)
    if proxy and not proxy.startswith(("http://", "https://")):
        return None, login  # git speaks SOCKS and reports errors itself; it follows no redirect
    headers = {"User-Agent": "git/2 littlest-binder", "Git-Protocol": "version=2"}
    try:
        async with web.answer("GET", url + _SERVICE, addresses, headers) as answer:
            if answer.status_code != 401 or login is None:
                return _judge(url, answer), None
        # Only when the host says that it wants one, as git itself does.
        headers["Authorization"] = login.header
        async with web.answer("GET", url + _SERVICE, addresses, headers) as answer:
            return _judge(url, answer, login), login
    except (httpx.TransportError, httpx.InvalidURL) as error:
        raise unreachable(url, error) from None


def _judge(url: str, answer: httpx.Response, login: Login | None = None) -> str | None:
    status = answer.status_code
    if login is not None and status in (401, 403, 404, 410):
        raise CredentialRefused(
            f"The host of `{shown(url)}` does not take the user name and password or token for it, or there "
            "is no such repository.",
            "Check the spelling, whether the token has expired, and whether it may read this repository.",
        )
    if status in (301, 302, 303, 307, 308):
        return urljoin(url + _SERVICE, str(answer.headers.get("Location", "")))
    if status in (401, 403, 404, 410):
        raise missing(url)
    if status == 407:
        raise RepositoryUnreachable(
            f"`{shown(url)}`: the proxy wants a name and a password.",
            "The administrator can put them into the machine's https_proxy.",
        )
    if status != 200:
        raise RepositoryUnreachable(
            f"`{shown(url)}` answered with HTTP status {status}.", "Try again in some minutes."
        )
    if not answer.headers.get("Content-Type", "").startswith("application/x-git-upload-pack-advertisement"):
        raise RepositoryNotFound(
            f"`{shown(url)}` is a web page, but no git repository that can be cloned from there.",
            "Give the address that `git clone` takes.",
        )
    return None


def _redirected(url: str, target: str) -> str:
    """The repository's new address; by the rule of git itself its end must be what was asked for."""
    if not target.endswith(_SERVICE):
        raise missing(url)  # as a rule a sign-in page
    try:
        return normal_git_url(target.removesuffix(_SERVICE))
    except InvalidSpec:
        raise PolicyRefused(
            f"`{shown(url)}` redirects to `{shown(target)}`, which is no address of a git repository.",
            "Give the final address.",
        ) from None


def missing(url: str) -> RepositoryNotFound:
    """A repository that nobody may read and one that is not there cannot be told apart."""
    return RepositoryNotFound(
        f"The repository `{shown(url)}` does not exist or is private.",
        "Check the spelling. If it is private, open its launch link and give an access token for its host.",
    )


def unreachable(url: str, error: Exception | None) -> RepositoryUnreachable:
    """Why no connection could be made, in our own words."""
    reasons: list[BaseException] = []
    cause: BaseException | None = error
    while cause is not None and len(reasons) < 10:
        reasons.append(cause)
        cause = cause.__cause__ or cause.__context__
    host = urlsplit(url).hostname
    if any(isinstance(reason, ssl.SSLError) for reason in reasons):
        return RepositoryUnreachable(
            f"`{shown(url)}`: no safe connection to `{host}` ({shown(str(reasons[0]))}).",
            "If your institution has a certificate authority of its own, the administrator can name its file "
            "in SSL_CERT_FILE.",
        )
    if any(isinstance(reason, ConnectionRefusedError) for reason in reasons) or "refused" in str(error):
        return RepositoryUnreachable(
            f"`{shown(url)}`: `{host}` refused the connection.", "Check the address and its port."
        )
    if isinstance(error, httpx.ProxyError):
        return RepositoryUnreachable(
            f"`{shown(url)}`: the proxy did not let us through ({shown(str(error))}).",
            "Check the machine's proxy settings.",
        )
    return RepositoryUnreachable(
        f"`{shown(url)}` cannot be reached ({shown(str(error) or type(error).__name__)}).",
        "Check the address and the machine's network.",
    )


def _http_access(url: str, addresses: Sequence[str]) -> Access:
    """git connects to the checked addresses only, or through the proxy that looks them up.

    Before 2.37 git looks the host up once more: over https another machine then ends at the certificate, and
    for plain http this raises `PolicyRefused`.
    """
    parts = urlsplit(url)
    options = [("http.followRedirects", "false")]
    environment: list[tuple[str, str]] = []
    proxy = policy.proxy_for(url)
    if proxy:
        environment.append((f"{parts.scheme}_proxy", proxy))
    elif addresses and git.version() >= (2, 37):
        port = parts.port or DEFAULT_PORTS[parts.scheme]
        known = ",".join(f"[{a}]" if ":" in a else a for a in addresses)
        options.append(("http.curloptResolve", f"{parts.hostname}:{port}:{known}"))
    elif addresses and parts.scheme == "http" and parts.hostname not in addresses:
        raise PolicyRefused(
            f"`{shown(url)}`: this machine's git is older than 2.37 and looks `{parts.hostname}` up again,"
            " so that over http it could be led elsewhere.",
            "Use https, or ask the administrator for a newer git.",
        )
    return Access(parts.scheme, tuple(options), tuple(environment), authorities=web.ca_file())


def _ssh_access(url: str, addresses: Sequence[str]) -> Access:
    """Without keys and without asking: what a server gives to everybody."""
    host = urlsplit(url).hostname
    command = (
        "ssh -F none -oBatchMode=yes -oStrictHostKeyChecking=yes -oUserKnownHostsFile=/dev/null "
        # ssh looks for keys in the account's home, whatever HOME says: a submodule's address is anybody's.
        "-oPubkeyAuthentication=no -oIdentityFile=none -oIdentityAgent=none -oGSSAPIAuthentication=no "
        "-oHostbasedAuthentication=no -oForwardAgent=no -oClearAllForwardings=yes "
        f"-oConnectTimeout=15 -oHostKeyAlias={host} -oHostName={addresses[0]}"
    )
    return Access("ssh", (), (("GIT_SSH_COMMAND", command), ("GIT_SSH_VARIANT", "ssh")))


def explain(error: git.GitFailed, spec: RepoSpec) -> BinderError:
    """The reason of a failed network command in our own words, or the error itself."""
    text = error.stderr
    url = spec.clone_url
    if "repository corruption on the remote side" in text:
        return CheckoutFailed(
            f"`{shown(url)}` is damaged: objects are missing or cannot be read there.",
            "Run `git fsck` in it, or tell its operator.",
        )
    if re.search(r"Could not resolve (host|proxy|hostname)", text):
        return RepositoryUnreachable(
            f"`{shown(url)}`: the host is unknown.", "Check the spelling and the machine's network."
        )
    if re.search(r"Connection refused|Failed to connect|Couldn't connect", text):
        return RepositoryUnreachable(f"`{shown(url)}` refused the connection.", "Check the address.")
    if re.search(r"SSL|TLS|certificate", text) and "HTTP" not in text:
        return RepositoryUnreachable(
            f"`{shown(url)}`: no safe connection ({_last_line(text)}).",
            "If your institution has a certificate authority of its own, the administrator can name its file "
            "in SSL_CERT_FILE.",
        )
    if re.search(r"error: 30\d|redirect", text):
        return RepositoryUnreachable(
            f"`{shown(url)}` sends git to another address during the transfer.", "Give the final address."
        )
    # git asks a shell to run it: dash's words and bash's.
    if re.search(r"^\S*sh: .*\bssh: (command )?not found$|cannot run ssh", text, re.MULTILINE):
        return RepositoryUnreachable(
            f"`{shown(url)}`: this machine has no `ssh`.",
            "Use the https address; or the administrator installs it (Debian, Ubuntu: `openssh-client`).",
        )
    if "Host key verification failed" in text:
        return RepositoryUnreachable(
            f"`{shown(url)}`: this machine does not know the host's ssh key.",
            "Use the https address; or the administrator adds the key to /etc/ssh/ssh_known_hosts.",
        )
    if re.search(
        r"not found|Authentication failed|could not read Username|Permission denied|error: (401|403|404)"
        r"|does not appear to be a git repository|Invalid username or|can't cd to",
        text,
    ):
        if spec.provider == "local":
            return RepositoryNotFound(
                f"`{shown(url)}` cannot be read by the account that runs git ({_last_line(text)}).",
                "Make the folder and its files readable for others.",
            )
        return missing(url)
    if re.search(r"not our ref|no such remote ref|couldn't find remote ref", text):
        return RefNotFound(f"`{shown(url)}`: {_last_line(text)}.", "Check the commit.")
    if re.search(
        r"timed out|Operation too slow|early EOF|unexpected disconnect|HTTP (408|429|5\d\d)|RPC failed", text
    ):
        return RepositoryUnreachable(
            f"`{shown(url)}`: the transfer broke off ({_last_line(text)}).", "Try again in some minutes."
        )
    return error


def _last_line(text: str) -> str:
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    line = next((line for line in reversed(lines) if line.startswith(("fatal:", "error:"))), "")
    return shown(re.sub(r"^(fatal|error): ", "", line or (lines[-1] if lines else "no message")), 200)
