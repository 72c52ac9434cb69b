"""What a commit may hold before it is written."""

from __future__ import annotations

from pathlib import Path

import pytest

from tljh_plugin.errors import CheckoutFailed, RepositoryTooLarge
from tljh_plugin.settings import SourceSettings
from tljh_plugin.source.files import Budget, Entry, check_links, check_paths, check_sizes, parse_listing


def entries(*paths: str, size: int = 1) -> list[Entry]:
    return [Entry(path, "100644", "0" * 40, size) for path in paths]


def test_a_listing_is_read_with_any_name() -> None:
    listed = parse_listing(
        b"100644 blob aa      12\ta b\n\xff.txt\x00"
        b"120000 blob bb       3\tlink\x00160000 commit cc       -\tsub\x00"
    )
    assert [(e.path, e.mode, e.object, e.size) for e in listed] == [
        ("a b\n\udcff.txt", "100644", "aa", 12),
        ("link", "120000", "bb", 3),
        ("sub", "160000", "cc", 0),
    ]


@pytest.mark.parametrize(
    "path", ["../x", "a/../../x", "/etc/passwd", ".git/config", "a/.GIT/hooks/x", "a//b", ".", "a/./b"]
)
def test_paths_that_lead_elsewhere_are_refused(path: str) -> None:
    with pytest.raises(CheckoutFailed, match="cannot have"):
        check_paths(entries("a.txt", path), "repo")


def test_one_path_cannot_be_two_things() -> None:
    with pytest.raises(CheckoutFailed, match="twice"):
        check_paths(entries("a", "a"), "repo")
    with pytest.raises(CheckoutFailed, match="a file and a folder"):
        check_paths(entries("a", "a/b"), "repo")
    check_paths(entries("a/b/c", "a/b/d", "a/e", "b"), "repo")


def test_limits_name_the_largest_file_and_the_setting() -> None:
    limits = SourceSettings(max_file_bytes=100, max_checkout_bytes=150, max_files=3)
    budget = Budget.of(limits)
    check_sizes(entries("a", "b", "c", size=50), "repo", limits, budget)
    with pytest.raises(RepositoryTooLarge, match="4 files"):
        check_sizes(entries("a", "b", "c", "d"), "repo", limits, budget)
    with pytest.raises(RepositoryTooLarge, match=r"`big\.bin`") as caught:
        check_sizes([*entries("a"), *entries("big.bin", size=101)], "repo", limits, budget)
    assert "binder.source.max_file_bytes" in caught.value.next_step
    with pytest.raises(RepositoryTooLarge) as caught:
        check_sizes(entries("a", "b", size=80), "repo", limits, budget)
    assert "binder.source.max_checkout_bytes" in caught.value.next_step


def test_submodules_share_the_limits() -> None:
    limits = SourceSettings(max_files=3)
    left = Budget.of(limits).less(entries("a", "b"))
    with pytest.raises(RepositoryTooLarge):
        check_sizes(entries("c", "d"), "repo", limits, left)


@pytest.mark.parametrize("name", ["Dockerfile", "apt.txt", "binder/requirements.txt", ".binder/postBuild"])
@pytest.mark.parametrize("target", ["/etc/hostname", "../../outside", "inner/../../../outside"])
def test_a_file_that_is_read_on_the_host_may_not_be_a_link_out(
    tmp_path: Path, name: str, target: str
) -> None:
    root = tmp_path / "checkout"
    (root / name).parent.mkdir(parents=True)
    (root / name).symlink_to(target)
    with pytest.raises(CheckoutFailed) as caught:
        check_links(root, "")
    assert name in caught.value.message
    assert target in caught.value.message


def test_a_configuration_folder_may_not_be_a_link_out(tmp_path: Path) -> None:
    root = tmp_path / "checkout"
    root.mkdir()
    (root / "binder").symlink_to("/etc")
    with pytest.raises(CheckoutFailed, match=r"`binder` is a link to `/etc`"):
        check_links(root, "")


def test_links_that_stay_inside_and_other_links_are_content(tmp_path: Path) -> None:
    root = tmp_path / "checkout"
    (root / "config").mkdir(parents=True)
    (root / "config" / "apt.txt").write_text("")
    (root / "apt.txt").symlink_to("config/apt.txt")
    (root / "binder").symlink_to("config")
    (root / "data").symlink_to("/srv/data")
    (root / "start").symlink_to("not-there")
    check_links(root, "")


def test_a_subfolder_must_exist_and_stay_inside(tmp_path: Path) -> None:
    root = tmp_path / "checkout"
    (root / "course").mkdir(parents=True)
    (root / "out").symlink_to("/etc")
    (root / "course" / "apt.txt").symlink_to("/etc/hostname")
    check_links(root, "")
    with pytest.raises(CheckoutFailed, match="link to `/etc/hostname`"):
        check_links(root, "course")
    with pytest.raises(CheckoutFailed, match="`out` is a link to `/etc`"):
        check_links(root, "out")
    with pytest.raises(CheckoutFailed, match="no folder `none`"):
        check_links(root, "none")
