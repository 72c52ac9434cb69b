"""Which image somebody means at the command line."""

from __future__ import annotations

from collections.abc import Sequence

from ..errors import ImageNotFound, InvalidRequest
from ..wire import ImageView


def find_image(images: Sequence[ImageView], text: str) -> ImageView:
    """By its id or the beginning of it, its name, its title, the link to its repository, or a part of these
    that no other image has.

    Raises `ImageNotFound`, and `InvalidRequest` where it could be several.
    """
    bare = text.removeprefix("sha256:")
    found = [each for each in images if text in (each.id, each.name, each.title, each.spec)]
    if not found and len(bare) >= 4:
        found = [each for each in images if each.id.removeprefix("sha256:").startswith(bare)]
    if not found and len(text) >= 3:
        found = [each for each in images if _says(each, text)]
    if not found:
        raise ImageNotFound(f"There is no image {text[:80]!r}.", "Look at `littlest-binder images`.")
    if len(found) > 1:
        shown = ", ".join(f"{each.id.removeprefix('sha256:')[:12]} ({each.title})" for each in found[:10])
        raise InvalidRequest(f"{text[:80]!r} could be {shown}.", "Give the id of the one you mean.")
    return found[0]


def _says(image: ImageView, text: str) -> bool:
    return any(text.casefold() in each.casefold() for each in (image.title, image.name, image.repository))
