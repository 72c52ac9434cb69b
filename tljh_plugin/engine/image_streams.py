"""Whole images in and out of Docker, piece by piece: never more than a piece is in memory."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncGenerator, AsyncIterator, Iterator
from concurrent.futures import Future
from contextlib import suppress
from typing import Any

import docker.errors

from ..errors import BinderError, EngineError
from .connection import Connection
from .images import missing

_PIECE = 1024**2
# Docker says nothing while it packs or unpacks a large layer.
_SILENCE_S = 1800.0


async def save(connection: Connection, image_id: str) -> AsyncGenerator[bytes, None]:
    """What `docker save` gives for an image by its id, without names. Raises `ImageNotFound`."""
    async with connection.held(f"save the image {image_id}", _SILENCE_S) as ask:

        def begin(client: Any) -> Iterator[bytes]:
            try:
                found: Iterator[bytes] = client.get_image(image_id, chunk_size=_PIECE)
            except docker.errors.NotFound:
                raise missing(image_id) from None
            return found

        pieces = await ask(begin)
        while True:
            piece: bytes | None = await ask(lambda _: next(pieces, None))
            if piece is None:
                return
            yield piece


async def load(connection: Connection, pieces: AsyncIterator[bytes]) -> None:
    """Give Docker what `docker save` gave. What `pieces` raises ends it, and then nothing is loaded.

    Raises `EngineError` with what Docker said.
    """
    loop = asyncio.get_running_loop()
    stopped = threading.Event()
    turn = asyncio.Lock()
    asked: list[Future[bytes | None]] = []
    raised: list[BaseException] = []

    async def one() -> bytes | None:
        try:
            async with turn:
                return await anext(pieces, None)
        except BinderError as error:
            raised.append(error)
            raise

    def body() -> Iterator[bytes]:
        while not stopped.is_set():
            asked[:] = [asyncio.run_coroutine_threadsafe(one(), loop)]
            piece = asked[0].result()
            if piece is None:
                return
            if piece:
                yield piece
        raise EngineError("The transfer was stopped.", "Begin it again.")

    def send(client: Any) -> None:
        for said in client.load_image(body(), quiet=True):
            problem = said.get("error") or said.get("message")
            if problem:
                raise EngineError(f"Docker did not take the image: {problem}", "Look at Docker's own log.")

    try:
        async with connection.held("load an image", _SILENCE_S) as ask:
            await ask(send)
    except Exception:
        if raised:
            # The transport wraps what went wrong with the pieces in words of its own.
            raise raised[0] from None
        raise
    finally:
        stopped.set()
        with suppress(IndexError):
            asked[0].cancel()
        async with turn:
            pass  # nobody reads from `pieces` any more, so that its owner can close it
