"""A service of this machine as careless as they come: on all addresses, IPv4 and IPv6, by TCP and by UDP."""

from __future__ import annotations

import socket
import socketserver
import threading
from types import TracebackType


class _Hello(socketserver.BaseRequestHandler):
    def handle(self) -> None:
        if isinstance(self.request, tuple):
            data, answering = self.request
            answering.sendto(data, self.client_address)
        else:
            self.request.recv(1000)
            self.request.sendall(b"HTTP/1.0 200 OK\r\n\r\nhello")


class _Tcp6(socketserver.ThreadingTCPServer):
    """IPv6 and, mapped, IPv4."""

    address_family = socket.AF_INET6
    daemon_threads = True

    def server_bind(self) -> None:
        self.socket.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0)
        super().server_bind()


class HostService:
    """Use as a context; `port` is the same for TCP and UDP."""

    def __init__(self) -> None:
        self._tcp = _Tcp6(("::", 0), _Hello)
        self.port = int(self._tcp.server_address[1])
        self._udp = socketserver.ThreadingUDPServer(("0.0.0.0", self.port), _Hello)

    def __enter__(self) -> HostService:
        for server in (self._tcp, self._udp):
            threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True).start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for server in (self._tcp, self._udp):
            server.shutdown()
            server.server_close()
