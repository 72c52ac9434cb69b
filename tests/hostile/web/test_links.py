"""Links made to lead somewhere else, or to show something else than what they do."""

from __future__ import annotations

import re
from urllib.parse import quote, urljoin, urlsplit

import pytest
from house import PREFIX, House

from tljh_plugin.errors import BinderError, InvalidOptions
from tljh_plugin.launch.options import parse
from tljh_plugin.service.launches import address, opened
from tljh_plugin.sign_in import is_own_address
from tljh_plugin.source.spec import LaunchLink, parse_link, parse_typed

SERVER = "http://hub.example/user/ada/x/"
OFF_SITE = [
    "//evil.example",
    "///evil.example",
    "/\\evil.example",
    "\\\\evil.example",
    "\\/evil.example",
    "https://evil.example",
    "https:evil.example",
    "HTTPS://evil.example",
    " https://evil.example",
    "\thttps://evil.example",
    "java\nscript:alert(1)",
    "javascript:alert(1)",
    "JaVaScRiPt:alert(1)",
    "data:text/html,<script>alert(1)</script>",
    "vbscript:x",
    "%6aavascript:alert(1)",
    "%2F%2Fevil.example",
    "%252F%252Fevil.example",
    "%5C%5Cevil.example",
    "%255Cevil.example",
    "..",
    "../bob/lab",
    "lab/../../bob/lab",
    "lab/%2e%2e/%2e%2e/bob",
    "lab/.%2e/x",
    "lab/%252e%252e/x",
    "lab/%25252e%25252e/x",
    "lab/..%2f..%2fbob",
    "lab/..%5c..%5cbob",
    "lab\r\nLocation: https://evil.example",
    "lab%0d%0aLocation:%20https://evil.example",
    "lab\x00",
    "lab%00",
    "\ud800",
    "a" * 10_000,
]


@pytest.mark.attack("web: links")
@pytest.mark.parametrize("path", OFF_SITE, ids=lambda path: ascii(path)[:40])
def test_what_a_link_opens_is_on_the_persons_own_server(path: str) -> None:
    spec = parse_link("gh/owner/repo/main")
    with pytest.raises(BinderError):
        LaunchLink(spec, path)
    with pytest.raises(BinderError):
        opened(path)
    with pytest.raises(InvalidOptions):
        parse({"repository": "gh/owner/repo/main", "path": path})


@pytest.mark.parametrize(
    "path",
    [
        "lab/tree/a b.ipynb",
        "lab/tree/ü#?.ipynb",
        "/lab",
        "voila/render/x.ipynb?next=//x",
        "tree/100%25.txt",
        "rstudio/",
        "lab/tree/..a/b..",
        "lab/tree/\u202egnp.exe",
    ],
)
def test_honest_paths_lead_below_the_server(path: str) -> None:
    found = opened(path)
    target = urlsplit(urljoin("http://hub.example/services/binder/", address(SERVER, found)))
    assert target.netloc == "hub.example"
    assert target.path.startswith("/user/ada/x/")
    assert found.isascii()  # what turns a text round is shown as its escapes
    assert opened(found) == found == parse({"repository": "gh/owner/repo/main", "path": path}).path


@pytest.mark.attack("web: links")
@pytest.mark.parametrize(
    "target",
    [
        "//evil.example",
        "///evil.example",
        "/\\evil.example",
        "\\\\evil.example",
        "https://evil.example",
        "http://binder.localhost:8000@evil.example/",
        "http://binder.localhost:8000:80@evil.example/",
        "http://evil.example/binder.localhost:8000",
        "http://binder.localhost.evil.example:8000/",
        "http://evilbinder.localhost:8000/",
        "http://binder.localhost:8001/",
        "https://binder.localhost:8000/",
        "http://user@binder.localhost:8000/",
        "javascript:alert(1)",
        "data:text/html,x",
        "\thttps://evil.example",
        "/\t/evil.example",
        "/\n/evil.example",
        "http://[evil",
        "http://binder.localhost:99999999/",
        "",
        "hub/home",
    ],
    ids=lambda target: ascii(target)[:40],
)
def test_signing_in_leads_to_our_own_pages_alone(target: str) -> None:
    assert not is_own_address(target, "http://binder.localhost:8000")


def test_signing_in_leads_on_to_our_own_pages() -> None:
    for target in ("/hub/home", "/v2/gh/a/b/c?urlpath=lab", "http://binder--service.binder.localhost:8000/x"):
        assert is_own_address(target, "http://binder.localhost:8000")


@pytest.mark.attack("web: links")
@pytest.mark.parametrize(
    "text",
    [
        "//evil.example/x",
        "https://evil.example/x",
        "javascript:alert(1)",
        "/services/binder/v2/gh/../../evil",
        "https://evil.example/v2/gh/owner/repo/main?urlpath=//evil.example",
        "[x](https://evil.example/v2/gh/owner/repo/x)",
        "owner/repo\r\nLocation: https://evil.example",
        "\u202eowner/repo",
        "gh/owner/repo/main\u2028",
        "<script>alert(1)</script>",
        "a" * 50_000,
        "%25" * 3000,
    ],
    ids=lambda text: ascii(text)[:40],
)
async def test_what_was_typed_leads_to_our_own_confirmation_or_nowhere(house: House, text: str) -> None:
    async with house.browser("root") as browser:
        answer = await browser.get("go", params={"repository": text})
        if answer.status_code == 302:
            target = answer.headers["location"]
            assert target.startswith(f"{PREFIX}v2/")
            assert target.isprintable()
            await browser.get(house.environment.url + target)
        else:
            assert answer.status_code in (400, 403, 404, 431)
        assert not house.hub.started
        assert not house.queue.requested


@pytest.mark.attack("web: links")
@pytest.mark.parametrize("query", ["urlpath", "labpath", "filepath", "path", "server", "project", "storage"])
async def test_no_part_of_a_link_becomes_markup_or_another_address(house: House, query: str) -> None:
    evil = '"><img src=x onerror=alert(1)><a href="javascript:alert(1)" x="'
    async with house.browser("root") as browser:
        page = await browser.visit(f"v2/gh/owner/repo/main?{query}={quote(evil)}")
        assert "<img src=x" not in page.text
        addresses = re.findall(r'(?:href|action|src|content)="([^"]*)"', page.text)
        assert not [each for each in addresses if each.lower().startswith(("javascript:", "data:", "//"))]


@pytest.mark.attack("web: links")
@pytest.mark.parametrize(
    "name", ["a\u202eb", "a\u2066b", "a\u200bb", "a\x1b[31mb", "a<b>", "a'b", 'a"b', "a\nb"]
)
def test_a_repository_shows_what_it_is(name: str) -> None:
    """Letters that turn a text round, or that nobody sees, are shown as escapes or refused."""
    for text in (
        f"git/{quote(f'https://git.example.org/{name}', safe='')}/main",
        f"https://git.example.org/{name}",
    ):
        try:
            spec = parse_link(text) if text.startswith("git/") else parse_typed(text).spec
        except BinderError as error:
            shown = error.message
        else:
            shown = spec.display
            assert spec.path.isascii()
        assert shown.isprintable()
        assert not set(shown) & set("\u202e\u2066\u200b\x1b\n")


@pytest.mark.attack("web: links")
@pytest.mark.parametrize(
    "host", ["evil.example", "evil.example:80@hub", "127.0.0.1.evil.example", "[::1", "a b"]
)
async def test_a_forged_host_leads_nobody_away(house: House, host: str) -> None:
    """Who is made to send another `Host` (DNS rebinding) has no cookie there, and is led nowhere by it."""
    async with house.browser("", Host=host) as browser:
        for path in ("", "v2/gh/owner/repo/main", "go?repository=owner/repo", "repo/owner/name", "nowhere"):
            answer = await browser.get(path)
            assert "evil.example" not in answer.headers.get("location", ""), path
            assert "evil.example" not in answer.headers.get("set-cookie", ""), path
            assert "max-age" not in answer.headers.get("cache-control", ""), path
            assert answer.status_code in (200, 302, 400, 404), path
