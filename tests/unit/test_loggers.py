"""What our parts say is heard."""

from __future__ import annotations

import re
from pathlib import Path

from tljh_plugin import log_lines


def test_each_logger_is_one_that_says_something() -> None:
    """Those of other names are silent below warnings."""
    names = {
        name
        for path in Path(log_lines.__file__).parent.rglob("*.py")
        for name in re.findall(r"getLogger\(([^)]*)\)", path.read_text(encoding="utf-8"))
    }
    known = re.compile(r'"littlest_binder(\.[a-z_]+)?"|OURS|"tljh"|"httpx"|')
    assert [name for name in sorted(names) if not known.fullmatch(name)] == []
