"""My projects: sizes, the limit, deleting and bringing back, with forms that work without JavaScript."""

from __future__ import annotations

from datetime import datetime, timezone

import pytest
from house import House, project_view

from tljh_plugin.errors import NotFound, ProjectInUse
from tljh_plugin.service.pages.projects import days_left, shown_size
from tljh_plugin.wire import ErrorView, StorageView

GIB = 1024**3
PROJECT = "owner-repo-0123abcd"


@pytest.fixture
def kept(house: House) -> House:
    house.projects.known = [
        project_view(PROJECT, size_bytes=3 * GIB // 2, measured="2026-11-21T09:26:52.123+00:00"),
        project_view("other-0123abcd", owner="bob", title="Bob's own"),
    ]
    return house


async def test_a_person_sees_their_projects_with_size_and_use(kept: House) -> None:
    kept.projects.known[0] = project_view(PROJECT, size_bytes=3 * GIB // 2, servers=("calm-otter",))
    async with kept.browser("ada") as browser:
        text = (await browser.visit("projects")).text
    assert "1.5 GiB" in text
    assert "used by calm-otter" in text
    assert PROJECT in text
    assert "Bob" not in text
    assert f'href="/services/binder/projects/{PROJECT}/delete"' in text


async def test_a_project_is_deleted_and_brought_back(kept: House) -> None:
    async with kept.browser("ada") as browser:
        question = await browser.visit(f"projects/{PROJECT}/delete")
        assert "You can bring them back for 14 days" in question.text
        assert len(kept.projects.known) == 2
        answer = await browser.submit(f"projects/{PROJECT}/delete")
        assert (answer.status_code, answer.headers["location"]) == (303, "/services/binder/projects")
        text = (await browser.visit("projects")).text
        [gone] = kept.kept_files.gone
        assert f"projects/{gone.id}/undelete" in text
        assert (await browser.submit(f"projects/{gone.id}/undelete")).status_code == 303
        assert PROJECT in [each.id for each in kept.projects.known]


async def test_a_deleted_project_is_removed_only_after_a_question(kept: House) -> None:
    async with kept.browser("ada") as browser:
        await browser.visit("projects")
        await browser.submit(f"projects/{PROJECT}/delete")
        [gone] = kept.kept_files.gone
        assert "cannot be undone" in (await browser.visit(f"projects/{gone.id}/delete")).text
        assert kept.kept_files.gone == [gone]
        await browser.submit(f"projects/{gone.id}/delete")
    assert kept.kept_files.gone == []


async def test_a_project_in_use_stays_and_the_page_says_why(kept: House) -> None:
    kept.kept_files.in_use = {PROJECT}
    async with kept.browser("ada") as browser:
        await browser.visit("projects")
        answer = await browser.submit(f"projects/{PROJECT}/delete")
    assert answer.status_code == 409
    assert "in use by calm-otter" in answer.text
    assert len(kept.projects.known) == 2


async def test_other_peoples_projects_are_nowhere(kept: House) -> None:
    async with kept.browser("ada") as browser:
        assert (await browser.visit("projects/other-0123abcd/delete")).status_code == 404
        assert (await browser.submit("projects/other-0123abcd/delete")).status_code == 404
        assert (await browser.submit("projects/other-0123abcd/rename", title="x")).status_code == 404
    async with kept.client("ada") as client:
        with pytest.raises(NotFound):
            await client.delete_project("other-0123abcd")
        assert [each.id for each in await client.projects()] == [PROJECT]


async def test_a_title_is_shown_as_text(kept: House) -> None:
    async with kept.browser("ada") as browser:
        await browser.visit("projects")
        answer = await browser.submit(f"projects/{PROJECT}/rename", title="  <b>My</b>   thesis ")
        assert answer.status_code == 303
        text = (await browser.visit("projects")).text
        assert "&lt;b&gt;My&lt;/b&gt; thesis" in text
        refused = await browser.submit(f"projects/{PROJECT}/rename", title="x" * 101)
    assert refused.status_code == 400
    assert "at most 100 characters" in refused.text


@pytest.mark.parametrize("page", ["", "projects", "v2/gh/owner/repo/main"])
async def test_the_limit_is_told_before_and_when_it_is_reached(kept: House, page: str) -> None:
    async with kept.browser("ada") as browser:
        assert "one person may keep" not in (await browser.visit(page)).text
        kept.kept_files.now = StorageView(used_bytes=9 * GIB, limit_bytes=10 * GIB, state="warn")
        warned = (await browser.visit(page)).text
        kept.kept_files.now = StorageView(used_bytes=11 * GIB, limit_bytes=10 * GIB, state="full")
        full = (await browser.visit(page)).text
    assert "9 GiB" in warned
    assert "10 GiB" in warned
    assert "do not start until it is less" in full


@pytest.mark.parametrize("page", ["", "projects", "v2/gh/owner/repo/main"])
async def test_files_that_cannot_be_reached_are_no_empty_list(kept: House, page: str) -> None:
    problem = ErrorView(code="storage-missing", message="/data is not mounted.", next="Mount it.")
    kept.kept_files.now = StorageView(used_bytes=0, problem=problem)
    kept.projects.known = []
    async with kept.browser("ada") as browser:
        text = (await browser.visit(page)).text
    assert "/data is not mounted." in text
    assert "None yet." not in text


async def test_the_api_does_the_same(kept: House) -> None:
    async with kept.client("ada") as client:
        assert (await client.rename_project(PROJECT, "Thesis")).title == "Thesis"
        gone = await client.delete_project(PROJECT)
        assert gone.archived
        assert await client.projects() == []
        assert [each.id for each in await client.deleted_projects()] == [gone.id]
        assert (await client.undelete_project(gone.id)).id == PROJECT
        gone = await client.delete_project(PROJECT)
        await client.remove_project(gone.id)
        assert await client.deleted_projects() == []
        kept.projects.known = [project_view(PROJECT)]
        kept.kept_files.in_use = {PROJECT}
        with pytest.raises(ProjectInUse):
            await client.delete_project(PROJECT)


async def test_only_an_administrator_says_that_a_disk_is_new(kept: House) -> None:
    async with kept.client("ada") as client:
        assert (await client.storage()).used_bytes == 1024
        with pytest.raises(Exception, match="not an administrator"):
            await client.adopt_storage()
    assert kept.kept_files.adopted_by == ""
    async with kept.client("root") as client:
        await client.adopt_storage()
    assert kept.kept_files.adopted_by == "root"


def test_days_are_counted_to_the_end() -> None:
    now = datetime(2026, 11, 21, 12, tzinfo=timezone.utc)
    assert days_left("2026-12-05T11:59:00+00:00", now) == 14
    assert days_left("2026-11-21T12:00:01+00:00", now) == 1
    assert days_left("2026-11-20T00:00:00+00:00", now) == 0
    assert days_left("", now) == 0


def test_a_size_is_never_made_up() -> None:
    assert shown_size(None, True) == "not measured yet"
    assert shown_size(GIB, False) == "at least 1 GiB"
