"""Which kinds of Docker the desktop refuses, with the value, the reason and what to do."""

from __future__ import annotations

import os
from dataclasses import replace

import pytest

from tljh_plugin.engine.values import EngineInfo
from tljh_plugin.errors import EngineUnsupported
from tljh_plugin.operation.engine_kind import check_address, check_kind

GOOD = EngineInfo(
    version="28.0.1",
    api_version="1.48",
    storage_driver="overlay2",
    root_dir="/var/lib/docker",
    architecture="x86_64",
    system="Ubuntu 24.04.2 LTS",
    kernel=os.uname().release,
)


def test_the_machines_own_is_used() -> None:
    check_kind(GOOD, {})
    check_kind(replace(GOOD, kernel=""), {})
    for host in ("", "unix:///var/run/docker.sock", "unix:///srv/docker.sock"):
        check_address({"DOCKER_HOST": host})
    check_address({})


@pytest.mark.parametrize(
    ("change", "reason", "step"),
    [
        (
            {"system": "Docker Desktop", "kernel": "6.10.14-linuxkit"},
            "virtual machine",
            "Quit Docker Desktop",
        ),
        (
            {"security": ("rootless",), "root_dir": "/home/ada/.local/share/docker"},
            "rootless",
            "systemctl --user disable",
        ),
        ({"root_dir": "/var/snap/docker/common/var-lib-docker"}, "snap", "snap remove docker"),
        ({"kernel": "5.15.0-other"}, "5.15.0-other", "Stop it"),
    ],
)
def test_others_are_refused_with_reason_and_way_out(
    change: dict[str, object], reason: str, step: str
) -> None:
    with pytest.raises(EngineUnsupported) as caught:
        check_kind(replace(GOOD, **change), {})  # type: ignore[arg-type]
    assert reason in caught.value.message
    assert "28.0.1" in caught.value.message
    assert step in caught.value.next_step
    assert caught.value.code == "engine-unsupported"


def test_the_variable_that_leads_there_is_named() -> None:
    with pytest.raises(EngineUnsupported, match="unset DOCKER_HOST"):
        check_kind(
            replace(GOOD, security=("rootless",)), {"DOCKER_HOST": "unix:///run/user/1000/docker.sock"}
        )


@pytest.mark.parametrize("host", ["ssh://ada@far", "tcp://far:2375", "http://far", "npipe:////./pipe/docker"])
def test_a_docker_on_another_machine_is_refused_before_it_is_asked(host: str) -> None:
    with pytest.raises(EngineUnsupported) as caught:
        check_address({"DOCKER_HOST": host})
    assert host in caught.value.message
    assert "unset DOCKER_HOST" in caught.value.next_step
