"""The doctor on an installation that runs: each thing that is broken is named, and nothing else is."""

from __future__ import annotations

import asyncio
import json
import os
import secrets
import sqlite3
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import closing, contextmanager
from dataclasses import replace
from pathlib import Path

import pytest
import pytest_asyncio
from git_server import GitServer
from machine import Machine
from waiting import LONG_S, until

from tljh_plugin.build.machine import IndexSettings
from tljh_plugin.engine import buildx
from tljh_plugin.engine.firewall_rules import prefix
from tljh_plugin.engine.network import bridge_name, network_name
from tljh_plugin.installation import instance_id
from tljh_plugin.labels import INSTANCE_LABEL, KIND_LABEL
from tljh_plugin.operation.doctor import Report, all_checks, examine, named, open_site, put_right
from tljh_plugin.operation.doctor.checks import strays
from tljh_plugin.wire import DoctorView, FindingStatus

pytestmark = [pytest.mark.docker, pytest.mark.hub, pytest.mark.asyncio(loop_scope="session")]

# A machine under test is busy; what is found is the same.
LIMIT_S = 60.0
# What a healthy installation with a server that runs cannot do without.
WELL = (
    *("docker", "buildx", "cgroups", "network", "gateway", "gateway-inside", "firewall", "store", "hub"),
    *("permissions", "service", "mounts", "storage-root", "base-image", "strays", "packages", "settings"),
)
Named = set[tuple[str, FindingStatus]]


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def machine(
    tmp_path_factory: pytest.TempPathFactory, base_image: str, data: Path
) -> AsyncIterator[Machine]:
    """An installation with a server `one` that runs."""
    folder = tmp_path_factory.mktemp("doctor")
    docker_host = os.environ.get("DOCKER_HOST", "unix:///var/run/docker.sock")
    section = {"mounts": [{"id": "data", "source": str(data)}]}
    with GitServer(folder / "served") as served:
        async with Machine(folder / "lab", served, docker_host, section) as running:
            await running.ready("one", running.repository())
            yield running


@pytest.fixture(scope="module")
def data() -> Iterator[Path]:
    """A folder for a mount, where all folders around it are root's."""
    place = Path(f"/srv/doctor-{secrets.token_hex(4)}")
    place.mkdir(mode=0o755)
    yield place
    if place.exists():
        place.rmdir()


async def looked(machine: Machine, *ids: str, fix: bool = False) -> Report:
    async with open_site(machine.state, patience_s=20) as site:
        return await (put_right if fix else examine)(site, named(ids), limit_s=LIMIT_S)


def wrong(report: Report) -> Named:
    """What is not as it should be; notes and what could not be looked at are no complaint."""
    return {
        (each.id, each.verdict.status)
        for each in report.findings
        if each.verdict.status in ("problem", "warning")
    }


def of(report: Report, check: str) -> FindingStatus:
    [found] = {each.verdict.status for each in report.findings if each.id == check}
    return found


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def healthy(machine: Machine) -> Report:
    return await looked(machine)


@pytest.fixture(scope="module")
def before(healthy: Report) -> Named:
    return wrong(healthy)


def run(*command: str) -> str:
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout


async def test_nothing_is_wrong_with_a_healthy_installation(healthy: Report) -> None:
    said = {each.id: each.verdict for each in healthy.findings}
    # No backup was made yet; and the machine of the tests has the disk and the driver that it has.
    assert {name for name, _ in wrong(healthy)} <= {"backups", "disk", "docker-storage"}, said
    for check in WELL:
        assert said[check].status == "ok", (check, said[check])
    assert not any("failed: " in each.meaning for each in said.values()), said


async def test_every_check_says_something(healthy: Report) -> None:
    assert {each.id for each in healthy.findings} == {each.id for each in all_checks()}


async def test_the_command_says_the_same_to_programs_and_ends_with_a_code(machine: Machine) -> None:
    command = [sys.executable, "-m", "tljh_plugin.cli", "doctor"]
    environment = {**os.environ, "LITTLEST_BINDER_STATE": str(machine.state)}

    def ask(*words: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [*command, *words], env=environment, capture_output=True, text=True, check=False
        )

    done = await asyncio.to_thread(ask, "--json")
    view = DoctorView(**json.loads(done.stdout))
    assert done.returncode == 0, done.stdout
    assert view.counts["problem"] == 0
    assert view.state_dir == str(machine.state)
    print(f"\nall checks: {view.seconds:.2f} s")
    secret = machine.state / "secret"
    secret.chmod(0o644)
    try:
        done = await asyncio.to_thread(ask, "permissions")
        assert done.returncode == 1
        assert str(secret) in done.stdout.replace("\n", "")
        assert f"chmod 0600 {secret}" in done.stdout
        done = await asyncio.to_thread(ask, "permissions", "--fix")
        assert (done.returncode, oct(secret.stat().st_mode & 0o777)) == (0, "0o600")
    finally:
        secret.chmod(0o600)
    done = await asyncio.to_thread(ask, "firewall")
    assert "✓ Firewall rules for servers" in done.stdout
    chain = f"{prefix(bridge_name(instance_id(machine.settings)))}IN"
    rules = run("iptables", "-S", chain).splitlines()[1:]
    assert rules
    for rule in rules:
        assert f"    iptables {rule}" in done.stdout.splitlines()
    done = await asyncio.to_thread(ask, "nonsense")
    assert done.returncode == 2
    assert "no check `nonsense`" in done.stderr


# -- what is open to others ---------------------------------------------------------------------------


async def test_rights_that_are_too_wide_are_named_and_narrowed(machine: Machine, before: Named) -> None:
    wide = [machine.state / "secret", machine.settings.run_dir, machine.settings.store_path]
    for each in wide:
        each.chmod(0o777)
    found = await looked(machine)
    assert wrong(found) - before == {("permissions", "problem")}
    named_ = {each.verdict.about for each in found.findings if each.id == "permissions"}
    assert named_ == {str(each) for each in wide}
    done = await looked(machine, "permissions", fix=True)
    assert [each.error for each in done.repairs] == [""] * 3
    assert of(done, "permissions") == "ok"
    assert [each.stat().st_mode & 0o077 for each in wide] == [0, 0, 0]


# A service without its hub is not well either, from its next look at it on.
LATER = {("service", "problem")}


async def test_a_firewall_rule_that_was_deleted_is_named_and_set_again(
    machine: Machine, before: Named
) -> None:
    chain = f"{prefix(bridge_name(instance_id(machine.settings)))}IN"
    await machine.kill_hub()  # which would set it again within seconds
    try:
        run("iptables", "-D", "INPUT", "-j", chain)
        found = await looked(machine)
        assert wrong(found) - before - LATER == {("firewall", "problem"), ("hub", "problem")}
        [verdict] = [each.verdict for each in found.findings if each.id == "firewall"]
        assert f"jump from INPUT to {chain}" in verdict.meaning
        done = await looked(machine, "firewall", fix=True)
        assert (of(done, "firewall"), done.repairs[0].error) == ("ok", "")
        assert chain in run("iptables", "-S", "INPUT")
        [verdict] = [each.verdict for each in done.findings if each.id == "firewall"]
        listed = verdict.seen["rules"].splitlines()
        assert f"iptables -A INPUT -j {chain}" in listed
        rules = run("iptables", "-S", chain).splitlines()[1:]
        assert rules
        assert sum(f"iptables -A {chain} " in each for each in listed) == len(rules)
    finally:
        await machine.start_hub()


async def test_a_machine_whose_own_firewall_holds_servers_up_is_named(
    machine: Machine, before: Named
) -> None:
    bridge = bridge_name(instance_id(machine.settings))
    # Before the filter table, so that our own rules are as they should be.
    rule = ["PREROUTING", "-t", "mangle", "-i", bridge, "-p", "tcp", "-j", "DROP"]
    run("iptables", "-I", *rule)
    try:
        assert wrong(await looked(machine)) - before == {("gateway-inside", "problem")}
    finally:
        run("iptables", "-D", *rule)


@contextmanager
def kernel(name: str, value: str) -> Iterator[None]:
    place = Path("/proc/sys/net", name)
    kept = place.read_text()
    place.write_text(value)
    try:
        yield
    finally:
        place.write_text(kept)


async def test_a_kernel_that_passes_nothing_on_is_named(machine: Machine, before: Named) -> None:
    with kernel("ipv4/ip_forward", "0"):
        found = wrong(await looked(machine))
    assert found - before == {("forwarding", "problem")}


async def test_servers_that_are_not_kept_apart_are_named(machine: Machine, before: Named) -> None:
    with kernel("bridge/bridge-nf-call-iptables", "0"):
        found = wrong(await looked(machine))
    # Without it there is no telling the rules' effect, which the firewall's own check says as well.
    assert ("bridge-filter", "problem") in found - before
    assert found - before <= {("bridge-filter", "problem"), ("firewall", "problem")}


# -- what was left over -------------------------------------------------------------------------------


async def test_stray_containers_are_named_and_removed_and_nobody_elses_are_touched(
    machine: Machine, before: Named, base_image: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    instance = instance_id(machine.settings)
    ours = {INSTANCE_LABEL: instance, KIND_LABEL: "server", "org.littlest-binder.person": "eve",
            "org.littlest-binder.server": "gone"}  # fmt: skip
    stray = start_container(base_image, ours)
    other = start_container(base_image, {**ours, INSTANCE_LABEL: "another-installation"})
    running = await machine.container("one")
    # The service would remove it, too, if it looked before we do.
    await machine.kill_service()
    try:
        if not exists(stray):
            stray = start_container(base_image, ours)
        found = await looked(machine, "strays")
        assert wrong(found) == {("strays", "warning")}
        done = await looked(machine, "strays", fix=True)
        assert of(done, "strays") == "ok"
        assert [exists(stray), exists(other), exists(running)] == [False, True, True]
    finally:
        remove_containers(stray, other)
        await machine.start_service()


def start_container(image: str, labels: dict[str, str]) -> str:
    words = [word for name, value in labels.items() for word in ("--label", f"{name}={value}")]
    command = ("docker", "run", "-d", "--network", "none", *words, "--entrypoint", "sleep", image, "600")
    return run(*command).strip()


def remove_containers(*ids: str) -> None:
    subprocess.run(["docker", "rm", "-f", *ids], capture_output=True, check=False)


def exists(container: str) -> bool:
    done = subprocess.run(["docker", "inspect", container], capture_output=True, check=False)
    return done.returncode == 0


async def test_what_fills_and_builds_left_is_named_and_removed(machine: Machine) -> None:
    await machine.kill_service()
    try:
        project = next(iter(machine.projects().values())).parent
        staging = project / f".filling-{secrets.token_hex(8)}"
        (staging / "home").mkdir(parents=True)
        (staging / "home" / "half").write_text("half of it")
        for each in (staging / "home", staging / "home" / "half"):
            os.chown(each, machine.settings.server_uid, machine.settings.server_gid)
        checkout = machine.settings.checkout_dir / secrets.token_hex(8)
        checkout.mkdir()
        (checkout / "lock").touch()
        ids = ("staging", "checkouts", "stale-files")
        found = await looked(machine, *ids)
        assert [of(found, each) for each in ids] == ["warning", "note", "warning"]
        done = await looked(machine, *ids, fix=True)
        assert [each.error for each in done.repairs] == [""] * 3, done.repairs
        assert [of(done, each) for each in ids] == ["ok"] * 3
        assert not staging.exists()
        assert not checkout.exists()
        assert not machine.settings.service_socket.exists()
        assert (project / "home").is_dir()
    finally:
        await machine.start_service()


@contextmanager
def half_started() -> Iterator[int]:
    """A process that is called as runc's is between its start and the container's."""
    program = (
        "import ctypes, time; ctypes.CDLL(None).prctl(15, b'runc:[2:INIT]', 0, 0, 0);"
        "print('named', flush=True); time.sleep(600)"
    )
    process = subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE)
    try:
        assert process.stdout is not None
        process.stdout.readline()
        yield process.pid
    finally:
        process.kill()
        process.wait()


async def test_a_container_that_docker_began_and_left_is_named(
    machine: Machine, before: Named, monkeypatch: pytest.MonkeyPatch
) -> None:
    with half_started() as pid:
        assert of(await looked(machine, "half-started"), "half-started") == "ok"  # it is young
        monkeypatch.setattr(strays, "_INIT_S", 0.0)
        found = await looked(machine)
    assert wrong(found) - before == {("half-started", "warning")}
    [verdict] = [each.verdict for each in found.findings if each.id == "half-started"]
    assert str(pid) in verdict.fix


# -- store, storage, mounts, backups ------------------------------------------------------------------


@contextmanager
def damaged(path: Path) -> Iterator[bytes]:
    """A store of which some pages are noise, while nobody has it open; whole again afterwards."""
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    whole = path.read_bytes()
    noise = os.urandom(3 * 4096)
    path.write_bytes(whole[:4096] + noise + whole[4 * 4096 :])
    try:
        yield path.read_bytes()
    finally:
        for each in path.parent.glob("store.sqlite-*"):
            each.unlink()
        path.write_bytes(whole)


async def test_a_store_that_is_damaged_is_named_and_left_as_it_is(machine: Machine, before: Named) -> None:
    path = machine.settings.store_path
    await machine.kill_service()
    try:
        with damaged(path) as content:
            found = wrong(await looked(machine))
            assert path.read_bytes() == content
    finally:
        await machine.start_service()
    assert ("store", "problem") in found
    assert found - before <= {("store", "problem"), ("service", "problem"), ("stale-files", "warning")}
    assert of(await looked(machine, "store"), "store") == "ok"


@contextmanager
def another_disk(root: Path) -> Iterator[None]:
    """An empty folder is where people's files were."""
    away = root.with_name("projects-away")
    root.rename(away)
    root.mkdir(mode=0o700)
    try:
        yield
    finally:
        root.rmdir()
        away.rename(root)


async def test_a_folder_of_people_that_is_another_one_is_named(machine: Machine, before: Named) -> None:
    with another_disk(machine.settings.storage_root):
        assert wrong(await looked(machine)) - before == {("storage-root", "problem")}


@contextmanager
def without(folder: Path) -> Iterator[None]:
    folder.rmdir()
    yield
    folder.mkdir(mode=0o755)


@contextmanager
def closed(folder: Path) -> Iterator[None]:
    folder.chmod(0o700)
    yield
    folder.chmod(0o755)


async def test_mounts_that_people_cannot_use_are_named(machine: Machine, before: Named, data: Path) -> None:
    with closed(data):
        assert wrong(await looked(machine)) - before == {("mounts", "warning")}
    with without(data):
        assert wrong(await looked(machine)) - before == {("mounts", "problem")}
    assert wrong(await looked(machine)) == before


@contextmanager
def backup(machine: Machine, moment: str) -> Iterator[None]:
    folder = machine.state / "backups"
    folder.mkdir(mode=0o700)
    made = folder / f"littlest-binder-{moment}.tar.zst"
    made.touch()
    yield
    made.unlink()
    folder.rmdir()


async def test_backups_are_looked_for(machine: Machine, before: Named) -> None:
    assert ("backups", "warning") in before
    with backup(machine, time.strftime("%Y%m%dT%H%M%SZ", time.gmtime())):
        assert wrong(await looked(machine)) == before - {("backups", "warning")}
    with backup(machine, "20250101T000000Z"):
        assert of(await looked(machine, "backups"), "backups") == "warning"


async def test_an_image_on_which_others_stand_and_that_is_missing_is_named(machine: Machine) -> None:
    async with open_site(machine.state, patience_s=20) as site:
        build = site.settings.build.model_copy(update={"release": "trixie"})
        site.settings = site.settings.model_copy(update={"build": build})
        found = await examine(site, named(["base-image"]), limit_s=LIMIT_S)
    assert wrong(found) == {("base-image", "problem")}


@contextmanager
def known_here_alone(name: str) -> Iterator[None]:
    """A host name that this machine resolves and no container does."""
    hosts = Path("/etc/hosts")
    kept = hosts.read_text()
    hosts.write_text(f"{kept}\n127.0.0.1 {name}\n")
    try:
        yield
    finally:
        hosts.write_text(kept)


async def test_names_that_builds_do_not_resolve_are_named(machine: Machine) -> None:
    with known_here_alone("packages.here.invalid"):
        async with open_site(machine.state, patience_s=20) as site:
            site.machine = replace(
                site.machine, index=IndexSettings(url="http://packages.here.invalid/simple/")
            )
            found = await examine(site, named(["build-dns"]), limit_s=LIMIT_S)
    assert wrong(found) == {("build-dns", "problem")}


async def test_a_network_of_another_installation_is_a_note_and_stays(machine: Machine) -> None:
    name = f"littlest-binder-{secrets.token_hex(8)}"
    run("docker", "network", "create", "--label", f"{INSTANCE_LABEL}=another-installation", name)
    try:
        done = await looked(machine, "networks", fix=True)
        [verdict] = [each.verdict for each in done.findings]
        assert (verdict.status, name in verdict.fix) == ("note", True)
        assert name in run("docker", "network", "ls")
    finally:
        run("docker", "network", "rm", name)


# -- what does not run --------------------------------------------------------------------------------


async def test_a_service_that_was_killed_is_named(machine: Machine, before: Named) -> None:
    await machine.kill_service()
    try:
        found = wrong(await looked(machine))
    finally:
        await machine.start_service()
    assert found - before == {("service", "problem"), ("stale-files", "warning")}


async def test_a_docker_that_is_stopped_is_the_only_problem(
    machine: Machine, before: Named, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DOCKER_HOST", f"unix://{tmp_path / 'docker.sock'}")
    found = await looked(machine)
    assert wrong(found) - before == {("docker", "problem")}
    unchecked = {each.id for each in found.findings if each.verdict.status == "not-checked"}
    assert {"network", "firewall", "strays", "cgroups", "docker-kind"} <= unchecked


async def test_a_docker_that_hangs_holds_nothing_up(
    machine: Machine, before: Named, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    socket = tmp_path / "docker.sock"

    async def never(reader: asyncio.StreamReader, _: asyncio.StreamWriter) -> None:
        await reader.read(-1)

    server = await asyncio.start_unix_server(never, str(socket))
    monkeypatch.setenv("DOCKER_HOST", f"unix://{socket}")
    # It does not ask Docker, and on a busy machine it may take long all the same.
    monkeypatch.setattr(buildx, "_TIMEOUT_S", LONG_S)
    try:
        async with open_site(machine.state, patience_s=0.5) as site:
            found = await examine(site, all_checks(), limit_s=LONG_S)
    finally:
        server.close()
    assert wrong(found) - before == {("docker", "problem")}
    print(f"\nwith a Docker that hangs for 0.5 s: {found.seconds:.2f} s")


async def test_a_hub_that_was_killed_is_named_and_its_servers_are_no_strays(
    machine: Machine, before: Named
) -> None:
    await machine.kill_hub()
    try:
        found = await looked(machine)
        again = await looked(machine, "strays", fix=True)
    finally:
        await machine.start_hub()
    assert wrong(found) - before - LATER == {("hub", "problem")}
    assert of(again, "strays") == "not-checked"
    assert again.repairs == ()

    async def reopened() -> bool:
        return of(await looked(machine, "gateway"), "gateway") == "ok"

    await until(reopened, 60)
    assert await machine.container("one")


async def test_a_network_that_was_removed_is_made_again(machine: Machine, before: Named) -> None:
    await machine.gone("one")
    name = network_name(instance_id(machine.settings))
    run("docker", "network", "rm", name)
    found = await looked(machine)
    assert wrong(found) <= before
    assert of(found, "network") == "note"
    done = await looked(machine, "network", fix=True)
    assert (of(done, "network"), name in run("docker", "network", "ls")) == ("ok", True)
