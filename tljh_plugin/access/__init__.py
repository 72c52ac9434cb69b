"""Who may do what: pure functions, used by the hub and the service alike.

Comes in: a `Person` as JupyterHub knows them, an action, a thing. Goes out: yes or no. Nothing here
asks a network, a database or Docker.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal, Protocol

from ..wire import Person, Visibility

Action = Literal["see", "use", "change", "cancel", "delete"]

ADMIN_SCOPE = "custom:binder:admin"
BUILD_SCOPE = "custom:binder:build"

# Owners of what nobody asked for, such as builds of the night, and of runs of retention.
OWN_NAMES = frozenset({"system", "retention"})


class Owned(Protocol):
    """A build, an image or a project: it has somebody who made it, a visibility, and with `group` groups.

    `decided`: an administrator has said something of it, which its owner does not take back.
    """

    @property
    def owner(self) -> str: ...
    @property
    def visibility(self) -> Visibility: ...
    @property
    def groups(self) -> Sequence[str]: ...
    @property
    def decided(self) -> bool: ...


def is_admin(person: Person) -> bool:
    """The built-in admin role does not contain custom scopes and cannot be changed: accept `admin` too."""
    return person.admin or ADMIN_SCOPE in person.scopes


def is_meant_for(person: Person, people: Sequence[str], groups: Sequence[str]) -> bool:
    """Whether what is given to `people` and `groups` is for `person`; both empty: for everyone.

    Administrators are no exception: a mount or a credential for others is not theirs.
    """
    if not people and not groups:
        return True
    return person.name in people or not set(groups).isdisjoint(person.groups)


def may(person: Person, action: Action, thing: Owned) -> bool:
    """Whether `person` may do `action` to `thing`.

    Administrators may do everything to builds and images. The owner may do everything to what is theirs,
    except to close or delete what everyone may use, and to change or delete what an administrator has decided
    about: others count on both. Others may see and use what is for everyone, or for a group of theirs.
    """
    if is_admin(person):
        return True
    if action in ("see", "use"):
        return is_open_to(person, thing)
    if action in ("change", "delete") and (thing.visibility == "everyone" or thing.decided):
        return False
    return thing.owner == person.name


def is_open_to(person: Person, thing: Owned) -> bool:
    """Whether `person` may use `thing` without being an administrator.

    It is what counts where nobody asked for this very thing: an administrator who launches a repository is
    not given what somebody else made of it with a credential.
    """
    if thing.visibility == "group":
        return thing.owner == person.name or not set(thing.groups).isdisjoint(person.groups)
    return thing.visibility == "everyone" or thing.owner == person.name


def may_build(person: Person, builders: Literal["everyone", "role"]) -> bool:
    """Whether `person` may have images built, by the setting `policy.builders`."""
    return builders == "everyone" or is_admin(person) or BUILD_SCOPE in person.scopes


def may_share_with(person: Person, groups: Sequence[str]) -> bool:
    """Whether `person` may open what is theirs to these groups: administrators to any, others to theirs."""
    return is_admin(person) or set(groups) <= set(person.groups)
