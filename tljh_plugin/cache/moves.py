"""An image to a file, and from a file of another machine into the list.

What comes in is loaded only as a whole, without names, and recorded after the start check. Another
installation's signature proves nothing here: then it takes an administrator's word.
"""

from __future__ import annotations

import asyncio
import hashlib
import logging
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Collection
from contextlib import aclosing, asynccontextmanager, suppress
from dataclasses import dataclass, replace
from datetime import datetime, timedelta, timezone

from ..build.identity import ImageIdentity, building_name, platform_of
from ..engine import Engine, ImageFacts
from ..errors import (
    BadImageFile,
    BinderError,
    DiskLow,
    EngineTimedOut,
    EngineUnavailable,
    ImageNotFound,
    InvalidRequest,
    InvalidSpec,
    NotVouchedFor,
)
from ..installation import instance_id, secret
from ..settings import MIB, Settings
from ..source.policy import check_spec
from ..source.spec import RepoSpec, parse_link
from ..store import ImageRow, Store, utc_now
from ..wire import Person, Visibility
from . import image_file
from .adoption import check_audience, free_name, keep_packages, only_administrators, refuse_labels, try_start
from .claims import Refused, blank_row, read_claim
from .image_file import Manifest, Reader
from .inventory import Inventory
from .leases import Leases

_log = logging.getLogger("littlest_binder.moves")

# Renewed while the export goes on; after a crash nobody gives it back.
_LEASE_S = 600.0
_NOTE = "import "
_LOOK_AFTER = 64 * MIB
# Docker goes on with what it has in whole, whether or not somebody waits; no longer than it may be silent.
_UNPACKING = timedelta(seconds=1800)


@dataclass(frozen=True)
class Export:
    """An image on its way into a file."""

    filename: str
    pieces: AsyncIterator[bytes]


@dataclass(frozen=True)
class Wanted:
    """What an administrator says of an image that comes in. `visibility` of None: as the file says."""

    trust: bool = False
    title: str = ""
    visibility: Visibility | None = None
    groups: tuple[str, ...] = ()


class Moves:
    """Exports and imports; `await recover()` from time to time."""

    def __init__(
        self, settings: Settings, store: Store, engine: Engine, inventory: Inventory, leases: Leases
    ) -> None:
        self._settings = settings
        self._store = store
        self._engine = engine
        self._inventory = inventory
        self._leases = leases
        self._one_at_a_time = asyncio.Lock()

    async def recover(self) -> None:
        """Take away what an import that was cut off has left. Raises `EngineError` and `StoreError`."""
        if self._one_at_a_time.locked():
            return
        async with self._one_at_a_time:
            for note, value in (await self._store.notes()).items():
                if note.startswith(_NOTE):
                    await self._tidy(note.removeprefix(_NOTE), value)

    # -- out ------------------------------------------------------------------------------------------

    @asynccontextmanager
    async def export(self, person: Person, image_id: str) -> AsyncIterator[Export]:
        """While it is written the image does not go. Raises `Forbidden`, `ImageNotFound`, `EngineError`."""
        only_administrators(person)
        lease = await self._leases.take(image_id, _LEASE_S)
        try:
            row = await self._store.image(image_id)
            facts = await self._engine.image(image_id) if row is not None else None
            if row is None or facts is None:
                raise ImageNotFound(f"There is no image {image_id[:80]!r}.", "Look at the list of images.")
            manifest = self._manifest(row, facts)
            await self._store.audit(person.name, "image.export", row.name, "begun")
            whole = False

            async def all_of(pieces: AsyncIterator[bytes]) -> AsyncGenerator[bytes, None]:
                nonlocal whole
                async for piece in pieces:
                    yield piece
                whole = True

            try:
                async with (
                    self._leases.renewed(lease, _LEASE_S),
                    aclosing(self._engine.save(image_id)) as image,
                    aclosing(image_file.write(manifest, image)) as pieces,
                    aclosing(all_of(pieces)) as counted,
                ):
                    yield Export(_filename(row), counted)
            finally:
                result = "done" if whole else "broke off"
                await self._store.audit(person.name, "image.export", row.name, result)
        finally:
            await self._leases.release(lease)

    def _manifest(self, row: ImageRow, facts: ImageFacts) -> Manifest:
        installation = hashlib.sha256(instance_id(self._settings).encode()).hexdigest()[:16]
        return Manifest(
            image_id=row.image_id,
            layers=facts.layers,
            labels=dict(facts.labels),
            platform=row.platform,
            size=facts.size,
            spec=row.spec,
            ref=row.asked_ref,
            recipe=row.recipe,
            created=row.created,
            title=row.title,
            description=row.description,
            icon=row.icon,
            urlpath=row.urlpath,
            private=row.visibility != "everyone",
            installation=installation,
            exported=utc_now(),
        ).signed(secret(self._settings))

    # -- in -------------------------------------------------------------------------------------------

    async def receive(self, person: Person, data: AsyncIterator[bytes], wanted: Wanted) -> str:
        """Load the image of a file and record it; its id. On any failure nothing of it is left.

        One that is in the list stays as it is there. Raises `BadImageFile`, `NotVouchedFor`, `Forbidden`,
        `PolicyRefused`, `DiskLow`, `ReservedLabel`, `ImageNotLaunchable`, `InvalidRequest` and `EngineError`.
        """
        only_administrators(person)
        if wanted.visibility is not None:
            check_audience(wanted.visibility, wanted.groups)
        reader = Reader()
        first = await _until_manifest(reader, data)
        manifest = reader.manifest
        if manifest is None:
            raise BadImageFile("The file is empty, or ends too early.", "Copy it once more.")
        identity, spec = await self._admit(manifest, wanted)
        try:
            async with self._one_at_a_time:
                known = await self._store.image(manifest.image_id)
                if known is not None:
                    _refuse_changes(known, wanted)
                if known is not None and await self._engine.image(manifest.image_id) is not None:
                    await _to_the_end(reader, data)
                else:
                    await self._load(reader, manifest, first, data)
                    await self._record(person, manifest, identity, spec, wanted)
        except BinderError as error:
            await self._store.audit(person.name, "image.import", spec.path, error.code)
            raise
        await self._inventory.look_again()
        return manifest.image_id

    async def _admit(self, manifest: Manifest, wanted: Wanted) -> tuple[ImageIdentity, RepoSpec]:
        """Whether such an image may come in, before anything of it is loaded."""
        identity, spec = described(manifest)
        platform = platform_of((await self._engine.info()).architecture)
        if identity.platform != platform:
            raise BadImageFile(
                f"The image is for {identity.platform}, and Docker runs on {platform} here.",
                "Build it here from its repository.",
            )
        if spec.provider != "local":
            check_spec(spec, self._settings)
        if not manifest.is_signed(secret(self._settings)) and not wanted.trust:
            raise NotVouchedFor(
                f"The file says that it holds {spec.display} at {identity.commit[:12]}, built by the "
                f"installation {manifest.installation or '(unknown)'}; that cannot be checked here.",
                "If you trust whoever gave it to you, say so: `--trust`, or `trust=1`.",
            )
        return identity, spec

    async def _check_room(self, size: int) -> None:
        """Raises `DiskLow` if Docker cannot take so many bytes more and leave what is to be free."""
        reserve = self._settings.build.disk_reserve_bytes
        free = await self._engine.free_bytes()
        if free - size < reserve:
            raise DiskLow(
                f"To load the image takes {size // MIB} MiB more, and Docker's disk has {free // MIB} MiB "
                f"free, of which {reserve // MIB} MiB are kept.",
                "Delete images that nobody needs.",
            )

    async def _watched(self, pieces: AsyncIterator[bytes]) -> AsyncGenerator[bytes, None]:
        """What the file says of its size is its own word, and others write to the disk as well."""
        passed = 0
        async for piece in pieces:
            passed += len(piece)
            if passed >= _LOOK_AFTER:
                passed = 0
                await self._check_room(0)
            yield piece

    async def _load(
        self, reader: Reader, manifest: Manifest, first: bytes, data: AsyncIterator[bytes]
    ) -> None:
        if await self._engine.image(manifest.image_id) is not None:
            await _to_the_end(reader, data)  # it is there, perhaps under somebody's name: nothing to load
            return
        # Docker unpacks the file first, and then makes layers of what it has unpacked.
        await self._check_room(2 * manifest.size)
        note = _NOTE + manifest.image_id
        await self._store.set_note(note, self._provisional)

        async def is_whole() -> None:
            await self._store.set_note(note, f"{self._provisional} {utc_now()}")

        try:
            before = {image.id for image in await self._engine.images()}
            async with (
                aclosing(_checked(reader, first, data, is_whole)) as pieces,
                aclosing(self._watched(pieces)) as watched,
            ):
                await self._engine.load(watched)
            facts = await self._engine.image(manifest.image_id)
            if facts is None or facts.layers != manifest.layers or dict(facts.labels) != manifest.labels:
                await self._discard_others(manifest, before)
                raise BadImageFile(
                    f"Docker did not make the image {manifest.image_id} of the file.",
                    "Export it once more, on a machine whose Docker has the same image store as this one.",
                )
            await self._engine.tag(facts.id, self._provisional)
        except BaseException as error:
            unknown = isinstance(error, (EngineTimedOut, EngineUnavailable))
            await self._give_up(manifest.image_id, over=isinstance(error, BinderError) and not unknown)
            raise

    @property
    def _provisional(self) -> str:
        """The name while an image is looked at; of this installation, for another may do the same."""
        own = hashlib.sha256(instance_id(self._settings).encode()).hexdigest()[:12]
        return building_name(f"import-{own}")

    async def _record(
        self, person: Person, manifest: Manifest, identity: ImageIdentity, spec: RepoSpec, wanted: Wanted
    ) -> None:
        try:
            facts = await self._engine.image(manifest.image_id)
            if facts is None:
                raise ImageNotFound(f"The image {manifest.image_id} went meanwhile.", "Import it again.")
            refuse_labels(facts)
            check = await try_start(self._engine, self._settings, facts.id)
            instance = instance_id(self._settings)
            by_default: Visibility = "private" if manifest.private else "everyone"
            row = replace(
                blank_row(identity, spec, ref=manifest.ref, recipe=manifest.recipe),
                image_id=facts.id,
                name=await free_name(self._engine, identity, manifest.recipe, instance, facts.id),
                title=wanted.title.strip() or manifest.title or spec.display,
                description=manifest.description,
                icon=manifest.icon,
                urlpath=manifest.urlpath,
                built_by=person.name,
                size=facts.size,
                home=check.home,
                workdir=check.workdir,
                visibility=wanted.visibility or by_default,
                groups=tuple(sorted(set(wanted.groups))),
                adopted=spec.provider == "image",
                imported=True,
            )
            if not await self._store.record_image(row, person.name, "image.import"):
                # Docker had lost it, with the name that the record has.
                await self._store.update_image(row.image_id, name=row.name)
            await self._engine.tag(row.image_id, row.name)
            await keep_packages(self._store, facts.id, check)
        except BaseException:
            await self._give_up(manifest.image_id)
            raise
        await self._engine.untag(self._provisional)
        await self._store.set_note(_NOTE + manifest.image_id, "")

    # -- what is left ---------------------------------------------------------------------------------

    async def _give_up(self, image_id: str, *, over: bool = True) -> None:
        """Nothing is left, if it was not there before; what fails or may not be `over` is done later."""
        try:
            value = (await self._store.notes()).get(_NOTE + image_id)
            if value is not None:
                await self._tidy(image_id, self._provisional if over else value)
        except BinderError as error:
            _log.warning("The rest of an import is removed later: %s", error)

    async def _tidy(self, image_id: str, value: str) -> None:
        """By the value of an import's note: its name meanwhile, and when Docker had all of it, if it had."""
        provisional, _, since = value.partition(" ")
        found = await self._discard(image_id, provisional)
        if found or not since or datetime.now(timezone.utc) - datetime.fromisoformat(since) > _UNPACKING:
            await self._store.set_note(_NOTE + image_id, "")

    async def _discard_others(self, manifest: Manifest, before: Collection[str]) -> None:
        """What Docker made under another id, as engines with another image store do."""
        for image in await self._engine.images():
            if image.id not in before and not image.tags and dict(image.labels) == manifest.labels:
                facts = await self._engine.image(image.id)
                if facts is not None and facts.layers == manifest.layers:
                    with suppress(ImageNotFound):
                        await self._engine.remove_image(image.id, names=[])

    async def _discard(self, image_id: str, provisional: str) -> bool:
        """Whether it was there."""
        facts = await self._engine.image(image_id)
        if facts is None:
            return False
        row = await self._store.image(image_id)
        if row is not None:  # only the last steps were missing
            await self._engine.tag(image_id, row.name)
            await self._engine.untag(provisional)
            return True
        with suppress(ImageNotFound):
            if not facts.tags or facts.tags == (provisional,):
                await self._engine.remove_image(image_id, names=[provisional])
        return True


def described(manifest: Manifest) -> tuple[ImageIdentity, RepoSpec]:
    """What the image is, by a file that says the same everywhere. Raises `BadImageFile`."""
    try:
        spec = parse_link(manifest.spec)
        commit = manifest.image_id.removeprefix("sha256:") if spec.provider == "image" else spec.ref
        identity = ImageIdentity(spec.normal_url, commit, spec.subdir, manifest.platform)
        if spec.provider != "image" and read_claim(manifest.labels).identity != identity:
            raise Refused("the image's labels name another repository")
    except (InvalidSpec, Refused) as error:
        raise BadImageFile(
            f"The file does not say clearly what it holds: {error}", "Export the image again."
        ) from None
    return identity, spec


def _refuse_changes(known: ImageRow, wanted: Wanted) -> None:
    """Raises `InvalidRequest` if an image that is in the list is to be there in another way."""
    title = wanted.title.strip()
    audience = None if wanted.visibility is None else (wanted.visibility, tuple(sorted(set(wanted.groups))))
    if title in ("", known.title) and audience in (None, (known.visibility, known.groups)):
        return
    raise InvalidRequest(
        f"The image {known.name} is in the list already, with the title {known.title!r} and the visibility "
        f"{known.visibility!r}; an import changes neither.",
        "Import it without a title and a visibility, and change them on the image's page.",
    )


def _filename(row: ImageRow) -> str:
    return f"{row.name.rpartition('/')[2].replace(':', '-')}.tar"


async def _until_manifest(reader: Reader, data: AsyncIterator[bytes]) -> bytes:
    """What came with the file's first part, for Docker."""
    passed = b""
    while reader.manifest is None and (piece := await anext(data, None)) is not None:
        passed += reader.feed(piece)
    return passed


async def _checked(
    reader: Reader, first: bytes, data: AsyncIterator[bytes], is_whole: Callable[[], Awaitable[None]]
) -> AsyncGenerator[bytes, None]:
    yield first
    async for piece in data:
        yield reader.feed(piece)
    last = reader.finish()
    await is_whole()
    yield last


async def _to_the_end(reader: Reader, data: AsyncIterator[bytes]) -> None:
    async for piece in data:
        reader.feed(piece)
    reader.finish()
