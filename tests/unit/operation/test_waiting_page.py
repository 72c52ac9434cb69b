"""The page of a start without a terminal: progress, then the way in, or the error."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys

import httpx
import pytest
from waiting import LONG_S, until

from tljh_plugin.operation.waiting_page import waiting_page

LINK = "http://binder.localhost:8888/hub/sign-in?code=secret"


async def test_it_shows_what_goes_on_and_then_leads_there_once() -> None:
    given: list[str] = []
    async with waiting_page(opener=given.append, patience_s=LONG_S) as page:
        await until(lambda: given)
        assert "secret" not in given[0]
        async with httpx.AsyncClient(timeout=LONG_S) as http:
            page.say("[  0.1 s] Docker <b>&")
            first = await http.get(given[0])
            assert "Docker &lt;b&gt;&amp;" in first.text
            assert 'http-equiv="refresh"' in first.text
            assert "default-src 'none'" in first.headers["Content-Security-Policy"]
            assert (await http.get(f"{given[0]}favicon.ico")).status_code == 404
            page.arrive(LINK)
            last = await http.get(given[0])
            assert (last.status_code, last.headers["Location"]) == (302, LINK)
            assert LINK not in (await http.get(given[0])).text
    async with httpx.AsyncClient(timeout=LONG_S) as http:
        with pytest.raises(httpx.TransportError):
            await http.get(given[0])


async def test_an_error_stays_to_be_read() -> None:
    given: list[str] = []
    shown: list[httpx.Response] = []

    def opener(address: str) -> None:
        given.append(address)
        while not shown or "refresh" in shown[-1].text:
            shown.append(httpx.get(address, timeout=LONG_S))

    async with waiting_page(opener=opener, patience_s=LONG_S) as page:
        await until(lambda: shown)
        page.fail("Port 8888 is taken <by> nginx")
    await until(lambda: "refresh" not in shown[-1].text)
    assert "Port 8888 is taken &lt;by&gt; nginx" in shown[-1].text
    assert "did not start" in shown[-1].text


async def test_where_no_browser_comes_it_does_not_wait_for_ever() -> None:
    async with waiting_page(opener=lambda _: None, patience_s=0.2) as page:
        page.fail("nobody reads this")
    assert not page.seen.is_set()


@pytest.mark.skipif(os.getuid() != 0, reason="only root can become somebody else")
async def test_another_person_of_the_machine_gets_nothing() -> None:
    become = "import encodings.idna, os, sys, urllib.request; os.setuid(65534)"
    fetch = f"{become}; urllib.request.urlopen(sys.argv[1])"
    given: list[str] = []
    async with waiting_page(opener=given.append, patience_s=0.1) as page:
        page.arrive(LINK)
        await until(lambda: given)
        shown = await asyncio.to_thread(
            lambda: subprocess.run([sys.executable, "-c", fetch, given[0]], capture_output=True, text=True)
        )
    assert "RemoteDisconnected" in shown.stderr
    assert "secret" not in shown.stderr
    assert not page.seen.is_set()
