"""The way of an administrator who makes room: list, image, edit, pin, plan, erase, run."""

from __future__ import annotations

import json
import os
import re
import time

import axe
import pytest
from desktop import Desktop
from lab import BUILD_MS, START_MS
from playwright.sync_api import Page, expect
from visitor import Visitor

pytestmark = [pytest.mark.docker, pytest.mark.hub, pytest.mark.browser]

MEASURE_S = 300.0  # Docker's folder may be large, and is measured gently


@pytest.fixture
def page(young_may_go: Desktop, visitor: Visitor) -> Page:
    visitor.page.goto(young_may_go.link())
    plain = visitor.page.locator("li.card", has_text="Plain Jupyter")
    expect(plain.get_by_text("ready", exact=True)).to_be_visible(timeout=BUILD_MS)
    return visitor.page


def looked_at(page: Page) -> None:
    """Nothing serious is found on the page by axe-core."""
    page.evaluate(axe.source())
    assert axe.serious(page.evaluate(axe.RUN)) == []


def save(page: Page) -> None:
    page.get_by_role("button", name="Save").click()


def edit(page: Page) -> None:
    page.get_by_text("Edit: title, defaults, pin, who may use it").click()


def test_a_pinned_image_stays_and_an_erased_one_frees_its_disk(page: Page, visitor: Visitor) -> None:
    page.get_by_role("link", name="Administration").click()
    expect(page.get_by_role("heading", name="Images", exact=True)).to_be_visible()
    row = page.locator("table.images tbody tr", has_text="Plain Jupyter")
    expect(row).to_have_count(1)
    visitor.shoot("images")
    looked_at(page)

    row.get_by_role("link", name="Plain Jupyter").click()
    expect(page.get_by_role("heading", name="Plain Jupyter")).to_be_visible()
    expect(page.get_by_text(re.compile(r"Python: \d\d+"))).to_be_visible()
    page.get_by_text(re.compile(r"Python: \d\d+")).click()
    expect(page.locator(".packages li", has_text="jupyterlab").first).to_be_visible()
    edit(page)
    page.get_by_label("Title").fill("Our Jupyter")
    page.get_by_label("Icon").fill("🔭")
    page.get_by_label("Pinned").check()
    page.get_by_label("Why").fill("for the course")
    visitor.shoot("image")
    looked_at(page)
    save(page)
    expect(page.get_by_role("heading", name="Our Jupyter")).to_be_visible()
    expect(page.locator(".badge", has_text="pinned")).to_be_visible()

    page.get_by_role("link", name="Delete …").click()
    expect(page.get_by_role("heading", name="Nothing of this can be deleted now")).to_be_visible()
    expect(page.get_by_text("for the course")).to_be_visible()
    page.go_back()
    edit(page)
    page.get_by_label("Pinned").uncheck()
    save(page)
    expect(page.locator(".badge", has_text="pinned")).to_have_count(0)

    page.get_by_role("link", name="Images", exact=True).first.click()
    page.get_by_label(re.compile("Select .*Our Jupyter")).check()
    expect(page.get_by_text("1 selected")).to_be_visible()
    page.get_by_role("button", name="Plan the deletion of the selected").click()
    expect(page.get_by_role("heading", name="Delete 1 image?")).to_be_visible()
    visitor.shoot("plan")
    looked_at(page)
    page.get_by_role("button", name="Erase 1 image").click()
    expect(page.get_by_role("heading", name="1 of 1 images went")).to_be_visible(timeout=START_MS)
    expect(page.get_by_text("measured on its filesystem")).to_be_visible()
    visitor.shoot("run")
    looked_at(page)

    page.get_by_role("link", name="All runs").click()
    expect(page.get_by_text("1 of 1 erased")).to_be_visible()
    visitor.shoot("retention")
    page.get_by_role("link", name="Images", exact=True).first.click()
    expect(page.get_by_text("Our Jupyter")).to_have_count(0)
    assert visitor.complaints == []


def test_on_a_phone_no_page_is_wider_than_the_window(young_may_go: Desktop, visitor: Visitor) -> None:
    page = visitor.page
    page.set_viewport_size({"width": 390, "height": 844})
    page.goto(young_may_go.link())
    for name in ("images", "images/new", "images/adopt", "retention", "disk", "audit", "accounting"):
        page.goto(f"{page.url.partition('/services/binder/')[0]}/services/binder/{name}")
        expect(page.locator("h1")).to_be_visible()
        assert page.evaluate("document.documentElement.scrollWidth") <= 390, name
    assert visitor.complaints == []


def test_the_disk_is_told_as_the_machine_says_it(young_may_go: Desktop, visitor: Visitor) -> None:
    page = visitor.page
    page.goto(young_may_go.link())
    page.get_by_role("link", name="Administration").click()
    page.get_by_role("link", name="Disk", exact=True).click()
    end = time.monotonic() + MEASURE_S
    while page.locator("svg.gauge").count() == 0:
        assert time.monotonic() < end, page.locator("main").inner_text()
        page.reload()
    told = json.loads(young_may_go.command("disk", "--json").stdout)
    [docker] = [each for each in told["filesystems"] if "docker" in each["holds"]]
    figures = os.statvfs(docker["path"])
    used = (figures.f_blocks - figures.f_bfree) * figures.f_frsize
    assert docker["used"] == pytest.approx(used, rel=0.05)  # others work on this machine meanwhile
    assert sum(part["bytes"] or 0 for part in docker["parts"]) == pytest.approx(docker["used"], rel=0.02)
    expect(page.locator("tr", has_text="Build cache").first).to_be_visible()
    visitor.shoot("disk")
    looked_at(page)
    page.get_by_role("link", name="Audit log").click()
    expect(page.locator("tbody tr").first).to_be_visible()
    page.get_by_role("link", name="Accounting").click()
    expect(page.get_by_role("heading", name="Accounting")).to_be_visible()
    assert visitor.complaints == []
