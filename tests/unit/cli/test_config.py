"""`littlest-binder config` as a person and as a program use it."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tljh_plugin import cli

GOOD = "binder:\n  build:\n    concurrent: 3\n"
DOUBTFUL = "binder:\n  updates:\n    rebuild: all\n"
BAD = "binder:\n  build:\n    concurent: 3\n"


@pytest.fixture
def config(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The file of a desktop of this test's own."""
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path))
    monkeypatch.delenv("LITTLEST_BINDER_STATE", raising=False)
    path = tmp_path / "littlest-binder" / "config.yaml"
    path.parent.mkdir()
    return path


def run(*arguments: str) -> int:
    with pytest.raises(SystemExit) as ended:
        cli.main(["config", *arguments])
    return int(ended.value.code or 0)


@pytest.mark.parametrize(
    ("text", "options", "code"),
    [
        (GOOD, [], 0),
        (DOUBTFUL, [], 0),
        (DOUBTFUL, ["--strict"], 1),
        (GOOD, ["--strict"], 0),
        (BAD, [], 2),
        ("a: [", [], 2),
    ],
)
def test_the_exit_code_says_how_bad_it_is(config: Path, text: str, options: list[str], code: int) -> None:
    config.write_text(text)
    assert run("check", *options) == code


def test_a_mistake_is_a_line_that_editors_understand(
    config: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    config.write_text(BAD)
    run("check")
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == f"{config}:3: MISTAKE: Unknown setting `binder.build.concurent` (value 3)."
    assert "Did you mean `concurrent`?" in lines[1]
    assert lines[-1] == f"{config}: 1 mistake."


def test_a_program_reads_the_same(config: Path, capsys: pytest.CaptureFixture[str]) -> None:
    config.write_text(BAD)
    assert run("check", "--json") == 2
    said = json.loads(capsys.readouterr().out)
    assert (said["mistakes"], said["platform"], said["file"]) == (1, "desktop", str(config))
    assert said["findings"][0]["line"] == 3
    assert set(said["findings"][0]) == {"level", "key", "file", "line", "message", "next"}


def test_a_file_that_is_not_there_is_wrong_usage(tmp_path: Path, config: Path) -> None:
    assert run("check", str(tmp_path / "nowhere.yaml")) == 2
    assert run("check") == 0, "without a file the defaults hold"


def test_what_holds_is_shown_with_where_it_comes_from(
    config: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    config.write_text(GOOD)
    assert run("show", "build") == 0
    rows = [line.split() for line in capsys.readouterr().out.splitlines()]
    assert ["binder.build.concurrent", "3", f"{config}:3"] in rows
    assert all(row[0].startswith("binder.build.") for row in rows[1:])
    assert run("show", "--said", "--json") == 0
    (only,) = json.loads(capsys.readouterr().out)
    assert (only["key"], only["value"], only["line"]) == ("binder.build.concurrent", 3, 3)


def test_nothing_is_shown_of_a_file_with_a_mistake(config: Path, capsys: pytest.CaptureFixture[str]) -> None:
    config.write_text(BAD)
    assert run("show") == 2
    assert f"{config}:3" in capsys.readouterr().err


def test_a_key_is_explained(capsys: pytest.CaptureFixture[str]) -> None:
    assert run("explain", "servers.idle_s") == 0
    said = capsys.readouterr().out
    for part in (
        "number (seconds)",
        "≥ 0",
        "idle_s: 3600",
        "sudo tljh-config set binder.servers.idle_s 3600",
    ):
        assert part in said
    assert run("explain", "mounts.source") == 0
    assert "tljh-config cannot write it" in capsys.readouterr().out


def test_a_section_is_listed(capsys: pytest.CaptureFixture[str]) -> None:
    assert run("explain", "desktop", "--json") == 0
    assert json.loads(capsys.readouterr().out)[0]["key"] == "binder.desktop.port"
    assert run("explain", "desktop") == 0
    assert "binder.desktop.port" in capsys.readouterr().out
    assert run("explain", "nonsense.key") == 2
