"""How packages get into an image: the order of the ways, who may open what, which bytecode."""

from __future__ import annotations

import argparse
import os
from pathlib import Path

import pytest

from tljh_plugin.build.recipe import install


def arguments(**given: object) -> argparse.Namespace:
    values = {
        "user": "1000:1000",
        "python": "/srv/venv/bin/python",
        "wheels": False,
        "only_pip": False,
        "require_hashes": False,
        "what": ["-r", "requirements.txt"],
    }
    return argparse.Namespace(**{**values, **given})


def programs(args: argparse.Namespace) -> list[tuple[str, bool]]:
    return [(Path(way.command[0]).name, way.trusted) for way in install.ways(args)]


def test_uv_comes_before_pip_and_wheels_are_a_way_of_their_own() -> None:
    assert programs(arguments(wheels=True)) == [("uv", True)]
    assert programs(arguments()) == [("uv", False), ("python", False)]
    assert programs(arguments(only_pip=True)) == [("python", False)]


def test_only_the_trusted_way_knows_the_shared_cache_and_the_credentials(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(install, "RUN", tmp_path)
    for name in ("uv.toml", "uv-trusted.toml", "pip.conf"):
        (tmp_path / name).touch()
    (trusted,) = install.ways(arguments(wheels=True))
    own, pip = install.ways(arguments())
    assert trusted.environment["UV_CACHE_DIR"] == str(install.SHARED)
    assert trusted.environment["UV_CONFIG_FILE"] == str(tmp_path / "uv-trusted.toml")
    assert own.environment["UV_CACHE_DIR"] == str(install.OWN)
    assert own.environment["UV_CONFIG_FILE"] == str(tmp_path / "uv.toml")
    assert pip.environment == {"PIP_CONFIG_FILE": str(tmp_path / "pip.conf")}
    assert f"--groups={install.GROUP}" in install.as_user("1:2", [], trusted=True)
    for way in (own, pip):
        command = install.as_user("1:2", way.command, trusted=way.trusted)
        assert "--clear-groups" in command
        assert str(install.GROUP) not in " ".join(command)


def test_without_settings_uv_reads_none() -> None:
    assert install.ways(arguments())[0].environment["UV_NO_CONFIG"] == "1"


def test_the_sealed_cache_belongs_to_root_and_the_group(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    owned: list[tuple[str, int, int]] = []
    monkeypatch.setattr(os, "chown", lambda path, uid, gid: owned.append((Path(path).name, uid, gid)))
    cache = tmp_path / "cache"
    cache.mkdir()
    install.seal(cache)
    assert owned == [("builds-v0", 0, 0), ("cache", 0, install.GROUP)]
    assert (cache / "builds-v0").stat().st_mode & 0o777 == 0o555
    assert cache.stat().st_mode & 0o777 == 0o770


@pytest.fixture
def tried(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Which programs were tried; each fails with the next of the errors in `install.errors`."""
    programs: list[str] = []
    monkeypatch.setattr(install, "seal", lambda cache: None)

    def run(command: list[str], environment: dict[str, str]) -> tuple[int, list[str]]:
        words = command[command.index("--") + 1 :]
        programs.append(
            Path(words[0]).name
            + (" shared" if environment.get("UV_CACHE_DIR") == str(install.SHARED) else "")
        )
        return run.errors.pop(0)  # type: ignore[attr-defined, no-any-return]

    monkeypatch.setattr(install, "run", run)
    return programs


def fail_with(*errors: str) -> None:
    install.run.errors = [(1 if error else 0, [error] if error else []) for error in errors]  # type: ignore[attr-defined]


def test_a_package_that_must_be_built_ends_the_step_with_a_word(
    tried: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    fail_with('error: Permission denied at path "/run/littlest-binder/shared/builds-v0/.tmp1"')
    assert install.install(arguments(wheels=True, optional=False)) == 1
    assert tried == ["uv shared"]
    assert capsys.readouterr().out == install.AGAIN + "\n"


def test_what_uv_cannot_do_pip_tries(tried: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    fail_with("error: something that uv does not like", "")
    assert install.install(arguments(optional=False)) == 0
    assert tried == ["uv", "python"]
    assert "does not like" in capsys.readouterr().out


@pytest.mark.parametrize(
    "error",
    [
        "error: No solution found when resolving dependencies\n  cause: Because x was not found",
        "error: Failed to build `x`\n  cause: The build backend returned an error",
        "error: Hash mismatch for `x`",
        "error: No space left on device",
        "error: dns error",
    ],
)
def test_what_pip_could_not_do_either_ends_at_once(
    tried: list[str], error: str, capsys: pytest.CaptureFixture[str]
) -> None:
    for wheels in (True, False):
        fail_with(error)
        assert install.install(arguments(wheels=wheels, optional=False)) == 1
        said = capsys.readouterr().out
        assert error in said
        assert install.AGAIN not in said
    assert tried == ["uv shared", "uv"]


def test_pip_is_asked_where_only_prereleases_are_left(tried: list[str]) -> None:
    fail_with("error: No solution found\n\nhint: Pre-releases are available for `x`", "")
    assert install.install(arguments(optional=False)) == 0
    assert tried == ["uv", "python"]


def test_the_failure_of_the_last_way_counts_unless_it_is_optional(tried: list[str]) -> None:
    fail_with("error: a", "error: b")
    assert install.install(arguments(optional=False)) == 1
    fail_with("error: a", "error: b")
    assert install.install(arguments(optional=True)) == 0


def test_lines_are_said_until_the_first_error(capsys: pytest.CaptureFixture[str]) -> None:
    code, errors = install.run(["sh", "-c", "echo one; echo error: two; echo three >&2; exit 3"], {})
    assert (code, errors) == (3, ["error: two", "three"])
    assert capsys.readouterr().out == "one\n"


@pytest.fixture
def commands(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> list[list[str]]:
    """What is run after an installation that succeeds, in an environment below `tmp_path`."""
    found: list[list[str]] = []
    python = tmp_path / "venv" / "bin" / "python"
    (tmp_path / "venv" / "lib" / "python3.11" / "site-packages").mkdir(parents=True)
    python.parent.mkdir()
    python.symlink_to("/usr/bin/python3.11")

    def replace_it(args: argparse.Namespace) -> int:
        python.unlink()
        python.write_text("evil")
        return 0

    monkeypatch.setattr(install, "install", replace_it)
    monkeypatch.setattr(install.subprocess, "run", lambda command, **_: found.append(command))
    return found


@pytest.mark.parametrize("wheels", [True, False])
def test_bytecode_is_compiled_by_an_interpreter_that_no_wheel_replaces(
    commands: list[list[str]], tmp_path: Path, wheels: bool
) -> None:
    venv = tmp_path / "venv"
    options = ["--user", "1:2", "--python", str(venv / "bin" / "python"), *(["--wheels"] if wheels else [])]
    assert install.main([*options, "--", "-r", "requirements.txt"]) == 0
    (command,) = commands
    program = command[command.index("--") + 1 :]
    assert program[0].startswith("/usr/bin/python3")
    assert program[1:3] == ["-I", "-S"]
    assert str(venv / "lib" / "python3.11" / "site-packages") in program
    assert (program[-1] == str(install.SHARED / "bytecode")) is wheels
    assert (f"--groups={install.GROUP}" in command) is wheels


def test_bytecode_can_be_left_out(commands: list[list[str]], tmp_path: Path) -> None:
    python = tmp_path / "venv" / "bin" / "python"
    assert install.main(["--user", "1:2", "--python", str(python), "--no-bytecode", "--", "x"]) == 0
    assert commands == []
