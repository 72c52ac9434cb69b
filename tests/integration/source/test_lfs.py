"""Git LFS: contents arrive in the place of their pointers, once, and only what the pointer names."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable
from pathlib import Path
from urllib.parse import urlsplit

import pytest
from git_server import GitServer, commit_files, git, new_repository
from places import Place

from tljh_plugin.errors import CheckoutFailed, RepositoryTooLarge, RepositoryUnreachable
from tljh_plugin.source.credentials import Login

MakePlace = Callable[..., Place]

WAVES = b"waves \x00\xff" * 100_000


def fetched(server: GitServer) -> list[str]:
    """The contents that were asked for."""
    return [request for request in server.requests if "/lfs-contents/" in request]


def pointer_to(content: bytes, size: int | None = None) -> str:
    oid = hashlib.sha256(content).hexdigest()
    return f"version https://git-lfs.github.com/spec/v1\noid sha256:{oid}\nsize {size or len(content)}\n"


async def test_contents_take_the_place_of_their_pointers(git_server: GitServer, place: MakePlace) -> None:
    pointer = git_server.store(WAVES)
    path = git_server.new(
        "data", {"waves.bin": pointer, "deep/again.bin": pointer, "run": pointer, "a.txt": "a"}
    )
    (path / "run").chmod(0o755)
    commit_files(path, {})
    here = place()
    async with here.checkout(git_server.spec("data")) as checkout:
        for name in ("waves.bin", "deep/again.bin", "run"):
            assert (checkout.path / name).read_bytes() == WAVES
        assert (checkout.path / "run").stat().st_mode & 0o777 == 0o755
        assert (checkout.path / "waves.bin").stat().st_mode & 0o777 == 0o644
        assert checkout.warnings == ()
        assert checkout.bytes > 3 * len(WAVES)
        assert not list(checkout.path.rglob(".lfs-*"))
    assert len(fetched(git_server)) == 1


async def test_only_what_is_new_is_fetched_and_checkouts_are_the_same(
    git_server: GitServer, place: MakePlace
) -> None:
    git_server.new("data", {"one.bin": git_server.store(b"one" * 9999)})
    here, there = place("here", resolve_cache_s=0), place("there")
    assert await here.fingerprint(git_server.spec("data")) == await there.fingerprint(git_server.spec("data"))
    git_server.requests.clear()
    await here.fingerprint(git_server.spec("data"))
    assert fetched(git_server) == []
    git_server.commit("data", {"two.bin": git_server.store(b"two" * 9999)})
    async with here.checkout(git_server.spec("data")) as checkout:
        assert (checkout.path / "two.bin").read_bytes() == b"two" * 9999
    assert len(fetched(git_server)) == 1


async def test_more_objects_than_fit_into_one_question(git_server: GitServer, place: MakePlace) -> None:
    files = {f"{number}.bin": git_server.store(b"%d" % number * 2000) for number in range(130)}
    git_server.new("many", files)
    async with place().checkout(git_server.spec("many")) as checkout:
        assert (checkout.path / "129.bin").read_bytes() == b"129" * 2000
        assert not [each for each in files if (checkout.path / each).stat().st_size < 1000]


async def test_the_repository_can_name_another_server(git_server: GitServer, place: MakePlace) -> None:
    config = f"[lfs]\n\turl = {git_server.url('elsewhere')}\n"
    git_server.new("data", {"waves.bin": git_server.store(WAVES), ".lfsconfig": config})
    async with place().checkout(git_server.spec("data")) as checkout:
        assert (checkout.path / "waves.bin").read_bytes() == WAVES
    assert "POST /elsewhere/objects/batch" in git_server.requests


async def test_what_is_not_there_stays_a_pointer_and_is_told(git_server: GitServer, place: MakePlace) -> None:
    git_server.new("data", {"lost.bin": pointer_to(b"lost"), "waves.bin": git_server.store(WAVES)})
    here = place()
    async with here.checkout(git_server.spec("data")) as checkout:
        assert (checkout.path / "lost.bin").read_text() == pointer_to(b"lost")
        assert (checkout.path / "waves.bin").read_bytes() == WAVES
        [warning] = checkout.warnings
    assert "`lost.bin`" in warning
    assert any(warning in line for line in here.said)


async def test_without_an_lfs_server_pointers_stay(git_server: GitServer, place: MakePlace) -> None:
    git_server.new("data", {"a.bin": pointer_to(b"a")})
    git_server.status["data"] = 200
    git_server.new(
        "plain", {"a.bin": pointer_to(b"a"), ".lfsconfig": f"[lfs]\nurl = {git_server.url('none')}\n"}
    )
    git_server.status["none"] = 404
    async with place().checkout(git_server.spec("plain")) as checkout:
        assert len(checkout.warnings) == 1


async def test_submodules_have_servers_of_their_own(git_server: GitServer, place: MakePlace) -> None:
    git_server.new("inner", {"waves.bin": git_server.store(WAVES)})
    outer = git_server.new("outer", {"a.txt": "a"})
    for key, value in (("path", "in"), ("url", "../inner")):
        git(outer, "config", "--file", ".gitmodules", f"submodule.in.{key}", value)
    git(outer, "update-index", "--add", "--cacheinfo", f"160000,{git_server.head('inner')},in")
    git(outer, "add", ".gitmodules")
    git(outer, "commit", "--quiet", "--message", "Add it")
    async with place().checkout(git_server.spec("outer")) as checkout:
        assert (checkout.path / "in" / "waves.bin").read_bytes() == WAVES
    assert "POST /inner.git/info/lfs/objects/batch" in git_server.requests


async def test_a_folder_of_this_machine_has_its_own_contents(
    git_server: GitServer, place: MakePlace, tmp_path: Path
) -> None:
    folder = new_repository(tmp_path / "mine" / "data")
    os.chmod(tmp_path, 0o755)
    pointer, oid = pointer_to(WAVES), hashlib.sha256(WAVES).hexdigest()
    commit_files(folder, {"waves.bin": pointer, "secret.bin": pointer_to(b"root:x:0:0")})
    kept = folder / ".git" / "lfs" / "objects" / oid[:2] / oid[2:4]
    kept.mkdir(parents=True)
    (kept / oid).write_bytes(WAVES)
    other = hashlib.sha256(b"root:x:0:0").hexdigest()
    link = folder / ".git" / "lfs" / "objects" / other[:2] / other[2:4]
    link.mkdir(parents=True)
    (tmp_path / "secret").write_text("root:x:0:0")
    (link / other).symlink_to(tmp_path / "secret")
    here = place(policy={"local_roots": [str(tmp_path / "mine")]})
    async with here.checkout(str(folder)) as checkout:
        assert (checkout.path / "waves.bin").read_bytes() == WAVES
        assert (checkout.path / "secret.bin").read_text() != "root:x:0:0", "a link was followed"


async def test_large_files_are_refused_before_anything_is_fetched(
    git_server: GitServer, place: MakePlace
) -> None:
    git_server.new("one", {"big.bin": pointer_to(b"x", 3_000_000_000)})
    git_server.new("all", {f"{n}.bin": pointer_to(b"%d" % n, 40_000_000) for n in range(3)})
    here = place(max_checkout_bytes=100_000_000)
    with pytest.raises(RepositoryTooLarge, match=r"`big\.bin` of 2\.7 GiB in Git LFS"):
        async with here.checkout(git_server.spec("one")):
            pass
    with pytest.raises(RepositoryTooLarge, match=r"114 MiB in Git LFS"):
        async with here.checkout(git_server.spec("all")):
            pass
    assert not [request for request in git_server.requests if "batch" in request]


@pytest.mark.parametrize("sent", [b"something else of it" * 50_000, WAVES[:-1], WAVES + b"x", b""])
async def test_another_content_is_refused_and_not_kept(
    git_server: GitServer, place: MakePlace, sent: bytes
) -> None:
    git_server.new("data", {"waves.bin": git_server.store(WAVES)})
    git_server.lfs[hashlib.sha256(WAVES).hexdigest()] = sent
    here = place()
    with pytest.raises(CheckoutFailed, match=r"something else than `waves\.bin`"):
        async with here.checkout(git_server.spec("data")):
            pass
    assert list(here.settings.mirror_dir.rglob("lfs/*")) == []
    git_server.store(WAVES)
    async with here.checkout(git_server.spec("data")) as checkout:
        assert (checkout.path / "waves.bin").read_bytes() == WAVES


async def test_a_stored_content_that_was_damaged_is_fetched_again(
    git_server: GitServer, place: MakePlace
) -> None:
    git_server.new("data", {"waves.bin": git_server.store(WAVES)})
    here = place()
    async with here.checkout(git_server.spec("data")):
        pass
    [stored] = here.settings.mirror_dir.rglob("lfs/*")
    stored.write_bytes(b"damaged")
    with pytest.raises(CheckoutFailed, match="damaged"):
        async with here.checkout(git_server.spec("data")):
            pass
    async with here.checkout(git_server.spec("data")) as checkout:
        assert (checkout.path / "waves.bin").read_bytes() == WAVES


async def test_a_private_repositorys_login_goes_to_its_own_host_only(
    git_server: GitServer, place: MakePlace, tmp_path: Path
) -> None:
    git_server.new("private", {"waves.bin": git_server.store(WAVES), "more.bin": git_server.store(b"more")})
    git_server.private["private"] = ("ada", "a-token-of-ada")
    with GitServer(tmp_path / "other") as other:
        other.store(WAVES)
        oid = hashlib.sha256(WAVES).hexdigest()
        signed = {"Authorization": "RemoteAuth signed", "Host": "evil.example", "X-Key": "k"}
        git_server.lfs_actions[oid] = {"href": f"{other.url('lfs-contents')}/{oid}", "header": signed}
        here = place(policy={"private_hosts": [git_server.host, other.host]})
        login = Login("ada", f"http://{urlsplit(git_server.url('private')).netloc}", "ada", "a-token-of-ada")
        pinned = await here.pin(git_server.spec("private"), login=login)
        async with here.checkout(pinned) as checkout:
            assert (checkout.path / "waves.bin").read_bytes() == WAVES
            assert (checkout.path / "more.bin").read_bytes() == b"more"
        assert any("objects/batch" in each for each in git_server.authorizations)
        assert other.authorizations == [f"GET /lfs-contents/{oid}"]  # the server's own word
    assert not [line for line in here.said if "a-token-of-ada" in line]


async def test_it_can_be_switched_off(git_server: GitServer, place: MakePlace) -> None:
    git_server.new("data", {"a.bin": git_server.store(WAVES), "b.bin": git_server.store(b"b")})
    async with place(lfs=False).checkout(git_server.spec("data")) as checkout:
        assert "2 files are in Git LFS, which is switched off here" in checkout.warnings[0]
    assert not [request for request in git_server.requests if "batch" in request]


async def test_a_server_that_does_not_end_is_given_up(git_server: GitServer, place: MakePlace) -> None:
    git_server.new("data", {"a.bin": git_server.store(WAVES)})
    git_server.stall.add("lfs-contents")
    here = place(timeout_s=8.0)
    with pytest.raises(RepositoryUnreachable, match="did not send everything within 8 seconds"):
        async with here.checkout(git_server.spec("data")):
            pass
