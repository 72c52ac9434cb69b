"""The doctor's page and its part of the API: for administrators, without JavaScript; nothing changes."""

from __future__ import annotations

import asyncio
import re
from typing import Any

import pytest
from house import NOW, House

from tljh_plugin.errors import Forbidden, FormExpired
from tljh_plugin.operation.doctor import examine as carry_out
from tljh_plugin.service import examination
from tljh_plugin.service.examination import Examination
from tljh_plugin.wire import DoctorView, FindingStatus, FindingView

EVIL = '<img src=x onerror="alert(1)">'


def finding(identifier: str, status: FindingStatus, **more: Any) -> FindingView:
    return FindingView(id=identifier, group="Docker", title=f"Title of {identifier}", status=status, **more)


def view(*findings: FindingView) -> DoctorView:
    statuses: tuple[FindingStatus, ...] = ("problem", "warning", "not-checked", "note", "ok")
    counts = {status: sum(each.status == status for each in findings) for status in statuses}
    return DoctorView(checked=NOW, seconds=1.25, counts=counts, findings=findings)


@pytest.fixture
def ill(house: House) -> House:
    house.examination.found = view(
        finding(
            "firewall", "problem", meaning="`LB-X` is missing.", fix="Run `x --fix`.", repair="set it again"
        ),
        finding("backups", "warning", meaning="There is none.", fix="Make one."),
        finding("gateway", "not-checked", meaning="The hub does not answer."),
        finding("docker", "ok", seen={"version": "20.10", "rules": "-A ONE\n-A TWO"}),
    )
    return house


async def test_the_page_says_what_is_wrong_what_it_means_and_what_to_do(ill: House) -> None:
    async with ill.browser("root") as browser:
        text = (await browser.visit("doctor")).text
    assert "1 problem was found" in text
    assert re.findall(r'data-check="([^"]+)" data-status="([^"]+)"', text) == [
        ("firewall", "problem"),
        ("backups", "warning"),
        ("gateway", "not-checked"),
    ]
    assert "<code>LB-X</code> is missing." in text
    assert "Run <code>x --fix</code>." in text
    assert "littlest-binder doctor --fix firewall" in text
    assert "Title of docker" in text
    assert 'version <span class="mono">20.10</span>' in text
    assert '<summary>rules</summary><pre class="code said">' in text, "long lines are broken"
    assert not re.search(r"\sstyle=|<script(?![^>]*src=)", text)


async def test_looking_again_is_a_form_and_looking_at_the_page_is_not(ill: House) -> None:
    async with ill.browser("root") as browser:
        page = await browser.visit("doctor")
        await browser.visit("doctor")
        assert ill.examination.asked == 1  # what was found last is shown
        ill.examination.found = view(finding("docker", "ok"))
        sent = await browser.submit("doctor")
        assert (sent.status_code, sent.headers["location"]) == (303, "/services/binder/doctor")
        text = (await browser.visit("doctor")).text
    assert ill.examination.asked == 2
    assert "No problem was found." in text
    assert "Look again" in page.text
    assert page.text.count("<form") == 1  # nothing is put right from here


async def test_only_administrators_see_it_and_a_form_of_another_site_does_nothing(ill: House) -> None:
    async with ill.browser("ada") as browser:
        assert (await browser.visit("doctor")).status_code == Forbidden.http_status
        assert (await browser.get("api/v1/doctor")).status_code == Forbidden.http_status
    async with ill.browser("root") as browser:
        refused = await browser.post("doctor", data={"_xsrf": "guessed"})
        assert refused.status_code == FormExpired.http_status
    assert ill.examination.asked == 0


async def test_programs_get_the_same(ill: House) -> None:
    async with ill.client("root") as client:
        assert await client.doctor() == ill.examination.found
    async with ill.client("ada") as client:
        with pytest.raises(Forbidden):
            await client.doctor()


async def test_what_was_seen_is_only_text(house: House) -> None:
    house.examination.found = view(
        FindingView(
            id="mounts", group="People", title="T", about=EVIL, status="problem", meaning=EVIL, fix=EVIL,
            seen={"source": EVIL}, repair=EVIL,
        )
    )  # fmt: skip
    async with house.browser("root") as browser:
        text = (await browser.visit("doctor")).text
    assert "<img src=x" not in text
    assert "&lt;img" in text


async def test_who_asks_meanwhile_shares_one_examination(
    house: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    begun: list[int] = []

    async def counted(*arguments: object) -> object:
        begun.append(1)
        return await carry_out(*arguments)  # type: ignore[arg-type]

    monkeypatch.setattr(examination, "examine", counted)
    ours = Examination(house.settings)
    assert ours.last is None
    views = await asyncio.gather(*(ours.now() for _ in range(5)))
    assert len(begun) == 1
    assert {each.checked for each in views} == {views[0].checked}
    assert ours.last == views[0]
    assert views[0].state_dir == str(house.settings.state_dir)
    assert len({each.id for each in views[0].findings}) >= 30
