"""The preflight: what the machine is, and everything that stands in the way at once."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import socket
from pathlib import Path

import pytest
from steps import machine
from steps.engine import SOCKET, EngineFacts
from steps.machine import GIB, DockerFound, Machine, Release
from steps.person import Person

DEBIAN = (
    'PRETTY_NAME="Debian GNU/Linux 12 (bookworm)"\nVERSION_ID="12"\nVERSION_CODENAME=bookworm\nID=debian\n'
)
UBUNTU = 'PRETTY_NAME="Ubuntu 24.04.2 LTS"\nVERSION_ID="24.04"\nID=ubuntu\nUBUNTU_CODENAME=noble\n'
MINT = 'PRETTY_NAME="Linux Mint 22"\nID=linuxmint\nVERSION_ID="22"\nUBUNTU_CODENAME=noble\n'
LMDE = 'PRETTY_NAME="LMDE 6"\nID=linuxmint\nVERSION_ID="6"\nID_LIKE=debian\nDEBIAN_CODENAME=bookworm\n'
FEDORA = 'PRETTY_NAME="Fedora Linux 40"\nID=fedora\nVERSION_ID=40\n'
ENGINE = EngineFacts("28.0", "Debian GNU/Linux 12", "/var/lib/docker", rootless=False, product="Engine")


def good(person: Person) -> Machine:
    return Machine(
        system="Linux",
        architecture="amd64",
        release=Release("debian", "12", "Debian GNU/Linux 12 (bookworm)"),
        uid=0,
        memory=4 * GIB,
        disks=(("/var/lib/docker", 50 * GIB, 6 * GIB),),
        docker=DockerFound(f"unix://{SOCKET}", "", ENGINE),
        port=8888,
        port_holder="",
        lowest_port=1024,
        person=person,
        home_problem="",
        state_owner="",
        checkout_lacks="",
    )


@pytest.mark.parametrize(
    ("text", "family", "version"),
    [
        (DEBIAN, "debian", "12"),
        (UBUNTU, "ubuntu", "24.04"),
        (MINT, "ubuntu", "24.04"),
        (LMDE, "debian", "12"),
        (FEDORA, "fedora", "40"),
        ("ID='debian'\nVERSION_CODENAME=forky\n", "debian", "forky"),
        ("", "", ""),
    ],
)
def test_a_derivative_counts_as_what_it_is_derived_from(text: str, family: str, version: str) -> None:
    found = machine.parse_os_release(text)
    assert (found.family, found.version) == (family, version)


@pytest.mark.parametrize(
    ("release", "fits"),
    [
        (Release("debian", "12", ""), True),
        (Release("debian", "13", ""), True),
        (Release("debian", "14", ""), True),
        (Release("debian", "forky", ""), True),
        (Release("debian", "11", ""), False),
        (Release("ubuntu", "22.04", ""), True),
        (Release("ubuntu", "20.04", ""), False),
        (Release("fedora", "40", ""), False),
        (Release("", "", ""), False),
    ],
)
def test_old_and_foreign_distributions_are_refused(release: Release, fits: bool) -> None:
    assert (machine.judge_release(release) is None) is fits


def test_a_machine_that_fits_has_no_problem(somebody: Person) -> None:
    assert machine.problems(good(somebody), "sudo it") == []


@pytest.mark.parametrize(
    ("change", "value"),
    [
        ({"system": "Darwin"}, "Darwin"),
        ({"architecture": "armhf"}, "armhf"),
        ({"release": Release("debian", "11", "Debian 11")}, "Debian 11"),
        ({"uid": 1000}, "1000"),
        ({"memory": GIB}, "1.0 GiB"),
        ({"disks": (("/home/ada", 2 * GIB, 6 * GIB),)}, "2.0 GiB free"),
        ({"port_holder": "nginx (process 7)"}, "nginx (process 7)"),
        ({"port": 80}, "80"),
        ({"home_problem": "/home/ada is not a folder"}, "/home/ada is not a folder"),
        ({"state_owner": "/x belongs to user id 0, not 1000"}, "/x belongs to user id 0, not 1000"),
        ({"checkout_lacks": "pyproject.toml"}, "no pyproject.toml"),
        ({"docker": DockerFound("tcp://far:2375", "the variable DOCKER_HOST", None)}, "tcp://far:2375"),
    ],
)
def test_each_problem_shows_its_value_and_the_next_step(
    somebody: Person, change: dict[str, object], value: str
) -> None:
    (problem,) = machine.problems(dataclasses.replace(good(somebody), **change), "sudo it")  # type: ignore[arg-type]
    assert value in problem.value
    assert problem.next_step


def test_all_problems_are_shown_at_once(somebody: Person) -> None:
    bad = dataclasses.replace(good(somebody), architecture="armhf", uid=1000, memory=GIB, port_holder="nginx")
    found = machine.problems(bad, "sudo python3 installer/bootstrap.py desktop")
    assert len(found) == 4
    assert "Run: sudo python3 installer/bootstrap.py desktop" in {problem.next_step for problem in found}


def test_a_disk_that_lacks_a_little_is_not_told_to_free_nothing(somebody: Person) -> None:
    little = dataclasses.replace(good(somebody), disks=(("/home/ada", 6 * GIB - 1, 6 * GIB),))
    (problem,) = machine.problems(little, "sudo it")
    assert (problem.value, problem.next_step) == ("6.0 GiB free, 6.0 GiB needed", "Free 0.1 GiB there.")


def test_root_may_use_a_low_port(root: Person) -> None:
    assert machine.problems(dataclasses.replace(good(root), port=80), "") == []


def context(home: Path, name: str, host: str) -> None:
    folder = home / ".docker" / "contexts" / "meta" / hashlib.sha256(name.encode()).hexdigest()
    folder.mkdir(parents=True)
    (folder / "meta.json").write_text(json.dumps({"Name": name, "Endpoints": {"docker": {"Host": host}}}))
    (home / ".docker" / "config.json").write_text(json.dumps({"currentContext": name}))


def test_the_endpoint_is_the_one_that_the_docker_command_would_take(tmp_path: Path) -> None:
    assert machine.docker_endpoint({}, tmp_path) == (f"unix://{SOCKET}", "")
    context(tmp_path, "desktop-linux", "unix:///home/ada/.docker/desktop/docker.sock")
    endpoint, chosen_by = machine.docker_endpoint({}, tmp_path)
    assert endpoint == "unix:///home/ada/.docker/desktop/docker.sock"
    assert "config.json" in chosen_by
    assert machine.docker_endpoint({"DOCKER_HOST": "tcp://x"}, tmp_path)[0] == "tcp://x"
    assert machine.docker_endpoint({"DOCKER_CONTEXT": "default"}, tmp_path) == (f"unix://{SOCKET}", "")


def test_a_context_that_is_not_there_is_named(tmp_path: Path) -> None:
    assert machine.docker_endpoint({"DOCKER_CONTEXT": "gone"}, tmp_path)[0] == "context gone"


@pytest.mark.parametrize("damage", ["", "{", "[]", '{"currentContext": null}'])
def test_a_damaged_docker_configuration_counts_as_none(tmp_path: Path, damage: str) -> None:
    (tmp_path / ".docker").mkdir()
    (tmp_path / ".docker" / "config.json").write_text(damage)
    endpoint, _ = machine.docker_endpoint({}, tmp_path)
    assert endpoint in (f"unix://{SOCKET}", "context None")


@pytest.mark.parametrize(
    ("found", "word"),
    [
        (DockerFound(f"unix://{SOCKET}", "", ENGINE), ""),
        (DockerFound(f"unix://{SOCKET}", "", None), ""),
        (DockerFound("unix:///run/docker.sock", "the variable DOCKER_HOST", ENGINE), ""),
        (
            DockerFound(
                f"unix://{SOCKET}", "", dataclasses.replace(ENGINE, operating_system="Docker Desktop")
            ),
            "Docker Desktop",
        ),
        (DockerFound("unix:///home/ada/.docker/desktop/docker.sock", "the context", None), "Docker Desktop"),
        (
            DockerFound("unix:///run/user/1000/docker.sock", "x", dataclasses.replace(ENGINE, rootless=True)),
            "Rootless",
        ),
        (
            DockerFound(f"unix://{SOCKET}", "", dataclasses.replace(ENGINE, product="Podman Engine")),
            "Podman",
        ),
        (
            DockerFound(
                f"unix://{SOCKET}",
                "",
                dataclasses.replace(ENGINE, root_dir="/var/snap/docker/common/var-lib-docker"),
            ),
            "snap",
        ),
        (DockerFound("ssh://ada@far", "the variable DOCKER_HOST", None), "another machine"),
        (DockerFound("unix:///srv/docker.sock", "the variable DOCKER_HOST", ENGINE), "not the usual one"),
    ],
)
def test_engines_that_do_not_run_here_as_root_are_refused(found: DockerFound, word: str) -> None:
    problem = machine.judge_docker(found)
    assert (problem is None) == (word == "")
    if problem is not None:
        assert word in problem.what
        assert found.endpoint in problem.value


def test_who_holds_the_port_is_named() -> None:
    with socket.socket() as listening:
        listening.bind(("127.0.0.1", 0))
        listening.listen()
        port = listening.getsockname()[1]
        assert "process" in machine.port_holder(port)
    assert machine.port_holder(port) == ""


def test_this_machine_can_be_looked_at(root: Person, tmp_path: Path) -> None:
    found = machine.read(root, tmp_path / "a" / "b", tmp_path, {}, port=1)
    assert found.memory > 0
    assert found.disks[0][1] > 0
    assert "pyproject.toml" in found.checkout_lacks
    assert not (tmp_path / "a").exists()
    assert found.architecture in machine.summary(found)
