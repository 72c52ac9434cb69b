"""Repositories made to get at this machine while they are fetched and written out."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Callable, Mapping
from pathlib import Path

import pytest
from git_server import GitServer, commit_files, git
from places import Place

from tljh_plugin.errors import BinderError, CheckoutFailed, InvalidSpec, PolicyRefused, RepositoryTooLarge
from tljh_plugin.source.files import check_links, check_paths, parse_listing
from tljh_plugin.source.remote import _ssh_access, reach
from tljh_plugin.source.spec import RepoSpec, parse_link, parse_typed
from tljh_plugin.source.submodules import address_of

MakePlace = Callable[..., Place]
COMMIT = "1" * 40


def hand_made(repository: Path, tree: str, message: str = "By hand") -> str:
    """Put a commit with this tree (its object's name) onto `main`."""
    commit = git(repository, "commit-tree", "-m", message, tree)
    git(repository, "update-ref", "refs/heads/main", commit)
    return commit


def make_tree(repository: Path, entries: Mapping[str, tuple[str, str]]) -> str:
    """A tree of `name → (mode, object)`, which git itself would not always make."""
    lines = b""
    for name, (mode, found) in entries.items():
        kind = {"40000": "tree", "160000": "commit"}.get(mode, "blob")
        lines += f"{mode} {kind} {found}\t".encode() + os.fsencode(name) + b"\0"
    return git(repository, "mktree", "-z", "--missing", stdin=lines)


def blob(repository: Path, content: bytes) -> str:
    return git(repository, "hash-object", "-w", "--stdin", stdin=content)


def with_submodule(repository: Path, address: str, name: str = "sub", path: str = "sub") -> None:
    """Commit a submodule with any address, as `git config` writes it."""
    modules = repository / ".gitmodules"
    git(repository, "config", "--file", str(modules), f"submodule.{name}.path", path)
    git(repository, "config", "--file", str(modules), f"submodule.{name}.url", address)
    git(repository, "add", ".gitmodules")
    git(repository, "update-index", "--add", "--cacheinfo", f"160000,{COMMIT},{path}")
    git(repository, "commit", "--quiet", "--message", "Submodule")


# -- addresses ----------------------------------------------------------------------------------------


@pytest.mark.attack("build: submodules")
@pytest.mark.parametrize(
    "address",
    [
        "file:///etc",
        "/etc",
        "ext::sh -c touch% MARK",
        "fd::17",
        "-u./payload",
        "--upload-pack=touch MARK",
        "ssh://-oProxyCommand=touch%20MARK/x",
        "-oProxyCommand=touch:x",
        "git@-oProxyCommand=x:y",
        "https://-x/y",
        "http://[::1]:1/x",
        "http://[::ffff:127.0.0.1]:1/x",
        "http://127.1:1/x",
        "http://2130706433:1/x",
        "http://0x7f000001:1/x",
        "http://localhost:1/x",
        "http://169.254.169.254/latest/meta-data",
        "http://10.0.0.1/x",
        "https://user:password@example.org/x",
        "git://127.0.0.1/x",
        "ftp://127.0.0.1/x",
        "../../../../../etc",
        "https://example.org/x\\\\y",
    ],
)
async def test_a_submodules_address_leads_nowhere(place: MakePlace, address: str, tmp_path: Path) -> None:
    here = place()
    parent = RepoSpec("git", "https://example.org/outer")
    with pytest.raises(BinderError):
        await reach(address_of(address.replace("MARK", str(tmp_path)), parent, "sub"), here.settings)


@pytest.mark.attack("build: submodules")
@pytest.mark.parametrize("address", ["ext::sh -c touch% MARK", "--upload-pack=touch MARK", "../../../../etc"])
async def test_a_submodule_reaches_nothing_of_this_machine(
    git_server: GitServer, place: MakePlace, address: str, tmp_path: Path
) -> None:
    mark = tmp_path / "mark"
    repository = git_server.new("outer", {"a.txt": "a"})
    with_submodule(repository, address.replace("MARK", str(mark)))
    here = place()
    with pytest.raises(BinderError):
        async with here.checkout(git_server.spec("outer")):
            pass
    assert not mark.exists()
    assert not [request for request in git_server.requests if "/etc" in request]


async def test_a_submodule_of_an_allowed_host_arrives(git_server: GitServer, place: MakePlace) -> None:
    """The same way of making one, with an honest address."""
    git_server.new("inner", {"b.txt": "b"})
    repository = git_server.new("outer", {"a.txt": "a"})
    with_submodule(repository, "../inner")
    git(repository, "update-index", "--cacheinfo", f"160000,{git_server.head('inner')},sub")
    git(repository, "commit", "--quiet", "--amend", "--message", "Submodule")
    async with place().checkout(git_server.spec("outer")) as checkout:
        assert (checkout.path / "sub" / "b.txt").read_text() == "b"


NAMES = [
    "../../../etc/x",
    "x\r",
    'x"]',
    "x\\",
    "core.fsmonitor",
    "x.path",
    "-x",
    "ü\u202e",
    "a b",
    'y"]\tz = 1',
]


@pytest.mark.attack("build: submodules")
async def test_a_submodules_name_writes_no_other_setting(git_server: GitServer, place: MakePlace) -> None:
    """CVE-2018-11235, CVE-2025-48384 and their kind: the name ends up in `.git/config` of the image."""
    git_server.new("inner", {"b.txt": "b"})
    repository = git_server.new("outer", {"a.txt": "a"})
    for number, name in enumerate(NAMES):
        with_submodule(repository, git_server.url("inner"), name, f"s{number}")
        git(repository, "update-index", "--cacheinfo", f"160000,{git_server.head('inner')},s{number}")
    git(repository, "commit", "--quiet", "--message", "Submodules")
    async with place().checkout(git_server.spec("outer")) as checkout:
        listed = git(checkout.path, "config", "--file", ".git/config", "--list", "--name-only", "--null")
        keys = {key for key in listed.split("\0") if key}
        plain = {"core.repositoryformatversion", "core.filemode", "core.bare", "core.logallrefupdates"}
        others = keys - plain - {"remote.origin.url", "remote.origin.fetch"}
        assert len(others) == 2 * len(NAMES)
        assert all(key.startswith("submodule.") and key.endswith((".active", ".url")) for key in others)
        folders = {f"s{number}" for number in range(len(NAMES))}
        assert set(os.listdir(checkout.path)) == {".git", ".gitmodules", "a.txt", *folders}


@pytest.mark.attack("build: addresses")
async def test_a_redirect_to_another_port_of_this_machine_is_not_followed(
    git_server: GitServer, place: MakePlace, tmp_path: Path
) -> None:
    git_server.new("honest", {"a.txt": "a"})
    with GitServer(tmp_path / "other") as other:
        other.new("honest", {"secret.txt": "s"})
        git_server.redirects["/moved/info/refs"] = f"{other.url('honest')}/info/refs?service=git-upload-pack"
        with pytest.raises(PolicyRefused, match="redirects"):
            async with place().checkout(git_server.spec("moved")):
                pass
        assert other.requests == []
        # The control: to where the policy allows it, it is followed.
        target = f"{git_server.url('honest')}/info/refs?service=git-upload-pack"
        git_server.redirects["/moved/info/refs"] = target
        async with place().checkout(git_server.spec("moved")) as checkout:
            assert (checkout.path / "a.txt").exists()


@pytest.mark.attack("build: addresses")
@pytest.mark.parametrize(
    "text",
    [
        "ext::sh -c id",
        "-u/x",
        "--upload-pack=/x",
        "git/ext%3A%3Ash%20-c%20id/main",
        "git/file%3A%2F%2F%2Fetc/main",
        "git/ssh%3A%2F%2F-oProxyCommand%3Did%2Fx/main",
        "git/https%3A%2F%2Fexample.org%2Fx%0D%0AHost%3A%20y/main",
        "git/https%3A%2F%2Fexample.org%2Fx%00/main",
        "git/https%3A%2F%2Fa%40b%3Ac%40example.org%2Fx/main",
        "gh/-u/x/main",
        "gh/owner/..%2F..%2Fetc/main",
        "gh/owner/repo/--upload-pack=x",
        "gh/owner/repo/-x",
        "gh/owner/repo/main..other",
        "gh/owner/repo/HEAD~1",
        "gh/owner/repo/main@{upstream}",
        "gh/owner/repo/main:etc",
        "gh/owner/repo/a%00b",
        "gh/owner/repo/a%0Ab",
        "gh/owner/repo/^main",
        "gh/owner/repo/main?subdir=../..",
        "gh/owner/repo/main?subdir=a%2F..%2F..",
        "gh/owner/repo/main?subdir=.git",
        "gh/owner/repo/main?subdir=a%2F.GIT%2Fhooks",
        "gh/owner/repo/main?subdir=a%0Ab",
    ],
)
def test_no_option_of_git_hides_in_an_address(text: str) -> None:
    for read in (parse_link, parse_typed):
        with pytest.raises(InvalidSpec):
            read(text)


def test_honest_addresses_are_read() -> None:
    assert parse_link("gh/owner/repo/feature/x?subdir=a%2Fb").subdir == "a/b"
    assert parse_typed("https://github.com/owner/repo").spec.repository == "owner/repo"


@pytest.mark.attack("build: addresses")
def test_no_key_of_the_person_is_offered_to_an_ssh_server() -> None:
    """A submodule's address is the repository's choice: with the person's key it would bring in what only
    they may read, and the next step of the build could send it away."""
    environment = dict(_ssh_access("ssh://git@example.org/x", ["192.0.2.1"]).environment)
    words = environment["GIT_SSH_COMMAND"].split()
    done = subprocess.run(
        [*words, "-G", "git@example.org"], capture_output=True, text=True, check=True, timeout=60
    )
    effective = dict(line.split(" ", 1) for line in done.stdout.splitlines() if " " in line)
    assert effective["pubkeyauthentication"] in ("no", "false")
    assert effective["gssapiauthentication"] == effective["hostbasedauthentication"] == "no"
    assert effective["identityagent"] == effective["identityfile"] == "none"
    assert effective["stricthostkeychecking"] in ("yes", "true")
    assert effective["hostname"] == "192.0.2.1"


# -- files --------------------------------------------------------------------------------------------


@pytest.mark.attack("build: links")
@pytest.mark.parametrize(
    ("link", "target"),
    [
        ("apt.txt", "/etc/shadow"),
        ("requirements.txt", "../../../../../../etc/passwd"),
        ("Dockerfile", "/proc/self/environ"),
        ("environment.yml", "/root/.docker/config.json"),
        ("postBuild", "/etc/shadow"),
        ("start", "/etc/shadow"),
        ("binder", "/etc"),
        (".binder", ".."),
        ("binder/apt.txt", "../../x"),
        ("pyproject.toml", "/etc/hostname"),
        ("runtime.txt", "/dev/zero"),
        (".dockerignore", "/etc/passwd"),
        ("Pipfile", "/etc/passwd"),
        ("environment.yaml", "/etc/passwd"),
        ("requirements3.txt", "/etc/passwd"),
    ],
)
def test_a_link_to_this_machines_files_is_refused(tmp_path: Path, link: str, target: str) -> None:
    (tmp_path / link).parent.mkdir(exist_ok=True)
    (tmp_path / link).symlink_to(target)
    with pytest.raises(CheckoutFailed, match="outside of the repository"):
        check_links(tmp_path, "")


@pytest.mark.attack("build: links")
async def test_a_chain_of_links_is_followed_to_its_end(git_server: GitServer, place: MakePlace) -> None:
    repository = git_server.new("linked", {"a.txt": "a"})
    (repository / "one").symlink_to("two")
    (repository / "two").symlink_to("/etc")
    (repository / "apt.txt").symlink_to("one/shadow")
    commit_files(repository, {})
    with pytest.raises(CheckoutFailed, match="outside of the repository"):
        async with place().checkout(git_server.spec("linked")):
            pass


@pytest.mark.attack("build: links")
async def test_a_subfolder_that_is_a_link_out_is_refused(git_server: GitServer, place: MakePlace) -> None:
    repository = git_server.new("linked", {"a.txt": "a"})
    (repository / "course").symlink_to("/etc")
    commit_files(repository, {})
    spec = RepoSpec("git", git_server.url("linked"), "main", "course")
    here = place()
    pinned = await here.resolver.resolve(spec)
    with pytest.raises(CheckoutFailed):
        async with here.checkout(pinned):
            pass


async def test_links_inside_of_the_repository_are_kept(git_server: GitServer, place: MakePlace) -> None:
    repository = git_server.new("linked", {"real.txt": "numpy\n", "sub/a": "a"})
    (repository / "requirements.txt").symlink_to("real.txt")
    (repository / "data").symlink_to("/data")  # meant for the server, never read here
    commit_files(repository, {})
    async with place().checkout(git_server.spec("linked")) as checkout:
        assert os.readlink(checkout.path / "requirements.txt") == "real.txt"
        assert os.readlink(checkout.path / "data") == "/data"


@pytest.mark.attack("build: trees")
@pytest.mark.parametrize("name", ["..", ".", ".git", ".GIT", ".Git"])
async def test_a_tree_with_a_name_that_no_file_can_have_is_refused(
    git_server: GitServer, place: MakePlace, name: str
) -> None:
    repository = git_server.new("odd", {"a.txt": "a"})
    inner = make_tree(repository, {"config": ("100644", blob(repository, b"[core]\n\tfsmonitor = id\n"))})
    hand_made(repository, make_tree(repository, {name: ("40000", inner)}))
    with pytest.raises(BinderError):
        async with place().checkout(git_server.spec("odd")):
            pass


@pytest.mark.attack("build: trees")
async def test_a_file_below_a_link_is_refused(
    git_server: GitServer, place: MakePlace, tmp_path: Path
) -> None:
    """A link and a folder of one name: what is written into the folder would go where the link leads."""
    outside = tmp_path / "outside"
    outside.mkdir()
    repository = git_server.new("odd", {"a.txt": "a"})
    link, inner = blob(repository, os.fsencode(outside)), blob(repository, b"x")
    raw = b"".join(
        mode + b" x\0" + bytes.fromhex(found)
        for mode, found in ((b"120000", link), (b"40000", make_tree(repository, {"y": ("100644", inner)})))
    )
    tree = git(repository, "hash-object", "-t", "tree", "-w", "--literally", "--stdin", stdin=raw)
    hand_made(repository, tree)
    with pytest.raises(BinderError):
        async with place().checkout(git_server.spec("odd")):
            pass
    assert list(outside.iterdir()) == []


@pytest.mark.attack("build: trees")
async def test_a_tree_that_unfolds_without_end_is_refused(git_server: GitServer, place: MakePlace) -> None:
    """Ten folders in ten folders in …: a few objects, 10**10 files."""
    repository = git_server.new("bomb", {"a.txt": "a"})
    tree = make_tree(repository, {"f": ("100644", blob(repository, b"x"))})
    for _ in range(10):
        tree = make_tree(repository, {f"d{n}": ("40000", tree) for n in range(10)})
    hand_made(repository, tree)
    here = place()
    with pytest.raises(RepositoryTooLarge):
        async with here.checkout(git_server.spec("bomb")):
            pass
    assert not [path for path in here.settings.checkout_dir.iterdir() if path.is_dir()]


@pytest.mark.attack("build: trees")
async def test_a_very_deep_tree_is_refused_and_leaves_nothing(
    git_server: GitServer, place: MakePlace
) -> None:
    """Python's own `rmtree` ends at its limit of recursion, and the folder would stay for ever."""
    repository = git_server.new("deep", {"a.txt": "a"})
    tree = make_tree(repository, {"f": ("100644", blob(repository, b"x"))})
    for _ in range(300):
        tree = make_tree(repository, {"d": ("40000", tree)})
    hand_made(repository, tree)
    here = place()
    with pytest.raises(CheckoutFailed, match="folders deep"):
        async with here.checkout(git_server.spec("deep")):
            pass
    assert not [path for path in here.settings.checkout_dir.iterdir() if path.is_dir()]


@pytest.mark.attack("build: trees")
async def test_a_small_repository_that_declares_much_is_refused_before_it_is_written(
    git_server: GitServer, place: MakePlace
) -> None:
    git_server.new("zeros", {"zeros": bytes(20 * 1024**2)})
    here = place(max_file_bytes=8 * 1024**2)
    with pytest.raises(RepositoryTooLarge, match="20 MiB"):
        async with here.checkout(git_server.spec("zeros")):
            pass


@pytest.mark.attack("build: trees")
async def test_attributes_that_make_files_grow_are_counted(git_server: GitServer, place: MakePlace) -> None:
    git_server.new(
        "grow",
        {
            ".gitattributes": "*.txt working-tree-encoding=UTF-16LE\n",
            "a.txt": ("a\n" * 1500000).encode("utf-16-le"),
        },
    )
    with pytest.raises(RepositoryTooLarge):
        async with place(max_checkout_bytes=4 * 1024**2).checkout(git_server.spec("grow")):
            pass


@pytest.mark.attack("build: trees")
async def test_filters_and_hooks_of_a_repository_run_nowhere(
    git_server: GitServer, place: MakePlace, tmp_path: Path
) -> None:
    mark = tmp_path / "mark"
    evil = f'[filter "evil"]\n\tsmudge = touch {mark}; cat\n\tclean = touch {mark}; cat\n'
    files = {
        ".gitattributes": "* filter=evil diff=evil merge=evil ident\n",
        ".gitconfig": evil,
        ".lfsconfig": f"[lfs]\n\turl = {git_server.url('lfs')}\n{evil}",
        "hooks/post-checkout": f"#!/bin/sh\ntouch {mark}\n",
        "a.txt": "a\n",
        "big.bin": "version https://git-lfs.github.com/spec/v1\noid sha256:" + "0" * 64 + "\nsize 12345\n",
    }
    git_server.new("evil", files)
    async with place().checkout(git_server.spec("evil")) as checkout:
        assert (checkout.path / "a.txt").read_text() == "a\n"
        assert not (checkout.path / ".git" / "hooks").exists()
        assert any("Git LFS" in warning for warning in checkout.warnings)
    assert not mark.exists()
    assert [each for each in git_server.requests if "/lfs" in each] == ["POST /lfs/objects/batch"]


@pytest.mark.attack("build: trees")
def test_names_with_control_characters_reach_no_terminal() -> None:
    name = b"100644 blob 1111111111111111111111111111111111111111 1\t\x1b]0;owned\x07\xe2\x80\xae/.git/x\0"
    with pytest.raises(CheckoutFailed) as caught:
        check_paths(parse_listing(name), "a\x1b[31mb")
    assert caught.value.message.isprintable()
