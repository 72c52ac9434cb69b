"""What an image's labels say it is, read with suspicion: who could write them is for others to ask. Pure."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime, timezone

from .. import labels as names
from ..build.identity import NAMESPACE, ImageIdentity, short_recipe, slug
from ..errors import InvalidSpec
from ..source.spec import RepoSpec, parse_link
from ..store import ImageRow, utc_now

# Made here, and no image to start a server from.
_TOOLS = tuple(f"{NAMESPACE}/{name}" for name in ("base", "debian", "python", "building"))


@dataclass(frozen=True)
class Claim:
    """What labels of ours say. `ref` is what was asked, `audience` the mark of the person whose credential
    was needed, empty if none was."""

    identity: ImageIdentity
    spec: RepoSpec
    ref: str
    recipe: str
    audience: str = ""


class Refused(ValueError):
    """Labels that do not agree with each other, or with the image; the text says which."""


def has_labels(labels: Mapping[str, str]) -> bool:
    """Whether the image says that it was built by a Littlest Binder."""
    return names.IDENTITY_LABEL in labels


def read_claim(labels: Mapping[str, str]) -> Claim:
    """Raises `Refused`."""

    def said(name: str) -> str:
        return labels.get(name, "")

    if names.INSTANCE_LABEL in labels:
        raise Refused("it carries the label of an installation, which is for containers")
    try:
        identity = ImageIdentity(
            said(names.REPOSITORY_LABEL),
            said(names.COMMIT_LABEL),
            said(names.SUBDIR_LABEL),
            said(names.PLATFORM_LABEL),
        )
        spec = parse_link(said(names.SPEC_LABEL))
    except InvalidSpec as error:
        raise Refused(f"its labels are not understood: {error.message}") from None
    if identity.key != said(names.IDENTITY_LABEL):
        raise Refused("its labels name another identity than they describe")
    if (spec.normal_url, spec.ref, spec.subdir) != (identity.url, identity.commit, identity.subdir):
        raise Refused("its labels name two repositories")
    return Claim(identity, spec, said(names.REF_LABEL), said(names.RECIPE_LABEL), said(names.AUDIENCE_LABEL))


def blank_row(identity: ImageIdentity, spec: RepoSpec, *, ref: str, recipe: str) -> ImageRow:
    """An image of which only this is known: what Docker knows and who may use it is to be filled in."""
    return ImageRow(
        image_id="",
        name="",
        identity=identity.key,
        url=identity.url,
        commit=identity.commit,
        subdir=identity.subdir,
        platform=identity.platform,
        spec=spec.path,
        asked_ref=ref,
        title=spec.display,
        built_by="",
        build_id="",
        created=utc_now(),
        size=0,
        recipe=recipe,
        home="",
        workdir="",
    )


def own_name(names: Iterable[str], claim: Claim) -> str:
    """The name that such an image has from us, with or without a suffix; empty if it has none.

    What was made from an image of ours by hand has its labels too, but another name.
    """
    identity = claim.identity
    begin = (
        f"{NAMESPACE}/{slug(identity.url, identity.subdir)}:{identity.key[:12]}-{short_recipe(claim.recipe)}"
    )
    pattern = re.compile(re.escape(begin) + r"(-[0-9a-f]+)*")
    return min((name for name in names if pattern.fullmatch(name)), default="")


def is_tool(names: Iterable[str]) -> bool:
    """Whether all its names say that it is a part of the builder, such as the base image."""
    found = list(names)
    return bool(found) and all(name.partition(":")[0] in _TOOLS for name in found)


def moment(docker_time: str) -> str:
    """A time of Docker's, with its nanoseconds, as the store writes times; now if it is none."""
    found = re.match(r"(\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d)(?:\.(\d{1,9}))?(Z|[+-]\d\d:\d\d)$", docker_time)
    read = datetime.now(timezone.utc)
    if found:
        offset = "+00:00" if found[3] == "Z" else found[3]
        read = datetime.fromisoformat(f"{found[1]}.{(found[2] or '')[:3]:0<3}{offset}")
    return read.astimezone(timezone.utc).isoformat(timespec="milliseconds")
