"""Amounts as people write and read them."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tljh_plugin.amounts import (
    read_bytes,
    shown_bytes,
    shown_gain,
    shown_number,
    shown_seconds,
    written_bytes,
)

GIB = 1024**3


@pytest.mark.parametrize(
    ("text", "meant"),
    [
        ("2GiB", 2 * GIB), ("2G", 2 * GIB), ("2 GB", 2 * GIB), ("0.5gib", GIB // 2), ("512m", 512 * 1024**2),
        ("1T", 1024 * GIB), ("64 KiB", 65536), ("100", 100), ("100 B", 100), (7, 7), (None, None),
    ],
)  # fmt: skip
def test_bytes_are_read_as_people_write_them(text: object, meant: object) -> None:
    assert read_bytes(text) == meant


@pytest.mark.parametrize("text", ["", "a lot", "2 GiB please", "-1G", "1,5G", "G", "2PiB", "1e9"])
def test_what_is_no_amount_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="2GiB"):
        read_bytes(text)


@given(st.integers(0, 2**50))
def test_what_is_written_means_the_same(value: int) -> None:
    assert read_bytes(written_bytes(value)) == value


@given(st.integers(0, 2**50))
def test_what_is_shown_is_never_more(value: int) -> None:
    shown = read_bytes(shown_bytes(value).replace("bytes", ""))
    assert shown <= value + 1
    assert shown >= value * 0.9 - 1


@pytest.mark.parametrize(
    ("value", "text"),
    [(2 * GIB, "2 GiB"), (3 * GIB // 2, "1.5 GiB"), (2 * GIB - 1, "1.9 GiB"), (5, "5 bytes"), (0, "0 bytes")],
)
def test_bytes_are_shown(value: int, text: str) -> None:
    assert shown_bytes(value) == text


def test_what_was_lost_is_not_said_to_be_gained() -> None:
    assert [shown_gain(each) for each in (GIB, 0, -3 * GIB // 2)] == ["1 GiB", "0 bytes", "1.5 GiB less"]


@pytest.mark.parametrize(
    ("value", "text"),
    [(0, "0 s"), (90, "1 min 30 s"), (7200, "2 h"), (90061, "1 d 1 h"), (3600 * 12, "12 h")],
)
def test_spans_are_shown(value: float, text: str) -> None:
    assert shown_seconds(value) == text


def test_numbers_are_shown_without_needless_digits() -> None:
    assert [shown_number(each) for each in (2.0, 0.5, 1.25, 10.0)] == ["2", "0.5", "1.25", "10"]
