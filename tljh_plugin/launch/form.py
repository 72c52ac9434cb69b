"""The form on the hub's own spawn page: a repository or an image that is here.

Comes in: what a person typed, or the options of an earlier start. Goes out: `LaunchOptions` as a mapping, or
HTML in which everything is escaped. Pure; nothing here asks the service or starts anything.
"""

from __future__ import annotations

import contextlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from typing import Any
from urllib.parse import unquote

import jinja2

from ..errors import BinderError, InvalidOptions, InvalidSpec
from ..source.spec import RepoSpec, open_file, parse_link, parse_typed
from ..wire import ImageView, MountView, ProfilesView, ProfileView
from .options import LaunchOptions, parse
from .profiles import summary
from .room import sentences
from .ticks import ticks

_TEMPLATES = Path(__file__).parents[1] / "web" / "templates" / "hub"
_IN_LAB = "lab/tree/"
_TEXTS = ("repository", "ref", "commit", "commit_of", "image", "path", "storage", "profile")
_LONGEST = 4000  # characters that a field shows again
_STORAGES = {
    "project": "kept: my project of this repository",
    "new": "kept: a new project, a fresh copy of the repository's files",
    "ephemeral": "not kept: everything is gone when the server stops",
}


@dataclass(frozen=True)
class Choice:
    """What the fields show. `commit` is one that is kept as long as `commit_of` is what is asked for.

    `storage` is `project`, `ephemeral`, `new`, or the id of a project; `profile` the id of one, or empty;
    `mounts` the ids that are ticked, None: those that are ticked by default.
    """

    repository: str = ""
    ref: str = ""
    commit: str = ""
    commit_of: str = ""
    image: str = ""
    path: str = ""
    storage: str = "project"
    profile: str = ""
    mounts: tuple[str, ...] | None = None
    my_files: bool = True


def from_options(options: LaunchOptions | None, storage: str = "project") -> Choice:
    """The fields for options that were accepted before, so that Start is one click; None: an empty form."""
    if options is None:
        return Choice(storage=storage)
    # `new` made its project at that start; asking again would make another.
    kept = options.project if options.project not in ("", "new") else options.storage
    choice = Choice(
        image=options.image,
        path=_shown_path(options.path),
        storage=kept,
        profile=options.profile,
        mounts=options.mounts,
        my_files=options.my_files,
    )
    if not options.repository:
        return choice
    try:
        spec = parse_link(options.repository)
    except InvalidSpec:
        return replace(choice, repository=options.repository)
    return replace(
        choice,
        repository=_shown_repository(spec),
        ref=spec.ref,
        commit=options.commit,
        commit_of=spec.path if options.commit else "",
    )


def from_typed(data: Mapping[str, Sequence[str]], storage: str = "project") -> Choice:
    """The fields as they were typed, to be corrected."""
    typed = {key: _first(data, key)[:_LONGEST] for key in _TEXTS}
    image = typed["image"] if _first(data, "kind") == "image" else ""
    texts = {**typed, "image": image, "storage": typed["storage"] or storage}
    return Choice(**texts, mounts=tuple(data.get("mounts") or ()), my_files=bool(_first(data, "my_files")))


def without_ticks(choice: Choice) -> Choice:
    """What a link asks for, without folders: it gets nothing that the person does not tick."""
    return replace(choice, mounts=(), my_files=False)


def read(data: Mapping[str, Sequence[str]]) -> dict[str, Any]:
    """The options that the fields mean. Raises `InvalidSpec` or `InvalidOptions`."""
    path = _path(_first(data, "path"))
    storage = _first(data, "storage")
    profile = _first(data, "profile")
    folders = {"mounts": list(data.get("mounts") or ()), "my_files": bool(_first(data, "my_files"))}
    if _first(data, "kind") == "image" or not _first(data, "repository"):
        if not _first(data, "image"):
            raise InvalidOptions(
                "Neither a repository nor an image was chosen.", "Give the address of a repository."
            )
        return parse(
            {
                **_storage(storage),
                **folders,
                "image": _first(data, "image"),
                "path": path,
                "profile": profile,
            }
        ).model_dump()
    link = parse_typed(_first(data, "repository"))
    ref = _first(data, "ref")
    spec = link.spec.with_ref(ref) if ref else link.spec
    pinned = _first(data, "commit_of") == spec.path and not _first(data, "newest")
    wanted = parse(
        {
            **_storage(storage),
            **folders,
            "repository": spec.path,
            "commit": _first(data, "commit") if pinned else "",
            "path": path or link.open_path,
            "profile": profile or link.profile,
        }
    )
    if not pinned and storage not in _STORAGES:
        wanted = wanted.model_copy(update={"project": ""})  # its id belongs to the commit that it was made at
    return wanted.model_dump()


@dataclass(frozen=True)
class ProfileChoice:
    """A profile as the select shows it; one that never fits what the person may have is not `possible`."""

    id: str
    title: str
    text: str
    problem: str
    possible: bool
    chosen: bool
    default: bool


def profile_choices(offered: ProfilesView | None, chosen: str = "") -> list[ProfileChoice]:
    """What a form's select shows; empty if there is nothing to choose.

    Without `chosen`, or where it is not the person's, their default one is preselected.
    """
    known = offered.profiles if offered else ()
    if len(known) < 2:
        return []
    preselected = next((each.id for each in known if each.id == chosen and each.possible), "")
    return [
        ProfileChoice(
            each.id,
            each.title,
            _profile_text(each),
            each.problem,
            each.possible,
            each.id == preselected or (not preselected and each.default),
            each.default,
        )
        for each in known
    ]


def render(
    choice: Choice,
    images: Sequence[ImageView],
    *,
    profiles: ProfilesView | None = None,
    mounts: Sequence[MountView] = (),
    notice: str = "",
    problem: str = "",
) -> str:
    """The fields as HTML; `problem` is shown where the list of images could not be had."""
    images = [each for each in images if not each.retired]
    return _template().render(
        choice=choice,
        images=images,
        images_choose=any(each.profile for each in images),
        notice=notice,
        problem=problem,
        storages=_storages(choice),
        profiles=profile_choices(profiles, choice.profile),
        only=profiles.profiles[0] if profiles and len(profiles.profiles) == 1 else None,
        room=sentences(profiles),
        mounts=ticks(mounts, choice.mounts),
    )


def problem_of(error: BinderError) -> str:
    """Why the list of images is missing."""
    return f"The images cannot be listed now, and nothing can be started: {error}"


def _profile_text(view: ProfileView) -> str:
    gives = summary(view.memory_bytes, view.cpus, view.lifetime_s, view.idle_s)
    return f"{view.title}: {gives}" + (f". {view.description}" if view.description else "")


def _storages(choice: Choice) -> list[tuple[str, str]]:
    known = list(_STORAGES.items())
    return (
        known
        if choice.storage in _STORAGES
        else [(choice.storage, f"kept: project {choice.storage}"), *known]
    )


def _storage(value: str) -> dict[str, str]:
    if value in ("", "project"):
        return {"storage": "project"}
    if value == "ephemeral":
        return {"storage": "ephemeral"}
    return {"storage": "project", "project": value}


def _path(typed: str) -> str:
    return typed.lstrip("/") if typed.startswith("/") else open_file(typed) if typed else ""


def _shown_path(path: str) -> str:
    """The inverse of `_path`."""
    if path.startswith(_IN_LAB) and not {"?", "#"} & set(path):
        return unquote(path.removeprefix(_IN_LAB))
    return f"/{path}" if path else ""


def _shown_repository(spec: RepoSpec) -> str:
    """What a person would type, if it means the same."""
    address = "" if spec.subdir or spec.provider == "image" else spec.clone_url
    with contextlib.suppress(InvalidSpec):
        if address and parse_typed(address).spec.with_ref(spec.ref) == spec:
            return address
    return replace(spec, ref="").path


def _first(data: Mapping[str, Sequence[str]], key: str) -> str:
    values = data.get(key) or [""]
    return str(values[0]).strip()


@cache
def _template() -> jinja2.Template:
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(_TEMPLATES),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        extensions=["jinja2.ext.i18n"],
    )
    install: Any = environment
    install.install_null_translations(newstyle=True)
    return environment.get_template("launch-form.html")
