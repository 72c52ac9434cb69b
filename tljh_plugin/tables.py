"""Tables as CSV (RFC 4180) for spreadsheets."""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Iterable, Sequence

# With these a spreadsheet begins a formula, and the texts in our tables are partly those of strangers.
# https://owasp.org/www-community/attacks/CSV_Injection
# Where a comma is for decimals they divide at `;`, and then read quotes otherwise than they were meant.
_SIGN = r"(?:[^\S\r\n]|\")*[=+\-@＝＋－＠]"
_FORMULA = re.compile(rf"^(?=[\t\r\n]|{_SIGN})|(?<=.[;\r\n])(?={_SIGN})", re.DOTALL)


def as_csv(header: Sequence[str], rows: Iterable[Sequence[object]]) -> str:
    """The table with its header; what would be a formula of a text gets an apostrophe before it."""
    out = io.StringIO()
    writer = csv.writer(out)
    writer.writerow(header)
    writer.writerows([_cell(each) for each in row] for row in rows)
    return out.getvalue()


def _cell(value: object) -> object:
    if isinstance(value, str):
        return _FORMULA.sub("'", value)
    return "" if value is None else value
