"""What an image says it has: listed inside, and believed by us only as text."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from tljh_plugin.build import packages as reading
from tljh_plugin.build.probe import packages as listing
from tljh_plugin.store.about_images import MOST_PACKAGES, Package


def test_the_program_lists_its_own_environment() -> None:
    script = Path(listing.__file__).read_text()
    done = subprocess.run(
        [sys.executable, "-I", "-B", "-c", script], capture_output=True, text=True, check=True
    )
    found = reading.read(done.stdout)
    assert found is not None
    assert {"pydantic", "tornado"} <= {each.name for each in found if each.kind == "python"}


def test_condas_records_are_read_by_their_names(tmp_path: Path) -> None:
    records = tmp_path / "conda-meta"
    records.mkdir()
    for name in ("python-dateutil-2.9.0-pyhd8ed1ab_0.json", "history", "nonsense.json"):
        (records / name).write_text("{}")
    assert list(listing.conda([str(tmp_path)])) == [("conda", "python-dateutil", "2.9.0")]


def test_what_dpkg_has_removed_is_not_listed(tmp_path: Path) -> None:
    status = tmp_path / "status"
    status.write_text(
        "Package: git\nStatus: install ok installed\nDescription: a\n b: c\nVersion: 1:2.39.5-0\n\n"
        "Package: nano\nStatus: deinstall ok config-files\nVersion: 7.2\n"
    )
    assert list(listing.debian(str(status))) == [("debian", "git", "1:2.39.5-0")]
    assert list(listing.debian(str(tmp_path / "none"))) == []


@pytest.mark.parametrize(
    "said",
    [
        "",
        "hello",
        "[]",
        "{}",
        '{"packages": 3}',
        '{"packages": [["python", "a"]]}',
        '{"packages": [[1, 2, 3]]}x',
        '{"packages": ' + "[" * 100_000,
    ],
)
def test_what_is_no_list_is_none(said: str) -> None:
    assert not reading.read(said)


def test_what_an_image_says_is_bounded_and_only_text() -> None:
    rows = [["python", f"p{n}", "1"] for n in range(2 * MOST_PACKAGES)]
    found = reading.read("noise of an entry point\n" + json.dumps({"packages": rows}))
    assert found is not None
    assert len(found) == MOST_PACKAGES
    [odd] = reading.read(json.dumps({"packages": [["python", "a\x1b[31m" + "b" * 500, "1\n2"]]})) or ()
    assert isinstance(odd, Package)
    assert len(odd.name) <= 130
    assert "\x1b" not in odd.name
    assert "\n" not in odd.version
    assert reading.read('{"packages": [["spam", "a", "1"]]}') == ()
