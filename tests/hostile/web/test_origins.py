"""What the script of a notebook can do in a signed-in person's browser: a real Chromium.

The script's page is put into the browser as if a server had sent it; cookies, origins and policies are the
browser's own.
"""

from __future__ import annotations

import json
import re
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import pytest_asyncio
from chromium import LONG_MS, opened_chromium
from git_server import GitServer
from house import PREFIX, House, cookie_secret, create_signed_value
from playwright.async_api import Browser, BrowserContext, Page, Route
from running_hub import RunningHub
from waiting import until

from tljh_plugin.desktop import HOST, new_link

pytestmark = pytest.mark.browser

# Opens a page of ours, takes the token out of it, and asks for a build with that.
ACT = """async ([prefix, spec]) => {
  const opened = window.open(prefix);
  let meta = null;
  for (let n = 0; n < 100 && !meta; n++) {
    await new Promise((done) => setTimeout(done, 100));
    try { meta = opened.document.querySelector("meta[name=binder-xsrf]"); } catch { meta = null; }
  }
  const answer = await fetch(prefix + "api/v1/builds", {
    method: "POST",
    headers: { "X-XSRFToken": meta && meta.content, "Content-Type": "application/json" },
    body: JSON.stringify({ spec }),
  });
  return answer.status;
}"""

# Each gives what it got hold of, or nothing.
TRIES = {
    "read a page": "async (s) => (await fetch(s, {credentials: 'include'})).text()",
    "read the API": "async (s) => (await fetch(s + 'api/v1/builds', {credentials: 'include'})).text()",
    "read the hub": "async (s, h) => (await fetch(h + '/hub/api/user', {credentials: 'include'})).text()",
    "send JSON": """async (s, h, b) => (await fetch(s + 'api/v1/builds', {method: 'POST', body: b,
        credentials: 'include', headers: {'Content-Type': 'application/json'}})).text()""",
    "send it as text": """async (s, h, b) => (await fetch(s + 'api/v1/builds', {method: 'POST', body: b,
        mode: 'no-cors', credentials: 'include'})).body && 'read'""",
    "a beacon": "(s, h, b) => { navigator.sendBeacon(s + 'api/v1/builds', b); return ''; }",
    "follow a log": """(s) => new Promise((done) => { const e = new EventSource(s + 'api/v1/builds/x/events',
        {withCredentials: true}); e.onmessage = (m) => done(m.data); e.onerror = () => done(''); })""",
    "load it as a script": """(s) => new Promise((done) => { const e = document.createElement('script');
        e.src = s + 'api/v1/builds'; e.onload = () => done('loaded'); e.onerror = () => done('');
        document.head.append(e); })""",
    "frame a page": """(s) => new Promise((done) => { const f = document.createElement('iframe');
        f.src = s; f.onload = () => { try { done(f.contentDocument.body.innerText); } catch { done(''); } };
        document.body.append(f); })""",
    "open a window": """async (s) => { const w = window.open(s); await new Promise((d) => setTimeout(d, 500));
        try { return w.document.body.innerText; } catch { return ''; } }""",
    "read cookies": "() => /binder|_xsrf|session/.test(document.cookie) ? document.cookie : ''",
    "widen its origin": "(s, h) => { try { document.domain = new URL(h).hostname; }"
    " catch { return ''; } return document.domain === new URL(h).hostname ? document.domain : ''; }",
}  # fmt: skip


@pytest_asyncio.fixture
async def chromium() -> AsyncIterator[Browser]:
    async with opened_chromium() as browser:
        yield browser


@pytest_asyncio.fixture
async def hub(tmp_path: Path, git_server: GitServer) -> AsyncIterator[RunningHub]:
    """A desktop's hub, with subdomains, and the real service."""
    git_server.add("foreign-from")
    policy = {key: list(value) for key, value in git_server.settings().items()}
    async with RunningHub(tmp_path, service="real", settings={"policy": policy}) as running:
        await running.service_answers()
        yield running


async def evil_page(context: BrowserContext, address: str) -> Page:
    """A page of a server, at an address of its own."""

    async def answer(route: Route) -> None:
        # What its server says of itself, to share a group of windows with our pages, which ask for that.
        headers = {"Cross-Origin-Opener-Policy": "same-origin"}
        body = "<title>notebook</title><h1>A notebook</h1>"
        await route.fulfill(content_type="text/html", headers=headers, body=body)

    await context.route(address, answer)
    page = await context.new_page()
    page.set_default_timeout(LONG_MS)
    await page.goto(address)
    return page


@pytest.mark.hub
@pytest.mark.attack("web: scripts of notebooks")
async def test_with_subdomains_a_notebooks_script_can_do_nothing(
    hub: RunningHub, chromium: Browser, git_server: GitServer
) -> None:
    service = hub.service_origin + PREFIX
    spec = git_server.spec("foreign-from")
    async with await chromium.new_context() as context:
        front = await context.new_page()
        await front.goto(new_link(hub.settings, "/hub/home"))
        await front.goto(service)
        assert "Launch a repository" in await front.inner_text("body")

        evil = await evil_page(context, f"http://{hub.owner}.{HOST}:{hub.port}/user/{hub.owner}/x/evil.html")
        got = {}
        for name, script in TRIES.items():
            call = f"({script})(...{json.dumps([service, hub.origin, json.dumps({'spec': spec})])})"
            guarded = f"(async () => {{ try {{ return (await {call}) || ''; }} catch {{ return ''; }} }})()"
            got[name] = await evil.evaluate(guarded)
        assert {name: said for name, said in got.items() if said} == {}

        # Cookies for the hub's own domain can be set from a subdomain, but not with a good signature.
        await evil.evaluate(f"document.cookie = '_xsrf=tossed; domain={HOST}; path={PREFIX}'")
        for target, fields in (
            (f"{service}v2/{spec}", {"_xsrf": "tossed", "files": "project", "server": "evil"}),
            (f"{service}launch/evil/start", {"_xsrf": "tossed"}),
            (f"{hub.origin}/hub/spawn/{hub.owner}/evil", {"_xsrf": "tossed", "repository": spec}),
        ):
            page = await evil_page(context, evil.url + "?form")
            inputs = "".join(f'<input name="{name}" value="{value}">' for name, value in fields.items())
            await page.set_content(f'<form method="post" action="{target}">{inputs}</form>')
            async with page.expect_response(lambda answer: answer.request.method == "POST") as response:
                await page.evaluate("document.forms[0].submit()")
            assert (await response.value).status in (400, 403), target
            await page.close()
        await evil.goto(f"{hub.origin}/hub/spawn/{hub.owner}/evil?repository={spec}")
        token = await hub.person(hub.owner)
        async with hub.service_client(token) as client, hub.api() as api:
            assert await client.builds() == []
            servers = (await api.servers(hub.owner)).values()
            assert not [each for each in servers if each.started or each.pending or each.ready]

            # The control: on the service's own origin the same person's browser may.
            await context.clear_cookies(name="_xsrf", domain=f".{HOST}")
            ours = await evil_page(context, f"{service}evil.html")
            assert await ours.evaluate(ACT, [PREFIX, spec]) == 202
            assert len(await client.builds()) == 1
    await a_name_that_points_here_opens_nothing(hub)


async def a_name_that_points_here_opens_nothing(hub: RunningHub) -> None:
    """DNS rebinding: another site's name leads to this machine, so its page may read what is answered."""
    rules = f"--host-resolver-rules=MAP rebound.example 127.0.0.1:{hub.port}"
    async with opened_chromium(rules) as browser:
        page = await browser.new_page()
        answer = await page.goto("http://rebound.example/")
        assert answer is not None  # it is us who answer
        for place in ("/hub/home", "/hub/api/user", PREFIX, f"{PREFIX}api/v1/builds", "/hub/api/users"):
            read = "async (path) => { const a = await fetch(path); return [a.status, await a.text()]; }"
            status, text = await page.evaluate(f"({read})({json.dumps(place)}).catch(() => [0, ''])")
            assert f'"name": "{hub.owner}"' not in text
            assert "Launch a repository" not in text
            assert status in (0, 200, 403, 404), place  # 200: the page that tells how to sign in


@pytest.mark.attack("web: scripts of notebooks", preventable=False, page="One origin.")
async def test_without_subdomains_a_notebooks_script_acts_as_the_person(
    house: House, chromium: Browser
) -> None:
    """One origin: the token is there to be read, whatever headers say. The security page tells it."""
    async with await chromium.new_context() as context:
        signed = create_signed_value(cookie_secret(house.settings), "service-binder", "root-token").decode()
        await context.add_cookies([{"name": "service-binder", "value": signed, "url": house.url}])
        front = await context.new_page()
        await front.goto(house.url)
        evil = await evil_page(context, f"{house.environment.url.rstrip('/')}/user/mallory/evil.html")
        assert await evil.evaluate(ACT, [PREFIX, "gh/owner/repo/main"]) == 202
    assert [name for name, _ in house.queue.requested] == ["root"]
    page = Path(__file__).parents[3] / "docs" / "explanation" / "security.md"
    assert "a script in a notebook\n  can act as the person who opens it" in page.read_text()


@pytest.mark.attack("web: pages in pages")
async def test_no_page_of_ours_can_be_framed(house: House, chromium: Browser) -> None:
    """Not even by a page of the same origin, so that no click is stolen."""
    async with await chromium.new_context() as context:
        signed = create_signed_value(cookie_secret(house.settings), "service-binder", "root-token").decode()
        await context.add_cookies([{"name": "service-binder", "value": signed, "url": house.url}])
        evil = await evil_page(context, f"{house.environment.url.rstrip('/')}/user/mallory/evil.html")
        refused: list[str] = []
        evil.on("console", lambda message: refused.append(message.text))
        for path in ("", "v2/gh/owner/repo/main", "builds/b-1", "images", "nowhere", "badge.svg"):
            await evil.evaluate(
                "(s) => { const f = document.createElement('iframe'); f.src = s; document.body.append(f); }",
                house.url + path,
            )
        await until(lambda: len([text for text in refused if re.search("frame-ancestors|fram", text)]) >= 6)
