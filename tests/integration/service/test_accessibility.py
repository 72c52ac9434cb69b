"""Every page in a real browser, looked at by axe-core in both themes and on a phone."""

from __future__ import annotations

from collections.abc import AsyncIterator
from datetime import datetime, timedelta, timezone
from pathlib import Path

import axe
import pytest
import pytest_asyncio
from chromium import opened_chromium
from house import (
    COMMIT,
    IMAGE,
    OLDER,
    House,
    build_view,
    cookie_secret,
    create_signed_value,
    disk_samples,
    disk_view,
    image_view,
    line,
    open_house,
    project_view,
)
from playwright.async_api import Browser

from tljh_plugin.cache.listing import Listed
from tljh_plugin.wire import Person

pytestmark = pytest.mark.browser

ROOT = Person(name="root", admin=True)
OTHER = "sha256:" + "cd" * 32
MAIN = {"repository": "gh/owner/repo/main", "commit": COMMIT}
PAGES = [
    "",
    "v2/gh/owner/repo/main",
    "launch/x",
    "builds?everyone=1",
    "builds/b-1",
    "projects",
    "folders",
    "images",
    "images?q=nothing-such",
    "images/new",
    "images/adopt",
    f"images/{IMAGE}",
    f"images/plan?id={IMAGE}&id={OTHER}",
    "runs/r-1",
    "runs/r-2",
    "retention",
    "retention?unused_days=1",
    "disk",
    "audit",
    "doctor",
    "accounting",
    "nowhere",
]


@pytest_asyncio.fixture
async def house(tmp_path: Path) -> AsyncIterator[House]:
    """A house in which every page has something to show."""
    async with open_house(tmp_path) as found:
        for name in ("plain", "example"):
            (found.settings.examples_dir / name).mkdir(parents=True)
        found.queue.add(build_view("b-1", requested_by="root", state="failed", phase="failed"), [line(1)])
        old = (datetime.now(timezone.utc) - timedelta(days=40)).isoformat()
        found.inventory.known = [
            image_view(
                created=old,
                icon="🔭",
                pinned=True,
                pin_reason="the course",
                older_recipe=True,
                newer_commit="f" * 40,
                asked_ref="main",
                launches=3,
                building=True,
            ),
            image_view(OTHER, created=old, title="owner/second", last_used=old),
        ]
        found.inventory.others = [
            Listed(id="sha256:" + "ef" * 32, name="x:1", title="x:1", created=old, ours=False)
        ]
        found.projects.known = [project_view(owner="root", commit=OLDER)]
        found.hub.put("root", "x", ready=False, pending="spawn", options=MAIN)
        found.hub.progress["root", "x"] = [{"progress": 1, "message": "Building the image", "build": "b-1"}]
        found.hub.put("root", "brave-otter", options={**MAIN, "commit": OLDER})
        for held in (True, False):
            found.sweep.held = held
            await found.sweep.begin(await found.sweep.plan([OTHER], "erase", ROOT), ROOT)
        found.inventory.known.append(image_view(OTHER, created=old, title="owner/second", last_used=old))
        found.disk.now, found.disk.samples = disk_view(), disk_samples()
        yield found


@pytest.mark.parametrize(("scheme", "width"), [("light", 1200), ("dark", 390)])
async def test_no_page_keeps_anybody_out(house: House, scheme: str, width: int) -> None:
    source = axe.source()
    async with opened_chromium() as chromium:
        found = await findings(house, chromium, source, scheme, width)
    assert found == {}


async def findings(
    house: House, chromium: Browser, source: str, scheme: str, width: int
) -> dict[str, list[str]]:
    """What is serious, by page."""
    context = await chromium.new_context(viewport={"width": width, "height": 800}, color_scheme=scheme)  # type: ignore[arg-type]
    signed = create_signed_value(cookie_secret(house.settings), "service-binder", "root-token").decode()
    await context.add_cookies([{"name": "service-binder", "value": signed, "url": house.url}])
    page = await context.new_page()
    found: dict[str, list[str]] = {}
    for path in PAGES:
        await page.goto(house.url + path)
        await page.locator("details").evaluate_all("all => all.forEach(each => { each.open = true; })")
        await page.evaluate(source)
        said = axe.serious(await page.evaluate(axe.RUN))
        if await page.evaluate("document.documentElement.scrollWidth") > width:
            said.append(f"the page is wider than {width} pixels")
        if said:
            found[path] = said
    await context.close()
    return found
