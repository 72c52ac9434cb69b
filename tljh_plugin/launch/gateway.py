"""The way from servers to the hub: a listener on the gateway of our own network that passes the hub's API.

The hub itself stays on loopback. Everything else than `/hub/api` and what is below it is refused here, and
so is anything large or endless: servers ask for tokens and report activity, nothing more.
"""

from __future__ import annotations

import asyncio
import errno
import logging
import os
import socket
from pathlib import Path
from typing import Any
from urllib.parse import unquote

from tornado.httpclient import AsyncHTTPClient, HTTPError, HTTPRequest
from tornado.httpserver import HTTPServer
from tornado.iostream import IOStream
from tornado.netutil import bind_sockets
from tornado.web import Application, RequestHandler

from .. import request_ids
from ..errors import SettingsError

log = logging.getLogger("littlest_binder.gateway")

_MAX_REQUEST_BYTES = 1024 * 1024
_MAX_ANSWER_BYTES = 16 * 1024 * 1024
_ANSWER_S = 60.0
_SLOW_BODY_S = 30.0
# A room of people starts at the same minute, and each server asks a few times.
_AT_ONCE = 200
# A server that keeps connections open takes file descriptors of the hub, and with them everybody's hub.
_CONNECTIONS_PER_SERVER = 32
_IDLE_S = 60.0

_REQUEST_HEADERS = ("Authorization", "Content-Type", "Accept", "User-Agent")
_ANSWER_HEADERS = ("Content-Type", "X-JupyterHub-Version", "Cache-Control", "Etag", "Location")


class Gateway:
    """The listener; `open` makes it be there and can be called again and again.

    `port` 0 chooses a free one, which is kept in `memory` so that servers still find it after the hub was
    restarted.
    """

    def __init__(self, port: int, memory: Path) -> None:
        self._port = port
        self._memory = memory
        self._server: HTTPServer | None = None
        self._address: tuple[str, int] | None = None
        self._lock = asyncio.Lock()

    @property
    def url(self) -> str:
        """Where servers find the hub; empty while the listener is not open."""
        return "http://{}:{}".format(*self._address) if self._address else ""

    @property
    def port(self) -> int:
        """Where it listens; 0 while it is not open."""
        return self._address[1] if self._address else 0

    @property
    def known_port(self) -> int:
        """Where it listens, or will as far as is known; 0: it was never open."""
        return self.port or self._port or self._remembered()

    async def open(self, gateway: str, hub: str, api_prefix: str) -> str:
        """Listen on the address `gateway` and pass `api_prefix` and below to `hub` (`http://host:port`).

        Returns the listener's URL. If the network has another gateway than before, the listener moves.
        Raises `SettingsError` if it cannot listen.
        """
        async with self._lock:
            if self._address is None or self._address[0] != gateway:
                await self._close()
                # What comes in later is not of the start for which it is opened.
                request_ids.apart(self._listen, gateway, hub, api_prefix)
        return self.url

    async def close(self) -> None:
        """Stop listening."""
        async with self._lock:
            await self._close()

    async def _close(self) -> None:
        if self._server is not None:
            self._server.stop()
            await self._server.close_all_connections()
        self._server, self._address = None, None

    def _listen(self, gateway: str, hub: str, api_prefix: str) -> None:
        client = AsyncHTTPClient(force_instance=True, max_clients=_AT_ONCE, max_body_size=_MAX_ANSWER_BYTES)
        routes = [(r"/.*", Forward, {"hub": hub, "prefix": api_prefix.rstrip("/"), "client": client})]
        sockets = self._bind(gateway)
        server = _Listener(
            Application(routes, log_function=_log_request),
            max_body_size=_MAX_REQUEST_BYTES,
            body_timeout=_SLOW_BODY_S,
            idle_connection_timeout=_IDLE_S,
        )
        server.add_sockets(sockets)
        self._server, self._address = server, (gateway, sockets[0].getsockname()[1])
        if not self._port:
            self._remember(self._address[1])
        log.info("Servers reach the hub's API at %s", self.url)

    def _bind(self, gateway: str) -> list[socket.socket]:
        wished = [self._port] if self._port else [port for port in (self._remembered(),) if port] + [0]
        problem = OSError(errno.EADDRNOTAVAIL, "")
        for port in wished:
            try:
                return bind_sockets(port, gateway, family=socket.AF_INET)
            except OSError as error:
                problem = error
        raise SettingsError(
            f"Cannot listen on {gateway}:{self._port or 'any port'}, the servers' way to the hub: "
            f"{os.strerror(problem.errno or 0)}.",
            "Free the port, or set another one as `binder.network.gateway_port`.",
        ) from problem

    def _remembered(self) -> int:
        return read_port(self._memory)

    def _remember(self, port: int) -> None:
        try:
            self._memory.write_text(f"{port}\n")
        except OSError as error:
            log.warning("Cannot note the gateway's port in %s: %s", self._memory, error.strerror)


class _Listener(HTTPServer):
    """Closes what one address opens beyond its share."""

    def handle_stream(self, stream: IOStream, address: Any) -> None:
        contexts: list[Any] = [each.context for each in self._connections]
        if sum(each.address[:1] == address[:1] for each in contexts) < _CONNECTIONS_PER_SERVER:
            super().handle_stream(stream, address)
        else:
            stream.close()


class Forward(RequestHandler):
    """Passes one request to the hub's API, with its token and without cookies, and the answer back."""

    SUPPORTED_METHODS = ("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE")

    def initialize(self, hub: str, prefix: str, client: AsyncHTTPClient) -> None:
        self._hub, self._prefix, self._client = hub, prefix, client

    async def _pass(self) -> None:
        if not is_api_path(self.request.path, self._prefix):
            self.set_status(404)
            self.finish({"status": 404, "message": "Only the hub's API can be reached here."})
            return
        method = self.request.method or "GET"
        headers = {
            name: self.request.headers[name] for name in _REQUEST_HEADERS if name in self.request.headers
        }
        request = HTTPRequest(
            self._hub + (self.request.uri or ""),
            method=method,
            headers=headers,
            body=self.request.body or (b"" if method in ("POST", "PUT", "PATCH") else None),
            allow_nonstandard_methods=True,
            follow_redirects=False,
            request_timeout=_ANSWER_S,
        )
        try:
            answer = await self._client.fetch(request, raise_error=False)
        except (OSError, HTTPError) as error:  # refused, timed out, too large
            self.set_status(502)
            self.finish({"status": 502, "message": f"The hub did not answer: {error}"})
            return
        self.set_status(answer.code, answer.reason)
        for name in _ANSWER_HEADERS:
            if name in answer.headers:
                self.set_header(name, answer.headers[name])
        self.finish(answer.body or b"")

    get = head = post = put = patch = delete = _pass

    def check_xsrf_cookie(self) -> None:
        """No cookies pass, so there is nothing to forge; the hub checks its tokens."""

    def set_default_headers(self) -> None:
        self.clear_header("Server")

    def compute_etag(self) -> str | None:
        return None  # the hub's own passes


def read_port(memory: Path) -> int:
    """The port that a listener has noted in `memory`; 0 if there never was one."""
    try:
        return int(memory.read_text())
    except (OSError, ValueError):
        return 0


def is_api_path(path: str, prefix: str) -> bool:
    """Whether a raw path is the API's: no way round by dots, backslashes or escaped slashes."""
    below = f"{prefix}/api"
    if path != below and not path.startswith(f"{below}/"):
        return False
    plain = unquote(path)
    return "\\" not in plain and not any(part in (".", "..") for part in plain.split("/"))


def _log_request(handler: Any) -> None:
    if handler.get_status() >= 500:
        log.warning("%s %s %s", handler.get_status(), handler.request.method, handler.request.path)
