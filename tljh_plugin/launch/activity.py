"""What a running server says of its own activity, asked before it is stopped for having none.

The hub alone does not know enough: servers report every five minutes, and a kernel that computes without
printing anything is not active for Jupyter Server. So kernels are looked at, too.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from datetime import datetime, timezone
from typing import Any

import httpx

from ..time_limit import within

_ANSWER_S = 5.0
# What answers is a person's own program.
_LONGEST_BYTES = 1024**2
# Jupyter Server does not take a request with this for activity.
_QUIETLY = "?no_track_activity=1"


@dataclass(frozen=True)
class Activity:
    """`last` is UTC without a zone, as JupyterHub keeps its times."""

    last: datetime
    computing: bool


async def activity_of(
    url: str, token: str, transport: httpx.AsyncBaseTransport | None = None
) -> Activity | None:
    """The activity of the server at `url` (with its prefix); None if it gives no usable answer."""
    try:
        return await within(_ANSWER_S, _activity_of(url, token, transport))
    except Exception:  # what answers is a person's own program, and may say what breaks any reader
        return None


async def _activity_of(url: str, token: str, transport: httpx.AsyncBaseTransport | None) -> Activity:
    async with httpx.AsyncClient(
        base_url=url,
        headers={"Authorization": f"token {token}", "Accept-Encoding": "identity"},
        timeout=_ANSWER_S,
        trust_env=False,
        transport=transport,
    ) as http:
        status = await _ask(http, "api/status")
        last = datetime.fromisoformat(str(status["last_activity"]).replace("Z", "+00:00"))
        kernels = await _ask(http, "api/kernels") if status.get("kernels") else []
    if last.tzinfo is not None:
        last = last.astimezone(timezone.utc).replace(tzinfo=None)
    return Activity(last, any(each.get("execution_state") == "busy" for each in kernels))


async def _ask(http: httpx.AsyncClient, path: str) -> Any:
    async with http.stream("GET", path + _QUIETLY) as answer:
        answer.raise_for_status()
        if "Content-Encoding" in answer.headers:
            raise ValueError("packed although that was not asked for: it could unpack to anything")
        content = b""
        async for part in answer.aiter_bytes():
            content += part
            if len(content) > _LONGEST_BYTES:
                raise ValueError("the answer is too long")
    return json.loads(content)
