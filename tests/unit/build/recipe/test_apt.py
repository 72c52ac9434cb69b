"""Only names of packages get from apt.txt to a root shell."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tljh_plugin.build.recipe.apt import parse_apt
from tljh_plugin.errors import BuildFailed


def test_names_are_sorted_and_comments_left_out() -> None:
    text = "vim  # an editor\n\n# nothing\ng++\nlibstdc++6\nless git\nvim\n"
    assert parse_apt(text) == ("g++", "git", "less", "libstdc++6", "vim")


def test_versions_releases_and_architectures_may_be_named() -> None:
    assert parse_apt("git=1:2.39.5-0+deb12u2\nfoo/bookworm-backports\nlibc6:amd64\n") == (
        "foo/bookworm-backports",
        "git=1:2.39.5-0+deb12u2",
        "libc6:amd64",
    )


@pytest.mark.parametrize(
    "line",
    [
        "less; id",
        "-o=Dpkg::x",
        "--allow-downgrades",
        "less&&id",
        "less|sh",
        "$(id)",
        "`id`",
        "vim-",
        "Vim",
        "a=$(id)",
        "é",
    ],
)
def test_anything_else_is_refused_with_its_line(line: str) -> None:
    with pytest.raises(BuildFailed, match=r"Line 2 of apt\.txt") as caught:
        parse_apt(f"git\n{line}\n")
    assert caught.value.code == "build-apt-name"


@given(st.text(max_size=60))
def test_no_text_brings_a_letter_that_a_shell_understands(text: str) -> None:
    try:
        packages = parse_apt(text)
    except BuildFailed:
        return
    assert not set("".join(packages)) & set(" ;&|$`<>()'\"\\\n*?[]{}!#")
    assert not any(name.startswith("-") or name.endswith("-") for name in packages)
