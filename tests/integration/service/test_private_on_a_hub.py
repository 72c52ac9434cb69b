"""A private repository from the page to a running server, then a search for its password everywhere."""

from __future__ import annotations

import asyncio
import base64
import json
import re
import secrets
import subprocess
import threading
from collections.abc import AsyncIterator, Iterator
from contextlib import aclosing, contextmanager
from pathlib import Path
from urllib.parse import quote

import httpx
import pytest
import pytest_asyncio
from git_server import GitServer
from running_hub import SERVICE_PREFIX as PREFIX
from running_hub import RunningHub, xsrf
from waiting import LONG_S, until

from tljh_plugin.client import ServiceClient
from tljh_plugin.errors import ImageNotFound, NotFound
from tljh_plugin.hub_api import HubApi
from tljh_plugin.wire import BuildRequest, Credential

pytestmark = [pytest.mark.hub, pytest.mark.docker]

USER, PASSWORD = "robot", f"Secret-{secrets.token_hex(12)}/+{secrets.token_hex(4)}"
# Of the administrator's file, which names `carol` alone.
INSTITUTE = f"Institute-{secrets.token_hex(12)}/+{secrets.token_hex(4)}"
GIVEN = Credential(username=USER, password=PASSWORD)
FORMS = tuple(
    form
    for each in (PASSWORD, INSTITUTE)
    for form in (each, quote(each, safe=""), base64.b64encode(f"{USER}:{each}".encode()).decode())
)


@pytest_asyncio.fixture
async def hub(tmp_path: Path, git_server: GitServer, base_image: str) -> AsyncIterator[RunningHub]:
    """A hub with the real service, and two private repositories that build within seconds."""
    once = secrets.token_hex(8)
    lines = f"FROM littlest-binder/base\nENV TEST_RUN={once}\nCOPY . /home/jovyan\n"
    builds = {
        "dockerfile": {"Dockerfile": lines},
        "python": {"requirements.txt": "", "run.txt": once},
        "repo2docker": {"requirements.txt": "", "postBuild": f"#!/bin/sh\necho {once} >after.txt\n"},
    }
    for name, password, build in (
        ("secret", PASSWORD, "dockerfile"),
        ("python", PASSWORD, "python"),
        ("postbuild", PASSWORD, "repo2docker"),
        ("institute", INSTITUTE, "dockerfile"),
    ):
        git_server.new(name, {**builds[build], "notes.txt": "for few"})
        git_server.private[name] = (USER, password)
    hosts = tmp_path / "hosts.yaml"
    entry = {"host": git_server.url(""), "username": USER, "password": INSTITUTE, "people": ["carol"]}
    hosts.write_text(json.dumps([entry]))
    hosts.chmod(0o600)
    policy = {key: list(value) for key, value in git_server.settings().items()}
    settings = {
        "policy": {**policy, "dockerfile": "everyone"},
        "source": {"credentials_file": str(hosts)},
    }
    async with RunningHub(tmp_path / "home", service="real", settings=settings) as running:
        await running.service_answers()
        yield running


class Watcher:
    """Looks at the arguments and environments of all processes, again and again."""

    def __init__(self) -> None:
        self.looks = 0
        self.git = 0
        self.found: set[str] = set()
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._watch)

    def __enter__(self) -> Watcher:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self._thread.join()

    def _watch(self) -> None:
        while not self._over.is_set():
            self.looks += 1
            for entry in Path("/proc").glob("[0-9]*"):
                for name in ("cmdline", "environ"):
                    try:
                        text = (entry / name).read_bytes().decode(errors="replace")
                    except OSError:
                        continue
                    self.git += name == "cmdline" and "credential.http" in text
                    if any(form in text for form in FORMS):
                        self.found.add(f"{name}: {text[:200]!r}")
            self._over.wait(0.02)


def files_with_it(root: Path) -> list[str]:
    """Files below `root` that hold it, whatever they are: databases and their journals too."""
    found = []
    for path in root.rglob("*"):
        if path.is_file() and not path.is_symlink():
            content = path.read_bytes()
            found += [str(path)] if any(form.encode() in content for form in FORMS) else []
    return found


def images_with_it(image: str) -> list[str]:
    """Which of an image's parts hold it: layers and configuration as saved, history, what Docker says."""
    found = []
    for what in ("save {}", "history --no-trunc {}", "image inspect {}"):
        command = f"docker {what.format(image)}"
        patterns = " ".join(f"-e '{form}'" for form in FORMS)
        done = subprocess.run(
            ["sh", "-c", f"{command} | grep -q -a -F {patterns}"], capture_output=True, text=True, check=False
        )
        assert done.returncode in (0, 1), done.stderr
        found += [what] if done.returncode == 0 else []
    return found


def containers_with_it() -> list[str]:
    """Containers of anybody that hold it in their configuration or have logged it."""
    found = []
    for container in docker("ps", "-aq").split():
        told = ""
        for what in ("inspect", "logs"):
            done = subprocess.run(["docker", what, container], capture_output=True, text=True, check=False)
            told += done.stdout + done.stderr
        found += [container] if any(form in told for form in FORMS) else []
    return found


@contextmanager
def planted(image: str, root: Path) -> Iterator[str]:
    """The password in every place that is searched; the name of an image that has it."""
    file, name = root / "planted.sqlite-wal", f"littlest-binder-test/{secrets.token_hex(6)}:1"
    file.write_bytes(b"\0" + PASSWORD.encode())
    container = docker("create", "--env", f"X={FORMS[2]}", image)
    shown = subprocess.Popen(["sleep", "600"], env={"X": PASSWORD}, executable="/bin/sleep")
    said = subprocess.Popen([PASSWORD, "600"], executable="/bin/sleep")
    try:
        docker("cp", str(file), f"{container}:/planted")
        docker("commit", "--message", PASSWORD, "--change", f"LABEL x={PASSWORD}", container, name)
        yield name
    finally:
        for process in (shown, said):
            process.kill()
            process.wait()
        docker("rm", "-f", container)
        docker("image", "rm", "-f", name)
        file.unlink()


def docker(*arguments: str) -> str:
    return subprocess.check_output(["docker", *arguments], text=True).strip()


async def test_the_password_is_nowhere_afterwards(
    hub: RunningHub, git_server: GitServer, tmp_path: Path
) -> None:
    link = f"{hub.service_origin}{PREFIX}v2/{git_server.spec('secret')}"
    token = await hub.person(hub.owner)
    async with aclosing(await hub.signed_in()) as client:
        with Watcher() as watcher:
            asked = await client.get(link, follow_redirects=True)
            assert (asked.status_code, 'type="password"' in asked.text) == (404, True)
            given = {"username": USER, "password": PASSWORD, "_xsrf": xsrf(asked)}
            assert (await client.post(link, data=given)).status_code == 303
            page = await client.get(link, follow_redirects=True)
            commit = re.search(r'name="commit" value="([0-9a-f]{40})"', page.text)
            assert commit
            form = {"commit": commit[1], "files": "project", "server": "few", "private": "1"}
            sent = await client.post(link, data={**form, "_xsrf": xsrf(page)})
            assert sent.status_code == 303, sent.text
            async with hub.service_client(token) as api:
                events = [event async for event in api.launch_events("few")]
                assert events[-1].type == "ready", events[-1].error
                [build] = await api.builds()
                [image] = [each for each in await api.images() if each.build_id == build.id]
                more = [await built(api, git_server, name, GIVEN) for name in ("python", "postbuild")]
            git_before = watcher.git
            theirs = await built_with_the_administrators(hub, git_server)
    try:
        assert (build.visibility, image.visibility) == ("private", "private")
        assert git_server.authorizations

        # Nothing of it is anywhere …
        assert watcher.looks > 10
        assert watcher.git > git_before > 0
        assert watcher.found == set()
        for each in (image.id, *more, theirs):
            assert await asyncio.to_thread(images_with_it, each) == []
        assert containers_with_it() == []
        assert files_with_it(tmp_path / "home") == []
        async with hub.api() as api:
            kept = await api.server(hub.owner, "few")
        assert kept
        assert not [form for form in FORMS if form in str(kept)]

        # … and it would have been found.
        with Watcher() as watcher, planted(image.id, hub.state) as name:
            await until(lambda: {each.split(":")[0] for each in watcher.found} == {"cmdline", "environ"})
            assert len(await asyncio.to_thread(images_with_it, name)) == 3
            assert len(containers_with_it()) == 1
            assert files_with_it(tmp_path / "home") == [str(hub.state / "planted.sqlite-wal")]

        await others_see_nothing(hub, git_server, commit[1], build.id, image.id)
        await a_group_uses_it(hub, image.id)
    finally:
        async with hub.api() as api:
            await api.stop(hub.owner, "few", remove=True)
        await until(lambda: not running_on(image.id))
        docker("image", "rm", "-f", image.id, *more, theirs)


async def built(
    client: ServiceClient, git_server: GitServer, name: str, credential: Credential | None = None
) -> str:
    """The private image of a repository; the administrator gave a credential if nobody does now."""
    build = await client.build(BuildRequest(spec=git_server.spec(name)), credential)
    assert [line async for line in client.events(build.id)][-1].phase == "built"
    [image] = [each for each in await client.images() if each.build_id == build.id]
    assert image.visibility == "private"
    return image.id


async def built_with_the_administrators(hub: RunningHub, git_server: GitServer) -> str:
    """The image of a build that needed the administrator's credential; nobody gave one."""
    async with hub.service_client(await hub.person("carol")) as carol:
        return await built(carol, git_server, "institute")


async def a_group_uses_it(hub: RunningHub, image: str) -> None:
    """Whoever is in the hub's group sees and starts what is shared with it, as long as they are in it."""

    async def seen_by(person: str) -> bool:
        async with hub.service_client(await hub.person(person)) as client:
            return image in [each.id for each in await client.images()]

    async with httpx.AsyncClient(headers={"Authorization": f"token {hub.token}"}, timeout=LONG_S) as http:
        group = f"http://127.0.0.1:{hub.port}/hub/api/groups/physics"
        (await http.post(group)).raise_for_status()
        (await http.post(f"{group}/users", json={"users": ["bob"]})).raise_for_status()
        assert [await seen_by(each) for each in ("bob", "carol")] == [False, False]
        async with hub.service_client(await hub.person(hub.owner)) as client:
            await client.share_image(image, "group", ["physics"])
        assert [await seen_by(each) for each in ("bob", "carol")] == [True, False]
        options = {"image": image, "storage": "ephemeral"}
        assert "image-not-found" in await told_of_start(hub.api(await hub.person("carol")), options, "carol")
        assert "'ready': True" in await told_of_start(hub.api(await hub.person("bob")), options)
        async with hub.api() as api:
            await api.stop("bob", "stolen", remove=True)
        (await http.request("DELETE", f"{group}/users", json={"users": ["bob"]})).raise_for_status()
        assert not await seen_by("bob")
        assert "image-not-found" in await told_of_start(hub.api(await hub.person("bob")), options)


async def others_see_nothing(
    hub: RunningHub, git_server: GitServer, commit: str, build: str, image: str
) -> None:
    async with hub.service_client(await hub.person("bob")) as bob:
        spec = git_server.spec("secret", commit)
        guessed = await bob.resolve(spec)
        assert (guessed.image, guessed.image_id, guessed.build_id) == ("missing", "", "")
        assert image not in [each.id for each in await bob.images()]
        for call in (bob.get_build(build), bob.log(build)):
            with pytest.raises(NotFound):
                await call
        with pytest.raises(ImageNotFound):
            await bob.image(image)
        # JupyterHub's own API is a door, too.
        options = {"image": image, "storage": "ephemeral"}
        assert "image-not-found" in await told_of_start(hub.api(await hub.person("bob")), options)
        async with hub.api() as api:
            stolen = await api.server("bob", "stolen")
        assert stolen is None or not stolen.active


async def told_of_start(api: HubApi, options: dict[str, str], person: str = "bob") -> str:
    """What somebody hears of a start, of one that is refused at once or, on a busy machine, afterwards."""
    try:
        async with api:
            await api.start(person, "stolen", options)
            return str([event async for event in api.progress(person, "stolen")])
    except ImageNotFound as error:
        return error.code


def running_on(image: str) -> str:
    return docker("ps", "-aq", "--filter", f"ancestor={image}")
