"""Opening a browser at a sign-in link that nobody else may see."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys

import httpx
import pytest
from waiting import LONG_S, until

from tljh_plugin.operation import browser

LINK = "http://binder.localhost:8888/hub/sign-in?code=secret"


async def test_the_browser_is_sent_there_without_being_told_the_secret() -> None:
    given: list[str] = []
    seen: list[httpx.Response] = []

    def opener(address: str) -> None:
        given.append(address)
        seen.append(httpx.get(address, timeout=LONG_S))

    assert await browser.open_browser(LINK, opener=opener)
    await until(lambda: seen)
    assert "secret" not in given[0]
    assert seen[0].headers["Location"] == LINK
    assert seen[0].headers["Referrer-Policy"] == "no-referrer"


async def test_it_answers_once() -> None:
    given: list[str] = []

    def opener(address: str) -> None:
        given.append(address)
        httpx.get(address, timeout=LONG_S)

    assert await browser.open_browser(LINK, opener=opener)
    async with httpx.AsyncClient(timeout=LONG_S) as http:
        with pytest.raises(httpx.TransportError):
            await http.get(given[0])


@pytest.mark.skipif(os.getuid() != 0, reason="only root can become somebody else")
async def test_another_person_gets_nothing_and_does_not_use_it_up() -> None:
    become = "import encodings.idna, os, sys, urllib.request; os.setuid(65534)"
    fetch = f"{become}; urllib.request.urlopen(sys.argv[1])"
    strangers: list[subprocess.CompletedProcess[str]] = []

    def opener(address: str) -> None:
        command = [sys.executable, "-c", fetch, address]
        strangers.append(subprocess.run(command, capture_output=True, text=True))
        httpx.get(address, timeout=LONG_S)

    assert await browser.open_browser(LINK, opener=opener)
    assert "RemoteDisconnected" in strangers[0].stderr
    assert "secret" not in strangers[0].stderr


async def test_without_a_browser_it_gives_up() -> None:
    assert not await browser.open_browser(LINK, opener=lambda address: None, timeout_s=0.1)


async def test_a_browser_that_does_not_return_holds_nothing_up() -> None:
    async def fetched_at_last(address: str) -> None:
        async with httpx.AsyncClient(timeout=LONG_S) as http:
            await http.get(address)

    loop = asyncio.get_running_loop()

    def opener(address: str) -> None:
        asyncio.run_coroutine_threadsafe(fetched_at_last(address), loop).result()

    assert await browser.open_browser(LINK, opener=opener)
