"""Promises of the pipeline that need neither git nor Docker."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from tljh_plugin.build.pipeline import cache_namespace, dockerfile_allowed
from tljh_plugin.settings import Settings, from_mapping
from tljh_plugin.store import BuildRow

ROW = BuildRow(
    id="b-1",
    identity="i",
    url="https://github.com/owner/repo",
    commit="c" * 40,
    subdir="",
    platform="linux/amd64",
    spec="gh/owner/repo/main",
    asked_ref="main",
    requested_by="ann",
    created="",
)


def settings(platform: str, **policy: object) -> Settings:
    return from_mapping({"policy": policy}, platform=platform, state_dir=Path("/nonexistent"))


@pytest.mark.parametrize(
    ("platform", "policy", "allowed"),
    [
        ("desktop", {}, True),
        ("tljh", {}, False),
        ("tljh", {"dockerfile_repositories": ("https://github.com/owner/*",)}, True),
        ("tljh", {"dockerfile_repositories": ("https://github.com/own",)}, False),
        ("tljh", {"dockerfile": "everyone"}, True),
        ("desktop", {"dockerfile": "off", "dockerfile_repositories": ("*",)}, False),
    ],
)
def test_whose_dockerfiles_are_built(platform: str, policy: dict[str, object], allowed: bool) -> None:
    assert dockerfile_allowed(settings(platform, **policy), ROW.url) is allowed


@pytest.mark.parametrize("ref", ["", "v1.0", "feature/x", "refs/heads/main", "refs/tags/v1", "reference"])
def test_branches_and_tags_of_one_repository_share_their_caches(ref: str) -> None:
    other = replace(ROW, asked_ref=ref, commit="d" * 40, requested_by="bob")
    assert cache_namespace("me", other) == cache_namespace("me", ROW)


@pytest.mark.parametrize(
    "ref", ["refs/pull/1/head", "pull/1/head", "merge-requests/7/head", "c" * 40, "C" * 40]
)
def test_what_may_be_anybodys_has_a_cache_of_its_own(ref: str) -> None:
    one = replace(ROW, asked_ref=ref)
    assert cache_namespace("me", one) != cache_namespace("me", ROW)
    assert cache_namespace("me", one) != cache_namespace("me", replace(one, commit="d" * 40))


def test_repositories_installations_and_private_builds_never_share() -> None:
    mine = replace(ROW, visibility="private")
    names = {
        cache_namespace("me", ROW),
        cache_namespace("they", ROW),
        cache_namespace("me", replace(ROW, url="https://github.com/owner/other")),
        cache_namespace("me", mine),
        cache_namespace("me", replace(mine, requested_by="bob")),
    }
    assert len(names) == 5
