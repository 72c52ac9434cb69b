"""The API behind both doors."""

from __future__ import annotations

import asyncio
import json
import stat
from contextlib import suppress
from dataclasses import replace
from typing import Any

import httpx
import pytest
from house import COMMIT, IMAGE, NOW, House, build_view, image_view, line, project_view
from waiting import LONG_S, until

from tljh_plugin.cache.listing import as_seen
from tljh_plugin.client import PERSON_HEADER, ServiceClient
from tljh_plugin.errors import (
    BinderError,
    EngineUnavailable,
    Forbidden,
    ImageNotFound,
    InvalidRequest,
    InvalidSpec,
    NotFound,
    QueueFull,
    RefNotFound,
)
from tljh_plugin.service import events
from tljh_plugin.wire import BuildRequest, Person, PrepareRequest

PREPARE = PrepareRequest(server="x", image_id=IMAGE, repository="r", spec="gh/o/r/main", commit=COMMIT)


# -- who asks -----------------------------------------------------------------------------------------


async def test_a_token_of_the_hub_opens_the_api(house: House) -> None:
    house.queue.add(build_view())
    async with house.client("ada") as client:
        assert [build.id for build in await client.builds()] == ["b-1"]


async def test_without_a_token_or_with_a_bad_one_nothing_is_told(house: House) -> None:
    for headers in ({}, {"Authorization": "token nonsense"}):
        async with httpx.AsyncClient(base_url=house.url, headers=headers, timeout=LONG_S) as client:
            answer = await client.get("api/v1/builds")
        assert answer.status_code == 403
        assert answer.json()["code"] == "not-signed-in"
        assert "Authorization" in answer.json()["next"]


async def test_a_person_without_the_access_scope_is_refused(house: House) -> None:
    house.hub.people["eve-token"] = {"kind": "user", "name": "eve", "scopes": ["read:users!user=eve"]}
    async with house.client("eve") as client:
        with pytest.raises(Forbidden) as caught:
            await client.builds()
    assert "access:services!service=binder" in caught.value.next_step


async def test_a_token_of_another_service_is_nobodys(house: House) -> None:
    scopes = ["access:services!service=binder"]
    house.hub.people["robot-token"] = {"kind": "service", "name": "robot", "scopes": scopes}
    async with house.client("robot") as client:
        with pytest.raises(Forbidden, match="robot"):
            await client.builds()


async def test_the_header_that_names_a_person_means_nothing_at_the_public_door(house: House) -> None:
    header = {PERSON_HEADER: Person(name="root", admin=True).model_dump_json()}
    async with httpx.AsyncClient(base_url=house.url, headers=header, timeout=LONG_S) as client:
        assert (await client.get("api/v1/builds")).status_code == 403


async def test_behind_our_own_socket_the_header_names_the_person(house: House) -> None:
    house.queue.add(build_view(requested_by="zoë"))
    async with house.own_client("zoë") as client:
        assert [build.requested_by for build in await client.builds()] == ["zoë"]


async def test_our_own_socket_is_for_its_owner_alone(house: House) -> None:
    socket = house.settings.service_socket
    assert stat.S_IMODE(socket.stat().st_mode) == 0o600
    assert stat.S_IMODE(socket.parent.stat().st_mode) == 0o700


async def test_a_damaged_header_is_refused(house: House) -> None:
    transport = httpx.AsyncHTTPTransport(uds=str(house.settings.service_socket))
    async with httpx.AsyncClient(
        transport=transport, headers={PERSON_HEADER: "root"}, timeout=LONG_S
    ) as client:
        answer = await client.get("http://binder/api/v1/builds")
    assert (answer.status_code, answer.json()["code"]) == (403, "forbidden")


async def test_prepare_and_release_exist_behind_our_own_socket_only(house: House) -> None:
    async with house.own_client("ada") as own:
        prepared = await own.prepare(PREPARE)
        assert prepared.lease == "lease of ada"
        await own.release(prepared.lease, ok=True)
    assert house.preparations.released == [("lease of ada", True)]
    async with house.client("root") as public:
        with pytest.raises(NotFound):
            await public.prepare(PREPARE)
        with pytest.raises(NotFound):
            await public.release("x", ok=True)


async def test_a_hub_that_gives_a_start_up_ends_its_preparation(house: House) -> None:
    house.preparations.hold = asyncio.Event()
    async with house.own_client("ada") as client:
        call = asyncio.create_task(client.prepare(PREPARE))
        await asyncio.wait_for(house.preparations.begun.wait(), 60)
        call.cancel()
        await asyncio.gather(call, return_exceptions=True)
    await asyncio.wait_for(house.preparations.cancelled.wait(), 60)


# -- cookies and XSRF ---------------------------------------------------------------------------------


async def test_a_cookie_alone_changes_nothing(house: House) -> None:
    body = {"spec": "gh/owner/repo/main"}
    async with house.browser("ada") as browser:
        await browser.visit("")
        for headers in ({}, {"X-XSRFToken": "guessed"}):
            answer = await browser.post("api/v1/builds", json=body, headers=headers)
            assert answer.status_code == 403
        assert not house.queue.requested
        answer = await browser.post("api/v1/builds", json=body, headers={"X-XSRFToken": browser.xsrf})
    assert answer.status_code == 202
    assert [name for name, _ in house.queue.requested] == ["ada"]


async def test_a_script_of_another_site_reads_nothing_with_the_cookie(house: House) -> None:
    async with house.browser("ada") as browser:
        await browser.visit("")
        answer = await browser.ask("api/v1/builds", **{"Sec-Fetch-Site": "cross-site"})
        assert answer.status_code == 403
        assert "access-control-allow-origin" not in answer.headers
        assert (await browser.ask("api/v1/builds", **{"X-XSRFToken": browser.xsrf})).status_code == 200


async def test_one_persons_xsrf_token_is_no_good_for_another(house: House) -> None:
    async with house.browser("bob") as bob:
        await bob.visit("")
    async with house.browser("ada") as ada:
        await ada.visit("")
        answer = await ada.post("api/v1/builds", json={"spec": "gh/o/r"}, headers={"X-XSRFToken": bob.xsrf})
    assert answer.status_code == 403


# -- resolve and builds -------------------------------------------------------------------------------


async def test_resolve_says_what_a_text_means(house: House) -> None:
    house.projects.known = [project_view(), project_view("other-1", repository="https://github.com/o/x")]
    house.queue.add(build_view(commit=COMMIT))
    async with house.client("ada") as client:
        view = await client.resolve("https://github.com/owner/repo/tree/main")
    assert (view.spec, view.display) == ("gh/owner/repo/main", "github.com/owner/repo")
    assert (view.commit, view.ref) == (COMMIT, "main")
    assert (view.image, view.build_id) == ("building", "b-1")
    assert [project.id for project in view.projects] == ["owner-repo-0123abcd"]


async def test_resolve_works_without_docker_and_says_so(house: House) -> None:
    house.queue.problem = EngineUnavailable("Docker does not answer.", "Start it.")
    async with house.client("ada") as client:
        view = await client.resolve("owner/repo")
    assert view.image == "missing"
    assert "Docker does not answer." in view.warnings[0]


@pytest.mark.parametrize(
    ("text", "kind", "said"),
    [
        ("zenodo/10.5281/zenodo.1", InvalidSpec, "not supported yet"),
        ("file:///etc/passwd", BinderError, "file"),
        ("ext::sh -c id", BinderError, "ext"),
        ("gh/owner/repo/nope", RefNotFound, "nope"),
        ("local/%2Fetc", BinderError, "/etc"),
        ("", InvalidSpec, "No repository"),
    ],
)
async def test_bad_texts_are_errors_with_the_value_and_a_next_step(
    house: House, text: str, kind: type[BinderError], said: str
) -> None:
    async with house.client("ada") as client:
        with pytest.raises(kind) as caught:
            await client.resolve(text)
    assert said in caught.value.message
    assert caught.value.next_step
    assert house.resolver.asked == (1 if kind is RefNotFound else 0)  # the policy comes before the network


async def test_a_build_is_asked_for_at_the_commit_that_was_confirmed(house: House) -> None:
    async with house.client("ada") as client:
        build = await client.build(BuildRequest(spec="gh/owner/repo/main", commit="ab" * 20))
    assert (build.state, build.requested_by) == ("queued", "ada")
    assert house.queue.requested[0][1].commit == "ab" * 20


async def test_a_refusal_of_the_queue_keeps_its_code_and_status(house: House) -> None:
    house.queue.problem = QueueFull("ada has 5 builds queued.", "Wait.")
    async with house.client("ada") as client:
        with pytest.raises(QueueFull, match="5 builds"):
            await client.build(BuildRequest(spec="owner/repo"))
        answer = await client._http.post("api/v1/builds", json={"spec": "owner/repo"})
    assert answer.status_code == 429


async def test_only_administrators_list_everybodys_builds(house: House) -> None:
    house.queue.add(build_view("b-1", requested_by="ada"))
    house.queue.add(build_view("b-2", requested_by="bob"))
    async with house.client("ada") as client:
        assert [build.id for build in await client.builds()] == ["b-1"]
        with pytest.raises(Forbidden):
            await client.builds(everyone=True)
    house.hub.add("helper", scopes=["custom:binder:admin"])
    for name in ("root", "helper"):
        async with house.client(name) as client:
            assert [build.id for build in await client.builds(everyone=True)] == ["b-2", "b-1"]


async def test_somebody_elses_private_build_does_not_exist(house: House) -> None:
    house.queue.add(build_view("b-1", requested_by="ada"), [line(1)])
    house.queue.private.add("b-1")
    async with house.client("bob") as client:
        for call in (client.get_build("b-1"), client.log("b-1"), client.cancel("b-1")):
            with pytest.raises(NotFound):
                await call
        with pytest.raises(NotFound):
            await anext(client.events("b-1"))


async def test_a_cancelled_build_is_told_as_cancelled(house: House) -> None:
    house.queue.add(build_view())
    async with house.client("ada") as client:
        assert (await client.cancel("b-1")).state == "cancelled"


# -- logs ---------------------------------------------------------------------------------------------


async def test_the_log_so_far_as_lines_and_as_text(house: House) -> None:
    house.queue.add(build_view())
    path = house.settings.log_dir / "b-1.jsonl"
    path.write_text("".join(line(n, text=f"<b>{n}</b>").model_dump_json() + "\n" for n in range(1, 1201)))
    async with house.client("ada") as client:
        assert [each.n for each in await client.log("b-1")] == list(range(1, 1201))
        assert [each.n for each in await client.log("b-1", after=1198)] == [1199, 1200]
        assert await client.log("b-1", after=1200) == []
        answer = await client._http.get("api/v1/builds/b-1/log?text=1")
    assert answer.headers["content-type"] == "text/plain; charset=utf-8"
    assert answer.headers["x-content-type-options"] == "nosniff"
    assert answer.text.splitlines()[0] == "<b>1</b>"


async def test_a_log_path_cannot_leave_its_folder(house: House) -> None:
    async with house.client("ada") as client:
        with pytest.raises(NotFound):
            await client.log("../secret")


async def test_events_are_replayed_then_live_to_the_end(house: House) -> None:
    house.queue.add(build_view(), [line(1), line(2)])
    seen: list[int] = []
    async with house.client("ada") as client:
        async for each in client.events("b-1"):
            seen.append(each.n)
            if each.n == 2:
                await house.queue.write("b-1", line(3), line(4, "built"))
    assert seen == [1, 2, 3, 4]


async def test_events_are_resumed_by_header_or_query(house: House) -> None:
    house.queue.add(build_view(), [line(1), line(2), line(3, "built")])
    async with house.client("ada") as client:
        url = "api/v1/builds/b-1/events"
        by_header = await client._http.get(url, headers={"Last-Event-ID": "2"})
        by_query = await client._http.get(f"{url}?after=2")
    for answer in (by_header, by_query):
        assert answer.headers["content-type"].startswith("text/event-stream")
        assert answer.text.startswith("retry: ")
        assert answer.text.count("data: ") == 1
        assert "id: 3\n" in answer.text
        assert json.loads(answer.text.split("data: ")[1].split("\n")[0])["n"] == 3


async def test_who_has_seen_all_is_told_not_to_come_back(house: House) -> None:
    # 204 is the status at which an EventSource gives up for good (HTML standard, 9.2.3).
    house.queue.add(build_view(state="built"), [line(1), line(2, "built")])
    async with house.client("ada") as client:
        assert (await client._http.get("api/v1/builds/b-1/events?after=2")).status_code == 204
        assert [each async for each in client.events("b-1", after=2)] == []


@pytest.mark.parametrize("after", ["x", "-1", "1.5", "²", "9" * 30])
async def test_a_position_that_is_no_number_is_refused(house: House, after: str) -> None:
    house.queue.add(build_view(), [line(1)])
    async with house.client("ada") as client:
        answer = await client._http.get("api/v1/builds/b-1/events", params={"after": after})
    assert (answer.status_code, answer.json()["code"]) == (400, "invalid-request")


async def test_a_quiet_stream_says_that_it_lives(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(events, "KEEP_ALIVE_S", 0.05)
    house.queue.add(build_view(), [line(1)])
    async with (
        house.client("ada") as client,
        client._http.stream("GET", "api/v1/builds/b-1/events") as answer,
    ):
        async for text in answer.aiter_lines():
            if text.startswith(":"):
                break


async def test_a_reader_that_leaves_is_no_longer_read_for(house: House) -> None:
    house.queue.add(build_view(), [line(1)])
    path = "api/v1/builds/b-1/events"
    async with house.client("ada") as client, client._http.stream("GET", path) as answer:
        await anext(answer.aiter_lines())
        await until(lambda: house.queue.readers == 1)
    await until(lambda: not house.queue.readers)


async def test_a_person_reads_so_many_streams_at_a_time(
    house: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(events, "MOST_STREAMS", 1)
    house.queue.add(build_view(), [line(1)])
    path = "api/v1/builds/b-1/events"
    async with house.client("ada") as client, house.client("bob") as other:
        async with client._http.stream("GET", path) as first:
            await anext(first.aiter_lines())
            async with client._http.stream("GET", path) as second:
                assert second.status_code == 429
                assert "too-many-streams" in str(await second.aread())
            async with other._http.stream("GET", path) as theirs:
                assert theirs.status_code == 200
        await until(lambda: not house.queue.readers)
        async with client._http.stream("GET", path) as again:
            assert again.status_code == 200


async def test_ten_thousand_lines_arrive_whole(house: House) -> None:
    house.queue.add(build_view(), [*(line(n) for n in range(1, 10_000)), line(10_000, "built")])
    async with house.client("ada") as client:
        assert [each.n async for each in client.events("b-1")] == list(range(1, 10_001))


# -- images and projects ------------------------------------------------------------------------------


async def test_an_image_is_deleted_or_the_reason_told(house: House) -> None:
    other = "sha256:" + "cd" * 32
    house.inventory.known = [image_view(), image_view(other, users=("bob/x",))]
    async with house.client("root") as client:
        planned = await client.delete_images([IMAGE, other], dry_run=True)
        assert planned.run is None
        assert [(item.image_id, item.rule) for item in planned.plan.take] == [(IMAGE, "asked")]
        assert [(item.rule, item.text) for item in planned.plan.keep] == [("in-use", "In use by bob/x.")]
        assert not house.sweep.deleted
        nothing = await client.delete_images([other])
        assert (nothing.plan.take, nothing.run) == ((), None)
        done = await client.delete_images([IMAGE, other], "evict")
        assert done.run is not None
        assert [(each.image_id, each.outcome) for each in done.run.results] == [(IMAGE, "evicted")]
        assert done.run.gained_bytes == 4096
        with pytest.raises(ImageNotFound):
            await client.image(IMAGE)
        assert [image.users for image in await client.images()] == [("bob/x",)]
        assert [run.id for run in await client.runs()] == [done.run.id]
        assert [run.finished for run in [each async for each in client.follow_run(done.run.id)]] == [NOW]


async def test_images_are_searched_filtered_sorted_and_cut_into_pages(house: House) -> None:
    house.inventory.known = [
        image_view(
            f"sha256:{n:064x}",
            title=f"Course {n}",
            pin_reason="for the exam" if n == 4 else "",
            size=n,
            created=f"2026-11-{30 - n:02}T00:00:00+00:00",
            pinned=n % 2 == 0,
            users=("bob/x",) if n == 5 else (),
        )
        for n in range(1, 10)
    ]

    async def titles(client: ServiceClient, *text: str, **more: Any) -> tuple[list[str], int]:
        answer = await client.search_images(*text, **more)
        return [each.title.removeprefix("Course ") for each in answer.images], answer.found

    async with house.client("root") as client:
        assert await titles(client) == ([*"123456789"], 9)
        assert await titles(client, limit=2, page=2, sort="size") == ([*"76"], 9)
        assert await titles(client, limit=2, page=5, sort="-size") == (["9"], 9)
        assert await titles(client, limit=2, page=6) == ([], 9)
        assert await titles(client, show="pinned", sort="title") == ([*"2468"], 4)
        assert await titles(client, "exam course") == (["4"], 1)
        assert await titles(client, "bob", show="in-use") == (["5"], 1)
        assert [each.title for each in await client.images()] == [f"Course {n}" for n in range(1, 10)]


@pytest.mark.parametrize(
    "query",
    ["show=nonsense", "sort=price", "page=0", "limit=0", "limit=1001", "limit=²", "serch=optics"],
)
async def test_a_search_of_images_that_has_no_meaning_is_refused(house: House, query: str) -> None:
    async with house.client("ada") as client:
        with pytest.raises(InvalidRequest) as caught:
            await client._request("GET", f"images?{query}")
    assert query.partition("=")[2] in caught.value.message
    assert caught.value.next_step


async def test_nobody_finds_images_by_what_they_may_not_read(
    house: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What only administrators may know is in the rows of their table, not in the views of all."""
    house.inventory.known = [image_view()]
    row = replace(as_seen(image_view()), users=("bob/secret",), failed=True)
    monkeypatch.setattr(house.inventory, "listed", lambda: (row,))
    async with house.client("root") as root, house.client("ada") as ada:
        for text, show in (("secret", ""), ("", "failed")):
            assert (await root.search_images(text, show=show)).found == 1
            assert (await ada.search_images(text, show=show)).found == 0


async def test_what_a_deletion_was_asked_for_must_make_sense(house: House) -> None:
    house.inventory.known = [image_view()]
    async with house.client("root") as client:
        for query in ("", "?id=&mode=burn", f"?id={IMAGE}&mode=burn", f"?id={IMAGE}&dry_run=perhaps"):
            with pytest.raises((InvalidRequest, ImageNotFound)):
                await client._request("DELETE", f"images{query}")
    assert not house.sweep.deleted


async def test_a_run_is_its_own_persons_and_administrators_to_see_and_stop(house: House) -> None:
    house.inventory.known = [image_view()]
    house.sweep.held = True
    async with house.client("ada") as ada, house.client("bob") as bob, house.client("root") as root:
        begun = await ada.delete_images([IMAGE])
        assert begun.run is not None
        assert begun.run.finished == ""
        assert (await ada.get_run(begun.run.id)).id == begun.run.id
        with pytest.raises(NotFound):
            await bob.stop_run(begun.run.id)
        with pytest.raises(Forbidden):
            await ada.runs()
        await root.stop_run(begun.run.id)
    assert house.sweep.stopped == [begun.run.id]


async def test_retention_is_previewed_under_other_settings_and_run_under_these(house: House) -> None:
    house.inventory.known = [image_view(), image_view("sha256:" + "cd" * 32, pinned=True)]
    async with house.client("root") as client, house.client("ada") as ada:
        with pytest.raises(Forbidden):
            await ada.retention()
        preview = await client.retention(dry_run=True, policy={"low_watermark_percent": 85})
        assert preview.plan.wanted_bytes == 5 * 10**9
        assert preview.used_percent == 90
        assert [item.rule for item in preview.plan.keep] == ["pinned"]
        higher = {"low_watermark_percent": 95.0, "high_watermark_percent": 99}
        fine = await client.retention(dry_run=True, policy=higher)
        assert (fine.plan.take, fine.plan.wanted_bytes) == ((), 0)
        for wrong in ({"low_watermark_percent": 99}, {"mode": "burn"}, {"colour": "red"}):
            with pytest.raises(InvalidRequest):
                await client.retention(dry_run=True, policy=wrong)
        with pytest.raises(InvalidRequest, match="for one run"):
            await client.retention(policy={"low_watermark_percent": 1})
        assert not house.sweep.deleted
        done = await client.retention()
    assert done.run is not None
    assert done.run.by == "root"
    assert house.sweep.deleted == [IMAGE]


async def test_a_person_sees_their_own_projects(house: House) -> None:
    house.projects.known = [project_view("a"), project_view("b", owner="bob")]
    async with house.client("ada") as client:
        assert [project.id for project in await client.projects()] == ["a"]


# -- the edges ----------------------------------------------------------------------------------------


async def test_health_is_for_everybody_and_details_for_those_signed_in(house: House) -> None:
    house.engine.problem = EngineUnavailable("Docker at /secret/path does not answer.", "Start it.")
    async with httpx.AsyncClient(base_url=house.url, timeout=LONG_S) as stranger:
        told = (await stranger.get("api/v1/health")).json()
    assert (told["ok"], told["engine"], told["message"]) == (False, False, "")
    async with house.client("ada") as client:
        view = await client.health()
    assert "/secret/path" in view.message


async def test_health_says_whether_servers_have_a_firewall(house: House) -> None:
    house.engine.no_firewall = "This process may not set firewall rules."
    async with httpx.AsyncClient(base_url=house.url, timeout=LONG_S) as stranger:
        assert (await stranger.get("api/v1/health")).json()["firewall"] == ""
    async with house.client("ada") as client:
        assert (await client.health()).firewall == house.engine.no_firewall


async def test_health_says_that_the_firewall_is_in_force(house: House) -> None:
    async with house.client("ada") as client:
        assert (await client.health()).firewall == "in force"


async def test_what_is_not_there_is_a_json_error(house: House) -> None:
    async with house.client("ada") as client:
        for method, path, status in (("GET", "api/v1/nope", 404), ("PUT", "api/v1/builds", 400)):
            answer = await client._http.request(method, path)
            assert answer.status_code == status
            assert set(answer.json()) == {"code", "message", "next"}


async def test_a_large_body_is_refused(house: House) -> None:
    async with house.client("ada") as client:
        with suppress(httpx.TransportError):  # the connection is closed, be it before or after an answer
            answer = await client._http.post("api/v1/resolve", content=b" " * 200_000)
            assert answer.status_code in (400, 413)
    assert not house.resolver.asked


async def test_an_unexpected_failure_has_an_id_and_no_details(
    house: House, caplog: pytest.LogCaptureFixture
) -> None:
    house.queue.add(build_view(spec="gh/owner/repo/main"))
    house.resolver.commit = "not a commit"
    house.queue.problem = RuntimeError("secret detail")  # type: ignore[assignment]
    async with house.client("ada") as client:
        answer = await client._http.post("api/v1/resolve", json={"spec": "owner/repo"})
    assert (answer.status_code, answer.json()["code"]) == (500, "unexpected")
    assert "secret detail" not in answer.text
    number = answer.json()["next"].rstrip(".").split()[-1]
    assert number in caplog.text
    assert "secret detail" in caplog.text


@pytest.mark.parametrize(
    ("body", "said"),
    [
        ({"repository": "gh/o/r/main", "mount": "/etc"}, "mount"),
        ({"repository": "gh/o/r/main", "project": "/etc/passwd"}, "/etc/passwd"),
        ({"repository": "gh/o/r/main", "restart": "yes"}, "restart"),
        ({"repository": "gh/o/r/main", "path": "https://elsewhere/"}, "elsewhere"),
        ({"repository": "gh/o/r/main", "commit": "abc"}, "abc"),
        ({}, "repository"),
    ],
)
async def test_bad_launch_options_are_refused_before_anything_happens(
    house: House, body: dict[str, object], said: str
) -> None:
    async with house.client("ada") as client:
        answer = await client._http.post("api/v1/launches", json=body)
    assert answer.status_code == 400
    assert said in answer.json()["message"]
    assert not house.hub.started


async def test_unknown_query_values_are_refused(house: House) -> None:
    async with house.client("root") as client:
        with pytest.raises(InvalidRequest, match="everyone=maybe"):
            await client._request("GET", "builds", query={"everyone": "maybe"})
