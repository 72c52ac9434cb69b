"""Starting the engine where nobody else does: it may take its time."""

from __future__ import annotations

import fcntl
import os
import shutil
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from steps import engine
from steps.console import Step
from steps.engine import Engine
from steps.site import Site

# It listens as soon as it lives, as Docker does, and serves only after a while.
SLOW = """#!{python}
import http.server, signal, socketserver, sys, time
signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
class Answer(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        self.send_response(200)
        self.end_headers()
        self.wfile.write(b'{{"ServerVersion": "20.10.24"}}')
    def address_string(self):
        return ""
    def log_message(self, *_):
        pass
with socketserver.ThreadingUnixStreamServer({socket!r}, Answer) as server:
    time.sleep(1.5)
    server.serve_forever()
"""


def test_an_engine_that_listens_long_before_it_serves_is_waited_for(
    site: Site, step: Step, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    socket = str(tmp_path / "docker.sock")
    program = tmp_path / "dockerd"
    program.write_text(SLOW.format(python=sys.executable, socket=socket))
    program.chmod(0o755)
    monkeypatch.setattr(engine, "which", lambda name: str(program))
    monkeypatch.setattr(engine, "ensure_programs", lambda *_: None)
    monkeypatch.setattr(engine, "_forget_dead_engine", lambda: None)
    monkeypatch.setattr(engine, "LOG_DIR", tmp_path)
    monkeypatch.setattr(engine, "_NOTE", tmp_path / "run" / "engine")
    monkeypatch.setattr(engine, "ENGINE_LOG", tmp_path / "dockerd.log")
    monkeypatch.setattr(engine, "_ANSWER_S", 0.3)
    monkeypatch.setattr(engine, "_START_S", 120.0)
    ask = engine.ask
    monkeypatch.setattr(engine, "ask", lambda: ask(socket))
    docker = Engine(site)
    try:
        assert docker.ensure(step) == "version 20.10.24, started by us"
    finally:
        docker.stop(step)


def program(folder: Path, name: str) -> subprocess.Popen[bytes]:
    """A living process of that name."""
    path = folder / name
    shutil.copy("/usr/bin/sleep", path)
    return subprocess.Popen([path, "600"])


@pytest.fixture
def zombie(tmp_path: Path) -> Iterator[int]:
    """A dockerd that was killed and that nobody buries, as where the first process is no init."""
    process = program(tmp_path, "dockerd")
    process.kill()
    os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOWAIT)
    yield process.pid
    process.wait()


def test_an_engine_that_was_killed_and_not_buried_is_forgotten(zombie: int, tmp_path: Path) -> None:
    note = tmp_path / "docker.pid"
    note.write_text(str(zombie))
    assert Path(f"/proc/{zombie}/comm").read_text().strip() == "dockerd", "it looks alive"
    engine._forget_dead_engine({note: "dockerd"})
    assert not note.exists()


def test_the_number_of_a_dead_containerd_is_forgotten_when_another_program_has_it(tmp_path: Path) -> None:
    note = tmp_path / "containerd.pid"
    note.write_text(str(os.getpid()))
    engine._forget_dead_engine({note: "containerd"})
    assert not note.exists()


def test_an_engine_that_runs_is_not_forgotten(tmp_path: Path) -> None:
    note = tmp_path / "docker.pid"
    process = program(tmp_path, "dockerd")
    try:
        note.write_text(str(process.pid))
        engine._forget_dead_engine({note: "dockerd"})
        assert note.exists()
    finally:
        process.kill()
        process.wait()


def test_an_engine_that_is_being_stopped_is_not_taken_for_one_that_runs(step: Step, tmp_path: Path) -> None:
    note = tmp_path / "engine"
    with note.open("w") as held:
        fcntl.flock(held, fcntl.LOCK_EX)
        held.write("running")
        held.flush()
        engine._wait_while_stopping(step, note)  # returns: it can be used
        held.seek(0)
        held.truncate()
        held.write("stopping")
        held.flush()
        waiting = threading.Thread(target=engine._wait_while_stopping, args=(step, note), daemon=True)
        waiting.start()
        waiting.join(timeout=0.5)
        assert waiting.is_alive()
    waiting.join(timeout=60)
    assert not waiting.is_alive()
    engine._wait_while_stopping(step, tmp_path / "none")
