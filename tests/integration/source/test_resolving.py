"""Refs are looked up at a real server, under the policy, and only as often as needed."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path

import pytest
from git_server import GitServer, git
from places import Place
from waiting import until

from tljh_plugin.errors import (
    AmbiguousRef,
    InvalidSpec,
    PolicyRefused,
    RefNotFound,
    RepositoryNotFound,
    RepositoryUnreachable,
)
from tljh_plugin.source.spec import RepoSpec, parse_link

MakePlace = Callable[..., Place]


def probes(server: GitServer, name: str) -> int:
    """How often we ourselves asked for the refs before git did."""
    return sum(request.startswith(f"GET /{name}/info/refs") for request in server.requests)


async def test_refs_become_commits(git_server: GitServer, place: MakePlace) -> None:
    git_server.add("branches")
    here = place()
    for ref, full in [
        ("main", "refs/heads/main"),
        ("feature/main", "refs/heads/feature/main"),
        ("release/1.0", "refs/heads/release/1.0"),
        ("v1.0", "refs/tags/v1.0"),
        ("v1.0.1", "refs/tags/v1.0.1"),
        ("HEAD", "HEAD"),
    ]:
        pinned = await here.pin(git_server.spec("branches", ref))
        assert pinned.commit == git_server.head("branches", full)
        assert pinned.ref_found == full
        assert pinned.url == git_server.url("branches")


async def test_a_branch_that_ends_like_the_ref_is_not_taken(git_server: GitServer, place: MakePlace) -> None:
    git_server.add("branches")
    git(git_server.path("branches"), "switch", "--quiet", "feature/main")
    git(git_server.path("branches"), "branch", "--delete", "--force", "main")
    with pytest.raises(RefNotFound, match="no branch or tag `main`") as caught:
        await place().pin(git_server.spec("branches", "main"))
    assert "`feature/main`" in caught.value.next_step


async def test_a_branch_and_a_tag_of_one_name_are_ambiguous(git_server: GitServer, place: MakePlace) -> None:
    git_server.add("branches")
    with pytest.raises(AmbiguousRef):
        await place().pin(git_server.spec("branches", "both"))


async def test_pull_requests_can_be_named(git_server: GitServer, place: MakePlace) -> None:
    git_server.add("branches")
    git(git_server.path("branches"), "update-ref", "refs/pull/7/head", "feature/main")
    pinned = await place().pin(git_server.spec("branches", "pull/7/head"))
    assert pinned.ref_found == "refs/pull/7/head"
    assert pinned.commit == git_server.head("branches", "feature/main")


async def test_a_given_commit_needs_no_network(git_server: GitServer, place: MakePlace) -> None:
    here = place()
    spec = parse_link(git_server.spec("nothing-there", "main"))
    assert (await here.resolver.resolve(spec, "a" * 40)).commit == "a" * 40
    assert (await here.pin(git_server.spec("nothing-there", "B" * 40))).commit == "b" * 40
    assert git_server.requests == []
    with pytest.raises(RefNotFound, match="not a full commit"):
        await here.resolver.resolve(spec, "a" * 39)
    with pytest.raises(RefNotFound, match="not a full commit"):
        await here.resolver.resolve(spec, "a" * 40 + "; id")


async def test_a_given_commit_does_not_pass_the_policy_by(git_server: GitServer, place: MakePlace) -> None:
    here = place(policy={"blocked_hosts": ["127.0.0.1"]})
    with pytest.raises(PolicyRefused):
        await here.pin(git_server.spec("x", "a" * 40))


async def test_an_empty_repository_says_so(git_server: GitServer, place: MakePlace) -> None:
    git_server.new("empty")
    with pytest.raises(RefNotFound, match="no commits yet"):
        await place().pin(git_server.url("empty"))


async def test_a_missing_and_a_private_repository_read_the_same(
    git_server: GitServer, place: MakePlace
) -> None:
    git_server.status["private"] = 401
    for name in ("missing", "private"):
        with pytest.raises(RepositoryNotFound, match="does not exist or is private") as caught:
            await place().pin(git_server.url(name))
        assert git_server.url(name) in caught.value.message


async def test_a_server_in_trouble_is_not_a_missing_repository(
    git_server: GitServer, place: MakePlace
) -> None:
    git_server.status["busy"] = 503
    with pytest.raises(RepositoryUnreachable, match="HTTP status 503"):
        await place().pin(git_server.url("busy"))


async def test_a_refused_connection_says_so(git_server: GitServer, place: MakePlace) -> None:
    here = place(policy={"private_hosts": ["127.0.0.1"], "protocols": ["http", "ssh"]})
    for url in ("http://127.0.0.1:1/x", "ssh://git@127.0.0.1:1/x"):
        with pytest.raises(RepositoryUnreachable, match="refused the connection") as caught:
            await here.pin(url)
        assert "127.0.0.1:1/x" in caught.value.message


async def test_a_server_that_never_answers_is_given_up(git_server: GitServer, place: MakePlace) -> None:
    git_server.add("branches")
    git_server.stall.add("branches")
    with pytest.raises(RepositoryUnreachable, match=r"did not answer within 0\.5 seconds"):
        await place(resolve_timeout_s=0.5).pin(git_server.spec("branches"))


async def test_equal_look_ups_at_once_share_one(git_server: GitServer, place: MakePlace) -> None:
    git_server.add("branches")
    git_server.stall.add("branches")
    here = place()
    first = asyncio.create_task(here.pin(git_server.spec("branches", "main")))
    await until(git_server.stalled.is_set)
    others = [
        asyncio.create_task(here.pin(git_server.spec("branches", ref))) for ref in ["main", "v1.0"] * 10
    ]
    await until(lambda: here.resolver.waiting == 21)
    git_server.release.set()
    commits = {pinned.commit for pinned in await asyncio.gather(first, *others)}
    assert commits == {git_server.head("branches")}
    assert len(git_server.requests) == 3  # ours, and git's two


async def test_one_who_leaves_does_not_end_it_for_the_others(git_server: GitServer, place: MakePlace) -> None:
    git_server.add("branches")
    git_server.stall.add("branches")
    here = place()
    leaving = asyncio.create_task(here.pin(git_server.spec("branches")))
    await until(git_server.stalled.is_set)
    staying = asyncio.create_task(here.pin(git_server.spec("branches")))
    await until(lambda: here.resolver.waiting == 2)
    leaving.cancel()
    git_server.release.set()
    assert (await staying).commit == git_server.head("branches")
    assert leaving.cancelled()


async def test_an_answer_is_kept_for_the_seconds_of_the_setting(
    git_server: GitServer, place: MakePlace
) -> None:
    git_server.add("branches")
    long, none = place("long", resolve_cache_s=600), place("none", resolve_cache_s=0)
    for here in (long, none):
        await here.pin(git_server.spec("branches"))
    new = git_server.commit("branches", {"new.txt": "new"})
    assert (await long.pin(git_server.spec("branches"))).commit != new
    assert (await none.pin(git_server.spec("branches"))).commit == new


async def test_redirects_are_followed_and_the_asked_address_stays(
    git_server: GitServer, place: MakePlace
) -> None:
    git_server.add("branches")
    git_server.redirects["/old/info/refs"] = "/older/info/refs?service=git-upload-pack"
    git_server.redirects["/older/info/refs"] = (
        f"{git_server.url('branches')}/info/refs?service=git-upload-pack"
    )
    pinned = await place().pin(git_server.url("old"))
    assert pinned.commit == git_server.head("branches")
    assert pinned.url == git_server.url("old")


@pytest.mark.parametrize(
    ("target", "why"),
    [
        ("http://127.0.0.1:22/x/info/refs?service=git-upload-pack", "not an address of the internet"),
        ("http://169.254.169.254/x/info/refs?service=git-upload-pack", "not an address of the internet"),
        ("ftp://h.org/x/info/refs?service=git-upload-pack", "no address of a git repository"),
        ("file:///etc/info/refs?service=git-upload-pack", "no address of a git repository"),
        ("https://ada:s3cret@h.org/x/info/refs?service=git-upload-pack", "no address of a git repository"),
    ],
)
async def test_the_policy_holds_for_redirects(
    git_server: GitServer, place: MakePlace, target: str, why: str
) -> None:
    git_server.redirects["/trap/info/refs"] = target
    with pytest.raises(PolicyRefused, match=why) as caught:
        await place().pin(git_server.url("trap"))
    assert git_server.url("trap") in caught.value.message
    assert "s3cret" not in str(caught.value)


async def test_a_blocked_repository_is_blocked_behind_a_redirect(
    git_server: GitServer, place: MakePlace
) -> None:
    git_server.add("branches")
    git_server.redirects["/alias/info/refs"] = (
        f"{git_server.url('branches')}/info/refs?service=git-upload-pack"
    )
    here = place(policy={"blocked_repositories": [git_server.url("branches")]})
    with pytest.raises(PolicyRefused, match="blocked"):
        await here.pin(git_server.url("alias"))


async def test_a_redirect_to_a_sign_in_page_means_private(git_server: GitServer, place: MakePlace) -> None:
    git_server.redirects["/private/info/refs"] = "/users/sign_in"
    with pytest.raises(RepositoryNotFound, match="does not exist or is private"):
        await place().pin(git_server.url("private"))


async def test_redirects_without_end_are_given_up(git_server: GitServer, place: MakePlace) -> None:
    git_server.redirects["/loop/info/refs"] = f"{git_server.url('loop')}/info/refs?service=git-upload-pack"
    with pytest.raises(RepositoryUnreachable, match="redirects more than 5 times"):
        await place().pin(git_server.url("loop"))
    assert probes(git_server, "loop") == 6


async def test_git_itself_follows_no_redirect(git_server: GitServer, place: MakePlace) -> None:
    """A server that redirects git only, once we have asked, does not get through either."""
    git_server.add("branches")
    git_server.redirects["/branches/git-upload-pack"] = "http://127.0.0.1:22/x/git-upload-pack"
    with pytest.raises(RepositoryUnreachable, match="sends git to another address"):
        await place().pin(git_server.spec("branches"))


async def test_an_old_servers_refs_are_read_too(git_server: GitServer, place: MakePlace) -> None:
    git_server.protocol_2 = False
    git_server.add("branches")
    pinned = await place().pin(git_server.spec("branches", "v1.0.1"))
    assert pinned.commit == git_server.head("branches", "v1.0.1")


async def test_an_image_has_no_commit(place: MakePlace) -> None:
    with pytest.raises(InvalidSpec, match="is an image"):
        await place().resolver.resolve(RepoSpec("image", "busybox"))


async def test_a_folder_below_an_allowed_root(
    git_server: GitServer, place: MakePlace, tmp_path: Path
) -> None:
    git_server.add("branches")
    here = place(policy={"local_roots": [str(git_server.folder)]})
    pinned = await here.pin(str(git_server.path("branches")))
    assert pinned.commit == git_server.head("branches")
    assert git_server.requests == []
    with pytest.raises(PolicyRefused):
        await here.pin("/etc")
