"""The distribution's packages: what is missing is installed, nothing is removed or replaced."""

from __future__ import annotations

import contextlib
import fcntl
import os
import re
import subprocess
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from .command import alive, run, which
from .console import Step
from .site import DEFAULT_MIRROR, Site, record

POLICY = Path("/usr/sbin/policy-rc.d")
_POLICY_MARK = "# Written by the installer of The Littlest Binder, process "
_FRONTEND_LOCK = Path("/var/lib/dpkg/lock-frontend")
_LOCK_S = 600
_APT = (
    "apt-get", "-q", "-y",
    # Another apt (unattended-upgrades after the boot) holds the lock for minutes.
    "-o", f"DPkg::Lock::Timeout={_LOCK_S}",
    "-o", "Acquire::Retries=3",
    "-o", "APT::Color=0",
    "-o", "Dpkg::Use-Pty=0",
)  # fmt: skip
_AGAIN = "Correct what the last lines say and run the command again."
_updated = False


def installed(names: Sequence[str]) -> set[str]:
    """Those of `names` that dpkg has completely installed."""
    shown = subprocess.run(
        ["dpkg-query", "--show", "--showformat", "${Package} ${db:Status-Status}\n", *names],
        capture_output=True,
        text=True,
        check=False,
    )
    return {line.split()[0] for line in shown.stdout.splitlines() if line.endswith(" installed")}


def candidate(site: Site, name: str) -> str:
    """The version of package `name` that apt would install; empty if it knows none."""
    shown = subprocess.run(
        ["apt-cache", "policy", name], capture_output=True, text=True, check=False, env=site.root_env
    )
    found = re.search(r"^ *Candidate: (\S+)", shown.stdout, re.MULTILINE)
    return "" if found is None or found[1] == "(none)" else found[1]


def update(site: Site, step: Step) -> None:
    """Read the package lists, once in a run.

    A third party's source that does not answer makes apt exit with an error: that is no reason to stop, and
    whether the packages that we need can be had shows when they are installed.
    """
    global _updated
    if _updated:
        return
    step.say("reading the package lists")
    run(step, [*_APT, "update"], env=site.root_env, next_step=_AGAIN, accept=range(256))
    _updated = True


def repair(site: Site, step: Step) -> None:
    """Finish what a killed dpkg left half done, and take away what a killed run of ours left."""
    _remove_own_policy()
    _wait_for_others(step)
    audit = subprocess.run(["dpkg", "--audit"], capture_output=True, text=True, check=False)
    if audit.stdout.strip() or any(Path("/var/lib/dpkg/updates").glob("[0-9]*")):
        step.say("finishing an interrupted installation of packages")
        with services_kept_still(site):
            run(
                step,
                ["dpkg", "--force-confdef", "--force-confold", "--configure", "-a"],
                env=site.root_env,
                next_step=_AGAIN,
                accept=range(256),
                outlives_us=True,
            )
            run(
                step,
                [*_APT, "--no-remove", "--no-install-recommends", "--fix-broken", "install"],
                env=site.root_env,
                next_step=_AGAIN,
                outlives_us=True,
            )


def _wait_for_others(step: Step) -> None:
    """Until no other dpkg or apt is at work: one that a killed run of ours left goes on by itself."""
    with contextlib.suppress(OSError), _FRONTEND_LOCK.open("a") as file:
        deadline = time.monotonic() + _LOCK_S
        while time.monotonic() < deadline:
            try:
                # apt and dpkg lock by fcntl(2), not flock(2).
                fcntl.lockf(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                return
            except OSError:
                step.say("waiting for another installation of packages")
                time.sleep(0.5)


def ensure_packages(site: Site, step: Step, names: Sequence[str], *, next_step: str = _AGAIN) -> list[str]:
    """Install those of `names` that are missing; returns them.

    `--no-remove` makes apt stop where it would have to remove a package of the machine.
    """
    missing = [name for name in names if name not in installed(names)]
    if not missing:
        return []
    update(site, step)
    step.say(f"installing {', '.join(missing)}")
    with services_kept_still(site):
        run(
            step,
            [*_APT, "--no-install-recommends", "--no-remove", "install", *missing],
            env=site.root_env,
            next_step=next_step,
            show=_progress,
            outlives_us=True,
        )
    for name in missing:
        record("package", name)
    return missing


def ensure_programs(site: Site, step: Step, programs: Mapping[str, str]) -> list[str]:
    """Install the packages of those programs or files that are not there: `{program or path: package}`."""
    return ensure_packages(site, step, packages_of(missing(programs)))


def missing(programs: Mapping[str, str]) -> dict[str, str]:
    """Those programs or files that are not there."""
    return {
        thing: package
        for thing, package in programs.items()
        if not (Path(thing).exists() if thing.startswith("/") else which(thing))
    }


def packages_of(programs: Mapping[str, str]) -> list[str]:
    return list(dict.fromkeys(programs.values()))


def _progress(line: str) -> str:
    """apt's lines, shortened to what a person wants to see; empty keeps the line before."""
    if match := re.match(r"(Unpacking|Setting up|Get:\d+ \S+ \S+ \S+) ?(\S+)?", line):
        words = line.split()
        return f"fetching {words[4]}" if line.startswith("Get:") and len(words) > 4 else match[0]
    return ""


@contextlib.contextmanager
def services_kept_still(site: Site) -> Iterator[None]:
    """Where no service manager runs, keep packages from starting services by themselves.

    Their scripts would start an engine that nobody stops, or fail. The machine's own policy, if it has one,
    stays as it is; ours is taken away at the end, and by the next run if this one is killed.
    """
    if site.service_manager or POLICY.exists():
        yield
        return
    POLICY.write_text(f"#!/bin/sh\n{_POLICY_MARK}{os.getpid()}.\nexit 101\n")
    POLICY.chmod(0o755)
    try:
        yield
    finally:
        POLICY.unlink(missing_ok=True)


def _remove_own_policy() -> None:
    with contextlib.suppress(OSError, UnicodeDecodeError):
        found = re.search(re.escape(_POLICY_MARK) + r"(\d+)\.", POLICY.read_text())
        if found and not alive(int(found[1])):
            POLICY.unlink()


def machine_mirror(schemes: tuple[str, ...] = ("http://",)) -> str:
    """The Debian mirror that this machine's own apt uses; empty, for the general one, if it uses none.

    A machine whose institution has a mirror of its own often reaches no other.
    """
    shown = subprocess.run(
        [
            "apt-get",
            "indextargets",
            "--format",
            "$(ORIGIN) $(LABEL) $(COMPONENT) $(REPO_URI)",
            "Created-By: Packages",
        ],
        capture_output=True,
        text=True,
        check=False,
    )
    return choose_mirror(shown.stdout, schemes)


def choose_mirror(targets: str, schemes: tuple[str, ...] = ("http://",)) -> str:
    """The first plain mirror of Debian's main archive among lines of `origin label component uri`."""
    for line in targets.splitlines():
        words = line.split()
        if len(words) == 4 and words[:3] == ["Debian", "Debian", "main"] and words[3].startswith(schemes):
            return words[3].rstrip("/")
    return DEFAULT_MIRROR
