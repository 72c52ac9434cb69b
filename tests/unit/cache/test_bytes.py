"""Promises of honest bytes: what erasing frees is what no other image has."""

from __future__ import annotations

import time

from hypothesis import given
from hypothesis import strategies as st

from tljh_plugin.cache.bytes import (
    Chain,
    all_own_bytes,
    all_sizes,
    freed_by,
    occupied_by,
    own_bytes,
    shared_with,
)
from tljh_plugin.engine import Layer


def chain(*layers: tuple[str, int | None]) -> Chain:
    return tuple(Layer(name, size) for name, size in layers)


BASE, JUPYTER = ("base", 100), ("jupyter", 300)
CHAINS = {
    "plain": chain(BASE, JUPYTER),
    "plot": chain(BASE, JUPYTER, ("plot", 50)),
    "maps": chain(BASE, JUPYTER, ("maps", 70)),
    "twin": chain(BASE, JUPYTER, ("maps", 70)),
    "stranger": chain(("other", 900)),
}


def test_only_what_no_other_image_has_becomes_free() -> None:
    assert {name: own_bytes(name, CHAINS) for name in CHAINS} == {
        "plain": 0,
        "plot": 50,
        "maps": 0,
        "twin": 0,
        "stranger": 900,
    }
    assert all_own_bytes(CHAINS) == {name: own_bytes(name, CHAINS) for name in CHAINS}


def test_a_selection_frees_what_only_it_has() -> None:
    assert freed_by(["maps", "twin"], CHAINS) == 70
    assert freed_by(["plain", "plot", "maps", "twin"], CHAINS) == 520
    assert freed_by([], CHAINS) == 0


def test_what_images_occupy_counts_each_layer_once() -> None:
    assert occupied_by(["plain", "plot", "maps", "twin"], CHAINS) == 520
    assert occupied_by(["plot"], CHAINS) == 450


def test_the_size_of_an_image_has_the_layers_that_others_share() -> None:
    chains = {**CHAINS, "dark": chain(BASE, ("dark", None))}
    assert all_sizes(chains) == {
        "plain": 400,
        "plot": 450,
        "maps": 470,
        "twin": 470,
        "stranger": 900,
        "dark": None,
    }


def test_who_shares_a_layer_is_told() -> None:
    assert shared_with("maps", CHAINS) == {
        "base": ("plain", "plot", "twin"),
        "jupyter": ("plain", "plot", "twin"),
        "maps": ("twin",),
    }
    assert shared_with("unknown", CHAINS) == {}


def test_what_is_not_known_is_not_guessed() -> None:
    chains = {**CHAINS, "dark": chain(BASE, ("dark", None))}
    assert own_bytes("dark", chains) is None
    assert freed_by(["plot", "dark"], chains) is None
    assert freed_by(["plot"], chains) == 50
    assert own_bytes("unknown", chains) is None
    assert occupied_by(["unknown"], chains) is None
    # Another holds the layer of unknown size, so it does not matter.
    assert own_bytes("dark", {**chains, "darker": chain(BASE, ("dark", None), ("more", 5))}) == 0


# Trees of layers: each name tells its whole way from the bottom, as a chain id does.
WAYS = st.lists(st.text("abc", min_size=1, max_size=5), min_size=1, max_size=8)


def chains_of(ways: list[str]) -> dict[str, Chain]:
    return {
        f"{number}": chain(*((way[:end], len(way[:end]) * 7) for end in range(1, len(way) + 1)))
        for number, way in enumerate(ways)
    }


@given(WAYS, st.data())
def test_freed_and_left_are_all_there_is(ways: list[str], data: st.DataObject) -> None:
    chains = chains_of(ways)
    chosen = data.draw(st.sets(st.sampled_from(sorted(chains))))
    freed, left = freed_by(chosen, chains), occupied_by(chains.keys() - chosen, chains)
    assert freed is not None
    assert left is not None
    assert freed + left == occupied_by(chains, chains)


@given(WAYS, st.data())
def test_one_after_the_other_is_all_at_once(ways: list[str], data: st.DataObject) -> None:
    chains = chains_of(ways)
    chosen = data.draw(st.lists(st.sampled_from(sorted(chains)), unique=True))
    left, total = dict(chains), 0
    for each in chosen:
        total += own_bytes(each, left) or 0
        del left[each]
    assert total == freed_by(chosen, chains)


@given(WAYS, st.data())
def test_more_is_never_freed_alone_than_together(ways: list[str], data: st.DataObject) -> None:
    chains = chains_of(ways)
    chosen = data.draw(st.sets(st.sampled_from(sorted(chains))))
    together = freed_by(chosen, chains)
    assert together is not None
    assert (
        sum(own_bytes(each, chains) or 0 for each in chosen) <= together <= (occupied_by(chosen, chains) or 0)
    )


@given(WAYS)
def test_in_one_pass_is_as_one_by_one(ways: list[str]) -> None:
    chains = chains_of(ways)
    assert all_own_bytes(chains) == {each: own_bytes(each, chains) for each in chains}
    for image in chains:
        shared = shared_with(image, chains)
        alone = sum(layer.bytes or 0 for layer in chains[image] if not shared[layer.chain_id])
        assert alone == own_bytes(image, chains)


def test_a_thousand_images_take_no_time() -> None:
    common = [(f"common-{number}", 10**6) for number in range(12)]
    chains = {f"i{n}": chain(*common, (f"own-{n}", n), (f"top-{n}", 1)) for n in range(1200)}
    begun = time.process_time()
    assert all_own_bytes(chains)["i1000"] == 1001
    assert time.process_time() - begun < 0.5
