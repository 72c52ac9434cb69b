from __future__ import annotations

import re

import pytest

from tljh_plugin import errors


def all_errors() -> list[type[errors.BinderError]]:
    return sorted(set(errors._by_code().values()), key=lambda kind: kind.__name__)


@pytest.mark.parametrize("kind", all_errors())
def test_an_error_arrives_in_another_process_as_itself(kind: type[errors.BinderError]) -> None:
    sent = kind("branch `x` is not there", "Choose another.")
    arrived = errors.from_dict(sent.to_dict())
    assert type(arrived) is kind
    assert (arrived.message, arrived.next_step, arrived.code) == (sent.message, sent.next_step, sent.code)


def test_an_explained_build_failure_stays_a_build_failure() -> None:
    arrived = errors.from_dict(
        errors.BuildFailed("no `nump`", "Did you mean numpy?", code="build-package-missing").to_dict()
    )
    assert isinstance(arrived, errors.BuildFailed)
    assert arrived.code == "build-package-missing"


def test_a_code_of_a_newer_version_is_kept() -> None:
    arrived = errors.from_dict({"code": "made-up-later", "message": "m", "next": "n"})
    assert isinstance(arrived, errors.UnknownRemoteError)
    assert arrived.to_dict() == {"code": "made-up-later", "message": "m", "next": "n"}


@pytest.mark.parametrize("kind", all_errors())
def test_codes_are_words_with_hyphens_and_statuses_are_errors(kind: type[errors.BinderError]) -> None:
    assert re.fullmatch(r"[a-z]+(-[a-z]+)*", kind.code)
    assert 400 <= kind.http_status < 600


def test_the_tree_in_the_docstring_is_the_tree() -> None:
    drawn = set(re.findall(r"[├└│─\s]([A-Z]\w+)", errors.__doc__ or ""))
    missing = (
        {kind.__name__ for kind in all_errors()} - drawn - {"BinderError", "BuildError", "UnknownRemoteError"}
    )
    assert not missing
