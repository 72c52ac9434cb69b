"""The service's two listening sockets, which outlive a run of it.

When the service begins anew with other settings, whoever connects meanwhile waits in the kernel's queue, and
is answered by the next run instead of being refused.
"""

from __future__ import annotations

import os
import socket
from collections.abc import Callable
from pathlib import Path
from types import TracebackType
from typing import Literal

from tornado.netutil import bind_sockets, bind_unix_socket

from ..errors import SettingsError

_Kind = Literal["public", "private"]
_Address = tuple[str, int] | Path


class Sockets:
    """Use as a context manager, at whose end both are closed and the path of the private one is free."""

    def __init__(self) -> None:
        self._held: dict[_Kind, tuple[_Address, list[socket.socket]]] = {}

    def __enter__(self) -> Sockets:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._close("public")
        self._close("private")

    def public(self, host: str, port: int) -> list[socket.socket]:
        """Copies of those at an address, for a server to listen on and to close. Raises `SettingsError` if it
        is taken.
        """
        try:
            return self._copies("public", (host, port), lambda: bind_sockets(port, host))
        except OSError as error:
            raise SettingsError(
                f"Cannot listen on {host}:{port}: {os.strerror(error.errno or 0)}.",
                "Is another service running? Stop it, or choose another port.",
            ) from error

    def private(self, path: Path) -> list[socket.socket]:
        """The same at a path, for its owner alone."""
        # Its folder is 0700, so nobody comes in between binding and changing the mode.
        return self._copies("private", path, lambda: [bind_unix_socket(str(path), mode=0o600)])

    def _copies(
        self, kind: _Kind, address: _Address, bind: Callable[[], list[socket.socket]]
    ) -> list[socket.socket]:
        """Of those that are held; of new ones if the settings of now say another address."""
        if kind not in self._held or self._held[kind][0] != address:
            self._close(kind)
            self._held[kind] = address, bind()
        return [each.dup() for each in self._held[kind][1]]

    def _close(self, kind: _Kind) -> None:
        if kind not in self._held:
            return
        address, held = self._held.pop(kind)
        for each in held:
            each.close()
        if isinstance(address, Path):
            address.unlink(missing_ok=True)
