"""What /proc shows of a container, read from files laid out as the kernel lays them, and what follows."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest

from tljh_plugin.engine.isolation import Limits
from tljh_plugin.engine.kernel import Seen, differences, look

LIMITS = Limits(
    uid=1000,
    gid=1001,
    groups=(2000,),
    memory_bytes=512 * 1024**2 + 1,  # the kernel rounds down to pages
    cpus=1.5,
    pids=512,
    shm_bytes=1,
    log_bytes=1,
)
CONTAINER = "c0ffee" * 8
INSPECT = {"Id": CONTAINER, "State": {"Pid": 4321}}
STATUS = {
    "Uid": "1000\t1000\t1000\t1000",
    "Gid": "1001\t1001\t1001\t1001",
    "Groups": "1001 2000 ",
    "NoNewPrivs": "1",
    "Seccomp": "2",
    **dict.fromkeys(("CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb"), "0000000000000000"),
}
AMOUNTS = {"pids": "512", "memory": str(512 * 1024**2), "swap": "0", "cpu": "150000 100000"}


def seen(status: dict[str, str] | None = None, amounts: dict[str, str] | None = None, **more: Any) -> Seen:
    return Seen(status={**STATUS, **(status or {})}, amounts={**AMOUNTS, **(amounts or {})}, **more)


def test_what_was_asked_for_is_no_difference() -> None:
    assert differences(seen(), LIMITS) == []
    assert differences(seen({"Groups": ""}), LIMITS) == []


@pytest.mark.parametrize(
    ("status", "named"),
    [
        ({"Uid": "0\t0\t0\t0"}, "Uid 0"),
        ({"Uid": "1000\t0\t1000\t1000"}, "Uid 0 1000"),
        ({"Uid": ""}, "Uid unknown"),
        ({"Gid": "0\t0\t0\t0"}, "Gid 0"),
        ({"Groups": "1001 4242"}, "groups 4242"),
        ({"CapEff": "0000000000000001"}, "CapEff"),
        ({"CapBnd": "00000000a80425fb"}, "CapBnd"),
        ({"CapInh": "0000000000000400"}, "CapInh"),
        ({"NoNewPrivs": "0"}, "gain privileges"),
        ({"Seccomp": "0"}, "system calls"),
    ],
)
def test_each_privilege_too_many_is_told(status: dict[str, str], named: str) -> None:
    (found,) = differences(seen(status), LIMITS)
    assert named in found


@pytest.mark.parametrize(
    ("amounts", "named"),
    [
        ({"pids": "max"}, "pids is max"),
        ({"pids": "513"}, "pids is 513"),
        ({"pids": ""}, "pids is missing"),
        ({"memory": "max"}, "memory is max"),
        ({"memory": str(1 << 40)}, "memory is"),
        ({"swap": "max"}, "swap is max"),
        ({"swap": "4096"}, "swap is 4096"),
        ({"cpu": "max 100000"}, "processors is max"),
        ({"cpu": "200000 100000"}, "processors is 200000"),
        ({"cpu": "-1 100000"}, "processors is -1"),
    ],
)
def test_each_missing_limit_is_told(amounts: dict[str, str], named: str) -> None:
    (found,) = differences(seen(None, amounts), LIMITS)
    assert named in found


def test_a_kernel_without_swap_has_no_file_for_it() -> None:
    assert differences(seen(None, {"swap": ""}), LIMITS) == []
    assert differences(seen(None, {"swap": ""}, version=1), LIMITS) != []
    assert differences(seen(None, {"swap": AMOUNTS["memory"]}, version=1), LIMITS) == []


def test_a_namespace_of_the_machine_is_told() -> None:
    assert differences(seen(shared=("net",)), LIMITS) == ["it shares the net namespace of this machine"]


def lay_out(root: Path, cgroup: str, amounts: dict[str, str]) -> tuple[Path, Path]:
    """A /proc and a /sys/fs/cgroup with one process."""
    proc, cgroups = root / "proc", root / "cgroup"
    for owner, number in (("4321", "1"), ("self", "2")):
        (proc / owner / "ns").mkdir(parents=True)
        for name in ("pid", "net", "ipc", "uts", "mnt"):
            # The network is shared, all else is not.
            os.symlink(f"{name}:[{'7' if name == 'net' else number}]", proc / owner / "ns" / name)
    (proc / "4321" / "status").write_text("".join(f"{name}:\t{value}\n" for name, value in STATUS.items()))
    (proc / "4321" / "cgroup").write_text(cgroup)
    for name, content in amounts.items():
        (cgroups / name).parent.mkdir(parents=True, exist_ok=True)
        (cgroups / name).write_text(content)
    return proc, cgroups


def test_control_groups_of_version_2_are_read(tmp_path: Path) -> None:
    scope = f"system.slice/docker-{CONTAINER}.scope"
    files = {
        "cgroup.controllers": "cpu memory pids",
        f"{scope}/pids.max": "512\n",
        f"{scope}/memory.max": "536870912\n",
        f"{scope}/memory.swap.max": "0\n",
        f"{scope}/cpu.max": "150000 100000\n",
    }
    found = look(INSPECT, *lay_out(tmp_path, f"0::/{scope}\n", files))
    assert found == seen({name: value.strip() for name, value in STATUS.items()}, shared=("net",))


def test_control_groups_of_version_1_are_read(tmp_path: Path) -> None:
    group = f"docker/{CONTAINER}"
    files = {
        f"pids/{group}/pids.max": "512\n",
        f"memory/{group}/memory.limit_in_bytes": "536870912\n",
        f"memory/{group}/memory.memsw.limit_in_bytes": "536870912\n",
        f"cpu/{group}/cpu.cfs_quota_us": "150000\n",
        f"cpu/{group}/cpu.cfs_period_us": "100000\n",
    }
    lines = f"3:memory:/{group}\n2:cpu,cpuacct:/{group}\n1:pids:/{group}\n0::/\n"
    found = look(INSPECT, *lay_out(tmp_path, lines, files))
    assert found is not None
    assert (found.version, dict(found.amounts)) == (1, {**AMOUNTS, "swap": AMOUNTS["memory"]})


def test_a_limit_that_cannot_be_looked_at_is_no_difference_and_a_missing_one_is(tmp_path: Path) -> None:
    scope = f"docker/{CONTAINER}"
    proc, cgroups = lay_out(tmp_path, f"0::/{scope}\n", {"cgroup.controllers": ""})
    found = look(INSPECT, proc, cgroups)
    assert found is not None
    assert found.amounts == {}
    (cgroups / scope).mkdir(parents=True)
    found = look(INSPECT, proc, cgroups)
    assert found is not None
    assert any("pids is missing" in each for each in differences(found, LIMITS))


def test_somebody_elses_process_of_that_number_is_not_taken_for_it(tmp_path: Path) -> None:
    assert look(INSPECT, *lay_out(tmp_path, "0::/user.slice\n", {})) is None
    assert look({"Id": CONTAINER, "State": {"Pid": 0}}, tmp_path, tmp_path) is None
