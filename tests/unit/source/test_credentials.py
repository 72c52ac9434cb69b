"""Credentials: which are taken, for whom, how long, and that nothing shows them."""

from __future__ import annotations

import gc
import os
import weakref
from pathlib import Path

import pytest
from waiting import until

from tljh_plugin.errors import BinderError, InvalidRequest, PolicyRefused, SettingsError
from tljh_plugin.settings import from_mapping
from tljh_plugin.source.credentials import Credentials, Login, origin_of, read_hosts
from tljh_plugin.wire import Credential, Person

SECRET = "glpat-0123456789abcdefghij"
ANN, BOB = Person(name="ann"), Person(name="bob")
CAROL = Person(name="carol", groups=("physics",))
URL = "https://gitlab.example.org/group/repo.git"


def credentials(tmp_path: Path, **source: object) -> Credentials:
    return Credentials(from_mapping({"source": source}, platform="tljh", state_dir=tmp_path))


def hosts(tmp_path: Path, text: str, mode: int = 0o600) -> Path:
    path = tmp_path / "hosts.yaml"
    path.write_text(text)
    path.chmod(mode)
    return path


@pytest.mark.parametrize(
    ("url", "origin"),
    [
        (URL, "https://gitlab.example.org"),
        ("https://gitlab.example.org:8443/a", "https://gitlab.example.org:8443"),
        ("http://gitlab.example.org/a", ""),
        ("ssh://git@gitlab.example.org/a", ""),
        ("http://127.0.0.1:8000/a", "http://127.0.0.1:8000"),
        ("/srv/repositories/a", ""),
        ("http://127.0.0.1.example.org/a", ""),
    ],
)
def test_credentials_travel_encrypted_or_not_at_all(url: str, origin: str) -> None:
    assert origin_of(url) == origin


@pytest.mark.parametrize(
    "url",
    [
        "https://gitlab.example.org.evil.org/x",
        "https://evil.org/gitlab.example.org",
        "https://gitlab.example.org:444/x",
        "http://gitlab.example.org/x",
    ],
)
def test_a_login_serves_its_own_host_alone(url: str) -> None:
    login = Login("ann", origin_of(URL), "ann", SECRET)
    assert login.serves(URL)
    assert not login.serves(url)


async def test_nothing_shows_a_login(tmp_path: Path) -> None:
    login = credentials(tmp_path).give(ANN, URL, Credential(password=SECRET))
    shown = f"{login!r} {login} {Credential(username='ann', password=SECRET)!r} {login.mark}"
    assert SECRET not in shown
    assert login.username == "oauth2"


@pytest.mark.parametrize("username", ["", "ann"])
async def test_a_token_needs_no_user_name(tmp_path: Path, username: str) -> None:
    given = Credential(username=username, password=SECRET)
    login = credentials(tmp_path).give(ANN, "https://github.com/a/b", given)
    assert login.for_git == f"username={username or 'x-access-token'}\npassword={SECRET}\n".encode()


@pytest.mark.parametrize(
    ("username", "password"),
    [
        ("ann", ""),
        ("ann\nhost=evil.org", SECRET),
        ("ann", f"{SECRET}\nhost=evil.org"),
        ("ann", f"{SECRET}\0"),
        ("a:b", SECRET),
        ("ann", "x" * 5000),
        ("ann", f"{SECRET}\ud800"),
    ],
)
async def test_what_git_would_misread_is_refused_without_being_shown(
    tmp_path: Path, username: str, password: str
) -> None:
    with pytest.raises(InvalidRequest) as caught:
        credentials(tmp_path).give(
            ANN, URL, Credential.model_construct(username=username, password=_Secret(password))
        )
    assert SECRET not in str(caught.value)


class _Secret:
    """Lets texts through that pydantic would not."""

    def __init__(self, text: str) -> None:
        self.text = text

    def get_secret_value(self) -> str:
        return self.text


async def test_none_is_taken_for_an_address_it_would_not_be_sent_to(tmp_path: Path) -> None:
    with pytest.raises(PolicyRefused, match="https"):
        credentials(tmp_path).give(ANN, "http://git.example.org/x", Credential(password=SECRET))


async def test_it_is_held_for_a_short_time_only(tmp_path: Path) -> None:
    ours = credentials(tmp_path, credential_s=0.05)
    ours.give(ANN, URL, Credential(password=SECRET))
    assert await ours.find(ANN, URL) is not None
    await until(lambda: not ours._held)
    assert await ours.find(ANN, URL) is None


async def test_nothing_holds_what_is_forgotten(tmp_path: Path) -> None:
    ours = credentials(tmp_path)
    login = ours.give(ANN, URL, Credential(password=SECRET))
    gone = weakref.ref(login)
    ours.forget(login)
    del login
    gc.collect()
    assert gone() is None


async def test_the_oldest_goes_when_there_are_very_many(tmp_path: Path) -> None:
    ours = credentials(tmp_path)
    people = [Person(name=f"p{number}") for number in range(501)]
    for person in people:
        ours.give(person, URL, Credential(password=SECRET))
    assert await ours.find(people[0], URL) is None
    assert await ours.find(people[1], URL) is not None


async def test_the_administrators_are_for_whom_they_name(tmp_path: Path) -> None:
    text = f"""
- {{host: gitlab.example.org, username: robot, password: one-{SECRET}, people: [ann]}}
- {{host: "gitlab.example.org", password: two-{SECRET}, groups: [physics]}}
- {{host: "https://all.example.org:8443", password: three-{SECRET}}}
"""
    ours = credentials(tmp_path, credentials_file=str(hosts(tmp_path, text)))
    found = [await ours.find(person, URL) for person in (ANN, CAROL, BOB, Person(name="root", admin=True))]
    assert [login and (login.username, login.password[:3], login.kind) for login in found] == [
        ("robot", "one", "host"),
        ("oauth2", "two", "host"),
        None,
        None,
    ]
    assert await ours.find(BOB, "https://all.example.org:8443/x") is not None
    assert await ours.find(BOB, "https://all.example.org/x") is None
    own = ours.give(ANN, URL, Credential(password="my own"))
    assert await ours.find(ANN, URL) is own


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o660, 0o666])
async def test_a_file_that_others_may_read_is_refused(
    tmp_path: Path, mode: int, caplog: pytest.LogCaptureFixture
) -> None:
    path = hosts(tmp_path, f"- {{host: gitlab.example.org, password: {SECRET}}}", mode)
    with pytest.raises(SettingsError, match=f"{mode:04o}"):
        read_hosts(path)
    ours = credentials(tmp_path, credentials_file=str(path))
    assert await ours.find(ANN, URL) is None
    assert "chmod 0600" in caplog.text
    path.chmod(0o600)
    assert await ours.find(ANN, URL) is not None


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give files away")
def test_a_file_of_somebody_else_is_refused(tmp_path: Path) -> None:
    path = hosts(tmp_path, "[]")
    os.chown(path, 12345, -1)
    with pytest.raises(SettingsError, match="12345"):
        read_hosts(path)


def test_links_and_pipes_are_refused(tmp_path: Path) -> None:
    link = tmp_path / "link"
    link.symlink_to(hosts(tmp_path, "[]"))
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe, 0o600)
    for path in (link, pipe, tmp_path, tmp_path / "none"):
        with pytest.raises(SettingsError):
            read_hosts(path)


@pytest.mark.parametrize(
    "text",
    [
        f"password: {SECRET}",
        f"- {{host: gitlab.example.org, password: {SECRET}, token: {SECRET}}}",
        f"- {{host: 'http://gitlab.example.org', password: {SECRET}}}",
        f"- {{host: 'a b', password: {SECRET}}}",
        f"- {{host: gitlab.example.org, password: [{SECRET}]}}",
        f"- {{host: gitlab.example.org, password: {SECRET}",
        f"{SECRET}",
    ],
)
def test_a_damaged_file_is_refused_without_showing_what_is_in_it(tmp_path: Path, text: str) -> None:
    with pytest.raises(BinderError) as caught:
        read_hosts(hosts(tmp_path, text))
    assert isinstance(caught.value, SettingsError)
    assert SECRET not in str(caught.value)
    assert caught.value.__cause__ is None
    assert caught.value.__suppress_context__
