"""The site of the documentation: built without a warning, complete in itself, the same each time."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Mapping
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urlsplit

import pytest
from pages import DOCS


def build(out: Path, **environment: str) -> subprocess.CompletedProcess[str]:
    """Make the site in `out`, by the command that `contribute.md` names, with no way to the network."""
    nowhere = dict.fromkeys(("http_proxy", "https_proxy", "HTTP_PROXY", "HTTPS_PROXY"), "http://127.0.0.1:9")
    return subprocess.run(
        [sys.executable, "-m", "sphinx", "-W", "--keep-going", "-q", "-b", "html",
         "-d", str(out.with_suffix(".trees")), str(DOCS), str(out)],
        env={**os.environ, **nowhere, "PYTHONDONTWRITEBYTECODE": "1", **environment},
        capture_output=True,
        text=True,
        check=False,
    )  # fmt: skip


class Names(HTMLParser):
    """The links, the parts that a browser fetches, and the ids of a page."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.links: list[str] = []
        self.fetched: list[str] = []
        self.ids: set[str] = set()
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        given: Mapping[str, str] = {key: value or "" for key, value in attrs}
        if "id" in given:
            self.ids.add(given["id"])
        if tag == "a" and "href" in given:
            self.links.append(given["href"])
        if tag in ("img", "script", "iframe", "source") and given.get("src"):
            self.fetched.append(given["src"])
        if tag == "link" and given.get("rel") in ("stylesheet", "icon", "preload", "preconnect"):
            self.fetched.append(given["href"])


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("docs") / "site"
    done = build(out, PYTHONHASHSEED="1")
    assert done.returncode == 0, done.stdout + done.stderr
    return out


@pytest.fixture(scope="module")
def pages(site: Path) -> dict[Path, Names]:
    return {page: Names(page.read_text(encoding="utf-8")) for page in site.rglob("*.html")}


def test_every_page_is_on_the_site(site: Path) -> None:
    missing = [
        page
        for page in DOCS.rglob("*.md")
        if not (site / page.relative_to(DOCS)).with_suffix(".html").exists()
    ]
    assert missing == []


def test_links_within_the_site_lead_somewhere(pages: dict[Path, Names]) -> None:
    broken = []
    for page, names in pages.items():
        for link in [*names.links, *names.fetched]:
            parts = urlsplit(link)
            if parts.scheme or parts.netloc:
                continue
            target = (page.parent / unquote(parts.path)).resolve() if parts.path else page
            if not target.exists() or (
                parts.fragment and target in pages and unquote(parts.fragment) not in pages[target].ids
            ):
                broken.append(f"{page.name}: {link}")
    assert broken == []


def test_a_browser_fetches_nothing_from_elsewhere(site: Path, pages: dict[Path, Names]) -> None:
    foreign = [link for names in pages.values() for link in names.fetched if urlsplit(link).netloc]
    assert foreign == []
    for sheet in site.rglob("*.css"):
        assert "url(http" not in sheet.read_text(encoding="utf-8")
        assert "@import" not in sheet.read_text(encoding="utf-8")


def test_two_builds_are_the_same(site: Path, tmp_path: Path) -> None:
    done = build(tmp_path / "again", PYTHONHASHSEED="2")
    assert done.returncode == 0, done.stderr
    first, again = ({p.relative_to(root): p.read_bytes() for p in root.rglob("*") if p.is_file()}
                    for root in (site, tmp_path / "again"))  # fmt: skip
    assert sorted(path for path in first.keys() | again.keys() if first.get(path) != again.get(path)) == []
