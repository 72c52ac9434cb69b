"""One question to something slow, shared by all who ask at the same time."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Generic, TypeVar

from ..time_limit import within

T = TypeVar("T")


class SharedQuestion(Generic[T]):
    """Puts the question again only where its last answer is older than `fresh_s` seconds."""

    def __init__(self, ask: Callable[[], Awaitable[T]], *, fresh_s: float) -> None:
        self._ask = ask
        self._fresh_s = fresh_s
        self._question: asyncio.Future[T] | None = None
        self._asked = 0.0

    async def answer(self, wait_s: float | None = None) -> T:
        """The answer; raises `asyncio.TimeoutError` after `wait_s` seconds, while the question goes on."""
        now = asyncio.get_running_loop().time()
        question = self._question
        if question is None or (question.done() and now - self._asked > self._fresh_s):
            question = self._question = asyncio.ensure_future(self._ask())
            self._asked = now
        return await within(wait_s, asyncio.shield(question))
