"""A person at a browser, for tests."""

from __future__ import annotations

import re
from pathlib import Path

from chromium import LONG_MS
from playwright.sync_api import BrowserContext, ConsoleMessage, Page, expect

expect.set_options(timeout=LONG_MS)

# Told to the console, which also hears what a page's own scripts would not.
VIOLATIONS = """document.addEventListener("securitypolicyviolation", (event) => console.error(
  `Content Security Policy: ${event.violatedDirective} ${event.blockedURI} ${event.sample}`))"""


class Visitor:
    """A person at a browser; collects what the browser complains of."""

    def __init__(self, context: BrowserContext, shots: Path) -> None:
        self.context = context
        self.shots = shots
        self.complaints: list[str] = []
        context.set_default_timeout(LONG_MS)
        context.add_init_script(VIOLATIONS)
        self.page: Page = context.new_page()
        self.page.on("console", self._hear)

    def _hear(self, message: ConsoleMessage) -> None:
        if "Content Security Policy" in message.text or message.type == "error":
            self.complaints.append(f"{message.location.get('url')}: {message.text}")

    @property
    def violations(self) -> list[str]:
        """Where our own pages broke their content security policy; servers and the hub have their own."""
        return [
            said
            for said in self.complaints
            if "Content Security Policy" in said and not re.match(r"\S*/(user|hub)/", said)
        ]

    def shoot(self, name: str) -> None:
        self.shots.mkdir(parents=True, exist_ok=True)
        self.page.screenshot(path=str(self.shots / f"{name}.png"), full_page=True)
