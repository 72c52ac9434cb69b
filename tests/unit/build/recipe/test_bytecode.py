"""Bytecode for what is new, once for all builds."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from importlib.util import cache_from_source
from pathlib import Path

import pytest

from tljh_plugin.build.recipe import bytecode


def module(path: Path, text: str = "x = 1\n") -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    return path


def compiled(path: Path) -> Path:
    return Path(cache_from_source(str(path)))


def test_what_is_new_is_compiled_and_tests_are_not(tmp_path: Path) -> None:
    old = module(tmp_path / "old" / "a.py")
    since = time.time()
    while module(tmp_path / "probe.py").stat().st_ctime < since:
        pass  # until the clock of the file system has passed it
    new, test = module(tmp_path / "new" / "b.py"), module(tmp_path / "new" / "tests" / "d.py")
    found = bytecode.sources_since(str(tmp_path), since)
    assert str(new) in found
    assert str(old) not in found
    assert str(test) not in found


def test_many_files_are_compiled_by_several_processes(tmp_path: Path) -> None:
    paths = [module(tmp_path / f"m{number}.py") for number in range(120)]
    broken = module(tmp_path / "broken.py", "x = = 1\n")
    bytecode.compile_all([*map(str, paths), str(broken), str(tmp_path / "gone.py")])
    assert all(compiled(path).exists() for path in paths)
    assert not compiled(broken).exists()


def test_bytecode_comes_from_the_cache_where_source_and_path_are_the_same(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source, cache = module(tmp_path / "a.py"), str(tmp_path / "cache")
    bytecode.compile_one(str(source), cache)
    first = compiled(source).read_bytes()
    compiled(source).unlink()
    monkeypatch.setattr(bytecode.py_compile, "compile", lambda *_, **__: pytest.fail("compiled again"))
    bytecode.compile_one(str(source), cache)
    assert compiled(source).read_bytes() == first


@pytest.mark.parametrize("change", ["text", "path"])
def test_another_source_or_path_is_compiled_anew(tmp_path: Path, change: str) -> None:
    source, cache = module(tmp_path / "a.py", "x = 1\n"), str(tmp_path / "cache")
    bytecode.compile_one(str(source), cache)
    other = module(
        tmp_path / ("b.py" if change == "path" else "a.py"), "x = 1\n" if change == "path" else "x = 2\n"
    )
    bytecode.compile_one(str(other), cache)
    assert len([each for each in Path(cache).rglob("*") if each.is_file()]) == 2
    code = f"import sys; sys.path.insert(0, {str(tmp_path)!r}); import {other.stem} as m; print(m.x)"
    done = subprocess.run([sys.executable, "-B", "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == ("1" if change == "path" else "2")


def test_python_takes_kept_bytecode_for_a_source_of_another_time(tmp_path: Path) -> None:
    source, cache = module(tmp_path / "a.py", "x = 1\n"), str(tmp_path / "cache")
    bytecode.compile_one(str(source), cache)
    os.utime(source, (1_000_000_000, 1_000_000_000))
    bytecode.compile_one(str(source), cache)
    code = f"import sys; sys.path.insert(0, {str(tmp_path)!r}); import a"
    done = subprocess.run(
        [sys.executable, "-v", "-B", "-c", code], capture_output=True, text=True, check=True
    )
    assert f"{compiled(source)} matches {source}" in done.stderr.replace("'", "")


def test_it_runs_as_a_script_without_anything_installed(tmp_path: Path) -> None:
    source, cache = module(tmp_path / "site" / "a.py"), tmp_path / "cache"
    cache.mkdir()
    command = [sys.executable, "-I", "-S", str(bytecode.__file__), str(tmp_path / "site"), "0", str(cache)]
    subprocess.run(command, check=True)
    assert compiled(source).exists()
    assert len([each for each in cache.rglob("*") if each.is_file()]) == 1
