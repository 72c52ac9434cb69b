"""When a server ends, what it says of its activity, and what its person is told afterwards."""

from __future__ import annotations

import asyncio
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import httpx
import pytest

from tljh_plugin.launch import endings
from tljh_plugin.launch.activity import Activity, activity_of
from tljh_plugin.launch.running import Span

BEGUN = datetime(2026, 11, 21, 8)


def after(hours: float) -> datetime:
    return BEGUN + timedelta(hours=hours)


@pytest.mark.parametrize(
    ("span", "active", "ends"),
    [
        (Span(), after(1), (None, "")),
        (Span(lifetime_s=7200), after(1), (after(2), "lifetime")),
        (Span(idle_s=1800), after(1), (after(1.5), "idle")),
        (Span(idle_s=1800), None, (after(0.5), "idle")),
        (Span(idle_s=1800), after(-1), (after(0.5), "idle")),
        (Span(7200, 1800), after(1), (after(1.5), "idle")),
        (Span(7200, 1800), after(1.9), (after(2), "lifetime")),
    ],
)
def test_the_first_rule_that_applies_ends_it(span: Span, active: datetime | None, ends: Any) -> None:
    assert span.end(BEGUN, active) == ends


def test_a_server_that_never_began_does_not_end() -> None:
    assert Span(1, 1).end(None, None) == (None, "")


def server(status: Any, kernels: Any = None, code: int = 200) -> httpx.MockTransport:
    def answer(request: httpx.Request) -> httpx.Response:
        assert request.headers["Authorization"] == "token t"
        assert "no_track_activity" in request.url.params, "a question is no activity"
        said = status if request.url.path == "/user/ada/api/status" else kernels
        return (
            httpx.Response(code, json=said)
            if not isinstance(said, bytes)
            else httpx.Response(200, content=said)
        )

    return httpx.MockTransport(answer)


async def ask(transport: httpx.AsyncBaseTransport) -> Activity | None:
    return await activity_of("http://1.2.3.4:8888/user/ada/", "t", transport)


async def test_a_server_tells_its_activity() -> None:
    status = {"last_activity": "2026-11-21T09:00:00.000000Z", "kernels": 2}
    found = await ask(server(status, [{"execution_state": "idle"}, {"execution_state": "busy"}]))
    assert found == Activity(after(1), computing=True)
    assert await ask(server({**status, "kernels": 0})) == Activity(after(1), computing=False)
    found = await ask(server({**status, "last_activity": "2026-11-21T10:00:00+01:00"}, []))
    assert found == Activity(after(1), computing=False)


@pytest.mark.parametrize(
    "transport",
    [
        server({}),
        server([]),
        server({"last_activity": "yesterday"}),
        server({"last_activity": "2026-11-21T09:00:00Z", "kernels": 1}, {"execution_state": "busy"}),
        server({"last_activity": "2026-11-21T09:00:00Z", "kernels": 1}, ["busy"]),
        server({}, code=403),
        server({"last_activity": "2026-11-21T09:00:00Z", "padding": "x" * 2 * 1024**2}),
        server(b"[" * 100_000),
    ],
)
async def test_an_answer_that_cannot_be_used_says_nothing(transport: httpx.MockTransport) -> None:
    assert await ask(transport) is None


async def test_a_server_that_never_ends_its_answer_is_not_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tljh_plugin.launch.activity._ANSWER_S", 0.05)

    async def never(request: httpx.Request) -> httpx.Response:
        await asyncio.Event().wait()
        raise AssertionError

    assert await ask(httpx.MockTransport(never)) is None


def test_why_a_server_was_stopped_is_kept_until_it_starts_again(tmp_path: Path) -> None:
    endings.note(tmp_path, "ada", "../one", "It was idle for 1 h.")
    endings.note(tmp_path, "ada", "../one", "~/x is yours already.", "links")
    endings.note(tmp_path, "ada", "", "It ran for 12 h.")
    found = endings.read(tmp_path, "ada", "../one")
    assert found is not None
    assert found.why == "It was idle for 1 h."
    assert datetime.fromisoformat(found.time).tzinfo is not None
    assert endings.read(tmp_path, "bob", "../one") is None
    links = endings.read(tmp_path, "ada", "../one", "links")
    assert links is not None
    assert links.why == "~/x is yours already."
    endings.forget(tmp_path, "ada", "../one")
    assert endings.read(tmp_path, "ada", "../one") is None
    assert endings.read(tmp_path, "ada", "../one", "links") is None
    assert endings.read(tmp_path, "ada", "") is not None
    endings.forget(tmp_path, "ada", "../one")
    [place] = (tmp_path / "endings").iterdir()
    place.write_text("{")
    assert endings.read(tmp_path, "ada", "") is None


def test_a_note_that_cannot_be_written_is_only_logged(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "endings").write_text("in the way")
    endings.note(tmp_path, "ada", "one", "It was idle.")
    assert "Cannot note" in caplog.text
