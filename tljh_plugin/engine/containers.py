"""Containers: what Docker is asked for, and what it says, as our values. All pure."""

from __future__ import annotations

import secrets
from collections.abc import Mapping
from typing import Any

from ..installation import INSTANCE_LABEL
from .isolation import host_config
from .values import KIND_LABEL, ContainerRow, ContainerSpec, Kind


def make_name(kind: Kind) -> str:
    """A name that no other container has."""
    return f"littlest-binder-{kind}-{secrets.token_hex(8)}"


def row(said: Mapping[str, Any]) -> ContainerRow:
    """One entry of the list of containers."""
    names = said.get("Names") or ()
    return ContainerRow(
        id=said["Id"],
        name=names[0].lstrip("/") if names else said["Id"][:12],
        image_id=said.get("ImageID") or "",
        labels=said.get("Labels") or {},
        state=said.get("State") or "",
    )


def configuration(client: Any, spec: ContainerSpec, instance: str) -> Any:
    """What docker-py sends to create the container; the isolation rules and our labels win over
    everything.
    """
    mounts = [
        {
            "Type": "bind",
            "Source": each.source,
            "Target": each.target,
            "ReadOnly": each.read_only,
            # What the host mounts below it later does not appear in the container.
            "BindOptions": {"Propagation": "rprivate"},
        }
        for each in spec.mounts
    ]
    return client.create_container_config(
        spec.image,
        list(spec.command),
        user=spec.user or spec.limits.user,
        entrypoint=None if spec.entrypoint is None else list(spec.entrypoint),
        environment=dict(spec.environment),
        labels={**spec.labels, INSTANCE_LABEL: instance, KIND_LABEL: spec.kind},
        working_dir=spec.workdir,
        host_config=client.create_host_config(
            **host_config(spec.limits),
            network_mode=spec.network,
            mounts=mounts,
            read_only=spec.read_only,
        ),
    )
