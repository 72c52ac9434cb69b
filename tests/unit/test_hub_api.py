"""Reading lists of the hub that come in pages, while people come and go."""

from __future__ import annotations

from typing import Any

import httpx
import pytest

from tljh_plugin.errors import HubUnavailable
from tljh_plugin.hub_api import HubApi

PAGE = 2


class People:
    """A hub with `names`; each time that a page was asked for, `then` is called."""

    def __init__(self, *names: str) -> None:
        self.names = list(names)
        self.pages = 0

    def then(self) -> None:
        """Nothing happens meanwhile."""

    def __call__(self, request: httpx.Request) -> httpx.Response:
        assert request.headers["Accept"] == "application/jupyterhub-pagination+json"
        assert request.headers["Authorization"] == "token t"
        offset, total = int(request.url.params["offset"]), len(self.names)
        following: dict[str, Any] | None = {"offset": offset + PAGE} if offset + PAGE < total else None
        items = [{"name": name} for name in self.names[offset : offset + PAGE]]
        self.pages += 1
        self.then()
        return httpx.Response(200, json={"items": items, "_pagination": {"total": total, "next": following}})

    async def listed(self) -> list[str]:
        async with httpx.AsyncClient(transport=httpx.MockTransport(self)) as http:
            return await HubApi("http://127.0.0.1:1/hub/api", "t", http=http).names()


@pytest.mark.parametrize("count", [0, 1, 2, 3, 4, 5])
async def test_all_pages_are_read(count: int) -> None:
    names = [f"p{number}" for number in range(count)]
    assert await People(*names).listed() == names


async def test_nobody_is_missed_when_another_is_deleted_meanwhile() -> None:
    class Fewer(People):
        def then(self) -> None:
            if self.pages == 1:
                self.names.remove("a")

    assert await Fewer("a", "b", "c", "d", "e").listed() == ["b", "c", "d", "e"]


async def test_a_list_that_never_stands_still_is_an_error_and_no_part_of_it_an_answer() -> None:
    class Endless(People):
        def then(self) -> None:
            self.names.append(f"p{self.pages}")
            if len(self.names) > 6:
                del self.names[:3]

    with pytest.raises(HubUnavailable, match="changed each time"):
        await Endless("a", "b", "c").listed()
