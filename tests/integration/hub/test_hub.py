"""A real hub at home with the real service: signing in, ways to the service, rights; GET starts nothing."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from urllib.parse import parse_qs, urlencode, urlsplit

import httpx
import pytest
from running_hub import BOTH_MAJORS, RunningHub, browser

from tljh_plugin import handover
from tljh_plugin.client import ServiceClient
from tljh_plugin.desktop import new_link
from tljh_plugin.errors import BinderError, Forbidden, NotFound
from tljh_plugin.hub_api import HubApi
from tljh_plugin.wire import Person

pytestmark = [pytest.mark.docker, pytest.mark.hub]

DEEP = (
    "v2/git/https%3A%2F%2Fgit.example.org%2Fo%2Fa%20b/feature/x?labpath=d%C3%A9j%C3%A0%20%23%3F.ipynb&x=1%2B1"
)


@pytest.fixture(scope="module", params=BOTH_MAJORS)
def hub(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningHub]:
    # Pages of two people, so that any list is read in several.
    running = RunningHub(
        tmp_path_factory.mktemp("h"), service="real", environment={"TEST_PAGE": "2"}, python=request.param
    )
    asyncio.run(running.__aenter__())
    yield running
    asyncio.run(running.__aexit__())


async def follow(client: httpx.AsyncClient, url: str) -> list[httpx.Response]:
    """Every answer on the way of redirects."""
    answers = [await client.get(url)]
    while (onward := answers[-1].next_request) is not None:
        answers.append(await client.send(onward))
        assert len(answers) < 20, [str(each.url) for each in answers]
    return answers


# -- signing in ---------------------------------------------------------------------------------------


async def test_a_link_signs_in_once_and_leads_to_the_front_page(hub: RunningHub) -> None:
    link = new_link(hub.settings)
    client = browser()
    answer = await client.get(link)
    assert answer.headers["Location"] == f"{hub.service_origin}/services/binder/"
    assert answer.headers["Referrer-Policy"] == "no-referrer"
    assert (await client.get(f"{hub.origin}/hub/home")).status_code == 200
    again = await browser().get(link)
    assert again.status_code == 403
    assert "littlest-binder link" in again.text
    assert "Set-Cookie" not in {name for name in again.headers if "login" in again.headers[name]}


@pytest.mark.parametrize(
    "query", ["", "?code=", "?code=wrong", "?code=%00", "?code=../../instance", "?code=a&code=b"]
)
async def test_what_is_no_code_gets_the_same_page(hub: RunningHub, query: str) -> None:
    client = browser()
    answer = await client.get(f"{hub.origin}/hub/sign-in{query}")
    assert answer.status_code == 403
    assert "does not work any more" in answer.text
    assert (await client.get(f"{hub.origin}/hub/home")).status_code == 302


async def test_a_used_link_is_no_dead_end_for_who_is_signed_in(hub: RunningHub) -> None:
    link = new_link(hub.settings, "/hub/token")
    client = browser()
    for _ in range(2):
        assert (await client.get(link)).headers["Location"] == "/hub/token"


@pytest.mark.parametrize(
    "elsewhere", ["https://evil.example/", "//evil.example", "///evil.example", "/\\evil.example"]
)
async def test_a_link_never_leads_to_others(hub: RunningHub, elsewhere: str) -> None:
    answer = await browser().get(new_link(hub.settings, elsewhere))
    assert answer.headers["Location"] == f"{hub.service_origin}/services/binder/"


def command_lines() -> str:
    found = []
    for each in Path("/proc").glob("[0-9]*/cmdline"):
        with suppress(OSError):
            found.append(each.read_bytes().decode(errors="replace"))
    return "".join(found)


async def test_the_code_is_in_no_log_and_in_no_list_of_processes(hub: RunningHub) -> None:
    links = [new_link(hub.settings), new_link(hub.settings, "/hub/home")]
    codes = [parse_qs(urlsplit(link).query)["code"][0] for link in links]
    for link in links:
        await follow(browser(), link)
        await browser().get(link)
    await browser().get(f"{hub.origin}/hub/home", headers={"Referer": links[0]})
    logs = "".join(path.read_text(errors="replace") for path in [hub.log_path, *hub.state.rglob("*.log")])
    processes = command_lines()
    assert "sign-in" in logs
    for code in codes:
        assert code not in logs
        assert code not in processes


async def test_the_page_asked_for_comes_after_sign_in_and_oauth_letter_for_letter(hub: RunningHub) -> None:
    asked = f"{hub.service_origin}/services/binder/{DEEP}"
    client = browser()
    login = (await follow(client, asked))[-1]
    assert login.url.path == "/hub/login"
    assert "littlest-binder link" in login.text
    assert 'type="password"' not in login.text
    # Signing in with a link in another tab, then reloading the page that showed how.
    assert (await client.get(new_link(hub.settings))).is_redirect
    there = await follow(client, str(login.url))
    assert str(there[-1].url) == asked
    assert not [
        each for each in there if each.url.path == "/hub/api/oauth2/authorize" and each.status_code == 200
    ]
    # And by a link that carries where to go.
    client = browser()
    there = await follow(client, new_link(hub.settings, asked))
    assert str(there[-1].url) == asked


async def test_the_login_form_of_jupyterhub_lets_nobody_in(hub: RunningHub) -> None:
    client = browser()
    page = await client.get(f"{hub.origin}/hub/login")
    assert "<form" not in re.sub(r"(?s)<nav.*?</nav>", "", page.text)
    token = client.cookies.get("_xsrf", domain="binder.localhost") or ""
    answer = await client.post(
        f"{hub.origin}/hub/login", data={"username": hub.owner, "password": "", "_xsrf": token}
    )
    assert answer.status_code == 403
    assert not [name for name in client.cookies if "login" in name]


# -- ways to the service ------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "path",
    [DEEP, "build/gh/o/r/main", "repo/gh/o/r", "badge.svg", "versions", "v2/gh/o/r/HEAD?urlpath=%2Flab"],
)
async def test_links_of_binderhub_lead_to_the_service_letter_for_letter(hub: RunningHub, path: str) -> None:
    answer = await browser().get(f"{hub.origin}/{path}")
    assert answer.headers["Location"] == f"{hub.origin}/hub/{path}"
    answer = await browser().get(answer.headers["Location"])
    assert answer.headers["Location"] == f"{hub.service_origin}/services/binder/{path}"


async def test_without_the_service_people_end_on_the_hubs_home_page(hub: RunningHub) -> None:
    hidden = hub.settings.service_socket.with_suffix(".hidden")
    hub.settings.service_socket.rename(hidden)
    try:
        answer = await browser().get(new_link(hub.settings))
    finally:
        hidden.rename(hub.settings.service_socket)
    assert answer.headers["Location"] == "/hub/home"


# -- GET never starts anything ------------------------------------------------------------------------


@pytest.mark.parametrize("prefix", ["opt-", ""])
@pytest.mark.parametrize("server", ["", "/named"])
async def test_options_in_an_address_fill_the_form_and_start_nothing(
    hub: RunningHub, server: str, prefix: str
) -> None:
    client = await hub.signed_in()
    query = {f"{prefix}repository": "gh/owner/some-repository/dev", f"{prefix}path": "lab/tree/a%20b.ipynb"}
    page = await client.get(f"/hub/spawn/{hub.owner}{server}?{urlencode(query)}")
    assert page.status_code == 200
    assert "spawn-error-msg" not in page.text
    assert "A link asks for this" in page.text
    assert 'value="https://github.com/owner/some-repository"' in page.text
    assert 'value="dev"' in page.text
    assert 'value="a b.ipynb"' in page.text
    await nothing_starts(hub)


async def test_bad_options_in_an_address_are_named_and_start_nothing(hub: RunningHub) -> None:
    client = await hub.signed_in()
    page = await client.get(f"/hub/spawn/{hub.owner}?opt-image=debian&opt-x=%3Cscript%3E")
    assert page.status_code == 200
    assert "must be the id of an image" in page.text
    assert "<script>&" not in page.text
    await nothing_starts(hub)


@pytest.mark.parametrize(
    "path", ["/hub/spawn", "/hub/spawn/{owner}/named", "/user/{owner}/", "/user/{owner}/named/lab"]
)
async def test_no_other_address_starts_anything_either(hub: RunningHub, path: str) -> None:
    client = await hub.signed_in()
    await follow(client, hub.origin + path.format(owner=hub.owner))
    await nothing_starts(hub)


async def nothing_starts(hub: RunningHub) -> None:
    servers = await hub.api().servers(hub.owner)
    assert not [each for each in servers.values() if each.active]


async def test_a_form_from_elsewhere_starts_nothing(hub: RunningHub) -> None:
    client = await hub.signed_in()
    answer = await client.post(
        f"/hub/spawn/{hub.owner}",
        data={"kind": "repository", "repository": "o/r"},
        headers={"Origin": "https://evil.example", "Sec-Fetch-Site": "cross-site"},
    )
    assert answer.status_code == 403
    await nothing_starts(hub)


async def test_a_form_with_a_mistake_comes_back_with_what_was_typed(hub: RunningHub) -> None:
    client = await hub.signed_in()
    page = await client.get(f"/hub/spawn/{hub.owner}/named")
    action = re.search(r'action="([^"]*_xsrf[^"]*)"', page.text)
    assert action
    answer = await client.post(
        action[1].replace("&amp;", "&"),
        files={
            "kind": (None, "repository"),
            "repository": (None, "file:///etc/<b>"),
            "path": (None, "x.ipynb"),
        },
    )
    assert "file:///etc/&lt;b&gt;" in answer.text
    assert 'value="x.ipynb"' in answer.text
    assert "<b>" not in answer.text
    await nothing_starts(hub)


# -- rights -------------------------------------------------------------------------------------------


async def test_the_service_cannot_start_servers_by_itself(hub: RunningHub) -> None:
    given = handover.read(hub.state)
    async with HubApi(given.hub_api_url, given.service_token) as service:
        assert hub.owner in [user.name for user in await service.users()]
        with pytest.raises((Forbidden, NotFound)):
            await service.start(hub.owner, "one", {"repository": "gh/o/r/main"})


async def test_commands_act_as_the_owner_with_a_token_that_ends(hub: RunningHub) -> None:
    given = handover.read(hub.state)
    async with HubApi(given.hub_api_url, given.cli_token) as commands:
        with pytest.raises((Forbidden, NotFound)):
            await commands.stop(hub.owner, "one") or await commands.start(hub.owner, "one")
        with pytest.raises((Forbidden, NotFound)):
            await commands.user("somebody-else")
        token = await commands.new_token(hub.owner, scopes=["servers!user"], seconds=60, note="test")
        assert (await commands.acting_as(token).whoami()).name == hub.owner
    person = Person(name=hub.owner, admin=True)
    async with ServiceClient(socket=hub.settings.service_socket, person=person, token=token) as client:
        with pytest.raises(BinderError, match="never"):
            # It got as far as our policy: the token was good for starting a server.
            await client.launch({"repository": "git/https%3A%2F%2F127.0.0.1%2Fnever/main"})


async def test_a_persons_token_does_not_reach_another_persons_servers(hub: RunningHub) -> None:
    ada, _ = await asyncio.gather(hub.person("ada"), hub.person("bob"))
    with pytest.raises((Forbidden, NotFound)):
        await hub.api(ada).start("bob", "one", {"repository": "gh/o/r/main"})


async def test_everybody_may_use_the_service(hub: RunningHub) -> None:
    token = await hub.person("carol")
    async with ServiceClient(url=f"http://127.0.0.1:{hub.port}/services/binder/", token=token) as client:
        client._http.headers["Host"] = urlsplit(hub.service_origin).netloc
        assert await client.images() is not None


async def test_everybody_is_listed_however_short_the_hubs_pages_are(hub: RunningHub) -> None:
    names = {f"listed-{number}" for number in range(5)}
    for name in names:
        await hub.person(name)
    given = handover.read(hub.state)
    async with HubApi(given.hub_api_url, given.service_token) as service:
        assert {hub.owner, *names} <= {user.name for user in await service.users()}


async def test_the_handover_is_what_the_hub_runs_with(hub: RunningHub) -> None:
    given = handover.read(hub.state)
    assert given.hub_url == f"{hub.origin}/hub/"
    assert given.settings() == hub.settings
