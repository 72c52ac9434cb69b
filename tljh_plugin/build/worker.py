"""The worker: one process, one build, around repo2docker.

Run as `python -m tljh_plugin.build.worker`. The first line of stdin is a `WorkerJob`; stdin then stays open
as a life-line, whose end is the order to stop at once. Events go to stdout, one JSON value a line, the last
one is the result. repo2docker changes folders, log handlers and hooks of its process: hence one of its own.
"""

from __future__ import annotations

import asyncio
import logging
import os
import re
import signal
import sys
import threading
import traceback
from collections import deque
from collections.abc import Iterator, Mapping
from functools import cached_property, partial
from pathlib import Path
from typing import Any, NoReturn

from pydantic import ValidationError
from repo2docker.app import Repo2Docker
from repo2docker.buildpacks import DockerBuildPack, PythonBuildPack

from ..engine import Engine
from ..errors import BinderError, BuildFailed, DockerfileRefused, EngineError
from ..wire import ErrorView
from .archives import refuse_large
from .base import PYTHON_VARIABLE, ensure_python
from .builder import Builder, StepFailed
from .dockerfile import LocalImages, check_dockerfile, read_dockerfile
from .explain import explain
from .job import LogEvent, PhaseEvent, ResultEvent, WorkerJob
from .machine import Machine, read_machine
from .progress import Progress
from .recipe.apt import parse_apt
from .recipe.fast_python import FastPython, Recipe

# What repo2docker reads on the host; a link there could lead it out of the checkout.
_READ_BY_REPO2DOCKER = (
    ".containerignore",
    ".dockerignore",
    "DESCRIPTION",
    "Dockerfile",
    "JuliaProject.toml",
    "Manifest.toml",
    "Pipfile",
    "Pipfile.lock",
    "Project.toml",
    "REQUIRE",
    "apt.txt",
    "default.nix",
    "environment.yaml",
    "environment.yml",
    "install.R",
    "postBuild",
    "pyproject.toml",
    "requirements.txt",
    "requirements3.txt",
    "runtime.txt",
    "setup.py",
    "start",
)
_FILES_BY_ERROR = {
    "InvalidSpecifier": "pyproject.toml",
    "InvalidVersion": "runtime.txt",
    "JSONDecodeError": "Pipfile.lock",
    "TOMLDecodeError": "pyproject.toml",
    "TomlDecodeError": "Pipfile",
    "YAMLError": "environment.yml",
}
_SAID_BETTER = re.compile(r"Picked Finished content provider|Using \w+ builder$")
_RUNTIME = re.compile(r"[A-Za-z0-9.]+(-[A-Za-z0-9.]+)*", re.ASCII)
_MOST_BYTES = 16 * 1024**2  # of a file that repo2docker reads whole, some with slow parsers
_TAIL_LINES = 400
_ENGINE = "worker"  # builds need no network or container of ours, so no installation's id either


class Output:
    """Events, on what was stdout; whatever else is printed goes to stderr. Safe to use from threads."""

    def __init__(self, machine: Machine, secrets: Mapping[str, str]) -> None:
        self._stream = os.fdopen(os.dup(1), "wb", buffering=0)
        os.dup2(2, 1)
        self._lock = threading.Lock()
        self._secrets = sorted({*machine.secrets, *secrets.values()} - {""}, key=len, reverse=True)
        self._progress = Progress()
        self._told = -1
        self.tail: deque[str] = deque(maxlen=_TAIL_LINES)

    def line(self, line: str) -> None:
        """A line of the builder."""
        for secret in self._secrets:
            line = line.replace(secret, "***")
        text = self._progress.read(line)
        if text is not None:
            self.tail.append(text)
            self._send(LogEvent(text=text))
        if self._progress.percent > self._told:
            self._told = self._progress.percent
            self._send(PhaseEvent(progress=self._told))

    def result(self, result: ResultEvent) -> None:
        self._send(result)

    def _send(self, event: LogEvent | PhaseEvent | ResultEvent) -> None:
        with self._lock:
            self._stream.write(event.model_dump_json().encode() + b"\n")


class _Lines(logging.Handler):
    """repo2docker's log as lines."""

    def __init__(self, output: Output) -> None:
        super().__init__()
        self._output = output

    def emit(self, record: logging.LogRecord) -> None:
        for line in record.getMessage().splitlines():
            if not _SAID_BETTER.match(line):
                self._output.line(line)


class Finished:
    """The content provider for a checkout that is already there."""

    content_id = None

    def detect(self, source: str, ref: str | None = None, extra_args: object = None) -> str:
        return source

    def fetch(self, spec: str, output_dir: str, yield_output: bool = False) -> Iterator[str]:
        yield from ()


class App(Repo2Docker):  # type: ignore[misc]
    """repo2docker with our builder, which never takes an image of the same name for this one."""

    builder: Builder

    def get_engine(self) -> Builder:
        return self.builder

    def find_image(self) -> bool:
        return False


class CheckedDockerfile(DockerBuildPack):  # type: ignore[misc]
    """A repository's own Dockerfile, after it was read under the policy."""

    def __init__(self, base_image: str, job: WorkerJob, builder: Builder) -> None:
        super().__init__(base_image)
        self._job = job
        self._builder = builder

    def detect(self) -> bool:
        if not super().detect():
            return False
        path = self.binder_path("Dockerfile")
        if not self._job.dockerfile_allowed:
            raise DockerfileRefused(
                f"This repository is built by its own {path}, and that is not allowed here.",
                "Ask an administrator to list the repository in `policy.dockerfile_repositories`, or "
                "describe the environment in requirements.txt instead.",
            )
        # What repo2docker passes to every build.
        arguments = {"NB_USER": self._job.user_name, "NB_UID": str(self._job.uid), **self._job.build_args}
        plan = check_dockerfile(
            read_dockerfile(Path(path)), arguments, asyncio.run(_local_images(self._job.docker_timeout_s))
        )
        refuse_large(Path.cwd(), plan.added, self._job.max_unpacked_bytes)
        self._builder.pull = plan.pull
        return True


def check_rendered(path: Path, arguments: Mapping[str, str], base: str, docker_timeout_s: float) -> None:
    """What repo2docker wrote: no word of a repository may have become an instruction that is refused."""
    images = asyncio.run(_local_images(docker_timeout_s)).all_but(base)
    check_dockerfile(read_dockerfile(path), arguments, images)


async def _local_images(docker_timeout_s: float) -> LocalImages:
    engine = Engine(_ENGINE, timeout_s=docker_timeout_s)
    try:
        rows = await engine.images()
    finally:
        await engine.close()
    return LocalImages(
        names=frozenset(name for row in rows for name in (*row.tags, *row.digests)),
        only_here=frozenset(name for row in rows if not row.digests for name in row.tags),
    )


async def _base_python(name: str, docker_timeout_s: float) -> str:
    """The version of Python in the base image."""
    engine = Engine(_ENGINE, timeout_s=docker_timeout_s)
    try:
        base = await engine.image(name)
    finally:
        await engine.close()
    if base is None:
        raise EngineError(
            f"The base image {name} is not there.", "Build again: it is made anew.", code="base-missing"
        )
    return base.env.get(PYTHON_VARIABLE, "")


class Worker:
    """One build from its job to its result."""

    def __init__(self, job: WorkerJob, machine: Machine, output: Output) -> None:
        self._job = job
        self._machine = machine
        self._output = output
        self._folder = job.checkout / job.subdir
        self._pack: Any = None
        self.builder = Builder(machine, job.labels, job.cache_namespace, patience_s=job.docker_timeout_s)
        self.builder.no_cache = job.no_cache

    def run(self) -> ResultEvent:
        """Build; every failure becomes a result."""
        try:
            self._look_at_files()
            self._build()
        except StepFailed:
            return _failed(explain(self._output.tail))
        except BinderError as error:
            return _failed(error)
        except (SystemExit, Exception) as error:
            traceback.print_exc(file=sys.stderr)
            return _failed(_not_understood(error, self._output.tail))
        return ResultEvent(
            ok=True,
            image_id=self.builder.image_id,
            digest=self.builder.digest,
            pack=self._pack_name,
            python=getattr(self._pack, "python", ""),
        )

    def _look_at_files(self) -> None:
        """Nothing that is read on this machine may lie outside of the checkout."""
        root = self._job.checkout.resolve()
        if not self._folder.is_dir() or not self._folder.resolve().is_relative_to(root):
            raise BuildFailed(
                f"The repository has no folder `{self._job.subdir}`.",
                "Correct the folder in the link.",
                code="build-no-such-folder",
            )
        for folder in (self._folder, self._folder / "binder", self._folder / ".binder"):
            for name in (".", *_READ_BY_REPO2DOCKER):
                path = folder / name
                if (path.is_symlink() or path.exists()) and not path.resolve().is_relative_to(root):
                    raise BuildFailed(
                        f"`{path.relative_to(self._job.checkout)}` is a link that leaves the repository.",
                        "Put the file itself there.",
                        code="build-link-leaves",
                    )
                if path.is_file() and path.stat().st_size > _MOST_BYTES:
                    raise BuildFailed(
                        f"{path.relative_to(self._job.checkout)} has {path.stat().st_size} bytes; more than "
                        f"{_MOST_BYTES} are not read.",
                        "Is it the right file?",
                        code="build-file-too-large",
                    )
            apt = folder / "apt.txt"
            if apt.is_file():
                parse_apt(apt.read_text(encoding="utf-8", errors="replace"))
            _look_at_runtime(folder / "runtime.txt")

    def _build(self) -> None:
        job = self._job
        app = App()
        app.builder = self.builder
        self.builder.before = lambda: self._output.line(f"Build pack: {self._pack_name}")
        self.builder.inspect = lambda path, arguments: check_rendered(
            path, arguments, app.base_image, self._job.docker_timeout_s
        )
        app.log_level = logging.INFO
        app.initialize()
        app.log.handlers = [_Lines(self._output)]
        app.log.propagate = False
        app.repo, app.ref = str(job.checkout), None
        app.subdir = job.subdir
        app.content_providers = [Finished]
        app.output_image_spec = job.image_name
        app.user_id, app.user_name = job.uid, job.user_name
        app.appendix = job.appendix
        app.extra_build_args = job.build_args
        app.run, app.push, app.cleanup_checkout = False, False, False
        app.buildpacks = [self._remember(pack) for pack in self._packs(list(app.buildpacks))]
        app.default_buildpack = self._remember(self._default)
        app.build()

    def _packs(self, stock: list[Any]) -> list[Any]:
        """The stock packs, with ours where it stands in for one of them."""
        checked = partial(CheckedDockerfile, job=self._job, builder=self.builder)
        packs = [checked if pack is DockerBuildPack else pack for pack in stock]
        if self._job.fast_python:
            packs.insert(packs.index(PythonBuildPack), self._fast)
        return packs

    def _fast(self, base_image: str) -> FastPython:
        job = self._job
        return FastPython(
            base_image,
            Recipe(
                base=job.base_image,
                python=self._python,
                uid=job.uid,
                gid=job.gid,
                cache_namespace=job.cache_namespace,
                with_python=self._with_python,
            ),
        )

    @property
    def _pack_name(self) -> str:
        return type(self._pack).__name__

    @cached_property
    def _python(self) -> str:
        return asyncio.run(_base_python(self._job.base_image, self._job.docker_timeout_s))

    def _default(self, base_image: str) -> Any:
        """For a repository that describes no environment: the plain one."""
        if self._job.fast_python:
            pack = self._fast(base_image)
            if pack.fits():
                return pack
        return PythonBuildPack(base_image)

    def _with_python(self, version: str, asked: bool) -> str | None:
        return asyncio.run(
            ensure_python(
                self._job.base_image,
                version,
                machine=self._machine,
                owner=(self._job.uid, self._job.gid),
                again=asked,
                say=self._output.line,
                patience_s=self._job.docker_timeout_s,
            )
        )

    def _remember(self, pack: Any) -> Any:
        """repo2docker keeps the pack that it picked to itself; the last one that was made is that one."""

        def make(base_image: str) -> Any:
            self._pack = pack(base_image=base_image)
            return self._pack

        return make


def _look_at_runtime(path: Path) -> None:
    """repo2docker puts R's version, whatever it is, into the Dockerfile and into commands that root runs."""
    text = path.read_text(encoding="utf-8", errors="replace").strip() if path.is_file() else ""
    if text and not _RUNTIME.fullmatch(text):
        raise BuildFailed(
            f"runtime.txt does not name a version: {text!r:.80}.",
            "Write one line such as `python-3.11` or `r-4.4-2025-01-01`.",
            code="build-not-understood",
        )


def _failed(error: BinderError) -> ResultEvent:
    said = error.to_dict()
    return ResultEvent(
        ok=False, error=ErrorView(code=said["code"], message=said["message"], next=said["next"])
    )


def _not_understood(error: BaseException, tail: deque[str]) -> BinderError:
    """repo2docker raises plain exceptions for files that it cannot read, and seldom says for which."""
    text = str(error) if not isinstance(error, SystemExit) else (tail[-1] if tail else "")
    named = _FILES_BY_ERROR.get(type(error).__name__)
    where = f" ({named})" if named else ""
    return BuildFailed(
        f"The repository's description of its environment{where} is not understood: {text.strip()[:300]}",
        "Correct the file; the formats are those of repo2docker.",
        code="build-not-understood",
    )


class LifeLine:
    """Ends everything when stdin ends, or on SIGTERM."""

    def __init__(self, stdin: int, builder: Builder) -> None:
        self._stdin = stdin
        self._builder = builder

    def hold(self) -> None:
        if os.getpgid(0) != os.getpid():
            os.setpgid(0, 0)
        signal.signal(signal.SIGTERM, lambda *_: self.cut())
        threading.Thread(target=self._watch, daemon=True).start()

    def _watch(self) -> None:
        while os.read(self._stdin, 4096):
            pass
        self.cut()

    def cut(self) -> NoReturn:
        """The builder first, so that BuildKit cancels its steps; then the whole group, ourselves included."""
        self._builder.stop()
        os.killpg(0, signal.SIGKILL)
        os._exit(1)


def main() -> int:
    try:
        job = WorkerJob.model_validate_json(sys.stdin.buffer.readline())
    except ValidationError as error:
        first = error.errors()[0]
        print(f"bad job: {first['loc']}: {first['msg']}", file=sys.stderr)  # noqa: T201
        return 2
    machine = read_machine({**os.environ, **job.secret_env})
    output = Output(machine, job.secret_env)
    worker = Worker(job, machine, output)
    LifeLine(sys.stdin.fileno(), worker.builder).hold()
    if job.request:
        output.line(f"[req {job.request}] The worker is process {os.getpid()}.")
    result = worker.run()
    while worker.builder.stopped:
        signal.pause()  # the life-line is cut: the end is near, and what broke on the way means nothing
    output.result(result)
    return 0 if result.ok else 1


if __name__ == "__main__":
    sys.exit(main())
