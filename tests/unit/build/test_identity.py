"""Promises of the identity of images."""

from __future__ import annotations

import re
from itertools import islice

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tljh_plugin.build.identity import (
    ImageIdentity,
    building_name,
    foreign_labels,
    image_names,
    labels_for,
    platform_of,
    slug,
    verify,
)
from tljh_plugin.errors import InvalidSpec
from tljh_plugin.labels import INSTANCE_LABEL, LABEL_PREFIX

COMMIT = "0123456789abcdef0123456789abcdef01234567"
SECRET = b"s" * 32
ONE = ImageIdentity("https://github.com/owner/repo", COMMIT, "", "linux/amd64")

urls = st.text(min_size=1, max_size=80)
folders = st.from_regex(r"[a-z0-9]{1,8}(/[a-z0-9]{1,8}){0,3}", fullmatch=True) | st.just("")
commits = st.from_regex(r"[0-9a-f]{40}", fullmatch=True)
identities = st.builds(ImageIdentity, urls, commits, folders, st.sampled_from(["linux/amd64", "linux/arm64"]))


@given(identities, identities)
def test_only_equal_identities_have_equal_keys(one: ImageIdentity, other: ImageIdentity) -> None:
    assert (one.key == other.key) == (one == other)


def test_parts_cannot_run_together() -> None:
    joined = ImageIdentity('u", "x', COMMIT, "", "p")
    assert joined.key != ImageIdentity("u", COMMIT, "", "p").key
    assert ImageIdentity("u", COMMIT, "a", "b").key != ImageIdentity("u", COMMIT, "ab", "").key


@given(identities, st.text(max_size=80), st.text(min_size=1, max_size=20))
def test_a_name_is_always_one_that_docker_takes(one: ImageIdentity, recipe: str, instance: str) -> None:
    for name in islice(image_names(one, recipe, instance), 4):
        assert re.fullmatch(
            r"littlest-binder/[a-z0-9]+(-[a-z0-9]+)*:[0-9a-f]{12}-[0-9a-f]{8}(-[0-9a-f]{8}(-[0-9]+)?)?", name
        )
        repository, tag = name.split(":")
        assert len(repository) <= 128
        assert len(tag) <= 128


def test_the_name_is_readable_and_carries_identity_and_recipe() -> None:
    name = next(image_names(ONE, "ab" * 32, "me"))
    assert name == f"littlest-binder/owner-repo:{ONE.key[:12]}-abababab"


def test_another_installation_gets_other_suffixes() -> None:
    mine = list(islice(image_names(ONE, "r", "me"), 3))
    theirs = list(islice(image_names(ONE, "r", "they"), 3))
    assert mine[0] == theirs[0]
    assert not set(mine[1:]) & set(theirs[1:])


@pytest.mark.parametrize(
    ("url", "subdir", "shown"),
    [
        ("https://github.com/Owner/Repo.git", "", "owner-repo"),
        ("https://gitlab.com/group/sub/project", "", "sub-project"),
        ("file:///srv/Über%20uns", "", "srv-ber-20uns"),
        ("https://github.com/o/r", "a/notebooks", "o-r-notebooks"),
        ("https://host/", "", "repository"),
        ("https://github.com/" + "x" * 200 + "/r", "", "x" * 60),
    ],
)
def test_slugs(url: str, subdir: str, shown: str) -> None:
    assert slug(url, subdir) == shown


@pytest.mark.parametrize("commit", ["main", COMMIT[:12], COMMIT + "0", COMMIT.upper(), COMMIT + "\n", ""])
def test_only_a_full_commit_is_taken(commit: str) -> None:
    with pytest.raises(InvalidSpec, match="full commit"):
        ImageIdentity("u", commit, "", "linux/amd64")


@pytest.mark.parametrize("subdir", ["..", "a/../..", "/etc", "a/.."])
def test_a_subdir_cannot_leave(subdir: str) -> None:
    with pytest.raises(InvalidSpec, match="leaves"):
        ImageIdentity("u", COMMIT, subdir, "linux/amd64")


def test_spellings_of_a_subdir_are_one() -> None:
    assert ImageIdentity("u", COMMIT, "./a//b/", "p") == ImageIdentity("u", COMMIT, "a/b", "p")


def test_docker_and_the_kernel_name_the_same_platform() -> None:
    assert platform_of("x86_64") == platform_of("amd64") == "linux/amd64"
    assert platform_of("aarch64") == platform_of("arm64") == "linux/arm64"


def some_labels() -> dict[str, str]:
    return labels_for(ONE, spec="gh/owner/repo/" + COMMIT, ref="main", recipe="r1", secret=SECRET)


def test_labels_are_signed_and_equal_for_equal_builds() -> None:
    labels = some_labels()
    assert verify({**labels, "maintainer": "somebody"}, SECRET)
    assert labels == some_labels()  # no time in them: the same commit gives the same image
    assert all(key.startswith(LABEL_PREFIX) for key in labels)
    assert INSTANCE_LABEL not in labels


def test_what_is_made_for_one_person_alone_is_another_image_and_does_not_say_whose() -> None:
    def labels_of(audience: str) -> dict[str, str]:
        return labels_for(ONE, spec="x", ref="main", recipe="r1", secret=SECRET, audience=audience)

    ada, bob, everyone = labels_of("ada"), labels_of("bob"), labels_of("")
    assert len({str(sorted(labels.items())) for labels in (ada, bob, everyone)}) == 3
    assert ada == labels_of("ada")
    assert all(verify(labels, SECRET) for labels in (ada, bob, everyone))
    assert "ada" not in str(ada)


@given(st.sampled_from(sorted(some_labels())), st.text())
def test_a_changed_label_is_noticed(key: str, value: str) -> None:
    labels = some_labels()
    assert verify({**labels, key: value}, SECRET) == (labels[key] == value)


@given(st.text(max_size=20), st.text(max_size=20))
def test_an_added_label_of_ours_is_noticed(key: str, value: str) -> None:
    labels = some_labels()
    added = LABEL_PREFIX + key
    if added not in labels:
        assert not verify({**labels, added: value}, SECRET)
        assert foreign_labels({**labels, added: value}, labels) == [added]


def test_a_missing_label_and_another_secret_are_noticed() -> None:
    labels = some_labels()
    assert not verify(labels, b"t" * 32)
    assert not verify({}, SECRET)
    del labels[LABEL_PREFIX + "ref"]
    assert not verify(labels, SECRET)


def test_labels_of_others_are_theirs() -> None:
    labels = some_labels()
    assert foreign_labels({**labels, "maintainer": "x", "org.littlest": "y"}, labels) == []
    changed = {**labels, LABEL_PREFIX + "commit": "0" * 40}
    assert foreign_labels(changed, labels) == [LABEL_PREFIX + "commit"]
    assert foreign_labels({}, labels) == sorted(labels)


def test_the_name_during_the_build_belongs_to_one_build() -> None:
    assert building_name("b-20261121-1a2b3c4d5e") == "littlest-binder/building:b-20261121-1a2b3c4d5e"
