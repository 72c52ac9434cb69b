"""The lock that keeps a second service away from the store."""

from __future__ import annotations

import fcntl
import os
from pathlib import Path

from ..errors import StoreError


class StoreLock:
    """Held from `take` to `release`, and given back by the kernel when the process dies in any way.

    The file itself stays: removing it would let two processes lock two different files of one name.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._descriptor: int | None = None

    def take(self) -> None:
        """Raises `StoreError` naming the process that holds it."""
        try:
            descriptor = os.open(self.path, os.O_RDWR | os.O_CREAT, 0o600)
        except OSError as error:
            raise StoreError(
                f"Cannot open the lock of the store, {self.path}: {error.strerror}.",
                "Check the owner of the state folder and the free disk.",
            ) from error
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            holder = os.read(descriptor, 32).decode("ascii", "replace").strip() or "unknown"
            os.close(descriptor)
            raise StoreError(
                f"The store is in use by process {holder} (lock {self.path}).",
                "Only one service may run on a state folder: stop the other one first.",
            ) from None
        os.ftruncate(descriptor, 0)
        os.pwrite(descriptor, f"{os.getpid()}\n".encode("ascii"), 0)
        self._descriptor = descriptor

    def release(self) -> None:
        """Can be called again."""
        if self._descriptor is not None:
            os.close(self._descriptor)
            self._descriptor = None
