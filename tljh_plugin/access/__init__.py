"""Who may do what: pure functions, used by the hub and the service alike.

Comes in: a `Person` as JupyterHub knows them, an action, a thing. Goes out: yes or no. Nothing here
asks a network, a database or Docker.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal, Protocol

from ..wire import Person

Action = Literal["see", "use", "cancel", "delete"]

ADMIN_SCOPE = "custom:binder:admin"


class Owned(Protocol):
    """A build, an image or a project: it has somebody who made it and a visibility."""

    @property
    def owner(self) -> str: ...
    @property
    def visibility(self) -> Literal["everyone", "private"]: ...


def is_admin(person: Person) -> bool:
    """The built-in admin role does not contain custom scopes and cannot be changed: accept `admin` too."""
    return person.admin or ADMIN_SCOPE in person.scopes


def is_meant_for(person: Person, people: Sequence[str], groups: Sequence[str]) -> bool:
    """Whether what the administrator gives to `people` and `groups` is for `person`; both empty: for everyone.

    Administrators are no exception: a mount or a credential for others is not theirs.
    """
    if not people and not groups:
        return True
    return person.name in people or not set(groups).isdisjoint(person.groups)


def may(person: Person, action: Action, thing: Owned) -> bool:
    """Whether `person` may do `action` to `thing`.

    Administrators may do everything to builds and images. The owner may do everything to what is theirs,
    except to delete an image that everyone may use. Everyone may see and use what is for everyone.
    """
    if is_admin(person):
        return True
    if action in ("see", "use"):
        return thing.visibility == "everyone" or thing.owner == person.name
    if action == "cancel":
        return thing.owner == person.name
    return thing.owner == person.name and thing.visibility == "private"
