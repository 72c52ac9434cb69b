"""Images that start and images that do not, on a real Docker."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from pathlib import Path

import pytest

from tljh_plugin.build import packages
from tljh_plugin.build.check import check_image
from tljh_plugin.engine import Engine
from tljh_plugin.errors import EngineError, ImageNotFound
from tljh_plugin.settings import Settings, from_mapping

pytestmark = pytest.mark.docker

DEBIAN = "littlest-binder/debian:bookworm"

# Answers only if everything is as it will be for a real server.
STRICT_SERVER = """#!/usr/bin/env python3
import json, os, socket, sys, time, urllib.parse, urllib.request
from http.server import BaseHTTPRequestHandler, HTTPServer

hub = os.environ["JUPYTERHUB_API_URL"]
place = urllib.parse.urlsplit(hub)
for _ in range(600):  # as JupyterHub's own does: a hub may come up a moment later
    with socket.socket() as knock:
        if knock.connect_ex((place.hostname, place.port)) == 0:
            break
    time.sleep(0.05)
for path, data in (("", None), ("/user", None), ("/users/check/activity", b"{}"), ("/oauth2/token", b"x=1")):
    with urllib.request.urlopen(hub + path, data=data) as answer:
        assert answer.headers["X-JupyterHub-Version"], path
        json.load(answer)
assert (os.getuid(), os.getgid(), os.getgroups()) == (4321, 1234, [1234]), os.getgroups()
assert os.listdir("/sys/class/net") == ["lo"]
assert sys.argv[1:] == [], sys.argv
assert os.environ["HOME"] == "/home/strict"
assert os.getcwd() == "/home/strict/work"
assert not os.path.exists("/var/run/docker.sock")


class Handler(BaseHTTPRequestHandler):
    def do_GET(self):
        self.send_response(200 if self.path == "/user/check/api" else 500)
        self.end_headers()


HTTPServer(("0.0.0.0", 8888), Handler).serve_forever()
"""


def settings(**sections: object) -> Settings:
    return from_mapping(sections, platform="jupyterhub", state_dir=Path("/nonexistent"))


@pytest.fixture
def fake_server(build_image: Callable[..., str]) -> Callable[..., str]:
    """An image of our base with another `jupyterhub-singleuser`."""

    def build(script: str, more: str = "") -> str:
        return build_image(
            "FROM littlest-binder/base\nUSER root\nENV PATH=/usr/local/bin:/usr/bin:/bin\n"
            f"COPY singleuser /usr/local/bin/jupyterhub-singleuser\n{more}",
            {"singleuser": script},
        )

    return build


async def test_our_base_image_starts(engine: Engine, base_image: str) -> None:
    found = await check_image(engine, settings(), base_image, base_image)
    assert (found.ok, found.problem, found.home, found.workdir) == (True, "", "/home/jovyan", "/home/jovyan")
    assert found.seconds > 0
    named = {(each.kind, each.name) for each in found.packages or ()}
    assert {("python", "jupyterlab"), ("python", "jupyterhub"), ("debian", "libc6")} <= named


@pytest.mark.parametrize(
    ("python", "told"),
    [("exec yes", False), ("exec sleep 600", False), ("exit 3", False), ("echo '{\"packages\": []}'", True)],
)
async def test_what_an_image_says_of_itself_neither_fails_nor_holds_up_its_check(
    engine: Engine,
    base_image: str,
    fake_server: Callable[..., str],
    monkeypatch: pytest.MonkeyPatch,
    python: str,
    told: bool,
) -> None:
    monkeypatch.setattr(packages, "_LIMIT_S", 60.0 if told else 3.0)
    server = STRICT_SERVER.replace("/usr/bin/env python3", "/usr/bin/real-python3")
    odd = (
        "RUN cp -L $(command -v python3) /usr/bin/real-python3"
        " && printf '#!/bin/sh\\n%s\\n' \"$ODD\" > /usr/local/bin/python3"
        " && chmod 755 /usr/local/bin/python3\n"
    )
    places = "ENV HOME=/home/strict\nWORKDIR /home/strict/work\n"
    image = fake_server(server, f"{places}ENV ODD={json.dumps(python)}\n{odd}")
    found = await check_image(engine, settings(servers={"uid": 4321, "gid": 1234}), image, base_image)
    assert (found.problem, found.ok) == ("", True)
    assert found.packages == (() if told else None)


async def test_an_image_that_says_root_runs_as_our_user(
    engine: Engine, base_image: str, build_image: Callable[..., str]
) -> None:
    image = build_image("FROM littlest-binder/base\nUSER root\n")
    assert (await check_image(engine, settings(), image, base_image)).ok


async def test_a_checked_server_is_treated_like_a_real_one(
    engine: Engine, base_image: str, fake_server: Callable[..., str]
) -> None:
    image = fake_server(STRICT_SERVER, "ENV HOME=/home/strict\nWORKDIR /home/strict/work\n")
    strict = settings(servers={"uid": 4321, "gid": 1234})
    found = await check_image(engine, strict, image, base_image)
    assert (found.problem, found.ok) == ("", True)
    assert (found.home, found.workdir) == ("/home/strict", "/home/strict/work")


async def test_an_image_without_jupyter_or_even_python(engine: Engine, base_image: str) -> None:
    found = await check_image(engine, settings(), DEBIAN, base_image)
    assert not found.ok
    assert found.problem == "The image has no `jupyterhub-singleuser`."
    assert "pip install jupyterhub jupyterlab" in found.next_step


async def test_an_image_with_nothing_in_it(
    engine: Engine, base_image: str, small_image: Callable[..., str]
) -> None:
    found = await check_image(engine, settings(), small_image(), base_image)
    assert found.problem == "The image has no `jupyterhub-singleuser`."


async def test_an_image_whose_jupyter_was_taken_out(
    engine: Engine, base_image: str, build_image: Callable[..., str]
) -> None:
    image = build_image("FROM littlest-binder/base\nUSER root\nRUN rm /srv/venv/bin/jupyterhub-singleuser\n")
    found = await check_image(engine, settings(), image, base_image)
    assert found.problem == "The image has no `jupyterhub-singleuser`."


async def test_an_image_that_wants_root(
    engine: Engine, base_image: str, fake_server: Callable[..., str]
) -> None:
    image = fake_server("#!/bin/sh\nset -e\necho beginning\ntouch /root/state\n", "USER root\n")
    found = await check_image(engine, settings(servers={"uid": 4321}), image, base_image)
    assert not found.ok
    assert "wants to run as root" in found.problem
    assert "/root/state" in found.problem
    assert "4321" in found.next_step


async def test_a_crash_shows_its_last_lines(
    engine: Engine, base_image: str, fake_server: Callable[..., str]
) -> None:
    image = fake_server("#!/bin/sh\necho all is well\necho no more\nexit 42\n")
    found = await check_image(engine, settings(), image, base_image)
    assert "exit code 42" in found.problem
    assert "all is well | no more" in found.problem


async def test_a_missing_module_is_named(
    engine: Engine, base_image: str, fake_server: Callable[..., str]
) -> None:
    image = fake_server("#!/usr/bin/python3\nimport jupyterlab_that_is_missing\n")
    found = await check_image(engine, settings(), image, base_image)
    assert "`jupyterlab_that_is_missing`" in found.problem


async def test_a_server_that_never_answers(
    engine: Engine, base_image: str, fake_server: Callable[..., str]
) -> None:
    image = fake_server("#!/bin/sh\necho waiting for a miracle\nexec sleep 300\n")
    found = await check_image(engine, settings(build={"check_timeout_s": 5}), image, base_image)
    assert "did not answer on its port within 5 s" in found.problem
    assert "waiting for a miracle" in found.problem


async def test_an_entry_point_that_ignores_its_command(
    engine: Engine, base_image: str, build_image: Callable[..., str]
) -> None:
    image = build_image('FROM littlest-binder/base\nENTRYPOINT ["sleep", "300"]\n')
    found = await check_image(engine, settings(build={"check_timeout_s": 2}), image, base_image)
    assert not found.ok
    assert "jupyterhub-singleuser" in found.problem


async def test_a_server_that_fails_at_every_request(
    engine: Engine, base_image: str, fake_server: Callable[..., str]
) -> None:
    broken = STRICT_SERVER.split("class Handler")[1].replace("200 if", "500 if")
    image = fake_server(
        f"#!/usr/bin/python3\nfrom http.server import *\n\n\nclass Handler{broken}",
    )
    found = await check_image(engine, settings(build={"check_timeout_s": 2}), image, base_image)
    assert "did not answer" in found.problem


async def test_too_little_memory_is_told(
    engine: Engine, base_image: str, fake_server: Callable[..., str]
) -> None:
    image = fake_server("#!/bin/sh\nexec python3 -c 'x = bytearray(10**9); print(len(x))'\n")
    small = settings(servers={"memory_bytes": 64 * 1024**2})
    found = await check_image(engine, small, image, base_image)
    assert "needed more than 64 MiB of memory" in found.problem


async def test_a_flood_of_output_is_kept_short(
    engine: Engine, base_image: str, fake_server: Callable[..., str]
) -> None:
    image = fake_server("#!/bin/sh\nhead -c 30000000 /dev/zero | tr '\\0' x\nexit 1\n")
    found = await check_image(engine, settings(servers={"log_bytes": 1_000_000}), image, base_image)
    assert not found.ok
    assert len(found.problem) < 3000


async def test_a_check_that_is_cancelled_leaves_nothing(engine: Engine, base_image: str) -> None:
    checking = asyncio.ensure_future(check_image(engine, settings(), base_image, base_image))
    while len([row for row in await engine.containers() if engine.is_ours(row.labels)]) < 2:  # noqa: ASYNC110
        await asyncio.sleep(0)
    checking.cancel()
    with pytest.raises(asyncio.CancelledError):
        await checking


async def test_an_image_that_is_gone_is_an_error(engine: Engine, base_image: str) -> None:
    with pytest.raises(ImageNotFound, match="none:1"):
        await check_image(engine, settings(), "littlest-binder/none:1", base_image)
    with pytest.raises(ImageNotFound, match="base:none"):
        await check_image(engine, settings(), base_image, "littlest-binder/base:none")


async def test_a_base_image_without_python_is_not_the_images_fault(engine: Engine, base_image: str) -> None:
    with pytest.raises(EngineError, match="base image"):
        await check_image(engine, settings(), base_image, DEBIAN)


async def test_many_checks_at_once_do_not_meet(engine: Engine, base_image: str) -> None:
    found = await asyncio.gather(*(check_image(engine, settings(), base_image, base_image) for _ in range(3)))
    assert [each.ok for each in found] == [True, True, True]
