"""Which stored copies of repositories there are, while others make and take away some."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from tljh_plugin.source.mirrors import stored


def test_one_that_is_made_in_the_moment_of_the_look_is_none_yet(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "github-com-a-b-0123456789abcdef"
    folder.mkdir()
    really = Path.lstat

    def looked_before(path: Path) -> Any:
        try:
            return really(path)
        finally:
            if path.parent == folder:
                (folder / "lock").touch()

    monkeypatch.setattr(Path, "lstat", looked_before)
    assert stored(tmp_path) == []
    assert [each.folder for each in stored(tmp_path)] == [folder]
