"""Calls to Docker, off the event loop, each with a time-out, each failure an `EngineError`.

Every call runs in a thread of its own with a client that no other thread uses at that time: a slow call
delays nobody's short one, and one that never returns holds nothing up when the process ends (threads of a
`ThreadPoolExecutor` are waited for at exit). Short calls are bounded in number, so that sixty people at the
same minute are no flood; long ones (waiting for a container, following events) are not, since they are as
many as containers.
"""

from __future__ import annotations

import asyncio
import errno
import os
import threading
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager, suppress
from typing import Any, TypeVar

import docker
import docker.errors
import docker.utils
import requests
import urllib3.exceptions

from ..errors import BinderError, EngineError, EngineTimedOut, EngineUnavailable
from ..time_limit import within
from .threads import in_thread

T = TypeVar("T")
Heard = Callable[[str, float | None, str], None]

_SHORT_CALLS = 16
_IDLE_CLIENTS = 8
_CONNECT_TIMEOUT_S = 10.0
_DEFAULT_HOST = "unix:///var/run/docker.sock"
# docker-py reads answers that come in pieces past `requests`, so that urllib3's own errors come out.
_BROKEN = (
    requests.RequestException,
    urllib3.exceptions.HTTPError,
    docker.errors.DockerException,
    OSError,
)


def unheard(name: str, seconds: float | None, error: str) -> None:
    """Where nobody counts calls."""


class Connection:
    """Clients of one Docker engine, made when needed; an engine that comes later, or comes back, works."""

    def __init__(self, base_url: str | None, timeout_s: float, heard: Heard = unheard) -> None:
        self._base_url = base_url
        self.timeout_s = timeout_s
        self._heard = heard
        self._idle: list[Any] = []
        self._version = ""
        self._lock = threading.Lock()
        self._short = asyncio.Semaphore(_SHORT_CALLS)

    async def call(
        self,
        name: str,
        work: Callable[[Any], T],
        *,
        timeout_s: float | None = None,
        silence_s: float | None = None,
        long: bool = False,
    ) -> T:
        """Run `work` with a docker-py `APIClient`; `name` is what errors call it.

        Raises `EngineUnavailable`, `EngineTimedOut` after `timeout_s` seconds in all or `silence_s` (default:
        as many) without a word of Docker, or `EngineError`. On time-out or cancellation the thread is left
        behind; it ends when Docker answers or its own socket times out.
        """
        limit = timeout_s if timeout_s is not None else self.timeout_s
        silence = silence_s if silence_s is not None else limit
        clock = asyncio.get_running_loop().time
        begun = clock()
        try:
            result = await within(limit, self._run(name, work, silence, long))
        except (TimeoutError, asyncio.TimeoutError):
            self._heard(name, None, "timed-out")
            raise _timed_out(name, limit) from None
        except EngineError as error:
            self._heard(name, None, _kind(error))
            raise
        self._heard(name, None if long else clock() - begun, "")
        return result

    async def _run(self, name: str, work: Callable[[Any], T], silence: float, long: bool) -> T:
        if long:
            return await in_thread(lambda: self._use(name, work, silence))
        async with self._short:
            return await in_thread(lambda: self._use(name, work, silence))

    def _use(self, name: str, work: Callable[[Any], T], silence: float) -> T:
        """In the thread: take a client, work, give it back if it is still good."""
        client: Any = None
        first = _first_words_s(silence)
        try:
            client = self._take(first)
            client.timeout = silence
            result = work(client)
        except BinderError:
            self._give_back(client)
            raise
        except docker.errors.APIError as error:
            self._give_back(client)
            raise refused(name, error) from error
        except _BROKEN as error:
            self._discard(client)
            raise _unreachable(name, error, first if client is None else client.timeout) from error
        except BaseException:
            self._discard(client)
            raise
        self._give_back(client)
        return result

    @asynccontextmanager
    async def held(
        self, name: str, timeout_s: float
    ) -> AsyncIterator[Callable[[Callable[[Any], T]], Awaitable[T]]]:
        """A client for several steps of one long exchange; what is given runs a step in a thread.

        `timeout_s` is how long Docker may be silent. Errors are those of `call`. The client is closed at the
        end, and with it an exchange that is not over.
        """
        clients: list[Any] = []

        def step(work: Callable[[Any], Any]) -> Any:
            given = timeout_s if clients else _first_words_s(timeout_s)
            try:
                if not clients:
                    clients.append(self._take(given))
                    clients[0].timeout = given = timeout_s
                return work(clients[0])
            except BinderError:
                raise
            except docker.errors.APIError as error:
                raise refused(name, error) from error
            except _BROKEN as error:
                raise _unreachable(name, error, given) from error

        async def ask(work: Callable[[Any], Any]) -> Any:
            return await in_thread(lambda: step(work))

        try:
            yield ask
        finally:
            for client in clients:
                client.close()

    def _take(self, timeout_s: float) -> Any:
        """An idle client, or a new one; that asks Docker for its version, which may take `timeout_s`."""
        with self._lock:
            if self._idle:
                return self._idle.pop()
            version = self._version
        arguments = {"base_url": self._base_url} if self._base_url else docker.utils.kwargs_from_env()
        client = docker.APIClient(**arguments, version=version or "auto", timeout=timeout_s)
        with self._lock:
            self._version = client.api_version
        return client

    def _give_back(self, client: Any) -> None:
        if client is None:
            return
        with self._lock:
            if len(self._idle) < _IDLE_CLIENTS:
                self._idle.append(client)
                return
        client.close()

    def _discard(self, client: Any) -> None:
        """After a broken connection: other idle clients are as stale, and the engine may come back as
        another version.
        """
        with self._lock:
            stale, self._idle, self._version = [*self._idle, client], [], ""
        for each in stale:
            if each is not None:
                with suppress(Exception):
                    each.close()

    def environment(self) -> dict[str, str]:
        """Variables with which the `docker` command asks the same engine."""
        host = self._base_url or os.environ.get("DOCKER_HOST") or _DEFAULT_HOST
        return {"DOCKER_HOST": host, "DOCKER_CONTEXT": "", "BUILDX_BUILDER": ""}

    def close(self) -> None:
        """Close idle connections; can be used again afterwards."""
        self._discard(None)


@contextmanager
def patience(client: Any, seconds: float) -> Iterator[None]:
    """Within, Docker may be silent for so long: one step of a call takes long by its nature, the others not.

    After an error it stays, for who tells how long Docker was silent.
    """
    before, client.timeout = client.timeout, seconds
    yield
    client.timeout = before


def _kind(error: EngineError) -> str:
    """In a word: `unreachable`, `timed-out` or `refused`."""
    if isinstance(error, EngineUnavailable):
        return "unreachable"
    return "timed-out" if isinstance(error, EngineTimedOut) else "refused"


def _first_words_s(limit: float) -> float:
    """How long Docker may take to tell its version, where it has `limit` seconds for what is asked then."""
    return min(limit, _CONNECT_TIMEOUT_S)


def refused(name: str, error: docker.errors.APIError) -> EngineError:
    """Docker answered and said no."""
    said = str(error.explanation or error).strip()
    return EngineError(f"Docker refused to {name}: {said}", "See Docker's own log for more.")


def _timed_out(name: str, limit: float) -> EngineTimedOut:
    return EngineTimedOut(
        f"Docker did not answer within {limit:g} s when asked to {name}.",
        "Check that `docker info` answers, and the machine's load and disk; then try again.",
    )


def _causes(error: BaseException) -> Iterator[BaseException]:
    """The error, what it was raised from, and errors that requests and urllib3 hide in arguments."""
    waiting: list[BaseException] = [error]
    seen: set[int] = set()
    while waiting:
        each = waiting.pop()
        if id(each) in seen:
            continue
        seen.add(id(each))
        yield each
        found = [each.__cause__, each.__context__, getattr(each, "reason", None), *each.args]
        waiting.extend(item for item in found if isinstance(item, BaseException))


def was_silent(error: BaseException) -> bool:
    """Whether Docker was reached and said nothing for too long."""
    return any(
        isinstance(each, (requests.Timeout, TimeoutError)) or "Read timed out" in str(each)
        for each in _causes(error)
    )


def _unreachable(name: str, error: BaseException, limit: float) -> EngineError:
    if was_silent(error):
        return _timed_out(name, limit)
    causes = list(_causes(error))
    number = next((each.errno for each in causes if isinstance(each, OSError) and each.errno), None)
    if number in (errno.EACCES, errno.EPERM):
        return EngineUnavailable(
            f"No permission to talk to Docker (asked to {name}).",
            "Add yourself to its group (`sudo usermod -aG docker $USER`), sign in anew and try again.",
        )
    reason = {
        errno.ENOENT: "its socket does not exist",
        errno.ECONNREFUSED: "nothing listens on its socket",
        errno.EAGAIN: "it is too busy to accept connections",
    }.get(number or 0, str(error))
    return EngineUnavailable(
        f"Docker cannot be reached: {reason} (asked to {name}).",
        "Start Docker: `sudo systemctl start docker`; where no service manager runs, `sudo dockerd`.",
    )
