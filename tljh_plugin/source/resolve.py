"""From a ref to a commit."""

from __future__ import annotations

from dataclasses import dataclass

from .spec import RepoSpec


@dataclass(frozen=True)
class PinnedRepo:
    """A repository at exactly one commit.

    `url` is `spec.normal_url`, the URL of the image's identity; `commit` has 40 or 64 hexadecimal digits;
    `ref_found` is the full ref that led there (`refs/heads/main`, `HEAD`), empty where a commit was given.
    """

    spec: RepoSpec
    url: str
    commit: str
    ref_found: str = ""
