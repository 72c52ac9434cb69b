"""What monitors are told: health in parts, metrics, and who may read which."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Mapping
from pathlib import Path

import httpx
import pytest
from house import House, build_view, disk_view, open_house
from prometheus_client import CollectorRegistry
from prometheus_client.parser import text_string_to_metric_families
from waiting import LONG_S, until

from tljh_plugin import engine as engine_package
from tljh_plugin import request_ids
from tljh_plugin.cache.plan import Plan
from tljh_plugin.cache.run import Result, Run
from tljh_plugin.engine import Engine
from tljh_plugin.errors import EngineUnavailable, InvalidSpec
from tljh_plugin.installation import LAST_BACKUP
from tljh_plugin.metrics import DOCKER_CALLS, Declarations, DockerMetrics
from tljh_plugin.service.health import Health
from tljh_plugin.service.metrics import ServiceMetrics
from tljh_plugin.store import BuildRow

MONITOR = {"Authorization": "token prometheus-token"}


@pytest.fixture(autouse=True)
def prometheus(house: House) -> None:
    """A JupyterHub service with the scope for metrics and nothing else."""
    scopes = ["custom:binder:metrics"]
    house.hub.people["prometheus-token"] = {"kind": "service", "name": "prometheus", "scopes": scopes}
    house.hub.people["robot-token"] = {"kind": "service", "name": "robot", "scopes": []}


async def get(house: House, path: str, headers: Mapping[str, str] | None = None) -> httpx.Response:
    async with httpx.AsyncClient(base_url=house.url, timeout=LONG_S, headers=headers) as client:
        return await client.get(f"api/v1/{path}")


async def metrics(house: House) -> dict[str, float]:
    """All series that are not zero, by name and labels."""
    answer = await get(house, "metrics", MONITOR)
    assert answer.status_code == 200, answer.text
    assert answer.headers["Content-Type"].startswith("text/plain")
    found = {}
    for family in text_string_to_metric_families(answer.text):
        for sample in family.samples:
            labels = ",".join(f"{name}={value}" for name, value in sorted(sample.labels.items()))
            if sample.value:
                found[f"{sample.name.removeprefix('littlest_binder_')}[{labels}]"] = sample.value
    return found


# -- health -------------------------------------------------------------------------------------------


async def test_all_is_well(house: House) -> None:
    answer = await get(house, "health", MONITOR)
    assert answer.status_code == 200
    told = answer.json()
    assert told["ok"] is True
    assert [part["name"] for part in told["parts"]] == ["store", "docker", "hub", "disk", "queue", "firewall"]
    assert all(part["ok"] and not part["message"] for part in told["parts"])
    assert told["release"]
    assert (told["builds_queued"], told["builds_running"]) == (0, 0)


@pytest.mark.parametrize("part", ["store", "hub", "disk", "queue", "firewall"])
async def test_what_is_not_well_makes_a_monitor_ring(house: House, part: str) -> None:
    house.problems[part] = f"the {part} is broken at /secret"  # type: ignore[index]
    stranger = await get(house, "health")
    assert stranger.status_code == 503
    assert stranger.json()["ok"] is False
    assert "/secret" not in stranger.text
    assert stranger.json()["parts"] == []
    told = (await get(house, "health", MONITOR)).json()
    assert [each["name"] for each in told["parts"] if not each["ok"]] == [part]
    assert f"healthy[part={part}]" not in await metrics(house)


async def test_what_hangs_keeps_no_monitor_waiting_and_is_asked_once() -> None:
    asked: list[str] = []

    async def well() -> str:
        return ""

    async def hangs() -> str:
        asked.append("docker")
        await asyncio.Event().wait()
        return ""

    async def breaks() -> str:
        raise EngineUnavailable("Docker does not answer.", "Start it.")

    async def mistaken() -> str:
        raise ValueError("a secret")

    looks = {"store": well, "docker": hangs, "disk": breaks, "queue": mistaken}
    health = Health(looks, wait_s=0.05)  # type: ignore[arg-type]
    for _ in range(3):
        parts = {part.name: (part.ok, part.message) for part in await health.parts()}
        assert parts == {
            "store": (True, ""),
            "docker": (False, "No answer for 0.05 seconds."),
            "disk": (False, "Docker does not answer. Start it."),
            "queue": (False, "It could not be looked at: ValueError."),
        }
    assert asked == ["docker"]


async def test_a_service_that_is_not_well_has_answered_its_client(house: House) -> None:
    house.engine.problem = EngineUnavailable("Docker does not answer.", "Start it.")
    async with house.own_client("root", admin=True) as client:
        told = await client.health()
    assert (told.ok, told.engine) == (False, False)
    assert [each.name for each in told.parts if not each.ok] == ["docker"]


# -- metrics ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("token", "status"),
    [("", 403), ("ada-token", 403), ("robot-token", 403), ("root-token", 200), ("prometheus-token", 200)],
)
async def test_metrics_are_for_administrators_and_monitors(house: House, token: str, status: int) -> None:
    headers = {"Authorization": f"token {token}"} if token else {}
    assert (await get(house, "metrics", headers)).status_code == status


async def test_a_monitor_may_read_nothing_else(house: House) -> None:
    for path in ("builds", "images", "audit", "disk"):
        assert (await get(house, path, MONITOR)).status_code == 403


async def test_what_people_ask_for_is_counted_without_their_names(house: House) -> None:
    house.queue.add(build_view(spec="gh/owner/repo/main"))
    house.disk.now = disk_view()
    async with house.client("ada") as client:
        await client.builds()
        with pytest.raises(InvalidSpec):
            await client.resolve("not a repository at all")
    answer = await get(house, "metrics", MONITOR)
    assert "ada" not in answer.text
    assert "owner" not in answer.text
    found = await metrics(house)
    assert found["http_request_seconds_count[door=public,status=2xx]"] >= 1
    assert found["http_request_seconds_count[door=public,status=4xx]"] >= 1
    assert found["healthy[part=store]"] == 1
    assert found["disk_total_bytes[holds=docker]"] == 100 * 1024**3
    assert found["disk_free_bytes[holds=projects]"] == 455 * 1024**3
    assert found["disk_part_bytes[part=evictable-images]"] == 14 * 1024**3


async def test_who_follows_a_build_is_counted_while_they_do(house: House) -> None:
    house.queue.add(build_view())
    async with house.client("ada") as client:
        events = client.events("b-1")
        reading = anext(events)
        task = asyncio.ensure_future(reading)

        async def followed() -> bool:
            return "event_readers[door=public]" in await metrics(house)

        await until(followed)
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        await events.aclose()

    async def left() -> bool:
        return not await followed()

    await until(left)


def values(made: ServiceMetrics) -> dict[str, float]:
    found = {}
    for family in made.declared.registry.collect():
        for sample in family.samples:
            if sample.value and not sample.name.endswith(("_bucket", "_created")):
                name = sample.name.removeprefix("littlest_binder_")
                found[f"{name}[{','.join(map(str, sample.labels.values()))}]"] = sample.value
    return found


def row(state: str, code: str = "", took_s: int = 90) -> BuildRow:
    minutes, seconds = divmod(took_s, 60)
    times = {
        "started": "2026-11-21T09:00:00.000+00:00",
        "finished": f"2026-11-21T09:{minutes:02}:{seconds:02}.000+00:00",
    }
    return BuildRow(
        "b",
        "i",
        "u",
        "c",
        "",
        "linux/amd64",
        "s",
        "r",
        "ada",
        "",
        state=state,
        error_code=code,
        **times,  # type: ignore[arg-type]
    )


@pytest.mark.parametrize(
    ("state", "code", "outcome"),
    [
        ("built", "", "built"),
        ("cancelled", "build-cancelled", "cancelled"),
        ("failed", "build-failed", "failed"),
        ("failed", "ref-not-found", "failed"),
        ("failed", "repository-unreachable", "failed"),
        ("failed", "engine-unavailable", "error"),
        ("failed", "build-killed", "error"),
        ("failed", "unexpected", "error"),
    ],
)
def test_a_build_that_failed_by_this_machines_fault_is_told_apart(
    state: str, code: str, outcome: str
) -> None:
    made = ServiceMetrics()
    made.build_ended(row(state, code))
    found = values(made)
    assert found[f"build_seconds_count[{outcome}]"] == 1
    assert found[f"build_seconds_sum[{outcome}]"] == 90


def test_a_run_of_retention_is_counted_image_by_image() -> None:
    made = ServiceMetrics()
    results = (Result("a", "a", "evicted"), Result("b", "b", "kept"), Result("c", "c", "evicted"))
    run = Run("r", "evict", "retention", "", Plan("evict", (), (), 0), results=results, gained_bytes=5)
    made.images_deleted(run)
    found = values(made)
    assert found["image_deletions_total[retention,evicted]"] == 2
    assert found["image_deletions_total[retention,kept]"] == 1
    assert found["deletion_gained_bytes_total[]"] == 5
    assert found["deletion_runs_total[retention,done]"] == 1


def test_what_was_not_declared_never_becomes_a_label() -> None:
    made = ServiceMetrics()
    for name in ("ada", "https://example.org/repo", "sha256:abc"):
        made.launched(name)
        made.docker.heard(f"{name} the container", 0.1, "")
        made.docker.heard("stop the container abc", None, name)
    found = values(made)
    assert found["launches_total[other]"] == 3
    assert found["docker_seconds_count[other]"] == 3
    assert found["docker_errors_total[stop,other]"] == 3


def test_every_label_of_every_metric_has_few_values() -> None:
    for each in ServiceMetrics().declared:
        series = 1
        for label, known in each.labels:
            assert label not in ("person", "user", "name", "repository", "image", "server", "id")
            assert len(known) == len(set(known))
            series *= len(known)
        assert series <= 60, each.name


def test_every_series_is_there_before_anything_happened() -> None:
    made = ServiceMetrics()
    told = {
        (sample.name, tuple(sample.labels.values()))
        for family in made.declared.registry.collect()
        for sample in family.samples
    }
    assert ("littlest_binder_build_seconds_count", ("error",)) in told
    assert ("littlest_binder_launches_total", ("refused",)) in told


async def test_docker_calls_are_counted_by_their_verb() -> None:
    declared = Declarations(CollectorRegistry())
    engine = Engine("of-a-test", base_url="unix:///nowhere/docker.sock", heard=DockerMetrics(declared).heard)
    for work in (engine.containers(), engine.stop("0123abcd", 1)):
        with pytest.raises(EngineUnavailable):
            await work
    value = declared.registry.get_sample_value
    for call in ("list", "stop"):
        labels = {"call": call, "error": "unreachable"}
        assert value("littlest_binder_docker_errors_total", labels) == 1


def test_every_verb_of_the_engine_is_declared() -> None:
    folder = Path(engine_package.__file__).parent
    text = "".join(each.read_text() for each in folder.glob("*.py"))
    called = re.findall(r"connection\.(?:call|held)\(\s*f?\"(\w+) ", text)
    assert len(called) > 20
    assert set(called) == set(DOCKER_CALLS)


async def test_when_the_last_backup_was_made_is_told(house: House) -> None:
    assert "last_backup_seconds[]" not in await metrics(house)
    mark = house.settings.state_dir / LAST_BACKUP
    mark.touch()
    assert (await metrics(house))["last_backup_seconds[]"] == pytest.approx(mark.stat().st_mtime)


async def test_metrics_are_for_everybody_only_if_the_administrator_says_so(tmp_path: Path) -> None:
    async with open_house(tmp_path, monitoring={"authenticate_metrics": False}) as house:
        assert (await get(house, "metrics")).status_code == 200


# -- ids of requests ----------------------------------------------------------------------------------


async def test_each_answer_names_its_request(house: House) -> None:
    async with httpx.AsyncClient(base_url=house.url, timeout=LONG_S) as client:
        for path in ("api/v1/health", "api/v1/builds", "api/v1/nothing", "no-page", ""):
            first, second = [await client.get(path) for _ in range(2)]
            ids = [each.headers.get_list("X-Request-ID") for each in (first, second)]
            assert [len(each) for each in ids] == [1, 1], path
            assert ids[0] != ids[1], path
        given = await client.get("api/v1/builds", headers={"X-Request-ID": "from-elsewhere"})
        assert given.headers["X-Request-ID"] == "from-elsewhere"
        for strange in ("x", "a b c d", "'; DROP", "é" * 8):
            answer = await client.get("api/v1/builds", headers={"X-Request-ID": strange.encode("latin-1")})
            assert request_ids.valid(answer.headers["X-Request-ID"])
            assert answer.headers["X-Request-ID"] != strange


async def test_the_hub_is_asked_with_the_same_id(house: House) -> None:
    async with house.client("ada") as client:
        with request_ids.belonging("of-this-launch"):
            await client.launch({"repository": "gh/owner/repo/main"}, server="one")
    assert house.hub.requests[-1] == "of-this-launch"


async def test_an_error_page_shows_the_id(house: House) -> None:
    async with house.browser("ada") as browser:
        answer = await browser.get("builds/none")
    assert answer.status_code == 404
    assert f'<code data-part="request">{answer.headers["X-Request-ID"]}</code>' in answer.text
