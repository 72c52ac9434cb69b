"""A hub that says just what a single-user server asks at its start, and the question whether that server
answers.

Runs in a container without network, whose loopback the checked server shares. Standard library only. The
one argument is JSON: `port` and `prefix` of the hub's API, `version`, `user`, `url` to ask, `timeout_s`.
Prints one line of JSON: `{"answered": true, "status": 200, "seconds": 2.9}`, and ends.
"""

from __future__ import annotations

import http.client
import json
import sys
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import urlsplit

POLL_S = 0.05
MAX_BODY = 1024 * 1024


def answer(method: str, path: str, asked: dict[str, Any]) -> tuple[int, dict[str, Any]]:
    """Status and body for what `jupyterhub-singleuser` of JupyterHub 4, 5 and 6 asks."""
    scopes = [f"access:servers!server={asked['user']}/"]
    user = {
        "kind": "user",
        "name": asked["user"],
        "admin": False,
        "groups": [],
        "scopes": scopes,
        "server": asked["server"],
        "pending": None,
        "session_id": None,
    }
    inside = path[len(asked["prefix"]) :].strip("/") if path.startswith(asked["prefix"]) else None
    if method == "GET" and inside == "":
        return 200, {"version": asked["version"]}
    if method == "GET" and inside in ("user", f"users/{asked['user']}"):
        return 200, user
    if method == "POST" and inside == f"users/{asked['user']}/activity":
        return 200, {}
    if method == "POST" and inside == "oauth2/token":
        return 200, {"access_token": "check", "token_type": "Bearer", "scope": " ".join(scopes)}
    return 404, {"status": 404, "message": "not part of the stub hub"}


def handler(asked: dict[str, Any]) -> type[BaseHTTPRequestHandler]:
    """The request handler of a stub hub."""

    class Hub(BaseHTTPRequestHandler):
        def reply(self) -> None:
            length = min(int(self.headers.get("Content-Length") or 0), MAX_BODY)
            self.rfile.read(length)
            status, body = answer(self.command, urlsplit(self.path).path, asked)
            text = json.dumps(body).encode()
            self.send_response(status)
            self.send_header("Content-Type", "application/json")
            self.send_header("X-JupyterHub-Version", asked["version"])
            self.send_header("Content-Length", str(len(text)))
            self.end_headers()
            self.wfile.write(text)

        do_GET = do_POST = reply

        def log_message(self, format: str, *args: Any) -> None:
            """Say nothing: the one line of output is the result."""

    return Hub


def ask(url: str, timeout_s: float) -> int:
    """The status with which a server answers, or 0 if none does."""
    parts = urlsplit(url)
    connection = http.client.HTTPConnection(parts.hostname or "", parts.port, timeout=timeout_s)
    try:
        connection.request("GET", parts.path)
        return connection.getresponse().status
    except (OSError, http.client.HTTPException):
        return 0
    finally:
        connection.close()


def main() -> None:
    asked = json.loads(sys.argv[1])
    began = time.monotonic()
    server = ThreadingHTTPServer(("127.0.0.1", asked["port"]), handler(asked))
    threading.Thread(target=server.serve_forever, daemon=True).start()
    status, left = 0, asked["timeout_s"]
    while left > 0:
        status = ask(asked["url"], max(0.1, left))
        if 0 < status < 500:
            break
        time.sleep(POLL_S)
        left = asked["timeout_s"] - (time.monotonic() - began)
    seconds = round(time.monotonic() - began, 3)
    print(json.dumps({"answered": 0 < status < 500, "status": status, "seconds": seconds}), flush=True)


if __name__ == "__main__":
    main()
