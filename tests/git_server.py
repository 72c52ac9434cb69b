"""Git repositories for tests: made from plain files, served by a real git over smart HTTP on loopback.

    with GitServer(folder) as server:
        server.add("python-plot")                 # tests/repositories/python-plot as a repository
        server.url("python-plot")                 # http://127.0.0.1:PORT/python-plot
        server.spec("python-plot")                # git/http%3A%2F%2F…/main
        server.commit("python-plot", {"a.txt": "new"}, "Change a.txt")
        server.settings()                         # the `policy` section that allows this server

Names, mails and times of commits are fixed, so equal files give equal commits.
"""

from __future__ import annotations

import base64
import hashlib
import json
import os
import shutil
import ssl
import subprocess
import sys
import threading
from collections.abc import Mapping
from dataclasses import dataclass, field
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from types import TracebackType
from typing import Any
from urllib.parse import quote, unquote, urlsplit

REPOSITORIES = Path(__file__).parent / "repositories"

_ENVIRONMENT = {
    "GIT_CONFIG_NOSYSTEM": "1",
    "GIT_CONFIG_GLOBAL": "/dev/null",
    "GIT_AUTHOR_NAME": "Ada",
    "GIT_AUTHOR_EMAIL": "ada@example.org",
    "GIT_COMMITTER_NAME": "Ada",
    "GIT_COMMITTER_EMAIL": "ada@example.org",
    "LC_ALL": "C",
}
_FIRST_COMMIT = 1_700_000_000  # seconds since the epoch; each further commit is a minute later


def git(repository: Path, *arguments: str, stdin: bytes | None = None, **environment: str) -> str:
    """Run git in `repository` with fixed names and no settings of the machine; its output, stripped."""
    done = subprocess.run(
        ["git", *arguments],
        cwd=repository,
        env={"PATH": os.environ["PATH"], "HOME": "/nonexistent", **_ENVIRONMENT, **environment},
        input=stdin,
        capture_output=True,
        check=False,
    )
    if done.returncode:
        raise RuntimeError(f"git {' '.join(arguments)}: {done.stderr.decode(errors='replace')}")
    return done.stdout.decode(errors="replace").strip()


def commit_files(
    repository: Path, files: Mapping[str, str | bytes | None], message: str = "Change files"
) -> str:
    """Write (or, with None, delete) files in a work tree and commit all; the full commit."""
    for name, content in files.items():
        path = repository / name
        if content is None:
            path.unlink()
            continue
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content.encode() if isinstance(content, str) else content)
    git(repository, "add", "--all")
    return commit_staged(repository, message)


def commit_staged(repository: Path, message: str) -> str:
    """Commit what is staged, a minute after the last commit; the full commit."""
    try:
        count = int(git(repository, "rev-list", "--all", "--count"))
    except RuntimeError:
        count = 0
    date = f"{_FIRST_COMMIT + 60 * count} +0000"
    git(
        repository,
        "commit",
        "--quiet",
        "--allow-empty",
        "--message",
        message,
        GIT_AUTHOR_DATE=date,
        GIT_COMMITTER_DATE=date,
    )
    return git(repository, "rev-parse", "HEAD")


def new_repository(path: Path) -> Path:
    """An empty repository with a work tree and the branch `main`."""
    path.mkdir(parents=True)
    git(path, "init", "--quiet", "--initial-branch=main")
    return path


def make_repository(name: str, into: Path) -> Path:
    """`tests/repositories/<name>` as a git repository with a work tree, `<into>/<name>`.

    A script `repository.sh` there is not part of the repository: it is run in it, to make branches and tags.
    """
    source = REPOSITORIES / name
    path = new_repository(into / name)
    shutil.copytree(source, path, dirs_exist_ok=True, symlinks=True)
    script = path / "repository.sh"
    content = script.read_text() if script.exists() else ""
    script.unlink(missing_ok=True)
    git(path, "add", "--all")
    commit_staged(path, f"Add {name}")
    if content:
        subprocess.run(
            ["sh", "-eu"],
            input=content,
            text=True,
            cwd=path,
            check=True,
            env={
                "PATH": os.environ["PATH"],
                "HOME": "/nonexistent",
                **_ENVIRONMENT,
                "GIT_AUTHOR_DATE": f"{_FIRST_COMMIT + 3600} +0000",
                "GIT_COMMITTER_DATE": f"{_FIRST_COMMIT + 3600} +0000",
            },
        )
    return path


@dataclass
class GitServer:
    """Serves the repositories in `folder` at `http://127.0.0.1:<port>/<name>`.

    `requests` lists what was asked (`GET /name/info/refs?…`). Behaviour can be changed while it runs:
    `redirects` (path → address), `status` (repository → HTTP status instead of an answer), `stall` (a
    request for one of these repositories waits until the event `release` is set), `protocol_2` and
    `filters` (whether this is a server that knows git's protocol 2, and partial clones). With `tls` it
    speaks https. `private` names repositories that demand a user name and a password (HTTP's basic
    authentication); `authorizations` lists every request that came with one. `lfs` holds contents for Git LFS
    by their SHA-256 (see `store`); `lfs_actions` replaces what is answered for an object, or with None
    leaves its content out; `lfs_text` replaces the whole answer. `lfs_headers` lists what
    requests for contents came with.
    """

    folder: Path
    requests: list[str] = field(default_factory=list)
    redirects: dict[str, str] = field(default_factory=dict)
    status: dict[str, int] = field(default_factory=dict)
    stall: set[str] = field(default_factory=set)
    stalled: threading.Event = field(default_factory=threading.Event)
    release: threading.Event = field(default_factory=threading.Event)
    protocol_2: bool = True
    filters: bool = True
    tls: ssl.SSLContext | None = None
    private: dict[str, tuple[str, str]] = field(default_factory=dict)
    authorizations: list[str] = field(default_factory=list)
    lfs: dict[str, bytes] = field(default_factory=dict)
    lfs_actions: dict[str, dict[str, Any] | None] = field(default_factory=dict)
    lfs_text: bytes | None = None
    lfs_headers: list[dict[str, str]] = field(default_factory=list)
    _server: ThreadingHTTPServer | None = None
    _thread: threading.Thread | None = None

    def start(self) -> GitServer:
        self.folder.mkdir(parents=True, exist_ok=True)
        handler = type("Handler", (_Handler,), {"git_server": self})
        self._server = _Threads(("127.0.0.1", 0), handler)
        if self.tls:
            self._server.socket = self.tls.wrap_socket(self._server.socket, server_side=True)
        self._thread = threading.Thread(
            target=self._server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True
        )
        self._thread.start()
        return self

    def stop(self) -> None:
        self.release.set()
        if self._server is not None and self._thread is not None:
            self._server.shutdown()
            self._server.server_close()
            self._thread.join()

    def __enter__(self) -> GitServer:
        return self.start()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    @property
    def host(self) -> str:
        """`127.0.0.1:<port>`, as `policy.private_hosts` wants it."""
        if self._server is None:
            raise RuntimeError("the server was not started")
        return f"127.0.0.1:{self._server.server_address[1]}"

    def settings(self) -> dict[str, Any]:
        """The `policy` section that allows this server and nothing else that is local."""
        return {"protocols": ("https", "http"), "private_hosts": (self.host,)}

    def path(self, name: str) -> Path:
        """The work tree of a repository."""
        return self.folder / name

    def add(self, name: str) -> Path:
        """Make and serve `tests/repositories/<name>`; its work tree."""
        return make_repository(name, self.folder)

    def new(self, name: str, files: Mapping[str, str | bytes | None] | None = None) -> Path:
        """Make and serve a repository with these files (none: empty); its work tree."""
        path = new_repository(self.folder / name)
        if files is not None:
            commit_files(path, files, "First")
        return path

    def commit(
        self, name: str, files: Mapping[str, str | bytes | None], message: str = "Change files"
    ) -> str:
        """Change files of a served repository; the new commit."""
        return commit_files(self.path(name), files, message)

    def store(self, content: bytes) -> str:
        """Keep a content in Git LFS; its pointer, to be committed in its place."""
        oid = hashlib.sha256(content).hexdigest()
        self.lfs[oid] = content
        return f"version https://git-lfs.github.com/spec/v1\noid sha256:{oid}\nsize {len(content)}\n"

    def lfs_answer(self, asked: Mapping[str, Any]) -> dict[str, Any]:
        """See git-lfs's docs/api/batch.md."""
        objects = []
        for each in asked["objects"]:
            oid = each["oid"]
            action = self.lfs_actions.get(oid, {"href": f"{self.url('lfs-contents')}/{oid}"})
            if oid not in self.lfs or action is None:
                objects.append({**each, "error": {"code": 404, "message": "no such object"}})
            else:
                objects.append({**each, "actions": {"download": action}})
        return {"transfer": "basic", "objects": objects}

    def head(self, name: str, ref: str = "HEAD") -> str:
        return git(self.path(name), "rev-parse", f"{ref}^{{commit}}")

    def url(self, name: str) -> str:
        return f"{'https' if self.tls else 'http'}://{self.host}/{quote(name)}"

    def spec(self, name: str, ref: str = "main") -> str:
        """The path of a launch link: `git/<escaped url>/<ref>`."""
        return f"git/{quote(self.url(name), safe='')}/{quote(ref)}"


class _Threads(ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 128  # more than 5 at once would begin to wait for a second, as TCP does

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A client that leaves early is no error."""
        if not isinstance(sys.exc_info()[1], (ConnectionError, ssl.SSLError)):
            super().handle_error(request, client_address)


class _Handler(BaseHTTPRequestHandler):
    """CGI for `git http-backend`, see git-http-backend(1)."""

    git_server: GitServer
    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        self._answer()

    def do_POST(self) -> None:
        self._answer()

    def log_message(self, format: str, *args: Any) -> None:
        """Quiet: the requests are kept in `GitServer.requests`."""

    def _answer(self) -> None:
        server = self.git_server
        address = urlsplit(self.path)
        path = unquote(address.path)
        server.requests.append(f"{self.command} {self.path}")
        name = path.strip("/").split("/")[0]
        batch = path.endswith("/objects/batch")
        name = name.removesuffix(".git") if batch else name
        if name in server.stall:
            server.stalled.set()
            server.release.wait()
        if address.path in server.redirects:
            target = server.redirects[address.path]
            self._plain(HTTPStatus.MOVED_PERMANENTLY, {"Location": target})
            return
        given = self.headers.get("Authorization", "")
        if given:
            server.authorizations.append(f"{self.command} {self.path}")
        wanted = base64.b64encode(":".join(server.private.get(name, ())).encode()).decode()
        if name in server.private and given != f"Basic {wanted}":
            self._plain(HTTPStatus.UNAUTHORIZED, {"WWW-Authenticate": 'Basic realm="git"'})
            return
        if name in server.status:
            self._plain(HTTPStatus(server.status[name]), {"WWW-Authenticate": 'Basic realm="git"'})
            return
        if batch or name == "lfs-contents":
            self._lfs(path if name == "lfs-contents" else "")
            return
        self._backend(path.replace(f"/{name}", f"/{name}/.git", 1), address.query)

    def _plain(self, status: HTTPStatus, headers: Mapping[str, str]) -> None:
        self.send_response(status)
        for key, value in headers.items():
            self.send_header(key, value)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def _lfs(self, path: str) -> None:
        """Git LFS's batch API, and the contents that it points to."""
        server = self.git_server
        content = server.lfs.get(path.rpartition("/")[2], b"")
        if path:
            server.lfs_headers.append({name.lower(): value for name, value in self.headers.items()})
        else:
            answer = json.dumps(server.lfs_answer(json.loads(self._body()))).encode()
            content = answer if server.lfs_text is None else server.lfs_text
        self.send_response(HTTPStatus.OK)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    def _body(self) -> bytes:
        if self.headers.get("Transfer-Encoding") != "chunked":
            return self.rfile.read(int(self.headers.get("Content-Length") or 0))
        body = b""
        while size := int(self.rfile.readline().split(b";")[0], 16):
            body += self.rfile.read(size)
            self.rfile.readline()
        self.rfile.readline()
        return body

    def _backend(self, path: str, query: str) -> None:
        body = self._body()
        environment = {
            "PATH": os.environ["PATH"],
            **_ENVIRONMENT,
            "GIT_PROJECT_ROOT": str(self.git_server.folder),
            "GIT_HTTP_EXPORT_ALL": "1",
            "GIT_CONFIG_COUNT": "2",
            "GIT_CONFIG_KEY_0": "safe.directory",
            "GIT_CONFIG_VALUE_0": "*",
            "GIT_CONFIG_KEY_1": "uploadpack.allowFilter",
            "GIT_CONFIG_VALUE_1": str(self.git_server.filters).lower(),
            "PATH_INFO": path,
            "QUERY_STRING": query,
            "REQUEST_METHOD": self.command,
            "CONTENT_TYPE": self.headers.get("Content-Type", ""),
            "CONTENT_LENGTH": str(len(body)),
            "HTTP_CONTENT_ENCODING": self.headers.get("Content-Encoding", ""),
            "REMOTE_ADDR": "127.0.0.1",
        }
        if self.git_server.protocol_2:
            environment["GIT_PROTOCOL"] = self.headers.get("Git-Protocol", "")
        backend = subprocess.Popen(
            ["git", "http-backend"],
            env=environment,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
        )
        with backend:
            feeder = threading.Thread(target=_feed, args=(backend, body))
            feeder.start()
            try:
                self._relay(backend)
            except (BrokenPipeError, ConnectionResetError):
                self.close_connection = True
                backend.kill()
            feeder.join()

    def _relay(self, backend: subprocess.Popen[bytes]) -> None:
        if backend.stdout is None:
            raise RuntimeError("http-backend has no output")
        headers: list[tuple[str, str]] = []
        status = 200
        while (line := backend.stdout.readline().strip()) != b"":
            key, _, value = line.decode().partition(":")
            if key.lower() == "status":
                status = int(value.split()[0])
            else:
                headers.append((key, value.strip()))
        self.send_response(status)
        for key, value in headers:
            self.send_header(key, value)
        self.send_header("Transfer-Encoding", "chunked")
        self.end_headers()
        while chunk := backend.stdout.read1(65536):  # type: ignore[attr-defined]
            self.wfile.write(b"%x\r\n%s\r\n" % (len(chunk), chunk))
        self.wfile.write(b"0\r\n\r\n")


def _feed(backend: subprocess.Popen[bytes], body: bytes) -> None:
    if backend.stdin is None:
        return
    try:
        backend.stdin.write(body)
        backend.stdin.close()
    except BrokenPipeError:
        return
