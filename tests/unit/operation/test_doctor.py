"""What the checks of the doctor say of values and of small broken installations, without Docker or a hub."""

from __future__ import annotations

import asyncio
import grp
import json
import os
import socket
import sqlite3
import ssl
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import replace
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner
from desktop import free_port

from tljh_plugin import handover
from tljh_plugin.build.machine import IndexSettings, Machine
from tljh_plugin.cli import doctor as command_module
from tljh_plugin.cli import group
from tljh_plugin.engine import Engine, EngineInfo
from tljh_plugin.errors import EngineUnavailable, InvalidRequest, SettingsError
from tljh_plugin.installation import LAST_BACKUP, ensure_state, instance_id
from tljh_plugin.operation.doctor import (
    CannotCheck,
    Check,
    Repair,
    Site,
    Verdict,
    all_checks,
    check,
    examine,
    named,
    open_site,
    put_right,
)
from tljh_plugin.operation.doctor.checks import disk, installation, people, reach, state, web
from tljh_plugin.operation.doctor.checks import docker as docker_checks
from tljh_plugin.projects.clock import Note, read_clocks
from tljh_plugin.settings import from_mapping
from tljh_plugin.store import Store
from tljh_plugin.wire import DoctorView

INFO = EngineInfo(
    version="27.1.2",
    api_version="1.46",
    storage_driver="overlay2",
    root_dir="/",
    architecture="x86_64",
    system="Debian GNU/Linux 12",
    security=("apparmor", "seccomp"),
    cgroup_version="2",
    limits={"memory": True, "swap": True, "pids": True, "cpu": True},
)


def site_of(folder: Path, section: dict[str, Any] | None = None, platform: Any = "jupyterhub") -> Site:
    settings = from_mapping(section or {}, platform=platform, state_dir=folder, owner="root")
    ensure_state(settings)
    return Site(
        settings, Engine(instance_id(settings), base_url="unix:///nonexistent"), instance_id(settings)
    )


@pytest.fixture
def site(tmp_path: Path) -> Site:
    return site_of(tmp_path / "state")


def with_docker(site: Site, info: EngineInfo = INFO) -> Site:
    """As if Docker had said that."""
    said: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
    said.set_result(info)
    site._asked["docker"] = said
    return site


async def ask(site: Site, identifier: str) -> list[Verdict]:
    report = await examine(site, named([identifier]), limit_s=30)
    return [each.verdict for each in report.findings]


async def one(site: Site, identifier: str) -> Verdict:
    [found] = await ask(site, identifier)
    return found


# -- carrying out -----------------------------------------------------------------------------------------


def made(look: Any, identifier: str = "made") -> Check:
    return Check(identifier, "Docker", "Made for a test", look)


async def test_nothing_raises_and_a_check_that_hangs_holds_no_other_up(site: Site) -> None:
    def raises(_: Site) -> Verdict:
        raise ZeroDivisionError("oh")

    def cannot(_: Site) -> Verdict:
        raise CannotCheck("There is nothing here.")

    def refused(_: Site) -> Verdict:
        raise PermissionError(13, "no", "/root/x")

    async def hangs(_: Site) -> Verdict:
        await asyncio.sleep(600)
        raise AssertionError

    def hangs_in_a_thread(_: Site) -> Verdict:
        time.sleep(5)
        raise AssertionError

    async def gone(_: Site) -> Verdict:
        raise EngineUnavailable("Docker is gone.", "Start it.")

    def fine(_: Site) -> list[Verdict]:
        return [Verdict("ok", about="a"), Verdict("ok", about="b")]

    looks = [raises, cannot, refused, hangs, hangs_in_a_thread, gone, fine]
    report = await examine(site, [made(each, each.__name__) for each in looks], limit_s=0.5)
    said = {each.id: each.verdict for each in report.findings}
    assert {name: each.status for name, each in said.items()} == {
        **{each.__name__: "not-checked" for each in looks},
        "fine": "ok",
    }
    assert "ZeroDivisionError: oh" in said["raises"].meaning
    assert said["cannot"].meaning == "There is nothing here."
    assert "sudo" in said["refused"].fix
    assert "longer than 0.5 s" in said["hangs"].meaning
    assert said["gone"].meaning == "Docker is gone."
    assert report.seconds < 5  # the thread alone would take as long


async def test_what_was_put_right_is_looked_at_again(site: Site) -> None:
    broken = {"a": True, "b": True}

    def look(name: str) -> Any:
        async def mend() -> str:
            if name == "b":
                raise OSError("the disk refused")
            broken[name] = False
            return f"mended {name}"

        return lambda _: Verdict("problem", repair=Repair("mend", mend)) if broken[name] else Verdict("ok")

    report = await put_right(site, [made(look("a"), "a"), made(look("b"), "b")])
    assert {each.id: each.verdict.status for each in report.findings} == {"a": "ok", "b": "problem"}
    assert [(each.id, each.done, each.error) for each in report.repairs] == [
        ("a", "mended a", ""),
        ("b", "", "the disk refused"),
    ]


def test_checks_are_found_by_id_and_by_group_and_no_other_is_taken() -> None:
    assert [each.id for each in named(["store"])] == ["store"]
    assert {each.group for each in named(["left-over"])} == {"Left over"}
    assert named([]) == all_checks()
    with pytest.raises(InvalidRequest, match="no check `stor`") as caught:
        named(["stor"])
    assert "store" in caught.value.next_step


def test_every_check_says_what_it_looks_at_and_no_id_is_given_twice() -> None:
    ids = [each.id for each in all_checks()]
    assert len(ids) == len(set(ids)) >= 30
    assert all(each.about.endswith(".") and each.title for each in all_checks())
    assert all(each.islower() and " " not in each for each in ids)
    with pytest.raises(ValueError, match="two checks `store`"):
        check("store", "State", "Another")(lambda _: Verdict("ok"))


async def test_problems_come_first(site: Site) -> None:
    statuses = ["ok", "note", "problem", "not-checked", "warning"]
    checks = [made(lambda _, s=each: Verdict(s), each) for each in statuses]
    view = (await examine(site, checks)).view()
    assert [each.status for each in view.findings] == ["problem", "warning", "not-checked", "note", "ok"]
    assert set(view.counts.values()) == {1}


# -- Docker, as it may say of itself ----------------------------------------------------------------------


@pytest.mark.parametrize(
    ("identifier", "change", "status", "words"),
    [
        ("docker", {}, "ok", ""),
        ("docker", {"version": "19.03.1"}, "problem", "older than 20.10"),
        ("docker", {"version": "20.10.24+dfsg1"}, "ok", ""),
        ("docker-kind", {}, "ok", ""),
        ("docker-kind", {"system": "Docker Desktop"}, "problem", "Docker Desktop"),
        ("docker-kind", {"security": ("seccomp", "rootless")}, "problem", "rootless"),
        ("docker-kind", {"root_dir": "/nowhere/docker"}, "problem", "not on this machine"),
        ("docker-storage", {}, "ok", ""),
        ("docker-storage", {"storage_driver": "overlayfs", "containerd_store": True}, "note", "containerd"),
        ("docker-storage", {"storage_driver": "vfs"}, "warning", "copies an image whole"),
        ("docker-storage", {"storage_driver": "fuse-overlayfs"}, "warning", "slow"),
        ("cgroups", {}, "ok", ""),
        ("cgroups", {"limits": {**INFO.limits, "memory": False}}, "problem", "limit memory"),
        ("cgroups", {"limits": {**INFO.limits, "pids": False}}, "problem", "limit pids"),
    ],
)
async def test_what_docker_says_of_itself_is_judged(
    site: Site, identifier: str, change: dict[str, Any], status: str, words: str
) -> None:
    found = await one(with_docker(site, replace(INFO, **change)), identifier)
    assert (found.status, words in found.meaning) == (status, True), found
    assert bool(found.fix) == (status in ("problem", "warning"))


@pytest.mark.parametrize(
    ("swap", "status"), [("Filename\n/dev/sda2 partition\n", "warning"), ("F\n", "note")]
)
async def test_swap_that_is_not_counted_matters_where_there_is_some(
    site: Site, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, swap: str, status: str
) -> None:
    (tmp_path / "swaps").write_text(swap)
    monkeypatch.setattr(docker_checks, "_SWAPS", tmp_path / "swaps")
    info = replace(INFO, limits={**INFO.limits, "swap": False})
    assert (await one(with_docker(site, info), "cgroups")).status == status


async def test_without_docker_one_check_complains_and_the_others_say_why_not(site: Site) -> None:
    report = await examine(site, all_checks(), limit_s=30)
    docker = {each.id: each.verdict for each in report.findings if each.group == "Docker"}
    assert docker.pop("docker").status == "problem"
    docker.pop("buildx")  # the command can be there without the engine
    assert {each.status for each in docker.values()} == {"not-checked"}


async def test_a_buildx_that_is_missing_is_named(
    site: Site, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    program = tmp_path / "docker"
    program.write_text("#!/bin/sh\necho \"docker: 'buildx' is not a docker command.\" >&2\nexit 1\n")
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")
    found = await one(site, "buildx")
    assert found.status == "problem"
    assert "docker-buildx" in found.fix
    program.write_text("#!/bin/sh\necho 'github.com/docker/buildx v0.13.1 abc'\n")
    assert (await one(site, "buildx")).seen == {"version": "0.13.1"}


# -- settings and versions --------------------------------------------------------------------------------


def desktop(home: Path, monkeypatch: pytest.MonkeyPatch, text: str = "") -> Path:
    monkeypatch.setenv("XDG_DATA_HOME", str(home))
    monkeypatch.delenv(handover.STATE_VARIABLE, raising=False)
    folder = home / "littlest-binder"
    folder.mkdir(parents=True, exist_ok=True)
    if text:
        (folder / "config.yaml").write_text(text)
    return folder


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("binder:\n  servers:\n    memroy_bytes: 1GiB\n", "memroy_bytes"),
        ("binder:\n  servers:\n    cpus: -1\n", "binder.servers.cpus"),
        ("binder: [\n", "not valid YAML"),
    ],
)
async def test_a_mistake_in_the_settings_is_named_and_the_other_checks_go_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, text: str, words: str
) -> None:
    desktop(tmp_path, monkeypatch, text)
    async with open_site() as site:
        [found] = await ask(site, "settings")
        assert (found.status, words in found.meaning) == ("problem", True), found
        assert (await one(site, "disk")).status in ("ok", "warning", "problem")


async def test_settings_that_changed_since_the_hub_was_started_are_a_note(site: Site) -> None:
    known = handover.Handover(platform="jupyterhub", state_dir=site.state, section={})
    site.handover = known
    assert (await one(site, "settings")).status == "ok"
    site.handover = known.model_copy(update={"section": {"servers": {"cpus": 7.0}}})
    found = await one(site, "settings")
    assert (found.status, "changed since" in found.meaning) == ("note", True)


async def test_versions_that_do_not_go_together_are_named(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert (await one(site, "packages")).status == "ok"
    monkeypatch.setattr(
        installation.metadata,
        "requires",
        lambda _: ["jupyterhub>=99", "no-such-package>=1", 'absent; python_version < "3"', "x; extra == 't'"],
    )
    found = await one(site, "packages")
    assert found.status == "problem"
    assert "jupyterhub is " in found.meaning
    assert "no-such-package is missing" in found.meaning
    assert "absent" not in found.meaning


@pytest.mark.parametrize(
    ("hub", "status"), [("5.5.4", "ok"), ("4.1.0", "warning"), ("6.1.1", "ok"), ("7.0", "warning")]
)
async def test_images_for_another_major_of_jupyterhub_are_named(
    site: Site, monkeypatch: pytest.MonkeyPatch, hub: str, status: str
) -> None:
    monkeypatch.setattr(installation, "versions_in_images", lambda *_: {"littlest-binder/a:1": "5.5.4"})
    monkeypatch.setattr(installation.metadata, "version", lambda _: hub)
    found = await one(site, "single-user")
    assert (found.status, "littlest-binder/a:1" in found.fix) == (status, status == "warning")


# -- disks ------------------------------------------------------------------------------------------------


@contextmanager
def small_disk(place: Path, *options: str) -> Iterator[Path]:
    """A file system of its own, which needs root and a loop device."""
    place.mkdir()
    image = place.with_suffix(".ext4")
    with image.open("wb") as file:
        file.truncate(128 * 1024**2)
    mkfs = ["mkfs.ext4", "-q", "-F", "-m", "0", *options, str(image)]
    if subprocess.run(mkfs, check=False).returncode:
        pytest.skip("no mkfs.ext4 here")
    if subprocess.run(["mount", "-o", "loop", str(image), str(place)], capture_output=True).returncode:
        pytest.skip("no loop device here")
    try:
        yield place
    finally:
        subprocess.run(["umount", "--lazy", str(place)], check=True)
        image.unlink()


async def test_a_full_disk_is_named(tmp_path: Path) -> None:
    with small_disk(tmp_path / "disk") as place:
        site = site_of(place / "state")
        assert {each.status for each in await ask(site, "disk") if each.about == str(place)} == {"ok"}
        fill(place)
        [found] = [each for each in await ask(site, "disk") if each.about == str(place)]
        assert (found.status, "is full" in found.meaning) == ("problem", True), found
        assert {each.status for each in await ask(site, "inodes") if each.about == str(place)} == {"ok"}


def fill(place: Path) -> None:
    figures = os.statvfs(place)
    with (place / "filler").open("wb") as file:
        os.posix_fallocate(file.fileno(), 0, figures.f_bavail * figures.f_frsize - 1024**2)


async def test_a_disk_without_inodes_is_named(tmp_path: Path) -> None:
    with small_disk(tmp_path / "disk", "-N", "200") as place:
        site = site_of(place / "state")
        for number in range(os.statvfs(place).f_favail - 1):
            (place / f"f{number}").touch()
        [found] = [each for each in await ask(site, "inodes") if each.about == str(place)]
        assert (found.status, "more files" in found.meaning) == ("problem", True), found
        assert {each.status for each in await ask(site, "disk") if each.about == str(place)} == {"ok"}


@pytest.mark.parametrize(
    ("free", "percent", "holds", "status"),
    [
        (100 * 1024**3, 50.0, ("docker", "state"), "ok"),
        (1 * 1024**3, 50.0, ("docker",), "problem"),
        (1 * 1024**3, 50.0, ("projects",), "ok"),
        (10 * 1024**2, 50.0, ("projects",), "problem"),
        (100 * 1024**3, 96.0, ("docker",), "warning"),
    ],
)
def test_room_is_judged_by_what_is_on_the_disk(
    site: Site, free: int, percent: float, holds: Any, status: str
) -> None:
    assert disk._room(site, "/x", holds, free, percent).status == status


# -- the state --------------------------------------------------------------------------------------------


async def a_store(site: Site) -> Path:
    store = await Store.open(site.settings.store_path)
    await store.close()
    return site.settings.store_path


async def test_a_store_that_is_whole_damaged_newer_or_of_somebody_else_is_told_apart(site: Site) -> None:
    assert (await one(site, "store")).status == "note"
    path = await a_store(site)
    whole = path.read_bytes()
    assert (await one(site, "store")).status == "ok"
    path.write_bytes(whole[:4096] + os.urandom(len(whole) - 4096))
    found = await one(site, "store")
    assert (found.status, "damaged" in found.meaning) == ("problem", True)
    path.write_bytes(whole)
    with closing(sqlite3.connect(path)) as connection:
        columns = "migration_set, name, applied_at"
        connection.execute(
            f"INSERT INTO _sqlite_migrations ({columns}) SELECT migration_set, 'm9999_later', applied_at"
            " FROM _sqlite_migrations LIMIT 1"
        )
        connection.commit()
    found = await one(site, "store")
    assert (found.status, "m9999_later" in found.meaning) == ("problem", True), found


async def test_an_older_store_is_a_note(site: Site) -> None:
    path = await a_store(site)
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("DELETE FROM _sqlite_migrations WHERE name = 'm0014_decided'")
        connection.commit()
    found = await one(site, "store")
    assert (found.status, "m0014_decided" in found.meaning) == ("note", True), found


async def test_a_store_that_is_open_is_looked_at_without_being_in_its_way(site: Site) -> None:
    store = await Store.open(site.settings.store_path)
    try:
        assert (await one(site, "store")).status == "ok"
        await store.audit("ada", "image.pin", "x", "done")
    finally:
        await store.close()


async def test_rights_are_narrowed_without_following_links(site: Site, tmp_path: Path) -> None:
    elsewhere = tmp_path / "elsewhere"
    elsewhere.touch(mode=0o666)
    elsewhere.chmod(0o666)
    (site.state / "grants.json").symlink_to(elsewhere)
    secret = site.state / "secret"
    secret.chmod(0o644)
    report = await put_right(site, named(["permissions"]))
    assert [each.about for each in report.repairs] == [str(secret)]
    assert (secret.stat().st_mode & 0o777, elsewhere.stat().st_mode & 0o777) == (0o600, 0o666)


@pytest.mark.skipif(os.geteuid() != 0, reason="only root gives files away")
async def test_the_group_of_one_person_alone_may_write_and_another_may_not(site: Site) -> None:
    private = [state._is_private(0, 0), state._is_private(0, grp.getgrnam("users").gr_gid)]
    config = site.state / "config.yaml"
    config.touch()
    config.chmod(0o664)
    assert ((await ask(site, "permissions"))[0].status == "ok") == private[0]
    os.chown(config, 0, grp.getgrnam("users").gr_gid)
    assert (private[1], (await ask(site, "permissions"))[0].status) == (False, "problem")


async def test_a_file_that_was_exchanged_meanwhile_is_left_alone(site: Site) -> None:
    secret = site.state / "secret"
    secret.chmod(0o644)
    [found] = await ask(site, "permissions")
    assert found.repair is not None
    secret.rename(site.state / "old")
    secret.write_text("another")
    secret.chmod(0o644)
    with pytest.raises(OSError, match="another file"):
        await found.repair.do()
    assert secret.stat().st_mode & 0o777 == 0o644


@pytest.mark.skipif(os.geteuid() != 0, reason="only root gives files away")
async def test_a_secret_of_somebody_else_is_named_and_not_taken(site: Site) -> None:
    secret = site.state / "secret"
    os.chown(secret, 12345, 12345)
    [found] = await ask(site, "permissions")
    assert (found.status, found.repair) == ("problem", None)
    assert "belongs to user 12345" in found.meaning


async def test_a_socket_without_a_service_is_removed_and_one_with_it_is_not(site: Site) -> None:
    place = site.settings.service_socket
    listener = socket.socket(socket.AF_UNIX)
    listener.bind(str(place))
    listener.listen()
    assert (await one(site, "stale-files")).status == "ok"
    listener.close()
    assert (await one(site, "stale-files")).status == "warning"
    # A service that just starts has the store, and not the socket yet.
    store = await Store.open(site.settings.store_path)
    assert (await one(site, "stale-files")).status == "ok"
    await store.close()
    report = await put_right(site, named(["stale-files"]))
    assert (report.findings[0].verdict.status, place.exists()) == ("ok", False)


async def test_drafts_go_when_they_are_old(site: Site) -> None:
    draft = site.settings.run_dir / ".service.json.0123abcd"
    draft.touch()
    assert (await one(site, "stale-files")).status == "ok"
    os.utime(draft, (1, 1))
    assert (await one(site, "stale-files")).about == str(draft)


@pytest.mark.parametrize(("days", "status"), [(None, "warning"), (1, "ok"), (29, "ok"), (31, "warning")])
async def test_backups_are_looked_for_by_their_names(site: Site, days: int | None, status: str) -> None:
    if days is not None:
        folder = site.state / "backups"
        folder.mkdir(mode=0o700)
        moment = datetime.now(timezone.utc) - timedelta(days=days)
        (folder / f"littlest-binder-{moment:%Y-%m-%dT%H-%M-%SZ}.tar.gz").touch()
        (folder / "something-else.tar").touch()
    assert (await one(site, "backups")).status == status


@pytest.mark.parametrize(("days", "status"), [(1, "ok"), (31, "warning")])
async def test_a_backup_that_lies_elsewhere_counts_as_one(site: Site, days: int, status: str) -> None:
    mark = site.state / LAST_BACKUP
    mark.touch()
    os.utime(mark, (moment := time.time() - days * 86400, moment))
    assert (await one(site, "backups")).status == status


# -- outside ----------------------------------------------------------------------------------------------


async def answering(status: str, date: datetime | None = None) -> tuple[asyncio.Server, str]:
    """A server of the web on loopback that always says the same."""

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        line = f"Date: {date:%a, %d %b %Y %H:%M:%S GMT}\r\n" if date else ""
        writer.write(f"HTTP/1.1 {status}\r\n{line}Content-Length: 0\r\nConnection: close\r\n\r\n".encode())
        writer.close()

    server = await asyncio.start_server(answer, "127.0.0.1", 0)
    return server, f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"


@pytest.fixture
def direct(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("http_proxy", "https_proxy", "all_proxy"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.upper(), raising=False)


@pytest.mark.usefixtures("direct")
@pytest.mark.parametrize(
    ("said", "status"),
    [("200 OK", "ok"), ("302 Found", "ok"), ("403 Forbidden", "warning"), ("502 Bad", "warning")],
)
async def test_an_index_that_answers_is_judged_and_its_password_is_not_shown(
    site: Site, said: str, status: str
) -> None:
    server, url = await answering(said)
    async with server:
        address = url.replace("http://", "http://ada:s3cr3t@") + "/simple/"
        site.machine = Machine(index=IndexSettings(url=address))
        found = await one(site, "index")
    assert found.status == status
    assert "s3cr3t" not in repr(found)


@pytest.mark.usefixtures("direct")
@pytest.mark.parametrize(("said", "status"), [("200 OK", "ok"), ("404 Not Found", "warning")])
async def test_a_debian_mirror_is_asked_for_the_release(site: Site, said: str, status: str) -> None:
    server, url = await answering(said)
    async with server:
        build = site.settings.build.model_copy(update={"mirror": f"{url}/debian"})
        site.settings = site.settings.model_copy(update={"build": build})
        assert (await one(site, "debian-mirror")).status == status


@pytest.mark.usefixtures("direct")
@pytest.mark.parametrize(
    ("said", "status"), [("200 OK", "ok"), ("401 Unauthorized", "ok"), ("500 Oh", "warning")]
)
async def test_a_registry_that_wants_a_login_answers_well(site: Site, said: str, status: str) -> None:
    server, url = await answering(said)
    async with server:
        assert (await one(with_docker(site, replace(INFO, mirrors=(url,))), "registry")).status == status


@pytest.mark.usefixtures("direct")
async def test_an_address_whose_certificate_is_not_trusted_is_a_problem(site: Site, tmp_path: Path) -> None:
    pem = written(tmp_path / "pem", authority(tmp_path).decode())
    trust = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    trust.load_cert_chain(pem, tmp_path / "key")
    server = await asyncio.start_server(lambda _, writer: writer.close(), "127.0.0.1", 0, ssl=trust)
    async with server:
        url = f"https://127.0.0.1:{server.sockets[0].getsockname()[1]}/simple/"
        site.machine = Machine(index=IndexSettings(url=url))
        found = await one(site, "index")
    assert (found.status, "update-ca-certificates" in found.fix) == ("problem", True), found


@pytest.mark.usefixtures("direct")
async def test_being_offline_is_a_note(site: Site) -> None:
    site.machine = Machine(index=IndexSettings(url=f"http://127.0.0.1:{free_port()}/simple/"))
    assert (await one(site, "index")).status == "note"
    assert (await one(site, "clock")).status == "not-checked"


@pytest.mark.usefixtures("direct")
@pytest.mark.parametrize(
    ("off_s", "status"), [(0, "ok"), (60, "warning"), (3600, "problem"), (-3600, "problem")]
)
async def test_a_clock_that_is_wrong_is_named(site: Site, off_s: int, status: str) -> None:
    server, url = await answering("200 OK", datetime.now(timezone.utc) + timedelta(seconds=off_s))
    async with server:
        site.machine = Machine(index=IndexSettings(url=f"{url}/simple/"))
        assert (await one(site, "clock")).status == status


async def test_a_clock_that_was_set_back_is_named(site: Site) -> None:
    reading = read_clocks()
    noted = Note(reading.wall + timedelta(days=3), reading.boot, reading.uptime_s)
    site.settings.clock_path.write_text(
        json.dumps({"trusted": noted.trusted.isoformat(), "boot": noted.boot, "uptime_s": noted.uptime_s})
    )
    found = await one(site, "clock")
    assert (found.status, "set back" in found.meaning) == ("warning", True), found


async def test_a_proxy_at_which_nobody_listens_is_named(site: Site) -> None:
    port = free_port()
    site.machine = Machine(proxies={"http_proxy": f"http://ada:s3cr3t@127.0.0.1:{port}"})
    found = await one(with_docker(site), "proxy")
    assert (found.status, str(port) in found.meaning) == ("problem", True)
    assert "s3cr3t" not in repr(found)
    server, url = await answering("200 OK")
    async with server:
        site.machine = Machine(proxies={"http_proxy": url, "HTTP_PROXY": url})
        assert (await one(site, "proxy")).status == "note"  # Docker has none
        both = replace(INFO, proxies={"http": url})
        assert (await one(with_docker(site, both), "proxy")).status == "ok"
    site.machine = Machine()
    assert (await one(site, "proxy")).status == "ok"


def authority(folder: Path) -> bytes:
    """A certificate authority."""
    command = ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes"]
    command += ["-keyout", str(folder / "key"), "-subj", "/CN=Test", "-days", "30"]
    try:
        return subprocess.run(command, capture_output=True, check=True).stdout
    except FileNotFoundError:
        pytest.skip("no openssl here")


async def test_authorities_that_this_machine_does_not_trust_are_named(
    site: Site, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pem = authority(tmp_path)
    site.machine = Machine(certificates=(("lab.crt", pem),))
    bundle = tmp_path / "bundle.crt"
    bundle.write_bytes(authority(tmp_path))
    monkeypatch.setattr(reach, "_BUNDLE", bundle)
    found = await one(site, "certificates")
    assert (found.status, "update-ca-certificates" in found.fix) == ("warning", True)
    bundle.write_bytes(bundle.read_bytes() + pem)
    assert (await one(site, "certificates")).status == "ok"
    site.machine = Machine(certificates=(("broken.crt", b"-----BEGIN CERTIFICATE-----\nx\n"),))
    found = await one(site, "certificates")
    assert (found.status, "broken.crt" in found.meaning) == ("warning", True)


# -- people -----------------------------------------------------------------------------------------------


@pytest.fixture
def shared() -> Iterator[Path]:
    """A folder where all folders around it are root's."""
    place = Path(f"/srv/doctor-unit-{os.getpid()}")
    try:
        place.mkdir(mode=0o755)
    except OSError:
        pytest.skip("no right to make a folder in /srv")
    yield place
    place.rmdir()


@contextmanager
def rights(folder: Path, mode: int) -> Iterator[None]:
    folder.chmod(mode)
    yield
    folder.chmod(0o755)


def with_mount(folder: Path, source: str, **more: Any) -> Site:
    return site_of(folder, {"mounts": [{"id": "data", "source": source, **more}]})


@pytest.mark.parametrize(
    ("mode", "access", "status"),
    [
        (0o755, "read-only", "ok"),
        (0o755, "read-write", "warning"),
        (0o777, "read-write", "ok"),
        (0o700, "read-only", "warning"),
    ],
)
async def test_mounts_are_judged_by_what_the_servers_user_may(
    tmp_path: Path, shared: Path, mode: int, access: str, status: str
) -> None:
    with rights(shared, mode):
        found = await one(with_mount(tmp_path / "state", str(shared), access=access), "mounts")
    assert (found.status, found.about) == (status, "data"), found


async def test_where_servers_are_peoples_accounts_no_single_user_is_asked_for(
    tmp_path: Path, shared: Path
) -> None:
    section = {"mounts": [{"id": "data", "source": str(shared)}], "servers": {"identity": "unix"}}
    with rights(shared, 0o700):
        assert (await one(site_of(tmp_path / "state", section), "mounts")).status == "ok"


@pytest.mark.parametrize("source", ["/etc/ssl", "/srv/not-there", "/proc/sys"])
async def test_mounts_that_are_refused_or_missing_are_named(tmp_path: Path, source: str) -> None:
    assert (await one(with_mount(tmp_path / "state", source), "mounts")).status == "problem"


def written(place: Path, text: str) -> Path:
    place.write_text(text)
    return place


async def test_a_mount_on_a_disk_that_is_not_mounted_is_named(
    tmp_path: Path, shared: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    disks = f"# disks\n/dev/sdb1 {shared} ext4 defaults 0 2\n/dev/sda1 / ext4 x 0 1\n"
    monkeypatch.setattr(people, "_FSTAB", written(tmp_path / "fstab", disks))
    found = await one(with_mount(tmp_path / "state", str(shared)), "mounts")
    assert (found.status, "/etc/fstab" in found.meaning) == ("problem", True)
    mounted = f"36 25 8:17 / {shared} rw - ext4 /dev/sdb1 rw\n"
    monkeypatch.setattr(people, "_MOUNTS", written(tmp_path / "mounts", mounted))
    assert (await one(with_mount(tmp_path / "state", str(shared)), "mounts")).status == "ok"


@contextmanager
def culler(proc: Path, *options: str) -> Iterator[None]:
    """A process with the arguments of JupyterHub's idle culler, the only one in `proc`: others may run."""
    program = "print('there', flush=True); import time; time.sleep(600)"
    command = [sys.executable, "-c", program, "jupyterhub_idle_culler", *options]
    with subprocess.Popen(command, stdout=subprocess.PIPE) as process:
        try:
            assert process.stdout is not None
            process.stdout.readline()
            proc.mkdir()
            (proc / str(process.pid)).symlink_to(f"/proc/{process.pid}")
            yield
        finally:
            process.kill()


@pytest.mark.skipif(os.geteuid() != 0, reason="only root sees the hub's processes")
@pytest.mark.parametrize(
    ("section", "options", "status"),
    [
        ({"idle_s": 3600}, ("--timeout=600",), "warning"),
        ({"idle_s": 3600}, ("--timeout", "7200"), "ok"),
        ({"idle_s": 3600}, (), "warning"),  # its default is ten minutes
        ({}, ("--timeout=600",), "ok"),
        ({"lifetime_s": 3600}, ("--timeout=90000", "--max-age=60"), "warning"),
    ],
)
async def test_a_culler_that_is_faster_than_our_own_times_is_named(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    section: dict[str, Any],
    options: tuple[str, ...],
    status: str,
) -> None:
    monkeypatch.setattr(people, "_PROC", tmp_path / "proc")
    site = site_of(tmp_path / "state", {"servers": section})
    with culler(tmp_path / "proc", *options):
        assert (await one(site, "culling")).status == status


# -- the web ----------------------------------------------------------------------------------------------


async def test_a_port_that_is_taken_is_named_with_who_has_it(tmp_path: Path) -> None:
    port = free_port()
    site = site_of(tmp_path / "state", {"desktop": {"port": port}}, "desktop")
    assert (await one(site, "ports")).status == "ok"
    with socket.create_server(("127.0.0.1", port)):
        found = await one(site, "ports")
    assert (found.status, found.about) == ("problem", str(port))
    assert f"process {os.getpid()}" in found.meaning


async def test_a_desktop_that_does_not_run_is_no_problem(tmp_path: Path) -> None:
    site = site_of(tmp_path / "state", {}, "desktop")
    assert [(await one(site, each)).status for each in ("hub", "service")] == ["note", "note"]


async def test_a_server_whose_hub_and_service_do_not_answer_has_two_problems(site: Site) -> None:
    address = f"http://127.0.0.1:{free_port()}/hub/api"
    site.handover = handover.Handover(
        platform="jupyterhub", state_dir=site.state, section={}, hub_api_url=address, service_token="x"
    )
    assert [(await one(site, each)).status for each in ("hub", "service")] == ["problem", "problem"]


async def test_our_own_unit_is_started_and_nothing_else(
    site: Site, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    site.handover = handover.Handover(platform="tljh", state_dir=site.state, section={})
    site.settings = site.settings.model_copy(update={"platform": "tljh"})
    assert (await one(site, "service")).repair is None  # no systemd, or no unit
    site.systemd = tmp_path
    monkeypatch.setattr(web, "_UNIT_PLACES", (str(tmp_path),))
    (tmp_path / web.UNIT).touch()
    program = tmp_path / "systemctl"
    program.write_text(f'#!/bin/sh\necho "$@" >> {tmp_path}/asked\n')
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")
    if os.geteuid() == 0:
        report = await put_right(site, named(["service"]))
        assert report.repairs[0].done == f"{web.UNIT} was started."
        assert (tmp_path / "asked").read_text() == f"start {web.UNIT}\n"


def tljh(site: Site, folder: Path, text: str) -> Site:
    (folder / "config").mkdir(parents=True, exist_ok=True)
    (folder / "config" / "config.yaml").write_text(text)
    site.settings = site.settings.model_copy(update={"platform": "tljh"})
    site.tljh = folder
    return site


async def test_tljhs_port_is_named_if_another_program_has_it_or_nobody(site: Site, tmp_path: Path) -> None:
    port = free_port()
    site = tljh(site, tmp_path / "tljh", f"http:\n  port: {port}\n")
    (site.tljh / "hub").mkdir()
    if os.geteuid() != 0:
        return
    found = await one(site, "ports")
    assert (found.status, "Nobody listens" in found.meaning) == ("problem", True)
    with socket.create_server(("127.0.0.1", port)):
        found = await one(site, "ports")
    assert (found.status, f"process {os.getpid()}" in found.meaning) == ("problem", True)


@pytest.mark.parametrize(
    ("text", "public", "status"),
    [
        ("", "", "note"),
        ("", "1.1.1.1", "warning"),
        ("https:\n  enabled: true\n", "1.1.1.1", "problem"),
        ("https:\n  enabled: true\n  letsencrypt:\n    domains: [hub.example.org]\n", "1.1.1.1", "ok"),
        ("https:\n  enabled: true\n  tls:\n    key: /nowhere/k\n    cert: /nowhere/c\n", "", "problem"),
    ],
)
async def test_https_of_tljh_is_judged_by_its_own_configuration(
    site: Site, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, text: str, public: str, status: str
) -> None:
    monkeypatch.setattr(web, "_public_address", lambda: public)
    assert (await one(tljh(site, tmp_path / "tljh", text), "https")).status == status


@pytest.mark.parametrize(("apart", "status"), [(True, "ok"), (False, "note")])
async def test_one_origin_is_a_note(site: Site, apart: bool, status: str) -> None:
    site.handover = handover.Handover(
        platform="jupyterhub", state_dir=site.state, section={}, subdomains=apart
    )
    assert (await one(site, "origins")).status == status


# -- the command ------------------------------------------------------------------------------------------


def invoke(*words: str) -> Any:
    return CliRunner().invoke(group, ["doctor", *words], standalone_mode=False)


async def test_the_command_shows_meaning_fix_and_counts(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = desktop(tmp_path, monkeypatch, "binder:\n  servers:\n    memroy_bytes: 1GiB\n")
    done = await asyncio.to_thread(invoke, "settings", "backups")
    assert done.return_value == 1
    text = " ".join(done.output.split())
    assert "✗ Settings" in text
    assert "Did you mean `memory_bytes`?" in text
    assert text.index("✗ Settings") < text.index("! Backups")
    assert "1 problem, 1 warning, in" in text
    (folder / "config.yaml").unlink()
    done = await asyncio.to_thread(invoke, "settings", "backups")
    assert done.return_value == 0
    assert "✓ Settings  settings" in done.output


async def test_programs_get_what_the_reference_says(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    desktop(tmp_path, monkeypatch)
    done = await asyncio.to_thread(invoke, "backups", "--json")
    view = DoctorView(**json.loads(done.output))
    assert [(each.id, each.status) for each in view.findings] == [("backups", "warning")]
    assert view.platform == "desktop"


async def test_all_checks_can_be_listed_without_being_made(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(command_module, "open_site", lambda **_: pytest.fail("it looked"))
    done = await asyncio.to_thread(invoke, "--list")
    assert [line.split()[0] for line in done.output.splitlines()] == [each.id for each in all_checks()]


def test_a_servers_installation_needs_root(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse() -> Path:
        raise SettingsError("/opt/tljh/state/binder is there for root alone.", "Put `sudo` before it.")

    monkeypatch.setattr(handover, "find_state_dir", refuse)
    with pytest.raises(SettingsError):
        CliRunner().invoke(group, ["doctor", "backups"], standalone_mode=False, catch_exceptions=False)
