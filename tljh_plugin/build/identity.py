"""Which image it is: the identity, its name in Docker, and the signed labels that say so.

The identity is (normalised URL, commit, subdir, platform); the recipe is an attribute. Labels prove nothing
by themselves, since any Dockerfile can write them: ours carry a signature by the installation's secret.

No label tells when an image was built: then the same commit and recipe give the same image id, so that a
rebuild which changes nothing replaces nothing. Docker's own `Created` and the store know the time.
"""

from __future__ import annotations

import hashlib
import hmac
import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, fields
from urllib.parse import urlsplit

from ..errors import InvalidSpec
from ..labels import (
    AUDIENCE_LABEL,
    COMMIT_LABEL,
    IDENTITY_LABEL,
    INSTANCE_LABEL,
    LABEL_PREFIX,
    PLATFORM_LABEL,
    RECIPE_LABEL,
    REF_LABEL,
    REPOSITORY_LABEL,
    SIGNATURE_LABEL,
    SPEC_LABEL,
    SUBDIR_LABEL,
)

NAMESPACE = "littlest-binder"
BUILDING = f"{NAMESPACE}/building"

_COMMIT = re.compile(r"[0-9a-f]{40}([0-9a-f]{24})?")
_ARCHITECTURES = {"x86_64": "amd64", "aarch64": "arm64"}
# Room for the registry-style limit of 128 characters of a repository path, and for a glance.
_SLUG_LENGTH = 60


def platform_of(architecture: str) -> str:
    """`linux/amd64` from what a Docker engine or the kernel calls its architecture."""
    return f"linux/{_ARCHITECTURES.get(architecture, architecture)}"


@dataclass(frozen=True)
class ImageIdentity:
    """What an image was made from. `url` is normalised, `subdir` relative to the repository's top or empty.

    Raises `InvalidSpec` for a commit that is not a full one and for a subdir that leaves the repository.
    """

    url: str
    commit: str
    subdir: str
    platform: str

    def __post_init__(self) -> None:
        if not _COMMIT.fullmatch(self.commit):
            raise InvalidSpec(
                f"{self.commit!r} is not a full commit.",
                "Resolve the ref first: 40 or 64 hexadecimal digits.",
            )
        parts = [part for part in self.subdir.split("/") if part not in ("", ".")]
        if ".." in parts or self.subdir.startswith("/"):
            raise InvalidSpec(
                f"The subdirectory {self.subdir!r} leaves the repository.", "Give a folder inside of it."
            )
        object.__setattr__(self, "subdir", "/".join(parts))

    @property
    def key(self) -> str:
        """64 hexadecimal digits over an unambiguous encoding: texts in a JSON list cannot run together."""
        encoded = json.dumps([getattr(self, field.name) for field in fields(self)], ensure_ascii=True)
        return hashlib.sha256(encoded.encode("ascii")).hexdigest()


def slug(url: str, subdir: str = "") -> str:
    """The readable part of an image's name: `owner-repo`, in Docker's alphabet, never empty."""
    path = urlsplit(url).path.rstrip("/").removesuffix(".git")
    last = "/".join(path.split("/")[-2:] + ([subdir.split("/")[-1]] if subdir else []))
    # Docker's rule for a path component: lowercase letters and digits, single separators between them.
    text = re.sub(r"[^a-z0-9]+", "-", last.lower()).strip("-")
    return text[:_SLUG_LENGTH].strip("-") or "repository"


def image_names(identity: ImageIdentity, recipe: str, instance: str) -> Iterator[str]:
    """Names for the image, best first: `littlest-binder/<slug>:<12 hex of identity>-<8 hex of recipe>`, then
    with a suffix of this installation, should another one on the same Docker have the name already."""
    plain = f"{NAMESPACE}/{slug(identity.url, identity.subdir)}:{identity.key[:12]}-{short_recipe(recipe)}"
    yield plain
    own = hashlib.sha256(instance.encode()).hexdigest()[:8]
    yield f"{plain}-{own}"
    number = 2
    while True:
        yield f"{plain}-{own}-{number}"
        number += 1


def short_recipe(recipe: str) -> str:
    """8 hexadecimal digits, whatever the recipe's digest looks like."""
    bare = recipe.removeprefix("sha256:")
    return (
        bare[:8] if re.fullmatch(r"[0-9a-f]{8,}", bare) else hashlib.sha256(recipe.encode()).hexdigest()[:8]
    )


def building_name(build_id: str) -> str:
    """The name that an image has from the end of its build until it was checked and recorded."""
    return f"{BUILDING}:{build_id}"


def build_named(name: str) -> str:
    """The id of the build whose image has such a name; empty for any other name."""
    return name.removeprefix(f"{BUILDING}:") if name.startswith(f"{BUILDING}:") else ""


def labels_for(
    identity: ImageIdentity, *, spec: str, ref: str, recipe: str, secret: bytes, audience: str = ""
) -> dict[str, str]:
    """All labels with our prefix that the image gets, signed by the installation's `secret`.

    `spec` is the path of a link to it at its commit, `ref` what was asked. What was made with the credential
    of a person, `audience`, says so: two people's images of one private commit are two images, each its
    owner's. Never the instance label: containers inherit their image's labels.
    """
    labels = {
        IDENTITY_LABEL: identity.key,
        REPOSITORY_LABEL: identity.url,
        COMMIT_LABEL: identity.commit,
        SUBDIR_LABEL: identity.subdir,
        PLATFORM_LABEL: identity.platform,
        SPEC_LABEL: spec,
        REF_LABEL: ref,
        RECIPE_LABEL: recipe,
    }
    if audience:
        labels[AUDIENCE_LABEL] = audience_mark(audience, secret)
    return {**labels, SIGNATURE_LABEL: _sign(labels, secret)}


def audience_mark(person: str, secret: bytes) -> str:
    """What stands in the labels for the person whose credential was needed: not their name."""
    return hmac.new(secret, person.encode(), hashlib.sha256).hexdigest()[:16]


def verify(labels: Mapping[str, str], secret: bytes) -> bool:
    """Whether the labels with our prefix are those that this installation once signed, all and no others."""
    ours = {key: value for key, value in labels.items() if key.startswith(LABEL_PREFIX)}
    signature = ours.pop(SIGNATURE_LABEL, "")
    return INSTANCE_LABEL not in ours and hmac.compare_digest(
        signature.encode("utf-8", "surrogatepass"), _sign(ours, secret).encode("ascii")
    )


def foreign_labels(found: Mapping[str, str], passed: Mapping[str, str]) -> list[str]:
    """The labels with our prefix that are not as we passed them: written by others, changed or lost."""
    ours = {key: value for key, value in found.items() if key.startswith(LABEL_PREFIX)}
    return sorted(key for key in ours.keys() | passed.keys() if ours.get(key) != passed.get(key))


def _sign(labels: Mapping[str, str], secret: bytes) -> str:
    canonical = json.dumps(labels, ensure_ascii=True, sort_keys=True, separators=(",", ":"))
    return hmac.new(secret, canonical.encode("ascii"), hashlib.sha256).hexdigest()
