"""Files in Git LFS: pointers in a commit, contents on a server of their own.

We fetch them ourselves, by the batch API with its `basic` transfer
(https://github.com/git-lfs/git-lfs/tree/main/docs/api), since every address on the way is a repository's or
a server's word: the policy is asked about each, as for the repository itself. What arrives is what its
pointer names, by SHA-256, or it is refused.
"""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import json
import os
import re
import secrets
import threading
import time
from collections.abc import AsyncIterator, Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import IO, Any
from urllib.parse import urljoin, urlsplit

import httpx
from pydantic import BaseModel, ConfigDict, Field, TypeAdapter, ValidationError

from ..amounts import shown_bytes
from ..errors import (
    CheckoutFailed,
    CredentialRefused,
    PolicyRefused,
    RepositoryTooLarge,
    RepositoryUnreachable,
)
from ..settings import MIB, Settings
from ..time_limit import within
from . import policy, remote, web
from .credentials import Login
from .git import GitFailed
from .mirror import Mirror
from .pointers import Pointer
from .providers import shown
from .resolve import PinnedRepo

_MEDIA = "application/vnd.git-lfs+json"
_BATCH = 100  # objects in one question: servers refuse more
_ANSWER_BYTES = 4 * MIB
_AT_ONCE = 4
_REDIRECTS = 5
_SILENCE = httpx.Timeout(60.0)
_CHUNK = 256 * 1024
_HEADER = re.compile(r"[A-Za-z0-9-]{1,60}")
# What belongs to the connection, or to nobody but us.
_OURS = frozenset(
    {"host", "connection", "content-length", "transfer-encoding", "te", "upgrade", "cookie", "range"}
)


class _Action(BaseModel):
    """Where an object can be had."""

    model_config = ConfigDict(extra="ignore", frozen=True)

    href: str
    header: dict[str, str] = Field(default_factory=dict)


class _Object(BaseModel):
    """What the server says of one object: where it is, or why it is not."""

    model_config = ConfigDict(extra="ignore", frozen=True)

    oid: str
    actions: dict[str, _Action] = Field(default_factory=dict)


class _Answer(BaseModel):
    model_config = ConfigDict(extra="ignore", frozen=True)

    objects: list[_Object]


class _AnotherContent(Exception):
    """What was read is not what the pointer names."""


class _GivenUp(Exception):
    """Nobody waits for the contents any more."""


async def fill(
    mirror: Mirror,
    pinned: PinnedRepo,
    pointers: Sequence[Pointer],
    target: Path,
    settings: Settings,
    most: int,
    say: Callable[[str], None],
) -> tuple[int, list[str]]:
    """Replace the pointers below `target` by their contents, at most `most` bytes in all.

    Returns the bytes that were written, and a warning if some contents could not be had. Contents are kept
    beside the mirror, which must be held. Raises `RepositoryTooLarge` before anything is fetched, the errors
    of `remote.reach` for addresses, and `CheckoutFailed` where something else arrives than was named.
    """
    what = shown(pinned.spec.display)
    _check_sizes(pointers, what, settings, most)
    kept = mirror.folder / "lfs"
    await asyncio.to_thread(_open, kept)
    wanted = {each.oid: each for each in pointers}
    missing = [each for each in wanted.values() if not (kept / each.oid).exists()]
    if missing:
        say(f"Git LFS: {len(missing)} objects, {shown_bytes(sum(each.size for each in missing))}")
        started = time.monotonic()
        if pinned.spec.provider == "local":
            await asyncio.to_thread(_copy_local, pinned, missing, kept, settings)
        else:
            await _fetch(await _endpoint(mirror, pinned), pinned, missing, kept, settings)
        say(f"Received in {time.monotonic() - started:.1f} s")
    put, bad = await _put_all(pointers, kept, target)
    await asyncio.to_thread(_forget, kept, frozenset(wanted), settings.source.max_checkout_bytes)
    return put, [_warning(bad)] if bad else []


def _check_sizes(pointers: Sequence[Pointer], what: str, settings: Settings, most: int) -> None:
    largest = max(pointers, key=lambda each: each.size)
    limits = settings.source
    if largest.size > limits.max_file_bytes:
        raise RepositoryTooLarge(
            f"`{what}` has the file `{shown(largest.path)}` of {shown_bytes(largest.size)} in Git LFS.",
            f"At most {shown_bytes(limits.max_file_bytes)} are allowed (`binder.source.max_file_bytes`).",
        )
    total = sum(each.size for each in pointers)
    if total > most:
        raise RepositoryTooLarge(
            f"`{what}` has {shown_bytes(total)} in Git LFS; the largest file, `{shown(largest.path)}`, has "
            f"{shown_bytes(largest.size)}.",
            f"At most {shown_bytes(limits.max_checkout_bytes)} are allowed with all other files "
            "(`binder.source.max_checkout_bytes`).",
        )


def _warning(bad: Sequence[Pointer]) -> str:
    names = ", ".join(f"`{shown(each.path)}`" for each in bad[:3])
    more = f" and {len(bad) - 3} more" if len(bad) > 3 else ""
    return f"Git LFS does not have the content of {names}{more}: only the pointer is there."


# -- asking -------------------------------------------------------------------------------------------


async def _endpoint(mirror: Mirror, pinned: PinnedRepo) -> str:
    """The address of the LFS server: what `.lfsconfig` says, else the one that belongs to the repository.

    See https://github.com/git-lfs/git-lfs/blob/main/docs/api/server-discovery.md.
    """
    said = ""
    with contextlib.suppress(GitFailed):  # there is no such file, or nothing about that in it
        blob = f"{pinned.commit}:.lfsconfig"
        said = (await mirror.read("config", "--blob", blob, "--get", "lfs.url")).decode(errors="replace")
    if said.strip():
        return said.strip().rstrip("/")
    parts = urlsplit(pinned.spec.clone_url)
    scheme, host = parts.scheme, parts.netloc.rpartition("@")[2]
    if scheme == "ssh":
        scheme, host = "https", parts.hostname or host
    path = parts.path.rstrip("/")
    return f"{scheme}://{host}{path}{'' if path.endswith('.git') else '.git'}/info/lfs"


async def _fetch(
    endpoint: str, pinned: PinnedRepo, missing: Sequence[Pointer], kept: Path, settings: Settings
) -> None:
    seconds = settings.source.timeout_s
    try:
        await within(seconds, _fetch_all(endpoint, pinned, missing, kept, settings))
    except asyncio.TimeoutError:
        raise RepositoryUnreachable(
            f"Git LFS of `{shown(pinned.spec.display)}` did not send everything within {seconds:g} seconds.",
            "Try again: what has arrived is kept. The limit is `binder.source.timeout_s`.",
        ) from None


async def _fetch_all(
    endpoint: str, pinned: PinnedRepo, missing: Sequence[Pointer], kept: Path, settings: Settings
) -> None:
    slots = asyncio.Semaphore(_AT_ONCE)

    async def one(pointer: Pointer, action: _Action) -> None:
        async with slots:
            await _download(pointer, action, pinned.login, kept, settings)

    for start in range(0, len(missing), _BATCH):
        asked = {each.oid: each for each in missing[start : start + _BATCH]}
        answer = await _ask(endpoint, pinned, list(asked.values()), settings)
        work = [
            asyncio.ensure_future(one(asked[each.oid], each.actions["download"]))
            for each in {each.oid: each for each in answer.objects}.values()
            if each.oid in asked and "download" in each.actions
        ]
        try:
            await asyncio.gather(*work)
        finally:
            for task in work:
                task.cancel()
            await asyncio.gather(*work, return_exceptions=True)


async def _ask(endpoint: str, pinned: PinnedRepo, asked: Sequence[Pointer], settings: Settings) -> _Answer:
    """Where the objects are. Without an LFS server there nothing is known of any."""
    body = {
        "operation": "download",
        "transfers": ["basic"],
        "objects": [{"oid": each.oid, "size": each.size} for each in asked],
        "hash_algo": "sha256",
    }
    headers = {"Accept": _MEDIA, "Content-Type": _MEDIA, "User-Agent": "git-lfs/3 littlest-binder"}
    url = f"{endpoint}/objects/batch"
    async with _opened("POST", url, headers, pinned.login, settings, json.dumps(body).encode()) as answer:
        if answer.status_code in (404, 410):
            return _Answer(objects=[])
        _judge(answer, url, pinned.login)
        text = await _read(answer, url)
    try:
        return TypeAdapter(_Answer).validate_json(text)
    except ValidationError:
        raise CheckoutFailed(
            f"The Git LFS server `{_host(url)}` sent an answer that cannot be read.",
            "Tell its operator, or take the files out of Git LFS.",
        ) from None


async def _read(answer: httpx.Response, url: str) -> bytes:
    text = b""
    async for chunk in answer.aiter_bytes():
        text += chunk
        if len(text) > _ANSWER_BYTES:
            raise CheckoutFailed(
                f"The Git LFS server `{_host(url)}` sent an answer without end.", "Tell its operator."
            )
    return text


async def _download(
    pointer: Pointer, action: _Action, login: Login | None, kept: Path, settings: Settings
) -> None:
    headers = {
        name: value
        for name, value in action.header.items()
        if _HEADER.fullmatch(name) and name.lower() not in _OURS and not name.lower().startswith("proxy-")
    }
    headers["Accept-Encoding"] = "identity"
    own = any(name.lower() == "authorization" for name in headers)
    async with _opened("GET", action.href, headers, None if own else login, settings) as answer:
        if answer.status_code in (404, 410):
            return
        _judge(answer, action.href, login)
        await _store(answer, pointer, kept)


async def _store(answer: httpx.Response, pointer: Pointer, kept: Path) -> None:
    draft = kept / f"new-{secrets.token_hex(8)}"
    digest, size = hashlib.sha256(), 0
    try:
        with draft.open("xb") as file:
            async for chunk in answer.aiter_bytes(_CHUNK):
                size += len(chunk)
                if size > pointer.size:
                    break
                await asyncio.to_thread(_append, file, digest, chunk)
        if size != pointer.size or digest.hexdigest() != pointer.oid:
            raise CheckoutFailed(
                f"Git LFS sent something else than `{shown(pointer.path)}` "
                f"({'more' if size > pointer.size else size} of {pointer.size} bytes, or another content).",
                "Try again; if it stays, push the file to Git LFS anew.",
            )
        draft.rename(kept / pointer.oid)
    finally:
        draft.unlink(missing_ok=True)


def _append(file: IO[bytes], digest: Any, chunk: bytes) -> None:
    file.write(chunk)
    digest.update(chunk)


@contextlib.asynccontextmanager
async def _opened(
    method: str,
    url: str,
    headers: Mapping[str, str],
    login: Login | None,
    settings: Settings,
    content: bytes | None = None,
) -> AsyncIterator[httpx.Response]:
    """The answer at the end of all redirects; headers and login go to no other host than they are for."""
    begun = _origin(url)
    for _ in range(_REDIRECTS + 1):
        addresses = await _allowed(url, settings)
        sent = dict(headers) if _origin(url) == begun else _plain(headers)
        if login is not None and login.serves(url):
            sent["Authorization"] = login.header
        try:
            async with web.answer(method, url, addresses, sent, content=content, timeout=_SILENCE) as answer:
                if answer.status_code not in (301, 302, 303, 307, 308):
                    yield answer
                    return
                url = urljoin(url, str(answer.headers.get("Location", "")))
        except (httpx.HTTPError, httpx.InvalidURL) as error:
            raise remote.unreachable(_without_query(url), error) from None
    raise RepositoryUnreachable(
        f"Git LFS at `{_host(url)}` redirects more than {_REDIRECTS} times.", "Tell its operator."
    )


async def _allowed(url: str, settings: Settings) -> list[str]:
    """The addresses to connect to; raises what the policy says, without the secret parts of an address."""
    parts = urlsplit(url)
    try:
        if parts.scheme not in ("http", "https") or not parts.hostname or "@" in parts.netloc:
            raise PolicyRefused(f"`{shown(parts.scheme)}` is none of http and https.", "Use https.")
        policy.check_url(_without_query(url), settings)
        if policy.proxy_for(url).startswith("socks"):
            raise PolicyRefused("a SOCKS proxy stands between.", "Files in Git LFS need an HTTP proxy.")
        return await policy.check_host(_without_query(url), settings)
    except PolicyRefused as error:
        raise PolicyRefused(f"Git LFS at `{_host(url)}`: {error.message}", error.next_step) from None


def _judge(answer: httpx.Response, url: str, login: Login | None) -> None:
    if answer.status_code in (401, 403):
        raise CredentialRefused(
            f"The Git LFS server `{_host(url)}` does not give the files"
            + (" with this user name and password or token." if login else " to everybody."),
            "Check whether the token may read the repository's contents, Git LFS included."
            if login
            else "Open the launch link as one of a private repository, with an access token.",
        )
    if answer.status_code != 200:
        raise RepositoryUnreachable(
            f"The Git LFS server `{_host(url)}` answered with HTTP status {answer.status_code}.",
            "Try again in some minutes; a quota may be used up.",
        )


def _plain(headers: Mapping[str, str]) -> dict[str, str]:
    return {name: value for name, value in headers.items() if name.lower() in ("accept", "accept-encoding")}


def _origin(url: str) -> str:
    parts = urlsplit(url)
    return f"{parts.scheme}://{parts.netloc}"


def _host(url: str) -> str:
    return shown(urlsplit(url).netloc.rpartition("@")[2])


def _without_query(url: str) -> str:
    """Signed addresses carry their key in the query."""
    parts = urlsplit(url)
    return f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}{parts.path}"


# -- files --------------------------------------------------------------------------------------------


def _open(kept: Path) -> None:
    """The folder of contents that are kept, without what a killed download left."""
    kept.mkdir(mode=0o700, exist_ok=True)
    for draft in kept.glob("new-*"):
        draft.unlink(missing_ok=True)


def _copy_local(pinned: PinnedRepo, missing: Iterable[Pointer], kept: Path, settings: Settings) -> None:
    """From a folder of this machine; its LFS objects lie in its git folder, links are not followed."""
    folder = policy.local_folder(pinned.spec, settings)
    for pointer in missing:
        for inside in (".git/lfs/objects", "lfs/objects"):
            parts = (*inside.split("/"), pointer.oid[:2], pointer.oid[2:4], pointer.oid)
            with contextlib.suppress(OSError, _AnotherContent), _opened_below(folder, parts) as source:
                _copy(source, pointer, kept / pointer.oid, 0o600)
                break


@contextlib.contextmanager
def _opened_below(folder: Path, parts: Sequence[str]) -> Iterator[IO[bytes]]:
    with contextlib.ExitStack() as closing:
        here = os.open(folder, os.O_PATH | os.O_DIRECTORY | os.O_NOFOLLOW)
        closing.callback(os.close, here)
        for part in parts[:-1]:
            here = os.open(part, os.O_PATH | os.O_DIRECTORY | os.O_NOFOLLOW, dir_fd=here)
            closing.callback(os.close, here)
        flags = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK
        yield closing.enter_context(os.fdopen(os.open(parts[-1], flags, dir_fd=here), "rb"))


async def _put_all(pointers: Sequence[Pointer], kept: Path, target: Path) -> tuple[int, list[Pointer]]:
    given_up = threading.Event()
    putting = asyncio.ensure_future(asyncio.to_thread(_put, pointers, kept, target, given_up))
    try:
        return await asyncio.shield(putting)
    except asyncio.CancelledError:
        # Only when the thread has ended may the folder be removed: it would make files behind the removal.
        given_up.set()
        await asyncio.gather(putting, return_exceptions=True)
        raise


def _put(
    pointers: Sequence[Pointer], kept: Path, target: Path, given_up: threading.Event
) -> tuple[int, list[Pointer]]:
    """Put contents in the place of their pointers; the bytes written, and what is still a pointer."""
    written, bad = 0, []
    for pointer in pointers:
        path = target / pointer.path
        try:
            with (kept / pointer.oid).open("rb") as source:
                _copy(source, pointer, path, path.lstat().st_mode & 0o777, given_up)
        except FileNotFoundError:
            bad.append(pointer)
            continue
        except _AnotherContent:
            (kept / pointer.oid).unlink(missing_ok=True)
            raise CheckoutFailed(
                f"The stored content of `{shown(pointer.path)}` is damaged; it was removed.", "Try again."
            ) from None
        os.utime(kept / pointer.oid)
        written += pointer.size
    return written, bad


def _copy(
    source: IO[bytes], pointer: Pointer, path: Path, mode: int, given_up: threading.Event | None = None
) -> None:
    """A file with the content that the pointer names; raises `_AnotherContent` or `_GivenUp`, and leaves
    nothing then.
    """
    draft = path.parent / f".lfs-{secrets.token_hex(8)}"
    digest, size = hashlib.sha256(), 0
    try:
        with draft.open("xb") as file:
            while (chunk := source.read(_CHUNK)) and size <= pointer.size:
                if given_up is not None and given_up.is_set():
                    raise _GivenUp
                size += len(chunk)
                _append(file, digest, chunk)
            os.fchmod(file.fileno(), mode)
        if digest.hexdigest() != pointer.oid:
            raise _AnotherContent
        draft.replace(path)
    finally:
        draft.unlink(missing_ok=True)


def _forget(kept: Path, used: frozenset[str], most: int) -> None:
    """Remove contents that this commit does not need, oldest first, until the others have `most` bytes."""
    entries = sorted(
        ((each.stat().st_mtime, each.stat().st_size, each) for each in kept.iterdir()), reverse=True
    )
    total = 0
    for _, size, path in entries:
        total += size
        if total > most and path.name not in used:
            path.unlink(missing_ok=True)
