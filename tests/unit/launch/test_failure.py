"""Our errors as JupyterHub shows them."""

from __future__ import annotations

import json

import pytest
from tornado.web import HTTPError

from tljh_plugin.errors import InvalidOptions, NotFound, PolicyRefused, ServerNotReady, ServiceDown, from_dict
from tljh_plugin.hub_api import ERROR_HEADER, error_headers
from tljh_plugin.launch import failure


@pytest.mark.parametrize("major", [5, 6])
def test_people_read_what_happened_and_what_to_do(major: int, monkeypatch: pytest.MonkeyPatch) -> None:
    if major == 5:
        monkeypatch.setattr(failure, "SpawnException", None)
    raised = failure.spawn_error(ServiceDown("The service is 100% down.", "Start it."))
    assert isinstance(raised, HTTPError)
    assert raised.jupyterhub_message == "The service is 100% down. Start it."  # type: ignore[attr-defined]
    assert raised.status_code == 503
    assert "100% down" in str(raised)


@pytest.mark.parametrize("major", [5, 6])
def test_the_hub_logs_it_in_one_bounded_line(major: int, monkeypatch: pytest.MonkeyPatch) -> None:
    if major == 5:
        monkeypatch.setattr(failure, "SpawnException", None)
    error = ServerNotReady("It said:\n[I JupyterHub] 200 GET /hub/login (admin)\r\x1b[2J" + "x" * 9000)
    raised = failure.spawn_error(error)
    assert str(raised).isprintable()
    assert r"said:\n[I JupyterHub]" in str(raised)
    assert len(str(raised)) < 4200
    assert raised.jupyterhub_message == str(error)  # type: ignore[attr-defined]


@pytest.mark.parametrize("error", [NotFound("No such.", ""), PolicyRefused("Not allowed.", "")])
def test_it_is_not_taken_for_the_hubs_own_refusal(error: NotFound | PolicyRefused) -> None:
    assert failure.spawn_error(error).status_code == 400  # type: ignore[attr-defined]


def test_programs_get_the_error_back_as_its_own_class() -> None:
    error = InvalidOptions("Naïve\noption.", "Correct it.")
    header = error_headers(error)[ERROR_HEADER]
    assert header.isascii()
    assert "\n" not in header
    back = from_dict(json.loads(header))
    assert (type(back), back.message, back.next_step) == (InvalidOptions, error.message, error.next_step)


def test_a_long_error_is_cut_for_the_header_alone() -> None:
    error = InvalidOptions("ü" * 10_000, "x" * 10_000)
    assert len(error_headers(error)[ERROR_HEADER]) < 4000
