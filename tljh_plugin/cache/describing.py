"""What administrators say of an image: title, description, icon, defaults of a start, pin, retirement.

Deciding (`changes`, `notes`) is pure; `Describing` asks the store.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Callable, Collection, Mapping

from ..access import is_admin, may
from ..errors import Forbidden, ImageNotFound, InvalidRequest, InvalidSpec
from ..moments import read_moment
from ..source.providers import shown
from ..source.spec import own_path, parse_link
from ..store import ImageRow, Store, utc_now
from ..wire import ImageChange, Person
from .inventory import Inventory
from .sharing import Sharing

MOST_TITLE, MOST_DESCRIPTION, MOST_REASON, MOST_PATH = 200, 2000, 300, 2000

_DESCRIBING = ("title", "description", "icon", "profile", "urlpath")
_LONGEST_ICON = 12  # code points: a family of four in a skin tone each has eleven
_JOINER, _PICTURE, _KEYCAP = "\u200d", "\ufe0f", "\u20e3"
_TONES = ("\U0001f3fb", "\U0001f3ff")
_LETTERS = ("\U0001f1e6", "\U0001f1ff")
_FLAG, _TAGS = "\U0001f3f4", ("\U000e0020", "\U000e007f")

Value = str | bool


class Describing:
    """Changes images for people who may, and notes it. `profiles` tells the ids that there are now."""

    def __init__(
        self,
        store: Store,
        inventory: Inventory,
        sharing: Sharing,
        profiles: Callable[[], Collection[str]],
    ) -> None:
        self._profiles = profiles
        self._store = store
        self._inventory = inventory
        self._sharing = sharing

    async def change(self, image_id: str, person: Person, asked: ImageChange) -> None:
        """Change all that is asked, or nothing. Raises `ImageNotFound`, `Forbidden`, `InvalidRequest`."""
        image = await self._store.image(image_id)
        if image is None or not may(person, "see", image):
            raise ImageNotFound(f"There is no image {image_id[:80]!r}.", "Look at the list of images.")
        given = asked.model_dump(exclude_none=True, exclude={"visibility", "groups"})
        if given and not is_admin(person):
            raise Forbidden(
                f"{person.name} may not change `{next(iter(given))}` of the image {image.name}.",
                "Ask an administrator.",
            )
        if asked.groups and asked.visibility is None:
            raise InvalidRequest("`groups` came without `visibility`.", "Send `visibility`: `group` too.")
        if asked.visibility is not None:
            await self._sharing.check(image_id, person, asked.visibility, asked.groups or ())
        changed = changes(image, asked, self._profiles(), utc_now())
        if changed:
            noted = notes(image, changed)
            if not await self._store.change_image(image_id, changed, person.name, noted):
                raise ImageNotFound(f"There is no image {image_id[:80]!r}.", "Look at the list of images.")
        if asked.visibility is not None:
            await self._sharing.share(image_id, person, asked.visibility, asked.groups or ())
        elif changed:
            await self._inventory.look_again()


def changes(image: ImageRow, asked: ImageChange, profiles: Collection[str], now: str) -> dict[str, Value]:
    """The columns that get another value. `profiles` are the ids that there are. Raises `InvalidRequest`."""
    wanted: dict[str, Value] = {}
    if asked.title is not None:
        wanted["title"] = _line("title", asked.title, MOST_TITLE) or parse_link(image.spec).display
    if asked.description is not None:
        wanted["description"] = _text("description", asked.description, MOST_DESCRIPTION)
    if asked.icon is not None:
        wanted["icon"] = read_icon(asked.icon)
    if asked.profile is not None:
        wanted["profile"] = _profile(asked.profile, profiles)
    if asked.urlpath is not None:
        wanted["urlpath"] = _path(asked.urlpath)
    wanted |= _pin(image, asked, now)
    if asked.retired is not None:
        wanted["retired"] = asked.retired
    return {name: value for name, value in wanted.items() if getattr(image, name) != value}


def notes(image: ImageRow, changed: Mapping[str, Value]) -> dict[str, str]:
    """For the audit log: what was done, and how it is now."""
    found: dict[str, str] = {}
    described = [f"{name}: {_brief(changed[name])}" for name in _DESCRIBING if name in changed]
    if described:
        found["image.describe"] = ", ".join(described)
    if {"pinned", "pin_reason", "pinned_until"} & set(changed):
        if changed.get("pinned", image.pinned):
            until = changed.get("pinned_until", image.pinned_until)
            reason = changed.get("pin_reason", image.pin_reason)
            end = f"until {until}" if until else "without end"
            found["image.pin"] = f"{end}: {reason}" if reason else end
        else:
            found["image.unpin"] = "unpinned"
    if "retired" in changed:
        found["image.retire" if changed["retired"] else "image.unretire"] = (
            "no new starts" if changed["retired"] else "may be started again"
        )
    return found


def read_icon(text: str) -> str:
    """One emoji, or nothing. Raises `InvalidRequest`.

    The grammar of Unicode Technical Standard 51, section 1.4.9, with the general categories of symbols for
    the emoji themselves: the standard library has no list of these.
    """
    icon = text.strip()
    if icon and not _is_emoji(icon):
        raise InvalidRequest(
            f"`icon` has the value {shown(icon, 40)!r}.", "Give one emoji, such as 🔭, or nothing."
        )
    return icon


def read_end(text: str, now: str) -> str:
    """The end of a pin as it is stored; a date means the end of that day. Raises `InvalidRequest`."""
    if not text.strip():
        return ""
    try:
        end = read_moment(text, to_the_end=True)
    except ValueError:
        raise InvalidRequest(
            f"`pinned_until` has the value {shown(text, 40)!r}.",
            "Give a date such as 2027-01-31, or nothing for a pin without end.",
        ) from None
    if end <= now:
        raise InvalidRequest(
            f"`pinned_until` has the value {shown(text, 40)!r}, which is over.", "Give a day to come."
        )
    return end


def _pin(image: ImageRow, asked: ImageChange, now: str) -> dict[str, Value]:
    """An end or a reason is only ever that of a pin; one that is over leaves nothing to a new one."""
    held = image.pin_holds(now)
    said = asked.pin_reason is not None or asked.pinned_until is not None
    if asked.pinned is None and not said:
        return {}
    pinned = held if asked.pinned is None else asked.pinned
    if not pinned:
        if asked.pin_reason or asked.pinned_until:
            raise InvalidRequest(
                "A reason or an end was given for a pin, and the image is not pinned.",
                "Send `pinned`: true with it.",
            )
        return {"pinned": False, "pin_reason": "", "pinned_until": ""}
    reason, until = (image.pin_reason, image.pinned_until) if held else ("", "")
    if asked.pin_reason is not None:
        reason = _line("pin_reason", asked.pin_reason, MOST_REASON)
    if asked.pinned_until is not None:
        until = read_end(asked.pinned_until, now)
    return {"pinned": True, "pin_reason": reason, "pinned_until": until}


def _profile(identifier: str, known: Collection[str]) -> str:
    if identifier and identifier not in known:
        raise InvalidRequest(
            f"`profile` has the value {shown(identifier, 60)!r}, and there is no such profile.",
            f"Give one of {', '.join(f'`{each}`' for each in known)}, or nothing.",
        )
    return identifier


def _path(text: str) -> str:
    if len(text) > MOST_PATH:
        raise InvalidRequest(f"`urlpath` has {len(text)} characters.", f"Give {MOST_PATH} at most.")
    try:
        return own_path(text.strip())
    except InvalidSpec as error:
        raise InvalidRequest(f"`urlpath`: {error.message}", error.next_step) from None


def _line(name: str, text: str, most: int) -> str:
    line = _text(name, text, most)
    if "\n" in line:
        raise InvalidRequest(f"`{name}` has more than one line.", "Give one line.")
    return line


def _text(name: str, text: str, most: int) -> str:
    """Plain text, line breaks as `\\n`. Raises `InvalidRequest`."""
    plain = text.replace("\r\n", "\n").strip()
    if len(plain) > most:
        raise InvalidRequest(f"`{name}` has {len(plain)} characters.", f"Give {most} at most.")
    odd = next((each for each in plain if each != "\n" and _is_odd(each)), "")
    if odd:
        raise InvalidRequest(
            f"`{name}` has the character U+{ord(odd):04X}, which cannot be shown.", "Take it out."
        )
    return plain


def _is_odd(character: str) -> bool:
    """Control characters, halves of pairs, and what turns the direction of the text around it."""
    return unicodedata.category(character) in ("Cc", "Cs", "Zl", "Zp") or character in (
        "\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069"
    )


def _brief(value: Value) -> str:
    return repr(shown(str(value), 80))


def _is_emoji(text: str) -> bool:
    if len(text) > _LONGEST_ICON:
        return False
    if _LETTERS[0] <= text[0] <= _LETTERS[1]:
        return len(text) == 2 and _LETTERS[0] <= text[1] <= _LETTERS[1]
    if text[0] in "0123456789#*":
        return text[1:] in (_KEYCAP, _PICTURE + _KEYCAP)
    if text[0] == _FLAG and len(text) > 2 and text[-1] == _TAGS[1]:
        return all(_TAGS[0] <= each <= _TAGS[1] for each in text[1:])
    return all(_is_element(each) for each in text.split(_JOINER))


def _is_element(part: str) -> bool:
    """A picture with at most a presentation selector and a tone of skin."""
    rest = part[1:].removeprefix(_PICTURE)
    if rest and _TONES[0] <= rest[0] <= _TONES[1]:
        rest = rest[1:]
    symbol = bool(part) and part > "\u00ff" and unicodedata.category(part[0]) in ("So", "Sm")
    return symbol and not rest
