"""Containers: what Docker is asked for, what it says as our values; then starting and removing them."""

from __future__ import annotations

import io
import posixpath
import secrets
import tarfile
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from typing import Any

import docker.errors
import docker.utils.socket
import requests

from ..errors import ContainerNotStarted, EngineError, ImageNotFound, NotOurs
from ..labels import INSTANCE_LABEL, KIND_LABEL
from . import ownership
from .connection import was_silent
from .isolation import host_config
from .values import ContainerRow, ContainerSpec, Kind, is_ours

_ASK_AGAIN_S = 10.0


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
        mounts=tuple(each["Source"] for each in said.get("Mounts") or () if each.get("Source")),
        created=float(said.get("Created") or 0),
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
            # What the host mounts below it does not appear in the container, neither now nor later: engines
            # before 25 would let it be written where only reading was asked for.
            "BindOptions": {"Propagation": "rprivate", "NonRecursive": True},
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
        # An image's own would be run by Docker as often as it says, every millisecond if it likes.
        healthcheck={"Test": ["NONE"]},
        # An image's own might be one that ends nothing.
        stop_signal="SIGTERM",
        host_config=client.create_host_config(
            **host_config(spec.limits),
            network_mode=spec.network,
            mounts=mounts,
            read_only=spec.read_only,
        ),
    )


def start(client: Any, spec: ContainerSpec, name: str, instance: str) -> str:
    """Create and start; what was created and does not start is removed. See `Engine.start`."""
    try:
        made = client.create_container_from_config(configuration(client, spec, instance), name=name)
    except docker.errors.APIError as error:
        if error.status_code == 404 and "no such image" in str(error.explanation).lower():
            raise ImageNotFound(
                f"The image {spec.image} is not on this machine.", "Build it again from its repository."
            ) from None
        raise _not_started(spec.image, error) from error
    identifier: str = made["Id"]
    try:
        if spec.owned:
            ownership.own(client, identifier, spec)
        if spec.account:
            with suppress(docker.errors.APIError, tarfile.TarError):  # an image without users
                ownership.name_user(client, identifier, spec)
        for path, text in spec.files.items():
            with suppress(docker.errors.APIError):  # its folder is none: no reason not to start
                client.put_archive(identifier, posixpath.dirname(path), _archive(path, text, spec))
        client.start(identifier)
    except BaseException as error:
        with suppress(docker.errors.APIError):
            client.remove_container(identifier, force=True, v=True)
        if isinstance(error, docker.errors.APIError):
            raise _not_started(spec.image, error) from error
        raise
    return identifier


def _archive(path: str, text: str, spec: ContainerSpec) -> bytes:
    """One file that belongs to the container's user, as Docker takes it."""
    content = text.encode()
    entry = tarfile.TarInfo(posixpath.basename(path))
    entry.size, entry.mode = len(content), 0o644
    entry.mtime = time.time()
    entry.uid, entry.gid = map(int, (spec.user or spec.limits.user).split(":"))
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w") as archive:
        archive.addfile(entry, io.BytesIO(content))
    return packed.getvalue()


def stop(client: Any, container: str, instance: str, timeout_s: int) -> None:
    """See `Engine.stop`."""
    with suppress(docker.errors.NotFound):
        client.stop(_our_id(client, container, instance), timeout=timeout_s)


def ask_inside(client: Any, container: str, command: Sequence[str], limit_bytes: int) -> str:
    """See `Engine.ask_inside`."""
    made = client.exec_create(container, list(command), stdout=True, stderr=False)
    # docker-py's own stream leaves its connection open; what it opened itself is closed by the answer.
    opened = client.exec_start(made["Id"], socket=True)
    said = bytearray()
    try:
        for _, piece in docker.utils.socket.frames_iter(opened, tty=False):
            said += piece
            if len(said) > limit_bytes:
                break
    finally:
        opened._response.close()
    return said[:limit_bytes].decode(errors="replace")


def wait(client: Any, container: str, timeout_s: float) -> int:
    """See `Engine.wait`. Docker is asked again and again: an answer that got lost never comes, and of a
    container that has ended the next one comes at once.
    """
    ends = time.monotonic() + timeout_s
    while True:
        left = ends - time.monotonic()
        try:
            said = client.wait(container, timeout=min(max(left, 0.1), _ASK_AGAIN_S))
            return int(said["StatusCode"])
        except docker.errors.NotFound:
            raise EngineError(f"The container {container} is gone.", "Start it again.") from None
        except requests.RequestException as error:
            if left <= _ASK_AGAIN_S or not was_silent(error):
                raise


def remove(client: Any, container: str, instance: str) -> None:
    """See `Engine.remove`."""
    try:
        client.remove_container(_our_id(client, container, instance), force=True, v=True)
    except docker.errors.NotFound:
        return
    except docker.errors.APIError as error:
        if error.status_code != 409:  # its removal is already in progress
            raise
        with suppress(docker.errors.NotFound):
            client.wait(container, condition="removed")


def _our_id(client: Any, container: str, instance: str) -> str:
    found = client.inspect_container(container)
    if not is_ours(found["Config"].get("Labels"), instance):
        raise NotOurs(f"The container {container} is not ours.", f"It lacks the label {INSTANCE_LABEL}.")
    identifier: str = found["Id"]
    return identifier


def _not_started(image: str, error: docker.errors.APIError) -> ContainerNotStarted:
    return ContainerNotStarted(
        f"A container of the image {image} did not start: {error.explanation}",
        "Check the image's entry point and working folder, the free disk, and Docker's own log.",
    )
