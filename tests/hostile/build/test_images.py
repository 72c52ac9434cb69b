"""Images that say they are root's, entry points that do as they like, and lists of what is left out."""

from __future__ import annotations

import json
import secrets
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest
from git_server import GitServer
from image_bench import Bench, in_image
from installation_parts import Parts, settings_for, visited

from tljh_plugin.build.base import BaseImage, ensure_base
from tljh_plugin.build.check import check_image
from tljh_plugin.engine import Engine

pytestmark = pytest.mark.docker

USERS = ("1000", "0:0", "root", "toor", "jovyan:0", "nobody-knows")
# As whom it runs, with which rights, and which networks it sees; then it ends.
TELL = (
    "echo told: $(id -u) $(id -g) $(id -G) $(grep CapEff /proc/self/status | cut -f2) "
    "$(grep NoNewPrivs /proc/self/status | cut -f2) $(ls /sys/class/net); exit 7"
)
TOLD = "told: 1000 1000 1000 0000000000000000 1 lo"
# Answers, and never ends its answer.
DRIP = """
import socket, time
server = socket.create_server(("0.0.0.0", 8888))
while True:
    client = server.accept()[0]
    client.sendall(b"HTTP/1.1 200 OK\\r\\n")
    try:
        while True:
            client.sendall(b"X: y\\r\\n"[:1])
            time.sleep(0.2)
    except OSError:
        pass
"""
# The first answers for ever, the second ignores its command and its end, the third leaves a child.
ENTRY_POINTS: tuple[list[str], ...] = (
    ["/srv/venv/bin/python", "-c", DRIP],
    ["sh", "-c", "trap '' TERM; while true; do sleep 1; done"],
    ["sh", "-c", "(setsid sleep 600 &); exit 0"],
    ["/no/such/program"],
    [""],
)
# What is listed, and what is then left in the home; None: it may be an error as well.
LEFT_OUT: tuple[tuple[str, list[str] | None], ...] = (
    ("*\n!requirements.txt\n!../*\n!/etc/passwd\n!../../../../etc/shadow\n", ["requirements.txt"]),
    ("requirements.txt\n.dockerignore\nDockerfile\nDockerfile.dockerignore\n", None),
    ("*", None),
    ("../**\n**/../..\n/\n.\n", None),
    ("\ufeff*\n\x00\n[\n", None),
)


@pytest.fixture
async def base(tmp_path: Path) -> BaseImage:
    return await ensure_base(settings_for(tmp_path / "base", {}), lambda _: None)


@pytest.fixture
async def parts(tmp_path: Path, git_server: GitServer, base: BaseImage) -> AsyncIterator[Parts]:
    policy = {**git_server.settings(), "dockerfile": "everyone"}
    sections = {
        "policy": policy,
        "servers": {"uid": 1000, "gid": 1000},
        "build": {"disk_reserve_bytes": 0, "check_timeout_s": 60},
    }
    async with visited(settings_for(tmp_path / "state", sections)) as ours:
        yield ours


@pytest.fixture
def bench(base: BaseImage, tmp_path: Path) -> Iterator[Bench]:
    ours = Bench(base, tmp_path)
    yield ours
    ours.clean()


def dockerfile(*lines: str) -> dict[str, str]:
    """On our base, as nobody has built it before."""
    begin = ("FROM littlest-binder/base", f"ENV TEST_RUN={secrets.token_hex(8)}", "USER root")
    return {"Dockerfile": "\n".join((*begin, *lines, ""))}


@pytest.mark.attack("build: users")
@pytest.mark.rounds(few=2, soak=len(USERS))
async def test_whoever_an_image_says_it_is_it_runs_as_our_user(
    parts: Parts, git_server: GitServer, round_number: int
) -> None:
    """Also where `1000` is the name of root."""
    user = USERS[round_number % len(USERS)]
    names = "toor:x:0:0::/:/bin/sh\\n1000:x:0:0::/:/bin/sh\\njovyan:x:0:0::/:/bin/sh"
    lines = (f"RUN sed -i '1i {names}' /etc/passwd", f"USER {user}", f'ENTRYPOINT ["sh", "-c", "{TELL}"]')
    git_server.new("image", dockerfile(*lines))
    view = await parts.build(git_server.spec("image"))
    assert view.error is not None
    assert view.error.code == "image-not-launchable"
    assert TOLD in view.error.message


@pytest.mark.attack("build: entry points", preventable=False, page="An image can pretend to be Jupyter.")
async def test_an_entry_point_that_pretends_to_be_jupyter(parts: Parts, git_server: GitServer) -> None:
    """Asked whether it answers, it does; then it gets what every server gets, and shows what it likes."""
    command = ["sh", "-c", "exec /srv/venv/bin/python -m http.server 8888"]
    git_server.new("image", dockerfile(f"ENTRYPOINT {json.dumps(command)}"))
    view = await parts.build(git_server.spec("image"))
    assert view.error is None


@pytest.mark.attack("build: entry points")
@pytest.mark.rounds(few=2, soak=len(ENTRY_POINTS))
async def test_an_entry_point_that_does_as_it_likes(
    bench: Bench, base: BaseImage, tmp_path: Path, round_number: int
) -> None:
    command = ENTRY_POINTS[round_number % len(ENTRY_POINTS)]
    image = bench.made(dockerfile(f"ENTRYPOINT {json.dumps(command)}"))
    settings = settings_for(tmp_path / "state", {"build": {"check_timeout_s": 2}})
    engine = Engine(secrets.token_hex(8), timeout_s=30)
    try:
        found = await check_image(engine, settings, image, base.id)
        assert not found.ok
        assert found.next_step
        assert [each for each in await engine.containers() if engine.is_ours(each.labels)] == []
    finally:
        await engine.close()


@pytest.mark.attack("build: left out")
@pytest.mark.rounds(few=2, soak=len(LEFT_OUT))
def test_what_is_left_out_is_the_repositorys_alone(bench: Bench, round_number: int) -> None:
    """Nothing of ours can be left out, nothing of the machine let in; what cannot be had is an error."""
    ignored, left = LEFT_OUT[round_number % len(LEFT_OUT)]
    files = {".dockerignore": ignored, "README.md": "here", "requirements.txt": ""}
    result, worker = bench.build(files, dockerfile_allowed=False)
    if not result.ok:
        assert left is None, worker.log
        assert result.error is not None
        assert result.error.code
        return
    found = in_image(
        result.image_id, "ls; ls /usr/local/lib/littlest-binder /srv/venv/bin/jupyterhub-singleuser"
    )
    home, _, ours = found.partition("/srv/venv/bin/jupyterhub-singleuser")
    assert "install.py" in ours
    if left is not None:
        assert home.split() == left


@pytest.mark.attack("build: left out")
def test_a_list_of_what_is_left_out_is_not_read_through_a_link(bench: Bench, tmp_path: Path) -> None:
    folder = tmp_path / "linked"
    folder.mkdir()
    (folder / "requirements.txt").touch()
    (folder / ".dockerignore").symlink_to("/etc/passwd")
    result, _ = bench.build(folder, dockerfile_allowed=False)
    assert result.error is not None
    assert ".dockerignore" in result.error.message
