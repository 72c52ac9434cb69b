"""The image of a start: it is there, or it is built, and the person sees how far it is.

Comes in: `LaunchOptions`. Goes out: `Obtained`, which image it is and from which commit. The service decides
and builds; here it is only asked and followed.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import aclosing
from dataclasses import dataclass

from ..client import ServiceClient
from ..errors import BuildCancelled, ImageNotFound, ImageRetired, NotFound, UnexpectedFailure, from_dict
from ..wire import BuildRequest, BuildView, ErrorView
from .options import LaunchOptions
from .progress import BUILT, Progress


@dataclass(frozen=True)
class Source:
    """Where an image came from: the path of a launch link and a full commit."""

    spec: str
    commit: str


@dataclass(frozen=True)
class Obtained:
    """An image that is there. `repository` is the normalised URL."""

    image_id: str
    repository: str
    source: Source


async def obtain(
    client: ServiceClient,
    options: LaunchOptions,
    known: Source | None,
    progress: Progress,
    accepted: Callable[[Source], None],
) -> Obtained:
    """The image of `options`, built if it has to be.

    `known` is where the image of an earlier start came from: one that was chosen by its id and is gone is
    built again from there. `accepted` hears the commit as soon as the options were found to be possible,
    before anything is built. Raises `ServiceDown`, `SourceError`, `BuildError`, `ImageNotFound`,
    `ImageRetired`.
    """
    if options.repository:
        return await _build(client, Source(options.repository, options.commit), progress, accepted)
    try:
        image = await client.image(options.image)
    except (ImageNotFound, NotFound):
        if known is None:
            raise ImageNotFound(
                f"The image {options.image} is not on this machine any more.",
                "Choose another image, or give its repository: it is then built again.",
            ) from None
        return await _build(client, known, progress, accepted)
    if image.retired:
        raise ImageRetired.of(image.title or image.name)
    source = Source(image.spec, image.commit)
    accepted(source)
    progress.say(BUILT, "The image is there")
    return Obtained(image.id, image.repository, source)


async def default_profile(client: ServiceClient, options: LaunchOptions) -> str:
    """The id of the profile that the image of `options` has for those who choose none; empty where it has
    none, or is not there. Raises `ServiceDown`, `SourceError`.
    """
    if options.repository:
        return (await client.resolve(options.repository, options.commit)).profile
    try:
        return (await client.image(options.image)).profile
    except (ImageNotFound, NotFound):
        return ""


async def _build(
    client: ServiceClient, asked: Source, progress: Progress, accepted: Callable[[Source], None]
) -> Obtained:
    progress.say(0, "Looking for the repository")
    view = await client.build(BuildRequest(spec=asked.spec, commit=asked.commit))
    # The spec as it was asked: `view` is of the build, which somebody may have asked for in other words.
    source = Source(asked.spec, view.commit)
    accepted(source)
    if view.state != "built":
        progress.name_build(view.id)
        progress.say(view.progress * BUILT // 100, _waiting(view))
        view = await _follow(client, view, progress)
    progress.say(BUILT, "The image is there" if view.hit else "The image is ready")
    return Obtained(view.image_id, view.repository, source)


async def _follow(client: ServiceClient, view: BuildView, progress: Progress) -> BuildView:
    async with aclosing(client.events(view.id)) as lines:
        async for line in lines:
            progress.follow_build(line)
            if line.error is not None:
                raise _error(line.error)
    ended = await client.get_build(view.id)
    if ended.error is not None:
        raise _error(ended.error)
    if ended.state == "cancelled":
        raise BuildCancelled(f"The build {ended.id} was cancelled.", "Start again to build it.")
    if ended.state != "built" or not ended.image_id:
        raise UnexpectedFailure(
            f"The build {ended.id} ended as {ended.state!r} without an image.", "See the build's log."
        )
    return ended


def _waiting(view: BuildView) -> str:
    if view.state == "queued" and view.position:
        return f"Waiting for the builder, place {view.position} in the queue"
    return "Joined a build of the same commit" if view.joined else "Building the image"


def _error(view: ErrorView) -> Exception:
    return from_dict({"code": view.code, "message": view.message, "next": view.next})
