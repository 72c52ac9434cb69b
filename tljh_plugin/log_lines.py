"""How our lines look in logs: JupyterHub's own style, with the id of the request that they belong to.

[I 2026-11-22 10:12:13.456 littlest_binder.queue] [req 3f9a12cd07] Build b-20261122-0a1b2c3d4e begins.
"""

from __future__ import annotations

import logging
from typing import Literal

from . import request_ids

LogLevel = Literal["debug", "info", "warning", "error"]
OURS = "littlest_binder"

_FORMAT = "[%(levelname)1.1s %(asctime)s.%(msecs).03d %(name)s] %(message)s"
_TIME = "%Y-%m-%d %H:%M:%S"


class Marking(logging.Filter):
    """Puts the id in front of each line of a request; on a handler, so that no logger is missed."""

    def filter(self, record: logging.LogRecord) -> bool:
        request = request_ids.current()
        if request and not hasattr(record, "request"):  # a record goes to every handler
            record.request = request
            record.msg = f"[req {request}] {record.msg}"
        return True


def set_up(level: LogLevel = "info") -> None:
    """Let this process log to stderr, from where a service manager or the hub takes it."""
    handler = logging.StreamHandler()
    handler.setFormatter(logging.Formatter(_FORMAT, _TIME))
    logging.basicConfig(level=logging.WARNING, handlers=[handler])
    mark(logging.getLogger())
    set_level(level)


def set_level(level: LogLevel) -> None:
    """From which level on our own loggers say something."""
    logging.getLogger(OURS).setLevel(level.upper())


def join(hub: logging.Logger) -> None:
    """Let our loggers speak through the hub's log, as JupyterHub lets tornado's, and mark its lines.

    Without it what our parts say in the hub's process would be lost below warnings. Can be called again.
    """
    ours = logging.getLogger(OURS)
    if hub is not ours and ours.parent is not hub:
        ours.parent = hub
        ours.setLevel(hub.getEffectiveLevel())
    mark(hub)


def mark(logger: logging.Logger) -> None:
    """Mark what the handlers of a logger, and those that it passes its lines on to, write; only once."""
    each: logging.Logger | None = logger
    while each is not None:
        for handler in each.handlers:
            if not any(isinstance(known, Marking) for known in handler.filters):
                handler.addFilter(Marking())
        each = each.parent if each.propagate else None
