"""The base image of the fast build pack, also good for a Dockerfile's `FROM littlest-binder/base`.

Comes in: the settings and what this machine needs to reach the network. Goes out: an image whose name carries
a digest of everything it was made from, so that looking is enough to know that it is up to date.
"""

from __future__ import annotations

import asyncio
import hashlib
import os
import tempfile
from asyncio.subprocess import DEVNULL, PIPE, STDOUT
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from importlib.metadata import version
from importlib.resources import files
from pathlib import Path

import jinja2

from ..engine.buildx import buildx_command
from ..engine.facade import Engine
from ..errors import EngineError, EngineUnavailable
from ..installation import instance_id
from ..settings import Settings
from .machine import Machine, read_machine

BASE = "littlest-binder/base"
DEBIAN = "littlest-binder/debian"
USER = "jovyan"

UV = "0.13.8"
NODEJS = "20.18.0"

# What repo2docker's images have and people's `postBuild` rely on: version control, downloads, archives, a
# C/C++ compiler with Python's headers. Libraries to compile against belong into a repository's apt.txt.
PACKAGES = (
    "build-essential",
    "bzip2",
    "ca-certificates",
    "curl",
    "file",
    "gettext-base",
    "git",
    "less",
    "locales",
    "nano",
    "netbase",
    "openssh-client",
    "patch",
    "pkg-config",
    "procps",
    "python3",
    "python3-dev",
    "python3-venv",
    "tzdata",
    "unzip",
    "wget",
    "xz-utils",
    "zip",
)

_RECIPE = files(__package__) / "recipe"
_SCRIPTS = ("repo2docker-entrypoint", "python3-login", "install.py")
_BUNDLE = Path("/etc/ssl/certs/ca-certificates.crt")


@dataclass(frozen=True)
class BaseImage:
    """`name` is `littlest-binder/base:<12 hex>`, `id` Docker's, `digest` its recipe's SHA-256 in hex."""

    name: str
    id: str
    digest: str


@dataclass(frozen=True)
class _Context:
    """The files of a build by their names in it."""

    content: Mapping[str, bytes]

    @property
    def digest(self) -> str:
        """Over what ends up in the image; the bundle only serves to reach a mirror."""
        total = hashlib.sha256()
        for name in sorted(self.content):
            if name != "certificates/bundle.pem":
                total.update(f"{name}\0{len(self.content[name])}\0".encode() + self.content[name])
        return total.hexdigest()

    def write(self, folder: Path) -> None:
        for name, content in self.content.items():
            path = folder / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(content)


def sources(mirror: str, release: str) -> str:
    """Debian's sources.list; the security archive is beside the main one on every mirror that has it."""
    mirror = mirror.rstrip("/")
    lines = [f"deb {mirror} {release} main", f"deb {mirror} {release}-updates main"]
    if mirror.endswith("/debian"):
        lines.append(f"deb {mirror}-security {release}-security main")
    return "\n".join(lines) + "\n"


def _context(settings: Settings, machine: Machine, debian_id: str) -> _Context:
    template = jinja2.Environment(undefined=jinja2.StrictUndefined, autoescape=False).from_string(  # noqa: S701
        (_RECIPE / "base.Dockerfile").read_text()
    )
    dockerfile = template.render(
        debian=f"{DEBIAN}:{settings.build.release}",
        packages=PACKAGES,
        certificates=[name for name, _ in machine.certificates],
        uv=UV,
        nodejs=NODEJS,
        user=USER,
        uid=settings.server_uid,
        gid=settings.server_gid,
    )
    content = {
        "Dockerfile": f"# {debian_id}\n{dockerfile}".encode(),
        "jupyter.txt": (_RECIPE / "jupyter.txt").read_bytes(),
        "sources.list": sources(settings.build.mirror, settings.build.release).encode(),
        "certificates/bundle.pem": _BUNDLE.read_bytes() if _BUNDLE.exists() else b"",
    }
    content |= {name: (_RECIPE / name).read_bytes() for name in _SCRIPTS}
    content |= {f"certificates/extra/{name}": pem for name, pem in machine.certificates}
    return _Context(content)


def recipe_digest(settings: Settings, base: BaseImage) -> str:
    """What besides the repository decides how an image turns out, as hex: an attribute of an image."""
    parts = [
        version("jupyter-repo2docker"),
        base.digest,
        settings.build.appendix,
        str(settings.build.fast_python),
        f"{settings.server_uid}:{settings.server_gid}:{USER}",
    ]
    parts += [
        f"{each.name}\0{each.read_text()}"
        for each in sorted(_RECIPE.iterdir(), key=lambda each: each.name)
        if each.is_file()
    ]
    return hashlib.sha256("\0".join(parts).encode()).hexdigest()


async def ensure_base(
    settings: Settings, say: Callable[[str], None], *, machine: Machine | None = None
) -> BaseImage:
    """The base image, built if it is not there as `littlest-binder/base:<12 hex of the recipe>`.

    `say` gets the builder's lines. The name `littlest-binder/base:latest` follows. Raises `EngineError` if
    Debian's image is missing (the installer makes it) or if the build fails.
    """
    machine = machine or read_machine()
    engine = Engine(instance_id(settings))
    try:
        debian_name = f"{DEBIAN}:{settings.build.release}"
        debian = await engine.image(debian_name)
        if debian is None:
            raise EngineError(
                f"The image {debian_name}, on which our base image stands, is not there.",
                "Run the installer again: `sudo python3 installer/bootstrap.py` makes it.",
                code="base-missing",
            )
        context = _context(settings, machine, debian.id)
        name = f"{BASE}:{context.digest[:12]}"
        found = await engine.image(name)
        if found is None:
            say(f"Making the base image {name}; this is done once and takes some minutes.")
            await _build(context, machine, name, say)
            found = await engine.image(name)
            if found is None:
                raise EngineError(f"The build of {name} ended, but there is no such image.", "Try again.")
        if f"{BASE}:latest" not in found.tags:
            await engine.tag(found.id, f"{BASE}:latest")
        return BaseImage(name=name, id=found.id, digest=context.digest)
    finally:
        await engine.close()


async def _build(context: _Context, machine: Machine, name: str, say: Callable[[str], None]) -> None:
    with tempfile.TemporaryDirectory(prefix="littlest-binder-base-") as scratch:
        folder, secrets = Path(scratch) / "context", Path(scratch) / "secrets"
        context.write(folder)
        command = [*buildx_command(), "build", "--progress", "plain", "--tag", name]
        command += [*machine.proxy_arguments(), *secret_arguments(machine, secrets), str(folder)]
        await _run(command, machine, say)


def secret_arguments(machine: Machine, folder: Path, *, credentials: bool = True) -> list[str]:
    """Write the index settings below `folder` and name them to BuildKit as `pip.conf` and `uv.toml`."""
    index = machine.index if credentials else machine.index.without_credentials()
    if not index:
        return []
    folder.mkdir(mode=0o700, exist_ok=True)
    arguments = []
    for name, text in (("pip.conf", index.pip_conf()), ("uv.toml", index.uv_toml())):
        (folder / name).write_text(text)
        arguments += ["--secret", f"id={name},src={folder / name}"]
    return arguments


async def _run(command: list[str], machine: Machine, say: Callable[[str], None]) -> None:
    try:
        process = await asyncio.create_subprocess_exec(
            *command,
            stdin=DEVNULL,
            stdout=PIPE,
            stderr=STDOUT,
            env=machine.environment(os.environ),
            limit=2**20,
        )
    except FileNotFoundError:
        raise EngineUnavailable(
            "The `docker` command was not found.", "Install the Docker command line (Debian: `docker-cli`)."
        ) from None
    last: list[str] = []
    try:
        if process.stdout is not None:
            async for raw in process.stdout:
                line = raw.decode(errors="replace").rstrip()
                for secret in machine.secrets:
                    line = line.replace(secret, "***")
                last = [*last[-19:], line]
                say(line)
        code = await process.wait()
    finally:
        if process.returncode is None:
            process.terminate()
            await process.wait()
    if code != 0:
        told = [line for line in last if "ERROR" in line or "error:" in line] or last or [""]
        raise EngineError(
            f"The base image could not be built: {told[-1].strip()[:300]}",
            "Look at the lines above; if it is the network, correct proxy, mirror or index, and try again.",
            code="base-failed",
        )
