"""`bootstrap.py desktop`: Binder at home, from nothing to a hub in the foreground."""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import shlex
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

from steps import base_image, buildx, engine, machine, menu, packages, project, proxy, running, stages
from steps.command import run, which
from steps.console import Console, Step, StepFailed
from steps.person import the_person
from steps.site import DEFAULT_MIRROR, Site, has_service_manager

DEFAULT_PORT = 8888
_SETTINGS = "tljh_plugin.operation.settings_file"
# The first start makes the base image, which takes minutes.
_LINK_S = 900.0
# Stopping servers, service, hub and engine takes seconds.
_STOPPING_S = 60.0
_LOG_BYTES = 5 * 1024**2
# Programs or files that the product needs, and the packages they come in.
_DEBIAN = {
    "git": "git",
    "ssh": "openssh-client",
    "/etc/ssl/certs/ca-certificates.crt": "ca-certificates",
    "unshare": "util-linux",
    "gpasswd": "passwd",
}


class Desktop:
    """One run of the command."""

    def __init__(self, options: argparse.Namespace, checkout: Path) -> None:
        self._options = options
        self._person = the_person(os.environ)
        state = self._person.state_dir(os.environ)
        self._site = Site(
            self._person,
            state,
            state / "venv",
            checkout,
            dict(os.environ),
            mirror=options.mirror or DEFAULT_MIRROR,
            service_manager=has_service_manager(),
        )
        self._engine = engine.Engine(self._site)
        self._base_image = base_image.Making()
        self._shown: dict[str, object] | None = None
        self._kept = False
        self._steps: tuple[tuple[str, Callable[[Step], str]], ...] = (
            ("Debian packages", self._ensure_packages),
            ("Docker engine", self._engine.ensure),
            ("Docker client", self._ensure_client),
            ("Docker buildx", lambda step: buildx.ensure(self._site, step)),
            ("Access to Docker", lambda step: engine.ensure_access(self._site, step, self._person)),
            ("Python environment", self._ensure_environment),
            ("Settings", self._ensure_settings),
            ("Proxy", lambda step: proxy.ensure(self._site, step)),
            ("Command", self._ensure_command),
            ("Debian base image", lambda step: self._base_image.ensure(self._site, step)),
        )
        self._console = Console(total=1 + len(self._steps), verbose=options.verbose)

    def run(self) -> int:
        """The exit code: the hub's; 1 if a step failed, 2 if the machine does not fit, 128 + signal."""
        begun = time.monotonic()
        return stages.run(
            self._console, self._link_if_running, self._refusal, lambda: self._install_and_start(begun)
        )

    # -- before anything is changed -------------------------------------------------------------------

    def _link_if_running(self) -> int | None:
        """While one is running, a new sign-in link is all that is made."""
        held = running.holder(self._site.state, self._person)
        if not held:
            return None
        number = f" (process {held['pid']})" if held["pid"] else ""
        if held["phase"] == "stopping" and self._gone_soon(held):
            return None
        if held["phase"] != "running":
            self._console.say(f"Another run of this command is {held['phase']}{number}.")
            self._console.say("Wait for it; this command then prints a new sign-in link.")
            return 1
        self._console.say(f"The Littlest Binder is running{number}.")
        step = Step(self._console, "Sign-in link", "")
        while True:
            code, text = running.new_link(self._site)
            if code == 0:
                self._console.say("A new sign-in link:")
                self._console.say(text)
                return 0
            if running.holder(self._site.state, self._person) != held:
                self._console.say("It has ended meanwhile: starting it again.")
                return self._link_if_running()
            if step.seconds > _LINK_S:
                self._console.say(f"It gave no link for {_LINK_S:.0f} s. What it said last: {text}")
                self._console.say("End it with Ctrl-C where it runs, then run the same command again.")
                return 1
            step.say("waiting until it is ready")
            time.sleep(1.0)

    def _gone_soon(self, held: dict[str, object]) -> bool:
        """Whether a run that is stopping has ended within `_STOPPING_S`."""
        self._console.say("The Littlest Binder is stopping: this command starts it again after that.")
        step = Step(self._console, "Another run", "")
        while running.holder(self._site.state, self._person) == held:
            if step.seconds > _STOPPING_S:
                return False
            step.say("waiting until it has stopped")
            time.sleep(0.2)
        return True

    def _refusal(self) -> int | None:
        def look(step: Step, found: list[machine.Problem]) -> str:
            here = machine.read(
                self._person, self._site.state, self._site.checkout, os.environ, port=self._port()
            )
            found.extend(machine.problems(here, shlex.join(["sudo", "python3", *sys.argv])))
            return machine.summary(here)

        return stages.preflight(self._console, look)

    def _port(self) -> int:
        """The option's, else the one in the person's settings, else the default."""
        if self._options.port:
            return int(self._options.port)
        with contextlib.suppress(KeyError, TypeError, ValueError):
            return int(str(self._settings_of_before()["port"]))
        return DEFAULT_PORT

    def _settings_of_before(self) -> dict[str, object]:
        """What the settings of an earlier installation say; empty if there is none, or they are not valid."""
        if self._shown is None:
            self._shown = {}
            if self._has_command():
                shown = subprocess.run(
                    self._settings_command(),
                    capture_output=True,
                    text=True,
                    check=False,
                    cwd="/",
                    env=self._site.person_env,
                    **self._person.as_child(),
                )
                with contextlib.suppress(ValueError):
                    self._shown = dict(json.loads(shown.stdout))
        return self._shown

    def _has_command(self) -> bool:
        with self._person.acting():
            return Path(running.command(self._site)).exists()

    # -- the steps -----------------------------------------------------------------------------------

    def _install_and_start(self, begun: float) -> int:
        with contextlib.ExitStack() as stack:
            try:
                lock = stack.enter_context(self._own_state())
                stack.callback(self._stop_engine)
                stack.callback(self._base_image.end)
                for name, ensure in self._steps:
                    self._console.do(name, ensure)
            except StepFailed as error:
                self._console.explain(error)
                self._console.say(stages.GOES_ON)
                return 1
            self._console.say(f"Installed: every step took {time.monotonic() - begun:.0f} s together.")
            if self._options.no_start:
                self._console.say("Start it with the same command without --no-start.")
                return 0
            lock.write("running")
            self._console.say("Starting The Littlest Binder; Ctrl-C stops it.")
            code = running.foreground(
                self._site, ["--no-browser"] if self._options.no_browser else [], self._engine.lifeline
            )
            lock.write("stopping")
            self._console.log(f"littlest-binder up ended with exit code {code}")
        return code

    @contextlib.contextmanager
    def _own_state(self) -> Iterator[running.Lock]:
        """The person's folder, locked, with the log open."""
        state = self._site.state
        try:
            with self._person.acting():
                state.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise StepFailed(
                f"{self._person.name} cannot make the folder {error.filename}: {error.strerror}.",
                next_step="Correct its owner or the free disk, then run the command again.",
            ) from error
        with running.lock(self._site) as lock:
            with self._person.acting():
                log = running.open_log(state / "install.log", _LOG_BYTES)
            with log:
                self._console.write_log_to(log)
                try:
                    yield lock
                finally:
                    self._console.write_log_to(None)

    def _stop_engine(self) -> None:
        if self._engine.started_by_us:
            with running.unstoppable():
                self._console.do_uncounted("Stopping Docker", self._engine.stop)

    def _ensure_packages(self, step: Step) -> str:
        """What is certainly missing comes in one call of apt, which takes long to begin and to end."""
        packages.repair(self._site, step)
        wanted = packages.packages_of(packages.missing(_DEBIAN)) + project.venv_package()
        first = which("dockerd") is None and not self._engine.answers(step)
        if first:
            wanted += engine.packages_of_engine() + packages.packages_of(
                packages.missing(base_image.PROGRAMS)
            )
        added = packages.ensure_packages(
            self._site, step, wanted, **({"next_step": engine.NO_ROOM} if first else {})
        )
        return f"installed {', '.join(added)}" if added else "as they were"

    def _ensure_client(self, step: Step) -> str:
        """While the next steps wait for the network, the base image's packages can be unpacked already."""
        text = engine.ensure_client(self._site, step)
        site = self._expected_site()
        if site is not None:
            self._base_image.begin(site, step)
        return text

    def _ensure_environment(self, step: Step) -> str:
        text = project.ensure_environment(self._site, step)
        self._kept = text.endswith(project.KEPT)
        return text

    def _expected_site(self) -> Site | None:
        """With the release and mirror that the settings will most likely have; None if nobody knows yet."""
        options, before = self._options, self._settings_of_before()
        with self._person.acting():
            unknown = not before and (self._site.state / "config.yaml").exists()
        if unknown:
            return None
        mirror = options.mirror or before.get("mirror") or packages.machine_mirror()
        release = options.release or before.get("release") or self._site.release
        return replace(self._site, release=str(release), mirror=str(mirror))

    def _ensure_settings(self, step: Step) -> str:
        """The options are kept in the person's settings, where they can be changed later."""
        options = self._options
        chosen = {
            key: value
            for key, value in (
                ("desktop.port", options.port),
                ("build.release", options.release),
                ("build.mirror", options.mirror),
            )
            if value
        }
        before = self._settings_of_before()
        default = "" if before.get("mirror") else packages.machine_mirror()
        unless_set = {"build.mirror": default} if default != DEFAULT_MIRROR else {}
        if self._kept and before and not chosen and not unless_set:
            return self._take(before)
        given = {"set": chosen, "default": unless_set} if chosen or unless_set else {}
        lines = run(
            step,
            [*self._settings_command(), *([json.dumps(given)] if given else [])],
            env=self._site.person_env,
            person=self._person,
            next_step=f"Correct {self._site.state / 'config.yaml'}, then run the command again.",
        )
        return self._take(json.loads(lines[-1]))

    def _take(self, now: dict[str, object]) -> str:
        """Go on with these settings."""
        self._site = replace(self._site, release=str(now["release"]), mirror=str(now["mirror"]))
        mirror = now["mirror"] or "debootstrap's own mirror"
        return f"port {now['port']}, Debian {now['release']} from {mirror}"

    def _ensure_command(self, step: Step) -> str:
        text = project.ensure_command(self._site, step)
        if not self._options.no_menu and menu.is_wanted(self._site):
            text += f"; {menu.ensure(self._site, step)}"
        return text

    def _settings_command(self) -> list[str]:
        return [str(self._site.venv / "bin" / "python"), "-m", _SETTINGS]
