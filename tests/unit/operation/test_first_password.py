"""The first administrator's password: kept once, hashed, never replaced."""

from __future__ import annotations

import dbm
import io
import sys
import types
from pathlib import Path

import pytest

from tljh_plugin.operation import first_password


@pytest.fixture
def bcrypt(monkeypatch: pytest.MonkeyPatch) -> None:
    """TLJH's hub environment has the package; what it does is not ours to test."""
    made = types.ModuleType("bcrypt")
    made.gensalt = lambda: b"salt"  # type: ignore[attr-defined]
    made.hashpw = lambda password, salt: salt + password[::-1]  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "bcrypt", made)


def test_it_is_kept_hashed_for_root_alone(bcrypt: None, tmp_path: Path) -> None:
    store = tmp_path / "passwords.dbm"
    assert first_password.keep("ada", "secret", store)
    with dbm.open(str(store), "r") as kept:
        assert kept[b"ada"] == b"saltterces"
    for path in tmp_path.iterdir():
        assert path.stat().st_mode & 0o077 == 0


def test_a_password_that_is_there_stays(bcrypt: None, tmp_path: Path) -> None:
    store = tmp_path / "passwords.dbm"
    first_password.keep("ada", "mine", store)
    assert not first_password.keep("ada", "theirs", store)
    with dbm.open(str(store), "r") as kept:
        assert kept[b"ada"] == b"salt" + b"mine"[::-1]


def test_without_a_password_it_says_what_is_needed(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("sys.stdin", io.StringIO("\n"))
    assert first_password.main(["ada"]) == 2
    assert "needed" in capsys.readouterr().err
