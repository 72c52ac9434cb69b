"""git is locked in: another account, no settings of the machine, and nothing survives it."""

from __future__ import annotations

import asyncio
import contextlib
import os
from pathlib import Path

import pytest
from waiting import until

from tljh_plugin.errors import CheckoutDiskFull, CheckoutFailed, RepositoryTooLarge
from tljh_plugin.settings import from_mapping
from tljh_plugin.source.git import Access, Git, GitFailed, GitTimedOut, account

as_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root can give up its rights")


@pytest.fixture
def git(tmp_path: Path) -> Git:
    return Git(from_mapping({}, platform="tljh", state_dir=tmp_path))


@pytest.fixture
def folder(tmp_path: Path, git: Git) -> Path:
    """A git directory that git may write to, below one that it cannot reach by its path."""
    path = tmp_path / "work"
    (path / "objects").mkdir(parents=True)
    (path / "refs").mkdir()
    (path / "HEAD").write_text("ref: refs/heads/main\n")
    if git.account:
        os.chown(path, git.account.uid, git.account.gid)
    return path


def shell(script: str) -> Access:
    """Lets `git x` run a shell script, which is how these tests look out of git's eyes."""
    return Access(options=(("alias.x", f"!{script}"),))


@as_root
async def test_as_root_git_runs_as_an_account_without_rights(git: Git, folder: Path) -> None:
    output = await git.run("x", cwd=folder, access=shell("id -u; id -G; cat /proc/self/status"))
    lines = output.decode().splitlines()
    assert git.account is not None
    assert lines[0] == str(git.account.uid) != "0"
    assert lines[1] == str(git.account.gid)
    assert "CapEff:\t0000000000000000" in lines


@as_root
def test_the_account_can_be_chosen_and_must_exist(tmp_path: Path) -> None:
    def chosen(name: str) -> str:
        found = account(from_mapping({"source": {"git_user": name}}, platform="tljh", state_dir=tmp_path))
        return found.name if found else ""

    assert chosen("daemon") == "daemon"
    for name in ("no-such-account", "root"):
        with pytest.raises(CheckoutFailed, match=f"no unprivileged account `{name}`"):
            chosen(name)


async def test_git_sees_neither_our_environment_nor_the_machines_settings(
    git: Git, folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    home = tmp_path / "home"
    home.mkdir()
    (home / ".gitconfig").write_text("[user]\n\tname = from-home\n")
    monkeypatch.setenv("HOME", str(home))
    monkeypatch.setenv("SOME_TOKEN", "s3cret")
    monkeypatch.setenv("GIT_DIR", "/somewhere")
    monkeypatch.setenv("DOCKER_HOST", "unix:///run/docker.sock")
    seen = (await git.run("x", cwd=folder, access=shell("env; git config --list"))).decode()
    assert "s3cret" not in seen
    assert "from-home" not in seen
    assert "/somewhere" not in seen
    assert "DOCKER_HOST" not in seen
    assert "core.hookspath=/dev/null" in seen


async def test_limits_are_set(git: Git, folder: Path) -> None:
    seen = (await git.run("x", cwd=folder, access=shell("ulimit -n; ulimit -c"))).decode().split()
    assert seen == ["1024", "0"]


async def test_an_error_carries_gits_own_words(git: Git, folder: Path) -> None:
    with pytest.raises(GitFailed, match="exit code 128: fatal: your current branch") as caught:
        await git.run("log", cwd=folder)
    assert caught.value.exit_code == 128


@pytest.mark.parametrize(
    ("says", "full"),
    [
        ("fatal: write error: No space left on device", True),
        ("error: unable to write file objects/ab: Disk quota exceeded\nfatal: unpack-objects failed", True),
        ("fatal: sha1 file pack write error. Out of diskspace\nfatal: fetch-pack: invalid output", True),
        ("remote: fatal: write error: No space left on device\nfatal: early EOF", False),
    ],
)
async def test_a_full_disk_is_told_as_such_if_it_is_ours(
    git: Git, folder: Path, says: str, full: bool
) -> None:
    script = "; ".join(f"echo '{line}' >&2" for line in says.splitlines())
    with pytest.raises(CheckoutFailed) as caught:
        await git.run("x", cwd=folder, access=shell(f"{script}; exit 128"))
    assert isinstance(caught.value, CheckoutDiskFull) is full
    assert ("Free some disk" in caught.value.next_step) is full


def running(pids: Path) -> list[str]:
    """Those that still run; one that only waits to be collected does not, nor what had no time to begin."""
    alive = []
    for pid in pids.read_text().split() if pids.exists() else ():
        with contextlib.suppress(FileNotFoundError, ProcessLookupError):
            if Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] not in "ZX":
                alive.append(pid)
    return alive


ENDLESS = "echo $$ > pids; sleep 1000 & echo $! >> pids; touch ready; wait"


async def test_when_cancelled_nothing_that_git_started_goes_on(git: Git, folder: Path) -> None:
    task = asyncio.create_task(git.run("x", cwd=folder, access=shell(ENDLESS)))
    await until(lambda: (folder / "ready").exists())
    assert len(running(folder / "pids")) == 2
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    await until(lambda: not running(folder / "pids"))


async def test_after_its_time_nothing_goes_on_either(git: Git, folder: Path) -> None:
    with pytest.raises(GitTimedOut, match="did not finish within 1 seconds"):
        await git.run("x", cwd=folder, access=shell(ENDLESS), timeout_s=1.0)
    await until(lambda: not running(folder / "pids"))


async def test_a_watcher_can_end_it(git: Git, folder: Path) -> None:
    class Enough(Exception):
        pass

    def watch() -> None:
        if (folder / "ready").exists():
            raise Enough

    with pytest.raises(Enough):
        await git.run("x", cwd=folder, access=shell(ENDLESS), watch=watch)
    await until(lambda: not running(folder / "pids"))


async def test_endless_output_is_cut(git: Git, folder: Path) -> None:
    with pytest.raises(RepositoryTooLarge, match="larger than 1000 bytes"):
        await git.run("x", cwd=folder, access=shell("yes"), max_output=1000)


@pytest.mark.parametrize(
    "url", ["ext::sh -c touch% x", "file:///etc", "git://127.0.0.1/x", "http://127.0.0.1:9/x"]
)
async def test_without_access_git_reaches_nothing(git: Git, folder: Path, url: str) -> None:
    with pytest.raises(GitFailed, match=r"transport '.*' not allowed"):
        await git.run("ls-remote", "--", url, cwd=folder)
