"""Containers on a real Docker: limits that really hold, and nothing left behind."""

from __future__ import annotations

import asyncio
import re
import subprocess
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import docker
import docker.errors
import pytest
from docker_proxy import Call, DockerProxy, Fault

from tljh_plugin.engine import ContainerSpec, Engine, Limits, Mount, containers, deviations
from tljh_plugin.errors import (
    ContainerNotStarted,
    EngineError,
    EngineTimedOut,
    ImageNotFound,
    NotOurs,
)
from tljh_plugin.labels import INSTANCE_LABEL

pytestmark = pytest.mark.docker

DEBIAN = "littlest-binder/debian:bookworm"


def shell(limits: Limits, command: str, **other: object) -> ContainerSpec:
    """A container that runs a shell command."""
    spec = ContainerSpec(image=DEBIAN, command=("sh", "-c", command), limits=limits, kind="check")
    return replace(spec, **other)  # type: ignore[arg-type]


async def ours(engine: Engine) -> list[str]:
    return [row.name for row in await engine.containers() if engine.is_ours(row.labels)]


@pytest.fixture
def foreign() -> Iterator[str]:
    """A running container of somebody else; must still run at the end."""
    name = subprocess.run(
        ["docker", "run", "--detach", "--network=none", DEBIAN, "sleep", "300"],
        capture_output=True,
        text=True,
        check=True,
    ).stdout.strip()
    yield name
    state = subprocess.run(
        ["docker", "inspect", "--format", "{{.State.Running}}", name],
        capture_output=True,
        text=True,
        check=False,
    ).stdout.strip()
    subprocess.run(["docker", "rm", "-f", name], capture_output=True, check=True)
    assert state == "true"


# -- answers that get lost ----------------------------------------------------------------------------------


@pytest.mark.parametrize("fault", ["hung", "hang"])
async def test_an_answer_that_gets_lost_is_asked_for_again(
    tmp_path: Path, engine: Engine, limits: Limits, fault: Fault, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(containers, "_ASK_AGAIN_S", 1.0)
    async with DockerProxy(tmp_path / "docker.sock") as proxy:
        through = Engine(engine.instance, base_url=proxy.host, timeout_s=20)
        proxy.begin(Call("POST /containers/*/wait", 1), fault)
        ended = await through.run(shell(limits, "echo done; exit 3"), 60)
        assert (ended.exit_code, ended.output.strip()) == (3, "done")
        assert proxy.failed
        await through.close()


# -- isolation, as the kernel sees it ----------------------------------------------------------------------


async def test_a_container_has_no_privileges(engine: Engine, limits: Limits) -> None:
    limits = replace(limits, uid=1234, gid=77, groups=(5, 2000))
    ended = await engine.run(
        shell(limits, "id -u; id -g; id -G; cat /proc/self/status; ls /sys/class/net"), 30
    )
    lines = ended.output.splitlines()
    assert lines[:3] == ["1234", "77", "77 5 2000"]
    for kind in ("CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb"):
        assert re.search(rf"^{kind}:\s+0+$", ended.output, re.MULTILINE)
    assert re.search(r"^NoNewPrivs:\s+1$", ended.output, re.MULTILINE)
    assert re.search(r"^Seccomp:\s+2$", ended.output, re.MULTILINE)
    assert lines[-1] == "lo"


async def test_a_name_in_the_image_does_not_decide_who_runs(
    engine: Engine, limits: Limits, build_image: Callable[..., str]
) -> None:
    image = build_image(
        f"FROM {DEBIAN}\nRUN echo 'jovyan:x:0:0::/root:/bin/sh' >> /etc/passwd"
        " && echo 'disk2:x:6:jovyan' >> /etc/group\nUSER jovyan\n"
    )
    ended = await engine.run(replace(shell(limits, "id -u; id -G"), image=image), 30)
    assert ended.output.split() == ["1000", "1000"]


async def test_the_memory_limit_kills(engine: Engine, limits: Limits) -> None:
    limits = replace(limits, memory_bytes=48 * 1024**2)
    # `tail` of a stream without a line break has to keep all of it.
    spec = shell(limits, "head -c 200000000 /dev/zero | tail | wc -c")
    ended = await engine.run(spec, 60)
    assert "200000000" not in ended.output


async def test_the_process_limit_holds(engine: Engine, limits: Limits) -> None:
    limits = replace(limits, pids=20)
    many = "for i in $(seq 60); do sleep 20 & done; echo all started"
    ended = await engine.run(shell(limits, many), 30)
    assert "all started" not in ended.output
    assert "fork" in ended.output


async def test_shared_memory_and_processors_are_limited(engine: Engine, limits: Limits) -> None:
    limits = replace(limits, cpus=0.5)
    asked = (
        "df --output=size -B1 /dev/shm | tail -1;"
        "cat /sys/fs/cgroup/cpu.max 2>/dev/null ||"
        " echo $(cat /sys/fs/cgroup/cpu/cpu.cfs_quota_us /sys/fs/cgroup/cpu/cpu.cfs_period_us)"
    )
    ended = await engine.run(shell(limits, asked), 30)
    assert ended.output.split() == [str(16 * 1024**2), "50000", "100000"]


async def test_the_log_is_bounded(engine: Engine, limits: Limits) -> None:
    limits = replace(limits, log_bytes=200_000)
    container = await engine.start(shell(limits, "head -c 3000000 /dev/zero | tr '\\0' x | fold -w 99"))
    try:
        await engine.wait(container, 60)
        kept = await engine.logs(container, tail=1_000_000)
    finally:
        await engine.remove(container)
    assert 0 < len(kept) < 250_000


async def test_docker_confirms_what_was_asked(engine: Engine, limits: Limits) -> None:
    await engine.ensure_network()
    network = f"littlest-binder-{engine.instance}"
    spec = shell(replace(limits, groups=(4242,)), "sleep 600", network=network)
    container = await engine.start(spec)
    try:
        said = await engine.inspect(container)
        assert said is not None
        assert deviations(said, spec.limits) == []
        assert deviations(said, replace(spec.limits, pids=999)) == ["PidsLimit is 256, not 999"]
    finally:
        await engine.remove(container)


async def test_a_container_of_somebody_else_deviates(engine: Engine, limits: Limits, foreign: str) -> None:
    said = await engine.inspect(foreign)
    assert said is not None
    assert len(deviations(said, limits)) >= 7


async def test_processes_that_lost_their_parent_are_reaped(engine: Engine, limits: Limits) -> None:
    """A server that reaps only its own children would run into the process limit."""
    limits = replace(limits, pids=30)
    orphans = "for (1..200) { system('(true &); exit 0') == 0 or die 'no more' } print 'all ended'"
    spec = replace(shell(limits, ""), command=("perl", "-e", orphans))
    ended = await engine.run(spec, 60)
    assert ended.output == "all ended"


async def test_a_read_only_container_writes_to_its_mounts_only(
    engine: Engine, limits: Limits, tmp_path: Path
) -> None:
    writable, readable = tmp_path / "a", tmp_path / "b"
    for folder in (writable, readable):
        folder.mkdir()
        folder.chmod(0o777)
    spec = shell(
        limits,
        "touch /tmp/x; touch /b/x; touch /a/x; echo end",
        mounts=(Mount(str(writable), "/a"), Mount(str(readable), "/b", read_only=True)),
        read_only=True,
    )
    ended = await engine.run(spec, 30)
    assert ended.output.count("Read-only file system") == 2
    assert [path.name for path in writable.iterdir()] == ["x"]
    assert not list(readable.iterdir())


# -- start, run, remove ------------------------------------------------------------------------------------


async def test_run_gives_exit_code_and_output_and_removes(engine: Engine, limits: Limits) -> None:
    ended = await engine.run(shell(limits, "echo out; echo err >&2; exit 3", environment={"A": "1"}), 30)
    assert (ended.exit_code, set(ended.output.splitlines())) == (3, {"out", "err"})
    assert await ours(engine) == []


async def test_only_the_last_lines_are_shown(engine: Engine, limits: Limits) -> None:
    ended = await engine.run(shell(limits, "seq 100"), 30, tail=2)
    assert ended.output == "99\n100\n"


async def test_a_run_that_takes_too_long_is_ended_and_removed(engine: Engine, limits: Limits) -> None:
    with pytest.raises(EngineTimedOut, match=r"within 0\.5 s"):
        await engine.run(shell(limits, "sleep 300"), 0.5)
    assert await ours(engine) == []


@pytest.mark.parametrize("after_s", [0.0, 0.02, 0.05, 0.1, 0.15, 0.2, 0.4])
async def test_a_run_that_is_cancelled_leaves_nothing(engine: Engine, limits: Limits, after_s: float) -> None:
    running = asyncio.ensure_future(engine.run(shell(limits, "sleep 300"), 60))
    await asyncio.wait({running}, timeout=after_s)
    running.cancel()
    with pytest.raises(asyncio.CancelledError):
        await running
    assert await ours(engine) == []


async def test_a_removal_that_is_cancelled_is_done_when_it_returns(engine: Engine, limits: Limits) -> None:
    container = await engine.start(shell(limits, "sleep 300"))
    removing = asyncio.ensure_future(engine.remove(container))
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    removing.cancel()
    with pytest.raises(asyncio.CancelledError):
        await removing
    assert await ours(engine) == []


async def test_even_a_run_that_is_cancelled_twice_leaves_nothing(engine: Engine, limits: Limits) -> None:
    running = asyncio.ensure_future(engine.run(shell(limits, "sleep 300"), 60))
    while not await ours(engine):  # noqa: ASYNC110  # Docker tells by no event that we could await here
        await asyncio.sleep(0)
    running.cancel()
    await asyncio.sleep(0)
    running.cancel()
    with pytest.raises(asyncio.CancelledError):
        await running
    await engine.close()
    assert await ours(engine) == []


async def test_an_image_that_is_not_there_is_named(engine: Engine, limits: Limits) -> None:
    with pytest.raises(ImageNotFound, match="littlest-binder/none:1"):
        await engine.start(replace(shell(limits, "true"), image="littlest-binder/none:1"))


async def test_a_program_that_is_not_there_ends_with_127(engine: Engine, limits: Limits) -> None:
    ended = await engine.run(replace(shell(limits, ""), command=("no-such-program",)), 30)
    assert ended.exit_code == 127
    assert "no-such-program" in ended.output


async def test_a_container_that_cannot_start_leaves_nothing(engine: Engine, limits: Limits) -> None:
    with pytest.raises(ContainerNotStarted):
        await engine.start(shell(limits, "true", workdir="/etc/passwd"))
    assert await ours(engine) == []


async def test_a_missing_folder_is_an_error_and_is_not_made(
    engine: Engine, limits: Limits, tmp_path: Path
) -> None:
    missing = tmp_path / "missing"
    with pytest.raises(EngineError, match="missing"):
        await engine.start(shell(limits, "true", mounts=(Mount(str(missing), "/data"),)))
    assert not missing.exists()
    assert await ours(engine) == []


async def test_anonymous_volumes_go_with_the_container(
    engine: Engine, limits: Limits, build_image: Callable[..., str], client: docker.APIClient
) -> None:
    image = build_image(f"FROM {DEBIAN}\nVOLUME /data\n")
    container = await engine.start(replace(shell(limits, "sleep 600"), image=image))
    said = await engine.inspect(container)
    assert said is not None
    volume = said["Mounts"][0]["Name"]
    await engine.remove(container)
    with pytest.raises(docker.errors.NotFound):
        client.inspect_volume(volume)


async def test_removing_what_is_gone_is_no_error(engine: Engine, limits: Limits) -> None:
    container = await engine.start(shell(limits, "sleep 600"))
    await asyncio.gather(engine.remove(container), engine.remove(container))
    await engine.remove(container)
    assert await engine.logs(container) == ""


async def test_what_is_not_ours_is_never_removed(engine: Engine, foreign: str) -> None:
    with pytest.raises(NotOurs):
        await engine.remove(foreign)


async def test_strays_are_ours_and_of_one_kind(engine: Engine, limits: Limits, foreign: str) -> None:
    other = Engine(engine.instance + "-other")
    theirs = await other.start(shell(limits, "sleep 600"))
    fill = await engine.start(shell(limits, "sleep 600", kind="fill"))
    ended = await engine.start(shell(limits, "true", name=f"stray-{engine.instance}"))
    later = Engine(engine.instance)  # of the next process
    try:
        await engine.wait(ended, 30)
        assert await engine.remove_strays("check") == []  # somebody still works with it
        assert await later.remove_strays("check") == [f"stray-{engine.instance}"]
        assert {row.id for row in await engine.containers()} >= {theirs, fill, foreign}
    finally:
        await later.close()
        await engine.remove(fill)
        await other.remove(theirs)
        await other.close()


async def test_a_label_cannot_take_the_place_of_ours(engine: Engine, limits: Limits) -> None:
    container = await engine.start(
        shell(limits, "sleep 600", labels={INSTANCE_LABEL: "another", "mine": "1"})
    )
    try:
        row = next(row for row in await engine.containers() if row.id == container)
        assert engine.is_ours(row.labels)
        assert (row.labels["mine"], row.state) == ("1", "running")
    finally:
        await engine.remove(container)


async def test_waiting_for_what_is_gone_is_an_error(engine: Engine) -> None:
    with pytest.raises(EngineError, match="is gone"):
        await engine.wait("0123456789ab", 5)


async def test_files_are_there_before_it_starts_and_belong_to_its_user(
    engine: Engine, limits: Limits
) -> None:
    files = {"/tmp/NOTE.txt": "nothing is kept\n", "/nowhere/at/all": "x", "/etc/passwd/x": "y"}
    spec = shell(limits, "stat -c '%u:%g %a' /tmp/NOTE.txt; cat /tmp/NOTE.txt; ls /nowhere 2>&1", files=files)
    ended = await engine.run(spec, 60)
    assert ended.output.startswith("1000:1000 644\nnothing is kept\n")
    assert "No such file" in ended.output
