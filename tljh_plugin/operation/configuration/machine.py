"""What the settings name and this machine has, or has not: folders, accounts, files, memory."""

from __future__ import annotations

import grp
import os
import pwd
from collections.abc import Iterator
from pathlib import Path

from ...amounts import shown_bytes
from ...errors import BinderError, SettingsError
from ...launch.mounts import Offer, check_targets, offers
from ...launch.profiles import profiles_of
from ...launch.resolving import views
from ...launch.room import for_servers, read_machine
from ...settings import Settings
from ...source.credentials import read_hosts
from ...wire import Person
from .finding import Remark

_ANYBODY = Person(name="anybody")
# tljh/systemd-units/jupyterhub.service has PrivateTmp: the hub sees another /tmp than Docker.
_PRIVATE = (Path("/tmp"), Path("/var/tmp"))  # noqa: S108 - compared, not used


def remarks(settings: Settings) -> Iterator[Remark]:
    """All of them. Looks at the disk."""
    yield from _mounts(settings)
    yield from _storage(settings)
    yield from _accounts(settings)
    yield from _credentials(settings)
    yield from _memory(settings)


def _mounts(settings: Settings) -> Iterator[Remark]:
    """As the hub judges them at a start, for somebody who may have them all."""
    for_all = settings.model_copy(
        update={
            "mounts": tuple(
                each.model_copy(update={"people": (), "groups": (), "per_person": False})
                for each in settings.mounts
            )
        }
    )
    offered = [each for each in offers(for_all, _ANYBODY) if not each.picked]
    fitting: list[Offer] = []
    for number, offer in enumerate(offered):
        try:
            check_targets([*fitting, offer], my_files=True)
            fitting.append(offer)
        except BinderError as error:
            yield Remark("warning", f"mounts.{number}.target", error.message, "Give it another `target`.")
    for number, view in enumerate(each for each in views(for_all, _ANYBODY, "") if not each.picked):
        if view.error is not None:
            yield Remark("warning", f"mounts.{number}.source", f"No server gets it: {view.error.message}",
                         view.error.next)  # fmt: skip


def _storage(settings: Settings) -> Iterator[Remark]:
    if not settings.storage.root:
        return
    root = settings.storage_root
    if settings.platform == "tljh" and any(each in (root, *root.parents) for each in _PRIVATE):
        yield Remark(
            "mistake", "storage.root", f"TLJH's hub and Docker do not see the same {root} (PrivateTmp).",
            "Choose a folder that is not below /tmp or /var/tmp.",
        )  # fmt: skip
    elif not root.parent.is_dir():
        yield Remark(
            "warning", "storage.root", f"{root.parent} does not exist.", "Create it, or mount the disk."
        )
    elif root.exists() and not root.is_dir():
        yield Remark("mistake", "storage.root", f"{root} is no folder.", "Name another one.")


def _accounts(settings: Settings) -> Iterator[Remark]:
    name = settings.source.git_user
    if name:
        try:
            if pwd.getpwnam(name).pw_uid == 0:
                yield Remark("mistake", "source.git_user", f"git never runs as root, which `{name}` is.",
                             "Name another account.")  # fmt: skip
        except KeyError:
            yield Remark(
                "mistake", "source.git_user", f"There is no account `{name}`.", f"Run: useradd -r {name}"
            )
    for number in settings.servers.groups:
        try:
            found = grp.getgrgid(number).gr_name
        except KeyError:
            continue
        if number == 0 or found in ("docker", "sudo", "disk", "shadow"):
            yield Remark(
                "warning", "servers.groups", f"Members of the group {number} ({found}) can become root.",
                "Take it out.",
            )  # fmt: skip


def _credentials(settings: Settings) -> Iterator[Remark]:
    if settings.source.credentials_file:
        try:
            read_hosts(Path(settings.source.credentials_file))
        except SettingsError as error:
            yield Remark("mistake", "source.credentials_file", error.message, error.next_step)


def _memory(settings: Settings) -> Iterator[Remark]:
    machine = read_machine()
    most = for_servers(settings.limits, machine)
    for number, profile in enumerate(profiles_of(settings)):
        if profile.memory_bytes > most:
            yield Remark(
                "note", f"profiles.{number}.memory_bytes" if settings.profiles else "servers.memory_bytes",
                f"This machine has {shown_bytes(most)} for servers, so they get no more of the "
                f"{shown_bytes(profile.memory_bytes)}.",
            )  # fmt: skip
        if profile.cpus > (os.cpu_count() or 1):
            yield Remark(
                "note", f"profiles.{number}.cpus" if settings.profiles else "servers.cpus",
                f"This machine has {os.cpu_count()} processors.",
            )  # fmt: skip
