"""What hostile tests share; at the end of a run, a table of the attempts by class.

`@pytest.mark.attack("becoming root")` counts a test as an attempt of that class that must be stopped; with
`preventable=False` as one that cannot be stopped here: it is shown to work, so that nobody believes
otherwise, and what the security page says of it begins with the words in `page`. With `counterpart=False`
nothing here shows that it would get through if the rule in question were not there.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import docker
import docker.utils
import pytest

from tljh_plugin.build.base import ensure_base
from tljh_plugin.installation import ensure_state
from tljh_plugin.settings import from_mapping

PAGE = Path(__file__).parents[2] / "docs" / "explanation" / "security.md"
_ALONE = "of these without a counterpart"
_COLUMNS = ("tried", "stopped", _ALONE, "not preventable here", "went through")


def pytest_itemcollected(item: pytest.Item) -> None:
    mark = item.get_closest_marker("attack")
    if mark is not None:
        told = (mark.args[0], mark.kwargs.get("preventable", True), mark.kwargs.get("counterpart", True))
        item.user_properties.append(("attack", told))


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    table: dict[str, Counter[str]] = {}
    for outcome in ("passed", "failed"):
        for report in terminalreporter.stats.get(outcome, ()):
            told = (value for key, value in report.user_properties if key == "attack")
            for kind, preventable, counterpart in told:
                row = table.setdefault(kind, Counter())
                row["tried"] += 1
                if outcome == "failed":
                    row["went through"] += 1
                else:
                    row["stopped" if preventable else "not preventable here"] += 1
                    row[_ALONE] += preventable and not counterpart
    if table:
        terminalreporter.section("hostile attempts")
        width = max(map(len, table))
        terminalreporter.line(f"{'':{width}}  " + "  ".join(_COLUMNS))
        for kind, row in [*sorted(table.items()), ("all", sum(table.values(), Counter()))]:
            cells = (f"{row[column]:{len(column)}}" for column in _COLUMNS)
            terminalreporter.line(f"{kind:{width}}  " + "  ".join(cells))


@pytest.fixture(autouse=True)
def told_on_the_security_page(request: pytest.FixtureRequest) -> None:
    """What cannot be stopped stands under "Not preventable" for everybody to read."""
    mark = request.node.get_closest_marker("attack")
    if mark is not None and not mark.kwargs.get("preventable", True):
        told = PAGE.read_text(encoding="utf-8").partition("\n## Not preventable\n")[2]
        assert f"- **{mark.kwargs['page']}" in told


@pytest.fixture(scope="session")
def base_image(tmp_path_factory: pytest.TempPathFactory) -> str:
    """The name of our base image; made if it is not there, which takes some minutes once."""
    settings = from_mapping({}, platform="jupyterhub", state_dir=tmp_path_factory.mktemp("state"))
    ensure_state(settings)
    return asyncio.run(ensure_base(settings, lambda line: None)).name


@pytest.fixture(scope="session")
def client() -> Iterator[docker.APIClient]:
    """Docker itself."""
    low_level = docker.APIClient(**docker.utils.kwargs_from_env(), version="auto")
    yield low_level
    low_level.close()
