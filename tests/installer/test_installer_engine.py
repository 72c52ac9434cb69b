"""Starting the engine where nobody else does: it may take its time."""

from __future__ import annotations

import sys
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
