"""How long `littlest-binder doctor` takes: the whole command, and each of its checks.

    python tests/benchmarks/doctor.py [--rounds 5]

On an installation with a server that runs, a base image and a store, made for it and removed afterwards;
once more with a Docker that cannot be reached, and with one that accepts connections and never answers.
Prints the seconds of each round, the medians, and the slowest checks; exit code 1 if a median of the whole
command is above 5 s.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))

from git_server import GitServer
from machine import Machine

from tljh_plugin.build.base import ensure_base
from tljh_plugin.installation import ensure_state
from tljh_plugin.operation.doctor import all_checks, examine, open_site
from tljh_plugin.settings import from_mapping

AIM_S = 5.0
SLOWEST = 8


def command(state: Path, docker_host: str) -> float:
    """Seconds of the whole command, from its start to its end."""
    environment = {**os.environ, "LITTLEST_BINDER_STATE": str(state), "DOCKER_HOST": docker_host}
    began = time.monotonic()
    subprocess.run(
        [sys.executable, "-m", "tljh_plugin.cli", "doctor", "--json"],
        env=environment,
        stdout=subprocess.DEVNULL,
        check=False,
    )
    return time.monotonic() - began


async def each_check(state: Path, rounds: int) -> list[tuple[float, str]]:
    """The median of each check made alone, the slowest first."""
    found = []
    for check in all_checks():
        seconds = []
        for _ in range(rounds):
            async with open_site(state) as site:
                seconds.append((await examine(site, [check], limit_s=30)).seconds)
        found.append((statistics.median(seconds), check.id))
    return sorted(found, reverse=True)


async def measure(folder: Path, rounds: int) -> bool:
    docker_host = os.environ.get("DOCKER_HOST", "unix:///var/run/docker.sock")
    settings = from_mapping({}, platform="jupyterhub", state_dir=folder / "base")
    ensure_state(settings)
    await ensure_base(settings, lambda _: None)
    hanging = socket.socket(socket.AF_UNIX)
    hanging.bind(str(folder / "hangs.sock"))
    hanging.listen()
    hosts = {
        "running": docker_host,
        "Docker not there": f"unix://{folder}/none.sock",
        "Docker hangs": f"unix://{folder}/hangs.sock",
    }
    good = True
    with GitServer(folder / "served") as served:
        async with Machine(folder / "lab", served, docker_host) as machine:
            await machine.ready("one", machine.repository())
            for name, host in hosts.items():
                seconds = [await asyncio.to_thread(command, machine.state, host) for _ in range(rounds)]
                median = statistics.median(seconds)
                good = good and median <= AIM_S
                shown = " ".join(f"{each:.2f}" for each in seconds)
                print(f"{name:<18} median {median:.2f} s (aim {AIM_S:g} s)   {shown}", flush=True)
            for median, check in (await each_check(machine.state, rounds))[:SLOWEST]:
                print(f"  {check:<18} {median:.3f} s")
    hanging.close()
    return good


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rounds", type=int, default=5)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        return 0 if asyncio.run(measure(Path(folder), arguments.rounds)) else 1


if __name__ == "__main__":
    sys.exit(main())
