"""The whole test suite by one command: `tests/run [--soak] [--lanes N] [arguments of pytest]`.

Installs what is missing with the installer's own steps (Docker, buildx, the proxy, the Debian base image)
plus Debian's Chromium, makes an environment in `tests/.state`, starts Docker if none answers and stops it
again, then runs ruff, mypy and pytest; without arguments for pytest side by side, each worker in a machine of
its own (lanes.py). Afterwards Docker's containers, networks and volumes and the processes must be as before,
in each of them. Exit code: of the first check that failed. The standard library only.
"""

from __future__ import annotations

import argparse
import contextlib
import fcntl
import os
import shlex
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path[:0] = [str(ROOT / "installer"), str(ROOT / "tests")]
sys.dont_write_bytecode = True

import lanes  # noqa: E402
from lanes import Lane  # noqa: E402
from leftovers import collect_orphans, difference, docker_things, left_processes  # noqa: E402
from steps import base_image, buildx, engine, packages, project, proxy  # noqa: E402
from steps.console import Console, Step, StepFailed  # noqa: E402
from steps.person import Person  # noqa: E402
from steps.site import Site, has_service_manager  # noqa: E402

STATE = ROOT / "tests" / ".state"
VENV = STATE / "venv"
# TLJH has JupyterHub 5, a desktop 6: what belongs to the hub is tested with both.
VENV_5 = STATE / "venv-5"
# A folder with `the-littlest-jupyterhub`, TLJH's sources: tests/integration/tljh runs them.
TLJH_FOLDER = "LITTLEST_BINDER_TLJH_FOLDER"
_DEBIAN = {
    "git": "git",
    "ssh": "openssh-client",
    "/etc/ssl/certs/ca-certificates.crt": "ca-certificates",
    "chromium": "chromium",
    "/usr/share/fonts/truetype/dejavu/DejaVuSans.ttf": "fonts-dejavu-core",
    "unshare": "util-linux",
    "ip": "iproute2",
    "ps": "procps",
    # Look at the menu entry and at the virtual machine's files; Vagrant itself is too large for each run.
    "desktop-file-validate": "desktop-file-utils",
    "ruby": "ruby",
    "shellcheck": "shellcheck",
}
# Set this where others use the same Docker meanwhile: a difference is then shown, and is no failure.
SHARED = "LITTLEST_BINDER_SHARED_DOCKER"


def install(site: Site, docker: engine.Engine, console: Console) -> None:
    """Everything that the tests need; each step looks before it acts."""
    for name, ensure in (
        ("Debian packages", lambda step: _debian(site, step)),
        ("Docker engine", docker.ensure),
        ("Docker client", lambda step: engine.ensure_client(site, step)),
        ("Docker buildx", lambda step: buildx.ensure(site, step)),
        ("Python environment", lambda step: _environment(site, step)),
        ("JupyterHub 5", lambda step: _environment_5(replace(site, venv=VENV_5), step)),
        ("Proxy", lambda step: proxy.ensure(site, step)),
        ("Debian base image", lambda step: base_image.ensure(site, step)),
    ):
        console.do(name, ensure)


def _debian(site: Site, step: Step) -> str:
    packages.repair(site, step)
    added = packages.ensure_programs(site, step, _DEBIAN)
    # A library that Playwright's own Node.js needs; no program shows that it is there.
    added += packages.ensure_packages(site, step, ["libatomic1"])
    return f"installed {', '.join(added)}" if added else "as they were"


def _environment(site: Site, step: Step) -> str:
    wanted = {
        "project": project.digest(ROOT, [ROOT / "pyproject.toml", ROOT / "tljh_plugin" / "__init__.py"]),
        "python": project.python_version(project.base_python()),
    }
    found = project.read_stamp(VENV)
    if found == wanted:
        return "as it was"
    project.ensure_venv_package(site, step)
    project.remake_venv(site, step, keep=found.get("python") == wanted["python"])
    project.pip_install(site, step, ["--editable", f"{ROOT}[test]"])
    project.write_stamp(VENV, wanted)
    return "installed"


def _environment_5(site: Site, step: Step) -> str:
    """The other major of JupyterHub with pytest, and what TLJH's own modules import if they are tested."""
    wanted_too = ["pytest", "pytest-asyncio", "pytest-timeout", "hypothesis"]
    if os.environ.get(TLJH_FOLDER):
        wanted_too += [
            "filelock",
            "jupyterhub-systemdspawner",
            "jupyterhub-firstuseauthenticator",
            "jupyterhub-traefik-proxy",
        ]
    wanted = {
        "project": project.digest(ROOT, [ROOT / "pyproject.toml", ROOT / "tljh_plugin" / "__init__.py"]),
        "python": project.python_version(project.base_python()),
        "tljh": str(bool(os.environ.get(TLJH_FOLDER))),
    }
    found = project.read_stamp(site.venv)
    if found == wanted:
        return "as it was"
    project.remake_venv(site, step, keep=found.get("python") == wanted["python"])
    project.pip_install(site, step, ["--editable", str(ROOT), "jupyterhub>=5.5.1,<6", *wanted_too])
    project.write_stamp(site.venv, wanted)
    return "installed"


def checks(arguments: list[str], env: dict[str, str], workers: Sequence[Lane]) -> int:
    """ruff, mypy and pytest, all of them, pytest last; the first exit code that is not 0.

    With `workers` pytest gives them file by file, so that what the tests of a file share is made once; the
    files with long tests come first.
    """
    worst = 0
    if workers:
        side_by_side = ["--dist=loadfile", "--no-loadscope-reorder", f"--basetemp={lanes.TEMPORARY}"]
        arguments = [
            *side_by_side,
            *(f"--tx=popen//python={shlex.quote(str(lane.python))}" for lane in workers),
            *arguments,
        ]
    for title, command in (
        ("ruff check", ["ruff", "check", "--quiet", "--extend-exclude", str(STATE), "."]),
        ("ruff format", ["ruff", "format", "--check", "--quiet", "--extend-exclude", str(STATE), "."]),
        ("mypy", ["mypy", "--no-error-summary"]),
        ("mypy installer", ["mypy", "--no-error-summary", "installer", "tests/suite.py"]),
        ("pytest", ["pytest", f"--junit-xml={STATE / 'pytest.xml'}", *arguments]),
    ):
        print(f"== {title}", flush=True)
        begun = time.monotonic()
        code = run_to_the_end([str(VENV / "bin" / command[0]), *command[1:]], env)
        if title != "pytest":
            print(f"   {'failed' if code else 'passed'} in {time.monotonic() - begun:.1f} s", flush=True)
        worst = worst or code
    return worst


def _heed_signals() -> None:
    """Started in the background or by nohup(1) we ignore signals, and all our children would, which tests end
    by such signals.
    """
    for signum in (signal.SIGINT, signal.SIGHUP, signal.SIGQUIT):
        if signal.getsignal(signum) is signal.SIG_IGN:
            signal.signal(signum, signal.SIG_DFL)


def run_to_the_end(command: list[str], env: dict[str, str]) -> int:
    """Run `command`, passing a request to end on to it; meanwhile bury the orphans that fell to us.

    Nobody else would: a test that waits until a killed process is gone would see it for ever.
    """
    _heed_signals()
    process = subprocess.Popen(command, cwd=ROOT, env=env)
    # Ctrl-C in a terminal reaches pytest by itself; pytest then ends its tests in order.
    before = {
        signal.SIGINT: signal.signal(signal.SIGINT, lambda signum, frame: None),
        # On SIGTERM pytest would end at once and leave what its fixtures started.
        signal.SIGTERM: signal.signal(
            signal.SIGTERM, lambda signum, frame: process.send_signal(signal.SIGINT)
        ),
        signal.SIGHUP: signal.signal(signal.SIGHUP, lambda signum, frame: process.send_signal(signal.SIGINT)),
    }
    try:
        while True:
            ended, status = os.waitpid(-1, 0)
            if ended == process.pid:
                process.returncode = os.waitstatus_to_exitcode(status)
                return process.returncode
    finally:
        for signum, handler in before.items():
            signal.signal(signum, handler)


@contextlib.contextmanager
def machines(asked: int | None, site: Site, env: dict[str, str], console: Console) -> Iterator[list[Lane]]:
    """As many lanes as were `asked` for, else as many as this machine carries, which may be none: it is said
    why, and the tests run one after the other.

    Raises `StepFailed` if those that were asked for cannot be made.
    """
    saved = STATE / "lanes" / "debian.tar"
    with contextlib.ExitStack() as stack:
        made: list[Lane] = []

        def make(step: Step) -> str:
            count, why = lanes.how_many(ROOT) if asked is None else (asked, "as asked for")
            if count == 0:
                return f"none, the tests run one after the other: {why}"
            packages.ensure_programs(site, step, lanes.PROGRAMS)
            lanes.save(site, step, saved)
            for number in range(1, count + 1):
                step.say(f"machine {number}")
                made.append(
                    stack.enter_context(Lane(STATE / "lanes" / str(number), VENV / "bin/python", env))
                )
            for lane in made:
                lane.wait_until_ready()
            return f"{count} ({why}), each with a network and a Docker of its own"

        try:
            console.do_uncounted("Machines for tests", make)
        except StepFailed as error:
            if asked is not None:
                raise
            console.explain(error)
            console.say("The tests run one after the other.")
            stack.close()
            made.clear()
        finally:
            saved.unlink(missing_ok=True)
        stack.callback(shutil.rmtree, lanes.TEMPORARY, ignore_errors=True)
        yield made


@contextlib.contextmanager
def only_run_here() -> Iterator[None]:
    """One suite at a time in one checkout: they would install into the same folder."""
    STATE.mkdir(parents=True, exist_ok=True)
    with (STATE / "lock").open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise SystemExit(f"Another tests/run is running in {ROOT}: wait until it has ended.") from None
        yield


def main(arguments: list[str]) -> int:
    parser = argparse.ArgumentParser(
        prog="tests/run",
        description="Set up what is missing, then run ruff, mypy and pytest. Other arguments go to pytest: "
        "`tests/run tests/unit -k spec`.",
    )
    parser.add_argument(
        "--soak",
        action="store_true",
        help="full counts instead of small ones; a repeated run goes on with what has not passed yet",
    )
    parser.add_argument(
        "--soak-minutes", type=float, metavar="N", help="end a soak run in order after N minutes"
    )
    parser.add_argument(
        "--lanes",
        type=int,
        metavar="N",
        help="run the tests in N machines side by side, each with a network, a process table and a Docker of "
        "its own; 0: one after the other, on this machine (default: as many as it carries if no other "
        "arguments for pytest are given, else 0)",
    )
    parser.add_argument("--setup-only", action="store_true", help="set up what is missing and stop")
    given, for_pytest = parser.parse_known_args(arguments)
    if os.geteuid() != 0:
        raise SystemExit(
            f"Docker and Debian packages need root rights: sudo {ROOT}/tests/run {' '.join(arguments)}"
        )
    root = Person("root", 0, 0, Path(os.environ.get("HOME", "/root")))
    site = Site(
        root, STATE, VENV, ROOT, dict(os.environ),
        mirror=packages.machine_mirror(), service_manager=has_service_manager(),
    )  # fmt: skip
    env = site.person_env
    if given.lanes and given.soak:
        parser.error("--soak notes what has passed, which lanes do not share: `--soak-part K/N` does")
    if given.lanes is not None and given.lanes < 0:
        parser.error(f"--lanes {given.lanes}: give a number from 0 on")
    if given.lanes is None and (given.soak or for_pytest):
        given.lanes = 0
    env |= {key: os.environ[key] for key in ("CI", "GITHUB_ACTIONS", TLJH_FOLDER) if key in os.environ}
    if given.soak:
        for_pytest.append("--soak")
    if given.soak_minutes is not None:
        for_pytest.append(f"--soak-minutes={given.soak_minutes:g}")
    with only_run_here():
        collect_orphans()
        console = Console(total=8)
        docker = engine.Engine(site)
        with (STATE / "install.log").open("w") as log:
            console.write_log_to(log)
            try:
                try:
                    install(site, docker, console)
                except StepFailed as error:
                    console.explain(error)
                    return 1
                if given.setup_only:
                    return 0
                before = docker_things()
                with machines(given.lanes, site, env, console) as workers:
                    code = checks(for_pytest, env, workers)
                    left = [
                        f"machine {number} for tests: {line}"
                        for number, lane in enumerate(workers, 1)
                        for line in lane.end()
                    ]
                left += difference(before, docker_things()) + left_processes(docker.processes)
            except StepFailed as error:
                console.explain(error)
                return 1
            finally:
                if docker.started_by_us:
                    console.do_uncounted("Stopping Docker", docker.stop)
    if left:
        print("\n".join(["== Not as before:", *left]), file=sys.stderr)
    return code or int(bool(left) and not os.environ.get(SHARED))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
