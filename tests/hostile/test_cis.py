"""The page about the CIS Docker Benchmark; `test_from_inside.py` checks its items on a running server."""

from __future__ import annotations

from cis import ITEMS, PAGE, page


def test_the_benchmarks_items_are_all_there() -> None:
    assert [item.number for item in ITEMS] == [f"5.{number}" for number in range(1, 33)]
    assert all(bool(item.how) is not bool(item.instead) for item in ITEMS)


def test_the_page_is_what_the_items_say() -> None:
    assert PAGE.read_text(encoding="utf-8") == page(), "run `python tests/cis.py`"
