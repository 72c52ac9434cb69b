"""Clients that ask servers all the time, each in a thread of its own; what was no answer is kept."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterable, Mapping
from types import TracebackType

import httpx

# A person's page asks more seldom; what is out of order for a shorter time is not noticed.
_PAUSE_S = 0.1
_PATIENCE_S = 120.0


class Askers:
    """Ask each address from the beginning of the `with` block to its end, signed in by `cookies`.

    An answer is the status 200 with `word` in it; a redirection is the hub's or the proxy's, and none.
    """

    def __init__(self, addresses: Iterable[str], cookies: httpx.Cookies, word: str) -> None:
        self.answered: dict[str, int] = dict.fromkeys(addresses, 0)
        self.failed: list[str] = []
        self.slowest_s = 0.0
        self._cookies, self._word = cookies, word
        self._over = threading.Event()
        self._threads = [
            threading.Thread(target=self._ask, args=(each,), daemon=True) for each in self.answered
        ]

    def __enter__(self) -> Askers:
        for thread in self._threads:
            thread.start()
        self.once_more()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._over.set()
        for thread in self._threads:
            thread.join()

    @property
    def total(self) -> int:
        return sum(self.answered.values())

    def once_more(self, times: int = 3) -> None:
        """Wait until each address was asked so often from now on, or one did not answer."""
        before: Mapping[str, int] = dict(self.answered)
        deadline = time.monotonic() + _PATIENCE_S
        while any(self.answered[each] < before[each] + times for each in before) and not self.failed:
            assert time.monotonic() < deadline, f"nothing is asked any more: {self.answered}"
            time.sleep(0.05)

    def _ask(self, address: str) -> None:
        with httpx.Client(cookies=self._cookies, timeout=60) as http:
            while not self._over.is_set():
                begun = time.monotonic()
                try:
                    answer = http.get(address)
                    well = answer.status_code == 200 and self._word in answer.text
                    said = "" if well else f"{answer.status_code} {answer.text[:200]}"
                except httpx.HTTPError as error:
                    said = repr(error)
                self.slowest_s = max(self.slowest_s, time.monotonic() - begun)
                if said:
                    self.failed.append(f"{time.strftime('%H:%M:%S')} {address}: {said}")
                else:
                    self.answered[address] += 1
                self._over.wait(_PAUSE_S)
