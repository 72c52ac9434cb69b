"""One image: what it is, what is in it, what it was used for; and what administrators say of it."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, get_args

from ...cache.dossier import Dossier
from ...errors import BinderError, ImageNotFound, InvalidRequest
from ...launch.profiles import profiles_of
from ...settings import fresh
from ...source.spec import LaunchLink
from ...wire import ImageChange, ImageView, Visibility
from ..api.images import image_of
from ..links import read_spec
from ..templates import duration
from .images import BADGES, OfImages

# As they stand in the form; `pinned` and `retired` are boxes, which are sent only if they are ticked.
_TEXTS = ("title", "description", "icon", "profile", "urlpath", "pin_reason", "pinned_until")
_PACKAGE_KINDS = (("python", "Python"), ("conda", "conda"), ("debian", "Debian"))
_MOST_SHARERS = 5


@dataclass(frozen=True)
class ShownLayer:
    """A layer for people: its place from below, bytes, who else has it, and whether the one below is shared
    by the same."""

    place: int
    bytes: int | None
    shared: tuple[str, ...]
    others: int
    as_below: bool = False


class OneImagePage(OfImages):
    async def get(self, image_id: str) -> None:
        await self.show_image(image_of(self, image_id))

    async def show_image(self, image: ImageView, problem: BinderError | None = None, **typed: Any) -> None:
        """The page; with what went wrong above it and what was typed in the form."""
        dossier = await self.context.dossiers.of(image.id)
        listed = next((each for each in self.listed() if each.id == image.id), None)
        if dossier is None or listed is None:
            raise ImageNotFound(f"There is no image {image.id[:80]!r}.", "Look at the list of images.")
        spec = read_spec(image.spec)
        settings = fresh(self.context.settings)
        self.show(
            "image.html",
            status=problem.http_status if problem else 200,
            problem=problem,
            image=image,
            listed=listed,
            row=dossier.row,
            badge_names=BADGES,
            spec=spec,
            launch=LaunchLink(spec).to_url(self.prefix) if spec else "",
            present_recipe=self.context.inventory.recipe,
            layers=shown_layers(dossier),
            shared_bytes=_shared_bytes(dossier),
            packages=_grouped(dossier),
            recorded=dossier.packages.recorded if dossier.packages else "",
            builds=[(each, duration(each.started, each.finished)) for each in dossier.builds],
            launches=dossier.launches,
            people=Counter(each.person for each in dossier.launches).most_common(),
            profiles=profiles_of(settings),
            typed={**self._as_it_is(image), **typed},
            looked=self.context.inventory.looked,
            stale=self.stale(),
        )

    def _as_it_is(self, image: ImageView) -> dict[str, Any]:
        """What the form shows before anybody typed."""
        values: dict[str, Any] = {name: getattr(image, name) for name in _TEXTS}
        shown = {"pinned_until": last_day(image), "pinned": image.pinned, "retired": image.retired}
        return {**values, **shown, "visibility": image.visibility, "groups": " ".join(image.groups)}


class EditImage(OneImagePage):
    """The form of what administrators say of an image."""

    async def get(self, image_id: str) -> None:
        self.redirect(f"{self.prefix}images/{image_id}")

    async def post(self, image_id: str) -> None:
        image = image_of(self, image_id)
        typed = {name: self.get_body_argument(name, "") for name in (*_TEXTS, "visibility", "groups")}
        boxes = {name: self.get_body_argument(name, "") == "1" for name in ("pinned", "retired")}
        try:
            change = change_of(image, typed, boxes)
            await self.context.describing.change(image_id, self.person, change)
        except BinderError as error:
            await self.show_image(image, error, **typed, **boxes)
            return
        self.redirect(f"{self.prefix}images/{image_id}", status=303)


def change_of(image: ImageView, typed: dict[str, str], boxes: dict[str, bool]) -> ImageChange:
    """What the form changes: only what is not as it was, so that two who edit do not undo each other."""
    given: dict[str, Any] = {name: typed[name] for name in ("description", "icon", "profile", "urlpath")}
    given["title"] = typed["title"]
    given["pinned"] = boxes["pinned"]
    if boxes["pinned"]:
        given["pin_reason"] = typed["pin_reason"]
        given["pinned_until"] = typed["pinned_until"]
    given["retired"] = boxes["retired"]
    now = {name: getattr(image, name) for name in given} | {"pinned_until": last_day(image)}
    changed = {name: value for name, value in given.items() if value != now[name]}
    if typed["visibility"] not in ("", *get_args(Visibility)):
        raise InvalidRequest(
            f"`visibility` has the value {typed['visibility'][:40]!r}.", "Choose one on the page."
        )
    groups = tuple(typed["groups"].replace(",", " ").split()) if typed["visibility"] == "group" else ()
    if typed["visibility"] and (typed["visibility"], groups) != (image.visibility, image.groups):
        changed |= {"visibility": typed["visibility"], "groups": groups}
    return ImageChange.model_validate(changed)


def last_day(image: ImageView) -> str:
    """The last day of a pin, as the form's field takes it; the pin ends with that day."""
    if not image.pinned_until:
        return ""
    return (datetime.fromisoformat(image.pinned_until) - timedelta(milliseconds=1)).date().isoformat()


def shown_layers(dossier: Dossier) -> list[ShownLayer] | None:
    """From the lowest up, without those that are empty."""
    if dossier.layers is None:
        return None
    shown: list[ShownLayer] = []
    below: tuple[str, ...] | None = None
    for place, each in enumerate(dossier.layers, 1):
        if each.bytes != 0:
            more = max(0, len(each.shared) - _MOST_SHARERS)
            same = bool(each.shared) and each.shared == below
            shown.append(ShownLayer(place, each.bytes, each.shared[:_MOST_SHARERS], more, same))
            below = each.shared
    return shown


def _shared_bytes(dossier: Dossier) -> int | None:
    if dossier.layers is None or any(each.bytes is None for each in dossier.layers):
        return None
    return sum(each.bytes or 0 for each in dossier.layers if each.shared)


def _grouped(dossier: Dossier) -> list[tuple[str, list[tuple[str, str]]]]:
    """Packages by kind, those of Python first."""
    found = dossier.packages.found if dossier.packages else ()
    groups = []
    for kind, title in _PACKAGE_KINDS:
        of_kind = sorted({(each.name, each.version) for each in found if each.kind == kind}, key=_by_name)
        if of_kind:
            groups.append((title, of_kind))
    return groups


def _by_name(package: tuple[str, str]) -> tuple[str, str]:
    return package[0].casefold(), package[1]
