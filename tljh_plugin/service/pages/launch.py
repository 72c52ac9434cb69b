"""The launch page of a server: build and start in one bar, and what to do when it fails."""

from __future__ import annotations

from urllib.parse import quote

from ...errors import ServerStopped
from ...launch import endings
from ...source.spec import LaunchLink
from ...wire import LaunchEvent
from ..api.launches import server_name
from ..launches import Server, address, opened
from ..progress import BUILT
from ..texts import _
from .page import Page

STEPS = (
    ("fetch", _("Fetch")),
    ("build", _("Build")),
    ("check", _("Check")),
    ("prepare", _("Prepare files")),
    ("start", _("Start")),
)


class LaunchPage(Page):
    tab = "launch"

    async def get(self, segment: str) -> None:
        server = await self.context.launches.server(self.person, self.door.token(self), server_name(segment))
        path = opened(self.get_query_argument("path", ""))
        if server.ready:
            # Not a redirect: the form that led here may only lead to our own host (`form-action`), and with
            # subdomains the server is on another.
            opened_path = path or (server.options.path if server.options else "")
            self.show("onward.html", address=address(server.url, opened_path))
            return
        failed = None
        if not server.active:
            failed = await self.context.launches.failure(self.person, self.door.token(self), server)
        await self._show(server, path, failed)

    async def _show(self, server: Server, path: str, failed: LaunchEvent | None) -> None:
        build = await self.context.launches.last_build(self.person, server)
        active = build is not None and build.state in ("queued", "running")
        percent = failed.progress if failed else BUILT * build.progress // 100 if build and active else 0
        again = ""
        if server.spec is not None:
            link = LaunchLink(
                server.spec,
                server.options.path if server.options else "",
                server=server.name,
                profile=server.options.profile if server.options else "",
            )
            again = link.to_url(self.prefix)
        self.show(
            "launch.html",
            server=server,
            title=self.context.offers.title(server.spec) if server.spec else "",
            page=server.page,
            events=f"{self.prefix}api/v1/launches/{server.page.rpartition('/')[2]}/events"
            + (f"?path={quote(path, safe='/')}" if path else ""),
            steps=STEPS,
            step=failed.step if failed else "",
            percent=percent,
            message="" if failed else _("Waiting for the hub …"),
            error=failed.error if failed else None,
            stopped=failed is not None
            and failed.error is not None
            and failed.error.code == ServerStopped.code,
            build_page=f"{self.prefix}builds/{build.id}" if build and (active or failed) else "",
            again=again,
            ending=endings.read(self.context.settings.state_dir, self.person.name, server.name),
        )


class StartServer(Page):
    """Starts a stopped server again, as it was."""

    tab = "launch"

    async def post(self, segment: str) -> None:
        token = self.door.token(self)
        launched = await self.context.launches.start_again(self.person, token, server_name(segment))
        self.redirect(launched.url, status=303)


class StopServer(Page):
    """Stops a server or its start; one that keeps nothing is only stopped when the person is sure."""

    tab = "launch"

    async def post(self, segment: str) -> None:
        token = self.door.token(self)
        server = await self.context.launches.server(self.person, token, server_name(segment))
        if server.ephemeral and server.ready and self.get_body_argument("sure", "") != "1":
            self.show("stop.html", server=server, page=server.page)
            return
        await self.context.launches.stop(self.person, token, server.name)
        self.redirect(self.prefix, status=303)


class RemoveServer(Page):
    """Forgets the name of a stopped server; its kept files stay in their project."""

    tab = "launch"

    async def post(self, segment: str) -> None:
        token = self.door.token(self)
        server = await self.context.launches.server(self.person, token, server_name(segment))
        if not server.active:
            await self.context.launches.stop(self.person, token, server.name, remove=True)
            endings.forget(self.context.settings.state_dir, self.person.name, server.name)
        self.redirect(self.prefix, status=303)
