"""Where in a YAML file a key stands, so that a mistake can be told with its line."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from ruamel.yaml import YAML
from ruamel.yaml.error import YAMLError
from ruamel.yaml.nodes import MappingNode, Node, SequenceNode


@dataclass(frozen=True)
class Places:
    """The lines of one file, counted from 1. Without a document no key stands anywhere."""

    root: Node | None = None

    @classmethod
    def of(cls, text: str) -> Places:
        """Those of `text`; of none if it is no YAML, which whoever reads its values tells."""
        try:
            return cls(YAML(typ="safe", pure=True).compose(text))
        except YAMLError:
            return cls()

    @classmethod
    def of_file(cls, path: Path) -> Places:
        """Those of a file; of none if it cannot be read."""
        try:
            return cls.of(path.read_text(encoding="utf-8"))
        except (OSError, UnicodeDecodeError):
            return cls()

    def line(self, keys: Sequence[str | int]) -> int | None:
        """The line of a key such as `("binder", "mounts", 0, "source")`; None if the file has it not."""
        lines = self._lines(keys)
        return lines[-1] if lines and len(lines) == len(keys) else None

    def nearest(self, keys: Sequence[str | int]) -> int | None:
        """The line of the key, or of the innermost one on the way to it that the file has."""
        lines = self._lines(keys)
        return lines[-1] if lines else None

    def _lines(self, keys: Sequence[str | int]) -> list[int]:
        lines: list[int] = []
        node = self.root
        for key in keys:
            found = _entry(node, key)
            if found is None:
                break
            mark, node = found
            lines.append(mark.start_mark.line + 1)
        return lines


def _entry(node: Node | None, key: str | int) -> tuple[Node, Node] | None:
    """The node that shows where the entry is, and the entry's value."""
    if isinstance(node, MappingNode):
        # The last one counts where a key stands twice; ruamel.yaml refuses that anyway.
        for name, value in reversed(node.value):
            if getattr(name, "value", None) == str(key):
                return name, value
    elif isinstance(node, SequenceNode) and isinstance(key, int) and 0 <= key < len(node.value):
        return node.value[key], node.value[key]
    return None
