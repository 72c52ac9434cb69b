"""Images and events as Docker's API gives them, read into our values; and how an image is removed."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from datetime import datetime, timezone
from typing import Any

import docker.errors

from ..errors import ImageInUse, ImageNotFound, NotOurs
from . import containers
from .connection import patience
from .values import EngineEvent, ImageFacts, ImageRow

OUR_NAMES = "littlest-binder/"


def row(said: Mapping[str, Any]) -> ImageRow:
    """One entry of the list of images."""
    return ImageRow(
        id=said["Id"],
        tags=_tags(said),
        labels=said.get("Labels") or {},
        size=said.get("Size") or 0,
        created=datetime.fromtimestamp(said.get("Created") or 0, timezone.utc).isoformat(),
        digests=tuple(each for each in said.get("RepoDigests") or () if "<none>" not in each),
    )


def facts(said: Mapping[str, Any]) -> ImageFacts:
    """An inspected image; newer engines leave out what is empty."""
    config = said.get("Config") or {}
    pairs = (entry.partition("=") for entry in config.get("Env") or ())
    return ImageFacts(
        id=said["Id"],
        tags=_tags(said),
        labels=config.get("Labels") or {},
        size=said.get("Size") or 0,
        created=said.get("Created") or "",
        env={name: value for name, _, value in pairs},
        user=config.get("User") or "",
        workdir=config.get("WorkingDir") or "",
        entrypoint=tuple(config.get("Entrypoint") or ()),
        cmd=tuple(config.get("Cmd") or ()),
        layers=tuple((said.get("RootFS") or {}).get("Layers") or ()),
        architecture=said.get("Architecture") or "",
    )


def _tags(said: Mapping[str, Any]) -> tuple[str, ...]:
    return tuple(tag for tag in said.get("RepoTags") or () if tag != "<none>:<none>")


def event(said: Mapping[str, Any]) -> EngineEvent:
    """One event; its `id` is an image's or a container's, and, for untagged images, the image's, not the
    name.
    """
    actor = said.get("Actor") or {}
    return EngineEvent(
        type=said.get("Type") or "",
        action=said.get("Action") or said.get("status") or "",
        id=actor.get("ID") or said.get("id") or "",
        attributes=actor.get("Attributes") or {},
        time=(said.get("timeNano") or 0) / 1e9 or float(said.get("time") or 0),
    )


def missing(ref: str) -> ImageNotFound:
    """The error for an image that is not there."""
    return ImageNotFound(f"The image {ref} is not on this machine.", "Build it again from its repository.")


def remove(client: Any, image_id: str, wanted: Collection[str] | None, removal_s: float) -> None:
    """See `Engine.remove_image`; Docker may take `removal_s` seconds for the removal itself."""
    try:
        found = facts(client.inspect_image(image_id))
    except docker.errors.NotFound:
        raise missing(image_id) from None
    ours = [tag for tag in found.tags if (tag.startswith(OUR_NAMES) if wanted is None else tag in wanted)]
    if found.tags and not ours:
        if wanted is not None:
            return  # the names asked for are gone already, and nothing else of it is ours
        raise NotOurs(
            f"The image {image_id} has only names that are not ours: {', '.join(found.tags)}.",
            "Remove it with `docker image rm` if you know that nobody needs it.",
        )
    users = [containers.row(each) for each in client.containers(all=True) if each["ImageID"] == found.id]
    if users:
        raise ImageInUse(
            f"The image {image_id} is used by {', '.join(each.name for each in users)}.",
            "Stop these servers first.",
        )
    for each in [*ours, *([] if found.tags else [found.id])]:
        if _is(client, each, found.id):
            with patience(client, removal_s):
                remove_name(client, each)


def _is(client: Any, name: str, image_id: str) -> bool:
    """A name may have gone to another image since it was looked at."""
    try:
        return bool(client.inspect_image(name)["Id"] == image_id)
    except docker.errors.NotFound:
        return False


def remove_name(client: Any, name: str) -> None:
    """Take a name, or an image without names by its id; none there is no error. Raises `ImageInUse`."""
    try:
        # noprune: untagged parents are not ours to remove.
        client.remove_image(name, force=False, noprune=True)
    except docker.errors.NotFound:
        return
    except docker.errors.APIError as error:
        if error.status_code != 409:
            raise
        raise ImageInUse(
            f"The image {name} is in use: {error.explanation}.", "Stop what uses it first."
        ) from error
