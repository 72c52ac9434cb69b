"""Can the image start? It is tried once, exactly as a server would be, before it counts as built.

Comes in: an image. Goes out: whether `jupyterhub-singleuser` answered, and if not, why and what to add. The
image runs without network, as the servers' user under all isolation rules; its hub is a stub in a second
container, of our base image, whose loopback both share (without any hub a single-user server gives up only
after 47 s).
"""

from __future__ import annotations

import asyncio
import json
import secrets
import time
from dataclasses import dataclass
from importlib import metadata, resources

from ..engine import ContainerSpec, Engine, ImageFacts, Limits, limits_for
from ..errors import ContainerNotStarted, EngineError, EngineTimedOut, ImageNotFound
from ..settings import Settings
from ..store.about_images import Package
from .ending import Ending, explain, is_the_images_fault
from .packages import packages_in

COMMAND = ("jupyterhub-singleuser",)

_USER = "check"
_PREFIX = f"/user/{_USER}/"
_PORT = 8888
_HUB_PORT = 15001
_HUB_API = "/hub/api"


@dataclass(frozen=True, slots=True)
class CheckResult:
    """What the check found. `home` is where a person's files will be, `workdir` where the server starts.

    `seconds` is the time from the container's start to the first answer, or to the end of the attempt.
    Without `ok`, `problem` says what happened and `next_step` what to add to the repository. `packages` are
    what the image says it has, `None` if it does not tell.
    """

    ok: bool
    home: str
    workdir: str
    seconds: float
    problem: str = ""
    next_step: str = ""
    packages: tuple[Package, ...] | None = None


async def check_image(engine: Engine, settings: Settings, image_id: str, base_image: str) -> CheckResult:
    """Start the image once against the stub hub; nothing of it is left afterwards, also when cancelled.

    `base_image` is the id or name of our base image, which the stub runs in. Raises `ImageNotFound` and other
    `EngineError`s that say nothing about the image.
    """
    image = await engine.image(image_id)
    if image is None:
        raise ImageNotFound(f"The image {image_id} is not on this machine.", "Build it again.")
    limits = limits_for(settings)
    timeout_s = settings.build.check_timeout_s
    stub = await engine.start(_stub(base_image, limits, timeout_s))
    began = time.monotonic()
    server = ""
    packages: tuple[Package, ...] | None = None
    try:
        server = await engine.start(_server(image, limits, stub))
        ending = await _answer_or_ending(engine, stub, server, timeout_s)
        seconds = time.monotonic() - began
        if ending is None:
            packages = await packages_in(engine, server)
    except ContainerNotStarted as error:
        if not await _is_running(engine, stub):
            raise _stub_failed(await engine.logs(stub)) from error
        if not is_the_images_fault(error.message):
            raise
        ending = Ending(127, error.message)
        seconds = time.monotonic() - began
    finally:
        await _remove(engine, server, stub)
    if ending is None:
        return CheckResult(True, image.home, image.start_folder, seconds, packages=packages)
    problem, next_step = explain(ending, limits, timeout_s)
    return CheckResult(False, image.home, image.start_folder, seconds, problem, next_step)


def environment(image: ImageFacts, limits: Limits) -> dict[str, str]:
    """What a spawner of JupyterHub 5 and 6 (`Spawner.get_env`) puts into a server's environment."""
    hub = f"http://127.0.0.1:{_HUB_PORT}{_HUB_API}"
    token = secrets.token_hex(16)
    scopes = json.dumps([f"access:servers!server={_USER}/", f"access:servers!user={_USER}"])
    return {
        "JUPYTERHUB_API_TOKEN": token,
        "JPY_API_TOKEN": token,
        "JUPYTERHUB_CLIENT_ID": f"jupyterhub-user-{_USER}",
        "JUPYTERHUB_COOKIE_HOST_PREFIX_ENABLED": "0",
        "JUPYTERHUB_HOST": "",
        "JUPYTERHUB_OAUTH_CALLBACK_URL": f"{_PREFIX}oauth_callback",
        "JUPYTERHUB_OAUTH_SCOPES": scopes,
        "JUPYTERHUB_OAUTH_ACCESS_SCOPES": scopes,
        "JUPYTERHUB_OAUTH_CLIENT_ALLOWED_SCOPES": "[]",
        "JUPYTERHUB_USER": _USER,
        "JUPYTERHUB_SERVER_NAME": "",
        "JUPYTERHUB_API_URL": hub,
        "JUPYTERHUB_ACTIVITY_URL": f"{hub}/users/{_USER}/activity",
        "JUPYTERHUB_BASE_URL": "/",
        "JUPYTERHUB_SERVICE_PREFIX": _PREFIX,
        "JUPYTERHUB_SERVICE_URL": f"http://0.0.0.0:{_PORT}{_PREFIX}",
        "JUPYTERHUB_PUBLIC_URL": "",
        "JUPYTERHUB_PUBLIC_HUB_URL": "",
        "MEM_LIMIT": str(limits.memory_bytes),
        "CPU_LIMIT": str(limits.cpus),
        "JUPYTER_IMAGE_SPEC": image.tags[0] if image.tags else image.id,
        "HOME": image.home,
    }


def _stub(base_image: str, limits: Limits, timeout_s: float) -> ContainerSpec:
    script = (
        resources.files(__package__).joinpath("probe").joinpath("stub_hub.py").read_text(encoding="utf-8")
    )
    asked = {
        "port": _HUB_PORT,
        "prefix": _HUB_API,
        "version": metadata.version("jupyterhub"),
        "user": _USER,
        "server": _PREFIX,
        "url": f"http://127.0.0.1:{_PORT}{_PREFIX}api",
        "timeout_s": timeout_s,
    }
    return ContainerSpec(
        image=base_image,
        entrypoint=("python3", "-I", "-S", "-B", "-c", script),
        command=(json.dumps(asked),),
        limits=limits,
        kind="stub",
        workdir="/",
        read_only=True,
    )


def _server(image: ImageFacts, limits: Limits, stub: str) -> ContainerSpec:
    return ContainerSpec(
        image=image.id,
        command=COMMAND,
        environment=environment(image, limits),
        limits=limits,
        kind="check",
        network=f"container:{stub}",
    )


async def _answer_or_ending(engine: Engine, stub: str, server: str, timeout_s: float) -> Ending | None:
    """`None` once the stub saw an answer; else how the server ended, or that it was still running."""
    # The stub keeps the time; the margin is for Docker to tell us.
    limit = timeout_s + engine.timeout_s
    asking = asyncio.ensure_future(engine.wait(stub, limit))
    running = asyncio.ensure_future(engine.wait(server, limit))
    try:
        await asyncio.wait({asking, running}, return_when=asyncio.FIRST_COMPLETED)
        if not asking.done():
            code = running.result()
            return Ending(code, await engine.logs(server), await _out_of_memory(engine, server))
        asking.result()
    except EngineTimedOut:
        return Ending(None, await engine.logs(server))
    finally:
        for task in (asking, running):
            task.cancel()
    said = await engine.logs(stub)
    try:
        answered = bool(json.loads(said.strip().splitlines()[-1])["answered"])
    except (ValueError, KeyError, IndexError, TypeError):
        raise _stub_failed(said) from None
    return None if answered else Ending(None, await engine.logs(server))


def _stub_failed(said: str) -> EngineError:
    return EngineError(
        f"The stub hub did not run in the base image: {said.strip()[-300:]!r}.",
        "Make the base image again: run the installer once more.",
    )


async def _is_running(engine: Engine, container: str) -> bool:
    found = await engine.inspect(container)
    return bool(found and found["State"].get("Running"))


async def _out_of_memory(engine: Engine, container: str) -> bool:
    found = await engine.inspect(container)
    return bool(found and found["State"].get("OOMKilled"))


async def _remove(engine: Engine, *containers: str) -> None:
    """Both at once; a removal that fails is taken up by `remove_strays` later and says nothing about the
    image.
    """
    await asyncio.gather(*(engine.remove(each) for each in containers if each), return_exceptions=True)
