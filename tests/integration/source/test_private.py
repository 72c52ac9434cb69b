"""Private repositories: who reads them, with what, and where a credential never goes."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from git_server import GitServer, git
from places import Place
from waiting import LONG_S

from tljh_plugin.errors import CredentialNeeded, RepositoryNotFound
from tljh_plugin.source.credentials import Credentials, Login, origin_of
from tljh_plugin.source.resolve import PinnedRepo
from tljh_plugin.wire import Credential, Person

MakePlace = Callable[..., Place]
PASSWORD = "s3cret-Pa55word-of-ann"
ANN, BOB = Person(name="ann"), Person(name="bob")


@pytest.fixture
def private(git_server: GitServer) -> GitServer:
    """A server with a private repository, and a public one beside it."""
    git_server.new("secret", {"README.md": "for few"})
    git_server.new("open", {"README.md": "for all"})
    git_server.private["secret"] = ("ann", PASSWORD)
    return git_server


def login(server: GitServer, person: str = "ann", password: str = PASSWORD) -> Login:
    return Login(person, origin_of(server.url("secret")), "ann", password)


@asynccontextmanager
async def checked_out(place: Place, pinned: PinnedRepo) -> AsyncIterator[set[str]]:
    async with place.checkout(pinned) as checkout:
        yield {entry.name for entry in checkout.path.iterdir()}


async def test_with_a_credential_it_is_read_and_without_it_is_not_there(
    private: GitServer, place: MakePlace
) -> None:
    ours = place()
    with pytest.raises(RepositoryNotFound, match="does not exist or is private"):
        await ours.pin(private.url("secret"))
    pinned = await ours.pin(private.url("secret"), login=login(private))
    assert (pinned.commit, pinned.audience, pinned.proven) == (private.head("secret"), "ann", True)
    async with checked_out(ours, pinned) as names:
        assert names == {".git", "README.md"}


async def test_a_wrong_password_is_said_and_not_repeated(private: GitServer, place: MakePlace) -> None:
    wrong = "wr0ng-but-still-secret"
    with pytest.raises(CredentialNeeded) as caught:
        await place().pin(private.url("secret"), login=login(private, password=wrong))
    assert caught.value.code == "credential-refused"
    assert wrong not in str(caught.value)


async def test_what_everyone_may_read_is_read_without_it(private: GitServer, place: MakePlace) -> None:
    ours = place()
    pinned = await ours.pin(private.url("open"), login=login(private))
    assert (pinned.audience, pinned.proven) == ("", True)
    unproven = await ours.pin(private.url("open"), private.head("open"), login(private))
    assert unproven.audience == "ann"  # nobody has asked the host yet
    assert (await ours.resolver.prove(unproven)).audience == ""
    async with checked_out(ours, pinned):
        pass
    assert private.authorizations == []


async def test_who_guesses_a_commit_gets_nothing_of_what_another_fetched(
    private: GitServer, place: MakePlace
) -> None:
    ours = place(full_history_bytes=1024**2)
    commit = private.head("secret")
    async with checked_out(ours, await ours.pin(private.url("secret"), login=login(private))):
        pass
    for other in (None, login(private, "bob", "guessed")):
        guessed = await ours.pin(private.url("secret"), commit, other)
        with pytest.raises((RepositoryNotFound, CredentialNeeded)):
            async with ours.checkout(guessed):
                pass
        with pytest.raises((RepositoryNotFound, CredentialNeeded)):
            await ours.checkouts.published(guessed)
    # The one who fetched it needs the network no more.
    private.requests.clear()
    async with checked_out(ours, await ours.pin(private.url("secret"), commit, login(private))):
        assert private.requests == []


async def test_what_one_may_know_of_its_branches_is_not_told_to_another(
    private: GitServer, place: MakePlace
) -> None:
    ours = place(resolve_cache_s=60)
    await ours.pin(private.url("secret"), login=login(private))
    with pytest.raises(RepositoryNotFound):
        await ours.pin(private.url("secret"))
    with pytest.raises(CredentialNeeded):
        await ours.pin(private.url("secret"), login=login(private, "bob", "guessed"))
    with pytest.raises(CredentialNeeded):  # nor to the same person with another password
        await ours.pin(private.url("secret"), login=login(private, "ann", "guessed"))


async def test_a_redirect_to_another_host_does_not_take_it_along(
    private: GitServer, place: MakePlace, tmp_path: Path
) -> None:
    with GitServer(tmp_path / "elsewhere") as elsewhere:
        elsewhere.new("secret", {"README.md": "mine now"})
        elsewhere.private["secret"] = ("ann", PASSWORD)
        private.private["secret"] = ("ann", PASSWORD)
        private.redirects["/secret/info/refs"] = (
            f"{elsewhere.url('secret')}/info/refs?service=git-upload-pack"
        )
        hosts = (private.host, elsewhere.host)
        with pytest.raises(RepositoryNotFound):
            await place(policy={"private_hosts": hosts}).pin(private.url("secret"), login=login(private))
        assert elsewhere.requests
        assert elsewhere.authorizations == []


async def test_submodules_get_it_on_the_same_host_only(
    private: GitServer, place: MakePlace, tmp_path: Path
) -> None:
    with GitServer(tmp_path / "elsewhere") as elsewhere:
        elsewhere.new("other", {"c": "c"})
        elsewhere.private["other"] = ("ann", PASSWORD)
        private.new("inner", {"b": "b"})
        private.private["inner"] = ("ann", PASSWORD)
        parent = private.path("secret")
        add = ["-c", "protocol.allow=always", "submodule", "add", "--quiet"]
        git(parent, *add, str(private.path("inner")), "inner")
        git(parent, "config", "-f", ".gitmodules", "submodule.inner.url", private.url("inner"))
        private.commit("secret", {}, "A submodule of the same host")
        ours = place(policy={"private_hosts": (private.host, elsewhere.host)})
        pinned = await ours.pin(private.url("secret"), login=login(private))
        async with ours.checkout(pinned) as checkout:
            assert (checkout.path / "inner" / "b").read_text() == "b"

        git(parent, *add, str(elsewhere.path("other")), "other")
        git(parent, "config", "-f", ".gitmodules", "submodule.other.url", elsewhere.url("other"))
        private.commit("secret", {}, "One of another host")
        more = place("more", policy={"private_hosts": (private.host, elsewhere.host)})
        pinned = await more.pin(private.url("secret"), login=login(private))
        with pytest.raises(RepositoryNotFound, match="Submodule `other`"):
            async with more.checkout(pinned):
                pass
        assert elsewhere.authorizations == []


async def test_while_git_runs_it_is_in_no_argument_and_no_environment(
    private: GitServer, place: MakePlace
) -> None:
    ours = place()
    pinned = await ours.pin(private.url("secret"), login=login(private))
    seen: list[bytes] = []

    def look() -> bool:
        seen.extend(processes())
        return any(b"git-upload-pack" in each or b"remote-http" in each for each in seen)

    private.stall.add("secret")

    async def fetch() -> None:
        async with ours.checkout(pinned):
            pass

    fetching = asyncio.create_task(fetch())
    for _ in range(5):
        assert await asyncio.to_thread(private.stalled.wait, LONG_S)
        private.stalled.clear()
        if look():
            break
        private.release.set()  # it was our own question: git comes next
        private.release.clear()
    private.stall.clear()
    private.release.set()
    await fetching
    assert look()
    assert not [each for each in seen if PASSWORD.encode() in each]
    files = [path for path in ours.settings.state_dir.rglob("*") if path.is_file()]
    assert files
    assert not [path for path in files if PASSWORD.encode() in path.read_bytes()]


def processes() -> list[bytes]:
    """Arguments and environments of all processes but this one, which holds the password itself."""
    found = []
    for entry in os.listdir("/proc"):
        if entry.isdecimal() and int(entry) != os.getpid():
            for name in ("cmdline", "environ"):
                try:
                    found.append((Path("/proc") / entry / name).read_bytes())
                except OSError:
                    continue
    return found


async def test_a_host_that_repeats_it_is_not_quoted(private: GitServer, place: MakePlace) -> None:
    said = login(private).without(f"remote: {PASSWORD} is no good, {login(private).header}")
    assert PASSWORD not in said
    assert "Basic ***" in said


async def test_given_credentials_are_each_persons_own(private: GitServer, place: MakePlace) -> None:
    credentials = Credentials(place().settings)
    credentials.give(ANN, private.url("secret"), Credential(username="ann", password=PASSWORD))
    assert await credentials.find(ANN, private.url("open")) is not None  # the host is the same
    assert await credentials.find(BOB, private.url("secret")) is None
    assert await credentials.find(ANN, "https://git.example.org/x") is None
