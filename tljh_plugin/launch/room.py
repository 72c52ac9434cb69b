"""Room for one more server: what a person may have in all, what the machine can give, what is free.

Comes in: the settings, the servers that run, the machine's own figures. Goes out: yes, or an error with the
figures and the next step; and the same as values for forms. Everything but `read_machine` is pure.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from ..amounts import shown_bytes, shown_number
from ..errors import BinderError, EngineError, LimitReached, MachineFull
from ..settings import LimitSettings, Settings
from ..wire import Person, ProfilesView, ProfileView, RoomView
from .profiles import Profile, default_for, meant_for
from .running import Running

_PROC = Path("/proc")


@dataclass(frozen=True)
class Machine:
    """What the machine has, as its kernel says. `load` is of the last minute, in processors."""

    memory_bytes: int
    available_bytes: int
    cpus: int
    load: float


@dataclass(frozen=True)
class Allowance:
    """What one person may have in all their running servers; 0: any."""

    servers: int = 0
    memory_bytes: int = 0
    cpus: float = 0.0


def read_machine(proc: Path = _PROC) -> Machine:
    """Read the machine's figures (proc(5): `meminfo`, `loadavg`). Raises `EngineError` if it cannot."""
    try:
        lines = (proc / "meminfo").read_text().splitlines()
        said = {
            name: int(rest.split()[0]) * 1024 for name, _, rest in (each.partition(":") for each in lines)
        }
        load = float((proc / "loadavg").read_text().split()[0])
        return Machine(said["MemTotal"], said["MemAvailable"], os.cpu_count() or 1, load)
    except (OSError, KeyError, ValueError, IndexError) as error:
        raise EngineError(
            f"The memory of this machine cannot be read from {proc}: {error}.", "Is /proc mounted?"
        ) from error


def allowance_for(limits: LimitSettings, person: Person) -> Allowance:
    """What `person` may have: as everyone, or the largest that a group of theirs says; 0, any, is largest."""
    theirs = [limits.groups[name] for name in person.groups if name in limits.groups]

    def largest(name: str) -> float:
        said = [getattr(each, name) for each in theirs if getattr(each, name) is not None]
        return 0 if 0 in said else max(said, default=getattr(limits, name))

    return Allowance(int(largest("servers")), int(largest("memory_bytes")), float(largest("cpus")))


def for_servers(limits: LimitSettings, machine: Machine) -> int:
    """Bytes of the machine's memory that servers may use; at least half of it."""
    return max(machine.memory_bytes - limits.memory_reserve_bytes, machine.memory_bytes // 2)


def capacity(limits: LimitSettings, machine: Machine) -> int:
    """Bytes to which the memory limits of all servers may add up; 0: any."""
    return int(for_servers(limits, machine) * limits.memory_overcommit)


def fitted(memory_bytes: int, limits: LimitSettings, machine: Machine) -> int:
    """The memory of one server: no limit is above what the machine has for servers."""
    return min(memory_bytes, for_servers(limits, machine))


def refuse_if_too_much(
    wanted: Running, others: Sequence[Running], person: Person, settings: Settings, machine: Machine
) -> None:
    """Raise `LimitReached` or `MachineFull` if there is no room for `wanted` beside the running `others`."""
    own = [each for each in others if each.person == wanted.person]
    _refuse_person(wanted, own, allowance_for(settings.limits, person))
    _refuse_machine(wanted, others, own, settings.limits, machine)


def offer(
    settings: Settings, person: Person, others: Sequence[Running] | None, machine: Machine | None
) -> ProfilesView:
    """The person's profiles, each with the reason why it does not fit now, and what is free.

    `others` are the running servers; without them or the machine's figures nothing is said about room.
    Raises `ProfileRefused` if no profile is meant for the person.
    """
    default = default_for(settings, person)
    views = [
        _profile_view(each, settings, person, others, machine, is_default=each == default)
        for each in meant_for(settings, person)
    ]
    room = None if others is None or machine is None else _room(settings, person, others, machine)
    return ProfilesView(profiles=tuple(views), room=room)


def sentences(offered: ProfilesView | None) -> list[str]:
    """What is free, for people; every figure in it was read or added up. Nothing where nothing was read.

    What all servers together may use is said only when little of it is left.
    """
    if offered is None or offered.room is None:
        return []
    room = offered.room
    found = [_free(room)]
    largest = max(each.memory_bytes for each in offered.profiles)
    left = max(room.capacity_bytes - room.promised_bytes, 0)
    if room.capacity_bytes and left < max(largest, room.capacity_bytes // 10):
        found.append(
            f"All servers together may use up to {shown_bytes(room.capacity_bytes)}: "
            + (f"{shown_bytes(left)} are left for new ones." if left else "nothing is left for new ones.")
        )
    parts = [
        f"{room.own_servers} of {room.may_servers} servers" if room.may_servers else "",
        f"{shown_bytes(room.own_memory_bytes)} of {shown_bytes(room.may_memory_bytes)} memory"
        if room.may_memory_bytes
        else "",
        f"{shown_number(room.own_cpus)} of {shown_number(room.may_cpus)} processors" if room.may_cpus else "",
    ]
    if any(parts):
        found.append(f"You have {', '.join(each for each in parts if each)}.")
    return found


# -- within -------------------------------------------------------------------------------------------


def _free(room: RoomView) -> str:
    available, unit = shown_bytes(room.available_bytes).split()
    total = shown_bytes(room.memory_bytes)
    free = available if total.endswith(f" {unit}") else f"{available} {unit}"
    busy = shown_number(round(min(room.load, room.cpus), 1))
    said = f"{free} of {total} memory are free, {busy} of {_counted(room.cpus, 'processor')} busy."
    if room.servers:
        verb = "is" if room.servers == 1 else "are"
        said += f" {_count(room.servers)} {verb} running (up to {shown_bytes(room.promised_bytes)})."
    return said


def _refuse_person(wanted: Running, own: Sequence[Running], may: Allowance) -> None:
    if may.servers and len(own) + 1 > may.servers:
        raise LimitReached(
            f"You may have {_count(may.servers)} running at the same time, and you have {_names(own)}.",
            "Stop one of them on the front page, then start this one.",
        )
    memory = sum(each.memory_bytes for each in own)
    if may.memory_bytes and memory + wanted.memory_bytes > may.memory_bytes:
        raise LimitReached(
            f"This server would get {shown_bytes(wanted.memory_bytes)} of memory. All your running servers "
            f"together may have {shown_bytes(may.memory_bytes)}, and you have {shown_bytes(memory)} in "
            f"{_names(own)}.",
            _smaller(wanted.memory_bytes <= may.memory_bytes),
        )
    cpus = sum(each.cpus for each in own)
    if may.cpus and cpus + wanted.cpus > may.cpus + 1e-9:
        raise LimitReached(
            f"This server would get {shown_number(wanted.cpus)} processors. All your running servers "
            f"together may have {shown_number(may.cpus)}, and you have {shown_number(cpus)} "
            f"in {_names(own)}.",
            _smaller(wanted.cpus <= may.cpus),
        )


def _refuse_machine(
    wanted: Running,
    others: Sequence[Running],
    own: Sequence[Running],
    limits: LimitSettings,
    machine: Machine,
) -> None:
    promised, most = sum(each.memory_bytes for each in others), capacity(limits, machine)
    yours = f"Yours are {_names(own)}: stop one" if own else "Try again when others have stopped theirs"
    if most and promised + wanted.memory_bytes > most:
        raise MachineFull(
            f"This server would get {shown_bytes(wanted.memory_bytes)} of memory. The {_count(len(others))} "
            f"running on this machine may use {shown_bytes(promised)}, and {shown_bytes(most)} is what all "
            "may have together.",
            f"{yours}, or choose a smaller profile. The administrator can change "
            "`binder.limits.memory_overcommit`.",
        )
    if machine.available_bytes < limits.memory_reserve_bytes:
        raise MachineFull(
            f"Only {shown_bytes(machine.available_bytes)} of this machine's "
            f"{shown_bytes(machine.memory_bytes)} memory are available, and "
            f"{shown_bytes(limits.memory_reserve_bytes)} are kept free.",
            f"{yours}. The administrator can change `binder.limits.memory_reserve_bytes`.",
        )


def _smaller(would_fit: bool) -> str:
    first = "Stop one of them on the front page, or choose" if would_fit else "Choose"
    return f"{first} a smaller profile."


def _count(servers: int) -> str:
    return _counted(servers, "server")


def _counted(count: int, thing: str) -> str:
    return f"{count} {thing}{'' if count == 1 else 's'}"


def _names(servers: Sequence[Running]) -> str:
    """`2 servers (ada 2 GiB, …)`; what a person must know to decide which to stop."""
    if not servers:
        return "none"
    shown = ", ".join(f"{each.shown} {shown_bytes(each.memory_bytes)}" for each in servers[:8])
    return f"{_count(len(servers))} ({shown}{', …' if len(servers) > 8 else ''})"


def _profile_view(
    profile: Profile,
    settings: Settings,
    person: Person,
    others: Sequence[Running] | None,
    machine: Machine | None,
    *,
    is_default: bool,
) -> ProfileView:
    memory, problem, possible = profile.memory_bytes, "", True
    if machine is not None:
        memory = fitted(memory, settings.limits, machine)
    wanted = Running(person.name, "", memory, profile.cpus)
    if machine is not None and others is not None:
        problem = _problem(wanted, others, person, settings, machine)
        possible = not problem or not _too_much_alone(wanted, person, settings)
    return ProfileView(
        id=profile.id,
        title=profile.title,
        description=profile.description,
        memory_bytes=memory,
        cpus=profile.cpus,
        lifetime_s=profile.lifetime_s,
        idle_s=profile.idle_s,
        default=is_default,
        problem=problem,
        possible=possible,
    )


def _problem(
    wanted: Running, others: Sequence[Running], person: Person, settings: Settings, machine: Machine
) -> str:
    try:
        refuse_if_too_much(wanted, others, person, settings, machine)
    except BinderError as error:
        return error.message
    return ""


def _too_much_alone(wanted: Running, person: Person, settings: Settings) -> bool:
    """Whether it would be refused although the person had no other server."""
    try:
        _refuse_person(wanted, (), allowance_for(settings.limits, person))
    except LimitReached:
        return True
    return False


def _room(settings: Settings, person: Person, others: Sequence[Running], machine: Machine) -> RoomView:
    own = [each for each in others if each.person == person.name]
    may = allowance_for(settings.limits, person)
    return RoomView(
        memory_bytes=machine.memory_bytes,
        available_bytes=machine.available_bytes,
        cpus=machine.cpus,
        load=machine.load,
        servers=len(others),
        promised_bytes=sum(each.memory_bytes for each in others),
        capacity_bytes=capacity(settings.limits, machine),
        own_servers=len(own),
        own_memory_bytes=sum(each.memory_bytes for each in own),
        own_cpus=sum(each.cpus for each in own),
        may_servers=may.servers,
        may_memory_bytes=may.memory_bytes,
        may_cpus=may.cpus,
    )
