"""After a start: is the container as isolated as it was asked to be? The caller stops what is not."""

from __future__ import annotations

import asyncio
import logging
import os.path
from collections.abc import Mapping, Sequence
from typing import Any

from ..engine import Limits, Mount, deviations
from ..engine.kernel import differences, look
from ..engine.threads import in_thread
from ..errors import IsolationBroken, ServerNotReady

log = logging.getLogger("littlest_binder.launch")

# Docker answers before the program has begun; its filter of system calls is set in that moment.
_SETTLED_S = 2.0
_LOOK_S = 0.02


def check(
    inspect: Mapping[str, Any], limits: Limits, *, image_id: str, mounts: Sequence[Mount], network: str
) -> None:
    """Compare what Docker made with what was asked. Raises `IsolationBroken` with every difference."""
    found = [
        *deviations(inspect, limits),
        *_image(inspect, image_id),
        *_mounts(inspect, mounts),
        *_networks(inspect, network),
    ]
    if found:
        raise _broken(found)


async def check_kernel(inspect: Mapping[str, Any], limits: Limits) -> None:
    """Compare what the kernel shows of the container's first process with what was asked.

    Raises `IsolationBroken` with every difference. Where the process cannot be seen, the log says so.
    """
    clock = asyncio.get_running_loop().time
    deadline = clock() + _SETTLED_S
    while True:
        seen = await in_thread(lambda: look(inspect))
        if seen is None:
            log.info("The kernel shows nothing of %s: what Docker says must do", inspect.get("Name"))
            return
        found = differences(seen, limits)
        if not found:
            return
        if clock() > deadline:
            raise _broken(found)
        await asyncio.sleep(_LOOK_S)


def _broken(found: Sequence[str]) -> IsolationBroken:
    return IsolationBroken(
        f"Docker did not isolate the server as it was told: {'; '.join(found)}.",
        "The server was stopped. Tell the administrator: the Docker engine changes what it is asked for.",
    )


def address(inspect: Mapping[str, Any], network: str) -> str:
    """The container's address in the network. Raises `ServerNotReady` if it has none, as after its end."""
    networks = (inspect.get("NetworkSettings") or {}).get("Networks") or {}
    found = str((networks.get(network) or {}).get("IPAddress") or "")
    if not found:
        state = (inspect.get("State") or {}).get("Status", "unknown")
        raise ServerNotReady(
            f"The server has no address in the network {network} (its container is {state}).",
            "Start it again; if that does not help, see the server's log.",
        )
    return found


def _image(inspect: Mapping[str, Any], image_id: str) -> list[str]:
    found = inspect.get("Image")
    return [] if found == image_id else [f"its image is {found}, not {image_id}"]


def _mounts(inspect: Mapping[str, Any], mounts: Sequence[Mount]) -> list[str]:
    wanted = {(os.path.normpath(m.source), os.path.normpath(m.target), not m.read_only) for m in mounts}
    binds, others = set(), []
    for each in inspect.get("Mounts") or ():
        if each.get("Type") == "bind":
            binds.add(
                (os.path.normpath(each["Source"]), os.path.normpath(each["Destination"]), bool(each["RW"]))
            )
        elif each.get("Type") != "volume" or not _is_anonymous(each):
            # Anonymous volumes come from a VOLUME line of the image and go with the container.
            others.append(f"{each.get('Type')} at {each.get('Destination')}")
    return [
        *(f"{source} is not mounted at {target}" for source, target, _ in sorted(wanted - binds)),
        *(f"{source} is mounted at {target}" for source, target, _ in sorted(binds - wanted)),
        *(f"unexpected mount: {each}" for each in others),
    ]


def _is_anonymous(mount: Mapping[str, Any]) -> bool:
    name = str(mount.get("Name", ""))
    return len(name) == 64 and all(letter in "0123456789abcdef" for letter in name)


def _networks(inspect: Mapping[str, Any], network: str) -> list[str]:
    names = sorted((inspect.get("NetworkSettings") or {}).get("Networks") or {})
    return [] if names == [network] else [f"its networks are {names}, not {network}"]
