"""The service's two listening sockets, which outlive a run of it.

When the service begins anew with other settings, whoever connects meanwhile waits in the kernel's queue, and
is answered by the next run instead of being refused.
"""

from __future__ import annotations

import os
import socket
from pathlib import Path
from types import TracebackType

from tornado.netutil import bind_sockets, bind_unix_socket

from ..errors import SettingsError

_Address = tuple[str, int] | Path


class Sockets:
    """Use as a context manager, at whose end both are closed and the path of the private one is free."""

    def __init__(self) -> None:
        self._held: dict[_Address, list[socket.socket]] = {}

    def __enter__(self) -> Sockets:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for address in list(self._held):
            self._close(address)

    def public(self, host: str, port: int) -> list[socket.socket]:
        """Copies of those at an address, for a server to listen on and to close. Raises `SettingsError` if it
        is taken.
        """
        try:
            return self._copies((host, port))
        except OSError as error:
            raise SettingsError(
                f"Cannot listen on {host}:{port}: {os.strerror(error.errno or 0)}.",
                "Is another service running? Stop it, or choose another port.",
            ) from error

    def private(self, path: Path) -> list[socket.socket]:
        """The same at a path, for its owner alone."""
        return self._copies(path)

    def _copies(self, address: _Address) -> list[socket.socket]:
        for other in [each for each in self._held if type(each) is type(address) and each != address]:
            self._close(other)
        if address not in self._held:
            self._held[address] = (
                # Its folder is 0700, so nobody comes in between binding and changing the mode.
                [bind_unix_socket(str(address), mode=0o600)]
                if isinstance(address, Path)
                else bind_sockets(address[1], address[0])
            )
        return [each.dup() for each in self._held[address]]

    def _close(self, address: _Address) -> None:
        for each in self._held.pop(address):
            each.close()
        if isinstance(address, Path):
            address.unlink(missing_ok=True)
