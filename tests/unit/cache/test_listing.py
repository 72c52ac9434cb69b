"""The administrator's table: what is found, in which order, on which page."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tljh_plugin.cache.listing import PER_PAGE, Listed, Query, Sort, counts, found, page_of
from tljh_plugin.errors import InvalidRequest


def image(number: int = 1, **more: Any) -> Listed:
    values = {
        "id": f"sha256:{number:064x}",
        "name": f"littlest-binder/x:{number}",
        "title": f"owner/repo-{number}",
    }
    return Listed(**{**values, **more})


def ids(images: list[Listed]) -> list[int]:
    return [int(each.id.removeprefix("sha256:"), 16) for each in images]


def test_every_word_of_a_search_must_occur_somewhere() -> None:
    images = [
        image(1, title="Climate course", built_by="ada", asked_ref="main"),
        image(2, title="Climate talk", built_by="bob"),
        image(3, commit="c0ffee" + "0" * 34),
    ]
    assert ids(found(images, Query("CLIMATE ada"))) == [1]
    assert sorted(ids(found(images, Query("climate")))) == [1, 2]
    assert ids(found(images, Query("c0ffee"))) == [3]
    assert found(images, Query("climate c0ffee")) == []


def test_a_badge_is_a_filter_and_is_counted() -> None:
    images = [
        image(1, pinned=True, keep="pinned"),
        image(2, containers=1, keep="in-use"),
        image(3, ours=False),
        image(4),
    ]
    assert ids(found(images, Query(badge="pinned"))) == [1]
    assert ids(found(images, Query(badge="could-go"))) == [4]
    assert ids(found(images, Query(badge="not-ours"))) == [3]
    numbers = counts(images)
    assert (numbers["ready"], numbers["in-use"], numbers["not-ours"], numbers["failed"]) == (3, 1, 1, 0)


def test_the_order_begins_with_what_is_most_and_can_be_turned() -> None:
    images = [image(1, last_used="2026-01-01"), image(2), image(3, last_used="2026-03-01")]
    assert ids(found(images, Query())) == [3, 1, 2]
    assert ids(found(images, Query(turned=True))) == [2, 1, 3]
    by_name = Query(sort="title")
    assert ids(found([image(2), image(1)], by_name)) == [1, 2]


@pytest.mark.parametrize("turned", [False, True])
def test_what_is_not_known_comes_last_in_either_order(turned: bool) -> None:
    images = [image(1, own_bytes=None), image(2, own_bytes=5), image(3, own_bytes=0)]
    assert ids(found(images, Query(sort="frees", turned=turned)))[-1] == 1


@pytest.mark.parametrize("turned", [False, True])
@pytest.mark.parametrize("sort", ["used", "launches"])
def test_images_of_others_come_after_ours_where_their_use_is_asked(sort: Sort, turned: bool) -> None:
    images = [image(1, ours=False), image(2), image(3, last_used="2026-03-01", launches=2)]
    assert ids(found(images, Query(sort=sort, turned=turned)))[-1] == 1


def test_a_page_beyond_the_last_is_the_last() -> None:
    images = [image(n) for n in range(1, 2 * PER_PAGE + 2)]
    page = page_of(images, Query(sort="title", page=99))
    assert (page.number, page.last, page.found, len(page.rows)) == (3, 3, 101, 1)
    assert (page.first_place, page.last_place) == (101, 101)
    nothing = page_of(images, Query("nowhere"))
    assert (nothing.number, nothing.last, nothing.found, nothing.first_place) == (1, 1, 0, 0)


@given(
    st.lists(st.tuples(st.integers(0, 3), st.booleans()), max_size=120),
    st.sampled_from(["size", "title", "used"]),
)
def test_the_pages_together_are_all_images_once(facts: list[tuple[int, bool]], sort: Any) -> None:
    images = [image(n, size=size, title="same", pinned=pinned) for n, (size, pinned) in enumerate(facts, 1)]
    seen: list[int] = []
    for number in range(1, page_of(images, Query(sort=sort)).last + 1):
        seen += ids(list(page_of(images, Query(sort=sort, page=number)).rows))
    assert sorted(seen) == ids(images)


@pytest.mark.parametrize(
    "query", [Query(), Query("a b&c", "pinned", "size", True, 3), Query(sort="used", turned=True)]
)
def test_an_address_leads_to_the_same_table(query: Query) -> None:
    assert Query.of(query.fields()) == query


@pytest.mark.parametrize(
    "fields", [{"show": "nonsense"}, {"sort": "price"}, {"page": "0"}, {"page": "x"}, {"page": "²"}]
)
def test_what_is_no_table_is_refused_with_its_value(fields: dict[str, str]) -> None:
    with pytest.raises(InvalidRequest, match=next(iter(fields.values()))):
        Query.of(fields)


def test_a_column_turns_the_order_it_has() -> None:
    assert Query().sorted_by("used") == "?sort=-used"
    assert Query(turned=True).sorted_by("used") == "?"
    assert Query(page=4, text="x").sorted_by("size") == "?q=x&sort=size"
