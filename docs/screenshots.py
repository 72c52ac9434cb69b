"""Take the pictures of the administrator's pages for these docs: `python docs/screenshots.py`.

The pages are the real ones, in the Chromium of the distribution; the machine behind them is the stand-in of
the tests with a small lab's images, so that the pictures stay the same. Needs what `tests/run` installs.
"""

from __future__ import annotations

import asyncio
import sys
import tempfile
from dataclasses import replace
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Any

DOCS = Path(__file__).parent
sys.path.insert(0, str(DOCS.parent / "tests"))

from chromium import opened_chromium  # noqa: E402
from house import (  # noqa: E402
    House,
    cookie_secret,
    create_signed_value,
    disk_samples,
    disk_view,
    image_view,
    open_house,
)
from playwright.async_api import Page  # noqa: E402

from tljh_plugin.cache.filesystems import Usage  # noqa: E402
from tljh_plugin.cache.listing import Listed  # noqa: E402
from tljh_plugin.settings import KeepSettings  # noqa: E402
from tljh_plugin.store import AuditEntry  # noqa: E402
from tljh_plugin.store.about_images import Launch, Package, PackagesRow, PastBuild  # noqa: E402
from tljh_plugin.wire import AccountView  # noqa: E402

IMAGES = DOCS / "images"
GIB, MIB = 1024**3, 1024**2
# Title, repository, person, days since the build and since the last use, launches, GiB, MiB alone, seconds.
LAB: tuple[tuple[str, str, str, float, float, int, float, int, int], ...] = (
    ("Statistics course", "our-lab/statistics", "ada", 12, 0.1, 214, 2.1, 380, 95),
    ("github.com/our-lab/galaxies", "our-lab/galaxies", "bob", 30, 1, 57, 3.4, 1240, 410),
    ("github.com/our-lab/galaxies", "our-lab/galaxies", "bob", 71, 33, 22, 3.3, 910, 402),
    ("github.com/carol/thesis", "carol/thesis", "carol", 3, 0.4, 9, 1.4, 95, 40),
    ("github.com/jupyter/demo", "jupyter/demo", "dan", 44, 41, 2, 1.3, 60, 38),
    ("github.com/dan/segmentation", "dan/segmentation", "dan", 90, 65, 4, 7.8, 5900, 1730),
    ("github.com/our-lab/workshop-2025", "our-lab/workshop-2025", "ada", 300, 210, 96, 2.6, 700, 210),
)


PYTHON = (
    "astropy==7.1.0 bokeh==3.8.0 contourpy==1.3.3 dask==2025.9.1 ipykernel==6.30.1 jupyterhub==5.4.0 "
    "jupyterlab==4.4.7 matplotlib==3.10.6 numpy==2.3.3 pandas==2.3.2 photutils==2.3.0 pyyaml==6.0.2 "
    "requests==2.32.5 scikit-learn==1.7.2 scipy==1.16.2 tornado==6.5.2 tqdm==4.67.1 xarray==2025.9.0"
)
DEBIAN = "ca-certificates=20230311 curl=7.88.1 git=2.39.5 libgl1=1.6.0"


AUDIT = (
    ("bob", "build.request", "github.com/our-lab/galaxies@0badc0de", "queued"),
    ("root", "image.pin", "littlest-binder/our-lab-statistics", "until the exam"),
    ("carol", "project.delete", "carol/thesis-1f0e2d3c", "kept for 14 days"),
    ("root", "image.retire", "littlest-binder/our-lab-workshop-2025", "done"),
    ("service", "retention.run", "r-20261120-1", "2 of 2, 6.6 GiB"),
    ("service", "image.erase", "littlest-binder/dan-segmentation", "erased"),
    ("eve", "image.share", "littlest-binder/carol-thesis", "forbidden"),
)
# Person, server hours, builds, GiB of kept files.
USED = (("ada", 61.5, 4, 3.2), ("bob", 112.0, 9, 14.8), ("carol", 38.25, 6, 1.1), ("eve", 17.0, 0, 0.4))


def number(place: int) -> str:
    """The id of an image."""
    return f"sha256:{(place + 1) * 0x9E3779B97F4A7C15 % 2**64:016x}" + "5e" * 24


def fill(house: House) -> None:
    """A lab's images, those of others on the same machine, and a disk that is nearly full."""
    now = datetime.now(timezone.utc)
    more: dict[int, dict[str, Any]] = {
        0: {
            "pinned": True,
            "pin_reason": "until the exam",
            "users": ("eve/calm-otter", "fay/red-fox"),
        },
        1: {"newer_commit": "5e" * 20, "users": ("bob/",)},
        2: {"older_recipe": True},
        3: {"visibility": "private", "building": True},
        6: {"retired": True, "older_recipe": True},
    }
    for place, (title, repository, person, built, used, launches, size, alone, took) in enumerate(LAB):
        commit = f"{(place + 3) * 0x2545F4914F6CDD1D % 2**64:016x}" * 2 + "0badc0de"
        house.inventory.known.append(
            image_view(
                number(place),
                title=title,
                name=f"littlest-binder/{repository.replace('/', '-')}:{commit[:12]}-2f9c41aa",
                spec=f"gh/{repository}/{commit}",
                repository=f"https://github.com/{repository}",
                commit=commit,
                asked_ref="main",
                built_by=person,
                created=(now - timedelta(days=built)).isoformat(),
                last_used=(now - timedelta(days=used)).isoformat(),
                last_used_by="eve" if place % 2 else "fay",
                launches=launches,
                size=int(size * GIB),
                own_bytes=alone * MIB,
                build_seconds=took,
                **more.get(place, {}),
            )
        )
    created = (now - timedelta(days=20)).isoformat()
    house.inventory.others = [
        Listed(
            id=number(99),
            name="postgres:16",
            title="postgres:16",
            created=created,
            size=432 * MIB,
            ours=False,
        )
    ]
    house.retention.disk = Usage(100 * GIB, 88 * GIB, 12 * GIB)
    rule = KeepSettings(repository="https://github.com/our-lab/*", newest=1)
    house.retention.policy = house.retention.policy.model_copy(update={"keep": (rule,), "unused_days": 60.0})
    house.inventory.recipe = "2f9c41aa"
    house.dossiers.packages = PackagesRow(
        (now - timedelta(days=30)).isoformat(),
        tuple(Package("python", *each.split("==")) for each in PYTHON.split())
        + tuple(Package("debian", *each.split("=")) for each in DEBIAN.split()),
    )
    house.audit.known = [
        AuditEntry(number, (now - timedelta(hours=3 * (len(AUDIT) - number))).isoformat(), *entry)
        for number, entry in reversed(list(enumerate(AUDIT, 1)))
    ]
    house.accounting.rows = tuple(
        AccountView(
            name=person,
            people=1,
            servers=round(hours / 3),
            server_hours=hours,
            memory_gib_hours=2 * hours,
            cpu_hours=2 * hours,
            builds=builds,
            build_minutes=4.5 * builds,
            kept_bytes=int(kept * GIB),
        )
        for person, hours, builds, kept in USED
    )
    begun = now - timedelta(days=30, seconds=410)
    ended = begun + timedelta(seconds=410)
    moments = [each.isoformat(timespec="milliseconds") for each in (begun, begun, ended)]
    house.dossiers.builds = (PastBuild("b-20261022-1", "built", "bob", *moments, number(1), ""),)
    house.dossiers.launches = tuple(
        Launch(("eve", "fay", "bob")[hours % 3], "calm-otter", (now - timedelta(hours=hours)).isoformat())
        for hours in range(4, 34)
    )


async def judge(house: House) -> None:
    """Let the table say what retention makes of each image."""
    plan = await house.retention.preview()
    kept = {each.image_id: ("" if each.rule == "not-needed" else each.rule, each.text) for each in plan.keep}
    taken = {each.image_id: each.text for each in plan.take}
    listed = house.inventory.listed
    house.inventory.listed = lambda: tuple(  # type: ignore[method-assign]
        replace(
            each,
            keep=kept.get(each.id, ("", ""))[0],
            verdict=taken.get(each.id, kept.get(each.id, ("", ""))[1]),
            goes=each.id in taken,
        )
        for each in listed()
    )


async def shoot(page: Page, name: str, *, whole: bool = True) -> None:
    """One picture."""
    await page.screenshot(path=IMAGES / f"{name}.png", full_page=whole)


async def main() -> None:
    with tempfile.TemporaryDirectory() as folder:
        async with (
            open_house(Path(folder)) as house,
            opened_chromium("--force-device-scale-factor=1") as chromium,
        ):
            fill(house)
            await judge(house)
            signed = create_signed_value(
                cookie_secret(house.settings), "service-binder", "root-token"
            ).decode()
            context = await chromium.new_context(
                viewport={"width": 1280, "height": 960}, locale="en-GB", timezone_id="UTC"
            )
            await context.add_cookies([{"name": "service-binder", "value": signed, "url": house.url}])
            await walk(house, await context.new_page())


async def walk(house: House, page: Page) -> None:
    """The table, one image, its form, a plan, its run, retention; and the table on a phone at night."""
    await page.goto(f"{house.url}images")
    await shoot(page, "images", whole=False)
    await page.goto(f"{house.url}images/{number(1)}")
    await page.get_by_text("Python:").click()
    await shoot(page, "image")
    await page.get_by_text("Edit: title").click()
    await page.locator("#edit").screenshot(path=IMAGES / "image-edit.png")
    await page.goto(f"{house.url}retention")
    await shoot(page, "retention")
    ids = "&".join(f"id={number(place)}" for place in (0, 4, 5))
    await page.goto(f"{house.url}images/plan?{ids}")
    await shoot(page, "plan")
    await page.get_by_role("button", name="Erase").click()
    run = house.sweep.known["r-1"]
    results = tuple(
        replace(each, freed_bytes=int(1.03 * (item.frees_bytes or 0)))
        for each, item in zip(run.results, run.plan.take, strict=True)
    )
    gained = sum(each.freed_bytes for each in results)
    house.sweep.known["r-1"] = replace(run, results=results, gained_bytes=gained)
    await page.reload()
    await shoot(page, "run")
    # Only now, since it lets each page warn.
    house.disk.now, house.disk.samples = disk_view(measured=house.inventory.looked), disk_samples()
    for name in ("disk", "audit", "accounting"):
        await page.goto(f"{house.url}{name}")
        await shoot(page, name)
    house.disk.now = house.disk.now.model_copy(update={"warning": None})
    await page.emulate_media(color_scheme="dark")
    await page.set_viewport_size({"width": 390, "height": 844})
    await page.goto(f"{house.url}images")
    await shoot(page, "images-phone", whole=False)


if __name__ == "__main__":
    asyncio.run(main())
