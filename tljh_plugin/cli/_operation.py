"""What `backup`, `restore`, `upgrade` and `uninstall` share: progress on a terminal, and asking."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import click

from ..operation.backup import Progress
from ._service import progress_bar


@contextmanager
def shown(what: str, total: int | None) -> Iterator[Progress]:
    """A bar of bytes on stderr (`total` None: how many is not known)."""
    with progress_bar() as bar:
        task = bar.add_task(what, total=total)
        yield Progress(
            say=lambda text: bar.update(task, description=f"{what}: {text}"[:70]),
            advance=lambda count: bar.advance(task, count),
        )


def ask(question: str, yes: bool) -> None:
    """Ask unless it was said already; `click.Abort` for no."""
    if not yes:
        click.confirm(question, abort=True, err=True)
