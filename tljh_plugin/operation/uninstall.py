"""Taking The Littlest Binder off a machine: what is ours goes, what people made stays.

Comes in: an installation. Goes out: a plan that can be shown, then the machine without us. Each step looks
before it acts, so that it can be run twice, and again after it was interrupted. What others add to a machine
for us has a remover in `REMOVERS`.
"""

from __future__ import annotations

import os
import shutil
import stat
import sys
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path

from ruamel.yaml import YAML

from ..cache.adoption import names_to_take
from ..engine import Engine, firewall
from ..errors import BinderError, EngineError, ImageInUse, ImageNotFound, UninstallRefused
from ..settings import Settings
from ..store import Store
from . import desktop_entries, environment, installer_traces, units
from .environment import DISTRIBUTION
from .installed import TLJH, Installed, hub_runs, service_runs
from .restoring import running_servers

LINKS = (Path("/usr/local/bin/littlest-binder"), Path.home() / ".local" / "bin" / "littlest-binder")
# `(settings, dry_run)`: what it removes, or would remove, one sentence each. To be run twice without harm.
Remover = Callable[[Settings, bool], list[str]]


def _of_the_desktop(settings: Settings, dry_run: bool) -> list[str]:
    if settings.platform != "desktop":
        return []
    found = desktop_entries.what_goes(settings) if dry_run else desktop_entries.remove(settings)
    return [f"{each}, of the desktop's menu or autostart" for each in found]


REMOVERS: tuple[Remover, ...] = (installer_traces.remove, _of_the_desktop)

_STOP_S = 10


@dataclass(frozen=True)
class Wish:
    """What is wanted. `erase_data`: images and the state folder as well."""

    erase_data: bool = False
    stop_servers: bool = False


@dataclass(frozen=True)
class Plan:
    """What goes and what stays, for people; the rest says what is there to be done."""

    installed: Installed
    wish: Wish
    servers: tuple[str, ...]
    docker_problem: str
    links: tuple[Path, ...]
    venv: Path | None
    plugin: bool
    goes: tuple[str, ...]
    stays: tuple[str, ...]


@dataclass(frozen=True)
class Report:
    """What was removed, and what could not be (`left`), one sentence each."""

    removed: tuple[str, ...]
    left: tuple[str, ...]


# -- deciding -----------------------------------------------------------------------------------------


async def decide(installed: Installed, wish: Wish, engine: Engine) -> Plan:
    """Looks at the machine, changes nothing. Raises `UninstallRefused`."""
    settings = installed.settings
    servers, problem = list[str](), ""
    try:
        servers = await running_servers(engine)
    except EngineError as error:
        problem = str(error)
    if settings.platform == "desktop" and hub_runs(installed):
        raise UninstallRefused(
            "The Littlest Binder is running.",
            "End `littlest-binder up` with Ctrl-C, then run the command again.",
        )
    if wish.erase_data:
        _check_erasable(installed)
    if servers and not wish.stop_servers:
        raise UninstallRefused(
            f"Servers run: {', '.join(servers)}.",
            "Let people finish, or end them with `--stop-servers`: what is not saved in them is lost.",
        )
    links = tuple(each for each in LINKS if _is_our_link(each))
    venv = settings.state_dir / "venv"
    plan = Plan(
        installed=installed,
        wish=wish,
        servers=tuple(servers),
        docker_problem=problem,
        links=links,
        venv=venv if venv.is_dir() and not venv.is_symlink() else None,
        plugin=settings.platform == "tljh" and _is_plugin(),
        goes=(),
        stays=(),
    )
    return replace(plan, goes=tuple(_goes(plan)), stays=tuple(_stays(plan)))


def _check_erasable(installed: Installed) -> None:
    """Raises `UninstallRefused` if what is not ours lies in the state folder, or somebody works with it."""
    state = installed.state_dir.resolve()
    for mount in installed.settings.mounts:
        source = Path(mount.source).resolve()
        if state == source or state in source.parents:
            raise UninstallRefused(
                f"The folder of the mount `{mount.id}`, {source}, lies in {state}.",
                "Move it elsewhere, then run the command again.",
            )
    if mounted := _mounted_below(state):
        raise UninstallRefused(
            f"Something is mounted below {state}: {mounted[0]}.", "Unmount it, then run the command again."
        )
    if service_runs(installed) and not units.is_active(units.SERVICE):
        raise UninstallRefused(
            f"A service works with {state} that {units.SERVICE} did not start.",
            "Stop it, then run the command again.",
        )


def _goes(plan: Plan) -> list[str]:
    settings, erase = plan.installed.settings, plan.wish.erase_data
    found = [f"the server {each}, which runs" for each in plan.servers]
    found.append(
        f"containers, the network and firewall rules of this installation ({plan.installed.instance})"
    )
    if units.UNIT_FILE.exists() and settings.platform != "desktop":
        found.append(f"the unit {units.UNIT_FILE}")
    found += [f"the link {each}" for each in plan.links if _may_go(each)]
    found += [said for remover in REMOVERS for said in remover(settings, True)]
    if plan.plugin:
        found.append(
            f"the package {DISTRIBUTION} from {sys.prefix}; the hub is restarted, with TLJH's own spawner"
        )
    found += [f"{each}, the installer's" for each in _of_the_installer(settings)]
    if plan.venv:
        found.append(f"the environment {plan.venv}")
    if erase:
        found.append("all images of ours, and what people cannot have again of them")
        found.append(f"the folder {settings.state_dir} with store, secrets, logs and backups")
        if not settings.storage.root:
            found.append(f"ALL FILES OF ALL PEOPLE in {settings.storage_root}")
        if settings.platform == "tljh":
            found.append(f"the section `binder` in {plan.installed.settings_file}")
    return found


def _stays(plan: Plan) -> list[str]:
    settings, erase = plan.installed.settings, plan.wish.erase_data
    found = []
    if not erase:
        found.append(f"{settings.state_dir}: settings, store, secrets, logs, backups")
        found.append("images (`littlest-binder erase` removes them beforehand)")
        if settings.platform == "tljh":
            found.append(f"the section `binder` in {plan.installed.settings_file}")
    if not erase or settings.storage.root:
        found.append(f"people's files in {settings.storage_root}")
    found += [_of_root(each) for each in plan.links if not _may_go(each)]
    found += [f"the mounted folder {each.source}" for each in settings.mounts]
    found.append("Docker, its build cache, our base image, and everything in it that is not ours")
    if settings.platform == "tljh":
        found.append("TLJH, its people, their homes and its settings")
    if settings.platform == "jupyterhub":
        found.append(f"the package {DISTRIBUTION}, and the lines about it in the hub's configuration")
    return found


def _is_our_link(link: Path) -> bool:
    """A link to the command of the environment that we are in, or to one that is gone."""
    try:
        target = Path(os.readlink(link))
    except OSError:
        return False
    ours = target.parent == Path(sys.prefix) / "bin"
    return target.name == "littlest-binder" and (ours or not target.exists())


def _may_go(link: Path) -> bool:
    """On a desktop the installer, which ran as root, has made it where the person may not."""
    return os.access(link.parent, os.W_OK)


def _of_root(link: Path) -> str:
    return f"the link {link}, which leads nowhere then: `sudo rm {link}` removes it"


def _of_the_installer(settings: Settings) -> list[Path]:
    """What it put into a desktop's state folder besides the environment: a copy of the project, and Node.js
    with the proxy.
    """
    found = (
        [settings.state_dir / name for name in ("source", "node")] if settings.platform == "desktop" else []
    )
    return [path for path in found if path.is_dir() and not path.is_symlink()]


def _is_plugin() -> bool:
    return Path(sys.prefix) == (TLJH / "hub")


# -- doing --------------------------------------------------------------------------------------------


async def carry_out(plan: Plan, engine: Engine, say: Callable[[str], None]) -> Report:
    """Remove what the plan says, the environment last. Raises `BinderError` where going on would harm."""
    removed, left = list[str](), list[str]()

    def gone(what: str) -> None:
        removed.append(what)
        say(f"removed {what}")

    settings = plan.installed.settings
    _remove_unit(settings, gone)
    if plan.docker_problem:
        left.append(f"what is in Docker, which is not there: {plan.docker_problem}")
    else:
        await _remove_from_docker(plan, engine, gone, left)
    with suppress(BinderError):
        await firewall.remove(plan.installed.instance)
    for remover in REMOVERS:
        for each in remover(settings, False):
            gone(each)
    if plan.wish.erase_data:
        _erase_settings(plan, gone)
        _erase_state(plan, gone)
    for link in plan.links:
        if _may_go(link):
            link.unlink(missing_ok=True)
            gone(f"the link {link}")
        else:
            left.append(_of_root(link))
    for folder in _of_the_installer(settings):
        shutil.rmtree(folder)
        gone(str(folder))
    if plan.plugin:
        environment.uninstall((DISTRIBUTION,))
        gone(f"the package {DISTRIBUTION}")
        if units.exists(units.HUB):
            units.run("restart", units.HUB)
            say("restarted the hub")
    if plan.venv is not None:
        shutil.rmtree(plan.venv)
        gone(f"the environment {plan.venv}")
        with suppress(OSError):
            settings.state_dir.rmdir()  # if nothing else was in it
    return Report(tuple(removed), tuple(left))


def _remove_unit(settings: Settings, gone: Callable[[str], None]) -> None:
    if settings.platform == "desktop" or not units.UNIT_FILE.exists():
        return
    if units.has_systemd():
        units.run("disable", "--now", units.SERVICE)
    units.UNIT_FILE.unlink(missing_ok=True)
    if units.has_systemd():
        units.run("daemon-reload")
    gone(f"the unit {units.UNIT_FILE}")


async def _remove_from_docker(
    plan: Plan, engine: Engine, gone: Callable[[str], None], left: list[str]
) -> None:
    for row in await engine.containers():
        if not engine.is_ours(row.labels):
            continue
        if row.state == "running":
            await engine.stop(row.id, _STOP_S)
        await engine.remove(row.id)
        gone(f"the container {row.name}")
    network = await engine.network()
    if network is not None:
        await engine.remove_network()
        gone(f"the network {network.name}")
    if plan.wish.erase_data and plan.installed.settings.store_path.exists():
        await _remove_images(plan.installed.settings, engine, gone, left)


async def _remove_images(
    settings: Settings, engine: Engine, gone: Callable[[str], None], left: list[str]
) -> None:
    """Those that the store knows as ours; other people's names of the same image stay, and with them it
    does.
    """
    store = await Store.open(settings.store_path)
    try:
        rows = await store.images()
    finally:
        await store.close()
    for row in rows:
        facts = await engine.image(row.image_id)
        if facts is None:
            continue
        try:
            names = names_to_take(row, facts, settings)
            others = set(facts.tags) - set(names)
            if row.adopted and not others:
                left.append(f"the image {row.name}, which was adopted from Docker and has no other name")
            elif others:
                for name in names:
                    await engine.untag(name)
                left.append(f"the image {row.image_id[:19]}, which has names of others")
            else:
                await engine.remove_image(row.image_id, names=names)
                gone(f"the image {row.name}")
        except ImageNotFound:
            continue
        except ImageInUse as error:
            left.append(f"the image {row.name}: {error.message}")


def _erase_settings(plan: Plan, gone: Callable[[str], None]) -> None:
    """TLJH's file without our section; the desktop's goes with its folder."""
    file = plan.installed.settings_file
    if plan.installed.settings.platform != "tljh" or file is None or not file.exists():
        return
    yaml = YAML()
    document = yaml.load(file.read_text(encoding="utf-8"))
    if not document or "binder" not in document:
        return
    del document["binder"]
    draft = file.with_name(f".{file.name}.{os.getpid()}")
    with draft.open("w", encoding="utf-8") as out:
        yaml.dump(document, out)
        out.flush()
        os.fsync(out.fileno())
    draft.chmod(stat.S_IMODE(file.stat().st_mode))
    draft.replace(file)
    gone(f"the section `binder` in {file}")


def _erase_state(plan: Plan, gone: Callable[[str], None]) -> None:
    """The state folder but for the environment that we run in, which is removed at the very end."""
    settings = plan.installed.settings
    state = settings.state_dir
    if not state.is_dir():
        return
    for entry in sorted(state.iterdir()):
        if plan.venv is not None and entry == plan.venv:
            continue
        if entry.is_symlink() or not entry.is_dir():
            entry.unlink()
        else:
            _remove_tree(entry)
        gone(str(entry))
    if plan.venv is None:
        with suppress(OSError):
            state.rmdir()


def _remove_tree(folder: Path) -> None:
    """Where somebody had taken their own rights away, they are given back first."""
    for place, below, _ in os.walk(folder):
        for name in below:
            path = os.path.join(place, name)
            if not os.path.islink(path) and not os.access(path, os.R_OK | os.W_OK | os.X_OK):
                with suppress(OSError):
                    os.chmod(path, 0o700)
    shutil.rmtree(folder)


def _mounted_below(folder: Path) -> list[str]:
    """See proc(5), `mounts`: blanks are octal there."""
    found = []
    for line in Path("/proc/self/mounts").read_text().splitlines():
        place = Path(line.split()[1].replace("\\040", " "))
        if folder.resolve() in place.parents:
            found.append(str(place))
    return found
