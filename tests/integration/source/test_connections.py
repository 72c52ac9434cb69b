"""The institution's network: its own certificate authority, its proxy."""

from __future__ import annotations

import datetime
import http.client
import ipaddress
import os
import ssl
import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID
from git_server import GitServer
from places import Place

from tljh_plugin.errors import PolicyRefused, RepositoryUnreachable

MakePlace = Callable[..., Place]


@pytest.fixture(autouse=True)
def plain_network(monkeypatch: pytest.MonkeyPatch) -> None:
    """No proxy and no authority of the machine that runs the tests."""
    for name in list(os.environ):
        if name.lower().endswith("_proxy"):
            monkeypatch.delenv(name)
    for name in ("GIT_SSL_CAINFO", "SSL_CERT_FILE", "REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE"):
        monkeypatch.delenv(name, raising=False)


@pytest.fixture
def certificate(tmp_path: Path) -> Path:
    """A self-signed certificate for 127.0.0.1 with its key, in one file that only we can read."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "tests")])
    now = datetime.datetime.now(datetime.timezone.utc)
    signed = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(1)
        .not_valid_before(now - datetime.timedelta(days=1))
        .not_valid_after(now + datetime.timedelta(days=1))
        .add_extension(
            x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address("127.0.0.1"))]), critical=False
        )
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )
    path = tmp_path / "authority.pem"
    path.write_bytes(
        signed.public_bytes(serialization.Encoding.PEM)
        + key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.NoEncryption(),
        )
    )
    path.chmod(0o600)
    return path


@pytest.fixture
def tls_server(tmp_path: Path, certificate: Path) -> Iterator[GitServer]:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate)
    with GitServer(tmp_path / "secure", tls=context) as server:
        server.add("python-plot")
        yield server


def installation(server: GitServer, path: Path, **policy: Any) -> Place:
    return Place(server, path, policy, {})


async def test_an_unknown_authority_is_refused_and_explained(tls_server: GitServer, tmp_path: Path) -> None:
    with pytest.raises(RepositoryUnreachable, match="no safe connection") as caught:
        await installation(tls_server, tmp_path / "state").pin(tls_server.url("python-plot"))
    assert tls_server.url("python-plot") in caught.value.message
    assert "SSL_CERT_FILE" in caught.value.next_step


@pytest.mark.parametrize("variable", ["SSL_CERT_FILE", "GIT_SSL_CAINFO", "REQUESTS_CA_BUNDLE"])
async def test_the_institutions_authority_is_honoured_by_us_and_by_git(
    tls_server: GitServer,
    certificate: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    variable: str,
) -> None:
    monkeypatch.setenv(variable, str(certificate))
    async with installation(tls_server, tmp_path / "state").checkout(
        tls_server.url("python-plot")
    ) as checkout:
        assert (checkout.path / "index.ipynb").exists()


class Proxy:
    """An HTTP proxy that knows the name git.example.org, which nobody else does."""

    def __init__(self, server: GitServer) -> None:
        proxy = self
        self.asked: list[str] = []

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_GET(self) -> None:
                self.forward(b"")

            def do_POST(self) -> None:
                self.forward(self.rfile.read(int(self.headers["Content-Length"])))

            def forward(self, body: bytes) -> None:
                target = urlsplit(self.path)
                proxy.asked.append(target.netloc)
                if target.hostname != "git.example.org":
                    self.send_error(502)
                    return
                onward = http.client.HTTPConnection(server.host)
                headers = {
                    key: value
                    for key, value in self.headers.items()
                    if key.lower() not in ("host", "proxy-connection", "connection")
                }
                onward.request(self.command, f"{target.path}?{target.query}", body, headers)
                answer = onward.getresponse()
                content = answer.read()
                self.send_response(answer.status)
                self.send_header("Content-Type", answer.headers.get("Content-Type", ""))
                self.send_header("Content-Length", str(len(content)))
                self.end_headers()
                self.wfile.write(content)

            def log_message(self, format: str, *args: Any) -> None:
                """Quiet."""

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self._thread = threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.05})
        self._thread.start()
        self.url = f"http://127.0.0.1:{self._server.server_address[1]}"

    def stop(self) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()


@pytest.fixture
def proxy(git_server: GitServer) -> Iterator[Proxy]:
    running = Proxy(git_server)
    yield running
    running.stop()


async def test_behind_a_proxy_we_and_git_go_through_it(
    git_server: GitServer, place: MakePlace, proxy: Proxy, monkeypatch: pytest.MonkeyPatch
) -> None:
    git_server.add("python-plot")
    monkeypatch.setenv("http_proxy", proxy.url)
    async with place().checkout("http://git.example.org/python-plot") as checkout:
        assert (checkout.path / "index.ipynb").exists()
    assert set(proxy.asked) == {"git.example.org"}
    assert len(proxy.asked) > 3


async def test_hosts_of_no_proxy_are_reached_directly(
    git_server: GitServer, place: MakePlace, proxy: Proxy, monkeypatch: pytest.MonkeyPatch
) -> None:
    git_server.add("python-plot")
    monkeypatch.setenv("http_proxy", proxy.url)
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    async with place().checkout(git_server.url("python-plot")):
        pass
    assert proxy.asked == []


async def test_a_proxy_is_no_way_round_the_policy(
    place: MakePlace, proxy: Proxy, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("http_proxy", proxy.url)
    for url in ("http://127.0.0.1:22/x", "http://localhost/x", "http://169.254.169.254/x", "http://127.1/x"):
        with pytest.raises(PolicyRefused):
            await place().pin(url)
    assert proxy.asked == []


async def test_a_proxy_that_is_gone_is_said(place: MakePlace, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:1")
    with pytest.raises(RepositoryUnreachable, match=r"git\.example\.org/x"):
        await place().pin("http://git.example.org/x")
