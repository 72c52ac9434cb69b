"""Debian's Chromium for asynchronous tests."""

from __future__ import annotations

import shutil
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from playwright.async_api import Browser, async_playwright, expect

# For what is usually there at once; Playwright itself gives an expectation 5 s.
LONG_MS = 120_000
expect.set_options(timeout=LONG_MS)

FLAGS = ("--no-sandbox", "--disable-background-networking")


@asynccontextmanager
async def opened_chromium(*flags: str) -> AsyncIterator[Browser]:
    path = shutil.which("chromium")
    assert path, "install Debian's chromium: tests/run does"
    async with async_playwright() as playwright:
        browser = await playwright.chromium.launch(executable_path=path, args=[*FLAGS, *flags])
        yield browser
        await browser.close()
