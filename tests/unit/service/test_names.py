from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tljh_plugin.errors import InvalidOptions
from tljh_plugin.service import names


def test_a_random_name_is_one_that_the_hub_takes_and_is_free() -> None:
    taken: set[str] = set()
    for _ in range(500):
        name = names.random_name(taken)
        assert names.check_name(name) == name
        assert name not in taken
        taken.add(name)


def test_every_word_fits_together_with_a_number() -> None:
    longest = max(names._HOW.split(), key=len) + "-" + max(names._WHO.split(), key=len) + "-9999"
    names.check_name(longest)


@pytest.mark.parametrize(
    "name", ["", "A", "1a", "-a", "a-", "a--b", "a_b", "a b", "ä", "a" * 31, "a/b", "a\n"]
)
def test_a_name_that_the_hub_refuses_is_refused_with_its_value(name: str) -> None:
    with pytest.raises(InvalidOptions) as caught:
        names.check_name(name)
    assert repr(name) in caught.value.message
    assert caught.value.next_step


@given(st.text(max_size=40))
def test_the_rule_is_the_hubs(name: str) -> None:
    slugs = pytest.importorskip("jupyterhub.slugs")
    try:
        names.check_name(name)
        accepted = True
    except InvalidOptions:
        accepted = False
    assert accepted == bool(slugs.is_valid_safe_slug(name))
