"""The administrator's way in a browser that runs no scripts: forms and links alone lead through it."""

from __future__ import annotations

import json
import re
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from desktop import Desktop
from lab import BUILD_MS, START_MS
from playwright.sync_api import Browser, Page, expect
from visitor import Visitor

pytestmark = [pytest.mark.docker, pytest.mark.hub, pytest.mark.browser]


@pytest.fixture
def visitor(chromium: Browser, tmp_path: Path) -> Iterator[Visitor]:
    context = chromium.new_context(viewport={"width": 1200, "height": 850}, java_script_enabled=False)
    found = Visitor(context, tmp_path / "shots")
    yield found
    context.close()
    # The listener of violations is a script itself: the console tells of them without it.
    assert found.violations == []


@pytest.fixture
def page(young_may_go: Desktop, visitor: Visitor) -> Page:
    """Signed in, with the plain image built."""
    page = visitor.page
    page.goto(young_may_go.link())
    expect(page.get_by_role("heading", name="Launch a repository")).to_be_visible()
    plain = page.locator("li.card", has_text="Plain Jupyter")
    reload_until(page, lambda: plain.get_by_text("ready", exact=True).count() == 1, BUILD_MS)
    return page


def reload_until(page: Page, condition: Callable[[], bool], timeout_ms: float) -> None:
    """As a person does whose page does not change by itself."""
    end = time.monotonic() + timeout_ms / 1000
    while not condition():
        assert time.monotonic() < end, page.locator("main").inner_text()
        page.reload()


def titles(page: Page) -> list[str]:
    return page.locator("table.images tbody tr td:nth-child(2) a").all_inner_texts()


def search(page: Page, text: str, *, show: str = "", order: str = "") -> None:
    page.get_by_label("Search", exact=True).fill(text)
    for label, value in (("Show", show), ("Order", order)):
        if value:
            page.get_by_label(label).select_option(value)
    with page.expect_navigation():
        page.get_by_role("button", name="Search").click()


def test_builds_and_their_logs_are_read_and_begun_without_scripts(page: Page, visitor: Visitor) -> None:
    page.get_by_role("link", name="Builds", exact=True).click()
    expect(page.get_by_role("heading", name="Builds", exact=True)).to_be_visible()
    page.get_by_role("link", name="Everybody's").click()  # the plain image was asked for by nobody
    page.locator("#builds tbody a").first.click()
    built = page.get_by_text("built", exact=True)
    reload_until(page, lambda: built.count() > 0, BUILD_MS)
    # The end of the log is in the page itself, and all of it behind a link.
    expect(page.locator("pre", has_text="The server answered after")).to_be_visible()
    visitor.shoot("build")
    page.get_by_role("link", name="Log as text").click()
    expect(page.get_by_text("The server answered after")).to_be_visible()
    page.go_back()
    page.get_by_role("link", name="Image", exact=True).click()
    page.get_by_role("button", name="Rebuild", exact=True).click()
    expect(page.get_by_role("heading", name=re.compile("Build of"))).to_be_visible()
    with page.expect_navigation():
        page.get_by_role("button", name="Cancel the build").click()
    reload_until(page, lambda: page.get_by_text("cancelled", exact=True).count() > 0, START_MS)


def test_retention_is_previewed_and_the_disk_read_without_scripts(page: Page, visitor: Visitor) -> None:
    page.get_by_role("link", name="Administration").click()
    page.get_by_role("link", name="Retention", exact=True).click()
    page.get_by_label("High watermark, percent").fill("2")
    page.get_by_label("Low watermark, percent").fill("1")
    page.get_by_role("button", name="Preview").click()
    expect(page.get_by_text("This is a preview.")).to_be_visible()
    expect(page.locator("pre.code")).to_contain_text("high_watermark_percent: 2")
    expect(page.get_by_role("heading", name=re.compile("A run now would take"))).to_be_visible()
    visitor.shoot("retention")
    page.get_by_label("Low watermark, percent").fill("3")
    page.get_by_role("button", name="Preview").click()
    expect(page.locator("main")).to_contain_text("low_watermark_percent")
    for name, heading in (("Disk", "Disk"), ("Audit log", "Audit log"), ("Accounting", "Accounting")):
        page.get_by_role("link", name=name, exact=True).first.click()
        expect(page.get_by_role("heading", name=heading, exact=True)).to_be_visible()


def test_images_are_found_edited_pinned_and_erased_by_forms_alone(
    page: Page, visitor: Visitor, young_may_go: Desktop
) -> None:
    page.get_by_role("link", name="Administration").click()
    expect(page.get_by_role("heading", name="Images", exact=True)).to_be_visible()
    search(page, "plain", show="ready", order="size")
    assert ("show=ready" in page.url, "sort=size" in page.url) == (True, True)
    assert titles(page) == ["Plain Jupyter"]
    search(page, "nothing-is-called-so")
    expect(page.get_by_text("No image is like that.")).to_be_visible()
    page.get_by_role("link", name="Show all").click()
    sizes = 'table.images td[data-label="Size"]'
    page.get_by_role("link", name="Size", exact=True).click()
    expect(page.locator("th[aria-sort=descending]")).to_have_text("Size")
    page.wait_for_load_state()
    falling = page.locator(sizes).all_inner_texts()
    page.get_by_role("link", name="Size", exact=True).click()
    expect(page.locator("th[aria-sort=ascending]")).to_have_text("Size")
    page.wait_for_load_state()
    assert len(falling) > 1  # those of others on this machine, too
    assert page.locator(sizes).all_inner_texts()[0] == falling[-1] or page.locator("nav.pager").count()

    search(page, "plain", show="ready")
    page.get_by_role("link", name="Plain Jupyter").click()
    page.get_by_text("Edit: title, defaults, pin, who may use it").click()
    page.get_by_label("Title").fill("Our Jupyter")
    page.get_by_label("Pinned").check()
    page.get_by_label("Why").fill("for the course")
    visitor.shoot("edit")
    page.get_by_role("button", name="Save").click()
    expect(page.get_by_role("heading", name="Our Jupyter")).to_be_visible()
    expect(page.locator(".badge", has_text="pinned")).to_be_visible()

    page.get_by_role("link", name="Delete …").click()
    expect(page.get_by_role("heading", name="Nothing of this can be deleted now")).to_be_visible()
    expect(page.get_by_text("for the course")).to_be_visible()
    page.go_back()
    page.get_by_text("Edit: title, defaults, pin, who may use it").click()
    page.get_by_label("Pinned").uncheck()
    page.get_by_role("button", name="Save").click()
    expect(page.locator(".badge", has_text="pinned")).to_have_count(0)

    page.get_by_role("link", name="Images", exact=True).first.click()
    # No script forbids the button while nothing is ticked.
    page.get_by_role("button", name="Plan the deletion of the selected").click()
    expect(page.get_by_text("No image was selected.")).to_be_visible()
    page.go_back()
    page.get_by_label(re.compile("Select .*Our Jupyter")).check()
    page.get_by_role("button", name="Plan the deletion of the selected").click()
    expect(page.get_by_role("heading", name="Delete 1 image?")).to_be_visible()
    visitor.shoot("plan")
    with page.expect_navigation():
        page.get_by_role("button", name="Erase 1 image").click()
    done = page.get_by_role("heading", name="1 of 1 images went")
    reload_until(page, lambda: done.count() == 1, START_MS)
    visitor.shoot("run")
    assert "Our Jupyter" not in [
        each["title"] for each in json.loads(young_may_go.command("images", "--json").stdout)
    ]
