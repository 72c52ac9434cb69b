from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import pytest_asyncio
from house import COMMIT, OLDER, House, be_patient, build_view, image_view, line, open_house, project_view

MAIN = {"repository": "gh/owner/repo/main", "commit": COMMIT}


@pytest.fixture(autouse=True)
def patient(monkeypatch: pytest.MonkeyPatch) -> None:
    be_patient(monkeypatch)


@pytest_asyncio.fixture
async def house(tmp_path: Path) -> AsyncIterator[House]:
    """The service with something at every address; `root` is its administrator."""
    async with open_house(tmp_path) as found:
        for name in ("plain", "example"):
            (found.settings.examples_dir / name).mkdir(parents=True)
        found.queue.add(build_view("b-1", requested_by="root"), [line(1)])
        found.inventory.known = [image_view(built_by="root")]
        found.projects.known = [project_view(owner="root", commit=OLDER)]
        found.hub.put("root", "x", ready=False, pending="spawn", options=MAIN)
        found.hub.put("root", "brave-otter", options={**MAIN, "commit": OLDER})
        yield found
