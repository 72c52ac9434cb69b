"""Tables of the command line: what other commands take is whole, at any width."""

from __future__ import annotations

import pytest
from rich.console import Console

from tljh_plugin.cli._service import console, repository, table

BUILD = "b-20261121-0123456789"


@pytest.mark.parametrize("width", [40, 80, 200])
def test_the_first_column_is_never_shortened(width: int) -> None:
    rows = table("id", "repository", "state")
    rows.add_row(BUILD, "https://git.example.org/" + "very-long-name/" * 6, "built")
    with (out := Console(width=width)).capture() as said:
        out.print(rows)
    assert BUILD in said.get()


def test_a_pipe_gets_one_line_a_row(capsys: pytest.CaptureFixture[str]) -> None:
    rows = table("id", "repository")
    rows.add_row(BUILD, "x" * 500)
    console().print(rows)
    assert [line.split() for line in capsys.readouterr().out.splitlines()] == [
        ["id", "repository"],
        [BUILD, "x" * 500],
    ]


@pytest.mark.parametrize(
    ("stored", "shown"),
    [("gh/owner/repo/main", "github.com/owner/repo"), ("local/%2Fsrv%2Fa%20b/HEAD", "/srv/a b"), ("?", "?")],
)
def test_repositories_are_shown_as_people_write_them(stored: str, shown: str) -> None:
    assert repository(stored) == shown
