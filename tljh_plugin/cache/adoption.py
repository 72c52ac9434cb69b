"""An image that was built elsewhere becomes one of ours, by an administrator's word and the start check.

It gets one name from us, and only that name is taken away again: its own names, and it, stay as they were.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import replace

from ..access import is_admin
from ..build.base import ensure_base
from ..build.check import CheckResult, check_image
from ..build.identity import ImageIdentity, image_names, platform_of, verify
from ..engine import Engine, ImageFacts
from ..errors import (
    Forbidden,
    ImageNotFound,
    ImageNotLaunchable,
    InvalidRequest,
    InvalidSpec,
    ReservedLabel,
)
from ..installation import instance_id, secret
from ..labels import INSTANCE_LABEL
from ..settings import Settings
from ..source.policy import check_spec
from ..source.spec import RepoSpec
from ..store import ImageRow, Store
from ..wire import Person, Visibility
from .claims import blank_row
from .inventory import Inventory


class Adoption:
    """Looks at images, starts each once, and records them."""

    def __init__(self, settings: Settings, store: Store, engine: Engine, inventory: Inventory) -> None:
        self._settings = settings
        self._store = store
        self._engine = engine
        self._inventory = inventory

    async def adopt(
        self,
        person: Person,
        image: str,
        *,
        title: str = "",
        visibility: Visibility = "everyone",
        groups: Sequence[str] = (),
    ) -> str:
        """Adopt an image by its name or id, and return the id; one that is ours already stays as it is.

        Raises `Forbidden` for who is no administrator, `ImageNotFound`, `PolicyRefused` (`policy.images`),
        `ImageNotLaunchable`, `ReservedLabel`, `InvalidRequest`, `InvalidSpec` and `EngineError`.
        """
        only_administrators(person)
        check_audience(visibility, groups)
        facts = await self._engine.image(image) if image else None
        if facts is None:
            raise ImageNotFound(
                f"Docker has no image {image[:120]!r}.", "Get it with `docker pull`, or correct the name."
            )
        if await self._store.image(facts.id) is not None:
            return facts.id
        spec = RepoSpec("image", _name(image, facts))
        check_spec(spec, self._settings)
        refuse_labels(facts)
        try:
            check = await try_start(self._engine, self._settings, facts.id)
        except ImageNotLaunchable as error:
            await self._store.audit(person.name, "image.adopt", spec.repository, error.code)
            raise
        platform = platform_of((await self._engine.info()).architecture)
        identity = ImageIdentity(spec.normal_url, facts.id.removeprefix("sha256:"), "", platform)
        row = replace(
            blank_row(identity, spec, ref="", recipe=""),
            image_id=facts.id,
            name=await self._free_name(identity, facts.id),
            title=title.strip() or spec.display,
            built_by=person.name,
            size=facts.size,
            home=check.home,
            workdir=check.workdir,
            visibility=visibility,
            groups=tuple(sorted(set(groups))),
            adopted=True,
        )
        if await self._store.record_image(row, person.name, "image.adopt"):
            await self._engine.tag(row.image_id, row.name)
            await keep_packages(self._store, facts.id, check)
        await self._inventory.look_again()
        return facts.id

    async def _free_name(self, identity: ImageIdentity, image_id: str) -> str:
        return await free_name(self._engine, identity, "adopted", instance_id(self._settings), image_id)


async def free_name(
    engine: Engine, identity: ImageIdentity, recipe: str, instance: str, image_id: str
) -> str:
    """A name for an image that was not built here, always one with our suffix: another installation may have
    the same image under the same name, which would go with ours."""
    names = image_names(identity, recipe, instance)
    next(names)
    for name in names:
        holder = await engine.image(name)
        if holder is None or holder.id == image_id:
            return name
    raise InvalidRequest("No name is free for the image.", "Remove images that nobody needs.")


def names_to_take(row: ImageRow, facts: ImageFacts, settings: Settings) -> list[str]:
    """The names that go with the record of an image: ours, not those of another installation that has it too.

    What was built here may have the plain name; what came from elsewhere has ours with our suffix only, and
    what was adopted the one it got. A build that goes on takes its own name away.
    """
    if row.adopted:
        return [row.name]
    identity = ImageIdentity(row.url, row.commit, row.subdir, row.platform)
    names = image_names(identity, row.recipe, instance_id(settings))
    plain, suffixed = re.escape(next(names)), re.escape(next(names))
    begin = f"(?:{plain}|{suffixed})" if verify(facts.labels, secret(settings)) else suffixed
    # With the beginning of its id: the name of one that made room for another build of the same.
    aside = facts.id.removeprefix("sha256:")[:8]
    ours = re.compile(rf"{begin}(?:-[0-9]{{1,3}})?(?:-{aside})?")
    return [name for name in facts.tags if name == row.name or ours.fullmatch(name)]


def only_administrators(person: Person) -> None:
    """Raises `Forbidden`."""
    if not is_admin(person):
        raise Forbidden(
            f"{person.name} is not an administrator.", "Ask an administrator of this hub to do it."
        )


def check_audience(visibility: Visibility, groups: Sequence[str]) -> None:
    """Raises `InvalidRequest` for groups where none belong, or where none are given."""
    if (visibility == "group") != bool(groups):
        raise InvalidRequest(
            f"The visibility {visibility!r} was given the groups {', '.join(groups) or '(none)'}.",
            "Name groups with `group`, and only with it.",
        )


def refuse_labels(facts: ImageFacts) -> None:
    """Containers have their image's labels, and by this one we know our own. Raises `ReservedLabel`."""
    if INSTANCE_LABEL in facts.labels:
        raise ReservedLabel(
            f"The image carries the label {INSTANCE_LABEL}, which is for our containers alone.",
            "Build it without that label.",
        )


async def try_start(engine: Engine, settings: Settings, image_id: str) -> CheckResult:
    """The start check, exactly as after a build, which the image passed.

    Raises `ImageNotLaunchable` and `EngineError`.
    """
    base = await ensure_base(settings, lambda line: None)
    check = await check_image(engine, settings, image_id, base.id)
    if not check.ok:
        raise ImageNotLaunchable(check.problem, check.next_step)
    return check


async def keep_packages(store: Store, image_id: str, check: CheckResult) -> None:
    """Note what an image said it has when it was started. Raises `StoreError`."""
    if check.packages is not None:
        await store.about_images.put_packages(image_id, check.packages)


def _name(asked: str, facts: ImageFacts) -> str:
    """The name under which it is adopted: the one that was asked for, as Docker has it, or its only one."""
    for name in (asked, f"{asked}:latest"):
        if name in facts.tags:
            return name
    if not facts.tags:
        raise InvalidSpec(
            f"The image {asked[:120]!r} has no name.", "Give it one first: `docker tag ID NAME:TAG`."
        )
    return facts.tags[0]
