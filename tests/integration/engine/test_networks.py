"""Our network on a real Docker."""

from __future__ import annotations

import asyncio
import random
import subprocess
from collections.abc import Iterator

import pytest

from tljh_plugin.engine import ContainerSpec, Engine, Limits
from tljh_plugin.errors import EngineError, NotOurs

pytestmark = pytest.mark.docker

DEBIAN = "littlest-binder/debian:bookworm"
LISTEN = (
    "use IO::Socket::INET;"
    "my $s = IO::Socket::INET->new(Listen => 5, LocalPort => 8888, ReuseAddr => 1) or die;"
    "while (my $c = $s->accept) { print $c qq(hello\\n); close $c }"
)


def run(*command: str) -> str:
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()


def docker(*arguments: str) -> str:
    return run("docker", *arguments)


def subnet() -> str:
    """One that nobody else is likely to use, nor another run of these tests."""
    return f"10.{random.randrange(100, 250)}.{random.randrange(256)}.0/24"


@pytest.fixture
def name(engine: Engine) -> str:
    return f"littlest-binder-{engine.instance}"


@pytest.fixture
def foreign_network(name: str) -> Iterator[str]:
    """A network of our name that somebody else made; must still be there at the end."""
    identifier = docker("network", "create", name)
    yield identifier
    docker("network", "rm", identifier)


async def test_there_is_none_until_it_is_made(engine: Engine) -> None:
    assert await engine.network() is None
    made = await engine.ensure_network()
    assert await engine.network() == made
    await engine.remove_network()
    assert await engine.network() is None
    await engine.remove_network()


async def test_many_at_once_make_one(engine: Engine, name: str) -> None:
    """Also from two processes, here two engines of one installation."""
    second = Engine(engine.instance)
    made = await asyncio.gather(*(each.ensure_network() for each in (engine, second) for _ in range(5)))
    await second.close()
    assert len(set(made)) == 1
    assert docker("network", "ls", "--quiet", "--filter", f"name=^{name}$").count("\n") == 0


async def test_docker_confirms_its_options(engine: Engine) -> None:
    made = await engine.ensure_network()
    shown = docker(
        "network",
        "inspect",
        made.id,
        "--format",
        '{{.EnableIPv6}} {{index .Options "com.docker.network.bridge.enable_icc"}}',
    )
    assert shown == "false false"
    assert made.gateway
    assert made.subnet
    assert f" {made.gateway}/" in run("ip", "-4", "addr", "show", made.bridge)


async def test_servers_do_not_reach_each_other(engine: Engine, limits: Limits, name: str) -> None:
    await engine.ensure_network()
    listener = await engine.start(
        ContainerSpec(image=DEBIAN, command=("perl", "-e", LISTEN), limits=limits, kind="check", network=name)
    )
    try:
        said = await engine.inspect(listener)
        assert said is not None
        address = said["NetworkSettings"]["Networks"][name]["IPAddress"]
        await answers(address)
        knock = f"timeout 3 bash -c 'cat < /dev/tcp/{address}/8888'; echo ended with $?"
        ended = await engine.run(
            ContainerSpec(
                image=DEBIAN, command=("sh", "-c", knock), limits=limits, kind="check", network=name
            ),
            30,
        )
        assert "hello" not in ended.output
        assert "ended with 124" in ended.output
    finally:
        await engine.remove(listener)


async def answers(address: str) -> None:
    """Wait until the host gets an answer from there."""
    while True:
        try:
            reader, writer = await asyncio.open_connection(address, 8888)
        except OSError:
            await asyncio.sleep(0.02)
            continue
        assert await reader.read() == b"hello\n"
        writer.close()
        return


async def test_a_network_that_somebody_else_made_is_not_used(
    engine: Engine, name: str, foreign_network: str
) -> None:
    with pytest.raises(NotOurs, match=name):
        await engine.ensure_network()
    with pytest.raises(NotOurs):
        await engine.network()
    with pytest.raises(NotOurs):
        await engine.remove_network()
    assert docker("network", "inspect", name, "--format", "{{.Id}}") == foreign_network


async def test_one_of_ours_with_other_options_is_made_anew(engine: Engine, name: str) -> None:
    old = docker("network", "create", "--label", f"org.littlest-binder.instance={engine.instance}", name)
    made = await engine.ensure_network()
    assert made.id != old
    assert (await engine.ensure_network()).id == made.id


async def test_the_subnet_can_be_chosen(engine: Engine) -> None:
    first, second = subnet(), subnet()
    assert (await engine.ensure_network(first)).subnet == first
    assert (await engine.ensure_network(second)).gateway == second.replace(".0/24", ".1")


async def test_a_subnet_that_is_taken_is_an_error_that_names_it(engine: Engine) -> None:
    other, taken = Engine(engine.instance + "-other"), subnet()
    try:
        await other.ensure_network(taken)
        with pytest.raises(EngineError, match=taken):
            await engine.ensure_network(taken)
    finally:
        await other.remove_network()
        await other.close()


async def test_it_is_not_made_anew_under_running_servers(engine: Engine, limits: Limits, name: str) -> None:
    before = await engine.ensure_network(subnet())
    server = await engine.start(
        ContainerSpec(image=DEBIAN, command=("sleep", "600"), limits=limits, kind="server", network=name)
    )
    try:
        with pytest.raises(EngineError, match="subnet"):
            await engine.ensure_network(subnet())
        with pytest.raises(EngineError):
            await engine.remove_network()
        assert await engine.network() == before
    finally:
        await engine.remove(server)
