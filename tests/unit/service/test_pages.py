"""The pages: who may see them, that nothing starts by a GET, and that all text is only text."""

from __future__ import annotations

import asyncio
import re
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

import httpx
import pytest
from forms import Forms
from house import COMMIT, IMAGE, OLDER, PREFIX, House, build_view, image_view, line, open_house, project_view
from waiting import LONG_S

from tljh_plugin.errors import EngineUnavailable
from tljh_plugin.service.pages import confirm
from tljh_plugin.service.templates import STATIC, WEB
from tljh_plugin.source.spec import RepoSpec
from tljh_plugin.wire import ErrorView

MAIN = {"repository": "gh/owner/repo/main", "commit": COMMIT}
LINK = "v2/gh/owner/repo/main"
PAGES = [
    "",
    LINK,
    "builds",
    "builds/b-1",
    "launch/x",
    "images",
    "images/new",
    f"images/{IMAGE}",
    f"images/plan?id={IMAGE}",
    "retention",
    "nowhere",
]
EVIL = "<img src=x onerror=alert(1)>"


@pytest.fixture
def full(house: House) -> House:
    """A house in which every page has something to show."""
    for name in ("plain", "example"):
        (house.settings.examples_dir / name).mkdir(parents=True)
    house.queue.add(build_view("b-1", requested_by="root"), [line(1)])
    house.inventory.known = [image_view()]
    house.projects.known = [project_view(owner="root", commit=OLDER)]
    house.hub.put("root", "x", ready=False, pending="spawn", options=MAIN)
    house.hub.put("root", "brave-otter", options={**MAIN, "commit": OLDER})
    return house


# -- every page ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("path", PAGES)
async def test_a_page_has_a_strict_policy_and_nothing_inline(full: House, path: str) -> None:
    async with full.browser("root") as browser:
        answer = await browser.visit(path)
    assert answer.status_code == (404 if path == "nowhere" else 200)
    policy = dict(
        part.strip().partition(" ")[::2] for part in answer.headers["content-security-policy"].split(";")
    )
    assert policy["default-src"] == policy["frame-ancestors"] == policy["base-uri"] == "'none'"
    assert policy["script-src"] == policy["style-src"] == policy["form-action"] == "'self'"
    assert "unsafe" not in answer.headers["content-security-policy"]
    assert answer.headers["referrer-policy"] == "same-origin"
    assert answer.headers["x-content-type-options"] == "nosniff"
    assert answer.headers["cache-control"] == "no-store"
    assert "server" not in answer.headers
    assert not Forms(answer.text).inline


@pytest.mark.parametrize("path", PAGES)
async def test_a_page_works_at_any_prefix_and_its_files_are_there(full: House, path: str) -> None:
    async with full.browser("root") as browser:
        answer = await browser.visit(path)
        for target in set(Forms(answer.text).targets):
            place = urlsplit(target)
            if place.scheme or target.startswith(("#", "/hub/")):
                continue
            assert target.startswith((PREFIX, "/user/")), target
            if "/static/" in target:
                file = await browser.get(full.environment.url + target)
                assert file.status_code == 200
                assert "immutable" in file.headers["cache-control"]


@pytest.mark.parametrize("path", ["", LINK, "builds", "launch/x", "images"])
async def test_who_is_not_signed_in_is_sent_to_the_hub_and_back(house: House, path: str) -> None:
    async with house.browser() as browser:
        answer = await browser.visit(path)
    assert answer.status_code == 302
    target = urlsplit(answer.headers["location"])
    assert target.path == "/hub/api/oauth2/authorize"
    assert parse_qs(target.query)["client_id"] == ["service-binder"]
    assert "state" in parse_qs(target.query)


async def test_a_form_of_who_was_signed_out_is_refused_with_the_way_on(house: House) -> None:
    async with house.browser() as browser:
        answer = await browser.post(LINK, data={"commit": COMMIT})
    assert answer.status_code == 403
    assert "form-expired" in answer.text


async def test_a_page_says_when_docker_is_down_and_shows_the_rest(full: House) -> None:
    full.engine.problem = EngineUnavailable("Docker does not answer at `/run/docker.sock`.", "Start it.")
    full.queue.problem = full.inventory.problem = full.engine.problem
    async with full.browser("root") as browser:
        for path in ("", "images", LINK):
            answer = await browser.visit(path)
            assert answer.status_code == 200
            assert "Docker does not answer" in answer.text
            assert "Start it." in answer.text
        assert "<code>/run/docker.sock</code>" in (await browser.visit("")).text


async def test_a_page_says_when_the_hub_does_not_answer(full: House) -> None:
    async with full.browser("root") as browser:
        await browser.visit("")  # who it is, is remembered for a minute
        del full.hub.servers["root"]
        answer = await browser.visit("")
    assert answer.status_code == 200
    assert "JupyterHub" in answer.text
    assert "Plain Jupyter" in answer.text


async def test_errors_are_pages_with_the_next_step(house: House) -> None:
    async with house.browser("ada") as browser:
        answer = await browser.visit("v2/gh/owner/repo/gone")
        assert answer.status_code == 404
        assert "Did you mean" in answer.text
        assert "ref-not-found" in answer.text
        answer = await browser.visit("v2/zenodo/10.5281/zenodo.1")
        assert answer.status_code == 400
        assert "not supported yet" in answer.text


async def test_texts_of_others_are_never_markup(full: House) -> None:
    error = ErrorView(code="build-failed", message=f"{EVIL} `{EVIL}`", next=EVIL)
    full.queue.add(build_view("b-2", state="failed", phase="failed", error=error, image_name=EVIL), [line(1)])
    log = full.settings.log_dir / "b-2.jsonl"
    log.write_text(line(1, text=EVIL).model_dump_json() + "\n")
    full.inventory.known = [image_view(title=EVIL, name=EVIL, built_by=EVIL, users=(EVIL,))]
    full.hub.put("root", "<script>alert(1)</script>", ready=False, options=MAIN)
    async with full.browser("root") as browser:
        for path in (
            "",
            "builds?everyone=1",
            "builds/b-2",
            "images",
            f"images/{IMAGE}",
            f"images/plan?id={IMAGE}",
        ):
            answer = await browser.visit(path)
            assert answer.status_code == 200
            assert "<img src=x" not in answer.text
            assert "<script>" not in answer.text
        assert "<img src=x" not in (await browser.visit(f"go?repository={EVIL}")).text
        assert (
            "<script" not in (await browser.visit("v2/<script>alert(1)</script>/x")).text.split("</head>")[1]
        )


def test_scripts_put_text_into_the_page_as_text_only() -> None:
    for script in STATIC.glob("*.js"):
        for way in (
            "innerHTML",
            "outerHTML",
            "insertAdjacentHTML",
            "document.write",
            "eval(",
            "new Function",
        ):
            assert way not in script.read_text(), f"{script.name} uses {way}"


def test_templates_mark_nothing_as_safe() -> None:
    for template in (WEB / "templates").glob("*.html"):
        assert not re.search(r"\|\s*safe|autoescape", template.read_text()), template.name


# -- launching ----------------------------------------------------------------------------------------


async def test_what_was_typed_becomes_a_link(house: House) -> None:
    async with house.browser("ada") as browser:
        answer = await browser.visit(
            "go",
            params={"repository": "https://github.com/owner/repo", "ref": "v1.0/x", "path": "a b/ü.ipynb"},
        )
    assert answer.status_code == 302
    assert (
        answer.headers["location"]
        == f"{PREFIX}v2/gh/owner/repo/v1.0/x?urlpath=lab/tree/a%2520b/%25C3%25BC.ipynb"
    )


async def test_a_form_never_leads_to_another_site_directly(house: House) -> None:
    # Chromium applies form-action to redirects: the sign-in, wherever it is, must not be one.
    async with house.browser() as browser:
        answer = await browser.visit("go?repository=owner/repo")
    assert answer.status_code == 200
    assert f"0;url={PREFIX}v2/gh/owner/repo/HEAD" in answer.text


async def test_what_cannot_be_understood_stays_in_the_form_with_the_reason(house: House) -> None:
    async with house.browser("ada") as browser:
        answer = await browser.visit("go?repository=foo bar&ref=main")
    page = Forms(answer.text)
    assert answer.status_code == 400
    assert (page.fields["repository"], page.fields["ref"]) == ("foo bar", "main")
    assert "foo bar" in "".join(page.texts)


async def test_a_link_shows_what_would_run_and_starts_nothing(full: House) -> None:
    async with full.browser("root", Referer="https://course.example.org/lesson/1") as browser:
        answer = await browser.visit(f"{LINK}?labpath=index.ipynb")
    text = " ".join("".join(Forms(answer.text).texts).split())
    assert "github.com/owner/repo" in text
    assert f"main → {COMMIT[:7]}" in text
    assert "lab/tree/index.ipynb" in text
    assert "course.example.org" in text
    assert "brave-otter" in text
    assert Forms(answer.text).radios == [
        ("project:owner-repo-0123abcd", True),
        ("new", False),
        ("ephemeral", False),
    ]
    assert not full.hub.started
    assert not full.queue.requested


@pytest.mark.parametrize("query", ["?storage=ephemeral", "?server=my-server", "?project=new"])
async def test_what_a_link_wishes_is_only_filled_in(full: House, query: str) -> None:
    async with full.browser("root") as browser:
        page = Forms((await browser.visit(LINK + query)).text)
    chosen = [value for value, checked in page.radios if checked]
    wished = {"?storage=ephemeral": "ephemeral", "?project=new": "new"}
    assert chosen == [wished.get(query, "project:owner-repo-0123abcd")]
    assert page.fields["server"] == ("my-server" if "server" in query else "")
    assert not full.hub.started


async def test_a_slow_look_up_shows_a_page_that_goes_on_by_itself(
    house: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(confirm, "_PATIENCE_S", 0.01)
    house.resolver.hold = asyncio.Event()
    async with house.browser("ada") as browser:
        first = await browser.visit(LINK)
        assert first.status_code == 202
        assert 'http-equiv="refresh"' in first.text
        await browser.visit(LINK)
        assert house.resolver.asked == 1
        house.resolver.hold.set()
        monkeypatch.setattr(confirm, "_PATIENCE_S", 60)
        assert (await browser.visit(LINK)).status_code == 200
    assert house.resolver.asked == 1


async def test_only_a_form_with_the_xsrf_token_starts_a_server(house: House) -> None:
    async with house.browser("ada") as browser:
        await browser.visit(LINK)
        for fields in ({}, {"_xsrf": "guessed"}):
            refused = await browser.post(LINK, data={"commit": COMMIT, "files": "project", **fields})
            assert refused.status_code == 403
        assert not house.hub.started
        answer = await browser.submit(LINK, commit=COMMIT, files="project", server="my-server")
    assert answer.status_code == 303
    assert answer.headers["location"] == f"{PREFIX}launch/my-server"
    [(person, name, sent)] = house.hub.started
    assert (person, name, sent["commit"], sent["storage"]) == ("ada", "my-server", COMMIT, "project")


async def test_the_commit_that_was_confirmed_is_the_one_that_starts(house: House) -> None:
    async with house.browser("ada") as browser:
        await browser.visit(LINK)
        house.resolver.commit = "ff" * 20  # the branch moves on between the page and the click
        await browser.submit(f"{LINK}?labpath=a.ipynb", commit=COMMIT, files="project")
    assert [(sent["commit"], sent["path"]) for _, _, sent in house.hub.started] == [
        (COMMIT, "lab/tree/a.ipynb")
    ]


async def test_continuing_means_the_projects_own_commit(full: House) -> None:
    async with full.browser("root") as browser:
        await browser.visit(LINK)
        await browser.submit(LINK, commit=COMMIT, files="project:owner-repo-0123abcd")
        await browser.submit(LINK, commit=COMMIT, files="new")
    assert [(sent["commit"], sent["project"]) for _, _, sent in full.hub.started] == [
        (OLDER, ""),
        (COMMIT, "new"),
    ]


async def test_other_options_are_asked_about_on_a_second_page(full: House) -> None:
    fields = {"commit": COMMIT, "files": "new", "server": "brave-otter"}
    async with full.browser("root") as browser:
        await browser.visit(LINK)
        asked = await browser.submit(LINK, **fields)
        assert asked.status_code == 409
        assert OLDER[:12] in asked.text
        assert COMMIT[:12] in asked.text
        assert not full.hub.stopped
        page = Forms(asked.text)
        assert {name: page.fields[name] for name in fields} == fields
        answer = await browser.submit(LINK, **fields, restart="1")
    assert answer.status_code == 303
    assert full.hub.stopped == [("root", "brave-otter")]


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ({"files": "/etc"}, "/etc"),
        ({"files": "project:of-somebody"}, "of-somebody"),
        ({"server": "Not A Name"}, "Not A Name"),
        ({"commit": "main"}, "main"),
    ],
)
async def test_a_forged_form_is_refused(house: House, fields: dict[str, str], said: str) -> None:
    async with house.browser("ada") as browser:
        await browser.visit(LINK)
        answer = await browser.submit(LINK, **{"commit": COMMIT, "files": "project", **fields})
    assert 400 <= answer.status_code < 500
    assert said in "".join(Forms(answer.text).texts)
    assert not house.hub.started


async def test_a_running_server_is_gone_to_at_once(house: House) -> None:
    house.hub.put("ada", "x", options={**MAIN, "path": "lab/tree/a.ipynb"})
    async with house.browser("ada") as browser:
        for path, opened in (("", "a.ipynb"), ("?path=lab/tree/b.ipynb", "b.ipynb")):
            answer = await browser.visit(f"launch/x{path}")
            # No redirect: with subdomains the server is on another host, and `form-action` forbids that to
            # the form whose answer led here.
            assert answer.status_code == 200
            assert f'content="0;url=/user/ada/x/lab/tree/{opened}"' in answer.text
        assert (await browser.visit("launch/x?path=https://evil.example/")).status_code == 400


async def test_the_launch_page_works_without_scripts(house: House) -> None:
    house.queue.add(build_view("b-1", progress=50))
    house.hub.put("ada", "x", ready=False, pending="spawn", options=MAIN)
    async with house.browser("ada") as browser:
        text = (await browser.visit("launch/x")).text
    assert '<noscript><meta http-equiv="refresh"' in text
    assert 'value="35"' in text
    assert f"{PREFIX}builds/b-1" in text


async def test_a_failed_launch_keeps_its_reason(house: House) -> None:
    house.hub.put("ada", "x", ready=False, options=MAIN)
    house.hub.progress["ada", "x"] = [{"failed": True, "message": "Spawn failed: The disk is full."}]
    async with house.browser("ada") as browser:
        for _ in range(2):
            text = (await browser.visit("launch/x")).text
            assert "The disk is full." in text
            assert "Try again" in text
            assert '<meta http-equiv="refresh"' not in text


async def test_a_stopped_server_is_started_again_by_a_form_only(house: House) -> None:
    house.hub.put("ada", "x", ready=False, options={**MAIN, "commit": OLDER})
    async with house.browser("ada") as browser:
        await browser.visit("launch/x")
        assert (await browser.visit("launch/x/start")).status_code == 400
        assert not house.hub.started
        await browser.visit("")
        answer = await browser.submit("launch/x/start")
    assert answer.headers["location"] == f"{PREFIX}launch/x"
    assert [sent["commit"] for _, _, sent in house.hub.started] == [OLDER]


async def test_stopping_what_keeps_nothing_asks_first(house: House) -> None:
    house.hub.put("ada", "kept", options=MAIN)
    house.hub.put("ada", "lost", options={**MAIN, "storage": "ephemeral"})
    async with house.browser("ada") as browser:
        await browser.visit("")
        await browser.submit("launch/kept/stop")
        asked = await browser.submit("launch/lost/stop")
        assert "lost" in asked.text
        assert house.hub.stopped == [("ada", "kept")]
        await browser.submit("launch/lost/stop", sure="1")
    assert house.hub.stopped == [("ada", "kept"), ("ada", "lost")]


async def test_a_running_server_is_not_removed(house: House) -> None:
    house.hub.put("ada", "x", options=MAIN)
    async with house.browser("ada") as browser:
        await browser.visit("")
        await browser.submit("launch/x/remove")
    assert not house.hub.stopped


# -- builds, images, links ----------------------------------------------------------------------------


async def test_a_build_page_has_the_log_without_scripts_too(house: House) -> None:
    house.queue.add(build_view("b-1"), [line(1)])
    (house.settings.log_dir / "b-1.jsonl").write_text(line(1, text="fetching now").model_dump_json() + "\n")
    async with house.browser("ada") as browser:
        text = (await browser.visit("builds/b-1")).text
        assert "fetching now" in text
        assert "Cancel the build" in text
        await browser.submit("builds/b-1/cancel")
        assert house.queue.builds["b-1"].state == "cancelled"
        assert "Cancel the build" not in (await browser.visit("builds/b-1")).text


async def test_the_plain_image_is_offered_as_it_is(full: House) -> None:
    plain = RepoSpec("local", str(full.settings.examples_dir / "plain"))
    async with full.browser("root") as browser:
        assert "built at first launch" in (await browser.visit("")).text
        full.queue.add(build_view("b-9", repository=plain.normal_url, spec=plain.path, progress=62))
        assert "building 62 %" in (await browser.visit("")).text
        full.inventory.known = [
            image_view(repository=plain.normal_url, spec=plain.with_ref(COMMIT).path, title=plain.display)
        ]
        text = (await browser.visit("")).text
    assert text.index("Plain Jupyter") < text.index("Example")
    assert plain.with_ref("").path in text


async def test_a_build_that_ends_while_the_page_is_made_is_ready_on_it(
    full: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The page asks again for what is on its way only; as never begun it would stay so for ever."""
    plain = RepoSpec("local", str(full.settings.examples_dir / "plain"))
    image = image_view(repository=plain.normal_url, spec=plain.with_ref(COMMIT).path, title=plain.display)
    full.queue.add(build_view("b-9", repository=plain.normal_url, spec=plain.path, state="built"))
    listed = full.queue.list

    async def ends_meanwhile(*arguments: object, **options: object) -> object:
        found = await listed(*arguments, **options)  # type: ignore[arg-type]
        full.inventory.known = [image]
        return found

    monkeypatch.setattr(full.queue, "list", ends_meanwhile)
    async with full.browser("root") as browser:
        text = (await browser.visit("")).text
    card = text[text.index("Plain Jupyter") :].partition("</li>")[0]
    assert "state ready" in card, card


async def test_the_form_gets_link_and_badge_from_the_one_grammar(house: House) -> None:
    async with house.browser("ada") as browser:
        await browser.visit("")
        answer = await browser.ask(
            "api/v1/link?repository=owner/repo&path=a%22b.ipynb", **{"X-XSRFToken": browser.xsrf}
        )
    value = answer.json()
    base = house.environment.url
    assert value["url"] == f"{base}/v2/gh/owner/repo/HEAD?urlpath=lab/tree/a%2522b.ipynb"
    assert value["markdown"] == f"[![Binder]({base}/badge.svg)]({value['url']})"
    assert value["html"].startswith(f'<a href="{value["url"]}"><img src="{base}/badge.svg"')


async def test_old_addresses_of_binderhub_lead_on(house: House) -> None:
    async with httpx.AsyncClient(base_url=house.url, timeout=LONG_S) as stranger:
        badge = await stranger.get("badge.svg")
        assert badge.headers["content-type"] == "image/svg+xml"
        assert "builder" in (await stranger.get("versions")).json()
        moved = await stranger.get("repo/owner/name")
        assert moved.headers["location"] == f"{PREFIX}v2/gh/owner/name/HEAD"


async def test_with_subdomains_links_are_the_hubs(tmp_path: Path) -> None:
    async with open_house(tmp_path, hub_host="http://binder.localhost:8888") as house:
        async with house.browser("ada") as browser:
            text = (await browser.visit(LINK)).text
            assert 'value="http://binder.localhost:8888/v2/gh/owner/repo/main"' in text
            assert 'href="http://binder.localhost:8888/hub/home"' in text
        async with house.browser() as browser:
            answer = await browser.visit("")
    assert answer.headers["location"].startswith("http://binder.localhost:8888/hub/api/oauth2/authorize")


def test_every_field_has_a_label() -> None:
    for template in (WEB / "templates").glob("*.html"):
        text = template.read_text()
        for tag in re.findall(r"<input[^>]*>", text):
            if 'type="hidden"' not in tag:
                name = re.search(r'id="([^"]+)"', tag)
                assert name, f"{template.name}: {tag}"
                assert f'for="{name[1]}"' in text, f"{template.name}: {tag}"
