"""A package index of our own on Docker's gateway, where builds can reach it.

It has one package without a wheel, and the wheels that it is given.
"""

from __future__ import annotations

import base64
import io
import ipaddress
import json
import subprocess
import tarfile
import threading
from collections.abc import Mapping
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

NAME = "curious"
_BACKEND = '''
import base64, glob, hashlib, os, zipfile

def build_wheel(folder, config_settings=None, metadata_directory=None):
    """Looks around in the build, and puts what it saw into the package."""
    seen = {}
    for place in ("/run/littlest-binder", "/etc/pip.conf", "/etc/uv"):
        for top, folders, names in os.walk(place) if os.path.isdir(place) else [("", [], [place])]:
            for name in [*folders, *names]:
                path = os.path.join(top, name)
                try:
                    if os.path.isdir(path):
                        seen[path] = os.listdir(path)
                    else:
                        seen[path] = open(path, errors="replace").read()[:2000]
                except OSError as error:
                    seen[path] = "refused: " + type(error).__name__
    seen["environment"] = dict(os.environ)
    seen["identity"] = [os.getuid(), os.getgroups()]
    name = "curious-1.0-py3-none-any.whl"
    files = {
        "curious.py": "SEEN = " + repr(seen),
        "curious-1.0.dist-info/METADATA": "Metadata-Version: 2.1\\nName: curious\\nVersion: 1.0\\n",
        "curious-1.0.dist-info/WHEEL": "Wheel-Version: 1.0\\nRoot-Is-Purelib: true\\nTag: py3-none-any\\n",
    }
    record = ""
    for path, text in files.items():
        digest = base64.urlsafe_b64encode(hashlib.sha256(text.encode()).digest()).rstrip(b"=").decode()
        record += f"{path},sha256={digest},{len(text.encode())}\\n"
    files["curious-1.0.dist-info/RECORD"] = record + "curious-1.0.dist-info/RECORD,,\\n"
    with zipfile.ZipFile(os.path.join(folder, name), "w") as archive:
        for path, text in files.items():
            archive.writestr(path, text)
    return name

def get_requires_for_build_wheel(config_settings=None):
    return []
'''
_PROJECT = """
[project]
name = "curious"
version = "1.0"
[build-system]
requires = []
build-backend = "backend"
backend-path = ["."]
"""


def _sdist() -> bytes:
    content = io.BytesIO()
    with tarfile.open(fileobj=content, mode="w:gz") as archive:
        files = {
            "backend.py": _BACKEND,
            "pyproject.toml": _PROJECT,
            "PKG-INFO": "Metadata-Version: 2.1\nName: curious\nVersion: 1.0\n",
        }
        for name, text in files.items():
            entry = tarfile.TarInfo(f"curious-1.0/{name}")
            entry.size = len(text.encode())
            archive.addfile(entry, io.BytesIO(text.encode()))
    return content.getvalue()


def gateway() -> str:
    """The address of this machine on Docker's own bridge, where builds run."""
    said = subprocess.run(
        ["docker", "network", "inspect", "bridge"], check=True, capture_output=True, text=True
    ).stdout
    network = ipaddress.ip_network(json.loads(said)[0]["IPAM"]["Config"][0]["Subnet"])
    return str(next(network.hosts()))


class PackageIndex:
    """Use as a context; `credentials` are those that came with requests."""

    def __init__(self, wheels: Mapping[str, bytes] | None = None) -> None:
        sdist = _sdist()
        given = dict(wheels or {})
        self.credentials: list[str] = []
        index = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                sent = self.headers.get("Authorization", "")
                if sent.startswith("Basic "):
                    index.credentials.append(base64.b64decode(sent[6:]).decode())
                if self.path == f"/simple/{NAME}/":
                    self._answer(f'<a href="/files/{NAME}-1.0.tar.gz">{NAME}-1.0.tar.gz</a>'.encode())
                elif self.path == f"/files/{NAME}-1.0.tar.gz":
                    self._answer(sdist)
                elif self.path.startswith("/simple/"):
                    asked = self.path.split("/")[2]
                    names = [name for name in given if name.split("-")[0].replace("_", "-") == asked]
                    self._answer("".join(f'<a href="/files/{name}">{name}</a>' for name in names).encode())
                elif self.path.removeprefix("/files/") in given:
                    self._answer(given[self.path.removeprefix("/files/")])
                else:
                    self.send_error(404)

            do_HEAD = do_GET

            def _answer(self, content: bytes) -> None:
                self.send_response(200)
                self.send_header("Content-Type", "text/html" if content[:1] == b"<" else "application/gzip")
                self.send_header("Content-Length", str(len(content)))
                self.end_headers()
                if self.command == "GET":
                    self.wfile.write(content)

            def log_message(self, format: str, *args: object) -> None:
                return

        self._server = ThreadingHTTPServer((gateway(), 0), Handler)
        self.address = f"{self._server.server_address[0]}:{self._server.server_address[1]}"

    def __enter__(self) -> PackageIndex:
        threading.Thread(target=self._server.serve_forever, daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._server.server_close()
