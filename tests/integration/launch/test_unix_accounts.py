"""Servers that run as people's own accounts, on a real hub, a real Docker, and accounts of this machine."""

from __future__ import annotations

import asyncio
import io
import os
import secrets
import stat
import subprocess
import zipfile
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import docker
import pytest
from unix_hub import PREFIX, Accounts, UnixHub
from waiting import until

from tljh_plugin.errors import BinderError
from tljh_plugin.installation import instance_id
from tljh_plugin.labels import INSTANCE_LABEL
from tljh_plugin.wire import ImageView

pytestmark = [
    pytest.mark.hub,
    pytest.mark.docker,
    pytest.mark.skipif(os.geteuid() != 0, reason="makes accounts"),
]

ADA, BOB, LAB = 21001, 21002, 21500
POLICY = {"images": "listed", "image_names": ["littlest-binder-test/*"]}
UNIX = {"identity": "unix", "account": PREFIX + "{name}"}
# What builds leave in a home: also what only the image's own user may read.
IMAGE = """
FROM littlest-binder/base
ENV MARK={mark}
RUN echo hello > hello.txt && mkdir -m 700 closed && echo inside > closed/file \
 && echo mine > private && chmod 600 private && ln -s hello.txt link
"""


@pytest.fixture
def accounts(tmp_path: Path) -> Iterator[Accounts]:
    with Accounts(tmp_path / "homes") as made:
        made.group("lab", LAB)
        made.add("ada", ADA, PREFIX + "lab", "adm")
        made.add("bob", BOB)
        yield made


@pytest.fixture
def image(base_image: str, build_image: Callable[..., str]) -> str:
    return build_image(IMAGE.format(mark=secrets.token_hex(8)))


async def adopt(hub: UnixHub, name: str) -> ImageView:
    async with hub.service_client(await hub.person("boss")) as boss:
        return await boss.adopt(name)


async def launch(hub: UnixHub, person: str, server: str, image: ImageView, **options: Any) -> str:
    """How it ended: `ready`, or what it was refused with."""
    api = hub.api()
    asked = {"repository": image.spec, **options}
    await hub.person(person)
    try:
        await api.start(person, server, asked)
    except BinderError as error:
        return str(error)
    last = [event async for event in api.progress(person, server)][-1]
    return "ready" if last.get("ready") else str(last.get("message"))


async def stop(hub: UnixHub, person: str, server: str) -> None:
    async with hub.api() as api:
        await api.stop(person, server)

        async def stopped() -> bool:
            found = await api.server(person, server)
            return found is None or not (found.ready or found.pending)

        await until(stopped)


def container_of(hub: UnixHub, client: docker.APIClient, person: str, server: str) -> dict[str, Any]:
    labels = [
        f"{INSTANCE_LABEL}={instance_id(hub.settings)}",
        f"org.littlest-binder.person={person}",
        f"org.littlest-binder.server={server}",
    ]
    (row,) = client.containers(filters={"label": labels})
    found: dict[str, Any] = client.inspect_container(row["Id"])
    return found


def run(client: docker.APIClient, container: str, script: str) -> tuple[int, str]:
    """The exit code of a script in a server, and what it printed."""
    made = client.exec_create(container, ["bash", "-lc", script])["Id"]
    printed: bytes = client.exec_start(made)
    return int(client.exec_inspect(made)["ExitCode"]), printed.decode(errors="replace").strip()


def status_of(container: dict[str, Any]) -> str:
    """What the kernel says of a container's first process."""
    return Path(f"/proc/{container['State']['Pid']}/status").read_text()


def owner(path: Path) -> tuple[int, int]:
    facts = path.lstat()
    return facts.st_uid, facts.st_gid


def wheel() -> bytes:
    """A package of one module."""
    content = io.BytesIO()
    files = {
        "lbdemo.py": "ANSWER = 42\n",
        "lbdemo-1.0.dist-info/METADATA": "Metadata-Version: 2.1\nName: lbdemo\nVersion: 1.0\n",
        "lbdemo-1.0.dist-info/WHEEL": "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
    }
    record = "".join(f"{name},,\n" for name in files) + "lbdemo-1.0.dist-info/RECORD,,\n"
    with zipfile.ZipFile(content, "w") as archive:
        for name, text in {**files, "lbdemo-1.0.dist-info/RECORD": record}.items():
            archive.writestr(name, text)
    return content.getvalue()


async def remove(name: str) -> None:
    await asyncio.to_thread(
        subprocess.run, ["docker", "image", "rm", "-f", name], check=True, capture_output=True
    )


async def test_a_server_is_its_persons_own_account(
    tmp_path: Path, accounts: Accounts, image: str, client: docker.APIClient
) -> None:
    lab = tmp_path / "lab"
    (lab / "shared").mkdir(parents=True)
    (lab / "results").mkdir()
    (lab / "results" / "data.csv").write_text("1,2,3\n")
    (lab / "own").mkdir(mode=0o755)
    os.chown(lab / "results", 0, LAB)
    (lab / "results").chmod(0o750)
    (lab / "shared").chmod(0o1777)
    (accounts.homes / f"{PREFIX}ada" / "kept.txt").write_text("from before\n")
    mounts = [
        {"id": "results", "source": str(lab / "results")},
        {"id": "shared", "source": str(lab / "shared"), "access": "read-write"},
        {"id": "own", "source": str(lab / "own"), "access": "read-write", "per_person": True},
    ]
    settings = {"policy": POLICY, "servers": {**UNIX, "home_mount": "read-write"}, "mounts": mounts}
    async with UnixHub(tmp_path, settings=settings) as hub:
        adopted = await adopt(hub, image)
        asked = {"mounts": ["results", "shared", "own"], "my_files": True}
        for person in ("ada", "bob"):
            more = ["unix-home"] if person == "ada" else []
            wanted = {**asked, "mounts": [*asked["mounts"], *more]}  # type: ignore[misc]
            said = await launch(hub, person, "one", adopted, **wanted)
            assert said == "ready", f"{said}\n{hub.log}\n{hub.service_log.read_text()}"

        inside = {}
        for person, number, groups in (("ada", ADA, [str(LAB)]), ("bob", BOB, [])):
            container = container_of(hub, client, person, "one")
            assert container["Config"]["User"] == f"{number}:{number}"
            assert (container["HostConfig"]["GroupAdd"] or []) == groups
            status = status_of(container)
            assert f"Uid:\t{number}\t{number}\t{number}\t{number}" in status
            inside[person] = partial(run, client, container["Id"])
            code, said = inside[person]("id -u; id -g; id -G; whoami; echo $USER $LOGNAME $HOME")
            account = PREFIX + person
            numbers = " ".join([str(number), *groups])
            told = [str(number), str(number), numbers, account, f"{account} {account} /home/jovyan"]
            assert (code, said.splitlines()) == (0, told)
        assert "without its groups adm (4)" in hub.log

        # What the person makes belongs to them, wherever it is on this machine.
        root = hub.settings.storage_root
        for person, number in (("ada", ADA), ("bob", BOB)):
            places = "~/made ~/my-files/made ~/shared/made-by-$(id -u) ~/own/made"
            assert inside[person](f"for place in {places}; do echo x > $place || exit 1; done") == (0, "")
            (home,) = root.glob(f"{person}-*/*/home")
            made = [home, home / "made", home / "private", home / "closed" / "file", home / "link"]
            made += [*root.glob(f"{person}-*/my-files"), *root.glob(f"{person}-*/my-files/made")]
            made += [
                lab / "shared" / f"made-by-{number}",
                lab / "own" / person,
                lab / "own" / person / "made",
            ]
            assert len(made) == 10
            assert {str(path): owner(path) for path in made} == dict.fromkeys(
                map(str, made), (number, number)
            )
            assert inside[person]("cat hello.txt private closed/file") == (0, "hello\nmine\ninside")

        # The groups of the machine hold.
        assert inside["ada"]("cat ~/results/data.csv") == (0, "1,2,3")
        code, said = inside["bob"]("cat /data/results/data.csv")
        assert code != 0
        assert "Permission denied" in said

        # Their own home, for who ticked it.
        assert inside["ada"]("cat ~/unix-home/kept.txt && echo new > ~/unix-home/new")[0] == 0
        assert owner(accounts.homes / f"{PREFIX}ada" / "new") == (ADA, ADA)
        assert inside["bob"]("ls /unix-home")[0] != 0

        # Packages go into the person's own site, and are there in the next server.
        (home,) = root.glob("ada-*/*/home")
        (home / "lbdemo-1.0-py3-none-any.whl").write_bytes(wheel())
        code, said = inside["ada"]("pip install --no-index ./lbdemo-1.0-py3-none-any.whl")
        assert code == 0, said
        assert owner(*home.glob(".local/lib/python3*/site-packages/lbdemo.py")) == (ADA, ADA)
        await stop(hub, "ada", "one")
        assert await launch(hub, "ada", "one", adopted) == "ready"
        again = partial(run, client, container_of(hub, client, "ada", "one")["Id"])
        assert again("python -c 'import lbdemo; print(lbdemo.ANSWER)'") == (0, "42")
        assert again("python -s -c 'import lbdemo'")[0] != 0

        # A server that keeps nothing is the person's as well, home and all.
        kept_nothing = await launch(hub, "ada", "passing", adopted, storage="ephemeral", mounts=["shared"])
        assert kept_nothing == "ready", hub.log
        passing = partial(run, client, container_of(hub, client, "ada", "passing")["Id"])
        code, said = passing(
            "echo more >> hello.txt; echo x > closed/new; stat -c %u:%g . private closed link"
        )
        assert (code, said.split()) == (0, [f"{ADA}:{ADA}"] * 4)
        assert passing("cat private; stat -c %a private closed") == (0, "mine\n600\n700")

        said = await launch(hub, "carol", "one", adopted)
        assert f"There is no account `{PREFIX}carol`" in said
        for person, server in (("ada", "one"), ("ada", "passing"), ("bob", "one")):
            await stop(hub, person, server)
    await remove(image)


async def test_files_from_before_are_handed_over_once_and_nobody_elses(
    tmp_path: Path, accounts: Accounts, image: str, client: docker.APIClient
) -> None:
    async with UnixHub(tmp_path, settings={"policy": POLICY, "servers": {}}) as hub:
        adopted = await adopt(hub, image)
        assert await launch(hub, "ada", "one", adopted, my_files=True) == "ready", hub.log
        inside = partial(run, client, container_of(hub, client, "ada", "one")["Id"])
        script = (
            "mkdir -p a/b && echo x > a/b/file && ln a/b/file twice && echo y > my-files/mine && chmod 0 a/b"
        )
        assert inside(script) == (0, "")
        root = hub.settings.storage_root
        (home,), (mine,) = root.glob("ada-*/*/home"), root.glob("ada-*/my-files")
        # Names that nobody could make from inside.
        roots, ubuntus = tmp_path / "roots", tmp_path / "of-user-1000"
        for path, number in ((roots, 0), (ubuntus, 1000)):
            path.write_text("not ada's")
            path.chmod(0o600)
            os.chown(path, number, number)
            os.link(path, home / path.name)
        (home / "out").symlink_to(tmp_path / "homes")
        os.chown(home / "out", 1000, 1000, follow_symlinks=False)
        before = {path: owner(path) for path in (roots, ubuntus, tmp_path / "homes")}

        hub.change("servers", **UNIX)
        said = await launch(hub, "ada", "two", adopted, my_files=True)
        assert "has it open" in said, said
        assert owner(home) == (1000, 1000)
        await stop(hub, "ada", "one")
        said = await launch(hub, "ada", "two", adopted, my_files=True)
        assert said == "ready", f"{said}\n{hub.log}\n{hub.service_log.read_text()}"
        inside = partial(run, client, container_of(hub, client, "ada", "two")["Id"])
        assert inside("chmod 700 a/b && cat a/b/file twice my-files/mine private") == (0, "x\nx\ny\nmine")
        given = [home, home / "a", home / "a" / "b", home / "twice", home / "out", mine, mine / "mine"]
        assert [owner(path) for path in given] == [(ADA, ADA)] * len(given)
        assert {path: owner(path) for path in before} == before
        assert stat.S_IMODE((home / "private").stat().st_mode) == 0o600
        log = hub.service_log.read_text()
        assert "was handed over from user 1000 to 21001" in log
        assert "1 files in it belong to others, and 1 have further names elsewhere" in log
        await stop(hub, "ada", "two")

        # And the way back.
        hub.change("servers", identity="fixed")
        assert await launch(hub, "ada", "three", adopted, my_files=True) == "ready", hub.log
        assert [owner(path) for path in given] == [(1000, 1000)] * len(given)
        await stop(hub, "ada", "three")
    await remove(image)
