"""The confirmation: what will run, and with which files. A GET never starts anything."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any
from urllib.parse import parse_qs, urlencode, urlsplit

from pydantic import SecretStr

from ...errors import BinderError, CredentialNeeded, InvalidOptions, NotFound, RepositoryNotFound
from ...launch.form import profile_choices
from ...launch.options import LaunchOptions, parse
from ...launch.room import sentences
from ...launch.ticks import ticks
from ...source.credentials import origin_of
from ...source.spec import LaunchLink, RepoSpec
from ...wire import Credential, ErrorView, ProjectView
from ..launches import Difference, OptionsDiffer, Server
from ..links import share
from ..names import random_name
from ..texts import _
from .page import Page

# How long the first answer may take; a slower look-up shows a page that asks again.
_PATIENCE_S = 2.0
# In the address of a page that waits: that the person came from our own front page.
_VOUCHER = "voucher"
_VOUCHED_DAYS = 0.1

OWN, NEW, EPHEMERAL = "project", "new", "ephemeral"


@dataclass(frozen=True)
class FilesChoice:
    """One way to go about files. `value` is what the form sends back."""

    value: str
    text: str
    hint: str


def choices(projects: Sequence[ProjectView], commit: str, asked: str = "") -> list[FilesChoice]:
    """What a person can choose, best first; `projects` are theirs of this repository, last used first.

    A project of theirs at an older commit goes on at that commit: its files belong to that image.
    """
    found: list[FilesChoice] = []
    for project in projects:
        used = (project.last_used or project.created)[:10]
        facts = {"id": project.id, "commit": project.commit[:7], "used": used}
        text, hint = _("Continue with your files"), _("Project {id}, last used {used}.")
        if project.commit != commit:
            text = _("Continue with your files, at the older commit {commit}")
            hint = _("Project {id}, last used {used}; the server gets the image of that commit.")
        found.append(FilesChoice(f"{OWN}:{project.id}", text.format(**facts), hint.format(**facts)))
    found.append(_beginning(projects, commit))
    text, hint = _("Keep nothing"), _("Everything that you change or make is lost when the server stops.")
    found.append(FilesChoice(EPHEMERAL, text, hint))
    found.sort(key=lambda each: each.value != f"{OWN}:{asked}")  # stable: what a link asks for comes first
    return found


def _beginning(projects: Sequence[ProjectView], commit: str) -> FilesChoice:
    """The choice that makes a new project."""
    if not projects:
        hint = _("They are there again when you start this repository the next time.")
        return FilesChoice(OWN, _("Keep my files"), hint)
    if any(project.commit == commit for project in projects):
        hint = _("The repository's files as they are in this commit; both projects are kept.")
        return FilesChoice(NEW, _("Start a second project"), hint)
    text = _("Start a second project, at the commit {commit}").format(commit=commit[:7])
    hint = _("The repository's files as they are now; your other project stays as it is.")
    return FilesChoice(NEW, text, hint)


def options_for(
    files: str,
    spec: RepoSpec,
    commit: str,
    path: str,
    projects: Sequence[ProjectView],
    profile: str = "",
    *,
    mounts: Sequence[str] = (),
    my_files: bool = False,
) -> LaunchOptions:
    """The options that a choice means. Raises `InvalidOptions` for one that was not offered, `NotFound`.

    The project of a commit that was used last is meant without being named, so that the same wish the next
    time is the same options.
    """
    given: dict[str, Any] = {"repository": spec.path, "commit": commit, "path": path}
    given |= {"storage": OWN, "project": "", "mounts": tuple(mounts), "my_files": my_files}
    if profile:
        given["profile"] = profile
    if files == EPHEMERAL:
        given["storage"] = EPHEMERAL
    elif files == NEW:
        given["project"] = NEW
    elif files.startswith(f"{OWN}:"):
        wanted = files.removeprefix(f"{OWN}:")
        project = next((each for each in projects if each.id == wanted), None)
        if project is None:
            raise NotFound(f"You have no project {wanted[:80]!r} of this repository.", "Choose another.")
        given["commit"] = project.commit
        implied = next(each for each in projects if each.commit == project.commit)
        given["project"] = "" if implied is project else project.id
    elif files != OWN:
        raise InvalidOptions(f"`files` has the value {files[:80]!r}.", "Choose one of the ways on the page.")
    return parse(given)


class Confirm(Page):
    tab = "launch"

    async def get(self, path: str) -> None:
        link = self._link()
        try:
            pinned = await self.context.lookups.pin_within(self.person, link.spec, "", _PATIENCE_S)
        except (RepositoryNotFound, CredentialNeeded) as error:
            self._ask_for_credential(link, error)
            return
        if pinned is None:
            self.show("looking.html", status=202, spec=link.spec, here=self._waiting_address())
            return
        view = await self.context.lookups.view(self.person, pinned)
        offered = choices(view.projects, view.commit, link.project)
        servers = await self._servers()
        profiles = await self.context.room.profiles(self.person)
        ticked, my_files = self._ticked()
        self.show(
            "confirm.html",
            mounts=ticks(await self.context.folders.mounts(self.person), ticked),
            my_files=my_files,
            profiles=profile_choices(profiles, link.profile or view.profile),
            only=profiles.profiles[0],
            room=sentences(profiles),
            no_such_profile="" if link.profile in [each.id for each in profiles.profiles] else link.profile,
            view=view,
            title=self.context.offers.title(link.spec),
            subdir=link.spec.subdir,
            commit_page=link.spec.at(view.commit).page_url,
            path=link.open_path or view.urlpath,
            came_from=self.came_from(),
            choices=offered,
            storage=await self.context.kept_files.storage(self.person),
            chosen=self._chosen(link, offered),
            servers=[each for each in servers if each.spec and _same(each.spec, link.spec)],
            server=link.server,
            random_name=random_name([each.name for each in servers]),
            action=self.request.uri,
            share=share(replace(link, project="", server=""), self.hub_address),
        )

    async def post(self, path: str) -> None:
        link = self._link()
        if self.get_body_argument("password", ""):
            self.context.lookups.hold(self.person, link.spec, self._credential())
            self.redirect(self.request.uri or self.prefix, status=303)
            return
        commit = self.get_body_argument("commit", "")
        pinned = await self.context.lookups.pin_spec(self.person, link.spec, commit)
        if pinned.login is None and self.get_body_argument("private", "") == "1":
            self._ask_for_credential(link, _too_late())
            return
        projects = await self.context.lookups.projects(self.person, link.spec)
        files = self.get_body_argument("files", self._default_files(projects, pinned.commit))
        profile = self.get_body_argument("profile", "")
        mounts = self.get_body_arguments("mounts")
        my_files = self.get_body_argument("my_files", "") == "1"
        options = options_for(
            files,
            link.spec,
            pinned.commit,
            link.open_path,
            projects,
            profile,
            mounts=mounts,
            my_files=my_files,
        )
        name = self.get_body_argument("server", "").strip()
        restart = self.get_body_argument("restart", "") == "1"
        token = self.door.token(self)
        try:
            launched = await self.context.launches.launch(self.person, token, options, name, restart)
        except OptionsDiffer as error:
            fields = {"commit": pinned.commit, "files": files, "server": name, "profile": profile}
            fields["my_files"] = "1" if my_files else ""
            self._ask(error, fields, mounts)
            return
        self.redirect(launched.url, status=303)

    def _ask_for_credential(self, link: LaunchLink, error: BinderError) -> None:
        """Show what is wrong, and where a credential could help the fields for one."""
        if not origin_of(link.spec.clone_url):
            raise error
        self.show(
            "credential.html",
            status=error.http_status,
            error=ErrorView(**error.to_dict()),
            display=link.spec.display,
            host=urlsplit(link.spec.clone_url).hostname,
            action=self.request.uri,
        )

    def _credential(self) -> Credential:
        # Not stripped: a password may begin or end with a space.
        password = self.get_body_argument("password", "", strip=False)
        return Credential(username=self.get_body_argument("username", ""), password=SecretStr(password))

    def _ticked(self) -> tuple[tuple[str, ...] | None, bool]:
        """Which boxes of folders are ticked: those of the front page's form, or those that are by default
        where one of its own links was followed. A link from anywhere else gets none.
        """
        own = self.on_front_page() or self._is_vouched_for()
        if self.get_query_argument("ticked", "") != "1":
            return (None, True) if own and not self._came_by_go() else ((), False)
        if not own:
            return (), False
        mounts = tuple(self.get_query_arguments("mounts"))
        return mounts, self.get_query_argument("my_files", "") == "1"

    def _came_by_go(self) -> bool:
        """To `go` a link from anywhere may lead, and its page leads on from there."""
        return urlsplit(self.request.headers.get("Referer", "")).path.endswith("/go")

    def _waiting_address(self) -> str:
        """Where a page that waits for the look-up goes on; it keeps that the front page was left for it."""
        here = self.request.uri or self.prefix
        if not self.on_front_page() or self._came_by_go() or _VOUCHER in self.request.arguments:
            return here
        voucher = self.create_signed_value(_VOUCHER, f"{self.person.name} {here}").decode("ascii")
        return f"{here}{'&' if '?' in here else '?'}{urlencode({_VOUCHER: voucher})}"

    def _is_vouched_for(self) -> bool:
        voucher = self.get_query_argument(_VOUCHER, "")
        here = (self.request.uri or "").partition(f"{_VOUCHER}=")[0].rstrip("?&")
        said = self.get_signed_cookie(_VOUCHER, voucher, max_age_days=_VOUCHED_DAYS) if voucher else None
        return said == f"{self.person.name} {here}".encode()

    def _link(self) -> LaunchLink:
        """The link as it came: its escapes still tell a `/` in a name from one between names."""
        path = self.request.path.removeprefix(f"{self.prefix}v2/")
        return LaunchLink.from_request(path, parse_qs(self.request.query))

    async def _servers(self) -> list[Server]:
        try:
            return await self.context.launches.servers(self.person, self.door.token(self))
        except BinderError:
            return []  # the launch itself will say what is wrong with the hub

    def _chosen(self, link: LaunchLink, offered: Sequence[FilesChoice]) -> str:
        if link.storage == EPHEMERAL or (
            not link.storage and not link.project and self.context.settings.storage.default == EPHEMERAL
        ):
            return EPHEMERAL
        return NEW if link.project == NEW and len(offered) > 2 else offered[0].value

    def _default_files(self, projects: Sequence[ProjectView], commit: str) -> str:
        if self.context.settings.storage.default == EPHEMERAL:
            return EPHEMERAL
        return choices(projects, commit)[0].value

    def _ask(self, error: OptionsDiffer, fields: dict[str, str], mounts: Sequence[str]) -> None:
        server = error.server
        self.show(
            "restart.html",
            status=409,
            server=server.shown,
            running=server.active,
            loses_files=server.ephemeral,
            differences=[_in_words(each) for each in error.differences],
            fields=fields,
            mounts=mounts,
            action=self.request.uri,
            open_url=server.url if server.ready else (server.page if server.active else self.prefix),
            back=self.request.uri,
        )


def _too_late() -> CredentialNeeded:
    return CredentialNeeded(
        _("The user name and the password or token that you gave are not held any more."),
        _("Give them again."),
    )


def _in_words(difference: Difference) -> Difference:
    """An option that would change, in the words of the form."""
    names = {
        "repository": _("Repository"),
        "image": _("Image"),
        "commit": _("Commit"),
        "storage": _("Your files"),
        "project": _("Project"),
        "profile": _("Profile"),
        "mounts": _("Folders"),
        "my_files": _("My files"),
    }
    values = {"project": _("kept"), "ephemeral": _("nothing is kept"), NEW: _("a new one"), "": "–"}
    now, wanted = difference.now, difference.wanted
    if difference.what == "commit":
        now, wanted = now[:12], wanted[:12]
    if difference.what in ("storage", "project"):
        now, wanted = values.get(now, now), values.get(wanted, wanted)
    return Difference(names.get(difference.what, difference.what), now or "–", wanted or "–")


def _same(one: RepoSpec, other: RepoSpec) -> bool:
    return (one.normal_url, one.subdir) == (other.normal_url, other.subdir)
