"""The whole way of a person, as the README promises it: one command, a browser, a notebook that plots."""

from __future__ import annotations

import json
import os
import re
from pathlib import Path
from typing import Any

import pytest
from desktop import Desktop, docker_state, labels_of
from git_server import GitServer
from lab import BUILD_MS, START_MS, arrive, run_the_notebook, see_the_picture, wait_until
from playwright.sync_api import Page, expect
from visitor import Visitor

pytestmark = [pytest.mark.docker, pytest.mark.hub, pytest.mark.browser]


@pytest.fixture(scope="module")
def before() -> dict[str, set[str]]:
    """What was on the engine before this installation ran."""
    return docker_state()


@pytest.fixture(scope="module")
def link(before: dict[str, set[str]], desktop: Desktop, served: GitServer) -> str:
    served.add("python-plot")
    return desktop.up()


@pytest.fixture
def signed_in(link: str, desktop: Desktop, visitor: Visitor) -> Page:
    visitor.page.goto(desktop.link())
    expect(visitor.page.get_by_role("heading", name="Launch a repository")).to_be_visible()
    return visitor.page


def builds(desktop: Desktop) -> list[dict[str, Any]]:
    listed: list[dict[str, Any]] = json.loads(desktop.command("builds", "--json").stdout)
    return listed


def servers(page: Page) -> list[str]:
    """The names on the front page."""
    return page.locator("section[aria-labelledby=servers] tbody td strong").all_inner_texts()


def row(page: Page, server: str) -> Any:
    return page.locator("section[aria-labelledby=servers] tbody tr", has=page.get_by_text(server, exact=True))


def kept(desktop: Desktop, part: str) -> Path:
    """The folder on this machine in which the person's files of a repository are."""
    [found] = [path for path in (desktop.state / "projects").glob("*/*/home") if part in path.parent.name]
    return found


def test_a_sign_in_link_works_once(link: str, desktop: Desktop, visitor: Visitor) -> None:
    page = visitor.page
    page.goto(link)
    expect(page.get_by_role("heading", name="Launch a repository")).to_be_visible()
    visitor.context.clear_cookies()
    answer = page.goto(link)
    assert answer is not None
    assert answer.status == 403
    expect(page.get_by_text("littlest-binder link")).to_be_visible()


def test_the_example_from_a_click_to_a_plot_that_is_kept(
    signed_in: Page, desktop: Desktop, visitor: Visitor
) -> None:
    page = signed_in
    plain = page.locator("li.card", has_text="Plain Jupyter")
    # The page follows by itself: nobody has to reload it.
    expect(plain.get_by_text("ready", exact=True)).to_be_visible(timeout=BUILD_MS)
    visitor.shoot("front")

    page.locator("li.card", has_text="Example").get_by_role("link", name="Launch").click()
    expect(page.get_by_role("heading", name="Launch Example?")).to_be_visible()
    page.get_by_label("Name of the server").fill("first")
    visitor.shoot("confirmation")
    page.get_by_role("button", name="Launch").click()
    expect(page.get_by_text("matplotlib").first).to_be_visible(timeout=START_MS)  # the live log
    visitor.shoot("launch")
    arrive(page, BUILD_MS)
    run_the_notebook(page)
    visitor.shoot("lab")
    page.keyboard.press("Control+s")
    notebook = kept(desktop, "examples-example") / "index.ipynb"
    wait_until(page, lambda: "image/png" in notebook.read_text())
    count = len(builds(desktop))

    page.goto(desktop.hub_url)
    page.get_by_role("button", name="Stop first").click()
    start = row(page, "first").get_by_role("button", name="Start")
    expect(start).to_be_visible(timeout=START_MS)
    start.click()
    arrive(page, START_MS)
    see_the_picture(page)
    assert len(builds(desktop)) == count, "a stop and a start built something"


def test_folders_of_this_computer_are_ticked_and_seen_in_lab(
    signed_in: Page, desktop: Desktop, visitor: Visitor
) -> None:
    page = signed_in
    page.get_by_role("link", name="Folders", exact=True).click()
    page.get_by_role("link", name=re.compile(r"lab\d*$")).click()
    page.get_by_role("link", name="mine").click()
    visitor.shoot("folders")
    page.get_by_role("button", name="Pick it, to read and write").click()
    expect(page.get_by_role("cell", name="~/mine", exact=True)).to_be_visible()

    page.goto(desktop.hub_url)
    page.locator("li.card", has_text="Example").get_by_role("link", name="Launch").click()
    expect(page.get_by_role("checkbox", name="Course data (read only)")).to_be_checked()
    expect(page.get_by_role("checkbox", name="My files")).to_be_checked()
    expect(page.get_by_role("checkbox", name="mine (read and write)")).not_to_be_checked()
    page.get_by_role("checkbox", name="mine (read and write)").check()
    page.get_by_label("Name of the server").fill("folders")
    visitor.shoot("ticked")
    page.get_by_role("button", name="Launch").click()
    arrive(page, BUILD_MS)
    files = page.locator(".jp-DirListing-content")
    for name in ("course", "mine", "my-files"):
        expect(files.get_by_text(name, exact=True)).to_be_visible(timeout=START_MS)
    files.get_by_text("course", exact=True).dblclick()
    expect(files.get_by_text("of-course.csv")).to_be_visible()
    visitor.shoot("lab-folders")
    page.goto(desktop.hub_url)
    page.get_by_role("button", name="Stop folders").click()


def test_a_link_starts_nothing_and_a_second_server_builds_nothing(
    signed_in: Page, desktop: Desktop, served: GitServer
) -> None:
    page = signed_in
    address = f"{desktop.hub_url}/v2/{served.spec('python-plot')}?labpath=index.ipynb"
    page.goto(address)
    expect(page.get_by_role("heading", name=re.compile("Launch .*python-plot"))).to_be_visible()
    assert "second" not in servers(page)
    for name in ("second", "third"):
        page.goto(address)
        page.get_by_label("Name of the server").fill(name)
        page.get_by_role("button", name="Launch").click()
        arrive(page, BUILD_MS)
        assert f"/{name}/lab/tree/index.ipynb" in page.url
    run_the_notebook(page)
    made = [build for build in builds(desktop) if "python-plot" in build["repository"]]
    assert len(made) == 1


def test_the_hubs_own_form_offers_the_same_choice(
    signed_in: Page, desktop: Desktop, visitor: Visitor
) -> None:
    page = signed_in
    page.goto(f"{desktop.hub_url}/hub/spawn/{desktop.owner}/from-hub")
    visitor.shoot("spawn-form")
    expect(page.get_by_role("textbox", name="Repository")).to_be_visible()
    page.get_by_role("radio", name="An image that is here").check()
    images = page.locator("select[name=image]")
    option = images.locator("option", has_text="python-plot").first
    images.select_option(value=option.get_attribute("value"))
    page.get_by_role("button", name="Start").click()
    arrive(page, START_MS)


def test_the_terminal_opens_a_link_of_another_binder(
    signed_in: Page, desktop: Desktop, served: GitServer
) -> None:
    foreign = f"https://mybinder.org/v2/{served.spec('python-plot')}?labpath=index.ipynb"
    opened = desktop.command("open", "--json", "--no-browser", foreign)
    assert opened.returncode == 0, opened.stderr
    answer = json.loads(opened.stdout)
    assert answer["server"] in ("second", "third")  # used again, as it is the same commit
    page = signed_in
    page.context.clear_cookies()
    page.goto(answer["sign_in_url"])
    arrive(page, START_MS)


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("missing-package", "littlest-binder-there-is-no-such-package"),
        ("no-jupyter", "jupyterhub-singleuser"),
        ("wants-root", "/only-root/started"),
        ("foreign-from", "somebody/private-image"),
        ("reserved-label", "org.littlest-binder.commit"),
    ],
)
def test_what_cannot_be_launched_says_why(
    signed_in: Page, desktop: Desktop, served: GitServer, visitor: Visitor, name: str, said: str
) -> None:
    served.add(name)
    page = signed_in
    page.goto(f"{desktop.hub_url}/v2/{served.spec(name)}")
    page.get_by_label("Name of the server").fill(name)
    page.get_by_role("button", name="Launch").click()
    failure = page.get_by_role("alert")
    expect(failure).to_contain_text(said, timeout=BUILD_MS)
    visitor.shoot(name)
    expect(page.get_by_role("button", name="Try again")).to_be_visible()
    page.goto(desktop.hub_url)
    expect(page.get_by_role("button", name=f"Stop {name}")).to_have_count(0)


def test_ctrl_c_leaves_the_machine_as_it_was(
    before: dict[str, set[str]], link: str, desktop: Desktop
) -> None:
    assert desktop.stop() == 0, desktop.text
    assert desktop.processes() == []
    left = {what: now - before[what] for what, now in docker_state().items()}
    instance = (desktop.state / "instance").read_text()
    assert not [each for kind in left for each in left[kind] if instance in labels_of(each)]
    if "LITTLEST_BINDER_SHARED_DOCKER" not in os.environ:  # tests/run: others use this Docker meanwhile
        assert docker_state() == before
