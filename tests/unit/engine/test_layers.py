"""Promises of layers: their ids, what Docker's history says of their sizes, and what they occupy."""

from __future__ import annotations

import hashlib
import os
from pathlib import Path

from hypothesis import given
from hypothesis import strategies as st

from tljh_plugin.engine.layers import chain_ids, on_disk, sizes

NOTHING = "sha256:5f70bf18a086007016e948b04aed3b82103a36bea41755b6cddfaf10ace3c6ef"


def digest(number: int) -> str:
    return f"sha256:{number:064x}"


def step(size: int, text: str = "RUN something") -> dict[str, object]:
    return {"Size": size, "CreatedBy": text}


def test_chain_ids_are_those_of_the_specification() -> None:
    first = "sha256:c6c9a0a0b5e1b2c7f3e4a5d6b7c8d9e0f1a2b3c4d5e6f708192a3b4c5d6e7f80"
    chains = chain_ids([first, NOTHING])
    assert chains[0] == first
    assert chains[1] == "sha256:" + hashlib.sha256(f"{first} {NOTHING}".encode()).hexdigest()
    assert chain_ids([]) == ()


def test_equal_layers_on_different_ones_are_different() -> None:
    one, other = chain_ids([digest(1), digest(3)]), chain_ids([digest(2), digest(3)])
    assert one[1] != other[1]


def test_settings_make_no_layer() -> None:
    history = [step(0, "CMD x"), step(0, "WORKDIR /srv"), step(7), step(0, "ENV A=b"), step(5, "")]
    assert sizes([digest(1), digest(2), digest(3)], history) == [5, 7, 0]


def test_the_legacy_builders_words_are_understood() -> None:
    history = [step(0, '/bin/sh -c #(nop)  CMD ["bash"]'), step(5, "/bin/sh -c #(nop) ADD file:1 in /")]
    assert sizes([digest(1)], history) == [5]


def test_what_could_be_either_is_not_guessed() -> None:
    # Three layers, two steps with bytes, and two that may have made the third.
    history = [step(0), step(7), step(0), step(5)]
    assert sizes([digest(1), digest(2), digest(3)], history) == [5, None, None]


def test_a_layer_known_to_be_empty_settles_it() -> None:
    history = [step(0), step(7), step(0), step(5)]
    assert sizes([digest(1), NOTHING, digest(3)], history) == [5, 0, 7]


def test_a_history_that_does_not_fit_says_nothing() -> None:
    assert sizes([digest(1)], [step(5), step(7)]) == [None]
    assert sizes([digest(1), digest(2)], [step(5)]) == [None, None]
    assert sizes([], []) == []


STEPS = st.lists(
    st.tuples(st.integers(0, 3), st.booleans()).filter(lambda each: each[1] or not each[0]), max_size=12
)


@given(STEPS)
def test_what_is_told_is_true(steps: list[tuple[int, bool]]) -> None:
    """Steps, each with the layer that it made if it made one: no layer is told a wrong size."""
    made = [size for size, makes in steps if makes]
    history = [step(size, "RUN x" if size or size_ambiguous else "ENV x") for size, size_ambiguous in steps]
    told = sizes([digest(number) for number in range(len(made))], history[::-1])
    assert all(said in (None, true) for said, true in zip(told, made, strict=True))


@given(st.lists(st.integers(1, 9), max_size=12))
def test_where_every_step_with_bytes_is_a_layer_all_is_known(made: list[int]) -> None:
    history = [step(size) for size in made]
    assert sizes([digest(number) for number in range(len(made))], history[::-1]) == made


def kept_layer(root: Path, chain_id: str, folder: str = "0a1b") -> Path:
    note = root / "image" / "overlay2" / "layerdb" / "sha256" / chain_id.removeprefix("sha256:")
    note.mkdir(parents=True)
    (note / "cache-id").write_text(folder)
    files = root / "overlay2" / folder / "diff"
    files.mkdir(parents=True)
    return files


def test_a_layer_is_measured_in_blocks_with_hard_links_once(tmp_path: Path) -> None:
    files = kept_layer(tmp_path, digest(1))
    empty = on_disk(str(tmp_path), digest(1))
    assert empty is not None
    for number in range(20):
        (files / f"small-{number}").write_bytes(b"x")
    (files / "large").write_bytes(b"x" * 100_000)
    os.link(files / "large", files / "again")
    (files / "sparse").touch()
    os.truncate(files / "sparse", 10**9)
    (files / "link").symlink_to("/etc")
    full = on_disk(str(tmp_path), digest(1))
    assert full is not None
    blocks = os.statvfs(tmp_path).f_bsize
    assert 20 * blocks + 100_000 <= full - empty < 30 * blocks + 100_000


def test_a_layer_that_cannot_be_looked_at_is_not_known(tmp_path: Path) -> None:
    assert on_disk(str(tmp_path), digest(1)) is None
    kept_layer(tmp_path, digest(2), folder="../../etc")
    assert on_disk(str(tmp_path), digest(2)) is None
