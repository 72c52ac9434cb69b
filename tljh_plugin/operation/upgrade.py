"""Another version in place of this one, with a way back.

Comes in: what to install. Goes out: the new version, at work, or the old one with its store as it was.
Running servers are containers of Docker and notice nothing of it.
"""

from __future__ import annotations

import asyncio
import os
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from .. import __version__
from ..client import ServiceClient
from ..errors import BinderError, ServiceDown, UpgradeFailed, UpgradeImpossible
from ..settings import Settings
from ..wire import Person
from . import backup, environment, kept_wheels, units
from .backup import STORE
from .backup_file import STATE, members, verify
from .databases import settle
from .environment import DISTRIBUTION, Change
from .installed import Installed, hub_runs, service_runs

KEPT = "kept-wheels"
_HEALTH_S, _HUB_S = 90.0, 120.0
_PAUSE_S = 0.5
_MIGRATE = """
import asyncio, pathlib, sys
from tljh_plugin import __version__
from tljh_plugin.store import Store
from tljh_plugin.operation.installed import find

async def main():
    here = find(pathlib.Path(sys.argv[1]))
    if here.settings.store_path.exists():
        await (await Store.open(here.settings.store_path)).close()
    print(__version__)

asyncio.run(main())
"""

# As the version that is installed now writes it: the one before may have asked systemd for something else.
_UNIT = "import sys; from tljh_plugin.operation.unit import main; sys.exit(main())"


@dataclass(frozen=True)
class Plan:
    """What is installed (`wanted`, for pip), what changes by that, and what is stopped meanwhile."""

    wanted: tuple[str, ...]
    changes: tuple[Change, ...]
    service_unit: bool
    hub_unit: bool

    @property
    def version(self) -> str:
        """Ours afterwards; empty if it stays."""
        return next((each.after for each in self.changes if each.name.lower() == DISTRIBUTION), "")


@dataclass(frozen=True)
class Done:
    """What an upgrade did."""

    before: str
    after: str
    backup: Path
    hub_restarted: bool


def wanted_of(what: str) -> tuple[str, ...]:
    """What pip is given for a version, a file, a folder, or nothing (the newest). Raises
    `UpgradeImpossible`.
    """
    if not what:
        return ("--upgrade", DISTRIBUTION)
    path = Path(what)
    if path.exists():
        return (str(path.absolute()),)
    if os.sep in what or what.endswith((".whl", ".gz")):
        raise UpgradeImpossible(f"There is no file {what}.", "Correct the path, or name a version.")
    return (f"{DISTRIBUTION}=={what.removeprefix('v')}",)


def decide(installed: Installed, what: str) -> Plan:
    """Raises `UpgradeImpossible`; changes nothing."""
    environment.check()
    wanted = wanted_of(what)
    found = environment.changes(wanted)
    settings = installed.settings
    if settings.platform == "desktop" and (hub_runs(installed) or service_runs(installed)):
        raise UpgradeImpossible(
            "The Littlest Binder is running, and ends with the hub that runs it.",
            "End `littlest-binder up` with Ctrl-C, upgrade, and start it again.",
        )
    service_unit = units.is_active(units.SERVICE)
    if settings.platform != "desktop" and not service_unit and service_runs(installed):
        raise UpgradeImpossible(
            f"A service works with {installed.state_dir} that {units.SERVICE} did not start.",
            "Stop it, upgrade, and start it again.",
        )
    return Plan(
        wanted, tuple(found), service_unit, units.is_active(units.HUB) and settings.platform == "tljh"
    )


async def carry_out(installed: Installed, plan: Plan, say: Callable[[str], None]) -> Done:
    """Upgrade. Raises `UpgradeFailed`, whose message says whether the old version is back, and
    `BackupFailed` before anything was changed.
    """
    settings = installed.settings
    settings.state_dir.mkdir(parents=True, exist_ok=True)
    say("Taking a backup")
    made = await backup.make(installed, backup.Wish())
    say(f"  {made.file}")
    say("Keeping what is installed")
    kept = _keep(installed, plan)
    hub_before = environment.hub_parts()
    if plan.service_unit:
        say(f"Stopping {units.SERVICE} (servers go on)")
        units.run("stop", units.SERVICE)
    try:
        say(f"Installing {plan.version or plan.wanted[-1]}")
        environment.install(plan.wanted)
        say("Migrating the store")
        version = environment.ask_new(_MIGRATE, str(installed.state_dir)).splitlines()[-1]
        restart = plan.hub_unit and environment.hub_parts() != hub_before
        await _start(installed, plan, restart, say)
    except BaseException as error:
        await _go_back(installed, plan, kept, made.file, error, say)
        raise
    shutil.rmtree(kept.folder, ignore_errors=True)
    return Done(__version__, version, made.file, restart)


@dataclass(frozen=True)
class _Kept:
    folder: Path
    wheels: tuple[Path, ...]
    new: tuple[str, ...]  # what was not there before


def _keep(installed: Installed, plan: Plan) -> _Kept:
    folder = installed.state_dir / KEPT
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(mode=0o700)
    names = {each.name for each in plan.changes if each.before} | {DISTRIBUTION}
    wheels = []
    for name in sorted(names):
        try:
            wheel = kept_wheels.keep(name, folder)
        except OSError:  # files that it lists are gone
            wheel = None
        if wheel is None:
            raise UpgradeImpossible(
                f"{name}, as it is installed, cannot be kept, and there would be no way back.",
                "Install it with pip from a wheel first.",
            )
        wheels.append(wheel)
    return _Kept(folder, tuple(wheels), tuple(each.name for each in plan.changes if not each.before))


async def _start(installed: Installed, plan: Plan, restart_hub: bool, say: Callable[[str], None]) -> None:
    settings = installed.settings
    if restart_hub:
        say(f"Restarting {units.HUB} (servers go on)")
        units.run("restart", units.HUB)
        say("Waiting until it answers")
        await _hub_answers(installed)
    if plan.service_unit:
        # A plain JupyterHub's administrator may have written a unit of that name.
        if settings.platform == "tljh" and units.UNIT_FILE.exists():
            environment.ask_new(_UNIT)
        say(f"Starting {units.SERVICE}")
        units.run("start", units.SERVICE)
        say("Waiting until it answers")
        await _healthy(settings)


async def _hub_answers(installed: Installed) -> None:
    """Raises `UpgradeFailed` if the hub, of which systemd knows no more than that it was begun, does not
    answer within 120 s.
    """
    clock = asyncio.get_running_loop().time
    deadline = clock() + _HUB_S
    while not await asyncio.to_thread(hub_runs, installed):
        if clock() > deadline:
            raise UpgradeFailed(
                f"The hub does not answer at {installed.hub_api_url} with the new version.",
                f"See `journalctl -u {units.HUB}`.",
            )
        await asyncio.sleep(_PAUSE_S)


async def _healthy(settings: Settings) -> None:
    """Raises `UpgradeFailed` if the service does not answer within 90 s."""
    clock = asyncio.get_running_loop().time
    deadline = clock() + _HEALTH_S
    person = Person(name="system", admin=True)
    while True:
        try:
            async with ServiceClient(socket=settings.service_socket, person=person, timeout_s=10) as client:
                await client.health()
                return
        except ServiceDown as error:
            if clock() > deadline:
                raise UpgradeFailed(
                    f"The new service does not answer: {error.message}",
                    f"See `journalctl -u {units.SERVICE}`.",
                ) from error
        await asyncio.sleep(_PAUSE_S)


async def _go_back(
    installed: Installed, plan: Plan, kept: _Kept, file: Path, why: BaseException, say: Callable[[str], None]
) -> None:
    """The old version and its store. Raises `UpgradeFailed`, from `why`, whatever comes of it."""
    say(f"It did not work ({why}). Going back to {__version__}")
    try:
        if plan.service_unit:
            units.run("stop", units.SERVICE)
        environment.install(("--no-index", "--no-deps", "--force-reinstall", *map(str, kept.wheels)))
        environment.uninstall(kept.new)
        await asyncio.to_thread(put_store_back, installed, file)
        await _start(installed, plan, plan.hub_unit, say)
    except (BinderError, OSError) as error:
        raise UpgradeFailed(
            f"The upgrade failed ({why}), and so did the way back ({error}).",
            f"Install the wheels in {kept.folder} with pip (`--no-deps --force-reinstall`), and restore "
            f"{file}.",
        ) from why
    shutil.rmtree(kept.folder, ignore_errors=True)
    if isinstance(why, Exception):
        raise UpgradeFailed(
            f"The upgrade failed, and version {__version__} is back with its store as it was: {why}",
            "Nothing is lost. Report this with the message.",
        ) from why


def put_store_back(installed: Installed, file: Path) -> None:
    """The store of a backup in place of one that a newer version may have migrated, which stays beside it.

    Raises `BadBackup`, `OSError`.
    """
    target = installed.settings.store_path
    verify(file)
    draft = target.with_name(f".restoring-{target.name}")
    for member in members(file):
        if member.name == STATE + STORE:
            descriptor = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
            with os.fdopen(descriptor, "wb") as out:
                out.writelines(member.pieces())
                out.flush()
                os.fsync(out.fileno())
    if not draft.exists():
        return
    settle(target)
    if target.exists():
        target.replace(target.with_name(f"{target.name}.of-the-failed-upgrade"))
    for suffix in ("-wal", "-shm"):
        target.with_name(target.name + suffix).unlink(missing_ok=True)
    draft.replace(target)
