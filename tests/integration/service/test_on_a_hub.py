"""The real service on a real JupyterHub: sign-in, XSRF, a launch and its end, another person's view."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator
from contextlib import aclosing
from pathlib import Path

import httpx
import pytest
import pytest_asyncio
from git_server import GitServer
from running_hub import SERVICE_PREFIX as PREFIX
from running_hub import RunningHub, browser, xsrf
from waiting import LONG_S

from tljh_plugin.client import ServiceClient
from tljh_plugin.errors import Forbidden, NotFound
from tljh_plugin.wire import BuildRequest, LaunchEvent, Person

pytestmark = [pytest.mark.hub, pytest.mark.docker]


@pytest_asyncio.fixture
async def hub(tmp_path: Path, git_server: GitServer) -> AsyncIterator[RunningHub]:
    """A hub with the real service. The repository that is served is built from an image that is not ours and
    not there, so that a launch of it fails soon."""
    git_server.add("foreign-from")
    policy = {key: list(value) for key, value in git_server.settings().items()}
    async with RunningHub(tmp_path, service="real", settings={"policy": policy}) as running:
        await running.service_answers()
        yield running


async def visit(client: httpx.AsyncClient, url: str) -> httpx.Response:
    """Open a page, following the way over the hub as a browser does."""
    answer = await client.get(url, follow_redirects=True)
    return answer


async def events_of(client: ServiceClient, server: str) -> list[LaunchEvent]:
    return [event async for event in client.launch_events(server)]


async def test_signing_in_at_the_hub_is_enough_and_signing_out_ends_it(hub: RunningHub) -> None:
    async with browser() as stranger:
        answer = await visit(stranger, hub.service_origin + PREFIX)
        assert "/hub/" in answer.url.path
    async with aclosing(await hub.signed_in()) as client:
        page = await visit(client, hub.service_origin + PREFIX)
        assert (page.status_code, page.url.path) == (200, PREFIX)
        assert "Launch a repository" in page.text
        assert xsrf(page)


async def test_a_launch_goes_from_the_form_to_its_explained_end(
    hub: RunningHub, git_server: GitServer
) -> None:
    link = f"{hub.service_origin}{PREFIX}v2/{git_server.spec('foreign-from')}"
    async with aclosing(await hub.signed_in()) as client:
        # The hub's own address leads to the same page, its escapes intact.
        page = await visit(client, f"{hub.origin}/v2/{git_server.spec('foreign-from')}")
        assert str(page.url) == link
        commit = re.search(r'name="commit" value="([0-9a-f]{40})"', page.text)
        assert commit
        form = {"commit": commit[1], "files": "project", "server": "refused"}
        for stolen in ({}, {"_xsrf": "x"}):
            assert (await client.post(link, data={**form, **stolen})).status_code == 403
        async with hub.api() as api:
            assert "refused" not in await api.servers(hub.owner)
        sent = await client.post(link, data={**form, "_xsrf": xsrf(page)})
        assert (sent.status_code, sent.headers["location"]) == (303, f"{PREFIX}launch/refused")

        token = await hub.person(hub.owner)
        async with hub.service_client(token) as api_client:
            events = await events_of(api_client, "refused")
            again = await events_of(api_client, "refused")
            [build] = await api_client.builds()
        assert (build.state, build.requested_by) == ("failed", hub.owner)
        assert build.error is not None
        assert build.error.next
        for told in (events, again):
            assert (told[-1].type, told[-1].error) == ("failed", build.error)
            assert any(event.line for event in told)

        shown = await visit(client, f"{hub.service_origin}{PREFIX}launch/refused")
        assert build.error.code in shown.text
        assert "Try again" in shown.text
        front = await visit(client, hub.service_origin + PREFIX)
        assert "refused" in front.text
        removed = await client.post(
            f"{hub.service_origin}{PREFIX}launch/refused/remove", data={"_xsrf": xsrf(front)}
        )
        assert removed.status_code == 303
        async with hub.api() as api:
            assert "refused" not in await api.servers(hub.owner)


async def test_another_person_sees_and_starts_nothing_of_it(hub: RunningHub) -> None:
    bob = await hub.person("bob")
    async with hub.service_client(bob) as client:
        with pytest.raises(NotFound):
            await events_of(client, "refused")
        with pytest.raises(Forbidden):
            await client.builds(everyone=True)
    # Over the socket a person is believed; servers still need that person's own token.
    own = ServiceClient(socket=hub.settings.service_socket, person=Person(name="bob"))
    async with own:
        with pytest.raises(Forbidden, match="own hub token"):
            await own.launch({"repository": "gh/owner/repo/main"})


async def test_rights_come_from_the_hub_and_a_token_has_no_more_than_its_own(
    tmp_path: Path, git_server: GitServer
) -> None:
    git_server.add("foreign-from")
    policy = {key: list(value) for key, value in git_server.settings().items()}
    settings = {"policy": {**policy, "builders": "role"}}
    spec = BuildRequest(spec=git_server.spec("foreign-from"))
    async with RunningHub(tmp_path, service="real", settings=settings) as hub:
        await hub.service_answers()
        access = "access:services!service=binder"
        async with hub.api() as api:
            few = await api.new_token(hub.owner, scopes=[access], seconds=600, note="few")
        async with aclosing(await hub.signed_in()) as browser_of_the_owner:
            page = await visit(browser_of_the_owner, f"{hub.service_origin}{PREFIX}images")
            assert (page.status_code, page.url.path) == (200, f"{PREFIX}images")
        async with hub.service_client(await hub.person(hub.owner)) as client:
            await client.builds(everyone=True)
            build = await client.build(spec)
            assert build.requested_by == hub.owner
            assert [line async for line in client.events(build.id)][-1].phase == "failed"
        async with hub.service_client(few) as client:
            assert await client.builds() != []  # the owner's own
            with pytest.raises(Forbidden):
                await client.builds(everyone=True)
            with pytest.raises(Forbidden) as caught:
                await client.build(BuildRequest(spec=spec.spec, rebuild=True))
            assert caught.value.code == "not-a-builder"

        bob = await hub.person("bob")
        async with hub.service_client(bob) as client:
            with pytest.raises(Forbidden) as caught:
                await client.build(BuildRequest(spec=spec.spec, rebuild=True))
            assert caught.value.code == "not-a-builder"
        async with httpx.AsyncClient(headers={"Authorization": f"token {hub.token}"}, timeout=LONG_S) as http:
            group = f"http://127.0.0.1:{hub.port}/hub/api/groups/binder-builder/users"
            (await http.post(group, json={"users": ["bob"]})).raise_for_status()
        async with hub.service_client(await hub.person("bob")) as client:
            assert (await client.build(BuildRequest(spec=spec.spec, rebuild=True))).requested_by == "bob"
