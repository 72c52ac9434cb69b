"""Starting, finding and stopping what runs in the background, with a small program in the place of `up`."""

from __future__ import annotations

import asyncio
import fcntl
import json
import os
import sys
import threading
from collections.abc import AsyncIterator
from contextlib import suppress
from pathlib import Path

import pytest
from waiting import until

from tljh_plugin.errors import HubUnavailable
from tljh_plugin.installation import ensure_state
from tljh_plugin.operation import autostart, background
from tljh_plugin.operation.at_home import AlreadyRunning, lock_path, only_one
from tljh_plugin.settings import Settings, load_desktop

# Takes the lock, says three lines, is ready, and ends when it is asked to; or ends at once.
UP = """
import os, signal, sys
from pathlib import Path
from tljh_plugin.operation.at_home import only_one
from tljh_plugin.settings import load_desktop
settings = load_desktop()
if os.environ.get("BROKEN"):
    sys.exit("Port 8888 is taken by nginx.")
with only_one(settings):
    print("[  0.1 s] Docker\\n[  0.2 s] Hub and service", flush=True)
    ready = settings.state_dir / "ready"
    signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGTERM])
    ready.touch()
    signal.sigwait([signal.SIGTERM])
    ready.unlink()
"""


@pytest.fixture
async def settings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Settings]:
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path))
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    settings = load_desktop()
    ensure_state(settings)

    async def answers(settings: Settings) -> bool:
        return (settings.state_dir / "ready").exists()

    monkeypatch.setattr(background, "answers", answers)
    monkeypatch.setattr(background, "COMMAND", (sys.executable, "-c", UP))
    yield settings
    await background.stop(settings)


def running(settings: Settings) -> list[str]:
    """The processes that work in this state folder."""
    found = []
    for place in Path("/proc").glob("[0-9]*"):
        with suppress(OSError):
            mark = f"XDG_DATA_HOME={settings.state_dir.parent}".encode()
            state = (place / "stat").read_text().rpartition(")")[2].split()[0]
            if mark in (place / "environ").read_bytes().split(b"\0") and state not in "ZX":
                found.append(place.name)
    return [each for each in found if each != str(os.getpid())]


async def test_it_is_started_once_and_its_lines_are_told(settings: Settings) -> None:
    told: list[str] = []
    assert await background.ensure_running(settings, told.append)
    first = background.holder(settings)
    assert first
    await until(lambda: "Hub and service" in background.log_path(settings).read_text())
    assert "[  0.1 s] Docker" in told
    assert not await background.ensure_running(settings, told.append)
    assert background.holder(settings) == first


async def test_two_that_start_it_at_once_wait_for_the_same(settings: Settings) -> None:
    await asyncio.gather(*(background.ensure_running(settings, lambda _: None) for _ in range(3)))
    assert background.holder(settings)
    assert await background.stop(settings)
    await until(lambda: not running(settings))
    assert background.holder(settings) is None, "none that came too late begins after that"


async def test_stop_waits_until_it_has_ended(settings: Settings) -> None:
    await background.ensure_running(settings, lambda _: None)
    number = background.holder(settings)
    assert await background.stop(settings)
    assert background.holder(settings) is None
    assert not (settings.state_dir / "ready").exists(), "it ended in order"
    assert number
    assert not await background.stop(settings)


async def test_a_start_that_fails_says_what_it_said_and_where_all_of_it_is(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    background.log_path(settings).write_text("of an earlier run\n")
    monkeypatch.setenv("BROKEN", "1")
    with pytest.raises(HubUnavailable) as caught:
        await background.ensure_running(settings, lambda _: None)
    assert "Port 8888 is taken by nginx." in caught.value.message
    assert "earlier" not in caught.value.message
    assert "up.log" in caught.value.next_step


async def test_the_autostarts_unit_is_what_is_started_where_there_is_one(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    autostart.unit_path().parent.mkdir(parents=True)
    autostart.unit_path().write_text("# Written by `littlest-binder autostart on`\n")
    started: list[str] = []
    monkeypatch.setattr(autostart, "start", lambda: started.append("unit"))
    off = autostart.Autostart(True, False, False, autostart.unit_path())
    monkeypatch.setattr(autostart, "status", lambda: off)
    with pytest.raises(HubUnavailable) as caught:
        await background.ensure_running(settings, lambda _: None)
    assert started == ["unit"]
    assert "journalctl --user" in caught.value.next_step


def test_the_number_in_the_lock_is_who_holds_it(settings: Settings) -> None:
    assert background.holder(settings) is None
    with only_one(settings):
        assert background.holder(settings) == os.getpid()
        with pytest.raises(AlreadyRunning), only_one(settings):
            pass
        assert background.holder(settings) == os.getpid(), "the one that came too late changed nothing"
        assert json.loads(lock_path(settings).read_text()) == {"pid": os.getpid()}
    assert background.holder(settings) is None


def test_who_only_looks_keeps_nobody_from_starting(settings: Settings) -> None:
    with lock_path(settings).open("a+") as looking:
        fcntl.flock(looking, fcntl.LOCK_SH)
        threading.Timer(0.1, lambda: fcntl.flock(looking, fcntl.LOCK_UN)).start()
        with only_one(settings):
            assert background.holder(settings) == os.getpid()


async def test_a_process_that_cannot_be_told_is_not_guessed(settings: Settings) -> None:
    with only_one(settings):
        lock_path(settings).write_text("")
        with pytest.raises(HubUnavailable, match="does not say which"):
            await background.stop(settings)
