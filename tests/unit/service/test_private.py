"""A private repository through pages and API: the credential is asked for, held, never shown or logged."""

from __future__ import annotations

import asyncio
import logging
from typing import Any
from urllib.parse import quote

import httpx
import pytest
from house import COMMIT, IMAGE, House, StandInResolver, build_view, image_view
from waiting import LONG_S

from tljh_plugin.errors import CredentialRefused, Forbidden, ImageNotFound, RepositoryNotFound
from tljh_plugin.source.credentials import Login
from tljh_plugin.source.resolve import PinnedRepo
from tljh_plugin.source.spec import RepoSpec, parse_link
from tljh_plugin.wire import BuildRequest, Credential, Person

SECRET = "github_pat_0123456789abcdefghijklmnop"
LINK = "v2/gh/lab/secret/main"
HOME = "https://github.com/lab/secret"


class PrivateResolver(StandInResolver):
    """A host that gives `lab/secret` to who has the password."""

    def __init__(self) -> None:
        super().__init__()
        self.logins: list[Login | None] = []

    async def resolve(self, spec: RepoSpec, commit: str = "", login: Login | None = None) -> PinnedRepo:
        self.logins.append(login)
        if commit:
            return PinnedRepo(spec, spec.normal_url, commit, login=login)
        if login is None:
            raise RepositoryNotFound(f"`{HOME}` does not exist or is private.", "Give a token.")
        if login.password != SECRET:
            raise CredentialRefused("The host does not take it.", "Check it.")
        return PinnedRepo(spec, spec.normal_url, COMMIT, "refs/heads/main", login=login, proven=True)


@pytest.fixture
async def private(house: House) -> House:
    resolver = PrivateResolver()
    house.resolver = resolver
    house._context.lookups._resolver = resolver  # type: ignore[assignment]
    return house


async def test_the_way_of_a_person(private: House, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    async with private.browser("ada") as browser:
        asked = await browser.visit(LINK)
        assert asked.status_code == 404
        assert 'type="password"' in asked.text
        assert "github.com" in asked.text
        wrong = await browser.submit(LINK, username="ada", password="mistyped-secret")
        assert (wrong.status_code, wrong.headers["location"].endswith(LINK)) == (303, True)
        told = await browser.visit(LINK)
        assert "credential-refused" in told.text
        await browser.submit(LINK, username="", password=SECRET)
        page = await browser.visit(LINK)
        assert page.status_code == 200
        assert "yours alone" in page.text
        launched = await browser.submit(LINK, commit=COMMIT, files="ephemeral", private="1")
        assert launched.status_code == 303
    [(name, _, options)] = private.hub.started
    assert (name, options["commit"]) == ("ada", COMMIT)
    texts = [
        asked.text,
        wrong.text,
        told.text,
        page.text,
        str(options),
        str(private.hub.servers),
        caplog.text,
    ]
    assert not [text for text in texts if SECRET in text or "mistyped-secret" in text]


async def test_it_is_the_persons_who_gave_it(private: House) -> None:
    async with private.browser("ada") as browser:
        await browser.visit(LINK)
        await browser.submit(LINK, password=SECRET)
    async with private.browser("bob") as browser:
        assert (await browser.visit(LINK)).status_code == 404
        forged = await browser.submit(LINK, commit=COMMIT, files="ephemeral", private="1")
    assert forged.status_code == 403
    assert "credential-needed" in forged.text
    assert not private.hub.started


async def test_a_forged_form_gives_nobody_a_credential(private: House) -> None:
    async with private.browser("ada") as browser:
        await browser.visit(LINK)
        browser.xsrf = "guessed"
        assert (await browser.submit(LINK, password=SECRET)).status_code == 403
        assert (await browser.visit(LINK)).status_code == 404


async def test_the_api_takes_it_with_each_request_that_may_need_it(
    private: House, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    credential = Credential(username="ada", password=SECRET)
    async with private.client("ada") as client:
        with pytest.raises(RepositoryNotFound):
            await client.resolve("gh/lab/secret/main")
        view = await client.resolve("gh/lab/secret/main", credential=credential)
        assert (view.commit, view.private) == (COMMIT, True)
        await client.build(BuildRequest(spec="gh/lab/secret/main"), credential)
        await client.launch({"repository": "gh/lab/secret/main"}, credential=credential)
    [(_, pinned)] = private.queue.requested
    assert pinned.login is not None
    assert (pinned.login.person, pinned.login.kind) == ("ada", "request")
    assert SECRET not in str(private.hub.started) + caplog.text + repr(pinned)


@pytest.mark.parametrize(
    "body",
    [
        f'{{"spec": "gh/a/b", "credential": "{SECRET}"}}',
        f'{{"spec": "gh/a/b", "credential": {{"password": ["{SECRET}"]}}}}',
        f'{{"spec": "gh/a/b", "credential": {{"password": "{SECRET}", "tokn": "x"}}}}',
        f'{{"spec": "gh/a/b", "token": "{SECRET}"}}',
        f'{{"spec": "gh/a/b", "credential": {{"username": "x\\ny", "password": "{SECRET}"}}}}',
        f'{{"spec": "git/http%3A%2F%2Fgit.example.org%2Fx", "credential": {{"password": "{SECRET}"}}}}',
        f'{{"spec": "https://ada:{SECRET}@github.com/lab/secret"}}',
        f'{{"spec": "git/https%3A%2F%2F{SECRET}%40github.com%2Flab%2Fsecret"}}',
    ],
)
async def test_a_request_that_is_wrong_is_refused_without_the_secret(
    private: House, body: str, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    headers = {"Authorization": "token ada-token", "Content-Type": "application/json"}
    async with httpx.AsyncClient(base_url=private.url, headers=headers, timeout=LONG_S) as client:
        answer = await client.post("api/v1/builds", content=body)
    assert answer.status_code in (400, 403)
    assert SECRET not in answer.text
    assert SECRET not in caplog.text
    assert not private.queue.requested


async def test_an_address_with_a_password_is_refused_and_not_logged(
    private: House, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG, logger="littlest_binder")
    address = f"https://ada:{SECRET}@github.com/lab/secret"
    async with private.browser("ada") as browser:
        for path in (f"v2/git/{quote(address, safe='')}/main", f"go?repository={quote(address, safe='')}"):
            answer = await browser.visit(path)
            assert answer.status_code == 400
            assert SECRET not in answer.text
    assert "/v2/git/" in caplog.text
    assert SECRET not in caplog.text


async def test_an_image_is_looked_up_for_each_person_alone(private: House) -> None:
    """Two who ask for one at the same moment are not told what the other may see."""
    spec = parse_link("image/course:1")
    images = {"ada": [image_view(spec=spec.path, repository=spec.path, adopted=True)], "bob": []}
    lookups = private._context.lookups
    lookups._settings = private.settings.model_copy(
        update={
            "policy": private.settings.policy.model_copy(
                update={"images": "listed", "image_names": ("course*",)}
            )
        }
    )
    inventory: Any = lookups._inventory
    inventory.images = lambda person: images[person.name]
    found = await asyncio.gather(
        *(lookups.pin_within(Person(name=name), spec, "", 10) for name in images), return_exceptions=True
    )
    assert isinstance(found[0], PinnedRepo)
    assert isinstance(found[1], ImageNotFound)


# -- who may use an image -----------------------------------------------------------------------------


async def test_the_owner_opens_an_image_on_the_page_of_its_build(house: House) -> None:
    house.hub.add("ada", groups=["physics"])
    house.queue.add(build_view("b-1", state="built", phase="built", image_id=IMAGE, visibility="private"))
    house.inventory.known = [image_view(build_id="b-1", visibility="private")]
    async with house.browser("ada") as browser:
        page = await browser.visit("builds/b-1")
        assert 'value="physics"' in page.text
        answer = await browser.submit(f"images/{IMAGE}/share", visibility="group", group="physics")
        assert (answer.status_code, answer.headers["location"]) == (
            303,
            f"{house.environment.prefix}builds/b-1",
        )
        odd = await browser.submit(f"images/{IMAGE}/share", visibility="<b>all</b>")
        assert odd.status_code == 400
        assert "<b>" not in odd.text.split("</head>")[1]
    assert house.sharing.shared == [(IMAGE, "ada", "group", ("physics",))]
    async with house.browser("bob") as browser:
        assert f"images/{IMAGE}/share" not in (await browser.visit("builds/b-1")).text


@pytest.mark.parametrize("state", [{"visibility": "everyone"}, {"visibility": "private", "decided": True}])
async def test_what_an_owner_may_not_change_is_not_offered(house: House, state: dict[str, Any]) -> None:
    house.queue.add(build_view("b-1", state="built", phase="built", image_id=IMAGE))
    house.inventory.known = [image_view(build_id="b-1", **state)]
    for name, offered in (("ada", False), ("root", True)):
        async with house.browser(name) as browser:
            page = await browser.visit("builds/b-1")
        assert (f"images/{IMAGE}/share" in page.text) == offered


async def test_the_client_shares(house: House) -> None:
    house.inventory.known = [image_view()]
    async with house.client("ada") as client:
        assert (await client.share_image(IMAGE, "everyone")).id == IMAGE
    assert house.sharing.shared == [(IMAGE, "ada", "everyone", ())]


@pytest.mark.parametrize("session", [None, "of a sign-in to another service"])
async def test_a_token_with_few_scopes_does_not_act_as_its_administrator(
    house: House, session: str | None
) -> None:
    house.hub.people["few-token"] = {
        **house.hub.people["root-token"],
        "session_id": session,
        "scopes": ["access:services!service=binder"],
    }
    house.hub.people["full-token"] = {
        **house.hub.people["few-token"],
        "scopes": ["access:services!service=binder", "admin:users"],
    }
    async with house.client("few") as few, house.client("full") as full:
        with pytest.raises(Forbidden):
            await few.builds(everyone=True)
        assert await full.builds(everyone=True) == []
