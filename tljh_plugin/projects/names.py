"""Names of people's and projects' folders: readable first, then a hash that keeps different ones apart.

What a person can choose never becomes a path: only `[a-z0-9-]` is kept of it. The hash is short enough to
be ground, so whoever uses such a name also compares the whole key in the folder's marker.
"""

from __future__ import annotations

import hashlib
import re
import secrets
from urllib.parse import urlsplit

_READABLE = 40
_HASH = 8


def slug(text: str, key: str) -> str:
    """`<what is readable of text>-<8 hex of the key's SHA-256>`, in `[a-z0-9-]`, at most 49 characters."""
    readable = re.sub(r"[^a-z0-9]+", "-", text.lower()).strip("-")[:_READABLE].strip("-")
    digest = hashlib.sha256(key.encode("utf-8", "surrogateescape")).hexdigest()[:_HASH]
    return f"{readable or 'x'}-{digest}"


def person_slug(name: str) -> str:
    """The folder of a person's projects."""
    return slug(name, name)


def project_id(repository: str, subdir: str = "") -> str:
    """The id of a person's own project of a repository, the same each time: `owner-name-1a2b3c4d`."""
    return slug(_readable(repository, subdir), f"{repository}\n{subdir}")


def further_project_id(repository: str, subdir: str = "") -> str:
    """The id of a further project, different each time."""
    return slug(_readable(repository, subdir), f"{repository}\n{subdir}\n{secrets.token_hex(16)}")


def _readable(repository: str, subdir: str) -> str:
    path = urlsplit(repository).path.strip("/").removesuffix(".git")
    return "-".join([*path.split("/")[-2:], *subdir.split("/")[-1:]])
