"""`LaunchOptions`: the only thing that a person can hand to the spawner.

Identifiers only: no host paths, no Docker arguments. They are validated where they are applied, since
JupyterHub's REST API bypasses any form.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator, model_validator

from ..errors import InvalidOptions, InvalidSpec
from ..source.spec import own_path

_COMMIT = re.compile(r"[0-9a-f]{40}([0-9a-f]{24})?")
_PROJECT = re.compile(r"[a-z0-9][a-z0-9.-]{0,79}")
_PROFILE = re.compile(r"[a-z0-9]([a-z0-9-]{0,38}[a-z0-9])?")
_MOUNT = re.compile(r"[a-z0-9]([a-z0-9-]{0,38}[a-z0-9])?")
_MOST_MOUNTS = 50
_IMAGE = re.compile(r"sha256:[0-9a-f]{64}")


class LaunchOptions(BaseModel):
    """What to start. Exactly one of `repository` and `image` is given."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    version: Literal[1] = 1  #: of this shape
    #: path of a launch link: `gh/owner/repo/ref`, `gl/<escaped namespace>/ref`, `git/<escaped url>/ref`,
    #: `local/<escaped path>`, and `image/<name>` of an adopted image
    repository: str = Field("", max_length=2000)
    commit: str = ""  #: full commit that the person confirmed; without it the ref is resolved at the start
    image: str = ""  #: instead of a repository: the id of an image of ours, `sha256:…`
    storage: Literal["project", "ephemeral"] = "project"  #: `project`: files are kept
    project: str = ""  #: id of one of the person's projects; empty: the repository's own; `new`: another one
    path: str = Field("", max_length=2000)  #: what to open on the server, such as `lab/tree/index.ipynb`
    profile: str = ""  #: id of a profile that is meant for the person; empty: their default one
    mounts: tuple[str, ...] = ()  #: ids of mounts, from `GET mounts`
    my_files: bool = False  #: whether the person's own folder, the same in all their servers, is there

    @field_validator("commit")
    @classmethod
    def _full_commit(cls, value: str) -> str:
        if value and not _COMMIT.fullmatch(value):
            raise ValueError("must be a full commit of 40 or 64 hexadecimal digits")
        return value

    @field_validator("image")
    @classmethod
    def _image_id(cls, value: str) -> str:
        if value and not _IMAGE.fullmatch(value):
            raise ValueError("must be the id of an image (sha256:…), not a name or a path")
        return value

    @field_validator("project")
    @classmethod
    def _project_id(cls, value: str) -> str:
        if value and not _PROJECT.fullmatch(value):
            raise ValueError("must be the id of a project, not a path")
        return value

    @field_validator("profile")
    @classmethod
    def _profile_id(cls, value: str) -> str:
        if value and not _PROFILE.fullmatch(value):
            raise ValueError("must be the id of a profile: lowercase letters, digits and hyphens")
        return value

    @field_validator("mounts", mode="before")
    @classmethod
    def _one_is_a_list_too(cls, value: Any) -> Any:
        """Forms and queries give one text for one box."""
        return (value,) if isinstance(value, str) else value

    @field_validator("mounts")
    @classmethod
    def _mount_ids(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        """In one order, so that the same wish is the same options."""
        for each in value:
            if not _MOUNT.fullmatch(each):
                raise ValueError(f"`{each:.60}` must be the id of a mount, not a path")
        if len(value) > _MOST_MOUNTS:
            raise ValueError(f"more than {_MOST_MOUNTS} mounts")
        return tuple(sorted(set(value)))

    @field_validator("path")
    @classmethod
    def _own_path(cls, value: str) -> str:
        """Only ever a path on the person's own server: anything that could lead off-site is refused."""
        try:
            return own_path(value)
        except InvalidSpec:
            raise ValueError("must be a path on your own server, such as `lab/tree/index.ipynb`") from None

    @model_validator(mode="after")
    def _one_of(self) -> LaunchOptions:
        if bool(self.repository) == bool(self.image):
            raise ValueError("give either `repository` or `image`")
        return self


def parse(options: Mapping[str, Any]) -> LaunchOptions:
    """Validate what came from a form, the REST API or the hub's database.

    Accepts the shapes of JupyterHub 5 and 6 (see `normalise`). Raises `InvalidOptions` that names the
    first bad key, shows its value and says what is allowed.
    """
    try:
        return LaunchOptions.model_validate(normalise(options))
    except ValidationError as error:
        first = error.errors()[0]
        key = ".".join(str(part) for part in first["loc"]) or "options"
        if first["type"] == "extra_forbidden":
            raise InvalidOptions(
                f"Unknown launch option `{key}` (value {first['input']!r:.80}).",
                f"Known options: {', '.join(LaunchOptions.model_fields)}.",
            ) from None
        reason = first["msg"].removeprefix("Value error, ")
        shown = "" if key == "options" else f" has the value {first['input']!r:.80}"
        raise InvalidOptions(
            f"Launch option `{key}`{shown}: {reason}.", "Correct it and start again."
        ) from None


def normalise(options: Mapping[str, Any]) -> dict[str, Any]:
    """One shape for both majors: JupyterHub 6 nests under `user_options`, and prefixes with `opt-` in a
    query; forms and queries give lists of one text."""
    inner = options.get("user_options", options)
    if not isinstance(inner, Mapping):
        raise InvalidOptions(f"Launch options must be a mapping, got {inner!r:.80}.", "Send a JSON object.")
    result: dict[str, Any] = {}
    for key, value in inner.items():
        if isinstance(value, list) and len(value) == 1:
            value = value[0]
        result[str(key).removeprefix("opt-")] = value
    return result
