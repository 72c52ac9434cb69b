"""Addresses, headers and contents that a repository or a Git LFS server may name."""

from __future__ import annotations

import hashlib
import threading
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
from git_server import GitServer
from places import Place

from tljh_plugin.errors import BinderError, CheckoutFailed, PolicyRefused, SourceError

MakePlace = Callable[..., Place]
CONTENT = b"what a neighbour on this machine keeps" * 100
OID = hashlib.sha256(CONTENT).hexdigest()

FORBIDDEN = [
    "http://127.0.0.1:{port}/x",
    "http://localhost:{port}/x",
    "http://0x7f000001:{port}/x",
    "http://127.1:{port}/x",
    "http://[::1]:{port}/x",
    "http://[::ffff:127.0.0.1]:{port}/x",
    "http://169.254.169.254/latest/meta-data/",
    "http://10.0.0.1/x",
    "http://user:password@127.0.0.1:{port}/x",
    "file:///etc/passwd",
    "ssh://127.0.0.1/x",
    "unix:///var/run/docker.sock",
    "//127.0.0.1:{port}/x",
    "/etc/passwd",
    "",
]


class Neighbour:
    """A service of this machine that no repository may reach; `seen` are its requests."""

    def __init__(self) -> None:
        seen = self.seen = list[str]()

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                seen.append(f"{self.command} {self.path}")
                self.send_response(200)
                self.send_header("Content-Length", str(len(CONTENT)))
                self.end_headers()
                self.wfile.write(CONTENT)

            do_POST = do_GET

            def log_message(self, format: str, *args: Any) -> None:
                """Quiet."""

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.port = self.server.server_address[1]
        threading.Thread(target=self.server.serve_forever, args=(0.05,), daemon=True).start()

    def __enter__(self) -> Neighbour:
        return self

    def __exit__(self, *_: object) -> None:
        self.server.shutdown()
        self.server.server_close()


async def taken(place: Place, spec: str) -> tuple[bytes, BinderError | None]:
    """What `data.bin` of a checkout is, and the error with which the checkout ended."""
    try:
        async with place.checkout(spec) as checkout:
            return (checkout.path / "data.bin").read_bytes(), None
    except SourceError as error:
        return b"", error


@pytest.mark.attack("build: addresses")
@pytest.mark.parametrize("address", FORBIDDEN)
async def test_a_server_sends_us_to_a_neighbour(
    git_server: GitServer, place: MakePlace, address: str
) -> None:
    git_server.new("data", {"data.bin": git_server.store(CONTENT)})
    with Neighbour() as neighbour:
        git_server.lfs_actions[OID] = {"href": address.format(port=neighbour.port)}
        got, error = await taken(place(), git_server.spec("data"))
        assert neighbour.seen == []
    assert got != CONTENT
    assert isinstance(error, PolicyRefused), error
    assert "password" not in str(error)


@pytest.mark.attack("build: addresses")
@pytest.mark.parametrize("address", FORBIDDEN[:-4])
async def test_a_repository_names_a_neighbour_as_its_server(
    git_server: GitServer, place: MakePlace, address: str
) -> None:
    with Neighbour() as neighbour:
        url = address.format(port=neighbour.port)
        git_server.new("data", {"data.bin": git_server.store(CONTENT), ".lfsconfig": f"[lfs]\nurl = {url}\n"})
        got, error = await taken(place(), git_server.spec("data"))
        assert neighbour.seen == []
    assert got != CONTENT
    assert isinstance(error, PolicyRefused), error


@pytest.mark.attack("build: addresses")
@pytest.mark.parametrize("path", [f"/lfs-contents/{OID}", "/data.git/info/lfs/objects/batch"])
async def test_a_server_redirects_us_to_a_neighbour(
    git_server: GitServer, place: MakePlace, path: str
) -> None:
    git_server.new("data", {"data.bin": git_server.store(CONTENT)})
    with Neighbour() as neighbour:
        git_server.redirects[path] = f"http://127.0.0.1:{neighbour.port}/x"
        got, error = await taken(place(), git_server.spec("data"))
        assert neighbour.seen == []
    assert got != CONTENT
    assert isinstance(error, PolicyRefused), error


@pytest.mark.attack("build: addresses")
async def test_redirects_without_end(git_server: GitServer, place: MakePlace) -> None:
    git_server.new("data", {"data.bin": git_server.store(CONTENT)})
    path = f"/lfs-contents/{OID}"
    git_server.redirects[path] = path
    _, error = await taken(place(), git_server.spec("data"))
    assert error is not None
    assert "redirects more than 5 times" in error.message


@pytest.mark.attack("build: addresses")
@pytest.mark.parametrize(
    "header",
    [
        {"Host": "intranet.example"},
        {"Cookie": "session=1"},
        {"X-Ok": "a\r\nHost: intranet.example"},
        {"Bad Name": "x"},
        {"Transfer-Encoding": "chunked"},
        {"Proxy-Authorization": "Basic eA=="},
        {"X-Ok": 7},
        {"Range": "bytes=0-0"},
    ],
)
async def test_headers_that_a_server_may_not_set(
    git_server: GitServer, place: MakePlace, header: dict[str, Any]
) -> None:
    git_server.new("data", {"data.bin": git_server.store(CONTENT)})
    git_server.lfs_actions[OID] = {"href": f"{git_server.url('lfs-contents')}/{OID}", "header": header}
    got, error = await taken(place(), git_server.spec("data"))
    assert got == CONTENT or error is not None
    for sent in git_server.lfs_headers:
        assert sent["host"] == git_server.host
        assert not {"cookie", "range", "transfer-encoding", "proxy-authorization"} & set(sent)
        assert "intranet" not in str(sent)


@pytest.mark.attack("build: trees")
async def test_a_link_of_the_repository_where_a_content_belongs(
    git_server: GitServer, place: MakePlace, tmp_path: Path
) -> None:
    """A pointer is only ever replaced where we wrote a file, and through no link."""
    victim = tmp_path / "victim"
    victim.write_text("as it was")
    path = git_server.new("data", {"data.bin": git_server.store(CONTENT)})
    (path / "link.bin").symlink_to(victim)
    (path / "folder").symlink_to(tmp_path)
    git_server.commit("data", {"other.bin": git_server.store(CONTENT)})
    got, error = await taken(place(), git_server.spec("data"))
    assert error is None
    assert got == CONTENT
    assert victim.read_text() == "as it was"


@pytest.mark.attack("build: trees")
@pytest.mark.parametrize(
    "answer",
    [
        b"{",
        b"[]",
        b"null",
        b'{"objects": 7}',
        b'{"objects": [{"oid": 1}]}',
        b"[" * 100_000,
        b'{"objects": [' + b" " * 5_000_000 + b"]}",
    ],
)
async def test_answers_that_are_none(git_server: GitServer, place: MakePlace, answer: bytes) -> None:
    git_server.new("data", {"data.bin": git_server.store(CONTENT)})
    git_server.lfs_text = answer
    _, error = await taken(place(), git_server.spec("data"))
    assert isinstance(error, CheckoutFailed), error


@pytest.mark.attack("build: trees")
async def test_one_objects_content_under_anothers_name(git_server: GitServer, place: MakePlace) -> None:
    git_server.new("data", {"data.bin": git_server.store(CONTENT), "b.bin": git_server.store(b"b" * 3800)})
    git_server.lfs_actions[OID] = {
        "href": git_server.url("lfs-contents") + "/" + hashlib.sha256(b"b" * 3800).hexdigest()
    }
    _, error = await taken(place(), git_server.spec("data"))
    assert isinstance(error, CheckoutFailed), error
