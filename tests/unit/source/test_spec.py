"""Links and what people type: the same repository, whatever the spelling, and nothing else."""

from __future__ import annotations

import time
from collections.abc import Callable
from urllib.parse import parse_qs, quote, urlsplit

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from tljh_plugin.errors import InvalidSpec
from tljh_plugin.launch.options import LaunchOptions
from tljh_plugin.source.providers import without_user
from tljh_plugin.source.spec import LaunchLink, RepoSpec, open_file, parse_link, parse_typed, valid_ref

NAMES = st.text(alphabet="abcXYZ019-_.", min_size=1, max_size=12).filter(
    lambda name: name[0].isalnum() and name not in (".", "..") and not name.endswith(".git")
)
ANYTHING = st.text(alphabet=st.characters(exclude_categories=("Cs", "Cc")), min_size=1, max_size=15).filter(
    lambda text: text not in (".", "..") and "/" not in text and "\\" not in text
)
REFS = st.one_of(
    st.just(""),
    st.lists(st.text(alphabet="abc1.-#%ü&=+,;@()", min_size=1, max_size=6), min_size=1, max_size=4)
    .map("/".join)
    .filter(valid_ref),
)
FOLDERS = st.lists(ANYTHING, max_size=3).map("/".join).filter(lambda path: ".git" not in path.lower())
FILES = st.lists(ANYTHING, min_size=1, max_size=3).map("/".join)


@st.composite
def specs(draw: st.DrawFn) -> RepoSpec:
    kind = draw(st.sampled_from(["gh", "gl", "git", "local"]))
    if kind == "gh":
        repository = f"{draw(NAMES)}/{draw(NAMES)}".replace("_/", "a/").replace(".", "-", 1)
        repository = repository if "." not in repository.split("/")[0] else "owner/name"
    elif kind == "gl":
        repository = "/".join(draw(st.lists(NAMES, min_size=2, max_size=4)))
    elif kind == "git":
        path = "/".join(quote(part, safe="") for part in draw(st.lists(ANYTHING, min_size=1, max_size=3)))
        repository = f"https://git.example.org/{path}"
    else:
        repository = "/" + "/".join(draw(st.lists(ANYTHING, min_size=1, max_size=3)))
    return RepoSpec(kind, repository, draw(REFS), draw(FOLDERS))  # type: ignore[arg-type]


@given(specs())
def test_the_path_of_a_spec_is_read_back_as_the_same_spec(spec: RepoSpec) -> None:
    assert parse_link(spec.path) == spec
    assert spec.path.isascii()
    assert parse_link(spec.path).path == spec.path


@given(specs())
def test_what_was_typed_may_be_the_path_of_a_link(spec: RepoSpec) -> None:
    assert parse_typed(spec.path).spec == spec
    assert parse_typed(f"https://hub.example.org/services/binder/v2/{spec.path}").spec == spec


@given(specs(), FILES, st.sampled_from(["", "project", "ephemeral"]))
@example(RepoSpec("gh", "o/r"), "a b#c?d%20e/ü&x=1.ipynb", "ephemeral")
def test_a_launch_link_survives_its_own_url(spec: RepoSpec, file: str, storage: str) -> None:
    link = LaunchLink(spec, open_file(file), storage, "my-server", "new")  # type: ignore[arg-type]
    url = urlsplit(link.to_url("http://binder.localhost:8888"))
    again = LaunchLink.from_request(url.path.removeprefix("/v2/"), parse_qs(url.query))
    assert again == link
    assert LaunchOptions(repository=spec.path, path=link.open_path).path == link.open_path


def refusal(parse: Callable[[str], object], text: str) -> InvalidSpec | None:
    try:
        parse(text)
    except InvalidSpec as error:
        return error
    return None


@given(st.text(max_size=300))
def test_any_text_is_understood_or_refused_with_reason_and_next_step(text: str) -> None:
    for parse in (parse_typed, parse_link):
        error = refusal(parse, text)
        assert error is None or (error.message.isprintable() and error.next_step)


@pytest.mark.parametrize(
    ("typed", "path"),
    [
        ("owner/repo", "gh/owner/repo/HEAD"),
        ("gh/foo", "gh/gh/foo/HEAD"),
        ("git/git", "gh/git/git/HEAD"),
        ("https://github.com/owner/repo", "gh/owner/repo/HEAD"),
        ("http://www.github.com/owner/repo.git/", "gh/owner/repo/HEAD"),
        ("github.com/owner/repo", "gh/owner/repo/HEAD"),
        ("git@github.com:owner/repo.git", "gh/owner/repo/HEAD"),
        ("ssh://git@github.com:22/owner/repo.git", "gh/owner/repo/HEAD"),
        ("https://github.com/owner/repo/tree/main", "gh/owner/repo/main"),
        ("https://github.com/owner/repo/tree/feature/x", "gh/owner/repo/feature/x"),
        ("https://github.com/owner/repo/pull/12/files", "gh/owner/repo/refs/pull/12/head"),
        ("https://github.com/owner/repo/commit/" + "a" * 40, "gh/owner/repo/" + "a" * 40),
        ("https://github.com/owner/repo/releases/tag/v1.0", "gh/owner/repo/refs/tags/v1.0"),
        ("https://github.com/owner/repo?tab=readme-ov-file#readme", "gh/owner/repo/HEAD"),
        ("https://gitlab.com/group/sub/repo", "gl/group%2Fsub%2Frepo/HEAD"),
        ("https://gitlab.com/group/repo/-/merge_requests/3", "gl/group%2Frepo/refs/merge-requests/3/head"),
        ("gh/owner/repo/feature/x", "gh/owner/repo/feature/x"),
        ("v2/gh/owner/repo/main", "gh/owner/repo/main"),
        ("mybinder.org/v2/gh/owner/repo/main", "gh/owner/repo/main"),
        (
            "[![Binder](https://mybinder.org/badge_logo.svg)](https://mybinder.org/v2/gh/owner/repo/main)",
            "gh/owner/repo/main",
        ),
        (
            ".. image:: https://mybinder.org/badge_logo.svg\n :target: https://mybinder.org/v2/gh/owner/repo/main",
            "gh/owner/repo/main",
        ),
        ('<a href="https://mybinder.org/v2/gh/owner/repo/main">x</a>', "gh/owner/repo/main"),
        ("  https://github.com/owner/repo \n", "gh/owner/repo/HEAD"),
        (
            "git@git.example.org:group/repo.git",
            "git/ssh%3A%2F%2Fgit%40git.example.org%2Fgroup%2Frepo.git/HEAD",
        ),
        ("https://git.example.org/r.git", "git/https%3A%2F%2Fgit.example.org%2Fr.git/HEAD"),
        (
            "https://Git.Example.org:443/a b/ü.git",
            "git/https%3A%2F%2Fgit.example.org%2Fa%2520b%2F%25C3%25BC.git/HEAD",
        ),
        ("https://codeberg.org/o/r/src/branch/main/docs", "git/https%3A%2F%2Fcodeberg.org%2Fo%2Fr/main"),
        ("/home/ada/my work/", "local/%2Fhome%2Fada%2Fmy%20work"),
        ("local/%2Fhome%2Fada%2Fwork/main", "local/%2Fhome%2Fada%2Fwork/main"),
        ("image/jupyter/scipy-notebook:latest", "image/jupyter/scipy-notebook:latest"),
    ],
)
def test_what_people_type_becomes_one_spelling(typed: str, path: str) -> None:
    assert parse_typed(typed).spec.path == path


@pytest.mark.parametrize(
    ("typed", "open_path"),
    [
        ("https://github.com/o/r/blob/main/a%20b/c%23d.ipynb", "lab/tree/a%20b/c%23d.ipynb"),
        ("https://github.com/o/r/tree/main/docs", "lab/tree/docs"),
        ("https://gitlab.com/g/r/-/blob/main/x.ipynb", "lab/tree/x.ipynb"),
        ("https://mybinder.org/v2/gh/o/r/main?labpath=a%20b%23c%3Fd.ipynb", "lab/tree/a%20b%23c%3Fd.ipynb"),
        ("https://mybinder.org/v2/gh/o/r/main?filepath=x.ipynb", "tree/x.ipynb"),
        ("https://mybinder.org/v2/gh/o/r/main?urlpath=/lab/tree/x.ipynb", "lab/tree/x.ipynb"),
        ("https://mybinder.org/v2/gh/o/r/main?filepath=x&labpath=y&urlpath=z", "lab/tree/y"),
        (
            "https://mybinder.org/v2/gh/o/r/main?urlpath=git-pull%3Frepo%3Dhttps%253A%252F%252Fh.org%252Fr",
            "git-pull?repo=https%3A%2F%2Fh.org%2Fr",
        ),
    ],
)
def test_what_is_to_be_opened_arrives_intact(typed: str, open_path: str) -> None:
    assert parse_typed(typed).open_path == open_path


@pytest.mark.parametrize(
    "text",
    [
        "",
        "   ",
        "foo",
        "../etc",
        "o/r/main",
        "--upload-pack=touch /tmp/x",
        "-oProxyCommand=x",
        "ext::sh -c id",
        "ext::sh",
        "file:///etc",
        "git://h.org/x",
        "ftp://h.org/x",
        "https://h.org",
        "https://h.org/a/../b",
        "https://h.org/a/%2e%2e/b",
        "https://h.org:0/x",
        "https://h.org:99999/x",
        "https://h org/x",
        "https:///x",
        "https://-h.org/x",
        "https://h.org/x\\y",
        "https://h.org/x?ref=main",
        "a\x00b",
        "https://h.org/\x1b[31m",
        "x" * 10_000,
        "https://h.org/" + "x" * 10_000,
        "gist/user/1234",
        "https://gist.github.com/user/1234",
        "10.5281/zenodo.3242074",
        "https://doi.org/10.5281/zenodo.3242074",
        "zenodo/10.5281/zenodo.3242074",
        "https://github.com/owner",
        "gl/group/repo/main",
        "/home/ada/../root",
        "https://h.org/\ud800",
        "gh/o/r/a..b",
        "gh/o/r/a%20b",
        "gh/o/r/-x",
        "gh/o/r/x.lock",
        "gh/o/r/a%00b",
        "gh/o/r/%ff",
        "image/UPPER",
    ],
)
def test_nonsense_is_refused_showing_what_was_given(text: str) -> None:
    with pytest.raises(InvalidSpec) as caught:
        parse_typed(text)
    assert caught.value.next_step
    assert caught.value.message.isprintable()
    assert len(caught.value.message) < 500


@pytest.mark.parametrize(
    "text",
    [
        "https://ada:s3cret@h.org/x",
        "https://ada:s3/cret@h.org/x",
        "https://ada:s3 cret@h.org/x",
        "https://s3cret@github.com/o/r",
        "https://ghp_s3cret89abcdefghij0123456789@github.com/o/r",
        "o/r?x=ghp_s3cret89abcdefghij0123456789",
        "ada:s3cret@github.com/o/r",
        "ssh://ada:s3cret@h.org/x",
        "git/https%3A%2F%2Fada%3As3cret%40h.org%2Fx/main",
        "git/https%253A%252F%252Fada%253As3cret%2540h.org%252Fx/main",
        "https://mybinder.org/v2/git/https%3A%2F%2Fada%3As3cret%40h.org%2Fx/main",
        "https://h.org/x?private_token=s3cret",
        "https://h.org/x?ACCESS_TOKEN=s3cret&a=b",
    ],
)
def test_credentials_are_refused_and_never_shown(text: str) -> None:
    with pytest.raises(InvalidSpec) as caught:
        parse_typed(text)
    shown = f"{caught.value} {caught.value.to_dict()}"
    assert "s3" not in shown
    assert "cret" not in shown.replace("secret", "")


def test_a_refused_credential_says_what_to_do() -> None:
    with pytest.raises(InvalidSpec, match="Give the address without user name, password and token"):
        parse_typed("https://ada:s3cret@h.org/x")


@pytest.mark.parametrize(
    "path",
    [
        "https://evil.org/",
        "//evil.org/",
        "/\\evil.org",
        "\\\\evil.org",
        "javascript:alert(1)",
        " javascript:alert(1)",
        "../../hub/logout",
        "lab/%2e%2e/%2E./x",
        "lab\r\nLocation: x",
        "lab/%5c..",
    ],
)
def test_nothing_is_opened_but_a_path_on_the_own_server(path: str) -> None:
    with pytest.raises(InvalidSpec, match="not a path on your own server"):
        LaunchLink.from_request("gh/o/r/main", {"urlpath": [path]})


@pytest.mark.parametrize("subdir", ["..", "a/../../b", "a\\b", "a/.git", "a\x00"])
def test_a_subfolder_cannot_leave_the_repository(subdir: str) -> None:
    with pytest.raises(InvalidSpec):
        LaunchLink.from_request("gh/o/r/main", {"subdir": [subdir]})


def test_a_subfolder_is_part_of_the_spec_and_of_its_path() -> None:
    link = LaunchLink.from_request("gh/o/r/main", {"subdir": ["/course//week 1/"]})
    assert link.spec.subdir == "course/week 1"
    assert link.spec.path == "gh/o/r/main?subdir=course/week%201"
    assert link.to_url("https://h.org/") == "https://h.org/v2/gh/o/r/main?subdir=course/week%201"


@pytest.mark.parametrize("server", ["A", "a--b", "1a", "a" * 31, "a b", "../x"])
def test_a_server_gets_no_name_that_the_hub_would_refuse(server: str) -> None:
    with pytest.raises(InvalidSpec, match="not a name for a server"):
        LaunchLink.from_request("gh/o/r/main", {"server": [server]})


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("https://github.com/Owner/Repo.git", "gh/owner/repo/main"),
        ("git/https%3A%2F%2Fgithub.com%2Fowner%2Frepo.git/main", "gh/owner/repo/x"),
        ("https://gitlab.com/Group/Repo", "gl/group%2Frepo/main"),
        ("https://H.org:443/x/", "https://h.org//x"),
        ("https://h.org/%7ex", "https://h.org/~x"),
    ],
)
def test_one_repository_has_one_normal_url(one: str, other: str) -> None:
    assert parse_typed(one).spec.normal_url == parse_typed(other).spec.normal_url


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("https://h.org/x", "https://h.org/X"),
        ("https://h.org/x", "https://h.org/x.git"),
        ("https://h.org/x", "https://h.org:8443/x"),
        ("https://h.org/a%2Fb", "https://h.org/a/b"),
        ("https://h.org/a/b", "https://h.org/a-b"),
        ("/home/a b", "/home/a%20b"),
    ],
)
def test_different_repositories_have_different_normal_urls(one: str, other: str) -> None:
    assert parse_typed(one).spec.normal_url != parse_typed(other).spec.normal_url


def test_pages_for_people() -> None:
    spec = RepoSpec("gh", "o/r", "feature/x y".replace(" ", "#"), "week 1")
    assert spec.page_url == "https://github.com/o/r/tree/feature/x%23y/week%201"
    assert spec.display == "github.com/o/r"
    assert RepoSpec("gl", "g/s/r", "main").page_url == "https://gitlab.com/g/s/r/-/tree/main"
    assert RepoSpec("git", "https://h.org/x.git").page_url == "https://h.org/x"
    assert RepoSpec("git", "ssh://git@h.org/x").page_url == ""
    assert RepoSpec("git", "ssh://git@h.org/x").display == "h.org/x"
    assert RepoSpec("local", "/home/ada/x").page_url == ""
    assert RepoSpec("local", "/home/a:b@c/x").display == "/home/a:b@c/x"
    assert (
        RepoSpec("gh", "o/glass-painting-for-everybody").display
        == "github.com/o/glass-painting-for-everybody"
    )


def test_head_is_the_default_branch() -> None:
    assert parse_link("gh/o/r/HEAD") == parse_link("gh/o/r") == RepoSpec("gh", "o/r")
    assert RepoSpec("gh", "o/r").with_ref("v1").path == "gh/o/r/v1"


def test_long_hostile_texts_take_no_time() -> None:
    for piece in ("x", "token", ":", "@", "/", "%", "a@:", "v2/gh/", "https://", "((", "?a=", " "):
        text = piece * (20_000 // len(piece))
        began = time.process_time()
        for parse in (parse_typed, parse_link):
            refusal(parse, text)
        assert time.process_time() - began < 1.0, piece


@pytest.mark.parametrize(
    ("text", "without"),
    [
        ("https://ann:pw@host/x", "https://host/x"),
        ("https://ann:p@ss:/word@host/x", "https://host/x"),
        ("git@host:x", "git@host:x"),
        ("https://host/x", "https://host/x"),
        ("see https://a\nhttps://ann:pw@host/x", "see https://a\nhttps://host/x"),
    ],
)
def test_an_address_is_shown_again_without_its_user(text: str, without: str) -> None:
    assert without_user(text) == without


def test_texts_that_are_much_too_long_take_no_time() -> None:
    began = time.process_time()
    assert without_user("://" * 100_000 + "\n@").endswith("\n@")
    refusal(lambda text: LaunchLink(RepoSpec("gh", "o/r"), text), "%" + "25" * 2_000_000)
    assert time.process_time() - began < 1.0
