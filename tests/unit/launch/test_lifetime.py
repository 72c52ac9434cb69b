"""Whether a server's time is over."""

from __future__ import annotations

import json
from datetime import datetime, timedelta

import httpx
import pytest

from tljh_plugin.launch.activity import Activity, activity_of
from tljh_plugin.launch.lifetime import Verdict, judge
from tljh_plugin.launch.running import Span

BEGUN = datetime(2026, 11, 21, 8)
HOUR = Span(idle_s=3600)


def at(minutes: float) -> datetime:
    return BEGUN + timedelta(minutes=minutes)


class Server:
    """Answers when it is looked at, and counts how often it is."""

    def __init__(self, said: Activity | None) -> None:
        self.said = said
        self.looks = 0

    async def look(self) -> Activity | None:
        self.looks += 1
        return self.said


async def verdict(span: Span, active: float, now: float, said: Activity | None = None) -> tuple[Verdict, int]:
    server = Server(said)
    return await judge(span, BEGUN, at(active), at(now), server.look), server.looks


@pytest.mark.parametrize(
    ("span", "active", "now"),
    [
        (Span(), 0, 100_000),
        (HOUR, 0, 59.9),
        (HOUR, 100, 159),
        (Span(lifetime_s=3600), 0, 59.9),
        (HOUR, 0, -90),
    ],
)
async def test_while_its_time_lasts_nobody_asks_it(span: Span, active: float, now: float) -> None:
    assert await verdict(span, active, now) == (Verdict(), 0)


async def test_a_lifetime_ends_it_whatever_it_does() -> None:
    said, looks = await verdict(Span(lifetime_s=7200), 119, 120, Activity(at(120), computing=True))
    assert (said.why, looks) == ("It ran for 2 h, which is its profile's limit.", 0)


async def test_one_that_says_nothing_new_is_idle() -> None:
    said, looks = await verdict(HOUR, 10, 71, Activity(at(10), computing=False))
    assert (said.why, looks) == ("It was idle for 1 h 1 min; its profile allows 1 h.", 1)


async def test_a_kernel_that_computes_is_activity_now() -> None:
    said, _ = await verdict(HOUR, 10, 71, Activity(at(10), computing=True))
    assert said == Verdict(last_activity=at(71))


async def test_what_the_hub_did_not_hear_yet_counts() -> None:
    said, _ = await verdict(HOUR, 10, 71, Activity(at(50), computing=False))
    assert said == Verdict(last_activity=at(50))


async def test_later_activity_that_is_also_long_ago_counts_from_then() -> None:
    said, _ = await verdict(HOUR, 10, 125, Activity(at(60), computing=False))
    assert said.why == "It was idle for 1 h 5 min; its profile allows 1 h."


async def test_activity_in_the_future_is_activity_now() -> None:
    said, _ = await verdict(HOUR, 10, 71, Activity(at(10_000), computing=False))
    assert said == Verdict(last_activity=at(71))


async def test_one_that_does_not_answer_is_given_the_time_of_two_reports() -> None:
    assert await verdict(HOUR, 10, 79.9) == (Verdict(), 1)
    said, _ = await verdict(HOUR, 10, 80)
    assert said.why == "It was idle for 1 h 10 min; its profile allows 1 h."


async def test_a_lifetime_ends_also_one_whose_idle_time_ended_before() -> None:
    said, looks = await verdict(Span(lifetime_s=7200, idle_s=3600), 10, 120)
    assert (said.why, looks) == ("It ran for 2 h, which is its profile's limit.", 0)


@pytest.mark.parametrize(
    "status",
    [
        {"last_activity": "0001-01-01T00:00:00+14:00"},
        {"last_activity": "9999-12-31T23:59:59-14:00"},
        {"last_activity": 7},
        {},
        [],
        None,
        {"last_activity": "2026-11-21T08:00:00Z", "kernels": 1},
    ],
)
async def test_nonsense_of_a_server_is_no_answer(status: object) -> None:
    def answer(request: httpx.Request) -> httpx.Response:
        said = status if request.url.path.endswith("status") else ["busy"]
        return httpx.Response(200, content=json.dumps(said))

    assert await activity_of("http://server/", "t", httpx.MockTransport(answer)) is None


async def test_an_answer_that_makes_sense_is_one() -> None:
    def answer(request: httpx.Request) -> httpx.Response:
        said = {"last_activity": "2026-11-21T10:00:00+02:00", "kernels": 1}
        return httpx.Response(
            200, json=said if request.url.path.endswith("status") else [{"execution_state": "busy"}]
        )

    assert await activity_of("http://server/", "t", httpx.MockTransport(answer)) == Activity(BEGUN, True)
