"""From the first command on a fresh machine to a working page, and what the second run takes and changes.

    python tests/benchmarks/first_run.py [--rounds 1]

The machine is that of `tests/fresh_machine.py`: Debian 12 with Python, sudo and certificates, in a container,
without a service manager, so that Docker's start and stop are part of each run. A working page is the front
page behind the sign-in link, answered with 200. Measured are the first run; a second one that only installs
(`--no-start`), between two listings of every file of the machine; a second one until the page works; and the
same command while it is running. Prints the seconds of each and what each step took; exit code 1 if an aim is
missed or the second run changed something.
"""

from __future__ import annotations

import argparse
import re
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))

from desktop import LINK
from fresh_machine import COMMAND, FreshMachine

FIRST_AIM_S = 240.0
SECOND_AIM_S = 5.0

_STEP = re.compile(r"^(\[ *\d+/\d+\]|\[ *[\d.]+ s\]) +(\S.*)$")
# The kernel's, Docker's own, and what every process writes into.
_ELSEWHERE = ("/proc", "/sys", "/dev", "/run", "/tmp", "/var/lib/docker")
# What a run may write: its log, its lock, Docker's log where it keeps Docker.
_WRITTEN = ("/install.log", "/install.lock", "/var/log/littlest-binder/dockerd.log")


@dataclass
class Run:
    """One run of the installer: seconds until its page worked (or it ended), and the lines of its steps."""

    seconds: float = 0.0
    steps: list[str] = field(default_factory=list)

    def show(self, title: str) -> None:
        print(f"{title}: {self.seconds:.1f} s", flush=True)
        for line in self.steps:
            print(f"    {line}", flush=True)


def install_only(machine: FreshMachine) -> Run:
    begun = time.monotonic()
    done = machine.run("sudo", *COMMAND, "--no-start", user="ada")
    return Run(time.monotonic() - begun, [line for line in done.stdout.splitlines() if _STEP.match(line)])


class Started:
    """The command in the foreground; `page` waits for the page behind its link."""

    def __init__(self, machine: FreshMachine) -> None:
        self.machine = machine
        self.run = Run()
        self._begun = time.monotonic()
        self.process = subprocess.Popen(
            machine.command("sudo", *COMMAND, "--no-browser", user="ada"),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )

    def page(self) -> Run:
        assert self.process.stdout is not None
        told = []
        for line in self.process.stdout:
            told.append(line)
            if _STEP.match(line):
                self.run.steps.append(f"{time.monotonic() - self._begun:6.1f} s  {line.rstrip()}")
            if found := LINK.search(line):
                self.machine.page(found[0])
                self.run.seconds = time.monotonic() - self._begun
                return self.run
        raise SystemExit("".join(told[-60:]))

    def stop(self) -> float:
        """Ctrl-C; seconds until everything was stopped."""
        begun = time.monotonic()
        self.machine.run("pkill", "--signal", "INT", "--full", "^python3 installer/bootstrap.py")
        assert self.process.stdout is not None
        rest = self.process.stdout.read()
        assert self.process.wait(timeout=180) == 0, rest
        return time.monotonic() - begun


def listing(machine: FreshMachine) -> dict[str, str]:
    """Every file of the machine: kind, mode, owner, size, time of change and where a link leads."""
    pruned: list[str] = []
    for place in _ELSEWHERE:
        pruned += ["-path", place, "-prune", "-o"]
    shown = machine.run("find", "/", *pruned, "-printf", r"%p\t%y %m %U:%G %s %T@ %l\n").stdout
    entries = (line.split("\t", 1) for line in shown.splitlines() if "\t" in line)
    # A folder's time changes with any file that comes and goes in it; the files themselves are listed.
    return {
        path: re.sub(r"^(d \S+ \S+) .*", r"\1", facts)
        for path, facts in entries
        if not path.endswith(_WRITTEN)
    }


def changes(before: dict[str, str], after: dict[str, str]) -> list[str]:
    return [
        f"{'+' if path not in before else '-' if path not in after else '~'} {path}"
        for path in sorted(before.keys() | after.keys())
        if before.get(path) != after.get(path)
    ]


def one_round() -> bool:
    """Whether every aim was met."""
    with FreshMachine() as machine:
        started = Started(machine)
        first = started.page()
        first.show("first command to a working page")
        begun = time.monotonic()
        again = machine.run("sudo", *COMMAND, user="ada").stdout
        assert LINK.search(again), again
        print(f"the same command while it is running, a new link: {time.monotonic() - begun:.1f} s")
        print(f"Ctrl-C until everything was stopped: {started.stop():.1f} s")
        before = listing(machine)
        installed = install_only(machine)
        changed = changes(before, listing(machine))
        installed.show("second run, --no-start")
        print(f"files that it changed: {len(changed)} of {len(before)}")
        print("".join(f"    {each}\n" for each in changed[:20]), end="", flush=True)
        started = Started(machine)
        second = started.page()
        second.show("second run to a working page")
        started.stop()
    return (
        first.seconds <= FIRST_AIM_S
        and installed.seconds <= SECOND_AIM_S
        and second.seconds <= SECOND_AIM_S
        and not changed
    )


def main(arguments: Sequence[str]) -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--rounds", type=int, default=1)
    rounds = parser.parse_args(arguments).rounds
    print(f"aims: {FIRST_AIM_S:.0f} s, and {SECOND_AIM_S:.0f} s for the second runs")
    met = [one_round() for _ in range(rounds)]
    return 0 if all(met) else 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
