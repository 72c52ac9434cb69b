"""The page on which the one person of a desktop picks folders for their servers."""

from __future__ import annotations

from urllib.parse import urlencode

from ...errors import BinderError, InvalidRequest, MountError
from ...launch.grants import Access
from ...launch.picking import Listing
from .page import Page

_ACCESS: dict[str, Access] = {"read-only": "read-only", "read-write": "read-write"}


class FoldersPage(Page):
    tab = "folders"

    async def get(self) -> None:
        await self.show_folders(self.get_query_argument("path", "", strip=False))

    async def show_folders(self, path: str, problem: BinderError | None = None) -> None:
        """The folders that were picked, and those that can be."""
        folders = self.context.folders
        roots = await folders.roots(self.person)
        listing: Listing | None = None
        if path:
            try:
                listing = await folders.browse(self.person, path)
            except MountError as error:
                problem = problem or error
        self.show(
            "folders.html",
            status=problem.http_status if problem else 200,
            picked=[each for each in await folders.mounts(self.person) if each.picked],
            roots=roots,
            listing=listing,
            pick_problem=problem,
            address=self._address,
        )

    def _address(self, path: str) -> str:
        return f"{self.prefix}folders?{urlencode({'path': path})}"


class PickFolder(FoldersPage):
    async def get(self) -> None:
        self.redirect(f"{self.prefix}folders")

    async def post(self) -> None:
        path = self.get_body_argument("path", "", strip=False)
        access = _ACCESS.get(self.get_body_argument("access", "read-only"))
        if access is None:
            raise InvalidRequest(
                f"`access` has the value {self.get_body_argument('access')!r:.40}.",
                "Choose `read-only` or `read-write`.",
            )
        try:
            await self.context.folders.pick(self.person, path, access)
        except MountError as error:
            await self.show_folders("", error)
            return
        self.redirect(f"{self.prefix}folders", status=303)


class LetGoOfFolder(Page):
    async def post(self, grant: str) -> None:
        await self.context.folders.let_go(self.person, grant)
        self.redirect(f"{self.prefix}folders", status=303)
