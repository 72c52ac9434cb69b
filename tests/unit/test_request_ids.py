"""One id a request: what is taken for one, and to what it sticks."""

from __future__ import annotations

import asyncio
import logging

import pytest

from tljh_plugin import log_lines, request_ids


@pytest.mark.parametrize(
    "strange",
    [
        None,
        "",
        "abc",
        "a" * 65,
        "id with spaces",
        "id\nforged line",
        "id\x1b[31m",
        "-rf",
        "ÄÖÜß",
        "a;b'c\"d",
        "../x",
    ],
)
def test_what_could_harm_a_log_is_no_id(strange: str | None) -> None:
    assert request_ids.valid(strange) == ""
    assert request_ids.begin(strange) != strange
    assert request_ids.valid(request_ids.current())


@pytest.mark.parametrize("usual", ["3f9a12cd07", "550e8400-e29b-41d4-a716-446655440000", "Root_1-67891233"])
def test_ids_of_others_are_taken_over(usual: str) -> None:
    assert request_ids.begin(usual) == request_ids.current() == usual
    assert request_ids.headers() == {"X-Request-ID": usual}


def test_new_ones_differ_and_are_valid() -> None:
    made = {request_ids.new() for _ in range(1000)}
    assert len(made) == 1000
    assert all(request_ids.valid(each) for each in made)


async def test_a_task_belongs_to_the_request_that_began_it_and_another_does_not() -> None:
    async def tell() -> str:
        await asyncio.sleep(0)
        return request_ids.current()

    request_ids.begin("of-the-first")
    first = asyncio.create_task(tell())
    for_ever = request_ids.apart(asyncio.create_task, tell())
    request_ids.begin("of-the-second")
    assert (await first, await for_ever, await tell()) == ("of-the-first", "", "of-the-second")


def test_lines_of_a_request_carry_its_id_once_and_others_none(capsys: pytest.CaptureFixture[str]) -> None:
    hub, ours = logging.getLogger("a-hub"), logging.getLogger("littlest_binder")
    hub.propagate = False
    hub.setLevel(logging.INFO)
    hub.addHandler(logging.StreamHandler())
    before = ours.parent, ours.level
    try:
        log_lines.join(hub)
        log_lines.join(hub)
        ours.getChild("launch").info("nobody's %d", 1)
        with request_ids.belonging("3f9a12cd07"):
            ours.getChild("launch").info("ada's %s", "100 %s")
            hub.warning("the hub's own")
    finally:
        ours.parent, ours.level = before
    assert capsys.readouterr().err.splitlines() == [
        "nobody's 1",
        "[req 3f9a12cd07] ada's 100 %s",
        "[req 3f9a12cd07] the hub's own",
    ]
