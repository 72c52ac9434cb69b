"""The base image of the fast build pack, also good for a Dockerfile's `FROM littlest-binder/base`.

Comes in: the settings and what this machine needs to reach the network. Goes out: an image whose name carries
a digest of everything it was made from, so that looking is enough to know that it is up to date.
"""

from __future__ import annotations

import asyncio
import hashlib
import os
import re
import tempfile
from asyncio.subprocess import DEVNULL, PIPE, STDOUT
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from dataclasses import dataclass
from importlib.metadata import version
from importlib.resources import files
from pathlib import Path

import jinja2

from ..engine.buildx import buildx_command, not_taken_up, running
from ..engine.facade import Engine
from ..errors import BuildTimedOut, EngineError, EngineTimedOut, EngineUnavailable
from ..installation import instance_id
from ..settings import Settings
from ..time_limit import within
from .builder import OTHER_BUILDER, buildx_environment
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
_COPIED = ("repo2docker-entrypoint", "python3-login", "install.py", "bytecode.py", "lab.json")
# JupyterLab reads all of this folder before `settings/overrides.json`, which is left to repositories
# (jupyterlab_server, `settings_utils.py`: `_get_overrides`).
_LAB_SETTINGS = "share/jupyter/lab/settings/overrides.d/00-littlest-binder.json"
_STEP = re.compile(r"^(#\d+ )?(\d+\.\d+ +)?")
_BUNDLE = Path("/etc/ssl/certs/ca-certificates.crt")


# In the environment of the base and of images on it: the version of their Python, such as 3.11.
PYTHON_VARIABLE = "LITTLEST_BINDER_PYTHON"
_DEBIAN_PYTHON = {"bookworm": "3.11", "trixie": "3.13"}


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


def _render(template: str, **values: object) -> str:
    environment = jinja2.Environment(undefined=jinja2.StrictUndefined, autoescape=False)  # noqa: S701
    return environment.from_string((_RECIPE / template).read_text()).render(**values)


def _context(settings: Settings, machine: Machine, debian_id: str) -> _Context:
    dockerfile = _render(
        "base.Dockerfile",
        debian=f"{DEBIAN}:{settings.build.release}",
        packages=PACKAGES,
        certificates=[name for name, _ in machine.certificates],
        uv=UV,
        nodejs=NODEJS,
        user=USER,
        uid=settings.server_uid,
        gid=settings.server_gid,
        variable=PYTHON_VARIABLE,
        python=_DEBIAN_PYTHON[settings.build.release],
        own_mirror=bool(settings.build.mirror),
        lab_settings=_LAB_SETTINGS,
    )
    content = {
        "Dockerfile": f"# {debian_id}\n{dockerfile}".encode(),
        "jupyter.txt": (_RECIPE / "jupyter.txt").read_bytes(),
        "certificates/bundle.pem": _BUNDLE.read_bytes() if _BUNDLE.exists() else b"",
    }
    if settings.build.mirror:
        content["sources.list"] = sources(settings.build.mirror, settings.build.release).encode()
    content |= {name: (_RECIPE / name).read_bytes() for name in _COPIED}
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


async def current_recipe(settings: Settings) -> str:
    """The recipe that builds use now, without making anything; empty while Debian's image is not there.

    Raises `EngineError`.
    """
    digest = await _wanted(settings)
    return recipe_digest(settings, BaseImage(name="", id="", digest=digest)) if digest else ""


async def base_name(settings: Settings) -> str:
    """The name under which the base is looked for on this engine; empty while Debian's image is not there.

    Raises `EngineError`.
    """
    digest = await _wanted(settings)
    return f"{BASE}:{digest[:12]}" if digest else ""


async def _wanted(settings: Settings) -> str:
    """The digest of the base that these settings ask for, or empty."""
    machine = await asyncio.to_thread(read_machine)
    engine = Engine(instance_id(settings), timeout_s=settings.docker.timeout_s)
    try:
        debian = await engine.image(f"{DEBIAN}:{settings.build.release}")
    finally:
        await engine.close()
    return "" if debian is None else _context(settings, machine, debian.id).digest


def how_to_have(settings: Settings, debian: str) -> str:
    """What brings Debian's image of that name; a JupyterHub of one's own was not made by our installer."""
    if settings.platform == "jupyterhub":
        plain = f"debian:{settings.build.release}"
        return f"Make it: `docker pull {plain} && docker tag {plain} {debian}`."
    return f"Run the installer again: `sudo python3 installer/bootstrap.py {settings.platform}` makes it."


async def ensure_base(
    settings: Settings, say: Callable[[str], None], *, machine: Machine | None = None
) -> BaseImage:
    """The base image, built if it is not there as `littlest-binder/base:<12 hex of the recipe>`.

    `say` gets the builder's lines. The name `littlest-binder/base:latest` follows. Raises `EngineError` if
    Debian's image is missing (the installer makes it) or if the build fails, and `BuildTimedOut` if it falls
    silent.
    """
    machine = machine or read_machine()
    engine = Engine(instance_id(settings), timeout_s=settings.docker.timeout_s)
    try:
        debian_name = f"{DEBIAN}:{settings.build.release}"
        debian = await engine.image(debian_name)
        if debian is None:
            raise EngineError(
                f"The image {debian_name}, on which our base image stands, is not there.",
                how_to_have(settings, debian_name),
                code="base-missing",
            )
        context = _context(settings, machine, debian.id)
        name = f"{BASE}:{context.digest[:12]}"
        found = await engine.image(name)
        if found is None:
            say(f"Making the base image {name}; this is done once and takes some minutes.")
            patience = _Patience(settings.docker.timeout_s, settings.build.silence_s)
            await _build(context, machine, name, say, patience)
            found = await engine.image(name)
            if found is None:
                raise EngineError(f"The build of {name} ended, but there is no such image.", "Try again.")
        if f"{BASE}:latest" not in found.tags:
            await engine.tag(found.id, f"{BASE}:latest")
        return BaseImage(name=name, id=found.id, digest=context.digest)
    finally:
        await engine.close()


async def ensure_python(
    base: str,
    version: str,
    *,
    machine: Machine,
    owner: tuple[int, int],
    again: bool,
    say: Callable[[str], None],
    patience_s: float = 60.0,
) -> str | None:
    """The name of the base with another Python (such as 3.12), None if that cannot be had.

    uv downloads it where its server can be reached. A failure is remembered, as a name of the base itself,
    for as long as there is this base; `again` tries all the same. `owner` is uid and gid of its files. Docker
    has `patience_s` seconds for an answer and to take up the build, which the caller limits otherwise.
    """
    name = f"{base}-python-{version}"
    engine = Engine("base", timeout_s=patience_s)
    try:
        found = await engine.image(name)
        if found is not None and (found.env.get(PYTHON_VARIABLE) == version or not again):
            return name if found.env.get(PYTHON_VARIABLE) == version else None
        say(f"Fetching Python {version}; this is done once.")
        uid, gid = owner
        dockerfile = _render(
            "python.Dockerfile",
            base=base,
            version=version,
            uid=uid,
            gid=gid,
            variable=PYTHON_VARIABLE,
            lab_settings=_LAB_SETTINGS,
        )
        copied = {name: (_RECIPE / name).read_bytes() for name in ("jupyter.txt", "lab.json")}
        context = _Context({"Dockerfile": dockerfile.encode(), **copied})
        try:
            await _build(context, machine, name, lambda _: None, _Patience(patience_s))
        except (EngineUnavailable, EngineTimedOut):
            raise
        except EngineError as error:
            found = await engine.image(name)
            if found is not None and found.env.get(PYTHON_VARIABLE) == version:
                return name  # another build got it meanwhile, and stands on it
            say(f"Python {version} could not be had: {error.message}")
            await engine.tag(base, name)
            return None
        return name
    finally:
        await engine.close()


@dataclass(frozen=True)
class _Patience:
    """Seconds until the first line of a build, and between two lines (None: as long as it takes)."""

    first_s: float
    silence_s: float | None = None


async def _build(
    context: _Context, machine: Machine, name: str, say: Callable[[str], None], patience: _Patience
) -> None:
    with tempfile.TemporaryDirectory(prefix="littlest-binder-base-") as scratch:
        folder = Path(scratch) / "context"
        context.write(folder)
        command = [*buildx_command(), "build", "--progress", "plain", "--tag", name]
        command += [*machine.proxy_arguments(), *machine.secret_arguments(trusted=True), str(folder)]
        await _run(command, name, machine, Path(scratch), say, patience)


async def _run(
    command: list[str],
    name: str,
    machine: Machine,
    scratch: Path,
    say: Callable[[str], None],
    patience: _Patience,
) -> None:
    environment = {**os.environ, **machine.environment(), **buildx_environment(scratch)}
    last: list[str] = []
    async with running(
        *command, stdin=DEVNULL, stdout=PIPE, stderr=STDOUT, env=environment, limit=2**20
    ) as process:
        if process.stdout is not None:
            async for raw in _lines(process.stdout, name, patience):
                line = raw.decode(errors="replace").rstrip()
                for secret in machine.secrets:
                    line = line.replace(secret, "***")
                if OTHER_BUILDER.match(line):
                    raise EngineUnavailable(
                        f"Docker broke off the connection to the build of {name}.",
                        "Try again; if it happens again, look at Docker's own log and restart Docker.",
                    )
                last = [*last[-39:], line]
                say(line)
        code = await process.wait()
    if code != 0:
        raise EngineError(
            f"The build of {name} failed: {_reason(last)}",
            "Look at the lines above; if it is the network, correct proxy, mirror or index, and try again.",
            code="base-failed",
        )


async def _lines(output: asyncio.StreamReader, name: str, patience: _Patience) -> AsyncIterator[bytes]:
    """Raises `EngineTimedOut` before the first line, `BuildTimedOut` after it."""
    limit: float | None = patience.first_s
    heard = False
    while True:
        try:
            line = await within(limit, output.readline())
        except (TimeoutError, asyncio.TimeoutError):
            if not heard:
                raise not_taken_up(patience.first_s) from None
            raise BuildTimedOut(
                f"The build of {name} printed nothing for {limit:g} seconds.",
                "Try again; if it repeats, look at Docker's log and at the machine's way to the network.",
            ) from None
        if not line:
            return
        yield line
        heard, limit = True, patience.silence_s


def _reason(lines: Sequence[str]) -> str:
    """The line that says why: programs end with the deepest cause, BuildKit's own words follow it."""
    for pattern in (r"\bcause: |\berror: |^E: ", r"\bERROR\b", r"."):
        told = [line for line in (_STEP.sub("", each).strip() for each in lines) if re.search(pattern, line)]
        if told:
            return told[-1][:300]
    return "it said nothing"
