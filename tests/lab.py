"""What a person does in JupyterLab, for tests in a browser."""

from __future__ import annotations

import re
from collections.abc import Callable

from playwright.sync_api import Page

FLAGS = ["--no-sandbox", "--disable-background-networking", "--disable-component-update", "--no-first-run"]
BUILD_MS = 300_000
START_MS = 120_000
LAB = re.compile(r"/user/[^/]+/[^/]+/lab")


def wait_until(page: Page, condition: Callable[[], bool], timeout_ms: float = START_MS) -> None:
    """Poll from the browser's clock, so that its events go on meanwhile."""
    for _ in range(int(timeout_ms / 100)):
        if condition():
            return
        page.evaluate("() => new Promise(done => setTimeout(done, 100))")
    raise AssertionError(f"not within {timeout_ms} ms")


def arrive(page: Page, timeout_ms: float) -> None:
    """In JupyterLab; its `load` event may wait for addresses outside that a closed network never answers."""
    page.wait_for_url(LAB, timeout=timeout_ms, wait_until="commit")
    page.wait_for_selector("#jp-main-dock-panel", timeout=START_MS)


def run_the_notebook(page: Page) -> None:
    """Run all cells of the notebook that Lab shows, and see the picture."""
    page.wait_for_selector("#jp-main-dock-panel .jp-NotebookPanel .jp-CodeCell", timeout=START_MS)
    page.get_by_text(re.compile(r"Python 3 .*\| Idle")).wait_for(timeout=START_MS)  # the status bar
    page.get_by_role("menuitem", name="Run", exact=True).click()
    page.get_by_role("menuitem", name=re.compile("^Run All Cells")).click()
    see_the_picture(page)


def see_the_picture(page: Page) -> None:
    picture = page.locator(".jp-OutputArea-output img").first
    picture.wait_for(state="attached", timeout=START_MS)
    width = picture.evaluate("image => image.decode().then(() => image.naturalWidth)")
    assert width > 300  # pixels
