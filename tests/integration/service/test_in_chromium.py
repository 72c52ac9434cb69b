"""The pages in a real browser, over stages that are told what to say: no Docker, no hub."""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import pytest_asyncio
from chromium import LONG_MS, opened_chromium
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
from playwright.async_api import Browser, BrowserContext, ConsoleMessage, Page, expect
from visitor import VIOLATIONS
from waiting import until

from tljh_plugin.wire import ErrorView, Person

pytestmark = pytest.mark.browser

MAIN = {"repository": "gh/owner/repo/main", "commit": COMMIT}
LINK = "v2/gh/owner/repo/main"
EVIL = "<img src=x onerror=\"document.title='owned'\">"
PAGES = [
    "",
    LINK,
    "launch/x",
    "builds?everyone=1",
    "builds/b-1",
    "images",
    f"images/{IMAGE}",
    f"images/plan?id={IMAGE}",
    "images/new",
    "images/adopt",
    "runs/r-1",
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
    async with open_house(tmp_path) as found:
        for name in ("plain", "example"):
            (found.settings.examples_dir / name).mkdir(parents=True)
        found.queue.add(build_view("b-1", requested_by="root"), [line(1, "fetching"), line(2)])
        found.inventory.known = [image_view(users=("root/brave-otter",))]
        root = Person(name="root", admin=True)
        await found.sweep.begin(await found.sweep.plan([IMAGE], "erase", root), root)
        found.projects.known = [project_view(owner="root", commit=OLDER)]
        found.hub.put("root", "x", ready=False, pending="spawn", options=MAIN)
        found.hub.progress["root", "x"] = [{"progress": 1, "message": "Building the image", "build": "b-1"}]
        found.hub.put("root", "brave-otter", options={**MAIN, "commit": OLDER})
        found.disk.now, found.disk.samples = disk_view(), disk_samples()
        yield found


@pytest_asyncio.fixture
async def chromium() -> AsyncIterator[Browser]:
    async with opened_chromium() as browser:
        yield browser


async def visitor(
    house: House, chromium: Browser, *, complaints: list[str] | None = None, **more: object
) -> Page:
    """A page of root's signed-in browser; what the browser complains about is collected."""
    context: BrowserContext = await chromium.new_context(
        **{"viewport": {"width": 1200, "height": 800}, **more}
    )  # type: ignore[arg-type]
    signed = create_signed_value(cookie_secret(house.settings), "service-binder", "root-token").decode()
    await context.add_cookies([{"name": "service-binder", "value": signed, "url": house.url}])
    await context.add_init_script(VIOLATIONS)
    page = await context.new_page()
    page.set_default_timeout(LONG_MS)

    def heard(message: ConsoleMessage) -> None:
        if complaints is not None and "404 (Not Found)" not in message.text:
            complaints.append(f"{page.url}: {message.text}")

    page.on("console", heard)
    page.on("pageerror", lambda error: complaints.append(str(error)) if complaints is not None else None)
    return page


async def log_text(page: Page) -> str:
    return await page.evaluate("document.getElementById('log').textContent")


async def test_no_page_breaks_its_own_policy_or_the_width_of_a_phone(house: House, chromium: Browser) -> None:
    complaints: list[str] = []
    for width in (1200, 390):
        page = await visitor(house, chromium, complaints=complaints, viewport={"width": width, "height": 800})
        for path in PAGES:
            await page.goto(house.url + path)
            await expect(page.locator("h1, .notice h1")).to_be_visible()
            assert await page.evaluate("document.documentElement.scrollWidth") <= width, path
    assert complaints == []


@pytest.mark.parametrize("scheme", ["light", "dark"])
async def test_texts_can_be_read_in_both_themes(house: House, chromium: Browser, scheme: str) -> None:
    page = await visitor(house, chromium, color_scheme=scheme)
    for path in ("", LINK, "images", "launch/x", "disk", "audit", "accounting", "doctor"):
        await page.goto(house.url + path)
        worst = await page.evaluate(CONTRAST)
        assert worst["ratio"] >= 4.5, f"{path}: {worst}"  # WCAG 2.2, success criterion 1.4.3


@pytest.mark.parametrize("scheme", ["light", "dark"])
async def test_the_disk_is_drawn_as_it_is(house: House, chromium: Browser, scheme: str) -> None:
    page = await visitor(house, chromium, color_scheme=scheme, java_script_enabled=scheme == "light")
    await page.goto(house.url + "disk")
    gauge = page.locator("svg.gauge").first
    whole = await gauge.bounding_box()
    assert whole is not None
    fills = set()
    sizes = {"kept-images": 0.24, "evictable-images": 0.14, "build-cache": 0.2}
    for part, share in sizes.items():
        piece = gauge.locator(f".part-{part}")
        drawn = await piece.bounding_box()
        assert drawn is not None
        assert drawn["width"] == pytest.approx(share * whole["width"], abs=3)
        fills.add(await piece.evaluate("each => getComputedStyle(each).fill"))
    assert len(fills) == len(sizes)
    assert "rgb(0, 0, 0)" not in fills  # the colour of what no style reaches
    areas = page.locator(".chart polygon")
    await expect(areas.first).to_be_visible()
    await page.get_by_role("link", name="a day", exact=True).first.focus()
    await page.keyboard.press("Enter")
    await expect(page).to_have_url(re.compile("days=1$"))


async def test_the_audit_log_is_filtered_and_saved_by_a_browser(house: House, chromium: Browser) -> None:
    page = await visitor(house, chromium)
    await page.goto(house.url + "audit")
    await page.get_by_label("Who", exact=True).fill("ada")
    await page.keyboard.press("Enter")
    await expect(page).to_have_url(re.compile("who=ada"))
    await expect(page.locator("tbody tr")).to_have_count(1)
    async with page.expect_download() as saving:
        await page.get_by_role("link", name="CSV").click()
    saved = await (await saving.value).path()
    assert "project.delete" in await asyncio.to_thread(saved.read_text)


async def test_a_launch_is_followed_to_its_server(house: House, chromium: Browser) -> None:
    page = await visitor(house, chromium)
    house.hub.progress["root", "x"] = [
        {"progress": 40, "message": "Building the image", "build": "b-1"},
        {"progress": 100, "ready": True, "url": f"{house.url}badge.svg?arrived="},
    ]
    await page.goto(house.url + LINK)
    await page.goto(f"{house.url}launch/x?path=lab/tree/a.ipynb")
    await page.wait_for_url("**/badge.svg?arrived=/lab/tree/a.ipynb")
    await page.go_back()  # to the confirmation, not to a page that leads here again
    assert "/v2/gh/owner/repo/main" in page.url


async def test_a_failure_is_shown_with_its_log_and_the_way_on(house: House, chromium: Browser) -> None:
    page = await visitor(house, chromium)
    await page.goto(f"{house.url}launch/x")
    await expect(page.locator("#message")).to_have_text("Building the image")
    error = ErrorView(code="build-package-missing", message=f"No package `{EVIL}`.", next="Correct `line 3`.")
    house.hub.progress["root", "x"].append({"progress": 100, "failed": True, "message": "Spawn failed: x"})
    await house.queue.write("b-1", line(3, text=EVIL), line(4, "failed", error=error))
    await page.reload()
    failure = page.locator("#failure")
    await expect(failure).to_be_visible()
    await expect(failure.locator("code").first).to_have_text(EVIL)
    await expect(page.get_by_role("button", name="Try again")).to_be_visible()
    await until(lambda: page.evaluate("document.getElementById('log').textContent.includes('onerror')"))
    assert await page.title() != "owned"
    assert await page.locator("#log img").count() == 0


async def test_a_long_log_is_whole_and_follows_its_end_until_somebody_reads(
    house: House, chromium: Browser
) -> None:
    await house.queue.write("b-1", *(line(n) for n in range(3, 10_001)))
    page = await visitor(house, chromium)
    await page.goto(f"{house.url}builds/b-1")
    await until(lambda: page.evaluate("document.getElementById('log').textContent.includes('line 10000\\n')"))
    assert re.findall(r"line (\d+)", await log_text(page)) == [str(n) for n in range(1, 10_001)]
    box = page.locator("#log")
    to_end = page.get_by_role("button", name="To the end")
    await expect(to_end).to_be_hidden()
    await box.hover()
    await page.mouse.wheel(0, -2000)
    await expect(to_end).to_be_visible()
    await house.queue.write("b-1", line(10_001))
    await until(lambda: page.evaluate("document.getElementById('log').textContent.includes('line 10001\\n')"))
    assert await box.evaluate("box => box.scrollHeight - box.scrollTop - box.clientHeight") > 1000
    await to_end.click()
    await until(lambda: box.evaluate("box => box.scrollHeight - box.scrollTop - box.clientHeight < 5"))


async def test_a_page_comes_back_by_itself_when_the_service_does(house: House, chromium: Browser) -> None:
    page = await visitor(house, chromium)
    await page.goto(f"{house.url}builds/b-1")
    await until(lambda: page.evaluate("document.getElementById('log').textContent.includes('line 2')"))
    async with house.away():
        await expect(page.locator("#message")).to_contain_text("connection was lost")
    await house.queue.write("b-1", line(3))
    await until(lambda: page.evaluate("document.getElementById('log').textContent.includes('line 3')"))
    assert re.findall(r"line (\d+)", await log_text(page)) == ["1", "2", "3"]
    await expect(page.locator("#message")).to_have_text("")


async def test_without_scripts_a_server_is_started_all_the_same(house: House, chromium: Browser) -> None:
    page = await visitor(house, chromium, java_script_enabled=False)
    await page.goto(house.url)
    await page.fill("#repository", "owner/repo")
    await page.get_by_role("button", name="Continue").click()
    await expect(page.locator("h1")).to_have_text("Launch github.com/owner/repo?")
    await page.fill("#server", "by-hand")
    await page.get_by_role("button", name="Launch").click()
    await expect(page.locator("h1")).to_have_text("Starting by-hand")
    assert house.hub.started[0][1] == "by-hand"
    house.hub.put("root", "by-hand", options={**MAIN, "path": "badge.svg"})
    house.hub.servers["root"]["by-hand"]["url"] = house.url
    await page.wait_for_url("**/badge.svg")  # the page reloads itself


async def test_the_form_can_be_used_by_keyboard_alone(house: House, chromium: Browser) -> None:
    page = await visitor(house, chromium)
    await page.goto(house.url)
    await page.keyboard.press("Tab")
    await expect(page.get_by_role("link", name="Skip to the content")).to_be_focused()
    await page.keyboard.press("Enter")
    await page.keyboard.press("Tab")
    await expect(page.get_by_label("Repository")).to_be_focused()
    await page.keyboard.type("owner/repo")
    await page.keyboard.press("Enter")
    await expect(page.locator("h1")).to_have_text("Launch github.com/owner/repo?")


async def test_link_and_badge_follow_what_is_typed(house: House, chromium: Browser) -> None:
    page = await visitor(house, chromium)
    await page.goto(house.url)
    await page.fill("#repository", "https://github.com/owner/repo/tree/main")
    await page.get_by_text("Link and badge for this").click()
    link = page.get_by_label("Link", exact=True)
    await expect(link).to_have_value(f"{house.environment.url}/v2/gh/owner/repo/main")
    await page.fill("#path", "b c.ipynb")
    await expect(link).to_have_value(re.compile(r"urlpath=lab/tree/b%2520c\.ipynb$"))
    await page.fill("#repository", f"x y {EVIL}")
    await expect(page.locator("#repository-problem")).to_contain_text("onerror")
    assert await page.locator("#repository-problem img").count() == 0


# The lowest contrast between a text and the nearest ground behind it, by WCAG's relative luminance.
CONTRAST = """() => {
  const canvas = document.createElement("canvas").getContext("2d", { willReadFrequently: true });
  const rgba = (colour) => {
    canvas.clearRect(0, 0, 1, 1);
    canvas.fillStyle = colour;
    canvas.fillRect(0, 0, 1, 1);
    return canvas.getImageData(0, 0, 1, 1).data;
  };
  const luminance = (colour) => {
    const [r, g, b] = [...rgba(colour)].slice(0, 3).map((value) => {
      const part = value / 255;
      return part <= 0.04045 ? part / 12.92 : ((part + 0.055) / 1.055) ** 2.4;
    });
    return 0.2126 * r + 0.7152 * g + 0.0722 * b;
  };
  const ground = (element) => {
    for (let at = element; at; at = at.parentElement) {
      const colour = getComputedStyle(at).backgroundColor;
      if (rgba(colour)[3] > 250) return colour;
    }
    return "white";
  };
  let worst = { ratio: 99 };
  const walk = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
  while (walk.nextNode()) {
    const element = walk.currentNode.parentElement;
    const box = element.getBoundingClientRect();
    if (!walk.currentNode.data.trim() || box.width < 2 || !element.checkVisibility()) continue;
    if (element.closest("noscript, script, title, progress")) continue;
    const [ink, behind] = [luminance(getComputedStyle(element).color), luminance(ground(element))];
    const ratio = (Math.max(ink, behind) + 0.05) / (Math.min(ink, behind) + 0.05);
    if (ratio < worst.ratio) worst = { ratio, text: walk.currentNode.data.trim().slice(0, 40) };
  }
  return worst;
}"""
