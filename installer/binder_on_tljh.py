"""`bootstrap.py tljh`: a server for several people, from nothing, or onto a TLJH that is already there."""

from __future__ import annotations

import argparse
import contextlib
import os
import shlex
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

from steps import (
    base_image,
    buildx,
    engine,
    hub,
    machine,
    offline,
    packages,
    plugin,
    project,
    running,
    server,
    stages,
    tljh,
)
from steps.command import which
from steps.console import Console, Step, StepFailed
from steps.person import Person
from steps.site import LOG_DIR, RECORD, Site, has_service_manager

_LOG_BYTES = 5 * 1024**2
_DEBIAN = {
    "git": "git",
    "ssh": "openssh-client",
    "/etc/ssl/certs/ca-certificates.crt": "ca-certificates",
    "unshare": "util-linux",
    "sudo": "sudo",
    "iptables": "iptables",
}


class OnTljh:
    """One run of the command."""

    def __init__(self, options: argparse.Namespace, checkout: Path) -> None:
        self._options = options
        root = Person("root", 0, 0, Path("/root"))
        # Not below /opt/tljh/state, which TLJH makes itself, with rights of its own choice.
        state = RECORD.parent / "tljh"
        self._site = Site(
            root, state, tljh.HUB, checkout, dict(os.environ),
            release=options.release or "bookworm",
            mirror=options.mirror or packages.machine_mirror(),
            service_manager=has_service_manager(),
        )  # fmt: skip
        self._engine = engine.Engine(self._site)
        self._folder = offline.look(options.offline) if options.offline else None
        self._base_image = base_image.Making()
        self._fresh = False
        self._asked = False
        self._steps: tuple[tuple[str, Callable[[Step], str]], ...] = (
            ("Debian packages", self._ensure_packages),
            ("Docker engine", self._ensure_engine),
            ("Docker client", self._ensure_client),
            ("Docker buildx", lambda step: buildx.ensure(self._site, step)),
            ("TLJH", self._ensure_tljh),
            ("The package", self._ensure_plugin),
            ("State and secrets", lambda step: hub.ensure_state(self._site, step)),
            ("Administrator", self._ensure_password),
            ("Command", lambda step: project.ensure_command(self._site, step)),
            ("Service unit", lambda step: hub.ensure_unit(self._site, step)),
            ("Hub", lambda step: hub.ensure_hub(self._site, step)),
            ("Proxy", lambda step: hub.ensure_links(self._site, step)),
            ("Debian base image", self._ensure_base_image),
            ("Service", lambda step: hub.ensure_service(self._site, step)),
            ("First image", lambda step: hub.first_image(self._site, step)),
            ("Health check", lambda step: hub.check(self._site, step)),
        )
        self._console = Console(total=1 + len(self._steps), verbose=options.verbose)

    def run(self) -> int:
        """The exit code: 1 if a step failed, 2 if the machine does not fit or nobody agreed, 128 + signal."""
        begun = time.monotonic()
        return stages.run(
            self._console,
            self._another_run,
            self._refusal,
            self._agreement,
            lambda: self._install(begun),
        )

    # -- before anything is changed -------------------------------------------------------------------

    def _another_run(self) -> int | None:
        held = running.holder(self._site.state, self._site.person)
        if not held:
            return None
        self._console.say(
            f"Another run of this command goes on (process {held['pid']}). Wait until it has ended."
        )
        return 1

    def _refusal(self) -> int | None:
        def look(step: Step, found: list[machine.Problem]) -> str:
            there = server.read(self._site)
            here = machine.read(
                self._site.person, self._site.state, self._site.checkout, os.environ,
                port=0, first=not there.found.plugin,
            )  # fmt: skip
            if self._options.installed:
                # The package carries the installer and not the rest of a checkout.
                here = replace(here, checkout_lacks="")
            found.extend(machine.problems(here, self._command()))
            found.extend(server.problems(there, admin=bool(self._options.admin)))
            found.extend(hub.problems())
            if self._folder is not None:
                step.note(f"Offline folder {self._folder.path}: {self._folder.named()}.")
            return machine.summary(here)

        return stages.preflight(self._console, look)

    def _command(self) -> str:
        """What was typed, without a password."""
        name = self._options.admin.partition(":")[0]
        typed = [each.replace(self._options.admin, name) if name else each for each in sys.argv]
        return shlex.join(["sudo", "python3", *typed])

    def _agreement(self) -> int | None:
        """On a TLJH that is there and does not have us: what will change, and whether that is wanted."""
        there = server.read(self._site)
        self._fresh = not there.found.whole or there.ours_to_finish or tljh.is_new(self._site)
        if self._fresh or there.found.plugin or (self._site.state / "agreed").exists():
            return None
        self._asked = True
        self._console.say("")
        for line in server.page(there, server.read_people(), self._command()):
            self._console.say(line)
        self._console.say("")
        if self._options.yes:
            return None
        if not sys.stdin.isatty():
            self._console.say("Nothing was changed. There is no terminal to ask on: add --yes to do it.")
            return 2
        if input("Do it? [y/N] ").strip().lower() not in ("y", "yes"):
            self._console.say("Nothing was changed.")
            return 2
        return None

    # -- the steps -----------------------------------------------------------------------------------

    def _install(self, begun: float) -> int:
        try:
            with self._own_state():
                if self._asked:
                    # A run that is killed and repeated needs no second answer.
                    (self._site.state / "agreed").touch()
                with contextlib.ExitStack() as stack:
                    stack.callback(self._base_image.end)
                    for name, ensure in self._steps:
                        self._console.do(name, ensure)
                (self._site.state / "agreed").unlink(missing_ok=True)
        except StepFailed as error:
            self._console.explain(error)
            self._console.say(stages.GOES_ON)
            return 1
        self._closing(time.monotonic() - begun)
        return 0

    @contextlib.contextmanager
    def _own_state(self) -> Iterator[None]:
        self._site.state.mkdir(parents=True, exist_ok=True)
        self._site.state.chmod(0o700)
        LOG_DIR.mkdir(parents=True, exist_ok=True)
        with running.lock(self._site), running.open_log(LOG_DIR / "install.log", _LOG_BYTES) as log:
            self._console.write_log_to(log)
            try:
                yield
            finally:
                self._console.write_log_to(None)

    def _ensure_packages(self, step: Step) -> str:
        packages.repair(self._site, step)
        programs = dict(_DEBIAN)
        if which("docker") is None or not base_image.present(self._chosen_site()):
            programs |= base_image.PROGRAMS
        added = packages.ensure_programs(self._site, step, programs)
        added += project.ensure_venv_package(self._site, step)
        return f"installed {', '.join(added)}" if added else "as they were"

    def _ensure_engine(self, step: Step) -> str:
        said = self._engine.ensure(step)
        if not said.endswith("already running") and tljh.look().plugin:
            # A hub that started without Docker looks for it anew.
            plugin.restart_later(self._site)
        return said

    def _ensure_client(self, step: Step) -> str:
        """While TLJH is installed, the base image's packages can be unpacked already."""
        text = engine.ensure_client(self._site, step)
        if self._folder is None or not self._folder.images:
            self._base_image.begin(self._chosen_site(), step)
        return text

    def _ensure_tljh(self, step: Step) -> str:
        if self._options.installed:
            # TLJH's own installer calls us. The package has no sources to install from, and the hub that runs
            # was started before there was Docker.
            if not hub.UNIT_FILE.exists():
                plugin.restart_later(self._site)
            return "installed by itself, with us as its plugin"
        name = self._options.admin.partition(":")[0]
        source = Path(self._options.plugin_source or plugin.ensure_source(self._site))
        said = tljh.ensure(self._site, step, admins=[name], plugin=source, folder=self._folder)
        if said.endswith("bootstrap") and not self._options.plugin_source:
            plugin.note_installed(self._site)
        return said

    def _ensure_plugin(self, step: Step) -> str:
        if self._options.installed:
            return "installed by TLJH"
        return plugin.ensure(self._site, step, self._options.plugin_source, self._folder)

    def _ensure_password(self, step: Step) -> str:
        name, _, password = self._options.admin.partition(":")
        if self._options.password_file:
            password = self._options.password_file.read_text().partition("\n")[0]
        if not self._fresh:
            return "TLJH's own, as they were"
        if not password:
            tljh.note_administrator(self._site)
            step.note(f"Whoever signs in first as {name} chooses the password: do it now.")
            return f"{name}, without a password yet"
        done = subprocess.run(
            [str(tljh.HUB / "bin" / "python3"), "-m", "tljh_plugin.operation.first_password", name],
            input=password + "\n",
            capture_output=True,
            text=True,
            check=False,
            env=self._site.root_env,
            cwd="/",
        )
        if done.returncode != 0:
            raise StepFailed(
                f"The password could not be kept: {done.stderr.strip()[-200:]}",
                next_step="Sign in right after the installation and choose it there.",
            )
        tljh.note_administrator(self._site)
        return f"{name}, with the password that was given"

    def _ensure_base_image(self, step: Step) -> str:
        self._site = self._chosen_site()
        loaded = offline.load_images(self._folder, self._site, step) if self._folder else []
        said = self._base_image.ensure(self._site, step)
        return said + (f"; loaded {', '.join(loaded)}" if loaded else "")

    def _chosen_site(self) -> Site:
        """With the release that is built on and its mirror, as the settings say once a hub has read them."""
        chosen = hub.settings().get("build", {})
        return replace(
            self._site,
            release=self._options.release or chosen.get("release") or self._site.release,
            mirror=self._options.mirror or chosen.get("mirror") or self._site.mirror,
        )

    def _closing(self, seconds: float) -> None:
        say = self._console.say
        name = self._options.admin.partition(":")[0]
        say("")
        say(f"The Littlest Binder runs on this machine; this took {seconds:.0f} s.")
        for address in _addresses():
            say(f"    http://{address}/")
        if self._fresh:
            given = ":" in self._options.admin or self._options.password_file
            how = (
                "with the password that you gave"
                if given
                else "with a new password, which is yours from then on"
            )
            say(f"Sign in as {name}, {how}: now, before somebody else does.")
        say(
            "Next: HTTPS (TLJH's own: `tljh-config set https.…`), people (the hub's page Admin, `Add Users`),"
        )
        say("data folders and limits (the section `binder` of /opt/tljh/config/config.yaml, then")
        say("`tljh-config reload`). What is wrong with the machine: `sudo littlest-binder doctor`.")


def _addresses() -> list[str]:
    """Where browsers find this machine: its name, and the address of the way out."""
    found = [socket.getfqdn()]
    with contextlib.suppress(OSError), socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        probe.connect(("192.0.2.1", 9))  # documentation's own network; no packet is sent by connecting
        found.append(probe.getsockname()[0])
    return found
