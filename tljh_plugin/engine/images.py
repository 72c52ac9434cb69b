"""Images and events as Docker's API gives them, read into our values. All pure."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime, timezone
from typing import Any

from .values import EngineEvent, ImageFacts, ImageRow


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
    )
