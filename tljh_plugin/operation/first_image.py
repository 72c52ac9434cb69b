"""Waits until the service's first image is there: plain Jupyter, which it builds by itself.

The installer runs this as a module on a server, where it has no token of its own: through the service's
socket, which only root can open. Prints a line whenever something changes, and JSON at the end.
"""

from __future__ import annotations

import asyncio
import json
import sys
import time

from .. import handover
from ..client import ServiceClient
from ..errors import BinderError, BuildFailed, ServiceDown
from ..settings import Settings
from ..source.spec import RepoSpec
from ..wire import BuildView, Person

# A slow mirror and a slow disk together; the build's own limits end it long before.
PATIENCE_S = 3600.0
_PAUSE_S = 0.3
# So long after a build's end its image is listed, or it was removed.
_SETTLED_S = 15.0
_ADMINISTRATOR = Person(name="installer", admin=True)


async def wait(settings: Settings, *, patience_s: float = PATIENCE_S) -> str:
    """The id of the plain image; empty if it was built and somebody removed it.

    Raises `BuildFailed` with the reason, or `ServiceDown`.
    """
    url = RepoSpec("local", str(settings.examples_dir / "plain")).normal_url
    deadline = time.monotonic() + patience_s
    said, ended = "", 0.0
    async with ServiceClient(socket=settings.service_socket, person=_ADMINISTRATOR) as service:
        while time.monotonic() < deadline:
            for image in await service.images():
                if image.repository == url:
                    return image.id
            builds = [each for each in await service.builds(everyone=True) if each.repository == url]
            latest = max(builds, key=lambda each: each.created, default=None)
            if latest is not None:
                _refuse_failed(latest)
                ended = ended or time.monotonic() if latest.state in ("built", "cancelled") else 0.0
                if ended and time.monotonic() - ended > _SETTLED_S:
                    return ""
                now = f"build {latest.id}: {latest.state} {latest.progress}%"
                if now != said:
                    sys.stdout.write(now + "\n")
                    sys.stdout.flush()
                    said = now
            await asyncio.sleep(_PAUSE_S)
    raise ServiceDown(
        f"The plain image was not there after {patience_s:.0f} s.", "See `journalctl -u tljh-binder`."
    )


def _refuse_failed(build: BuildView) -> None:
    if build.state == "failed":
        reason = build.error.message if build.error is not None else "no reason was given"
        raise BuildFailed(f"Building the plain image failed: {reason}", "See `littlest-binder logs`.")


def main() -> int:
    try:
        image = asyncio.run(wait(handover.read(handover.find_state_dir()).settings()))
    except BinderError as error:
        sys.stderr.write(f"{error} {error.next_step}\n")
        return 1
    sys.stdout.write(json.dumps({"image": image}) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
