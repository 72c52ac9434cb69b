"""Requests that another site makes in a signed-in person's browser: at every address of the service."""

from __future__ import annotations

import json
import re
from typing import Any

import httpx
import pytest
from house import COMMIT, IMAGE, PREFIX, House
from tornado.web import RequestHandler

from tljh_plugin.client import API
from tljh_plugin.service.app import API_ROUTES, PAGE_ROUTES

# What stands in the place of a group in an address, by what comes before it.
EXAMPLES = {
    "builds/": "b-1",
    "images/": IMAGE,
    "launch/": "x",
    "launches/": "x",
    "projects/": "owner-repo-0123abcd",
    "v2/": "gh/owner/repo/main",
    "build/": "gh/owner/repo/main",
}
CHANGING = ("POST", "PUT", "PATCH", "DELETE")
BODY = {
    "spec": "gh/owner/repo/main",
    "commit": COMMIT,
    "files": "project",
    "server": "evil",
    "repository": "gh/owner/repo/main",
    "visibility": "everyone",
    "sure": "1",
    "id": "owner-repo-0123abcd",
    "title": "owned",
}


def example(pattern: str) -> str:
    """An address that the route answers."""
    address = pattern.removesuffix("/?")
    while match := re.search(r"\([^()]*\)", address):
        before = address[: match.start()].removeprefix(API)
        found = next((value for key, value in EXAMPLES.items() if before.endswith(key)), "x")
        address = address[: match.start()] + found + address[match.end() :]
    return address.replace("\\", "")


def routes() -> list[tuple[str, type[RequestHandler]]]:
    api = [(example(API + pattern), handler) for pattern, handler in API_ROUTES]
    return api + [(example(pattern), handler) for pattern, handler in PAGE_ROUTES]


def answers(handler: type[RequestHandler], method: str) -> bool:
    return getattr(handler, method.lower()) is not getattr(RequestHandler, method.lower())


CHANGES = [(method, path) for path, handler in routes() for method in CHANGING if answers(handler, method)]
READS = [path for path, handler in routes() if answers(handler, "GET")]


def state(house: House) -> str:
    """All that a request could have changed."""
    return repr(
        (
            house.hub.started,
            house.hub.stopped,
            house.hub.servers,
            house.queue.requested,
            house.queue.builds,
            house.sweep.deleted,
            house.sharing.shared,
            house.inventory.known,
            house.projects.known,
            house.kept_files.gone,
            house.preparations.released,
            sorted(house.settings.state_dir.rglob("*.new")),
        )
    )


# How another site's page can send a request with the person's cookies and without their XSRF token.
FORM = "application/x-www-form-urlencoded"
WAYS: dict[str, dict[str, Any]] = {
    "form": {
        "data": BODY,
        "headers": {"Origin": "https://evil.example", "Sec-Fetch-Site": "cross-site"},
    },
    "form of a sandboxed frame": {"data": BODY, "headers": {"Origin": "null"}},
    "form of an old browser": {"data": BODY, "headers": {"Sec-Fetch-Mode": "", "Sec-Fetch-Site": ""}},
    "form that claims to be ours": {
        "data": BODY,
        "headers": {"Sec-Fetch-Site": "same-origin", "Referer": "http://127.0.0.1/services/binder/"},
    },
    "form with a guessed token": {"data": {**BODY, "_xsrf": "guessed"}},
    "form with a token in the address": {"data": BODY, "params": {"_xsrf": "guessed"}},
    "form with a cookie and a token of its own": {
        "data": {**BODY, "_xsrf": "tossed"},
        "headers": {"Cookie": "_xsrf=tossed"},
    },
    "JSON as text": {
        "content": json.dumps(BODY).encode(),
        "headers": {"Content-Type": "text/plain", "Sec-Fetch-Mode": "no-cors"},
    },
    "JSON as a form": {"content": json.dumps(BODY).encode(), "headers": {"Content-Type": FORM}},
    "JSON of a beacon": {
        "content": json.dumps(BODY).encode(),
        "headers": {"Content-Type": "application/json", "Sec-Fetch-Mode": "no-cors"},
    },
    "method in a form": {
        "data": {**BODY, "_method": "DELETE"},
        "headers": {"X-HTTP-Method-Override": "DELETE"},
    },
    "token in the address": {"data": BODY, "params": {"token": "bob-token"}},
    "nothing": {},
}


@pytest.mark.attack("web: cross-site requests")
@pytest.mark.parametrize("way", WAYS)
async def test_another_sites_request_changes_nothing(house: House, way: str) -> None:
    before = state(house)
    async with house.browser("root") as browser:
        await browser.visit("")
        for method, path in CHANGES:
            sent = dict(WAYS[way])
            if "Cookie" in (sent.get("headers") or {}):
                cookies = "; ".join(f"{name}={value}" for name, value in browser.cookies.items())
                tossed = sent["headers"]["Cookie"]
                sent["headers"] = {**sent["headers"], "Cookie": f"{tossed}; {cookies}"}
            answer = await browser.request(method, path, **sent)
            assert answer.status_code in (400, 403), (
                f"{method} {path}: {answer.status_code} {answer.text[:200]}"
            )
            assert "access-control-allow-origin" not in answer.headers
            assert state(house) == before, f"{method} {path} by {way}"


async def test_the_same_requests_of_our_own_pages_change_something(house: House) -> None:
    """The control: with the page's token each of them does something, or says why not."""
    changed = 0
    async with house.browser("root") as browser:
        await browser.visit("")
        for method, path in CHANGES:
            before = state(house)
            token = {"X-XSRFToken": browser.xsrf}
            if path.startswith(API):
                answer = await browser.request(method, path, json={"spec": BODY["spec"]}, headers=token)
            else:
                answer = await browser.request(method, path, data=BODY, headers=token)
            assert "XSRF" not in answer.text
            assert "form-expired" not in answer.text
            changed += state(house) != before
    assert changed >= 5


@pytest.mark.attack("web: cross-site requests")
@pytest.mark.parametrize("person", ["root", ""])
async def test_no_address_changes_anything_when_it_is_read(house: House, person: str) -> None:
    before = state(house)
    async with house.browser(person) as browser:
        for path in READS:
            for method in ("GET", "HEAD", "OPTIONS"):
                for query in ("", "?commit=" + COMMIT + "&files=project&restart=1&sure=1&dry_run=0"):
                    async with browser.stream(method, path + query) as answer:
                        assert "access-control-allow-origin" not in answer.headers
                    assert state(house) == before, f"{method} {path}{query}"


@pytest.mark.attack("web: cross-site requests")
async def test_preflights_are_never_allowed(house: House) -> None:
    asked = {
        "Origin": "https://evil.example",
        "Access-Control-Request-Method": "DELETE",
        "Access-Control-Request-Headers": "x-xsrftoken,authorization",
    }
    async with house.browser("root") as browser:
        for path in {path for _, path in CHANGES}:
            answer = await browser.options(path, headers=asked)
            assert not [name for name in answer.headers if name.startswith("access-control-")]


@pytest.mark.attack("web: cross-site requests")
async def test_what_another_site_embeds_says_nothing_of_the_person(house: House) -> None:
    """As a picture, a script, a style or an event stream: the cookie alone does not open the API."""
    modes = {"Sec-Fetch-Mode": "no-cors", "Sec-Fetch-Site": "cross-site", "Sec-Fetch-Dest": "script"}
    async with house.browser("root", **modes) as browser:
        for path in READS:
            if not path.startswith(API) or path in (f"{API}health",):
                continue
            answer = await browser.get(path)
            assert answer.status_code in (400, 403), path
            assert answer.headers["x-content-type-options"] == "nosniff"


# -- what every answer carries ----------------------------------------------------------------------------


@pytest.mark.attack("web: pages in pages")
@pytest.mark.parametrize("person", ["root", "bob", ""])
async def test_every_answer_forbids_frames_scripts_of_others_and_being_kept(
    house: House, person: str
) -> None:
    async with house.browser(person) as browser:
        for path, handler in routes():
            if not answers(handler, "GET"):
                continue
            async with browser.stream("GET", path) as answer:
                policy = answer.headers["content-security-policy"]
                assert "default-src 'none'" in policy, path
                assert "frame-ancestors 'none'" in policy, path
                assert "unsafe" not in policy, path
                assert answer.headers["cache-control"] == "no-store", path
                assert answer.headers["x-content-type-options"] == "nosniff", path
                assert answer.headers["cross-origin-opener-policy"] == "same-origin", path
                assert "server" not in answer.headers, path
                for cookie in answer.headers.get_list("set-cookie"):
                    assert cookie.startswith("_xsrf=") or "HttpOnly" in cookie, cookie
                    assert f"Path={PREFIX}" in cookie, cookie


@pytest.mark.attack("web: pages in pages")
async def test_files_for_everybody_are_no_pages(house: House) -> None:
    """Pictures and scripts may be kept, but neither framed nor taken for a page."""
    async with house.browser("root") as browser:
        page = await browser.visit("")
        files = set(re.findall(rf'"({PREFIX}static/[^"]+)"', page.text)) | {f"{PREFIX}badge.svg"}
        assert len(files) > 3
        for path in files:
            answer = await browser.get(house.environment.url + path)
            assert answer.status_code == 200
            assert "default-src 'none'" in answer.headers["content-security-policy"]
            assert "frame-ancestors 'none'" in answer.headers["content-security-policy"]
            assert answer.headers["x-content-type-options"] == "nosniff"
        static = next(path for path in files if path.endswith(".css")).rpartition("/")[0]
        for out in ("../../settings.py", "..%2f..%2fsettings.py", "%2e%2e/%2e%2e/settings.py", "/etc/passwd"):
            request = browser.build_request("GET", f"{house.environment.url}{static}/")
            request.url = httpx.URL(request.url, raw_path=f"{static}/{out}".encode())
            answer = await browser.send(request)
            assert answer.status_code in (403, 404), out
