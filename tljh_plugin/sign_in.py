"""Signing in at home: one person, who comes by a single-use link. See `desktop` for the links."""

from __future__ import annotations

import re
from typing import Any
from urllib.parse import urlsplit

from jupyterhub.auth import Authenticator
from jupyterhub.handlers import BaseHandler
from traitlets import Any as AnyTrait
from traitlets import default

from .desktop import use_code

_HOW_TO_SIGN_IN = """
<div class="row justify-content-center"><div class="col-md-8">
  <h1>Sign in</h1>
  <p>The Littlest Binder on this computer has no passwords. Run this in a terminal and open the link that it
  prints:</p>
  <pre>littlest-binder link</pre>
  <p>Each link works once and for a few minutes. If you came here by a link to a repository, open the sign-in
  link in another tab, then reload this page: it goes on from here.</p>
</div></div>
"""


class DesktopAuthenticator(Authenticator):  # type: ignore[misc]  # JupyterHub is untyped
    """Knows one person, the owner, who signs in with links that only processes of the owner can make."""

    binder = AnyTrait(help="Settings of The Littlest Binder.").tag(config=True)

    @default("custom_html")  # type: ignore[untyped-decorator]
    def _custom_html(self) -> str:
        return _HOW_TO_SIGN_IN

    def normalize_username(self, username: str) -> str:
        """The account's name as it is: JupyterHub would write it in small letters."""
        return username

    async def authenticate(self, handler: BaseHandler, data: dict[str, str]) -> dict[str, Any] | None:
        """The owner, if `data` has a good code; JupyterHub's own form has none."""
        code = (data or {}).get("code", "")
        if not code or not use_code(self.binder, code):
            return None
        return {"name": self.binder.owner, "admin": True}

    def get_handlers(self, app: Any) -> list[tuple[str, type[BaseHandler]]]:
        """JupyterHub's login page, which shows how to get a link, and the page that links lead to."""
        return [*super().get_handlers(app), (r"/sign-in", SignIn)]


class SignIn(BaseHandler):  # type: ignore[misc]
    """`/hub/sign-in?code=…&next=…`: signs in and goes on to `next`.

    Who is signed in already just goes on, so that a reload of a used link is no dead end.
    """

    async def get(self) -> None:
        """Use the code."""
        self.set_header("Referrer-Policy", "no-referrer")
        self.set_header("Cache-Control", "no-store")
        user = await self.login_user({"code": self.get_argument("code", "")}) or self.current_user
        if user is None:
            self.set_status(403)
            self.finish(await self.render_template("sign-in.html"))
            return
        self.redirect(self._onward())

    def _onward(self) -> str:
        """`next` if it is one of our own pages, else the front page."""
        default_url = self.default_url(self) if callable(self.default_url) else self.default_url
        front = default_url or f"{self.hub.base_url}home"
        asked = self.get_argument("next", "")
        return asked if asked and is_own_address(asked, self.settings["subdomain_host"]) else front


def is_own_address(address: str, own_origin: str) -> bool:
    """Whether a browser at `own_origin` that is sent to `address` stays with us: a path on the origin, or an
    address of it or of a subdomain, with the same scheme and port.
    """
    # Browsers take a backslash for a slash, any number of slashes for two, and drop control characters
    # (WHATWG URL standard): whatever is not written plainly is refused.
    if "\\" in address or any(ord(letter) < 0x21 for letter in address):
        return False
    if re.match(r"/(?!/)", address):
        return True
    try:
        own, there = urlsplit(own_origin), urlsplit(address)
        ports = own.port, there.port
    except ValueError:
        return False
    name = there.hostname or ""
    return (
        there.scheme == own.scheme
        and ports[0] == ports[1]
        and there.username is None
        and (name == own.hostname or name.endswith(f".{own.hostname}"))
    )
