"""Where a submodule comes from, by the rules of git-submodule(1)."""

from __future__ import annotations

import pytest

from tljh_plugin.errors import InvalidSpec
from tljh_plugin.source.spec import RepoSpec
from tljh_plugin.source.submodules import address_of

PARENT = RepoSpec("gh", "owner/repo")


@pytest.mark.parametrize(
    ("address", "url"),
    [
        ("../other", "https://github.com/owner/other"),
        ("../../else/other.git", "https://github.com/else/other.git"),
        ("./below", "https://github.com/owner/repo/below"),
        ("https://h.org/x.git", "https://h.org/x.git"),
        ("git@github.com:o/r.git", "https://github.com/o/r"),
        ("git@h.org:g/r.git", "ssh://git@h.org/g/r.git"),
    ],
)
def test_addresses_are_taken_relative_to_the_parent(address: str, url: str) -> None:
    assert address_of(address, PARENT, "sub").clone_url == url


@pytest.mark.parametrize(
    "address", ["../../../../x", "/etc", "file:///etc", "ext::sh -c id", "-x", "https://a:b@h.org/x", ""]
)
def test_addresses_that_are_never_cloned_from_name_the_submodule(address: str) -> None:
    with pytest.raises(InvalidSpec, match="The submodule `sub`"):
        address_of(address, PARENT, "sub")


def test_a_local_parent_may_have_local_submodules() -> None:
    assert address_of("../b", RepoSpec("local", "/srv/a"), "sub") == RepoSpec("local", "/srv/b")
