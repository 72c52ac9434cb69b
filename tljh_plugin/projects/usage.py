"""Who uses a project now: pure, from the lists of containers and of starts in progress."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from ..engine import ContainerRow
from ..labels import PERSON_LABEL, SERVER_LABEL
from ..store import LeaseRow

_ENDED = ("exited", "dead")


@dataclass(frozen=True, slots=True)
class Use:
    """`server` is `person/name`, or the name of a container that is no server of ours."""

    server: str
    image_id: str
    starting: bool = False

    @property
    def shown(self) -> str:
        """For the person whose project it is."""
        return self.server.partition("/")[2] or self.server.strip("/") + "'s default server"


def uses(path: str, containers: Iterable[ContainerRow], leases: Iterable[LeaseRow]) -> list[Use]:
    """Who uses the project whose files are at `path`, each server once."""
    folder = Path(path).parent
    found = {
        _server(each): Use(_server(each), each.image_id)
        for each in containers
        if each.state not in _ENDED and any(_is_within(source, folder) for source in each.mounts)
    }
    for lease in leases:
        if lease.project == path:
            found.setdefault(lease.server, Use(lease.server, lease.image_id, starting=True))
    return sorted(found.values(), key=lambda use: use.server)


def of_other_images(found: Sequence[Use], image_id: str, server: str) -> list[Use]:
    """Those that run another image on the same files, except the server that is being started itself."""
    return [use for use in found if use.image_id != image_id and use.server != server]


def _server(container: ContainerRow) -> str:
    person = container.labels.get(PERSON_LABEL, "")
    return f"{person}/{container.labels.get(SERVER_LABEL, '')}" if person else container.name


def _is_within(source: str, folder: Path) -> bool:
    return Path(source).is_relative_to(folder)
