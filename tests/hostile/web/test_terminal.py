"""Texts of others in a terminal."""

from __future__ import annotations

import pytest
from rich.table import Table

from tljh_plugin.cli._service import console, progress_bar
from tljh_plugin.source.spec import parse_link

TEXTS = [
    "[link=https://evil.example]github.com/honest[/link]",
    "[/]",  # an error of the markup would end the whole list
    "[red]x",
    ":skull:",
    "[bold",
]


@pytest.mark.attack("web: terminals")
@pytest.mark.parametrize("text", TEXTS)
def test_what_stands_in_a_list_is_only_text(text: str, capsys: pytest.CaptureFixture[str]) -> None:
    table = Table("title", box=None)
    table.add_row(text)
    console().print(table)
    console().print(text)
    assert capsys.readouterr().out.count(text) == 2
    with progress_bar() as bar:
        bar.add_task(text)
        bar.refresh()
        assert text in bar.console.render_str(text).plain


@pytest.mark.attack("web: terminals")
def test_a_repositorys_name_can_have_brackets_and_stays_a_name(capsys: pytest.CaptureFixture[str]) -> None:
    title = parse_link("git/https%3A%2F%2Fgit.example.org%2F%5B%2Fx%5D/main").display
    console().print(title)
    assert title in capsys.readouterr().out
