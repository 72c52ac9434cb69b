"""Bodies of the API: bounded elsewhere, strict here."""

from __future__ import annotations

import json

import pytest

from tljh_plugin import request_ids
from tljh_plugin.errors import Forbidden, InvalidRequest, UnexpectedFailure
from tljh_plugin.service.handler import explain, parse_body
from tljh_plugin.wire import BuildRequest


def parse(text: str | bytes, kind: str = "application/json") -> BuildRequest:
    return parse_body(text.encode() if isinstance(text, str) else text, kind, BuildRequest)


def test_a_good_body_is_read() -> None:
    assert parse('{"spec": "gh/o/r/main", "rebuild": true}').rebuild is True
    assert parse('{"spec": "ü"}', "application/json; charset=utf-8").spec == "ü"


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "not valid JSON"),
        ("[]", "must be a JSON object"),
        ('{"spec": "a", "spec": "b"}', "same key twice"),
        ('{"spec": "a", "comit": "b"}', "`comit` (value 'b')"),
        ('{"spec": 5}', "`spec` has the value 5"),
        ('{"spec": "a", "rebuild": "yes"}', "`rebuild` has the value 'yes'"),
        ('{"spec": "a", "version": NaN}', "NaN"),
        ("{}", "`spec`"),
        ("[" * 100_000, "not valid JSON"),
        (b'{"spec": "\xff"}', "not valid JSON"),
    ],
)
def test_a_bad_body_is_refused_with_what_was_wrong(text: str | bytes, said: str) -> None:
    with pytest.raises(InvalidRequest) as caught:
        parse(text)
    assert said in caught.value.message
    assert caught.value.next_step


@pytest.mark.parametrize("kind", ["", "text/plain", "application/x-www-form-urlencoded"])
def test_only_declared_json_is_json(kind: str) -> None:
    # What another site's form can send without asking first is never taken for JSON.
    with pytest.raises(InvalidRequest):
        parse('{"spec": "a"}', kind)


def test_an_unexpected_exception_gets_an_id_that_is_in_the_log(caplog: pytest.LogCaptureFixture) -> None:
    try:
        json.loads("{")
    except ValueError as error:
        told = explain(error, "GET /x")
    assert isinstance(told, UnexpectedFailure)
    number = told.next_step.split()[-1].rstrip(".")
    assert request_ids.valid(number)
    assert number in caplog.text
    assert "JSONDecodeError" in caplog.text
    assert "JSONDecodeError" not in str(told)


def test_an_error_of_ours_is_told_as_it_is() -> None:
    error = Forbidden("no", "ask")
    assert explain(error, "GET /x") is error
