"""Profiles: how much a server gets and how long it runs, for whom each is meant, which one holds. Pure.

Comes in: the settings, a person, the id that they asked for. Goes out: one `Profile`, or why it is refused.
"""

from __future__ import annotations

from dataclasses import dataclass

from ..access import is_meant_for
from ..amounts import shown_bytes, shown_number, shown_seconds
from ..errors import ProfileRefused
from ..settings import ProfileSettings, ServerSettings, Settings
from ..wire import Person

# The one profile of an installation that lists none.
ONLY = "default"


@dataclass(frozen=True)
class Profile:
    """A profile with all that it says; `lifetime_s` and `idle_s` of 0 mean without end."""

    id: str
    title: str
    description: str
    memory_bytes: int
    cpus: float
    pids: int
    shm_bytes: int
    lifetime_s: float
    idle_s: float
    people: tuple[str, ...] = ()
    groups: tuple[str, ...] = ()
    default: bool = False

    @property
    def summary(self) -> str:
        """What it gives, in a line."""
        return summary(self.memory_bytes, self.cpus, self.lifetime_s, self.idle_s)


def summary(memory_bytes: int, cpus: float, lifetime_s: float, idle_s: float) -> str:
    """Amounts in a line, such as `2 GiB memory, 1 processor, ends after 12 h`."""
    parts = [
        f"{shown_bytes(memory_bytes)} memory",
        f"{shown_number(cpus)} processor{'' if cpus == 1 else 's'}",
    ]
    if lifetime_s:
        parts.append(f"ends after {shown_seconds(lifetime_s)}")
    if idle_s:
        parts.append(f"ends when idle for {shown_seconds(idle_s)}")
    return ", ".join(parts)


def profiles_of(settings: Settings) -> tuple[Profile, ...]:
    """All profiles in their order; one made of `servers` where none is listed."""
    listed = settings.profiles or (ProfileSettings(id=ONLY, title="Standard"),)
    return tuple(_complete(each, settings.servers) for each in listed)


def profile_ids(settings: Settings) -> list[str]:
    """The ids of all profiles in their order."""
    return [each.id for each in profiles_of(settings)]


def meant_for(settings: Settings, person: Person) -> list[Profile]:
    """The profiles that `person` may choose, in their order."""
    return [each for each in profiles_of(settings) if is_meant_for(person, each.people, each.groups)]


def default_for(settings: Settings, person: Person, of_image: str = "") -> Profile:
    """What `person` gets who chose none: the image's own, else the first that is marked `default`, else
    `servers.profile`, else the first; of those that are meant for them. Raises `ProfileRefused` if none is.
    """
    theirs = meant_for(settings, person)
    if not theirs:
        raise ProfileRefused(
            f"No profile is meant for {person.name}, so no server can be started.",
            "Ask the administrator: each entry of `binder.profiles` says for whom it is meant.",
        )
    images = [each for each in theirs if each.id == of_image]
    marked = [each for each in theirs if each.default]
    named = [each for each in theirs if each.id == settings.servers.profile]
    return [*images, *marked, *named, *theirs][0]


def choose(settings: Settings, person: Person, wanted: str, of_image: str = "") -> Profile:
    """The profile of the id `wanted`, or the default one of the image or the person. Raises
    `ProfileRefused`."""
    if not wanted:
        return default_for(settings, person, of_image)
    theirs = meant_for(settings, person)
    for each in theirs:
        if each.id == wanted:
            return each
    ids = ", ".join(f"`{each.id}`" for each in theirs) or "none"
    known = any(each.id == wanted for each in profiles_of(settings))
    raise ProfileRefused(
        f"The profile `{wanted}` is not meant for you."
        if known
        else f"There is no profile `{wanted}` (any more).",
        f"Choose one of yours: {ids}.",
    )


def _complete(given: ProfileSettings, servers: ServerSettings) -> Profile:
    amounts = ("memory_bytes", "cpus", "pids", "shm_bytes", "lifetime_s", "idle_s")
    said = {name: getattr(given, name) for name in amounts}
    return Profile(
        id=given.id,
        title=given.title or given.id,
        description=given.description,
        people=given.people,
        groups=given.groups,
        default=given.default,
        **{name: getattr(servers, name) if value is None else value for name, value in said.items()},
    )
