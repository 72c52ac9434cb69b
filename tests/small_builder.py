"""A Docker whose images are stacks of layers that BuildKit knows too, with rules as the real one has."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from tljh_plugin.engine import CacheRecord, ImageFacts, Layer
from tljh_plugin.errors import EngineUnavailable, ImageNotFound


@dataclass(frozen=True)
class Step:
    """One step of a build: its cache record, which stands on its parent's, and the layer that it made."""

    name: str
    parent: str
    size: int


class SmallBuilder:
    """`tells_parents` as engines from 23.0 on; the step `""` is the empty beginning of all."""

    def __init__(self, *, tells_parents: bool = True) -> None:
        self.tells_parents = tells_parents
        self.steps: dict[str, Step] = {}
        self.cached: dict[str, int] = {}  # the names of steps in the cache, and when they came
        self.tops: dict[str, str] = {}  # image id → its last step
        self.asked: list[str] = []
        self.read: set[str] = set()  # the names of steps that a build reads now
        self.down = False
        self._time = 0

    # -- what tests do --------------------------------------------------------------------------------

    def step(self, name: str, parent: str, size: int) -> None:
        """A step was built, and is cached with all below it."""
        self.steps.setdefault(name, Step(name, parent, size))
        for each in self.stack(name):
            if each.name not in self.cached:
                self._time += 1
                self.cached[each.name] = self._time

    def build(self, image_id: str, top: str) -> None:
        """A build ended with this step."""
        self.step(top, self.steps[top].parent, 0)
        self.tops[image_id] = top

    def remove_image(self, image_id: str) -> None:
        del self.tops[image_id]

    def stack(self, top: str) -> list[Step]:
        """Lowest first."""
        found = []
        while top:
            found.append(self.steps[top])
            top = self.steps[top].parent
        return found[::-1]

    def occupied(self) -> int:
        """What all images and the cache occupy."""
        held = {each.name for top in self.tops.values() for each in self.stack(top)}
        return sum(self.steps[name].size for name in held | self.cached.keys())

    # -- what is asked --------------------------------------------------------------------------------

    def _answer(self, what: str) -> None:
        self.asked.append(what)
        if self.down:
            raise EngineUnavailable("Docker does not answer.", "Start it.")

    async def image(self, ref: str) -> ImageFacts | None:
        self._answer("image")
        if ref not in self.tops:
            return None
        return ImageFacts(ref, (), {}, 0, "", {}, "", "", (), (), (), "amd64")

    async def layers(self, image_id: str, known: Mapping[str, int] | None = None) -> tuple[Layer, ...]:
        self._answer(f"layers {image_id}")
        if image_id not in self.tops:
            raise ImageNotFound(f"no {image_id}", "")
        return tuple(Layer(each.name, each.size) for each in self.stack(self.tops[image_id]))

    async def cache_records(self) -> list[CacheRecord]:
        self._answer("cache_records")
        return [self._record(self.steps[name]) for name in self.cached]

    def _record(self, step: Step) -> CacheRecord:
        return CacheRecord(
            id=step.name,
            parents=(step.parent,) if step.parent and self.tells_parents else (),
            bytes=step.size,
            shared=self._shared(step.name),
            in_use=step.name in self.read,
            last_used="",
            description="",
            kind="regular",
            created=f"{self.cached[step.name]:09}",
        )

    def _shared(self, name: str) -> bool:
        return any(each.name == name for top in self.tops.values() for each in self.stack(top))

    async def prune_cache_record(self, record_id: str) -> int | None:
        self._answer(f"prune {record_id}")
        stands_on_it = any(self.steps[name].parent == record_id for name in self.cached)
        held = stands_on_it or record_id in self.read or self._shared(record_id)
        if record_id not in self.cached or held:
            return None
        del self.cached[record_id]
        return self.steps[record_id].size
