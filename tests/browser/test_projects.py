"""What a person keeps and how much they get: the profile in forms, and the page of projects."""

from __future__ import annotations

import json
import re
import subprocess
from collections.abc import Iterator
from datetime import datetime, timezone
from pathlib import Path

import pytest
from desktop import Desktop
from git_server import GitServer
from lab import BUILD_MS, START_MS, arrive
from playwright.sync_api import Locator, Page, expect
from visitor import Visitor

pytestmark = [pytest.mark.docker, pytest.mark.hub, pytest.mark.browser]

TITLE = "My <b>thesis</b>"


@pytest.fixture(scope="module")
def begun() -> datetime:
    """When the first of these tests began."""
    return datetime.now(timezone.utc)


@pytest.fixture(scope="module")
def running(desktop: Desktop, begun: datetime) -> Iterator[Desktop]:
    """Up, and stopped at the end: other modules begin with an installation at rest."""
    desktop.up()
    yield desktop
    assert desktop.stop() == 0, desktop.text


@pytest.fixture
def signed_in(running: Desktop, visitor: Visitor) -> Page:
    visitor.page.goto(running.link())
    expect(visitor.page.get_by_role("heading", name="Launch a repository")).to_be_visible()
    return visitor.page


def memory_of(desktop: Desktop, server: str) -> int:
    """What Docker lets the server use, in bytes."""
    instance = (desktop.state / "instance").read_text().strip()
    labels = {"instance": instance, "server": server}
    filters = [f"--filter=label=org.littlest-binder.{key}={value}" for key, value in labels.items()]
    [container] = subprocess.check_output(["docker", "ps", "--quiet", *filters], text=True).split()
    [facts] = json.loads(subprocess.check_output(["docker", "inspect", container]))
    return int(facts["HostConfig"]["Memory"])


def homes(desktop: Desktop) -> list[Path]:
    """The folders of projects that are in use."""
    return list((desktop.state / "projects").glob("*/*plain*/home"))


def folders(desktop: Desktop) -> set[Path]:
    """Of people, and of all that they keep."""
    return {each for depth in ("*", "*/*") for each in (desktop.state / "projects").glob(depth)}


def in_section(page: Page, section: str, text: str) -> Locator:
    return page.locator(f"section[aria-labelledby={section}] tbody tr", has_text=text)


def test_a_profile_goes_from_the_form_to_the_container(
    signed_in: Page, running: Desktop, served: GitServer, visitor: Visitor
) -> None:
    served.new("to-choose", {"README.md": "Nothing is built of it."})
    page = signed_in
    page.get_by_label("Repository").fill(served.url("to-choose"))
    choice = page.get_by_label("Profile")
    expect(choice.locator("option:checked")).to_have_text("Usual: 2 GiB memory, 2 processors")
    expect(choice.locator("option", has_text="Huge")).to_be_disabled()
    expect(page.locator("#room")).to_contain_text("memory are free")
    choice.select_option(label="Little: 1 GiB memory, 1 processor")
    page.get_by_role("button", name="Continue").click()
    expect(page.get_by_role("heading", name="Launch")).to_contain_text("to-choose")
    assert "profile=little" in page.url
    expect(page.get_by_label("Profile").locator("option:checked")).to_contain_text("Little")
    visitor.shoot("profile")

    page.goto(running.hub_url)
    page.locator("li.card", has_text="Plain Jupyter").get_by_role("link", name="Launch").click()
    page.get_by_label("Profile").select_option(label="Little: 1 GiB memory, 1 processor")
    page.get_by_label("Name of the server").fill("little")
    page.get_by_role("button", name="Launch").click()
    arrive(page, BUILD_MS)
    assert memory_of(running, "little") == 1024**3


def test_a_project_is_renamed_deleted_and_brought_back(
    signed_in: Page, running: Desktop, visitor: Visitor, begun: datetime
) -> None:
    [home] = homes(running)
    (home / "result.csv").write_text("1,2,3\n")
    page = signed_in
    page.get_by_role("link", name="Rename, delete, bring back").click()
    found = in_section(page, "projects", "Plain Jupyter")
    expect(found).to_contain_text("used by little")
    expect(found.locator("[data-label=Size]")).to_have_text(re.compile(r"^\d[\d.]* (bytes|[KMG]iB)$"))
    used = found.locator("[data-label='Last used'] time").get_attribute("datetime")
    assert begun <= datetime.fromisoformat(used or "") <= datetime.now(timezone.utc)
    found.get_by_text("Rename").click()
    found.get_by_label("New title of Plain Jupyter").fill(TITLE)
    found.get_by_role("button", name="Save").click()
    expect(in_section(page, "projects", TITLE)).to_contain_text("Plain Jupyter")
    visitor.shoot("renamed")

    page.get_by_role("link", name=f"Delete {TITLE}").click()
    page.get_by_role("button", name="Delete the project").click()
    expect(page.get_by_role("alert")).to_contain_text("little")  # it is in use
    assert (home / "result.csv").exists()

    page.goto(running.hub_url)
    page.get_by_role("button", name="Stop little").click()
    expect(page.get_by_role("button", name="Remove little")).to_be_visible(timeout=START_MS)
    page.get_by_role("link", name="Rename, delete, bring back").click()
    page.get_by_role("link", name=f"Delete {TITLE}").click()
    expect(page.get_by_role("heading", name=f"Delete the project {TITLE}?")).to_be_visible()
    page.get_by_role("button", name="Delete the project").click()
    deleted = in_section(page, "deleted", TITLE)
    expect(deleted).to_contain_text("14")  # days
    expect(in_section(page, "projects", TITLE)).to_have_count(0)
    assert homes(running) == []
    visitor.shoot("deleted")

    deleted.get_by_role("button", name="Bring back").click()
    expect(in_section(page, "projects", TITLE)).to_be_visible()
    assert (home / "result.csv").read_text() == "1,2,3\n"
    page.get_by_role("link", name=f"Continue {TITLE}").click()
    expect(page.get_by_role("heading", name="Launch Plain Jupyter?")).to_be_visible()


def test_what_keeps_nothing_says_so_before_and_during(
    signed_in: Page, running: Desktop, visitor: Visitor
) -> None:
    before = folders(running)
    page = signed_in
    page.locator("li.card", has_text="Plain Jupyter").get_by_role("link", name="Launch").click()
    choice = page.locator(".choice", has=page.get_by_label("Keep nothing"))
    expect(choice).to_contain_text("Everything that you change or make is lost when the server stops.")
    page.get_by_label("Keep nothing").check()
    page.get_by_role("checkbox", name="My files").uncheck()
    page.get_by_label("Name of the server").fill("passing")
    visitor.shoot("keep-nothing")
    page.get_by_role("button", name="Launch").click()
    expect(page.get_by_text("nothing is kept when it stops")).to_be_visible()
    arrive(page, BUILD_MS)
    files = page.locator(".jp-DirListing-content")
    expect(files.get_by_text("NOTHING-HERE-IS-KEPT.txt", exact=True)).to_be_visible(timeout=START_MS)
    visitor.shoot("nothing-is-kept")

    page.goto(running.hub_url)
    shown = in_section(page, "servers", "Nothing in it is kept")
    expect(shown.locator("strong").first).to_have_text("passing")
    page.get_by_role("button", name="Stop passing").click()
    expect(page.get_by_text("This server keeps nothing")).to_be_visible()
    assert memory_of(running, "passing")  # it still runs
    visitor.shoot("stop-and-lose")
    page.get_by_role("button", name="Stop it and lose its files").click()
    expect(page.get_by_role("button", name="Remove passing")).to_be_visible(timeout=START_MS)
    assert folders(running) == before
