"""One `docker buildx build`: its command line, its process, its output.

It stands where repo2docker's own engine class would stand, with the same `build`, and differs in what that
cannot do: a Dockerfile beside the context, secrets that leave no trace, the image's id, an end on demand.
"""

from __future__ import annotations

import contextlib
import io
import json
import os
import re
import select
import shutil
import subprocess
import tarfile
import tempfile
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from ..engine.buildx import buildx_command, not_taken_up
from .machine import Machine

_GRACE_S = 1.5
_PREFIX = re.compile(r"#\d+ \d+\.\d+ ")
# Where Docker breaks off its first connection, buildx concludes that Docker has no builder, fetches one from
# a registry, and leaves it running with all rights (buildx 0.13: builder.Factory, driver/docker-container).
NO_BUILDKIT = "no connection to Docker's own builder"
OTHER_BUILDER = re.compile(r"#\d+ (\[internal\] booting buildkit|building with .* docker-container driver)")


def buildx_environment(folder: Path) -> dict[str, str]:
    """Variables with which buildx keeps its records below `folder`, and uses Docker's own builder.

    Only that one sees our base image; attestations would give an image the id of an index.
    """
    return {
        "BUILDX_CONFIG": str(folder / "buildx"),
        "BUILDX_BUILDER": "",
        "BUILDX_NO_DEFAULT_ATTESTATIONS": "1",
    }


class StepFailed(Exception):
    """The builder ended with an error; its lines tell which."""


class Builder:
    """Builds one image. `namespace` separates the cache mounts that a repository's Dockerfile names.

    Docker has `patience_s` seconds to take up the build.
    """

    string_output = True

    def __init__(
        self, machine: Machine, labels: Mapping[str, str], namespace: str, *, patience_s: float
    ) -> None:
        self._machine = machine
        self._labels = labels
        self._namespace = namespace
        self._patience_s = patience_s
        self._process: subprocess.Popen[bytes] | None = None
        self._stopped = threading.Event()
        self._scratch = ""
        self.before: Callable[[], None] = lambda: None
        # Told the Dockerfile that repo2docker wrote, with the arguments; may raise.
        self.inspect: Callable[[Path, Mapping[str, str]], None] = lambda path, arguments: None
        self.pull = False
        self.no_cache = False
        self.image_id = self.digest = ""

    def build(
        self,
        *,
        tag: str,
        path: str = "",
        fileobj: io.BytesIO | None = None,
        dockerfile: str = "",
        dockerfile_text: str = "",
        ignored: str = "",
        buildargs: Mapping[str, str] | None = None,
        platform: str | None = None,
        **_: Any,
    ) -> Iterator[str]:
        """The builder's lines as they come; afterwards `image_id` and `digest` are set.

        Docker knows the image by the first, or, where it keeps images in containerd's store, by the second.

        Raises `StepFailed`, and `EngineTimedOut` if Docker does not take up the build.
        """
        with tempfile.TemporaryDirectory(prefix="littlest-binder-build-") as scratch:
            folder, self._scratch = Path(scratch), scratch
            self.before()
            namespace = {} if dockerfile_text else {"BUILDKIT_CACHE_MOUNT_NS": self._namespace}
            if dockerfile_text:
                dockerfile = str(folder / "Dockerfile")
                (folder / "Dockerfile").write_text(dockerfile_text)
                (folder / "Dockerfile.dockerignore").write_text(ignored)
            if fileobj is not None:
                path = str(folder / "context")
                _extract(fileobj, path)
                self.inspect(Path(path) / (dockerfile or "Dockerfile"), buildargs or {})
            command = [*buildx_command(), "build", "--progress", "plain"]
            command += ["--tag", tag, "--iidfile", str(folder / "image-id")]
            command += ["--metadata-file", str(folder / "metadata.json")]
            command += ["--pull"] if self.pull else []
            command += ["--no-cache"] if self.no_cache else []
            command += ["--platform", platform] if platform else []
            command += ["--file", dockerfile] if dockerfile else []
            for name, value in {**(buildargs or {}), **namespace}.items():
                command += ["--build-arg", f"{name}={value}"]
            for name, value in self._labels.items():
                command += ["--label", f"{name}={value}"]
            command += self._machine.proxy_arguments()
            command += self._machine.secret_arguments(trusted=bool(dockerfile_text))
            yield from self._run([*command, path], folder)
            self.image_id = (folder / "image-id").read_text().strip()
            self.digest = _digest(folder / "metadata.json")

    def _run(self, command: Sequence[str], folder: Path) -> Iterator[str]:
        with subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            env={**os.environ, **self._machine.environment(), **buildx_environment(folder)},
        ) as process:
            self._process = process
            if self._stopped.is_set():
                process.terminate()
            if process.stdout and not select.select([process.stdout], [], [], self._patience_s)[0]:
                _end(process)
                raise not_taken_up(self._patience_s)
            for line in process.stdout or ():
                text = last_state(line.decode(errors="replace").rstrip())
                if OTHER_BUILDER.match(text):
                    _end(process)
                    yield f"ERROR: {NO_BUILDKIT}"
                    raise StepFailed(NO_BUILDKIT)
                yield text
        if process.returncode != 0:
            raise StepFailed(f"the builder ended with exit code {process.returncode}")

    @property
    def stopped(self) -> bool:
        """Whether the build was ended by `stop`."""
        return self._stopped.is_set()

    def stop(self) -> None:
        """End the builder, so that BuildKit cancels what it was doing; takes 1.5 s at most."""
        self._stopped.set()
        process = self._process
        if process is not None and process.poll() is None:
            _end(process)
        if self._scratch:
            shutil.rmtree(self._scratch, ignore_errors=True)


def _end(process: subprocess.Popen[bytes]) -> None:
    process.terminate()
    try:
        process.wait(_GRACE_S)
    except subprocess.TimeoutExpired:
        process.kill()


def _digest(path: Path) -> str:
    """The digest of the image's manifest (docker-buildx-build(1), `--metadata-file`); empty if unknown."""
    with contextlib.suppress(OSError, ValueError):
        found = json.loads(path.read_text()).get("containerimage.digest", "")
        return found if isinstance(found, str) else ""
    return ""


def last_state(line: str) -> str:
    """What a program drew over itself with carriage returns is worth its last state.

    BuildKit's own beginning of the line stays, or the program could write lines that seem to be BuildKit's.
    """
    before, _, state = line.rpartition("\r")
    prefix = _PREFIX.match(before)
    return f"{prefix.group()}{state}" if prefix else state


def _extract(fileobj: io.BytesIO, path: str) -> None:
    """Unpack a context that repo2docker packed itself a moment ago."""
    with tarfile.open(fileobj=fileobj) as archive:
        archive.extractall(path)  # noqa: S202
