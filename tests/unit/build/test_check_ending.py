"""Why a checked server ended: Docker may say later than the end that it was for memory."""

from __future__ import annotations

from typing import Any

import pytest

from tljh_plugin.build import check


class SlowDocker:
    """Says that memory was the reason at the `told`th time of asking, or never."""

    def __init__(self, told: int) -> None:
        self.told = told
        self.asked = 0

    async def inspect(self, container: str) -> dict[str, Any]:
        self.asked += 1
        return {"State": {"OOMKilled": self.told != 0 and self.asked >= self.told}}


@pytest.mark.parametrize(
    ("code", "told", "found"), [(137, 4, True), (137, 1, True), (1, 4, False), (0, 0, False)]
)
async def test_who_was_killed_is_looked_at_until_docker_says_why(code: int, told: int, found: bool) -> None:
    docker = SlowDocker(told)
    assert await check._out_of_memory(docker, "c", code) is found  # type: ignore[arg-type]
    assert docker.asked == (told if found else 1)


async def test_who_was_killed_by_somebody_is_not_looked_at_for_ever(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(check, "_OOM_S", 0.25)
    assert not await check._out_of_memory(SlowDocker(0), "c", 137)  # type: ignore[arg-type]
