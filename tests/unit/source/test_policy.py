"""What may be fetched: protocols, hosts, addresses, folders."""

from __future__ import annotations

import ipaddress
import subprocess
from pathlib import Path
from typing import Any

import pytest

from tljh_plugin.errors import PolicyRefused, RepositoryNotFound, RepositoryUnreachable
from tljh_plugin.settings import Settings, from_mapping, load_file
from tljh_plugin.source.policy import check_host, check_spec, check_url, is_public, proxy_for
from tljh_plugin.source.spec import RepoSpec, parse_link


def settings(state: Path = Path("/nonexistent/state"), **policy: Any) -> Settings:
    return from_mapping({"policy": policy}, platform="tljh", state_dir=state)


@pytest.mark.parametrize(
    "address",
    [
        "127.0.0.1",
        "127.255.0.1",
        "0.0.0.0",
        "10.1.2.3",
        "172.17.0.1",
        "192.168.1.1",
        "169.254.169.254",
        "100.64.0.1",
        "198.18.0.1",
        "224.0.0.1",
        "240.0.0.1",
        "255.255.255.255",
        "192.0.0.8",
        "::",
        "::1",
        "fe80::1",
        "fec0::1",
        "fc00::1",
        "fd12:3456::1",
        "ff02::1",
        "::ffff:127.0.0.1",
        "::ffff:10.0.0.1",
        "64:ff9b::7f00:1",
        "64:ff9b::a9fe:a9fe",
        "2002:7f00:1::",
        "2001:0:7f00:1::",
        "2001:db8::1",
    ],
)
def test_these_are_not_addresses_of_the_internet(address: str) -> None:
    assert not is_public(ipaddress.ip_address(address))


@pytest.mark.parametrize("address", ["140.82.121.4", "1.1.1.1", "2606:50c0:8000::153", "64:ff9b::8c52:7904"])
def test_these_are(address: str) -> None:
    assert is_public(ipaddress.ip_address(address))


@pytest.mark.parametrize(
    "url",
    [
        "https://127.0.0.1/x",
        "https://127.1/x",
        "https://2130706433/x",
        "https://0x7f000001/x",
        "https://0177.0.0.1/x",
        "https://[::1]/x",
        "https://[::ffff:127.0.0.1]/x",
        "https://localhost/x",
        "https://169.254.169.254/latest",
    ],
)
@pytest.mark.parametrize("proxy", ["", "http://proxy.example.org:3128"])
async def test_private_addresses_are_refused_in_every_spelling(
    url: str, proxy: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("https_proxy", "HTTPS_PROXY"):
        monkeypatch.setenv(name, proxy) if proxy else monkeypatch.delenv(name, raising=False)
    monkeypatch.delenv("no_proxy", raising=False)
    monkeypatch.delenv("NO_PROXY", raising=False)
    with pytest.raises(PolicyRefused, match="not an address of the internet") as caught:
        await check_host(url, settings())
    assert "private_hosts" in caught.value.next_step


@pytest.mark.parametrize("entry", ["127.0.0.1", "127.0.0.1:8443", "127.0.0.0/8"])
async def test_a_listed_private_host_is_allowed(entry: str) -> None:
    assert await check_host("https://127.0.0.1:8443/x", settings(private_hosts=[entry])) == ["127.0.0.1"]


@pytest.mark.parametrize("entry", ["127.0.0.1:22", "10.0.0.0/8", "::1", "localhost"])
async def test_another_entry_does_not_open_it(entry: str) -> None:
    with pytest.raises(PolicyRefused):
        await check_host("https://127.0.0.1:8443/x", settings(private_hosts=[entry]))


async def test_a_listed_name_may_be_at_a_private_address() -> None:
    assert await check_host("https://localhost/x", settings(private_hosts=["localhost:443"]))


async def test_an_unknown_host_is_said_to_be_unknown() -> None:
    with pytest.raises(RepositoryUnreachable, match=r"no-such-host\.invalid.*unknown"):
        await check_host("https://no-such-host.invalid/x", settings())


async def test_behind_a_proxy_names_are_not_looked_up_here(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("https_proxy", "http://proxy.example.org:3128")
    monkeypatch.setenv("no_proxy", "inside.example.org")
    assert await check_host("https://no-such-host.invalid/x", settings()) == []
    assert proxy_for("https://git.example.org/x") == "http://proxy.example.org:3128"
    assert proxy_for("https://inside.example.org/x") == ""
    assert proxy_for("ssh://git@git.example.org/x") == ""


async def test_what_the_file_says_now_holds_without_a_restart(tmp_path: Path) -> None:
    path = tmp_path / "config.yaml"
    path.write_text("binder: {policy: {private_hosts: [127.0.0.1]}}\n")
    begun = load_file(path, state_dir=tmp_path)
    check_url("https://127.0.0.1/x", begun)
    assert await check_host("https://127.0.0.1/x", begun) == ["127.0.0.1"]
    path.write_text("binder: {policy: {blocked_hosts: [h.org], blocked_repositories: ['https://g.org/x']}}\n")
    for refused in ("git/https%3A%2F%2Fh.org%2Fx/main", "git/https%3A%2F%2Fg.org%2Fx/main"):
        with pytest.raises(PolicyRefused, match="is blocked here"):
            check_spec(parse_link(refused), begun)
    with pytest.raises(PolicyRefused, match="not an address of the internet"):
        await check_host("https://127.0.0.1/x", begun)


def test_only_listed_protocols() -> None:
    check_url("https://h.org/x", settings())
    check_url("ssh://git@h.org/x", settings())
    with pytest.raises(PolicyRefused, match="protocol `http` is not allowed"):
        check_url("http://h.org/x", settings())
    check_url("http://h.org/x", settings(protocols=["http"]))


def test_hosts_can_be_blocked_and_restricted() -> None:
    with pytest.raises(PolicyRefused, match="blocked"):
        check_url("https://git.evil.org/x", settings(blocked_hosts=["*.evil.org"]))
    only = settings(allowed_hosts=["github.com", "*.uni.example"])
    check_spec(RepoSpec("gh", "o/r"), only)
    check_url("https://git.uni.example/x", only)
    with pytest.raises(PolicyRefused, match="not one of those allowed"):
        check_url("https://gitlab.com/x/y", only)


@pytest.mark.parametrize(
    "spec",
    [
        RepoSpec("gh", "Owner/Repo", "v1"),
        RepoSpec("git", "https://github.com/owner/repo.git"),
        RepoSpec("git", "ssh://git@github.com/owner/repo"),
        RepoSpec("git", "https://GitHub.com//owner/repo/"),
    ],
)
def test_a_blocked_repository_is_blocked_in_every_spelling(spec: RepoSpec) -> None:
    with pytest.raises(PolicyRefused, match="blocked"):
        check_spec(spec, settings(blocked_repositories=["https://github.com/owner/repo"]))


def test_images_are_off_unless_listed() -> None:
    image = RepoSpec("image", "jupyter/scipy-notebook:latest")
    with pytest.raises(PolicyRefused, match="switched off"):
        check_spec(image, settings())
    with pytest.raises(PolicyRefused, match="not one of those allowed"):
        check_spec(image, settings(images="listed", image_names=["other/*"]))
    check_spec(image, settings(images="listed", image_names=["jupyter/*"]))


def git_folder(path: Path) -> Path:
    path.mkdir(parents=True)
    subprocess.run(["git", "init", "--quiet", str(path)], check=True)
    return path


def test_folders_only_below_allowed_roots(tmp_path: Path) -> None:
    allowed = tmp_path / "allowed"
    inside = git_folder(allowed / "one")
    outside = git_folder(tmp_path / "outside")
    (allowed / "link").symlink_to(outside)
    (allowed / "same").symlink_to(inside)
    mine = settings(local_roots=[str(allowed)])
    check_spec(RepoSpec("local", str(inside)), mine)
    check_spec(RepoSpec("local", str(allowed / "same")), mine)
    for path in (outside, allowed / "link", Path("/etc"), Path(f"{allowed}-not")):
        with pytest.raises(PolicyRefused, match="does not lie below an allowed folder"):
            check_spec(RepoSpec("local", str(path)), mine)


def test_the_examples_are_always_allowed(tmp_path: Path) -> None:
    example = git_folder(tmp_path / "examples" / "plot")
    check_spec(RepoSpec("local", str(example)), settings(tmp_path))


def test_a_folder_without_git_says_how_to_make_one(tmp_path: Path) -> None:
    (tmp_path / "plain").mkdir()
    mine = settings(local_roots=[str(tmp_path)])
    with pytest.raises(RepositoryNotFound, match="not a git repository") as caught:
        check_spec(RepoSpec("local", str(tmp_path / "plain")), mine)
    assert "git init && git add --all && git commit" in caught.value.next_step
    with pytest.raises(RepositoryNotFound, match="does not exist"):
        check_spec(RepoSpec("local", str(tmp_path / "none")), mine)


def test_a_work_tree_of_a_repository_elsewhere_is_refused(tmp_path: Path) -> None:
    secret = git_folder(tmp_path / "secret")
    trap = tmp_path / "allowed" / "trap"
    trap.mkdir(parents=True)
    mine = settings(local_roots=[str(tmp_path / "allowed")])
    (trap / ".git").write_text(f"gitdir: {secret}/.git\n")
    with pytest.raises(RepositoryNotFound, match="lies elsewhere"):
        check_spec(RepoSpec("local", str(trap)), mine)
    (trap / ".git").unlink()
    (trap / ".git").symlink_to(secret / ".git")
    with pytest.raises(RepositoryNotFound, match="lies elsewhere"):
        check_spec(RepoSpec("local", str(trap)), mine)
