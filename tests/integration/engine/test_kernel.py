"""What the kernel shows of real containers: ours as they should be, others with all that they have."""

from __future__ import annotations

import subprocess
from typing import Any

import pytest
from waiting import until

from tljh_plugin.engine import ContainerSpec, Engine, Limits
from tljh_plugin.engine.kernel import differences, look
from tljh_plugin.errors import IsolationBroken
from tljh_plugin.launch import isolation

pytestmark = pytest.mark.docker

DEBIAN = "littlest-binder/debian:bookworm"


def docker(*arguments: str) -> str:
    done = subprocess.run(["docker", *arguments], check=True, capture_output=True, text=True)
    return done.stdout.strip()


async def started(engine: Engine, limits: Limits) -> dict[str, Any]:
    spec = ContainerSpec(image=DEBIAN, command=("sleep", "600"), limits=limits, kind="server")
    found = await engine.inspect(await engine.start(spec))
    assert found is not None
    return found


async def test_a_container_of_ours_is_as_it_was_asked_to_be(engine: Engine, limits: Limits) -> None:
    found = await started(engine, limits)
    try:
        await isolation.check_kernel(found, limits)
        seen = look(found)
        assert seen is not None
        assert set(seen.amounts) == {"pids", "memory", "swap", "cpu"}
        assert seen.status["Seccomp"] == "2"
        assert seen.shared == ()
    finally:
        await engine.remove(found["Id"])


@pytest.mark.parametrize(
    ("change", "told"),
    [
        (("--pids-limit", "100000"), "limit of pids is"),
        (("--memory", "2g", "--memory-swap", "2g"), "limit of memory is"),
        (("--cpu-quota", "400000"), "limit of processors is"),
    ],
)
async def test_a_limit_that_was_raised_behind_our_back_is_told(
    engine: Engine, limits: Limits, change: tuple[str, ...], told: str
) -> None:
    found = await started(engine, limits)
    try:
        docker("update", *change, found["Id"])
        with pytest.raises(IsolationBroken, match=told):
            await isolation.check_kernel(found, limits)
    finally:
        await engine.remove(found["Id"])


async def test_a_container_without_our_rules_is_told_in_full(engine: Engine, limits: Limits) -> None:
    identifier = docker("run", "--detach", "--user", "0", "--network", "host", DEBIAN, "sleep", "600")
    try:
        found = await engine.inspect(identifier)
        assert found is not None

        def told() -> str:
            seen = look(found)
            assert seen is not None
            return "; ".join(differences(seen, limits))

        for words in (
            "Uid 0, not 1000", "Gid 0, not 1000", "CapEff", "CapBnd", "NoNewPrivs is not 1",
            "the net namespace", "limit of pids", "limit of memory", "limit of swap", "limit of processors",
        ):  # fmt: skip
            await until(lambda words=words: words in told())  # type: ignore[misc]
    finally:
        docker("rm", "--force", identifier)
