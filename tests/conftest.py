"""Options and fixtures that all tests may use."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
import soak as soak_run
from git_server import GitServer
from hypothesis import HealthCheck, settings

from tljh_plugin import request_ids

# How long an example takes says nothing about the code on a machine that others use too.
settings.register_profile("here", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("here")


def pytest_addoption(parser: pytest.Parser) -> None:
    soak_run.add_options(parser)


def pytest_configure(config: pytest.Config) -> None:
    if config.getoption("soak"):
        minutes = config.getoption("soak_minutes")
        part = soak_run.Part.parse(config.getoption("soak_part"))
        config.pluginmanager.register(soak_run.Soak(soak_run.Ledger(), minutes, part), "soak")
    if config.getoption("tx", None):
        config.pluginmanager.register(ToldAtOnce(config), "told-at-once")


class ToldAtOnce:
    """Side by side no file is named in front of a dot, and the end of the run may be half an hour away."""

    def __init__(self, config: pytest.Config) -> None:
        self._config = config

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        screen = self._config.pluginmanager.get_plugin("terminalreporter")
        if report.failed and screen is not None:
            screen.write_line(f"\n{report.when} of {report.nodeid} failed: {_first_line(report)}")


def _first_line(report: pytest.TestReport) -> str:
    crash = getattr(report.longrepr, "reprcrash", None)
    return crash.message.partition("\n")[0] if crash else ""


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    soak_run.repeat(metafunc)


@pytest.fixture(scope="session")
def soak(request: pytest.FixtureRequest) -> bool:
    """Whether full counts are wanted."""
    return bool(request.config.getoption("soak"))


@pytest.fixture
def git_server(tmp_path: Path) -> Iterator[GitServer]:
    """A real git server on loopback, without repositories."""
    with GitServer(tmp_path / "served") as server:
        yield server


@pytest.fixture(autouse=True)
def of_no_request() -> Iterator[None]:
    """What a test begins, as a command does, is not told of the next one."""
    with request_ids.belonging(""):
        yield
