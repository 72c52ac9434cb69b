"""Launch links as people type, follow and share them."""

from __future__ import annotations

import html
from dataclasses import replace

from ..errors import InvalidSpec
from ..source.spec import LaunchLink, RepoSpec, open_file, parse_link, parse_typed
from ..wire import Wire


class LinkView(Wire):
    """A link to share, and the badge for it in two languages."""

    url: str  #: the launch link
    markdown: str  #: the badge that leads there
    html: str  #: the same badge


def from_form(repository: str, ref: str = "", path: str = "", profile: str = "") -> LaunchLink:
    """What the launch form says; raises `InvalidSpec`.

    `path` is a file or folder of the repository, or with a leading slash an address on the server.
    """
    link = parse_typed(repository)
    if ref.strip():
        link = replace(link, spec=link.spec.with_ref(ref.strip()))
    if path.strip():
        opened = path.strip()
        link = replace(link, open_path=opened[1:] if opened.startswith("/") else open_file(opened))
    if profile:
        link = replace(link, profile=profile)
    return link


def from_text(text: str) -> LaunchLink:
    """A link's path (`gh/owner/repo/main`) as it stands, or else what a person may have meant by `text`."""
    try:
        return LaunchLink(parse_link(text))
    except InvalidSpec:
        return parse_typed(text)


def read_spec(path: str) -> RepoSpec | None:
    """The repository of a stored path, or None for the spelling of another version."""
    try:
        return parse_link(path)
    except InvalidSpec:
        return None


def share(link: LaunchLink, base: str) -> LinkView:
    """The link below `base`, the hub's own address, where BinderHub's links are too."""
    url = link.to_url(base)
    badge = f"{base.rstrip('/')}/badge.svg"
    return LinkView(
        url=url,
        markdown=f"[![Binder]({badge})]({url})",
        html=f'<a href="{html.escape(url)}"><img src="{html.escape(badge)}" alt="Launch in Binder"></a>',
    )
