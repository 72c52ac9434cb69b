"""The front page, and where its form leads."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from urllib.parse import urlencode

from ...errors import BinderError, ProfileRefused
from ...launch import endings
from ...launch.endings import Ending
from ...launch.form import profile_choices
from ...launch.room import sentences
from ...launch.ticks import ticks
from ...source.providers import without_user
from ...wire import ProfilesView, ProjectView
from ..api.launches import FORM_FIELDS
from ..launches import Server
from ..links import from_form
from .page import Page
from .projects import shown_project


@dataclass(frozen=True)
class Typed:
    """What stands in the form."""

    repository: str = ""
    ref: str = ""
    path: str = ""
    profile: str = ""
    mounts: tuple[str, ...] | None = None  # that are ticked; None: those that are by default
    my_files: bool = True


@dataclass(frozen=True)
class ShownEnd:
    """When a server ends; `rule` is `idle` if it goes on as long as it is used, else `lifetime`."""

    time: str
    rule: str


class FrontPage(Page):
    tab = "launch"

    async def get(self) -> None:
        await self.show_front(Typed())

    async def show_front(self, typed: Typed, problem: BinderError | None = None) -> None:
        """The page, with what was typed and what is wrong with it."""
        servers: list[Server] = []
        hub_problem: BinderError | None = None
        try:
            servers = await self.context.launches.servers(self.person, self.door.token(self))
        except BinderError as error:
            hub_problem = error
        offered = await self._profiles()
        projects = await self.context.projects.list(self.person)
        self.show(
            "front.html",
            status=problem.http_status if problem else 200,
            problem=await self.context.engine_health.problem(),
            form_problem=problem,
            typed=typed,
            servers=servers,
            title=self.context.offers.title,
            hub_problem=hub_problem,
            ends=await self._ends(servers),
            endings=self._endings(servers),
            profiles=profile_choices(offered, typed.profile),
            room=sentences(offered),
            mounts=ticks(await self.context.folders.mounts(self.person), typed.mounts),
            my_files=typed.my_files,
            offers=await self.context.offers.for_person(self.person),
            projects=[shown_project(self, each) for each in _by_use(projects)],
            storage=await self.context.kept_files.storage(self.person),
        )

    async def _profiles(self) -> ProfilesView | None:
        try:
            return await self.context.room.profiles(self.person)
        except ProfileRefused:
            return None  # a launch says so; the page is good for the rest

    async def _ends(self, servers: Sequence[Server]) -> dict[str, ShownEnd]:
        """When running servers end, as their containers were told and not as today's settings say."""
        running = await self.context.room.servers() or {}
        found = {}
        for server in servers:
            known = running.get((self.person.name, server.name))
            if known is not None and server.ready:
                time, rule = known.span.end(known.started, _time(server.last_activity))
                if time is not None:
                    found[server.name] = ShownEnd(time.isoformat(), rule)
        return found

    def _endings(self, servers: Sequence[Server]) -> dict[str, Ending]:
        """Why stopped servers were stopped, where a rule of their profile did it; of running ones, what is
        linked otherwise than was said."""
        folder = self.context.settings.state_dir
        read = {
            each.name: endings.read(folder, self.person.name, each.name, "links" if each.active else "end")
            for each in servers
        }
        return {name: ending for name, ending in read.items() if ending is not None}


class Go(FrontPage):
    """Turns what was typed into a link and goes there; the link's page asks before anything starts.

    It answers people who are not signed in with a page of its own instead of a redirect: a form's target and
    all its redirects must be on our host (`form-action`, which Chromium applies to redirects too), and the
    sign-in may lead anywhere.
    """

    open_to_all = True

    async def get(self) -> None:
        said = {name: self.get_query_argument(name, "") for name in FORM_FIELDS}
        typed = Typed(
            said["repository"], said["ref"], said["path"], said["profile"], mounts=(), my_files=False
        )
        if own := self.on_front_page():
            mounts = tuple(self.get_query_arguments("mounts"))
            typed = replace(typed, mounts=mounts, my_files=self.get_query_argument("my_files", "") == "1")
        try:
            link = from_form(typed.repository, typed.ref, typed.path, typed.profile)
            address = link.to_url(self.prefix)
        except BinderError as error:
            if self.signed_in is None:
                self.ask_to_sign_in()
            else:
                await self.show_front(replace(typed, repository=without_user(typed.repository)), error)
            return
        if self.signed_in is None:
            self.show("onward.html", address=address)
        else:
            # Seen by the confirmation only when it comes from here: see `Confirm._ticked`.
            query = [("ticked", "1"), *(("mounts", each) for each in typed.mounts or ())]
            query += [("my_files", "1")] if typed.my_files else []
            self.redirect(f"{address}{'&' if '?' in address else '?'}{urlencode(query)}" if own else address)


def _time(text: str) -> datetime | None:
    return datetime.fromisoformat(text) if text else None


def _by_use(projects: list[ProjectView]) -> list[ProjectView]:
    return sorted(projects, key=lambda each: each.last_used or each.created, reverse=True)
