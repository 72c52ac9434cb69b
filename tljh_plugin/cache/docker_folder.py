"""What lies in Docker's own folder: which folder of it belongs to which layer and which container.

Read from the classic image store with the overlay2 driver, by a user who may look into it, which is root:
`image/overlay2/layerdb` names the folder of each layer and container below `overlay2/`, `containers/` has
their logs, `buildkit/` what the builder keeps besides its snapshots. (The layout is that of Docker's
`layer/filestore.go`, the same from 20.10 to 28.) Elsewhere only Docker's own figures remain.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

_DRIVER = "overlay2"


@dataclass(frozen=True, slots=True)
class Layout:
    """Which folders hold what. Layers are named by their chain id, containers by their id.

    A layer has its files, and what Docker notes of it: the list with which it can be packed again.
    """

    layers: Mapping[str, tuple[Path, Path]] = field(default_factory=dict)
    containers: Mapping[str, tuple[Path, ...]] = field(default_factory=dict)
    snapshots: tuple[Path, ...] = ()  # of the builder, and of nothing else
    rest: tuple[Path, ...] = ()


def read_layout(root: Path) -> Layout | None:
    """The layout of Docker's folder; `None` if it is another one, or if we may not look into it."""
    snapshots = root / _DRIVER
    database = root / "image" / _DRIVER / "layerdb"
    try:
        layers = {
            f"sha256:{each.name}": (snapshots / name, each)
            for each in (database / "sha256").iterdir()
            if (name := _word(each / "cache-id"))
        }
        containers = {
            container: tuple(folders) for container, folders in _containers(root, database, snapshots)
        }
        held = {folder for each in (*layers.values(), *containers.values()) for folder in each}
        return Layout(
            layers,
            containers,
            (
                *(each for each in _folders(snapshots) if each not in held and each.name != "l"),
                *(each for each in [root / "buildkit"] if each.is_dir()),
            ),
            tuple(_rest(root, database)),
        )
    except OSError:
        return None


def _containers(root: Path, database: Path, snapshots: Path) -> Iterator[tuple[str, list[Path]]]:
    for each in (database / "mounts").iterdir():
        folders = [snapshots / name for note in ("mount-id", "init-id") if (name := _word(each / note))]
        log = root / "containers" / each.name
        yield each.name, [*folders, *([log] if log.is_dir() else [])]


def _rest(root: Path, database: Path) -> Iterator[Path]:
    """What belongs to no layer, container or builder."""
    for each in _folders(root):
        if each.name not in (_DRIVER, "image", "buildkit", "containers"):
            yield each
    for each in (*_folders(database.parent), *_folders(database)):
        if each not in (database, database / "sha256"):
            yield each


def _folders(place: Path) -> list[Path]:
    return [each for each in place.iterdir() if each.is_dir() and not each.is_symlink()]


def _word(note: Path) -> str:
    """What a note of Docker's says; empty if it was removed meanwhile. Never a way out of a folder."""
    with suppress(FileNotFoundError, NotADirectoryError):
        said = note.read_text("ascii", errors="replace").strip()
        return "" if "/" in said or said in ("", ".", "..") else said
    return ""
