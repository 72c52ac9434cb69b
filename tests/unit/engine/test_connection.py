"""A Docker that is missing, slow, silent, or comes back: against a small HTTP server on a Unix socket."""

from __future__ import annotations

import asyncio
import json
import socket
import socketserver
import subprocess
import sys
import textwrap
import threading
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import suppress
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from typing import Any

import pytest

from tljh_plugin.engine import Engine, connection
from tljh_plugin.errors import EngineError, EngineTimedOut, EngineUnavailable

SILENT_S = 300.0  # longer than anything here is waited for


class Daemon:
    """As much of Docker as these tests ask; `silent` paths get no answer until `speak` is set."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.speak = threading.Event()
        self.silent: set[str] = set()
        self.breaking: set[str] = set()  # which end in the middle of their answer
        self.api = "1.41"
        self.asked: list[str] = []
        self.connections: list[socket.socket] = []
        daemon = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_GET(self) -> None:
                what = self.path.split("?")[0].split("/", 2)[-1]
                if self.command == "DELETE":
                    what = f"DELETE {what}"
                daemon.asked.append(what)
                if what in daemon.silent:
                    daemon.speak.wait(SILENT_S)
                if what in daemon.breaking:
                    self.send_response(200)
                    self.send_header("Transfer-Encoding", "chunked")
                    self.end_headers()
                    self.wfile.write(b"50\r\nonly a few")
                    self.close_connection = True
                    return
                status, body = daemon.answer(what if self.path != "/version" else "version")
                text = json.dumps(body).encode()
                self.send_response(status)
                self.send_header("Content-Type", "application/json")
                self.send_header("Content-Length", str(len(text)))
                self.end_headers()
                self.wfile.write(text)

            do_POST = do_DELETE = do_GET

            def address_string(self) -> str:
                return "local"

            def log_message(self, format: str, *args: Any) -> None: ...

        class Server(socketserver.ThreadingMixIn, socketserver.UnixStreamServer):
            daemon_threads = True
            request_queue_size = 128
            block_on_close = False

            def get_request(self) -> Any:
                accepted = super().get_request()
                daemon.connections.append(accepted[0])
                return accepted

            def handle_error(self, request: Any, client_address: Any) -> None:
                """A client that gave up is what these tests are about."""

        self._server = Server(str(path), Handler)
        threading.Thread(
            target=self._server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True
        ).start()

    def answer(self, what: str) -> tuple[int, Any]:
        if what == "version":
            return 200, {"ApiVersion": self.api, "Version": "20.10"}
        if what == "info":
            return 200, {
                "ServerVersion": "20.10",
                "Driver": "overlay2",
                "DockerRootDir": "/",
                "Architecture": "x",
            }
        if what == "images/sha256:1/json":
            return 200, {"Id": "sha256:1", "RepoTags": [], "Created": "2026-01-01T00:00:00Z", "Size": 1}
        if what == "containers/json":
            return 200, []
        if what in ("images/json", "system/df"):
            return 500, {"message": "disk on fire"}
        return 404, {"message": f"No such thing: {what}"}

    def stop(self) -> None:
        self.speak.set()
        self._server.shutdown()
        self._server.server_close()
        for each in self.connections:
            with suppress(OSError):
                each.shutdown(socket.SHUT_RDWR)
        self.path.unlink()


@pytest.fixture
def daemon(tmp_path: Path) -> Iterator[Daemon]:
    running = Daemon(tmp_path / "docker.sock")
    yield running
    running.speak.set()
    if running.path.exists():
        running.stop()


def engine(path: Path, timeout_s: float = 60.0) -> Engine:
    return Engine("test", base_url=f"unix://{path}", timeout_s=timeout_s)


async def test_without_a_socket_the_error_says_how_to_start_docker(tmp_path: Path) -> None:
    with pytest.raises(EngineUnavailable) as caught:
        await engine(tmp_path / "docker.sock").info()
    assert "does not exist" in caught.value.message
    assert "systemctl start docker" in caught.value.next_step


async def test_a_socket_without_a_listener_is_told_apart(daemon: Daemon) -> None:
    daemon._server.shutdown()
    daemon._server.server_close()
    with pytest.raises(EngineUnavailable, match="nothing listens"):
        await engine(daemon.path).info()


async def test_a_silent_docker_times_out_and_the_error_names_the_call(daemon: Daemon) -> None:
    daemon.silent.add("info")
    began = time.monotonic()
    with pytest.raises(EngineTimedOut, match=r"within 0\.3 s when asked to tell about itself"):
        await engine(daemon.path, timeout_s=0.3).info()
    assert time.monotonic() - began < SILENT_S / 2


async def test_a_docker_that_is_silent_from_the_first_word_times_out(daemon: Daemon) -> None:
    daemon.silent.add("version")
    with pytest.raises(EngineTimedOut):
        await engine(daemon.path, timeout_s=0.3).info()


@pytest.mark.parametrize(
    ("step", "seconds"),
    [("images/sha256:1/json", "0.3"), ("containers/json", "0.3"), ("DELETE images/sha256:1", "0.9")],
)
async def test_only_the_removal_itself_may_take_as_long_as_a_removal(
    daemon: Daemon, step: str, seconds: str
) -> None:
    daemon.silent.add(step)
    docker = Engine("test", base_url=f"unix://{daemon.path}", timeout_s=0.3, removal_timeout_s=0.9)
    with pytest.raises(EngineTimedOut, match=rf"within {seconds} s when asked to remove the image"):
        await docker.remove_image("sha256:1", names=[])
    assert daemon.asked[-1] == step


async def test_it_is_told_how_long_docker_really_had_for_its_first_word(
    daemon: Daemon, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(connection, "_CONNECT_TIMEOUT_S", 0.3)
    daemon.silent.add("version")
    with pytest.raises(EngineTimedOut, match=r"within 0\.3 s"):
        await engine(daemon.path, timeout_s=60).info()
    with pytest.raises(EngineTimedOut, match=r"within 0\.3 s"):
        async with connection.Connection(f"unix://{daemon.path}", 60).held("read it", 60) as ask:
            await ask(lambda client: client.info())


async def test_slow_calls_delay_no_short_one(daemon: Daemon) -> None:
    daemon.silent.add("containers/x/wait")
    docker = engine(daemon.path)
    waits = [asyncio.ensure_future(docker.wait("x", SILENT_S)) for _ in range(40)]
    while daemon.asked.count("containers/x/wait") < 40:  # noqa: ASYNC110  # counted in another thread
        await asyncio.sleep(0.01)
    assert (await docker.info()).storage_driver == "overlay2"
    assert not any(each.done() for each in waits)
    daemon.speak.set()
    results = await asyncio.gather(*waits, return_exceptions=True)
    assert all(isinstance(result, EngineError) for result in results)


async def test_a_docker_that_comes_back_is_used_again(daemon: Daemon) -> None:
    docker = engine(daemon.path)
    assert (await docker.info()).version == "20.10"
    daemon.stop()
    with pytest.raises(EngineUnavailable):
        await docker.info()
    again = Daemon(daemon.path)
    try:
        assert (await docker.info()).version == "20.10"
    finally:
        again.stop()


async def test_a_restart_between_two_calls_is_not_seen(daemon: Daemon) -> None:
    """The kept connection is stale then."""
    docker = engine(daemon.path)
    await docker.info()
    daemon.stop()
    again = Daemon(daemon.path)
    try:
        assert (await docker.info()).version == "20.10"
    finally:
        again.stop()


async def test_what_docker_refuses_becomes_an_error_with_its_words(daemon: Daemon) -> None:
    with pytest.raises(EngineError, match="Docker refused to list the images: disk on fire"):
        await engine(daemon.path).images()


async def test_a_refusal_to_list_the_build_cache_is_no_missing_docker(daemon: Daemon) -> None:
    daemon.api = "1.44"
    with pytest.raises(EngineError, match=r"Docker refused .*disk on fire") as caught:
        await engine(daemon.path).cache_records()
    assert not isinstance(caught.value, EngineUnavailable)


async def test_a_docker_that_dies_in_its_answer_to_a_load_cannot_be_reached(daemon: Daemon) -> None:
    async def nothing() -> AsyncIterator[bytes]:
        for piece in ():
            yield piece

    daemon.breaking.add("images/load")
    with pytest.raises(EngineUnavailable):
        await engine(daemon.path).load(nothing())


async def test_what_is_not_there_is_none(daemon: Daemon) -> None:
    assert await engine(daemon.path).image("nothing") is None
    assert await engine(daemon.path).inspect("nothing") is None
    assert await engine(daemon.path).logs("nothing") == ""


def test_a_call_that_never_returns_does_not_hold_up_the_end_of_the_process(daemon: Daemon) -> None:
    daemon.silent.add("info")
    program = f"""
        import asyncio
        from tljh_plugin.engine import Engine, connection
        from tljh_plugin.errors import EngineTimedOut

        async def main():
            engine = Engine("test", base_url="unix://{daemon.path}", timeout_s={SILENT_S})
            waiting = asyncio.ensure_future(engine.info())
            await asyncio.wait({{waiting}}, timeout=0.5)
            waiting.cancel()

        asyncio.run(main())
    """
    began = time.monotonic()
    subprocess.run([sys.executable, "-c", textwrap.dedent(program)], check=True, timeout=SILENT_S)
    assert time.monotonic() - began < SILENT_S / 2


def test_an_engine_without_an_installation_is_refused() -> None:
    with pytest.raises(ValueError, match="id"):
        Engine("")
