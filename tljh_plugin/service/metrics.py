"""What the service tells Prometheus: counted where it happens, measured when it is asked.

A registry of its own, so that two services in one process (as in tests) do not mix, and no metric that
another library registers somewhere becomes ours. docs/reference/metrics.md is written from the declarations.
"""

from __future__ import annotations

import asyncio
import time
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, get_args

from prometheus_client import CollectorRegistry, generate_latest

from .. import __version__
from ..cache.run import Outcome, Run
from ..errors import SourceError, from_dict
from ..installation import LAST_BACKUP
from ..metrics import SHORT_S, Declarations, DockerMetrics
from ..store import BuildRow
from ..wire import DiskPartId, HealthPartId

if TYPE_CHECKING:
    from .context import Context

_HOLDS = ("docker", "state", "projects")
_PARTS = get_args(DiskPartId)
# Whoever makes backups touches this file at the end of a good one.
# Codes of failed builds for which nobody's repository is to blame.
_OURS = ("build-killed", "build-interrupted", "unexpected")


class ServiceMetrics:
    """The metrics; methods are called by the parts, `text` by the handler."""

    def __init__(self) -> None:
        self.declared = declared = Declarations(CollectorRegistry())
        declared.gauge("info", "The version that runs; always 1.", version=(__version__,)).of(
            __version__
        ).set(1)
        self._started = declared.gauge("start_time_seconds", "When the service began, in seconds since 1970.")
        self._started.of().set(time.time())
        self._well = declared.gauge(
            "healthy",
            "1 where a part that the service needs is well, 0 where not.",
            part=get_args(HealthPartId),
        )
        self._requests = declared.histogram(
            "http_request_seconds",
            "Seconds until a request was answered, without streams; `door` is where it came in.",
            SHORT_S,
            door=("public", "socket"),
            status=("2xx", "3xx", "4xx", "5xx"),
        )
        self.readers = declared.gauge(
            "event_readers", "Who follows builds and launches now.", door=("public", "socket")
        )
        self.docker = DockerMetrics(declared)
        self._images_and_builds(declared)
        self._servers_and_disk(declared)

    def _images_and_builds(self, declared: Declarations) -> None:
        self._asked = declared.counter(
            "image_requests_total",
            "Wishes for an image: it was there (`hit`), an equal build was joined (`join`), a build was "
            "begun (`miss`), or it was refused.",
            outcome=("hit", "join", "miss", "refused"),
        )
        self._builds = declared.histogram(
            "build_seconds",
            "How long builds ran, by their end; `failed` is the repository's own fault, `error` this "
            "machine's. Its `_count` is the number of builds.",
            outcome=("built", "failed", "error", "cancelled"),
        )
        self._queued = declared.gauge("builds_queued", "Builds that wait for their turn.")
        self._running = declared.gauge("builds_running", "Builds that run.")
        self._images = declared.gauge(
            "images",
            "Our images: in Docker (`present`), or recorded and lost from it (`lost`).",
            state=("present", "lost"),
        )
        self._deleted = declared.counter(
            "image_deletions_total",
            "Images that retention or a person wanted to delete, by what became of each.",
            by=("retention", "person"),
            outcome=get_args(Outcome),
        )
        self._gained = declared.counter(
            "deletion_gained_bytes_total", "By how much deletions made room on Docker's disk, measured."
        )
        self._runs = declared.counter(
            "deletion_runs_total",
            "Runs of deletions.",
            by=("retention", "person"),
            outcome=("done", "cut-off"),
        )

    def _servers_and_disk(self, declared: Declarations) -> None:
        self._launches = declared.counter(
            "launches_total",
            "Launches asked of the service: a server is started, it runs already (`connect`), the person is "
            "asked about a restart, or it is refused.",
            outcome=("start", "connect", "ask", "refused"),
        )
        self._starts = declared.histogram(
            "server_start_seconds",
            "Seconds from an image and files that are ready to a server that answers, or does not.",
            outcome=("ready", "failed"),
        )
        self._servers = declared.gauge("servers_running", "Our servers that run.")
        self._disk = {
            what: declared.gauge(f"disk_{what}_bytes", help, holds=_HOLDS)
            for what, help in (
                ("total", "Size of the filesystem that holds Docker's folder, our state, people's projects."),
                ("used", "Bytes used of it."),
                ("free", "Bytes free of it."),
            )
        }
        self._parts = declared.gauge(
            "disk_part_bytes",
            "Who occupies Docker's filesystem, as the disk page says; `evictable-images` and `build-cache` "
            "can be had back.",
            part=_PARTS,
        )
        self._measured = declared.gauge(
            "disk_measured_seconds", "When the disk was measured last, in seconds since 1970; 0: not yet."
        )
        self._store_bytes = declared.gauge("store_bytes", "Size of the database and its journal.")
        self._backup = declared.gauge(
            "last_backup_seconds", "When the last good backup ended, in seconds since 1970; 0: never."
        )

    # -- what happens ---------------------------------------------------------------------------------

    def answered(self, door_is_own: bool, status: int, seconds: float) -> None:
        """A request was answered."""
        self._requests.of("socket" if door_is_own else "public", f"{status // 100}xx").observe(seconds)

    def image_asked(self, outcome: str) -> None:
        """`hit`, `join`, `miss` or `refused`."""
        self._asked.of(outcome).inc()

    def build_ended(self, row: BuildRow) -> None:
        """A build has ended; one that never ran took no time."""
        outcome: str = row.state
        if row.state == "failed" and _is_ours(row.error_code):
            outcome = "error"
        self._builds.of(outcome).observe(_seconds(row.started, row.finished))

    def launched(self, outcome: str) -> None:
        """`start`, `connect`, `ask` or `refused`."""
        self._launches.of(outcome).inc()

    def server_started(self, ok: bool, seconds: float) -> None:
        """A start that the service had prepared has ended."""
        self._starts.of("ready" if ok else "failed").observe(seconds)

    def images_deleted(self, run: Run) -> None:
        """A run has ended."""
        by = "retention" if run.by == "retention" else "person"
        for each in run.results:
            self._deleted.of(by, each.outcome).inc()
        self._gained.of().inc(max(0, run.gained_bytes))
        self._runs.of(by, "cut-off" if run.problem else "done").inc()

    # -- what is ---------------------------------------------------------------------------------------

    async def text(self, context: Context) -> bytes:
        """All of it, in Prometheus' text format; nobody waits for a Docker that does not answer."""
        for part in await context.health.parts():
            self._well.of(part.name).set(part.ok)
        waiting, running = context.queue.counts
        self._queued.of().set(waiting)
        self._running.of().set(running)
        self._look_at_inventory(context)
        self._look_at_disk(context)
        settings = context.settings
        sizes = await asyncio.to_thread(
            lambda: sum(map(_bytes, (settings.store_path, Path(f"{settings.store_path}-wal"))))
        )
        self._store_bytes.of().set(sizes)
        self._backup.of().set(await asyncio.to_thread(_changed, settings.state_dir / LAST_BACKUP))
        return generate_latest(self.declared.registry)

    def _look_at_inventory(self, context: Context) -> None:
        snapshot = context.inventory.snapshot
        present = sum(row.image_id in snapshot.present for row in snapshot.recorded)
        self._images.of("present").set(present)
        self._images.of("lost").set(len(snapshot.recorded) - present)
        self._servers.of().set(context.inventory.servers())

    def _look_at_disk(self, context: Context) -> None:
        view = context.disk.view()
        self._measured.of().set(datetime.fromisoformat(view.measured).timestamp() if view.measured else 0)
        for filesystem in view.filesystems:
            for held in filesystem.holds:
                self._disk["total"].of(held).set(filesystem.total)
                self._disk["used"].of(held).set(filesystem.used)
                self._disk["free"].of(held).set(filesystem.free)
            if "docker" in filesystem.holds:
                for part in filesystem.parts:
                    self._parts.of(part.id).set(float("nan") if part.bytes is None else part.bytes)


def _is_ours(code: str) -> bool:
    error = from_dict({"code": code})
    return code in _OURS or (error.http_status >= 500 and not isinstance(error, SourceError))


def _seconds(started: str, finished: str) -> float:
    if not started or not finished:
        return 0.0
    took = datetime.fromisoformat(finished) - datetime.fromisoformat(started)
    return max(0.0, took.total_seconds())


def _bytes(path: Path) -> int:
    try:
        return path.stat().st_size
    except OSError:
        return 0


def _changed(path: Path) -> float:
    try:
        return path.stat().st_mtime
    except OSError:
        return 0.0
