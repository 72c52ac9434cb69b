"""Pages from templates: escaped, ready for translation, static files at addresses that change with them."""

from __future__ import annotations

import hashlib
import re
from datetime import datetime, timezone
from functools import cache
from pathlib import Path
from typing import Any
from urllib.parse import unquote

import jinja2
from markupsafe import Markup, escape

from ..amounts import shown_bytes, shown_seconds
from ..source.providers import printable
from .texts import TRANSLATIONS

WEB = Path(__file__).parents[1] / "web"
STATIC = WEB / "static"

_TICKS = re.compile(r"`([^`]*)`")
_ESCAPED_SPEC = re.compile(r"(git|gl|local)/\S*%2F", re.IGNORECASE)


@cache
def static_version() -> str:
    """12 hexadecimal digits over all static files: part of their addresses, so browsers may keep them."""
    digest = hashlib.sha256()
    for path in sorted(STATIC.iterdir()):
        digest.update(path.name.encode() + b"\0" + path.read_bytes())
    return digest.hexdigest()[:12]


@cache
def templates() -> jinja2.Environment:
    """The templates; an unknown name in one is an error, not an empty text."""
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(WEB / "templates"),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        extensions=["jinja2.ext.i18n"],
        trim_blocks=True,
        lstrip_blocks=True,
    )
    install: Any = environment
    install.install_gettext_translations(TRANSLATIONS, newstyle=True)
    environment.policies["ext.i18n.trimmed"] = True
    environment.filters["moment"] = moment
    environment.filters["marked"] = marked
    environment.filters["unescaped"] = unescaped
    environment.filters["bytes"] = shown_bytes
    environment.filters["span"] = shown_seconds
    return environment


def moment(value: str) -> str:
    """A stored time for people, in UTC; the page's script shows it in the reader's zone."""
    try:
        return datetime.fromisoformat(value).astimezone(timezone.utc).strftime("%Y-%m-%d %H:%M UTC")
    except ValueError:
        return value


def marked(text: str) -> Markup:
    """A text of ours in which `values` stand in backticks, these as code; all of it escaped."""
    return Markup(_TICKS.sub(r"<code>\1</code>", str(escape(text))))  # noqa: S704


def unescaped(text: str) -> str:
    """A stored name for people: of a repository, which stands there as in links, with its slashes."""
    return printable(unquote(text), 300) if _ESCAPED_SPEC.match(text) else text


def duration(started: str, finished: str) -> str:
    """How long something took, such as `1 min 05 s`; empty if it is not over."""
    if not started or not finished:
        return ""
    seconds = round((datetime.fromisoformat(finished) - datetime.fromisoformat(started)).total_seconds())
    minutes, seconds = divmod(max(0, seconds), 60)
    return f"{minutes} min {seconds:02} s" if minutes else f"{seconds} s"
