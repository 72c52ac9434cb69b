"""One build from its row to a recorded image: fetch, build, check the labels, check the start, record.

Until the image was checked and recorded it has a provisional name that belongs to this build alone. So what
is half done can be told from what is done, after an error as well as after a crash.
"""

from __future__ import annotations

import asyncio
import hashlib
import logging
import re
import shutil
import signal
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager, suppress
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Protocol

from ..cache.inventory import Inventory
from ..engine import Engine, ImageFacts
from ..errors import (
    BinderError,
    BuildCancelled,
    BuildFailed,
    DiskLow,
    EngineError,
    EngineUnavailable,
    ImageNotFound,
    ImageNotLaunchable,
    ReservedLabel,
    from_dict,
)
from ..installation import instance_id, secret
from ..labels import LABEL_PREFIX
from ..settings import MIB, Settings, fresh
from ..source.checkout import Checkouts
from ..source.credentials import Login, secrets_of
from ..source.resolve import PinnedRepo, Resolver
from ..source.spec import parse_link
from ..store import BuildRow, ImageRow, Store, utc_now
from ..wire import Phase
from . import caches
from .base import BaseImage, current_recipe, ensure_base, recipe_digest
from .check import check_image
from .explain import explain
from .identity import ImageIdentity, building_name, foreign_labels, image_names, labels_for
from .job import LogEvent, PhaseEvent, WorkerJob
from .machine import read_machine
from .progress import INSTALLS
from .run import WORKER, Watch, WorkerResult, run_worker, to_its_end

# How much of the whole each phase is: where it begins, in percent.
_FETCHING, _BUILDING, _CHECKING, _RECORDING = 1, 5, 90, 98
_COMMIT = re.compile(r"[0-9a-fA-F]{40}([0-9a-fA-F]{24})?")
_log = logging.getLogger("littlest_binder.build")
_BY_THE_OWNERS = ("refs/heads/", "refs/tags/")
_DOCKER_WAIT_S = 60.0
_DOCKER_POLL_S = 2.0


class Report(Protocol):
    """To whom a build tells how far it is."""

    def say(self, text: str) -> None:
        """A line of the log."""

    async def reach(self, phase: Phase, progress: int, text: str = "") -> None:
        """A phase, and percent of the whole."""

    async def drain(self) -> None:
        """Wait until the log has caught up."""


class Pipeline:
    """Knows how to build; whose turn it is, is the queue's business."""

    def __init__(
        self,
        settings: Settings,
        store: Store,
        engine: Engine,
        resolver: Resolver,
        checkouts: Checkouts,
        inventory: Inventory,
        *,
        worker: Sequence[str] = WORKER,
    ) -> None:
        self._settings = settings
        self._store = store
        self._engine = engine
        self._resolver = resolver
        self._checkouts = checkouts
        self._inventory = inventory
        self._worker = tuple(worker)
        self._base_lock = asyncio.Lock()
        self._naming = asyncio.Lock()  # from the look whether a name is free until an image has it

    async def check_disk(self) -> None:
        """Raises `DiskLow` if Docker's disk has less free than the reserve."""
        reserve = self._settings.build.disk_reserve_bytes
        free = await self._engine.free_bytes()
        if free < reserve:
            raise DiskLow(
                f"Docker's disk has {free // MIB} MiB free; below {reserve // MIB} MiB nothing is built.",
                "Delete images that nobody needs, or ask an administrator.",
            )

    async def know_recipe(self) -> None:
        """Tell the inventory which recipe is the present one; what cannot be known now is told by the next
        build."""
        with suppress(EngineError):
            self._inventory.recipe = await current_recipe(self._settings)

    async def build(self, row: BuildRow, report: Report, login: Login | None = None) -> ImageRow:
        """Build what a row asks for, reading its repository with `login` if there is one.

        Raises a `BinderError` that says why there is no image; then, and when cancelled, nothing of it is
        left over but the log.
        """
        try:
            async with self._temporary(row.id) as temporary:
                return await self._build(row, report, temporary, login)
        finally:
            await to_its_end(self._discard_quietly(row))

    async def tidy(self, row: BuildRow) -> None:
        """Take away what a build that has ended, perhaps by a crash, may have left; can be run again.

        A recorded image gets its name, should the crash have come between, unless the name was taken
        meanwhile. Raises `EngineError`.
        """
        if row.state == "built" and await self._engine.image(row.image_name) is None:
            with suppress(ImageNotFound):
                await self._engine.tag(row.image_id, row.image_name)
        await self._engine.untag(building_name(row.id))
        await asyncio.to_thread(shutil.rmtree, self._temporary_path(row.id), ignore_errors=True)

    # -- the steps ------------------------------------------------------------------------------------

    async def _build(self, row: BuildRow, report: Report, temporary: Path, login: Login | None) -> ImageRow:
        await report.reach("fetching", 0)
        await self._wait_for_docker(report)
        await self.check_disk()
        identity = ImageIdentity(row.url, row.commit, row.subdir, row.platform)
        # The policy is asked again: it may have changed while the build was queued.
        pinned = await self._resolver.resolve(parse_link(row.spec), row.commit, login)
        base = await self._base(report)
        recipe = recipe_digest(self._settings, base)
        await self._store.set_recipe(row.id, recipe)
        labels = labels_for(
            identity,
            spec=pinned.spec.with_ref(row.commit).path,
            ref=row.asked_ref,
            recipe=recipe,
            secret=secret(self._settings),
            audience=pinned.audience,
        )
        result = await self._fetch_and_run(row, pinned, base, labels, report, temporary)
        facts = await self._image_of(row, result, labels)
        await report.reach(
            "checking", _CHECKING, "Starting the image once, to see whether a server comes up."
        )
        check = await check_image(self._engine, self._settings, facts.id, base.id)
        if not check.ok:
            raise ImageNotLaunchable(check.problem, check.next_step)
        await report.reach("checking", _RECORDING, f"The server answered after {check.seconds:.1f} s.")
        # Two builds of one private commit, for two people, want the same name.
        async with self._naming:
            image = ImageRow(
                image_id=facts.id,
                name=await self._free_name(identity, recipe, facts.id),
                identity=identity.key,
                url=row.url,
                commit=row.commit,
                subdir=row.subdir,
                platform=row.platform,
                spec=pinned.spec.with_ref(row.commit).path,
                asked_ref=row.asked_ref,
                title=pinned.spec.display,
                built_by=row.requested_by,
                build_id=row.id,
                created=utc_now(),
                size=facts.size,
                recipe=recipe,
                home=check.home,
                workdir=check.workdir,
                visibility=row.visibility,
            )
            await self._record(row, image)
        self._inventory.recipe = recipe
        await self._inventory.look_again()
        if check.packages is not None:
            await self._store.about_images.put_packages(image.image_id, check.packages)
        return image

    async def _fetch_and_run(
        self,
        row: BuildRow,
        pinned: PinnedRepo,
        base: BaseImage,
        labels: dict[str, str],
        report: Report,
        temporary: Path,
    ) -> WorkerResult:
        await report.reach("fetching", _FETCHING, f"Fetching {pinned.spec.display} at commit {row.commit}.")
        settings = fresh(self._settings)
        allowed = dockerfile_allowed(settings, row.url)
        if allowed and settings.dockerfile_policy == "listed":
            # A git host may serve a commit of anybody's fork under the address of the listed repository.
            allowed = await self._checkouts.published(pinned)
        async with self._checkouts.checkout(pinned, report.say) as checkout:
            await report.reach("building", _BUILDING)
            job = WorkerJob(
                checkout=checkout.path,
                subdir=row.subdir,
                image_name=building_name(row.id),
                labels=labels,
                uid=self._settings.server_uid,
                gid=self._settings.server_gid,
                base_image=base.name,
                fast_python=self._settings.build.fast_python,
                dockerfile_allowed=allowed,
                appendix=self._settings.build.appendix,
                no_cache=row.no_cache,
                cache_namespace=cache_namespace(instance_id(self._settings), row),
                docker_timeout_s=self._settings.docker.timeout_s,
                max_unpacked_bytes=self._settings.source.max_checkout_bytes,
                request=row.request,
            )
            return await self._run(row, job, report, temporary, secrets_of(pinned.login))

    async def _run(
        self, row: BuildRow, job: WorkerJob, report: Report, temporary: Path, secrets: frozenset[str]
    ) -> WorkerResult:
        installs = False

        async def hear(event: LogEvent | PhaseEvent) -> None:
            nonlocal installs
            if isinstance(event, LogEvent):
                installs = installs or bool(INSTALLS.match(event.text))
                report.say(event.text)
            else:
                share = (_CHECKING - _BUILDING) * event.progress // 100
                await report.reach("building", _BUILDING + share)
            await report.drain()

        machine = await asyncio.to_thread(read_machine)
        watch = Watch(
            timeout_s=self._settings.build.timeout_s,
            silence_s=self._settings.build.silence_s,
            started=lambda pid, start: self._began(row.id, pid, start),
            guard=self.check_disk,
        )
        try:
            return await run_worker(
                job,
                hear,
                watch,
                mark=row.id,
                temporary=temporary,
                secrets=machine.secrets | secrets,
                command=self._worker,
            )
        except BaseException:
            # It was ended in the middle: cancelled, too slow, or the disk got full.
            if installs:
                await to_its_end(_tidy_caches(job))
            raise

    async def _began(self, build_id: str, pid: int, start: int) -> None:
        _log.info("The worker of build %s is process %s", build_id, pid)
        await self._store.set_worker(build_id, pid, start)

    async def _image_of(self, row: BuildRow, result: WorkerResult, labels: dict[str, str]) -> ImageFacts:
        """The image that the worker made, if it made one that is as we ordered it."""
        await self._store.set_worker(row.id, 0, 0)
        if not result.ok:
            await self._engine.info()  # a Docker that is gone is the better explanation
            raise _failure(result)
        facts = await self._engine.image(building_name(row.id))
        if facts is None or facts.id not in (result.image_id, result.digest):
            raise BuildFailed(
                f"The builder says that it made {result.image_id or 'an image'}; Docker does not have it.",
                "Build again; look at Docker's log if this repeats.",
            )
        foreign = foreign_labels(facts.labels, labels)
        if foreign:
            shown = ", ".join(f"{key}={facts.labels.get(key, '(missing)')!r:.60}" for key in foreign)
            raise ReservedLabel(
                f"The image has labels that only The Littlest Binder may set: {shown}.",
                f"Remove the lines `LABEL {LABEL_PREFIX}…` from the Dockerfile, or from its base image's.",
            )
        return facts

    async def _free_name(self, identity: ImageIdentity, recipe: str, image_id: str) -> str:
        """The best name that nobody else's image has.

        An image of ours that was built before under this name keeps a name, with a suffix of its own: it may
        be in use, and without any name a `docker image prune` would take it once it is not.
        """
        for name in image_names(identity, recipe, instance_id(self._settings)):
            holder = await self._engine.image(name)
            if holder is None or holder.id == image_id:
                return name
            if await self._store.image(holder.id) is not None:
                aside = f"{name}-{holder.id.removeprefix('sha256:')[:8]}"
                await self._engine.tag(holder.id, aside)
                await self._store.update_image(holder.id, name=aside)
                return name
        raise BuildFailed("No name is free for the image.", "Remove images that nobody needs.")

    async def _record(self, row: BuildRow, image: ImageRow) -> None:
        """First in the store, then the name: a name without a record would be taken for somebody else's."""
        if not await self._store.finish_built(row.id, image):
            raise BuildCancelled("The build was cancelled.", "Start it again.")
        await self._engine.tag(image.image_id, image.name)

    # -- around the steps -----------------------------------------------------------------------------

    async def _base(self, report: Report) -> BaseImage:
        async with self._base_lock:
            return await ensure_base(self._settings, report.say)

    async def _wait_for_docker(self, report: Report) -> None:
        """A build that waited in the queue, or outlived a restart, may be there before Docker is."""
        deadline = asyncio.get_running_loop().time() + _DOCKER_WAIT_S
        while True:
            try:
                await self._engine.info()
            except EngineUnavailable:
                if asyncio.get_running_loop().time() >= deadline:
                    raise
                report.say("Waiting for Docker.")
                await asyncio.sleep(_DOCKER_POLL_S)
            else:
                return

    def _temporary_path(self, build_id: str) -> Path:
        return self._settings.state_dir / "temporary" / build_id

    @asynccontextmanager
    async def _temporary(self, build_id: str) -> AsyncIterator[Path]:
        path = self._temporary_path(build_id)
        await asyncio.to_thread(shutil.rmtree, path, ignore_errors=True)
        path.parent.mkdir(mode=0o700, exist_ok=True)
        path.mkdir(mode=0o700)
        try:
            yield path
        finally:
            await to_its_end(_remove_tree(path))

    async def _discard_quietly(self, row: BuildRow) -> None:
        """Take the provisional name away, and with it an image that got no other one.

        What was cut off between record and name is named before, or the recorded image would go.
        """
        try:
            await self.tidy(await self._store.build(row.id) or row)
        except BinderError:
            return  # `tidy` comes back to it


async def _tidy_caches(job: WorkerJob) -> None:
    """What cannot be tidied now is tidied when another build ends so."""
    try:
        await caches.tidy(job.base_image, job.cache_namespace, (job.uid, job.gid))
    except BinderError as error:
        _log.warning("%s", error)


async def _remove_tree(path: Path) -> None:
    await asyncio.to_thread(shutil.rmtree, path, ignore_errors=True)


def _failure(result: WorkerResult) -> BinderError:
    if result.error is not None:
        return from_dict(result.error.model_dump())
    if result.exit_code < 0:
        return BuildFailed(
            f"The process of the build was killed ({_signal(-result.exit_code)}).",
            "Build again. If it happens again, look whether the machine ran out of memory.",
            code="build-killed",
        )
    return explain(result.tail)


def _signal(number: int) -> str:
    with suppress(ValueError):
        return signal.Signals(number).name
    return f"signal {number}"


def dockerfile_allowed(settings: Settings, url: str) -> bool:
    """Whether the policy lets the repository with this normalised URL be built by its Dockerfile."""
    if settings.dockerfile_policy == "listed":
        return any(fnmatchcase(url, pattern) for pattern in settings.policy.dockerfile_repositories)
    return settings.dockerfile_policy == "everyone"


def cache_namespace(instance: str, row: BuildRow) -> str:
    """Which builds share the package caches that a repository's own code can write to.

    Those of one repository's branches and tags. A pull request or a bare commit may be anybody's (a host
    shows the commits of forks under the repository's name), so each of these is for itself.
    """
    ref = row.asked_ref
    anybodys = _COMMIT.fullmatch(ref) or (
        ref.startswith(("refs/", "pull/", "merge-requests/")) and not ref.startswith(_BY_THE_OWNERS)
    )
    parts = [
        instance,
        row.url,
        row.commit if anybodys else "",
        row.requested_by if row.visibility == "private" else "",
    ]
    return hashlib.sha256("\n".join(parts).encode()).hexdigest()[:32]
