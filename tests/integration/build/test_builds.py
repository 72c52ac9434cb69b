"""Builds from a git server to a recorded image, with real git, real Docker and the real worker."""

from __future__ import annotations

import asyncio
import json
import os
import secrets
import signal
import sys
from asyncio.subprocess import PIPE
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import docker
import installation_parts
import pytest
from git_server import GitServer, git
from installation_parts import ANN, BOB, ROOT, Parts, opened, settings_for, visited
from waiting import until

from tljh_plugin.build.base import ensure_base, recipe_digest
from tljh_plugin.build.identity import ImageIdentity, building_name, image_names, verify
from tljh_plugin.build.processes import members
from tljh_plugin.installation import instance_id, secret
from tljh_plugin.labels import INSTANCE_LABEL, PERSON_LABEL, SERVER_LABEL
from tljh_plugin.source.credentials import Login
from tljh_plugin.source.spec import parse_link

pytestmark = pytest.mark.docker


@pytest.fixture
def sections(git_server: GitServer, base_image: str) -> dict[str, object]:
    policy = {**git_server.settings(), "dockerfile": "everyone"}
    servers = {"uid": 1000, "gid": 1000}
    retention = {"min_age_hours": 0}
    return {
        "policy": policy,
        "servers": servers,
        "source": {"resolve_cache_s": 0},
        "retention": retention,
    }


@pytest.fixture
async def parts(tmp_path: Path, sections: dict[str, object]) -> AsyncIterator[Parts]:
    async with visited(settings_for(tmp_path / "state", sections)) as ours:
        yield ours
        for view in await ours.queue.list(states=["queued", "running"]):
            await ours.queue.cancel(view.id, ROOT)
        await nothing_is_left(ours)


async def nothing_is_left(parts: Parts) -> None:
    """No process, container, temporary folder, checkout or provisional name of any build."""
    assert marked_processes(parts.settings.state_dir) == []
    assert [each.name for each in await parts.engine.containers() if parts.engine.is_ours(each.labels)] == []
    temporary = parts.settings.state_dir / "temporary"
    assert not temporary.exists() or list(temporary.iterdir()) == []
    assert [path for path in parts.settings.checkout_dir.iterdir() if path.is_dir()] == []
    for view in await parts.queue.list():
        assert await parts.engine.image(building_name(view.id)) is None
    assert await parts.store.unsettled_builds() == []


def marked_processes(state: Path) -> list[int]:
    """Processes of workers whose temporary folder is below `state`."""
    found = []
    for entry in os.listdir("/proc"):
        if entry.isdecimal():
            try:
                environment = (Path("/proc") / entry / "environ").read_bytes().split(b"\0")
            except OSError:
                continue
            if f"TMPDIR={state}".encode() in [part[: len(f"TMPDIR={state}")] for part in environment]:
                found.append(int(entry))
    return found


def processes_with(text: str) -> list[str]:
    """Command lines on the whole machine, containers included, that contain `text`."""
    found = []
    for entry in os.listdir("/proc"):
        if entry.isdecimal():
            try:
                line = (Path("/proc") / entry / "cmdline").read_bytes().replace(b"\0", b" ").decode()
            except OSError:
                continue
            if text in line:
                found.append(line)
    return found


def small(git_server: GitServer, dockerfile: str, name: str = "small") -> str:
    """A repository on our base that differs in every test run, so that no layer is there yet."""
    mark = secrets.token_hex(8)
    git_server.new(name, {"Dockerfile": f"FROM littlest-binder/base\nENV TEST_RUN={mark}\n{dockerfile}\n"})
    return git_server.spec(name)


async def test_the_whole_way_once_and_then_a_hit(parts: Parts, git_server: GitServer) -> None:
    git_server.add("dockerfile")
    spec = git_server.spec("dockerfile")
    view = await parts.build(spec)
    assert view.error is None
    facts = await parts.engine.image(view.image_name)
    assert facts
    assert facts.id == view.image_id
    assert verify(facts.labels, secret(parts.settings))
    assert facts.labels["org.littlest-binder.commit"] == git_server.head("dockerfile")
    assert INSTANCE_LABEL not in facts.labels
    lines = await parts.log(view.id)
    assert [line.n for line in lines] == list(range(1, len(lines) + 1))
    assert list(dict.fromkeys(line.phase for line in lines)) == ["fetching", "building", "checking", "built"]
    progress = [line.progress for line in lines if line.progress is not None]
    assert progress == sorted(progress)
    assert progress[-1] == 100

    hit = await parts.request(spec, BOB)
    assert (hit.hit, hit.image_id) == (True, view.image_id)
    [image] = parts.inventory.images()
    assert (image.id, image.built_by, image.older_recipe) == (view.image_id, "ann", False)
    recorded = await parts.store.image(view.image_id)
    assert recorded
    assert recorded.home == "/home/jovyan"


async def test_twenty_equal_requests_at_once_are_one_build(parts: Parts, git_server: GitServer) -> None:
    spec = small(git_server, "RUN echo once")
    views = await asyncio.gather(*(parts.request(spec) for _ in range(20)))
    ended = await asyncio.gather(*(parts.queue.finished(view.id) for view in views))
    assert len({view.id for view in views}) == 1
    assert len({view.image_id for view in ended}) == 1
    assert ended[0].state == "built"


async def test_a_rebuild_gives_the_same_image_and_takes_nothing_away(
    parts: Parts, git_server: GitServer
) -> None:
    spec = small(git_server, "RUN echo same")
    first = await parts.build(spec)
    again = await parts.build(spec, rebuild=True)
    assert again.id != first.id
    assert (again.image_id, again.image_name) == (first.image_id, first.image_name)
    assert len(parts.inventory.images()) == 1


async def test_a_rebuild_that_differs_leaves_the_older_image_a_name_of_its_own(
    parts: Parts, git_server: GitServer
) -> None:
    spec = small(git_server, "RUN echo twice")
    first = await parts.build(spec)
    git(git_server.path("small"), "branch", "other")  # the ref is a label: one commit, another image
    second = await parts.build(git_server.spec("small", "other"), rebuild=True)
    assert second.image_id != first.image_id
    assert second.image_name == first.image_name
    older = await parts.store.image(first.image_id)
    assert older
    assert older.name == f"{first.image_name}-{first.image_id[7:15]}"
    facts = await parts.engine.image(older.name)
    assert facts
    assert facts.id == first.image_id
    hit = await parts.request(spec)
    assert hit.image_id == second.image_id


async def test_an_image_removed_behind_our_back_is_a_miss(
    parts: Parts, git_server: GitServer, client: docker.APIClient
) -> None:
    spec = small(git_server, "RUN echo gone")
    first = await parts.build(spec)
    await asyncio.to_thread(client.remove_image, first.image_name)
    again = await parts.request(spec)
    assert not again.hit
    assert (await parts.queue.finished(again.id)).state == "built"


async def test_pages_notice_what_happens_to_an_image(
    parts: Parts, git_server: GitServer, client: docker.APIClient
) -> None:
    view = await parts.build(small(git_server, "RUN echo watched"))
    labels = {INSTANCE_LABEL: parts.engine.instance, PERSON_LABEL: "bob", SERVER_LABEL: "two"}
    made = await asyncio.to_thread(client.create_container, view.image_id, ["true"], labels=labels)
    await until(lambda: parts.inventory.images()[0].users == ("bob/two",))
    await asyncio.to_thread(client.remove_container, made["Id"])
    await until(lambda: parts.inventory.images()[0].users == ())
    await asyncio.to_thread(client.remove_image, view.image_name)
    await until(lambda: parts.inventory.images() == [])


async def test_an_image_of_an_older_recipe_is_marked_so_and_still_a_hit(
    tmp_path: Path, sections: dict[str, object], git_server: GitServer
) -> None:
    spec = small(git_server, "RUN echo old")
    async with opened(settings_for(tmp_path / "state", sections)) as parts:
        view = await parts.build(spec)
    changed = settings_for(tmp_path / "state", {**sections, "build": {"appendix": "ENV NEWER=1"}})
    async with visited(changed) as parts:
        [image] = parts.inventory.images()
        assert image.older_recipe
        assert (await parts.request(spec)).image_id == view.image_id
        rebuilt = await parts.build(spec, rebuild=True)
        assert rebuilt.image_name.split("-")[:-1] == view.image_name.split("-")[:-1]
        assert rebuilt.image_name != view.image_name
        assert (await parts.request(spec)).image_id == rebuilt.image_id


async def test_a_label_of_ours_in_a_dockerfile_fails_the_build(parts: Parts, git_server: GitServer) -> None:
    spec = small(git_server, "LABEL org.littlest-binder.pinned=yes org.littlest-binder.commit=0")
    view = await parts.build(spec)
    assert view.error
    assert view.error.code == "label-reserved"
    assert "org.littlest-binder.pinned" in view.error.message
    assert parts.inventory.images() == []


async def test_an_image_without_jupyter_is_not_launchable(parts: Parts, git_server: GitServer) -> None:
    spec = small(git_server, "RUN rm $(command -v jupyterhub-singleuser)")
    view = await parts.build(spec)
    assert view.error
    assert view.error.code == "image-not-launchable"
    assert "jupyterhub-singleuser" in view.error.message
    last = (await parts.log(view.id))[-1]
    assert last.error == view.error
    assert parts.inventory.images() == []


async def test_a_step_that_fails_is_told_with_its_lines(parts: Parts, git_server: GitServer) -> None:
    spec = small(git_server, "RUN echo before && no-such-program --flag")
    view = await parts.build(spec)
    assert view.error
    assert view.error.code.startswith("build-")
    assert any("no-such-program" in line.text for line in await parts.log(view.id))


async def test_a_cancel_leaves_nothing_running(parts: Parts, git_server: GitServer) -> None:
    nap = f"300.{secrets.randbelow(10**9)}"
    spec = small(git_server, f"RUN echo going-to-sleep && sleep {nap}")
    view = await parts.request(spec)
    await parts.said(view.id, "going-to-sleep")
    await until(lambda: processes_with(f"sleep {nap}"))
    row = await parts.store.build(view.id)
    assert row
    assert members(row.worker_pid)
    cancelled = await parts.queue.cancel(view.id, ANN)
    assert cancelled.state == "cancelled"
    assert members(row.worker_pid) == []
    await until(lambda: not processes_with(f"sleep {nap}"))
    await nothing_is_left(parts)


async def test_a_stop_of_the_service_ends_the_worker_and_the_next_one_builds(
    tmp_path: Path, sections: dict[str, object], git_server: GitServer
) -> None:
    spec = small(git_server, "RUN echo slow-step && sleep 5")
    settings = settings_for(tmp_path / "state", sections)
    async with opened(settings) as first:
        view = await first.request(spec)
        await first.said(view.id, "slow-step")
    assert marked_processes(settings.state_dir) == []
    async with visited(settings) as second:
        assert (await second.queue.finished(view.id)).state == "built"
        await nothing_is_left(second)


@pytest.mark.parametrize("moment", ["Fetching", "slow-step", "Starting the image once"])
async def test_a_service_killed_during_a_build_leaves_one_image_and_a_whole_log(
    tmp_path: Path, sections: dict[str, object], git_server: GitServer, moment: str
) -> None:
    spec = small(git_server, "RUN echo slow-step && sleep 5")
    settings = settings_for(tmp_path / "state", sections)
    script = str(Path(installation_parts.__file__))
    service = await asyncio.create_subprocess_exec(
        *(sys.executable, script, str(settings.state_dir), json.dumps(sections), spec), stdout=PIPE
    )
    assert service.stdout
    seen = []
    async for raw in service.stdout:
        seen.append(json.loads(raw))
        if moment in seen[-1]["text"] and "echo" not in seen[-1]["text"]:
            break
    service.send_signal(signal.SIGKILL)
    await service.wait()
    await until(lambda: not marked_processes(settings.state_dir))  # the life-line
    async with visited(settings) as parts:
        [view] = await parts.queue.list()
        assert view.id == seen[0]["build"]
        ended = await parts.queue.finished(view.id)
        assert ended.error is None
        lines = await parts.log(view.id)
        assert [line.n for line in lines] == list(range(1, len(lines) + 1))
        assert [line.text for line in lines[: len(seen)]] == [line["text"] for line in seen]
        assert [line.text for line in lines].count("The service was restarted; the build starts again.") == 1
        assert [line.phase for line in lines].count("built") == 1
        assert [image.id for image in parts.inventory.images()] == [ended.image_id]
        assert len(await parts.store.images()) == 1
        await nothing_is_left(parts)


async def test_a_name_that_a_strangers_image_has_stays_theirs(
    parts: Parts,
    git_server: GitServer,
    client: docker.APIClient,
    small_image: Callable[..., str],
) -> None:
    spec = small(git_server, "RUN echo mine")
    base = await ensure_base(parts.settings, lambda text: None)
    pinned = await parts.resolver.resolve(installation_parts.parse_link(spec))
    identity = ImageIdentity(pinned.url, pinned.commit, "", "linux/amd64")
    names = image_names(identity, recipe_digest(parts.settings, base), instance_id(parts.settings))
    plain, own = next(names), next(names)
    theirs = small_image()
    repository, tag = plain.split(":")
    await asyncio.to_thread(client.tag, theirs, repository, tag)
    view = await parts.build(spec)
    assert view.image_name == own
    stranger = await parts.engine.image(plain)
    assert stranger
    assert stranger.id == theirs


async def test_a_disk_that_fills_up_ends_the_build(
    parts: Parts, git_server: GitServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    nap = f"300.{secrets.randbelow(10**9)}"
    view = await parts.request(small(git_server, f"RUN echo filling && sleep {nap}"))
    await parts.said(view.id, "filling")

    async def nearly_full() -> int:
        return 1024

    with monkeypatch.context() as patch:
        patch.setattr(parts.engine, "free_bytes", nearly_full)
        ended = await parts.queue.finished(view.id)
    assert ended.error
    assert ended.error.code == "disk-low"
    await until(lambda: not processes_with(f"sleep {nap}"))


async def test_too_long_is_too_long(
    tmp_path: Path, sections: dict[str, object], git_server: GitServer
) -> None:
    nap = f"300.{secrets.randbelow(10**9)}"
    settings = settings_for(tmp_path / "state", {**sections, "build": {"silence_s": 4}})
    async with visited(settings) as parts:
        ended = await parts.build(small(git_server, f"RUN sleep {nap}"))
        assert ended.error
        assert ended.error.code == "build-timed-out"
        await nothing_is_left(parts)
    await until(lambda: not processes_with(f"sleep {nap}"))


async def test_docker_that_goes_away_during_a_build_is_the_explanation(
    tmp_path: Path, sections: dict[str, object], git_server: GitServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    socket = tmp_path / "docker.sock"
    nap = f"300.{secrets.randbelow(10**9)}"
    async with Relay(socket) as relay:
        monkeypatch.setenv("DOCKER_HOST", f"unix://{socket}")
        settings = settings_for(tmp_path / "state", sections)
        async with opened(settings) as parts:
            view = await parts.request(small(git_server, f"RUN echo working && sleep {nap}"))
            await parts.said(view.id, "working")
            await relay.cut()
            ended = await parts.queue.finished(view.id)
            assert ended.error
            assert ended.error.code == "engine-unavailable"
            assert len(await parts.store.unsettled_builds()) == 1
        monkeypatch.delenv("DOCKER_HOST")
        async with visited(settings) as parts:
            await nothing_is_left(parts)
    await until(lambda: not processes_with(f"sleep {nap}"))


class Relay:
    """Stands between us and Docker, and can be cut like a Docker that stops."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.open: set[asyncio.StreamWriter] = set()

    async def __aenter__(self) -> Relay:
        self.server = await asyncio.start_unix_server(self._serve, self.path)
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.cut()

    async def cut(self) -> None:
        self.server.close()
        self.path.unlink(missing_ok=True)
        for writer in list(self.open):
            writer.transport.abort()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        from_docker, to_docker = await asyncio.open_unix_connection("/var/run/docker.sock")
        self.open |= {writer, to_docker}
        try:
            await asyncio.gather(self._copy(reader, to_docker), self._copy(from_docker, writer))
        except ConnectionError:
            pass
        finally:
            for each in (writer, to_docker):
                self.open.discard(each)
                each.close()

    @staticmethod
    async def _copy(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while piece := await reader.read(65536):
            writer.write(piece)
            await writer.drain()
        if writer.can_write_eof():
            writer.write_eof()


async def test_an_image_in_use_is_not_deleted_and_one_that_is_not_goes(
    parts: Parts, git_server: GitServer, client: docker.APIClient
) -> None:
    view = await parts.build(small(git_server, "RUN echo used"))
    plan = await parts.sweep.plan([view.image_id], "evict", ROOT)
    made = await asyncio.to_thread(client.create_container, view.image_id, ["true"])
    try:
        kept = await parts.sweep.carry_out(plan, ROOT)
        assert [(each.outcome, "container" in each.text) for each in kept.results] == [("kept", True)]
        assert [item.rule for item in (await parts.plan(view.image_id)).keep] == ["in-use"]
    finally:
        await asyncio.to_thread(client.remove_container, made["Id"])
    deleted = await parts.delete(view.image_id)
    assert [(each.name, each.outcome) for each in deleted.results] == [(view.image_name, "evicted")]
    assert await parts.engine.image(view.image_id) is None
    assert parts.inventory.images() == []
    assert (await parts.queue.get(view.id)).state == "built"
    assert (await parts.log(view.id))[-1].phase == "built"


async def test_two_people_with_their_own_credentials_have_two_images(
    parts: Parts, git_server: GitServer
) -> None:
    spec = parse_link(small(git_server, "RUN true", "secret"))
    git_server.private["secret"] = ("robot", "pass-of-all")
    logins = {
        person.name: Login(person.name, f"http://{git_server.host}", "robot", "pass-of-all")
        for person in (ANN, BOB)
    }
    made = []
    for person in (ANN, BOB):
        pinned = await parts.resolver.resolve(spec, login=logins[person.name])
        view = await parts.queue.finished((await parts.queue.request(person, pinned)).id)
        assert view.error is None
        assert view.visibility == "private"
        made.append(view.image_id)
    assert len(set(made)) == 2
    for person, image in zip((ANN, BOB), made, strict=True):
        facts = await parts.engine.image(image)
        assert facts
        assert verify(facts.labels, secret(parts.settings))
        assert person.name not in str(facts.labels)
        guessed = await parts.resolver.resolve(spec.with_ref(git_server.head("secret")))
        assert (await parts.queue.request(person, guessed)).image_id == image
    assert await parts.queue.state_of(ROOT, guessed) is None
    assert len(await parts.log(view.id)) > 3
