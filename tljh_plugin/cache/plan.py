"""What is to go and what stays, and why: decided here, done elsewhere.

Pure. Comes in: facts of all images of the engine, what was ticked or how full the disk is, the policy, the
moment. Goes out: a plan that can be shown, and carried out by `sweep`.
"""

from __future__ import annotations

import fnmatch
from collections import Counter
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from types import MappingProxyType
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from ..engine import Layer
    from ..settings import KeepSettings, RetentionSettings
    from .filesystems import Usage

Mode = Literal["evict", "erase"]
Rule = Literal[
    # why one stays
    "not-ours",
    "in-use",
    "starting",
    "building",
    "pinned",
    "young",
    "ready",
    "kept-by-rule",
    "other-name",
    "refused",
    "not-needed",
    # why one goes
    "asked",
    "cache-first",
    "unused-days",
    "retired-first",
    "watermark",
    "budget",
]

# What a build takes of which nobody noted how long it took, as for an image that was adopted; and the least
# that rebuilding is reckoned with, since a start waits for the queue as well.
_USUAL_REBUILD_S, _LEAST_REBUILD_S = 300.0, 30.0


@dataclass(frozen=True)
class Candidate:
    """One image of the engine, ours or not, as far as it matters for a deletion.

    `chain` are its layers, lowest first, or None where they are not known. `users` are the containers that
    are made of it, running or not. `last_used` is when a server last ran on it, None for never. `newest` is
    its place among the images of its repository, 1 for the newest. `present` is false for an image that was
    removed behind our back: only our record of it is left. `cached` is whether its layers are in the build
    cache as well, as those of images that were built here are; None where that is not known. `other_names`
    are those that no deletion of ours takes: Docker keeps all its bytes for them. An `imported` image came
    from a file; `rebuild_s` is None if no build of the same was ever made here. A `leftover` is no image: it
    is what an evicted one left in the build cache.
    """

    image_id: str
    name: str
    title: str
    created: datetime
    chain: tuple[Layer, ...] | None = None
    size: int = 0
    ours: bool = True
    present: bool = True
    cached: bool | None = True
    other_names: tuple[str, ...] = ()
    leftover: bool = False
    repository: str = ""
    built_by: str = ""
    users: tuple[str, ...] = ()
    leased: bool = False
    building: bool = False
    pinned: bool = False
    pin_reason: str = ""
    retired: bool = False
    ready: bool = False
    adopted: bool = False
    imported: bool = False
    launches: int = 0
    newest: int = 1
    last_used: datetime | None = None
    rebuild_s: float | None = None

    def idle(self, now: datetime) -> timedelta:
        """How long it has not been used; one that never was counts from its making."""
        return max(timedelta(0), now - max(self.created, self.last_used or self.created))


@dataclass(frozen=True)
class Item:
    """An image in a plan, and why it is where it is: the rule's code, and a sentence for people.

    `frees_bytes` is what taking it frees after those before it in the plan are gone, so that the items of a
    plan add up; of one that stays it is what erasing it alone would free. None: not known on this engine.
    """

    image_id: str
    name: str
    title: str
    size: int
    frees_bytes: int | None
    rebuild_s: float | None
    rule: Rule
    text: str


@dataclass(frozen=True)
class Plan:
    """What goes, in this order, and what stays. Bytes are of the disk, shared layers counted once.

    `frees_bytes` is None where the engine does not tell enough; `wanted_bytes` is what a policy asked for,
    0 where nothing was to be freed.
    """

    mode: Mode
    take: tuple[Item, ...]
    keep: tuple[Item, ...]
    frees_bytes: int | None
    wanted_bytes: int = 0

    @property
    def ids(self) -> tuple[str, ...]:
        """The images that go."""
        return tuple(item.image_id for item in self.take)


@dataclass(frozen=True)
class Why:
    """A rule that speaks for or against an image, and what it says of it."""

    rule: Rule
    text: str


# -- what must stay -----------------------------------------------------------------------------------


def must_stay(image: Candidate, min_age_hours: float, now: datetime) -> Why | None:
    """Why an image may not go, whoever asks; None if it may."""
    if not image.ours:
        return Why("not-ours", "It was not built or adopted here.")
    if image.users:
        return Why("in-use", f"In use by {', '.join(each.rstrip('/') for each in image.users)}.")
    if image.leased:
        return Why("starting", "A server is being started with it, or it is being exported.")
    if image.building:
        return Why("building", "It is being built again.")
    if image.pinned:
        return Why("pinned", f"Pinned: {image.pin_reason}" if image.pin_reason else "It is pinned.")
    age = now - image.created
    if image.present and age < timedelta(hours=min_age_hours):
        return Why("young", f"Younger than {_number(min_age_hours)} h (`retention.min_age_hours`).")
    return None


def kept(image: Candidate, policy: RetentionSettings, now: datetime) -> Why | None:
    """Why retention keeps an image under a policy; None if it could be taken."""
    why = must_stay(image, policy.min_age_hours, now)
    if why is None and image.adopted:
        why = Why("not-ours", "It was adopted: it could not be built again here.")
    if why is None and image.imported and image.rebuild_s is None:
        why = Why("not-ours", "It came from a file, and was never built here.")
    if why is None and image.other_names:
        why = Why("other-name", _stays(image))
    if why is not None or image.retired:
        return why
    if image.ready:
        return Why("ready", "It comes with the installation and is always offered.")
    for number, rule in enumerate(policy.keep, start=1):
        if _fits(image, rule, now):
            return Why("kept-by-rule", f"Kept by rule {number} of `retention.keep`: {rule.said()}.")
    return None


def _fits(image: Candidate, rule: KeepSettings, now: datetime) -> bool:
    """Whether everything that a rule says is so."""
    return (
        (not rule.repository or _matches(image, rule.repository))
        and (not rule.built_by or image.built_by == rule.built_by)
        and (not rule.newest or image.newest <= rule.newest)
        and (not rule.launches or image.launches >= rule.launches)
        and (not rule.used_within_days or image.idle(now) <= timedelta(days=rule.used_within_days))
        and (not rule.rebuild_s or (image.rebuild_s or 0) >= rule.rebuild_s)
    )


def _matches(image: Candidate, pattern: str) -> bool:
    return any(fnmatch.fnmatchcase(each, pattern) for each in (image.repository, image.name))


# -- plans --------------------------------------------------------------------------------------------


def plan_of(
    selection: Collection[str],
    candidates: Iterable[Candidate],
    mode: Mode,
    *,
    min_age_hours: float,
    now: datetime,
) -> Plan:
    """The plan for images that a person chose, in the order in which they chose them.

    Ids of which there is no candidate are left out.
    """
    known = {image.image_id: image for image in candidates}
    chosen = [known[each] for each in dict.fromkeys(selection) if each in known]
    reasons = {image.image_id: must_stay(image, min_age_hours, now) for image in chosen}
    go = [image for image in chosen if reasons[image.image_id] is None]
    stay = [(image, why) for image in chosen if (why := reasons[image.image_id]) is not None]
    return _plan(mode, [(image, _asked(image)) for image in go], stay, known)


def plan_retention(
    candidates: Iterable[Candidate],
    policy: RetentionSettings,
    disk: Usage | None,
    now: datetime,
    *,
    begun: bool = False,
    refused: Mapping[str, str] = MappingProxyType({}),
) -> Plan:
    """What retention takes now under a policy.

    Images that were unused for too long go in any case. If the disk is fuller than the high watermark, or
    ours occupy more than the budget, the images go that were not used for longest in relation to how long
    they take to rebuild, retired ones first, until it is as full as the low watermark: no more than needed.
    For the disk, what evicted images left in the build cache goes before any image. `begun`: also below the
    high watermark, as for a run that is under way or that somebody asked for. `disk` is that of Docker's
    folder, None where it cannot be looked at: then no watermark counts. `refused` are those that did not go
    although they were planned, with what was said of it: no plan counts on them.
    """
    everything = list(candidates)
    known = {image.image_id: image for image in everything}
    ours = sorted(
        (image for image in everything if image.ours and image.present),
        key=lambda image: (image.created, image.image_id),
    )
    reasons = {
        image.image_id: kept(image, policy, now) or _refusal(refused.get(image.image_id)) for image in ours
    }
    free = [image for image in ours if reasons[image.image_id] is None]
    needs = _Needs(
        disk_bytes=_wanted(disk, policy, begun),
        budget_bytes=policy.max_bytes,
    )
    overdue = [
        image for image in free if policy.unused_days and image.idle(now) > timedelta(days=policy.unused_days)
    ]
    late = {image.image_id for image in overdue}
    order = sorted(
        (image for image in free if image.image_id not in late),
        key=lambda image: (not image.retired, -_readiness(image, now), image.created, image.image_id),
    )
    books = _Books(everything)
    missing = books.missing(needs)
    # The cheapest to lose: nobody can start it, it only makes a rebuild quick.
    left = [each for each in everything if each.leftover and each.image_id not in refused]
    left = sorted(left, key=lambda image: image.image_id) if missing.disk_bytes else []
    for image in [*left, *overdue]:
        books.take(image)
    chosen = _just_enough(order, books, needs)
    rule: Literal["watermark", "budget"] = "watermark" if missing.disk_bytes > 0 else "budget"
    taken = [(image, _LEFT) for image in left]
    taken += [(image, _overdue_text(image, now)) for image in overdue]
    taken += [(image, _needed_text(image, rule, now)) for image in chosen]
    gone = {image.image_id for image, _ in taken}
    stay = [
        (image, reasons[image.image_id] or Why("not-needed", "It could go, but nothing needs its place now."))
        for image in ours
        if image.image_id not in gone
    ]
    return _plan(policy.mode, taken, stay, known, wanted=max(missing.disk_bytes, missing.budget_bytes))


@dataclass(frozen=True)
class _Needs:
    """Bytes to be freed on the disk, and the most that ours may occupy (0: any)."""

    disk_bytes: int
    budget_bytes: int


@dataclass(frozen=True)
class _Missing:
    disk_bytes: int
    budget_bytes: int

    @property
    def nothing(self) -> bool:
        return self.disk_bytes <= 0 and self.budget_bytes <= 0


def _wanted(disk: Usage | None, policy: RetentionSettings, begun: bool) -> int:
    """Bytes between what is used and the low watermark, where that is to be reached; else 0."""
    if disk is None or not disk.total:
        return 0
    start = policy.low_watermark_percent if begun else policy.high_watermark_percent
    if 100 * disk.used <= start * disk.total:
        return 0
    return max(0, disk.used - int(policy.low_watermark_percent * disk.total / 100))


def _readiness(image: Candidate, now: datetime) -> float:
    """How soon it goes: the time for which nobody used it, in units of what a rebuild takes.

    That is the cost-aware form of least recently used (GreedyDual): the chance that somebody wants it again
    falls with the time since the last use, and what that costs them is the rebuild.
    """
    cost = _USUAL_REBUILD_S if image.rebuild_s is None else max(_LEAST_REBUILD_S, image.rebuild_s)
    return image.idle(now).total_seconds() / cost


def _just_enough(order: Sequence[Candidate], books: _Books, needs: _Needs) -> list[Candidate]:
    """The first of `order` that meet the needs, without those that the others make needless."""
    taken: list[Candidate] = []
    for image in order:
        if books.missing(needs).nothing:
            break
        books.take(image)
        taken.append(image)
    enough = books.missing(needs).nothing
    before = books.missing(needs)
    for image in reversed(list(taken)):
        books.give_back(image)
        after = books.missing(needs)
        # Where all together are not enough, whatever brings it nearer goes; what frees nothing stays.
        if after.nothing if enough else after == before:
            taken.remove(image)
        else:
            books.take(image)
    return taken


class _Books:
    """Which bytes become free when images go: a layer goes with the last image that has it.

    An image whose layers are not known counts with its whole size: rather too little is taken than too much,
    since what is still missing afterwards is seen on the disk, and taken in the next round.
    """

    def __init__(self, images: Iterable[Candidate]) -> None:
        self._holders: Counter[str] = Counter()
        self._ours: Counter[str] = Counter()
        self._bytes: dict[str, int] = {}
        self.freed = 0
        self.occupied = 0
        for image in images:
            if not image.present:
                continue
            for layer, size in self._layers(image):
                self._bytes[layer] = size
                self._holders[layer] += 1
                if image.ours:
                    self.occupied += size if not self._ours[layer] else 0
                    self._ours[layer] += 1

    def take(self, image: Candidate) -> int:
        """It goes; how many bytes become free."""
        if image.other_names:
            return 0
        before = self.freed
        for layer, size in self._layers(image):
            self._holders[layer] -= 1
            self.freed += size if not self._holders[layer] else 0
            if image.ours:
                self._ours[layer] -= 1
                self.occupied -= size if not self._ours[layer] else 0
        return self.freed - before

    def give_back(self, image: Candidate) -> None:
        """It stays after all."""
        for layer, size in self._layers(image):
            self.freed -= size if not self._holders[layer] else 0
            self._holders[layer] += 1
            if image.ours:
                self.occupied += size if not self._ours[layer] else 0
                self._ours[layer] += 1

    def alone(self, image: Candidate) -> int:
        """What would become free if it went now."""
        if image.other_names:
            return 0
        return sum(size for layer, size in self._layers(image) if self._holders[layer] == 1)

    def missing(self, needs: _Needs) -> _Missing:
        """What is still to be freed."""
        over = self.occupied - needs.budget_bytes if needs.budget_bytes else 0
        return _Missing(max(0, needs.disk_bytes - self.freed), max(0, over))

    @staticmethod
    def _layers(image: Candidate) -> list[tuple[str, int]]:
        if not image.present:
            return []
        if not is_known(image):
            return [(f"all of {image.image_id}", image.size)]
        # A chain id stands for all layers below it too, so none occurs twice in an image.
        return [(layer.chain_id, layer.bytes or 0) for layer in image.chain or ()]


def is_known(image: Candidate) -> bool:
    """Whether the engine told all layers of an image with their sizes."""
    return image.chain is not None and all(layer.bytes is not None for layer in image.chain)


# -- how it is told -----------------------------------------------------------------------------------


def _plan(
    mode: Mode,
    taken: Sequence[tuple[Candidate, Why]],
    stay: Sequence[tuple[Candidate, Why]],
    known: Mapping[str, Candidate],
    wanted: int = 0,
) -> Plan:
    # An image of which the layers are not known may hold those of any other.
    told = all(image.chain is not None for image in known.values() if image.present)
    books = _Books(known.values())
    alone = {image.image_id: books.alone(image) if told and is_known(image) else None for image, _ in stay}
    take = tuple(_item(image, why, _gain(image, mode, books.take(image), told)) for image, why in taken)
    gains = [item.frees_bytes for item in take]
    return Plan(
        mode=mode,
        take=take,
        keep=tuple(_item(image, why, alone[image.image_id]) for image, why in stay),
        frees_bytes=sum(each or 0 for each in gains) if None not in gains else None,
        wanted_bytes=wanted,
    )


def _gain(image: Candidate, mode: Mode, released: int, told: bool) -> int | None:
    """Evicting an image that was built here frees nothing: BuildKit keeps its bytes as build cache."""
    if not image.present or image.other_names:
        return 0
    if mode == "evict" and not image.leftover and image.cached is not False:
        return 0 if image.cached else None
    return released if told and is_known(image) else None


def _item(image: Candidate, why: Why, frees: int | None) -> Item:
    return Item(
        image_id=image.image_id,
        name=image.name,
        title=image.title,
        size=image.size,
        frees_bytes=frees,
        rebuild_s=image.rebuild_s,
        rule=why.rule,
        text=why.text,
    )


def _asked(image: Candidate) -> Why:
    return Why("asked", f"It was chosen. {_stays(image) if image.other_names else ''}".rstrip())


def _stays(image: Candidate) -> str:
    return f"Docker would keep it: it has the name {' and '.join(image.other_names)} as well."


def _refusal(said: str | None) -> Why | None:
    return None if said is None else Why("refused", f"It did not go when it was to: {said}".rstrip(": "))


_LEFT = Why("cache-first", "Evicted before: what it left in the build cache goes before any image.")


def _overdue_text(image: Candidate, now: datetime) -> Why:
    return Why("unused-days", f"Not used for {_days(image.idle(now))} (`retention.unused_days`).")


def _needed_text(image: Candidate, rule: Literal["watermark", "budget"], now: datetime) -> Why:
    need = {
        "watermark": "the disk is to come down to the low watermark",
        "budget": "the images are to fit into their budget",
    }[rule]
    if image.retired:
        return Why("retired-first", f"Retired ones go first: {need}.")
    return Why(rule, f"Not used for {_days(image.idle(now))}, and {need}.")


def _days(time: timedelta) -> str:
    if time < timedelta(hours=2):
        return f"{round(time.total_seconds() / 60)} min"
    return f"{round(time.total_seconds() / 3600)} h" if time < timedelta(days=2) else f"{time.days} days"


def _number(value: float) -> str:
    return f"{value:g}"
