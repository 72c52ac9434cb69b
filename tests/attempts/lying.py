"""Lying: what an image says of itself, by its variables, its health check, its entry point."""

from __future__ import annotations

from . import Attempt

KIND = "lying"

_PLAIN = ("--user", "1000:1000")

ATTEMPTS = [
    Attempt(
        "variables of the image in place of the hub's",
        "import os\ngot = [each for each in os.environ.items() if each[0].startswith('JUPYTERHUB_') and "
        "('of-the-image' in each[1] or '203.0.113.1' in each[1] or 'admin' in each[1])]",
        _PLAIN,
    ),
    Attempt(
        "a health check of the image, run by Docker",
        """
import os, time
end = time.monotonic() + 3
while not (got := os.path.exists('/tmp/health-check-ran')) and time.monotonic() < end:
    time.sleep(0.1)
""",
        _PLAIN,
    ),
    Attempt(
        "an entry point of the image, run as the image's user",
        "got = 'uid=0' in open('/tmp/entry-ran-as').read()",
        None,
        "Docker runs it as whom we say; that the image's user is root is an attempt of its own",
    ),
    Attempt("a home of the image's choice", "import os\ngot = os.environ['HOME'] == '/root'", _PLAIN),
]
