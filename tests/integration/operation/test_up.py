"""`littlest-binder up` on a real Docker: what it starts, it ends, whatever happens to it."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

import docker
import httpx
import pytest
from desktop import LINK, Desktop

from tljh_plugin.installation import instance_id
from tljh_plugin.labels import INSTANCE_LABEL
from tljh_plugin.settings import load_desktop

pytestmark = [pytest.mark.docker, pytest.mark.hub]


def processes(desktop: Desktop) -> dict[int, str]:
    """Processes that belong to the installation, by what only it has in its environment."""
    mark = f"XDG_DATA_HOME={desktop.home}".encode()
    found = {}
    for place in Path("/proc").glob("[0-9]*"):
        with suppress(OSError):
            if mark in (place / "environ").read_bytes().split(b"\0"):
                found[int(place.name)] = (place / "cmdline").read_text().replace("\0", " ").strip()
    return found


def process(desktop: Desktop, words: str) -> int:
    (found,) = [number for number, line in processes(desktop).items() if words in line]
    return found


def wait_until(condition: Callable[[], object], seconds: float = 120) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, f"not within {seconds} s"
        time.sleep(0.05)


def things(desktop: Desktop, client: docker.APIClient) -> list[str]:
    """Containers and networks of the installation."""
    label = {"label": f"{INSTANCE_LABEL}={instance_id(load_desktop(desktop.state))}"}
    return [
        each["Id"] for each in [*client.containers(all=True, filters=label), *client.networks(filters=label)]
    ]


@pytest.fixture
def desktop(tmp_path: Path, base_image: str, client: docker.APIClient) -> Iterator[Desktop]:
    made = Desktop(tmp_path)
    yield made
    if made.process is not None:
        made.stop()
    wait_until(lambda: not processes(made))
    assert things(made, client) == []


@pytest.mark.parametrize("by", [signal.SIGINT, signal.SIGTERM])
def test_what_it_started_ends_with_it(desktop: Desktop, by: signal.Signals, client: docker.APIClient) -> None:
    desktop.up()
    lines = list(processes(desktop).values())
    assert len(lines) >= 4, lines
    engine_network = f"littlest-binder-{instance_id(load_desktop(desktop.state))}"
    client.create_network(engine_network, labels={INSTANCE_LABEL: engine_network.rpartition("-")[2]})
    assert desktop.stop(by) == 0, desktop.text
    assert processes(desktop) == {}
    assert things(desktop, client) == []
    assert "Stopped." in desktop.text


def test_a_second_run_prints_another_link_that_works(desktop: Desktop) -> None:
    first = desktop.up()
    done = desktop.command("up", "--no-browser")
    assert done.returncode == 0, done.stderr
    second = LINK.search(done.stdout)
    assert second
    assert second[0] != first
    headers = {"Host": f"binder.localhost:{desktop.port}"}
    for link in (first, second[0], desktop.link()):
        local = link.replace("binder.localhost", "127.0.0.1")
        assert httpx.get(local, headers=headers, timeout=60).status_code == 302
    assert desktop.process is not None
    assert desktop.process.poll() is None


def test_a_hub_that_is_killed_ends_the_run_and_leaves_no_process(desktop: Desktop) -> None:
    desktop.up()
    os.kill(process(desktop, "-m jupyterhub"), signal.SIGKILL)
    assert desktop.process is not None
    assert desktop.process.wait(120) == 3, desktop.text
    assert "hub ended" in desktop.text
    assert processes(desktop) == {}


def test_a_run_that_is_killed_takes_everything_with_it(desktop: Desktop) -> None:
    desktop.up()
    assert desktop.process is not None
    desktop.process.kill()
    desktop.process.wait()
    wait_until(lambda: not processes(desktop))
    assert LINK.fullmatch(desktop.up())


def test_what_was_left_when_all_were_killed_is_ended_by_the_next_run(desktop: Desktop) -> None:
    desktop.up()
    assert desktop.process is not None
    killed = [desktop.process.pid, process(desktop, "-m jupyterhub")]
    for number in killed:
        os.kill(number, signal.SIGKILL)
    desktop.process.wait()
    left = set(processes(desktop)) - set(killed)
    assert left, "proxy and service live on"
    assert LINK.fullmatch(desktop.up()), desktop.text
    assert not left & set(processes(desktop))


def test_a_taken_port_names_it_its_holder_and_the_setting(desktop: Desktop) -> None:
    holder = subprocess.Popen(
        ["python3", "-c", f"import socket, time; s = socket.create_server(('127.0.0.1', {desktop.port})); "
         "print('listening', flush=True); time.sleep(600)"], stdout=subprocess.PIPE,
    )  # fmt: skip
    try:
        assert holder.stdout is not None
        holder.stdout.readline()
        done = desktop.command("up", "--no-browser")
    finally:
        holder.kill()
        holder.wait()
    assert done.returncode == 2
    assert str(desktop.port) in done.stderr
    assert f"process {holder.pid}" in done.stderr
    assert "binder.desktop.port" in done.stderr
    assert processes(desktop) == {}


def test_two_installations_run_at_the_same_time(desktop: Desktop, tmp_path: Path) -> None:
    other = Desktop(tmp_path / "other")
    desktop.up()
    try:
        other.up()
        for each in (desktop, other):
            assert httpx.get(f"http://127.0.0.1:{each.port}/hub/health", timeout=60).status_code == 200
    finally:
        assert other.stop() == 0
    assert processes(other) == {}
    assert httpx.get(f"http://127.0.0.1:{desktop.port}/hub/health", timeout=60).status_code == 200


def test_without_docker_people_can_sign_in_and_read_what_is_wrong(desktop: Desktop) -> None:
    desktop.environment["DOCKER_HOST"] = "unix:///nonexistent/docker.sock"
    desktop.up()
    assert "Docker cannot be reached" in desktop.text
    assert "nothing can be built or started" in desktop.text
    assert desktop.stop() == 0


def test_the_proxy_is_reached_on_loopback_alone(desktop: Desktop) -> None:
    desktop.up()
    ports = listening(desktop)
    assert desktop.port in {port for _, port in ports}
    assert {address for address, _ in ports} == {"127.0.0.1"}


def listening(desktop: Desktop) -> set[tuple[str, int]]:
    """Addresses on which the installation's processes listen; see proc(5), `net/tcp`."""
    inodes = set()
    for number in processes(desktop):
        for each in Path(f"/proc/{number}/fd").glob("*"):
            with suppress(OSError):
                inodes.add(os.readlink(each))
    found = set()
    for table in ("tcp", "tcp6"):
        for line in Path("/proc/net", table).read_text().splitlines()[1:]:
            fields = line.split()
            if fields[3] == "0A" and f"socket:[{fields[9]}]" in inodes:
                address, _, port = fields[1].partition(":")
                raw = bytes.fromhex(address)
                text = socket.inet_ntoa(raw[::-1]) if table == "tcp" else f"[{address}]"
                found.add((text, int(port, 16)))
    return found
