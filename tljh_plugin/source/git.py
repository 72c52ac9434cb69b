"""git, and the only place that runs it.

Every command gets an environment from scratch, settings of our own instead of the machine's, limits, a
time-out, and a process group that is killed with it. Where we are root it runs as an unprivileged account.
That account may be unable to reach our folders (they may lie below a home of mode 0700): the working
directory is entered before the rights are dropped, and git is only given paths relative to it.
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import functools
import os
import pwd
import re
import shutil
import signal
import subprocess
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..errors import CheckoutDiskFull, CheckoutFailed, RepositoryTooLarge
from ..settings import Settings
from .credentials import Login
from .providers import printable

_WATCH_S = 0.1
_STDERR_BYTES = 64 * 1024
# Settings for every git that we start and for those that they start. Passed as the person's settings, which,
# unlike a repository's own, git takes as protected: no repository can set hooks or programs.
_CONFIG = """\
[safe]
    directory = *
[core]
    hooksPath = /dev/null
    attributesFile = /dev/null
    excludesFile = /dev/null
    fsmonitor = false
    commitGraph = false
[protocol]
    allow = never
[credential]
    helper =
[transfer]
    credentialsInUrl = die
[fetch]
    unpackLimit = 1
    writeCommitGraph = false
    recurseSubmodules = false
[gc]
    auto = 0
[maintenance]
    auto = false
[http]
    followRedirects = false
    lowSpeedLimit = 100
    lowSpeedTime = 60
[pack]
    threads = 1
    writeReverseIndex = false
[index]
    version = 2
[tar]
    umask = 0022
[uploadpack]
    allowFilter = true
    allowAnySHA1InWant = true
"""


# Of this machine: what the other side says of its own disk stands behind `remote:`. The last words are git's.
_DISK_FULL = re.compile(
    r"^(?!remote:).*(No space left on device|Disk quota exceeded|Out of diskspace)", re.MULTILINE
)


class GitFailed(CheckoutFailed):
    """git ended with an error; `stderr` is its text, for the caller to explain."""

    def __init__(self, command: str, exit_code: int, stderr: str) -> None:
        lines = stderr.replace("\0", "").strip().splitlines()
        telling = [line for line in lines if line.startswith(("fatal:", "error:", "remote:"))] or lines
        last = printable(" ".join(telling[-3:]), 400)
        super().__init__(
            f"git {command} failed with exit code {exit_code}: {last or 'no message'}",
            "Try again; if it stays, the service's log has more.",
        )
        self.exit_code = exit_code
        self.stderr = stderr


def cannot_write(what: str, error: OSError) -> CheckoutFailed:
    """`what` could not be written below the state folder: a sentence without its stop."""
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        return _disk_full(f"{what}: the disk is full.")
    return CheckoutFailed(
        f"{what}: {error.strerror or error}.", "Check the free disk and the owner of the state folder."
    )


def _disk_full(message: str) -> CheckoutDiskFull:
    return CheckoutDiskFull(
        message, "Free some disk, or ask the administrator to; then try again. What was there is as it was."
    )


class GitTimedOut(CheckoutFailed):
    """git took longer than it may."""

    def __init__(self, command: str, seconds: float) -> None:
        super().__init__(
            f"git {command} did not finish within {seconds:g} seconds and was ended.",
            "Try again later, or raise `binder.source.timeout_s`.",
        )


@dataclass(frozen=True)
class Access:
    """What a git command may reach: nothing unless said.

    `protocol` is git's name of the only transport allowed; `options` are settings for this command;
    `environment` is added to git's; `folders` are open descriptors that git inherits; `authorities` is the
    file of the certificate authorities, which the account that runs git need not be able to read; `login` is
    given to the one host that it is for, when that asks.
    """

    protocol: str = ""
    options: tuple[tuple[str, str], ...] = ()
    environment: tuple[tuple[str, str], ...] = ()
    folders: tuple[int, ...] = ()
    authorities: str = ""
    login: Login | None = None


NOTHING = Access()


@dataclass(frozen=True)
class Account:
    """The account under which git runs where we are root."""

    name: str
    uid: int
    gid: int


def account(settings: Settings) -> Account | None:
    """The unprivileged account, or None where we are not root; raises `CheckoutFailed` if there is none."""
    if os.geteuid() != 0:
        return None
    wanted = settings.source.git_user
    for name in (wanted,) if wanted else ("littlest-binder", "nobody"):
        with contextlib.suppress(KeyError):
            entry = pwd.getpwnam(name)
            if entry.pw_uid != 0:
                return Account(name, entry.pw_uid, entry.pw_gid)
    raise CheckoutFailed(
        f"There is no unprivileged account `{wanted or 'nobody'}` to run git as.",
        "Create it, or name another one in `binder.source.git_user`.",
    )


class Git:
    """Runs git commands. Holds no state but its settings."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self.account = account(settings)

    async def run(
        self,
        *arguments: str,
        cwd: Path,
        stdin: bytes = b"",
        access: Access = NOTHING,
        environment: Mapping[str, str] | None = None,
        timeout_s: float | None = None,
        stdout: int | None = None,
        max_output: int = 256 * 1024**2,
        file_bytes: int = 0,
        keep_open: Sequence[int] = (),
        watch: Callable[[], None] | None = None,
    ) -> bytes:
        """The command's output; `arguments` begin with the command's name.

        `cwd` is the git directory itself, if there is one. `stdout` is a descriptor to write to instead; it
        is closed here. `watch` is called ten times a second and may raise to end the command. `keep_open`
        are descriptors (locks) that the command holds as long as it lives. git is killed when a file that it
        writes gets larger than `file_bytes`, the setting's `max_fetch_bytes` if not given. `timeout_s` is in
        seconds, the setting's if not given. When this is cancelled the command and all that it started are
        killed. Raises `GitFailed`, `GitTimedOut`, `CheckoutDiskFull`, `RepositoryTooLarge` where it says more
        than `max_output` bytes.
        """
        seconds = timeout_s if timeout_s is not None else self._settings.source.timeout_s
        with contextlib.ExitStack() as closing:
            if stdout is not None:
                closing.callback(os.close, stdout)
            process = await self._start(
                arguments, cwd, access, environment or {}, seconds, file_bytes, stdout, keep_open, closing
            )
        feeding = asyncio.ensure_future(_feed(process, stdin))
        reading = asyncio.ensure_future(_read(process, arguments[0], max_output))
        listening = asyncio.ensure_future(_read_errors(process))
        work = (feeding, reading, listening)
        try:
            await _watched(work, watch, seconds, arguments[0])
            exit_code = await process.wait()
        except BaseException:
            await _end(process, work)
            raise
        output, errors = reading.result(), listening.result()
        if exit_code != 0:
            said = errors.decode(errors="replace")
            if _DISK_FULL.search(said):
                raise _disk_full("The disk became full while the repository was fetched.")
            raise GitFailed(arguments[0], exit_code, access.login.without(said) if access.login else said)
        return output

    async def _start(
        self,
        arguments: Sequence[str],
        cwd: Path,
        access: Access,
        environment: Mapping[str, str],
        seconds: float,
        file_bytes: int,
        stdout: int | None,
        keep_open: Sequence[int],
        closing: contextlib.ExitStack,
    ) -> asyncio.subprocess.Process:
        settings_fd = _file_of(_CONFIG.encode(), closing)
        inherited = [settings_fd, *access.folders, *keep_open]
        variables = {**_environment(settings_fd, access.protocol), **dict(access.environment), **environment}
        if access.authorities:
            inherited.append(_file_of(_content(access.authorities), closing))
            variables["GIT_SSL_CAINFO"] = f"/proc/self/fd/{inherited[-1]}"
        options = [part for key, value in access.options for part in ("-c", f"{key}={value}")]
        if access.login:
            inherited.append(_file_of(access.login.for_git, closing))
            options += ["-c", f"credential.{access.login.origin}.helper={_helper(inherited[-1])}"]
        if access.protocol:
            options += ["-c", f"protocol.{access.protocol}.allow=always"]
        command = [
            *_limits(file_bytes or self._settings.source.max_fetch_bytes, seconds),
            "git",
            *options,
            *(("--git-dir=.",) if (cwd / "objects").is_dir() else ()),
            *arguments,
        ]
        rights = (
            {"user": self.account.uid, "group": self.account.gid, "extra_groups": []} if self.account else {}
        )
        starting = asyncio.ensure_future(
            asyncio.create_subprocess_exec(
                *command,
                cwd=cwd,
                env=variables,
                stdin=asyncio.subprocess.PIPE,
                stdout=asyncio.subprocess.PIPE if stdout is None else stdout,
                stderr=asyncio.subprocess.PIPE,
                start_new_session=True,
                umask=0o022,
                pass_fds=inherited,
                **rights,  # type: ignore[arg-type]
            )
        )
        try:
            return await asyncio.shield(starting)
        except asyncio.CancelledError:
            # Cancelled half-way asyncio would end the command alone, and wait for what that has started.
            with contextlib.suppress(OSError):
                await _end(await starting, ())
            raise
        except FileNotFoundError as error:
            raise CheckoutFailed(
                f"Cannot start git: {error.strerror} ({error.filename}).", "Install git and util-linux."
            ) from None
        except PermissionError as error:
            raise CheckoutFailed(
                f"Cannot start git in {cwd}: {error.strerror}.", "Check the owner of the state folder."
            ) from None


def version() -> tuple[int, int]:
    """Major and minor version of the installed git; (0, 0) if there is none, or none that answers now."""
    try:
        return _version()
    except (OSError, subprocess.SubprocessError):
        return (0, 0)


@functools.cache
def _version() -> tuple[int, int]:
    done = subprocess.run(["git", "version"], capture_output=True, text=True, check=True, timeout=10)
    found = re.search(r"(\d+)\.(\d+)", done.stdout)
    return (int(found[1]), int(found[2])) if found else (0, 0)


def _file_of(content: bytes, closing: contextlib.ExitStack) -> int:
    """A descriptor of a file with this content, which any account can open through /proc."""
    descriptor = os.memfd_create("littlest-binder")
    closing.callback(os.close, descriptor)
    with open(descriptor, "wb", closefd=False) as file:
        file.write(content)
    return descriptor


def _helper(descriptor: int) -> str:
    """A credential helper that reads its answer from an inherited descriptor, see gitcredentials(7)."""
    return f'!answer() {{ test "$1" = get && cat /proc/self/fd/{descriptor}; }}; answer'


def _content(path: str) -> bytes:
    with open(path, "rb") as file:
        return file.read()


def _environment(settings_fd: int, protocol: str) -> dict[str, str]:
    return {
        "PATH": os.environ.get("PATH", os.defpath),
        "HOME": "/nonexistent",
        "XDG_CONFIG_HOME": "/nonexistent",
        "LC_ALL": "C",
        "TZ": "UTC",
        "GIT_CONFIG_NOSYSTEM": "1",
        "GIT_CONFIG_GLOBAL": f"/proc/self/fd/{settings_fd}",
        "GIT_ATTR_NOSYSTEM": "1",
        "GIT_TERMINAL_PROMPT": "0",
        "GIT_ASKPASS": "true",
        "SSH_ASKPASS": "true",
        "GIT_NO_REPLACE_OBJECTS": "1",
        "GIT_NO_LAZY_FETCH": "1",
        "GIT_OPTIONAL_LOCKS": "0",
        "GIT_ALLOW_PROTOCOL": protocol or "none",
    }


def _limits(file_bytes: int, seconds: float) -> list[str]:
    program = shutil.which("prlimit")
    if program is None:
        return []
    return [
        program,
        f"--fsize={file_bytes}",
        f"--cpu={max(10, round(seconds))}",
        "--nofile=1024",
        "--core=0",
        "--",
    ]


async def _feed(process: asyncio.subprocess.Process, stdin: bytes) -> None:
    if process.stdin is None:
        return
    with contextlib.suppress(BrokenPipeError, ConnectionResetError):
        process.stdin.write(stdin)
        await process.stdin.drain()
    process.stdin.close()


async def _read(process: asyncio.subprocess.Process, command: str, limit: int) -> bytes:
    if process.stdout is None:
        return b""
    chunks: list[bytes] = []
    size = 0
    while chunk := await process.stdout.read(1024 * 1024):
        size += len(chunk)
        if size > limit:
            raise RepositoryTooLarge(
                f"The output of git {command} is larger than {limit} bytes.", "Use a smaller repository."
            )
        chunks.append(chunk)
    return b"".join(chunks)


async def _read_errors(process: asyncio.subprocess.Process) -> bytes:
    """The last part of what git says, without progress that overwrites itself."""
    text = b""
    if process.stderr is not None:
        while chunk := await process.stderr.read(8192):
            text = (text + chunk)[-_STDERR_BYTES:]
    return text


async def _watched(
    work: Sequence[asyncio.Future[Any]], watch: Callable[[], None] | None, seconds: float, command: str
) -> None:
    loop = asyncio.get_running_loop()
    end = loop.time() + seconds
    pending: Collection[asyncio.Future[Any]] = work
    while pending:
        left = end - loop.time()
        if left <= 0:
            raise GitTimedOut(command, seconds)
        step = min(left, _WATCH_S) if watch is not None else left
        done, pending = await asyncio.wait(pending, timeout=step, return_when=asyncio.FIRST_EXCEPTION)
        for part in done:
            part.result()
        if watch is not None:
            watch()


async def _end(process: asyncio.subprocess.Process, work: Sequence[asyncio.Future[Any]]) -> None:
    """End the command with its whole process group, and wait until it is gone."""
    # Once the command was waited for, its group is surely there only while somebody holds its pipes.
    if process.returncode is None or not all(part.done() for part in work):
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
    for part in work:
        part.cancel()
    await asyncio.shield(_gone(process, work))


async def _gone(process: asyncio.subprocess.Process, work: Sequence[asyncio.Future[Any]]) -> None:
    await asyncio.gather(*work, return_exceptions=True)
    # asyncio takes a process for ended when its pipes have, and never sees the end of a pipe that is full.
    pipes = [_drain(pipe) for pipe in (process.stdout, process.stderr) if pipe is not None]
    await asyncio.gather(process.wait(), *pipes)


async def _drain(pipe: asyncio.StreamReader) -> None:
    while await pipe.read(1024 * 1024):
        pass
