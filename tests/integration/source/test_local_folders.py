"""Folders of the machine: read, never run."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest
from git_server import GitServer, commit_files, git, new_repository
from places import Place

from tljh_plugin.errors import CheckoutFailed, PolicyRefused, RefNotFound, RepositoryNotFound
from tljh_plugin.source import remote as remotes
from tljh_plugin.source.spec import parse_typed

MakePlace = Callable[..., Place]


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return tmp_path / "work"


@pytest.fixture
def here(place: MakePlace, root: Path) -> Place:
    return place(policy={"local_roots": [str(root)]})


async def test_a_folder_with_spaces_is_checked_out_at_its_commit(here: Place, root: Path) -> None:
    path = new_repository(root / "my work")
    commit_files(path, {"a.txt": "committed"})
    (path / "a.txt").write_text("not committed")
    async with here.checkout(str(path)) as checkout:
        assert (checkout.path / "a.txt").read_text() == "committed"
        assert git(checkout.path, "-c", "safe.directory=*", "remote", "get-url", "origin") == (
            "file://" + str(path).replace(" ", "%20")
        )


async def test_branches_and_bare_repositories(here: Place, root: Path) -> None:
    path = new_repository(root / "one")
    commit_files(path, {"a.txt": "a"})
    git(path, "branch", "feature/x")
    git(root, "clone", "--quiet", "--bare", "one", "bare.git")
    for folder in ("one", "bare.git"):
        pinned = await here.pin(parse_typed(str(root / folder)).spec.with_ref("feature/x").path)
        async with here.checkout(pinned) as checkout:
            assert (checkout.path / "a.txt").exists()


async def test_a_local_repository_with_local_submodules(here: Place, root: Path) -> None:
    inner = new_repository(root / "inner")
    commit = commit_files(inner, {"i.txt": "i"})
    outer = new_repository(root / "outer")
    (outer / ".gitmodules").write_text('[submodule "in"]\n\tpath = in\n\turl = ../inner\n')
    git(outer, "update-index", "--add", "--cacheinfo", f"160000,{commit},in")
    git(outer, "add", ".gitmodules")
    git(outer, "commit", "--quiet", "--message", "x")
    async with here.checkout(str(outer)) as checkout:
        assert (checkout.path / "in" / "i.txt").read_text() == "i"


async def test_a_submodule_outside_of_the_roots_is_refused(here: Place, root: Path, tmp_path: Path) -> None:
    commit = commit_files(new_repository(tmp_path / "secret"), {"s.txt": "s"})
    outer = new_repository(root / "outer")
    (outer / ".gitmodules").write_text('[submodule "in"]\n\tpath = in\n\turl = ../../secret\n')
    git(outer, "update-index", "--add", "--cacheinfo", f"160000,{commit},in")
    git(outer, "add", ".gitmodules")
    git(outer, "commit", "--quiet", "--message", "x")
    with pytest.raises(PolicyRefused, match=r"Submodule `in`.*does not lie below"):
        async with here.checkout(str(outer)):
            pass


async def test_nothing_of_the_folder_is_executed(here: Place, root: Path, tmp_path: Path) -> None:
    """Hooks, helper programs and filters that its own settings name."""
    path = new_repository(root / "trap")
    proof = tmp_path / "proof"
    proof.mkdir()
    proof.chmod(0o777)
    script = path / ".git" / "evil"
    script.write_text(f"#!/bin/sh\ntouch {proof}/$$\n")
    script.chmod(0o755)
    commit_files(path, {".gitattributes": "* filter=evil diff=evil merge=evil\n", "a.txt": "a"})
    for hook in ("post-checkout", "pre-receive", "update", "reference-transaction", "post-index-change"):
        (path / ".git" / "hooks").mkdir(exist_ok=True)
        (path / ".git" / "hooks" / hook).write_text(script.read_text())
        (path / ".git" / "hooks" / hook).chmod(0o755)
    for key in (
        "uploadpack.packObjectsHook",
        "core.fsmonitor",
        "core.sshCommand",
        "core.alternateRefsCommand",
        "core.gitProxy",
        "core.askPass",
        "core.pager",
        "core.editor",
        "diff.external",
        "filter.evil.smudge",
        "filter.evil.process",
        "filter.evil.clean",
        "credential.helper",
        "remote.origin.uploadpack",
    ):
        git(path, "config", key, str(script))
    git(path, "config", "remote.origin.url", str(path))
    git(path, "config", "remote.origin.promisor", "true")
    git(path, "config", "extensions.partialClone", "origin")
    git(path, "config", "core.repositoryFormatVersion", "1")
    async with here.checkout(str(path)) as checkout:
        assert (checkout.path / "a.txt").read_text() == "a"
    assert list(proof.iterdir()) == []


async def test_missing_objects_are_not_fetched_by_the_folders_own_means(
    here: Place, root: Path, tmp_path: Path
) -> None:
    path = new_repository(root / "partial")
    proof = tmp_path / "proof"
    proof.mkdir()
    proof.chmod(0o777)
    script = path / ".git" / "evil"
    script.write_text(f"#!/bin/sh\ntouch {proof}/$$\n")
    script.chmod(0o755)
    commit_files(path, {"a.txt": "a"})
    blob = git(path, "rev-parse", "HEAD:a.txt")
    (path / ".git" / "objects" / blob[:2] / blob[2:]).unlink()
    for key, value in (
        ("core.repositoryFormatVersion", "1"),
        ("extensions.partialClone", "origin"),
        ("remote.origin.promisor", "true"),
        ("remote.origin.url", str(path)),
        ("remote.origin.uploadpack", str(script)),
    ):
        git(path, "config", key, value)
    with pytest.raises(CheckoutFailed, match="damaged"):
        async with here.checkout(str(path)):
            pass
    assert list(proof.iterdir()) == []


async def test_a_link_put_in_after_the_check_is_not_followed(here: Place, root: Path, tmp_path: Path) -> None:
    path = new_repository(root / "one")
    commit_files(path, {"a.txt": "a"})
    secret = new_repository(tmp_path / "secret")
    commit_files(secret, {"s.txt": "s"})
    reached = await remotes.reach(parse_typed(str(path)).spec, here.settings)
    path.rename(root / "moved")
    path.symlink_to(secret)
    with pytest.raises(PolicyRefused), reached.opened(here.settings):
        pass


@pytest.mark.skipif(os.geteuid() != 0, reason="only root gives up its rights")
async def test_a_folder_that_gits_account_cannot_read_says_so(here: Place, root: Path) -> None:
    path = new_repository(root / "mine")
    commit_files(path, {"a.txt": "a"})
    (path / ".git").chmod(0o700)
    with pytest.raises(RepositoryNotFound, match="cannot be read by the account") as caught:
        await here.pin(str(path))
    assert "readable" in caught.value.next_step


async def test_a_folder_without_commits_says_so(here: Place, root: Path) -> None:
    new_repository(root / "empty")
    with pytest.raises(RefNotFound, match="no commits yet"):
        await here.pin(str(root / "empty"))


async def test_the_same_commit_by_folder_and_by_server(
    here: Place, git_server: GitServer, place: MakePlace, root: Path
) -> None:
    """The files are the same, and what `origin` says is not."""
    path = git_server.add("branches")
    git(git_server.folder, "clone", "--quiet", "branches", str(root / "branches"))
    async with (
        here.checkout(str(root / "branches")) as local,
        place("other").checkout(git_server.spec("branches")) as served,
    ):
        assert local.files == served.files
        for name in ("README.md", "branch.txt"):
            assert (local.path / name).read_bytes() == (served.path / name).read_bytes()
    assert path.exists()
