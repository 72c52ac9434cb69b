"""The base of every page."""

from __future__ import annotations

from typing import Any
from urllib.parse import urlsplit

from tornado.web import HTTPError, StaticFileHandler

from ... import __version__
from ...access import is_admin
from ...errors import BinderError, FormExpired
from ..handler import Handler
from ..templates import static_version, templates

_POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; connect-src 'self'; "
    "form-action 'self'; frame-ancestors 'none'; base-uri 'none'"
)


# The administrators' pages, which stand in a second row of the menu.
ADMINISTRATION = frozenset({"images", "disk", "retention", "audit", "accounting", "doctor"})


class Page(Handler):
    """A page: sends people who are not signed in to the hub, and shows errors with their next step.

    `tab` is the entry of the menu that it belongs to.
    """

    tab = ""

    def set_default_headers(self) -> None:
        super().set_default_headers()
        self.set_header("Content-Security-Policy", _POLICY)
        self.set_header("X-Frame-Options", "DENY")

    @property
    def prefix(self) -> str:
        """The path of our pages, `/services/binder/`."""
        return self.context.environment.prefix

    def ask_to_sign_in(self) -> None:
        if self.request.method in ("GET", "HEAD"):
            self.redirect(self.get_login_url())
            return
        raise FormExpired(
            "This form is no longer good: you were signed out, or it was open for too long.",
            "Open the page again and send the form once more.",
        )

    def show(self, template: str, *, status: int = 200, **values: Any) -> None:
        """Answer with a page. `problem`, an error, is shown above its content."""
        self.set_status(status)
        self.set_header("Content-Type", "text/html; charset=utf-8")
        signed_in = self.signed_in
        admin = signed_in is not None and is_admin(signed_in)
        administration = admin and self.tab in ADMINISTRATION
        self.finish(
            templates()
            .get_template(template)
            .render(
                {
                    "problem": None,
                    "person": signed_in,
                    "admin": admin,
                    "administration": administration,
                    "disk_warning": self.context.disk.view().warning if administration else None,
                    "prefix": self.prefix,
                    "static": self.static,
                    "tab_now": self.tab,
                    "picks_folders": signed_in is not None and self.context.folders.may_pick(signed_in),
                    "version": __version__,
                    "request_id": self.request_id,
                    "hub_home": self.context.environment.hub_home,
                    "sign_out": self.context.environment.sign_out,
                    "xsrf": self.xsrf_token.decode("ascii") if signed_in is not None else "",
                    **values,
                }
            )
        )

    def static(self, name: str) -> str:
        """The address of a static file."""
        return f"{self.prefix}static/{static_version()}/{name}"

    def answer_error(self, error: BinderError) -> None:
        retry = self.request.uri if self.request.method == "GET" and error.http_status >= 500 else ""
        self.show("error.html", status=error.http_status, error=error, retry=retry)

    def came_from(self) -> str:
        """The other site on which a link was followed, as the browser says; empty if it was none."""
        origin = urlsplit(self.request.headers.get("Referer", ""))
        own = {self.request.host, urlsplit(self.context.environment.hub_host).netloc}
        return origin.netloc if origin.scheme in ("http", "https") and origin.netloc not in own else ""

    def on_front_page(self) -> bool:
        """Whether the person followed a link, or sent the form, of our own front page: no other site can name
        it as the place where they come from.
        """
        origin = urlsplit(self.request.headers.get("Referer", ""))
        return origin.netloc == self.request.host and origin.path in (self.prefix, f"{self.prefix}go")


class Static(StaticFileHandler):
    """Our own scripts, styles and pictures; their address changes with their content."""

    def set_default_headers(self) -> None:
        self.clear_header("Server")

    def set_extra_headers(self, path: str) -> None:
        self.set_header("Cache-Control", "public, max-age=31536000, immutable")
        self.set_header("X-Content-Type-Options", "nosniff")
        # A picture may have styles of its own.
        policy = "default-src 'none'; style-src 'unsafe-inline'; frame-ancestors 'none'"
        self.set_header("Content-Security-Policy", policy)


class NoSuchPage(Page):
    """Whatever is not in the route table."""

    open_to_all = True

    async def prepare(self) -> None:
        await super().prepare()
        raise HTTPError(404)
