"""`FastPython`: repo2docker's Python pack on our base image, with uv.

For repositories that ask for Python packages only. It offers what the stock pack offers, in one environment
as the stock pack does, and steps aside where it could not honour the repository exactly. Steps that install
what files list depend on these files alone, so a commit that changes something else reuses them.
"""

from __future__ import annotations

import logging
import os
import re
import stat
import sys
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path
from typing import Any

import jinja2
from packaging.requirements import InvalidRequirement, Requirement
from packaging.specifiers import SpecifierSet
from packaging.version import Version
from repo2docker.buildpacks import PythonBuildPack

from ...errors import BuildFailed
from ..builder import StepFailed
from ..caches import INSTALL, own_cache, shared_cache
from .apt import parse_apt
from .install import AGAIN, GROUP
from .requirements import Requirements, read_requirements

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib  # type: ignore[import-not-found]

OLDEST = Version("3.10")  # that the Jupyter packages of our base are locked for
MAX_FILE_BYTES = 2**20

_HERE = files(__package__)
_RUN = "/run/littlest-binder"
_UNSPOKEN = logging.Logger("littlest-binder.unspoken", logging.CRITICAL)
_CONDA = re.compile(r"(^|[\s;&|/(`])(conda|mamba|micromamba)\b|/srv/conda|CONDA_", re.MULTILINE)
_PLAIN_PATH = re.compile(r"[A-Za-z0-9._+/-]+")
# For steps that run a repository's own code: index settings without credentials.
OPEN_SETTINGS = (
    "--mount=type=secret,id=pip.conf,target=/etc/pip.conf,mode=0444 "
    "--mount=type=secret,id=uv.toml,target=/etc/uv/uv.toml,mode=0444"
)


@dataclass(frozen=True)
class Recipe:
    """What the pack must know besides the repository.

    `base` has the Python `python` (such as 3.11). `with_python` gives the name of a base with another one, or
    None if that cannot be had; `asked` tells whether the repository named the version.
    """

    base: str
    python: str
    uid: int
    gid: int
    cache_namespace: str
    with_python: Callable[[str, bool], str | None]


def _is_itself(path: str) -> bool:
    """Whether no part of the path is a link: what BuildKit mounts then is what we read."""
    return Path(path).resolve() == Path.cwd().resolve() / path


class FastPython(PythonBuildPack):  # type: ignore[misc]
    """Python packages, with uv, on our own base image."""

    log: logging.Logger

    def __init__(self, base_image: str, recipe: Recipe) -> None:
        super().__init__(base_image)
        self._recipe = recipe
        self._base = ""
        self._dockerfile = ""
        self._from_source = False
        self.python = ""

    def detect(self) -> bool:
        return bool(super().detect()) and self.fits()

    def fits(self) -> bool:
        """Whether this pack can honour the repository; says why not."""
        reason = self._reason_to_step_aside() or self._choose_python()
        if reason:
            self.log.info("The fast build pack steps aside, since %s.\n", reason)
        return not reason

    def _reason_to_step_aside(self) -> str:
        for name in ("postBuild", "start"):
            content = self._read(self.binder_path(name)) or b""
            if _CONDA.search(content.decode(errors="replace")):
                return f"`{self.binder_path(name)}` uses conda"
        return self._requirements.beyond_base if self._requirements else ""

    def _choose_python(self) -> str:
        """Choose the base for the Python that the stock pack would take; else the reason why not."""
        wanted, asked = self._wanted_python()
        if Version(wanted) < OLDEST:
            return f"it has no Python {wanted}"
        self._base, self.python = self._recipe.base, wanted
        if wanted == self._recipe.python:
            return ""
        base = self._recipe.with_python(wanted, asked)
        if base is not None:
            self._base = base
            return ""
        self.python = self._recipe.python
        if asked or not self._package_allows(self.python):
            return f"Python {wanted}, which the repository asks for, could not be had"
        self.log.info(
            "The repository names no Python. repo2docker would take %s, which could not be had; "
            "this image gets %s. A runtime.txt with a line such as `python-%s` decides.\n",
            wanted,
            self.python,
            self.python,
        )
        return ""

    def _wanted_python(self) -> tuple[str, bool]:
        """The version that the stock pack would take, and whether the repository names it."""
        spoken, self.log = self.log, _UNSPOKEN
        try:
            wanted = str(self.python_version)
        finally:
            self.log = spoken  # the stock pack says which one it takes; it may not be the one we take
        return ".".join(wanted.split(".")[:2]), self._python_version_source == "runtime"

    def _package_allows(self, python: str) -> bool:
        """Whether pyproject.toml, if it says anything, is content with a version."""
        project = self._project()
        return python in SpecifierSet(str(project.get("requires-python", "")))

    # -- what the repository asks for -----------------------------------------------------------------

    def _read(self, path: str) -> bytes | None:
        """A file of the checkout, None if there is none; never anything outside of it."""
        inside = Path.cwd().resolve()
        try:
            real = Path(path).resolve(strict=True)
            if not real.is_relative_to(inside) or not stat.S_ISREG(real.stat().st_mode):
                return None
            if real.stat().st_size > MAX_FILE_BYTES:
                raise BuildFailed(
                    f"{path} has {real.stat().st_size} bytes; more than {MAX_FILE_BYTES} are not read.",
                    "Is it the right file?",
                    code="build-file-too-large",
                )
            return real.read_bytes()
        except (OSError, RuntimeError):
            return None

    @property
    def _requirements(self) -> Requirements | None:
        path = self.binder_path("requirements.txt")
        return read_requirements(path, self._read) if os.path.exists(path) else None

    def _early(self, requirements: Requirements) -> bool:
        """Whether the files alone are enough to install them."""
        return not requirements.local and all(
            _PLAIN_PATH.fullmatch(each) and _is_itself(each) for each in requirements.files
        )

    def _listed_dependencies(self) -> bool:
        """Whether pyproject.toml lists the dependencies of the package itself, all by name."""
        if not self._is_python_package() or not _is_itself("pyproject.toml"):
            return False
        try:
            listed = [Requirement(each) for each in self._project().get("dependencies", [])]
        except (InvalidRequirement, TypeError):
            return False  # the package's own build backend says what is wrong
        return bool(listed) and not any(each.url for each in listed)

    def _project(self) -> dict[str, Any]:
        """The table `project` of the repository's own pyproject.toml, empty if there is none."""
        content = None if self.binder_dir else self._read("pyproject.toml")
        try:
            project = tomllib.loads((content or b"").decode()).get("project", {})
        except (UnicodeDecodeError, tomllib.TOMLDecodeError):
            return {}
        return project if isinstance(project, dict) else {}

    # -- the Dockerfile -------------------------------------------------------------------------------

    def _steps_before(self) -> Iterator[str]:
        """Before the repository is copied: `RUN` with the files of which they depend."""
        requirements = self._requirements
        if requirements and self._early(requirements):
            yield self._install(requirements, f"-r {_RUN}/src/{requirements.files[0]}", requirements.files)
        if self._listed_dependencies():
            what = f"-r {_RUN}/src/pyproject.toml"
            yield self._install(None, what, ("pyproject.toml",), "--optional")

    def _steps_after(self) -> Iterator[str]:
        requirements = self._requirements
        if requirements and not self._early(requirements):
            yield self._install(requirements, f'-r "{self.binder_path("requirements.txt")}"')
        if self._is_python_package():
            yield self._install(None, ".")

    def _install(
        self, requirements: Requirements | None, what: str, mounted: tuple[str, ...] = (), *more: str
    ) -> str:
        wheels = bool(mounted and requirements and requirements.plain and not requirements.only_pip)
        wheels = wheels and not self._from_source
        options = [f"--user {self._recipe.uid}:{self._recipe.gid}", *(("--wheels",) if wheels else ()), *more]
        if requirements and requirements.only_pip:
            self.log.info("pip installs the requirements, since %s.\n", requirements.only_pip)
            options.append("--only-pip")
        if requirements and requirements.hashes:
            options.append("--require-hashes")
        mounts = [f"type=bind,source={each},target={_RUN}/src/{each}" for each in mounted]
        mounts += self._shared_mounts() if wheels else self._own_mounts()
        return " ".join([*(f"--mount={each}" for each in mounts), INSTALL, *options, "--", what])

    def _shared_mounts(self) -> list[str]:
        """The same for all repositories, so that equal files give equal layers."""
        return [
            f"type=cache,id={shared_cache(self._recipe.uid)},target={_RUN}/shared",
            f"type=secret,id=uv-trusted.toml,target={_RUN}/uv-trusted.toml,gid={GROUP},mode=0440",
        ]

    def _own_mounts(self) -> list[str]:
        cache = own_cache(self._recipe.cache_namespace, self._recipe.uid)
        return [
            f"type=cache,id={cache},target={_RUN}/own,uid={self._recipe.uid},gid={self._recipe.gid}",
            f"type=secret,id=uv.toml,target={_RUN}/uv.toml,mode=0444",
            f"type=secret,id=pip.conf,target={_RUN}/pip.conf,mode=0444",
        ]

    def render(self, build_args: Mapping[str, str] | None = None) -> str:
        """The Dockerfile; its context is the repository itself."""
        if not self._dockerfile:
            self._dockerfile = self._rendered(build_args or {})
        return self._dockerfile

    def _rendered(self, build_args: Mapping[str, str]) -> str:
        apt = self._read(self.binder_path("apt.txt"))
        template = jinja2.Environment(undefined=jinja2.StrictUndefined, autoescape=False)  # noqa: S701
        return template.from_string((_HERE / "fast.Dockerfile").read_text()).render(
            base=self._base,
            repo_dir=build_args.get("REPO_DIR", ""),
            uid=self._recipe.uid,
            gid=self._recipe.gid,
            apt=parse_apt(apt.decode(errors="replace")) if apt is not None else (),
            cache=f"littlest-binder-{self._base.rpartition(':')[2]}",
            before=list(self._steps_before()),
            after=list(self._steps_after()),
            open_settings=OPEN_SETTINGS,
            post_build=self.get_post_build_scripts(),
            scripts=self._not_executable(),
            start=self.get_start_script(),
            appendix=self.appendix,
        )

    def _not_executable(self) -> list[str]:
        names = [self.binder_path(name) for name in ("postBuild", "start")]
        return [name for name in names if os.path.exists(name) and not os.access(name, os.X_OK)]

    def ignored(self) -> str:
        """What the repository wants left out, in the form of a .dockerignore."""
        lines = []
        for name in (".dockerignore", ".containerignore"):
            content = self._read(self.binder_path(name)) or b""
            lines += [line.strip() for line in content.decode(errors="replace").splitlines()]
        return (
            "\n".join(["# left out of the image", *(each for each in lines if each and each[0] != "#")])
            + "\n"
        )

    def build(
        self,
        client: Any,
        image_spec: str,
        memory_limit: int,
        build_args: Mapping[str, str],
        cache_from: list[str],
        extra_build_kwargs: Mapping[str, Any],
        platform: str | None = None,
    ) -> Iterator[str]:
        """Build from the folder itself: a large repository is neither copied nor held in memory.

        Where wheels alone are not enough, build once more, with steps that may run code.
        """
        more = {
            "path": ".",
            "ignored": self.ignored(),
            "tag": image_spec,
            "buildargs": dict(build_args),
            "cache_from": cache_from,
            "platform": platform,
            **extra_build_kwargs,
        }
        again = False
        try:
            for line in client.build(dockerfile_text=self.render(build_args), **more):
                if not again:
                    yield line
                again = again or AGAIN in line
        except StepFailed:
            if not again:
                raise
            self._from_source, self._dockerfile = True, ""
            yield from client.build(dockerfile_text=self.render(build_args), **more)
