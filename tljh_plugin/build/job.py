"""What the queue tells a worker and what the worker tells back: one JSON value a line.

The queue writes one `WorkerJob` to the worker's stdin and keeps it open: its end is the order to stop. The
worker writes events to stdout; the last one is a `ResultEvent`. Nothing here knows repo2docker or Docker.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, TypeAdapter, field_validator

from ..wire import ErrorView


class _Value(BaseModel):
    model_config = ConfigDict(frozen=True, extra="ignore")


class WorkerJob(_Value):
    """One build: a finished checkout and what its image is to be called and to contain.

    `checkout` is a private copy that ends with the build. `labels` are put on the image exactly as given.
    `secret_env` goes over the worker's own environment where proxy and package-index settings are read; its
    values never reach a log, a label or an image's history. `cache_namespace` separates the package caches
    of steps that run a repository's code: equal only for builds that may trust each other. With `no_cache`
    every step is run again; what programs keep in cache mounts, such as downloaded wheels, is still used.
    `docker_timeout_s` is how long Docker may take to take up a build, `max_unpacked_bytes` what archives of
    its Dockerfile's `ADD` may unpack to. `request` is the id of the request that wants the image.
    """

    version: Literal[1] = 1
    checkout: Path
    subdir: str = ""
    image_name: str
    labels: dict[str, str] = {}
    build_args: dict[str, str] = {}
    uid: int = Field(ge=1)
    gid: int = Field(ge=1)
    user_name: str = Field("jovyan", pattern=r"^[a-z][a-z0-9_-]{0,30}$")
    base_image: str
    fast_python: bool = True
    dockerfile_allowed: bool = False
    appendix: str = ""
    no_cache: bool = False
    secret_env: dict[str, str] = Field({}, repr=False)
    cache_namespace: str = Field(min_length=8, pattern=r"^[A-Za-z0-9._-]+$")
    docker_timeout_s: float = Field(60.0, gt=0)
    max_unpacked_bytes: int = Field(4 * 1024**3, gt=0)
    request: str = ""

    @field_validator("subdir")
    @classmethod
    def _stays_inside(cls, value: str) -> str:
        """repo2docker joins the folder without a look: `..` would leave the checkout."""
        parts = value.strip("/").split("/") if value.strip("/") else []
        if value.startswith("/") or any(part in ("", ".", "..") for part in parts):
            raise ValueError("must be a folder inside the repository, such as `notebooks/basics`")
        return "/".join(parts)


class LogEvent(_Value):
    """One line of the builder's output, without its end of line and with secrets taken out."""

    event: Literal["log"] = "log"
    text: str


class PhaseEvent(_Value):
    """How far the build is, in percent of the worker's part; never goes backwards."""

    event: Literal["phase"] = "phase"
    phase: Literal["building"] = "building"
    progress: int = Field(ge=0, le=100)


class ResultEvent(_Value):
    """The last event. With `ok` Docker has the image as `image_id` or `digest`, else `error` says why not.

    `pack` is the build pack that was used, `python` the version in the image where our own pack chose it.
    """

    event: Literal["result"] = "result"
    ok: bool
    image_id: str = ""  # sha256:… of its configuration
    digest: str = ""  # sha256:… of its manifest: containerd's store calls images by it
    pack: str = ""
    python: str = ""  # such as 3.11
    error: ErrorView | None = None


Event = Annotated[LogEvent | PhaseEvent | ResultEvent, Field(discriminator="event")]

_events: TypeAdapter[LogEvent | PhaseEvent | ResultEvent] = TypeAdapter(Event)


def parse_event(line: str | bytes) -> LogEvent | PhaseEvent | ResultEvent:
    """The event on one line of a worker's stdout; raises `ValueError` if it is none."""
    return _events.validate_json(line)
