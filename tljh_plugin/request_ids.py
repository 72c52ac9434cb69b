"""One id a request, from the door through hub, service and worker, by which the logs of all can be searched.

Made where somebody asks (a page, the API, the hub's form, a command), carried in the header `X-Request-ID`
between processes and in a context variable within one, so that a task that was begun for a request belongs to
it. Who must not belong to the request in which it happens to be begun, as what goes on for ever, is begun by
`apart`.
"""

from __future__ import annotations

import contextlib
import contextvars
import re
import secrets
from collections.abc import Callable, Iterator
from typing import ParamSpec, TypeVar

HEADER = "X-Request-ID"
# Tells a worker, and whatever it starts, for whom it works.
VARIABLE = "LITTLEST_BINDER_REQUEST"

P = ParamSpec("P")
R = TypeVar("R")

# It ends up in logs, file listings and headers: nothing that ends a line, quotes, or looks like an option.
_PATTERN = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]{3,63}", re.ASCII)

_current: contextvars.ContextVar[str] = contextvars.ContextVar("request_id", default="")


def new() -> str:
    """Ten hexadecimal digits."""
    return secrets.token_hex(5)


def valid(text: str | None) -> str:
    """`text` if it can be an id, as one that came from elsewhere; else empty."""
    return text if text and _PATTERN.fullmatch(text) else ""


def current() -> str:
    """The request to which what runs now belongs; empty if it belongs to none."""
    return _current.get()


def begin(given: str | None = None) -> str:
    """From now on this context belongs to the request `given`, or to a new one if that is no id."""
    found = valid(given) or new()
    _current.set(found)
    return found


@contextlib.contextmanager
def belonging(request: str) -> Iterator[None]:
    """Within, what runs and what is begun belongs to this request; to none if it is empty."""
    token = _current.set(request)
    try:
        yield
    finally:
        _current.reset(token)


def apart(begun: Callable[P, R], *arguments: P.args, **named: P.kwargs) -> R:
    """Call `begun` so that what it begins belongs to no request."""
    return contextvars.Context().run(begun, *arguments, **named)


def headers() -> dict[str, str]:
    """What a request to another process carries."""
    return {HEADER: current()} if current() else {}
