"""The `binder` section of the configuration: types, defaults and help in one place.

Comes in: a mapping read from YAML. Goes out: a frozen `Settings`. Each field's description is its
documentation; unknown keys are errors that name the nearest known key.
"""

from __future__ import annotations

import difflib
import ipaddress
import logging
import os
import pwd
import re
import threading
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, get_args, get_origin

from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    ValidationError,
    ValidationInfo,
    field_validator,
    model_validator,
)
from pydantic_core import ErrorDetails
from ruamel.yaml import YAML
from ruamel.yaml.error import YAMLError

from .amounts import Bytes
from .errors import SettingsError
from .yaml_places import Places

log = logging.getLogger("littlest_binder.settings")

# Where a JupyterHub that is neither TLJH's nor a desktop's keeps our state unless told otherwise.
PLAIN_STATE_DIR = Path("/var/lib/littlest-binder")

GIB = 1024**3
MIB = 1024**2


class Section(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class PolicySettings(Section):
    """What may be built and started."""

    protocols: tuple[str, ...] = Field(
        ("https", "ssh"), description="Protocols from which a repository may be cloned: https, ssh, http."
    )
    allowed_hosts: tuple[str, ...] = Field(
        (), description="If not empty, only these hosts (fnmatch patterns) may be cloned from."
    )
    blocked_hosts: tuple[str, ...] = Field((), description="Hosts (patterns) that are never cloned from.")
    private_hosts: tuple[str, ...] = Field(
        (),
        description="Hosts (`name`, `name:port` or CIDR) that may be cloned from although they resolve to "
        "loopback, link-local or private addresses.",
    )
    blocked_repositories: tuple[str, ...] = Field(
        (), description="Repositories (patterns of the normalised URL) that are never built."
    )
    dockerfile: Literal["off", "listed", "everyone"] | None = Field(
        None, description="Who may build Dockerfiles. Default: `everyone` on a desktop, `listed` elsewhere."
    )
    dockerfile_repositories: tuple[str, ...] = Field(
        (), description="With `dockerfile: listed`: patterns of normalised repository URLs."
    )
    local_roots: tuple[str, ...] = Field(
        (), description="Folders below which `local/` repositories may lie (desktop)."
    )
    images: Literal["off", "listed"] = Field(
        "off", description="Whether existing Docker images may be adopted and started as `image/NAME`."
    )
    image_names: tuple[str, ...] = Field((), description="With `images: listed`: patterns of image names.")
    builders: Literal["everyone", "role"] = Field(
        "everyone",
        description="Who may have images built. `role`: administrators and who has the role `binder-builder` "
        "(such as the members of the group of that name); others start what is there.",
    )


class SourceSettings(Section):
    """Limits of cloning."""

    git_user: str = Field(
        "",
        description="Account under which git runs where we are root. Default: `littlest-binder` if it "
        "exists, else `nobody`.",
    )
    timeout_s: float = Field(600.0, gt=0, description="Seconds that one git command may take.")
    resolve_timeout_s: float = Field(30.0, gt=0, description="Seconds that `git ls-remote` may take.")
    resolve_cache_s: float = Field(5.0, ge=0, description="Seconds for which a resolved ref is kept.")
    max_checkout_bytes: Bytes = Field(
        4 * GIB,
        gt=0,
        description="Largest size of a commit's files, and of what archives of a "
        "Dockerfile's `ADD` unpack to.",
    )
    max_file_bytes: Bytes = Field(2 * GIB, gt=0, description="Largest single file of a commit.")
    max_files: int = Field(200_000, gt=0, description="Most files that a commit may have.")
    max_fetch_bytes: Bytes = Field(8 * GIB, gt=0, description="Most bytes that one fetch may write.")
    full_history_bytes: Bytes = Field(
        20 * MIB, ge=0, description="A history smaller than this is put into the image whole."
    )
    lfs: bool = Field(True, description="Fetch the contents of files in Git LFS, within the limits above.")
    mirror_days: float = Field(
        30.0,
        ge=0,
        description="Days after which the stored copy of a repository goes that nobody fetched from "
        "meanwhile and of which there is no image; one where the disk is above "
        "`retention.high_watermark_percent`. 0: never.",
    )
    credentials_file: str = Field(
        "",
        description="File with credentials of git hosts, for the people and groups that it names. Only its "
        "owner may be able to read it.",
    )
    credential_s: float = Field(
        900.0,
        gt=0,
        description="Seconds for which a credential that came with a request is held in memory at most; it "
        "goes earlier when its build has ended.",
    )


class BuildSettings(Section):
    """The image builder."""

    concurrent: int = Field(2, ge=1, description="Builds that run at the same time.")
    per_person: int = Field(5, ge=1, description="Builds that one person may have queued or running.")
    timeout_s: float = Field(3600.0, gt=0, description="Seconds that one build may take.")
    silence_s: float = Field(900.0, gt=0, description="Seconds for which a build may print nothing.")
    log_bytes: Bytes = Field(32 * MIB, gt=0, description="Largest log of one build.")
    disk_reserve_bytes: Bytes = Field(
        2 * GIB, ge=0, description="Free bytes on Docker's disk below which no build starts or goes on."
    )
    fast_python: bool = Field(True, description="Use our own fast build pack for Python repositories.")
    release: Literal["bookworm", "trixie"] = Field(
        "bookworm", description="Debian release of the base image of the fast build pack."
    )
    mirror: str = Field(
        "",
        description="Debian mirror of the base image. Default: the one from which the installer took Debian.",
    )
    appendix: str = Field("", description="Dockerfile lines added to the end of every image.")
    check_timeout_s: float = Field(
        180.0, gt=0, description="Seconds that the start check of an image may take."
    )


class StorageSettings(Section):
    """People's kept files."""

    root: str = Field("", description="Folder of people's projects. Default: `projects` in the state folder.")
    max_fill_bytes: Bytes = Field(
        4 * GIB, gt=0, description="Most bytes that an image may put into a new project folder."
    )
    default: Literal["project", "ephemeral"] = Field("project", description="Storage if nothing is said.")
    max_bytes_per_person: Bytes = Field(
        0,
        ge=0,
        description="Bytes that one person may keep (projects, deleted ones too, and `my-files`) before new "
        "starts that keep files are refused; 0: no limit. Nothing is ever deleted for it.",
    )
    warn_fraction: float = Field(
        0.8, gt=0, le=1, description="Part of `max_bytes_per_person` from which pages warn."
    )
    keep_deleted_days: float = Field(
        14.0, ge=0, description="Days for which a deleted project can be brought back."
    )
    measure_every_s: float = Field(
        300.0, gt=0, description="Seconds between two rounds of measuring people's files in the background."
    )


class ServerSettings(Section):
    """What a notebook server gets, and as whom it runs."""

    identity: Literal["fixed", "unix"] = Field(
        "fixed",
        description="As whom servers run: `fixed`, all as `uid` and `gid`; `unix`, each person's as their "
        "own account of this machine, with its groups ([how](../how-to/unix-accounts.md)). Not on a desktop.",
    )
    account: str = Field(
        "",
        description="With `identity: unix` where the hub is not TLJH's: what the account of a person is "
        "called, with `{name}` for the person's name in the hub. Default: `{name}`. On TLJH it is always "
        "`jupyter-NAME`.",
    )
    home_mount: Literal["off", "read-only", "read-write"] = Field(
        "off",
        description="With `identity: unix`: whether people may tick the home of their own account, as the "
        "mount `tljh-home` (elsewhere `unix-home`).",
    )
    uid: int | None = Field(
        None,
        ge=1,
        description="Numeric user of all servers; with `identity: unix` only of builds and checks. Default: "
        "the owner's on a desktop, else 1000.",
    )
    gid: int | None = Field(None, ge=1, description="Numeric group of all servers. Default: as `uid`.")
    groups: tuple[int, ...] = Field(
        (), description="Numeric supplementary groups of all servers, beside those of an account."
    )
    memory_bytes: Bytes = Field(2 * GIB, gt=0, description="Memory of a server; no swap on top.")
    cpus: float = Field(2.0, gt=0, description="Processors of a server.")
    pids: int = Field(2048, ge=256, description="Processes and threads of a server.")
    shm_bytes: Bytes = Field(256 * MIB, gt=0, description="Shared memory (/dev/shm) of a server.")
    log_bytes: Bytes = Field(10 * MIB, gt=0, description="Bytes of a server's log that Docker keeps.")
    start_timeout_s: float = Field(120.0, gt=0, description="Seconds from container start to first answer.")
    stop_timeout_s: int = Field(5, ge=1, description="Seconds that a server has to end by itself.")
    lifetime_s: float = Field(
        0.0, ge=0, description="Seconds after which a server is stopped in any case; 0: never."
    )
    idle_s: float = Field(
        0.0,
        ge=0,
        description="Seconds without activity, and without a kernel that computes, after which a server is "
        "stopped; 0: never.",
    )
    profile: str = Field(
        "",
        description="Id of the profile that people get who chose none. Default: the first one that is meant "
        "for them.",
    )

    @property
    def account_pattern(self) -> str:
        """What an account is called, with `{name}` once."""
        return self.account or "{name}"

    @field_validator("account")
    @classmethod
    def _has_a_place_for_the_name(cls, value: str) -> str:
        if value and not re.fullmatch(r"[A-Za-z0-9._@+\\-]*\{name\}[A-Za-z0-9._@+\\-]*", value):
            raise ValueError(
                "must hold `{name}` once and besides only letters, digits and `.`, `_`, `@`, `+`, `-`, `\\`"
            )
        if value.startswith("-"):
            raise ValueError("must not begin with a hyphen")
        return value


class ProfileSettings(Section):
    """Profiles to choose from, a list: how much a server gets and how long it runs.

    What a profile does not say is as in `servers`. Without any profile there is one, made of `servers` alone.
    """

    id: str = Field(
        pattern=r"^[a-z0-9]([a-z0-9-]{0,38}[a-z0-9])?$",
        description="Name in links, options and commands: at most 40 lowercase letters, digits, hyphens.",
    )
    title: str = Field("", max_length=100, description="What people read. Default: the id.")
    description: str = Field("", max_length=500, description="A sentence that says what it is for.")
    memory_bytes: Bytes | None = Field(None, gt=0, description="Memory; no swap on top.")
    cpus: float | None = Field(None, gt=0, description="Processors.")
    pids: int | None = Field(None, ge=256, description="Processes and threads.")
    shm_bytes: Bytes | None = Field(None, gt=0, description="Shared memory (/dev/shm).")
    lifetime_s: float | None = Field(
        None, ge=0, description="Seconds after which the server is stopped in any case; 0: never."
    )
    idle_s: float | None = Field(
        None, ge=0, description="Seconds without activity after which the server is stopped; 0: never."
    )
    people: tuple[str, ...] = Field(
        (), description="People for whom it is meant. Without `people` and `groups`: everyone."
    )
    groups: tuple[str, ...] = Field((), description="Groups for whose members it is meant.")
    default: bool = Field(
        False,
        description="Whether those for whom it is meant get it if they chose none; it goes before "
        "`servers.profile`, and the first such profile in the list before the others.",
    )


class GroupLimitSettings(Section):
    """What the members of a group may have; what is not said is as for everyone."""

    servers: int | None = Field(None, ge=0, description="Servers that run at the same time.")
    memory_bytes: Bytes | None = Field(None, ge=0, description="Memory of all their servers together.")
    cpus: float | None = Field(None, ge=0, description="Processors of all their servers together.")


class LimitSettings(Section):
    """What one person may have in all their running servers, and what all servers may have together.

    Checked when a server starts. Servers that start count as running ones.
    """

    servers: int = Field(0, ge=0, description="Servers of one person that run at the same time; 0: any.")
    memory_bytes: Bytes = Field(
        0, ge=0, description="Memory of all running servers of one person together; 0: any."
    )
    cpus: float = Field(
        0.0, ge=0, description="Processors of all running servers of one person together; 0: any."
    )
    groups: dict[str, GroupLimitSettings] = Field(
        {},
        description="By name of a group, other values of `servers`, `memory_bytes`, `cpus` for its members. "
        "In several groups the largest value holds, and 0 (any) is the largest.",
    )
    memory_overcommit: float = Field(
        4.0,
        ge=0,
        description="The memory limits of all servers together may be so many times the machine's memory. "
        "1: each can use all of its memory at the same time; more: they share, since most use little; "
        "0: any.",
    )
    memory_reserve_bytes: Bytes = Field(
        256 * MIB,
        ge=0,
        description="Memory of the machine that is not for servers. If less is available, none is started.",
    )


@dataclass(frozen=True, slots=True)
class Destination:
    """Where servers may or may not go: an IPv4 network (they have no IPv6), and a port or 0 for any."""

    network: ipaddress.IPv4Network
    port: int = 0

    @classmethod
    def parse(cls, text: str) -> Destination:
        """`10.0.0.7`, `10.0.0.0/24`, `10.0.0.7:5432`. Raises `ValueError`."""
        address, colon, port = text.partition(":")
        if colon and not (port.isascii() and port.isdigit() and 0 < int(port) < 65536):
            raise ValueError(f"{text!r} is not an IPv4 address or CIDR, nor one with `:PORT`")
        return cls(ipaddress.IPv4Network(address, strict=False), int(port or 0))


class DockerSettings(Section):
    """How patient we are with Docker."""

    timeout_s: float = Field(
        60.0, gt=0, description="Seconds that Docker may take for a call that is not long by its nature."
    )
    removal_timeout_s: float = Field(
        600.0,
        gt=0,
        description="Seconds that Docker may take to remove an image, or a record of its build cache: many "
        "small files on a busy disk take minutes.",
    )


class DiskSettings(Section):
    """Watching who occupies the disk."""

    every_s: float = Field(
        300.0,
        gt=0,
        description="Seconds between two looks at the disk. Where a look takes long, the next one comes "
        "after twenty times as long.",
    )
    warn_percent: float = Field(
        90.0,
        gt=0,
        le=100,
        description="Percent of a filesystem from which administrators' pages warn that it is nearly full; "
        "above `retention.high_watermark_percent`, so that they warn of what retention cannot help.",
    )
    warn_days: float = Field(
        3.0,
        ge=0,
        description="They also warn if it would be full in so many days at the rate at which it grew; "
        "0: never.",
    )


class KeepSettings(Section):
    """Rules that keep images from retention, a list: an image stays if all that one rule says is so."""

    repository: str = Field(
        "",
        description="Pattern of the repository's normalised URL, or of the image's name (`*`, `?`, `[…]`).",
    )
    built_by: str = Field("", description="Name of the person for whom it was built.")
    newest: int = Field(0, ge=0, description="Only so many newest images of each repository; 0: all.")
    launches: int = Field(0, ge=0, description="Only what was started at least so often; 0: any.")
    used_within_days: float = Field(0.0, ge=0, description="Only what was used in the last days; 0: any.")
    rebuild_s: float = Field(
        0.0, ge=0, description="Only what took at least so many seconds to build; 0: any."
    )

    def said(self) -> str:
        """What the rule says, as a person reads it."""
        return ", ".join(f"{key} {value}" for key, value in self.model_dump(exclude_defaults=True).items())

    @model_validator(mode="after")
    def _says_something(self) -> KeepSettings:
        if not self.said():
            raise ValueError("a rule of `retention.keep` says nothing: give it a key")
        return self


class RetentionSettings(Section):
    """Which images go by themselves when the disk fills up, and which stay.

    Never taken are images in use, being started, being built, pinned, too young, and those that are not ours.
    Changes apply at the next round, without a restart.
    """

    enabled: bool | None = Field(
        None,
        description="Whether images go by themselves; runs on demand work in any case. Default: `true`, but "
        "`false` on a desktop, whose disk is full of the person's own things.",
    )
    high_watermark_percent: float = Field(
        85.0, gt=0, le=100, description="Percent of Docker's disk in use above which images go."
    )
    low_watermark_percent: float = Field(
        75.0, ge=0, le=100, description="Percent of Docker's disk in use to which it is then brought down."
    )
    max_bytes: Bytes = Field(
        0,
        ge=0,
        description="Bytes that all images of ours may occupy, layers that they share counted once; 0: any.",
    )
    min_age_hours: float = Field(
        1.0, ge=0, description="Hours after its build in which no image is deleted, by anybody."
    )
    unused_days: float = Field(
        0.0,
        ge=0,
        description="Days without use after which an image goes also while there is room; 0: never.",
    )
    keep: tuple[KeepSettings, ...] = Field((), description="Rules that say what stays, see below.")
    mode: Literal["erase", "evict"] = Field(
        "erase",
        description="`erase` takes the image and the build cache that only it used. `evict` leaves the "
        "cache, so that the image comes back in seconds; that alone frees nothing. Where the disk is to be "
        "brought down, the cache of evicted images goes in the same run: that is erasing in two steps.",
    )
    every_s: float = Field(60.0, gt=0, description="Seconds between two looks at the disk.")

    @model_validator(mode="after")
    def _low_is_below_high(self) -> RetentionSettings:
        if self.low_watermark_percent > self.high_watermark_percent:
            raise ValueError(
                f"`retention.low_watermark_percent` is {self.low_watermark_percent:g}, which is above "
                f"`retention.high_watermark_percent` ({self.high_watermark_percent:g})"
            )
        return self


class UpdateSettings(Section):
    """Newer commits of repositories whose images are here. Changes apply without a restart."""

    nightly_at: str = Field(
        "",
        pattern=r"^([01][0-9]:[0-5][0-9]|2[0-3]:[0-5][0-9])?$",
        description="Local time, such as `03:30`, at which branches and tags are looked at every night; "
        "empty: never. A machine that is off at that time leaves the night out.",
    )
    rebuild: Literal["none", "pinned", "ready", "all"] = Field(
        "none",
        description="Which images are built anew if there is a newer commit: `none` (it is only shown), "
        "`pinned`, `ready` (those that the front page offers to everyone), or `all`. The old image stays "
        "until retention takes it.",
    )


class NetworkSettings(Section):
    """The network of the servers and how they reach the hub."""

    subnet: str = Field("", description="CIDR of the servers' network. Default: Docker chooses a free one.")
    gateway_port: int = Field(0, ge=0, le=65535, description="Port of the gateway listener; 0: a free one.")
    firewall: Literal["auto", "required", "off"] | None = Field(
        None,
        description="Firewall rules for the servers' network: `auto` where we may set them, `required` "
        "refuses a start without them, `off`. Default: `required` on TLJH, `auto` elsewhere.",
    )
    private_ranges: Literal["allow", "deny"] = Field(
        "deny", description="Whether servers may reach the local network (private addresses)."
    )
    allowed: tuple[str, ...] = Field(
        (),
        description="What servers may reach all the same: addresses or CIDRs, with `:PORT` or without. This "
        "machine's own services are opened only by `ADDRESS:PORT`.",
    )
    denied: tuple[str, ...] = Field(
        (),
        description="Further addresses or CIDRs that servers may not reach, as a LAN with public addresses.",
    )
    builds: Literal["open", "as-servers"] = Field(
        "open",
        description="`as-servers` sets the rules on Docker's default bridge too, where builds run, and so "
        "for everybody's containers there. They reach nothing by IPv6 then.",
    )

    @property
    def allowed_destinations(self) -> tuple[Destination, ...]:
        return tuple(Destination.parse(each) for each in self.allowed)

    @property
    def denied_destinations(self) -> tuple[Destination, ...]:
        return tuple(Destination.parse(each) for each in self.denied)

    @field_validator("allowed", "denied")
    @classmethod
    def _are_destinations(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        for each in value:
            Destination.parse(each)
        return value


class MonitoringSettings(Section):
    """What hub and service tell those who look after them."""

    log_level: Literal["debug", "info", "warning", "error"] = Field(
        "info",
        description="From which level on the service logs; the hub has JupyterHub's own "
        "`c.JupyterHub.log_level`.",
    )
    authenticate_metrics: bool = Field(
        True,
        description="Whether `metrics` of the service is for administrators and tokens with the scope "
        "`custom:binder:metrics` only. The hub's own metrics have JupyterHub's "
        "`c.JupyterHub.authenticate_prometheus`.",
    )


class MountSettings(Section):
    """The catalogue of mounts, a list: folders of this machine that people may have in their servers.

    Changes apply at the next start of a server, without a restart of the hub.
    """

    id: str = Field(
        pattern=r"^[a-z0-9]([a-z0-9-]{0,38}[a-z0-9])?$",
        description="Name in options and commands, and of the link in the home: at most 40 lowercase "
        "letters, digits, hyphens. `my-files` and what begins with `grant-` are taken.",
    )
    title: str = Field("", max_length=100, description="What people read. Default: the id.")
    description: str = Field("", max_length=500, description="A sentence that says what is in it.")
    source: str = Field(description="The folder on this machine, as an absolute path.")
    target: str = Field(
        "", description="Where it is in the server, as an absolute path. Default: `/data/` and the id."
    )
    access: Literal["read-only", "read-write"] = Field(
        "read-only", description="`read-only`, or `read-write` to let people change what is in it."
    )
    people: tuple[str, ...] = Field(
        (), description="People for whom it is meant. Without `people` and `groups`: everyone."
    )
    groups: tuple[str, ...] = Field((), description="Groups for whose members it is meant.")
    default: bool = Field(False, description="Whether its box is ticked on the forms. A link never ticks it.")
    per_person: bool = Field(
        False,
        description="Mount only the folder in it that is named for the person. A missing one is made for "
        "`read-write`, for the servers' user alone, and refused for `read-only`.",
    )

    @property
    def shown(self) -> str:
        """What people read."""
        return self.title or self.id

    @property
    def place(self) -> str:
        """Where it is in the server."""
        return self.target or f"/data/{self.id}"

    @field_validator("id")
    @classmethod
    def _is_not_taken(cls, value: str) -> str:
        if value == "my-files" or value.startswith("grant-"):
            raise ValueError("is a name that we use ourselves")
        return value

    @field_validator("source", "target")
    @classmethod
    def _is_a_plain_path(cls, value: str, info: ValidationInfo) -> str:
        if not value and info.field_name == "target":
            return value
        return plain_path(value)


def plain_path(value: str) -> str:
    """An absolute path that means only itself; raises `ValueError` for anything else.

    Braces are refused since parts of JupyterHub format what they are given, control characters since pages
    and logs show it.
    """
    if not value.startswith("/") or value.startswith("//"):
        raise ValueError("must be an absolute path")
    if re.search(r"[\x00-\x1f\x7f{}]", value):
        raise ValueError("must not hold braces or control characters")
    if {".", ".."} & set(value.split("/")):
        raise ValueError("must not hold `.` or `..`")
    return "/" + "/".join(part for part in value.split("/") if part)


class DesktopSettings(Section):
    """Binder at home."""

    port: int = Field(8888, ge=1, le=65535, description="Port on 127.0.0.1 at which the pages are.")
    sign_in_link_s: float = Field(600.0, gt=0, description="Seconds for which a sign-in link is good.")
    mount_roots: tuple[str, ...] = Field(
        ("~",),
        description="Folders below which you may pick folders of your own for your servers, on the page "
        "Folders. `~` is your home; nothing in a hidden folder can be picked.",
    )

    @field_validator("mount_roots")
    @classmethod
    def _are_paths(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        return tuple(each if each == "~" else plain_path(each) for each in value)


class Settings(Section):
    """The whole `binder` section, plus where it applies.

    `platform`, `state_dir` and `owner` are set by whoever starts us, not by the file; `origin` is that file.
    """

    platform: Literal["desktop", "tljh", "jupyterhub"] = Field("desktop", exclude=True)
    state_dir: Path = Field(Path("/opt/tljh/state/binder"), exclude=True)
    owner: str = Field("", exclude=True, description="Desktop: the one person of this installation.")
    origin: Path | None = Field(None, exclude=True)

    policy: PolicySettings = PolicySettings()
    source: SourceSettings = SourceSettings()
    build: BuildSettings = BuildSettings()
    storage: StorageSettings = StorageSettings()
    servers: ServerSettings = ServerSettings()
    profiles: tuple[ProfileSettings, ...] = ()
    limits: LimitSettings = LimitSettings()
    docker: DockerSettings = DockerSettings()
    disk: DiskSettings = DiskSettings()
    retention: RetentionSettings = RetentionSettings()
    updates: UpdateSettings = UpdateSettings()
    network: NetworkSettings = NetworkSettings()
    monitoring: MonitoringSettings = MonitoringSettings()
    mounts: tuple[MountSettings, ...] = ()
    desktop: DesktopSettings = DesktopSettings()

    @model_validator(mode="after")
    def _mounts_are_told_apart(self) -> Settings:
        ids = [each.id for each in self.mounts]
        twice = sorted({each for each in ids if ids.count(each) > 1})
        if twice:
            raise ValueError(f"two mounts have the id `{twice[0]}`")
        return self

    @model_validator(mode="after")
    def _accounts_can_be_had(self) -> Settings:
        servers = self.servers
        if servers.identity == "unix" and self.platform == "desktop":
            raise ValueError(
                "`servers.identity` is `unix`, which needs a hub that runs as root for several people; on a "
                "desktop servers run as its owner"
            )
        if servers.identity == "fixed" and servers.home_mount != "off":
            raise ValueError(
                f"`servers.home_mount` is `{servers.home_mount}`, which needs `servers.identity: unix`: "
                "another account may not even look into a person's home"
            )
        if servers.account and self.platform == "tljh":
            raise ValueError(
                "`servers.account` is set, but TLJH says itself what accounts are called (`jupyter-NAME`)"
            )
        if servers.home_mount != "off" and self.home_mount_id in [each.id for each in self.mounts]:
            raise ValueError(
                f"a mount has the id `{self.home_mount_id}`, which is that of `servers.home_mount`"
            )
        return self

    @model_validator(mode="after")
    def _profiles_are_told_apart(self) -> Settings:
        ids = [each.id for each in self.profiles]
        twice = sorted({each for each in ids if ids.count(each) > 1})
        if twice:
            raise ValueError(f"two profiles have the id `{twice[0]}`")
        if self.servers.profile and self.servers.profile not in ids:
            known = ", ".join(ids) or "none"
            raise ValueError(
                f"`servers.profile` is `{self.servers.profile}`, which is no profile (profiles: {known})"
            )
        return self

    # -- what follows from the settings ---------------------------------------------------------------

    @property
    def firewall(self) -> Literal["auto", "required", "off"]:
        """TLJH's hub is root, so a start without rules would be a fault there."""
        return self.network.firewall or ("required" if self.platform == "tljh" else "auto")

    @property
    def ends_servers(self) -> bool:
        """Whether some server ends by its idle time or lifetime."""
        own = self.servers.idle_s or self.servers.lifetime_s
        return bool(own) or any(each.idle_s or each.lifetime_s for each in self.profiles)

    @property
    def retention_enabled(self) -> bool:
        """A desktop's disk may always be nearly full, and then no image would stay for long."""
        return self.platform != "desktop" if self.retention.enabled is None else self.retention.enabled

    @property
    def dockerfile_policy(self) -> Literal["off", "listed", "everyone"]:
        return self.policy.dockerfile or ("everyone" if self.platform == "desktop" else "listed")

    @property
    def run_dir(self) -> Path:
        """Sockets, tokens, sign-in codes; readable by the owner alone."""
        return self.state_dir / "run"

    @property
    def service_socket(self) -> Path:
        return self.run_dir / "service.sock"

    @property
    def store_path(self) -> Path:
        return self.state_dir / "store.sqlite"

    @property
    def clock_path(self) -> Path:
        """The time that is trusted where something is removed for good."""
        return self.state_dir / "clock.json"

    @property
    def log_dir(self) -> Path:
        return self.state_dir / "logs"

    @property
    def mirror_dir(self) -> Path:
        return self.state_dir / "mirrors"

    @property
    def checkout_dir(self) -> Path:
        return self.state_dir / "checkouts"

    @property
    def examples_dir(self) -> Path:
        """Git repositories of the bundled examples, always an allowed root of `local/`."""
        return self.state_dir / "examples"

    @property
    def storage_root(self) -> Path:
        return Path(self.storage.root) if self.storage.root else self.state_dir / "projects"

    @property
    def server_uid(self) -> int:
        if self.servers.uid is not None:
            return self.servers.uid
        if self.platform == "desktop" and self.owner:
            uid = pwd.getpwnam(self.owner).pw_uid
            if uid != 0:
                return uid
        return 1000

    @property
    def server_gid(self) -> int:
        return self.servers.gid if self.servers.gid is not None else self.server_uid

    @property
    def home_mount_id(self) -> str:
        """The id of the mount of a person's own home, and the name of its link."""
        return "tljh-home" if self.platform == "tljh" else "unix-home"

    @property
    def mount_roots(self) -> tuple[Path, ...]:
        """Folders under which the one person of a desktop may pick folders; none elsewhere."""
        if self.platform != "desktop" or not self.owner:
            return ()
        home = pwd.getpwnam(self.owner).pw_dir
        return tuple(Path(home if each == "~" else each) for each in self.desktop.mount_roots)

    @property
    def grants_path(self) -> Path:
        """The folders that were picked."""
        return self.state_dir / "grants.json"


def desktop_state_dir() -> Path:
    """`$XDG_DATA_HOME/littlest-binder` of the person, by the XDG base directory specification."""
    base = os.environ.get("XDG_DATA_HOME", "")
    root = Path(base) if os.path.isabs(base) else Path.home() / ".local" / "share"
    return root / "littlest-binder"


def _section_of(place: Sequence[str | int]) -> Any:
    """The model at a place of the settings; an entry of a list or of a mapping is of its kind."""
    kind: Any = Settings
    for part in place:
        fields = getattr(kind, "model_fields", None)
        # A list's annotation is `tuple[Kind, ...]`, a mapping's `dict[str, Kind]`.
        kind = fields[str(part)].annotation if fields else entry_of(kind)
    return kind


def entry_of(annotation: Any) -> Any:
    """What the entries of a list or a mapping of the settings are."""
    inner = get_args(annotation)
    return inner[1] if get_origin(annotation) is dict else inner[0]


# What whoever starts us sets, and no file.
OWN = frozenset({"platform", "state_dir", "owner", "origin"})


def explain(mistake: ErrorDetails, source: str) -> SettingsError:
    """One of pydantic's errors as a person reads it. `source` is the file, with the line if it is known."""
    if not mistake["loc"]:
        reason = mistake["msg"].removeprefix("Value error, ")
        return SettingsError(f"In {source} {reason}.", "Correct it and run the command again.")
    key = "binder." + ".".join(str(part) for part in mistake["loc"])
    if mistake["type"] == "extra_forbidden":
        model = _section_of(mistake["loc"][:-1])
        near = difflib.get_close_matches(str(mistake["loc"][-1]), list(model.model_fields), n=1)
        hint = f"Did you mean `{near[0]}`? " if near else ""
        known = sorted(name for name, field in model.model_fields.items() if not field.exclude)
        return SettingsError(
            f"Unknown setting `{key}` (value {mistake['input']!r}) in {source}.",
            f"{hint}Known keys there: {', '.join(known)}.",
            code="unknown-setting",
        )
    reason = mistake["msg"].lower().replace("tuple", "list")
    return SettingsError(
        f"Setting `{key}` in {source} has the value {mistake['input']!r}: {reason}.",
        "Correct it and run the command again.",
    )


def _place(origin: Path | None, keys: Sequence[str | int], source: str) -> str:
    """`source`, with the line of a key of the section if it comes from a file."""
    line = Places.of_file(origin).nearest(["binder", *keys]) if origin is not None else None
    return f"{source}:{line}" if line is not None else source


def from_mapping(
    section: Mapping[str, Any],
    *,
    platform: Literal["desktop", "tljh", "jupyterhub"],
    state_dir: Path,
    owner: str = "",
    source: str = "the configuration",
    origin: Path | None = None,
) -> Settings:
    """Validate a `binder` section; raises `SettingsError` naming the key, its value and the next step.

    `origin` is the file from which it came, if it did: the error then names the line as well.
    """
    if not isinstance(section, Mapping):
        raise SettingsError(
            f"The section `binder` in {_place(origin, (), source)} must hold keys, found {section!r:.80}.",
            "Indent its keys below `binder:`.",
        )
    reserved = OWN & set(section)
    if reserved:
        name = sorted(reserved)[0]
        raise SettingsError(
            f"Unknown setting `binder.{name}` in {_place(origin, [name], source)}.",
            "It is decided by the installation, not by the file: remove the line.",
            code="unknown-setting",
        )
    try:
        return Settings.model_validate(
            {**section, "platform": platform, "state_dir": state_dir, "owner": owner, "origin": origin}
        )
    except ValidationError as error:
        first = error.errors()[0]
        raise explain(first, _place(origin, first["loc"], source)) from None


def read_file(path: Path, *, alone: bool = True) -> dict[str, Any]:
    """The `binder` section of a YAML file, in which it must be `alone` or not; `{}` without that file."""
    try:
        text = path.read_text(encoding="utf-8")
    except FileNotFoundError:
        return {}
    except OSError as error:
        raise SettingsError(f"Cannot read {path}: {error.strerror}.", "Check its permissions.") from error
    except UnicodeDecodeError as error:
        raise SettingsError(f"{path} is not UTF-8: {error}.", "Save it as UTF-8.") from None
    try:
        document = YAML(typ="safe").load(text)
    except YAMLError as error:
        raise not_yaml(path, error) from None
    if document is None:
        return {}
    if not isinstance(document, dict) or (alone and set(document) - {"binder"}):
        raise SettingsError(
            f"{path} must hold one section `binder:`, found {document!r:.80}.",
            "Indent the keys under `binder:`.",
        )
    return document.get("binder") or {}


def not_yaml(path: Path, error: YAMLError) -> SettingsError:
    """What the parser says of a file, with the line at which it gave up."""
    mark = getattr(error, "problem_mark", None)
    where = f"{path}:{mark.line + 1}" if mark is not None else str(path)
    reason = getattr(error, "problem", None) or str(error)
    return SettingsError(
        f"{where} is not valid YAML: {reason}.", "Correct the file: indentation by spaces, each key once."
    )


def load_desktop(state_dir: Path | None = None, owner: str | None = None) -> Settings:
    """The settings of Binder at home: `config.yaml` in the state folder over the defaults."""
    where = (state_dir or desktop_state_dir()).resolve()
    path = where / "config.yaml"
    return from_mapping(
        read_file(path),
        platform="desktop",
        state_dir=where,
        owner=owner or pwd.getpwuid(os.getuid()).pw_name,
        source=str(path),
        origin=path,
    )


def load_file(path: str | Path, *, state_dir: str | Path = PLAIN_STATE_DIR) -> Settings:
    """The settings of a JupyterHub that is neither TLJH's nor a desktop's: the section `binder:` of a file.

    Without that file the defaults hold. Raises `SettingsError`. See docs/how-to/plain-jupyterhub.md.
    """
    where = Path(path).absolute()
    return from_mapping(
        read_file(where),
        platform="jupyterhub",
        state_dir=Path(state_dir).absolute(),
        source=str(where),
        origin=where,
    )


# -- changes while we run -----------------------------------------------------------------------------


@dataclass(frozen=True)
class _Reading:
    """What a file gave when it was as `state` says; `good` is what it gave last without a mistake."""

    state: tuple[int, ...]
    good: Settings
    problem: SettingsError | None


# One entry for each file, which is one in all but tests: starts and requests look at it all the time.
_readings: dict[tuple[Path, Path, str], _Reading] = {}
_reading = threading.Lock()


def fresh(settings: Settings) -> Settings:
    """What the file that `settings` came from says now; the last good ones, and a warning, if it is invalid.

    What needs a restart (addresses, folders, Docker) is for the caller to leave alone. Costs one look at the
    file while it does not change.
    """
    return _look(settings.origin, settings).good if settings.origin is not None else settings


def stale(settings: Settings) -> SettingsError | None:
    """What is wrong with the file now, so that `fresh` keeps what it said before; None if nothing is."""
    return _look(settings.origin, settings).problem if settings.origin is not None else None


def _look(path: Path, settings: Settings) -> _Reading:
    key = (path, settings.state_dir, settings.owner)
    with _reading:
        known = _readings.get(key)
        state = _state_of(path)
        if known is None or known.state != state:
            known = _read_again(path, state, known.good if known else settings)
            _readings[key] = known
    return known


def _read_again(path: Path, state: tuple[int, ...], before: Settings) -> _Reading:
    try:
        good = from_mapping(
            read_file(path, alone=before.platform != "tljh"),
            platform=before.platform,
            state_dir=before.state_dir,
            owner=before.owner,
            source=str(path),
            origin=path,
        )
    except SettingsError as error:
        log.warning("The settings stay as they were: %s", error)
        return _Reading(state, before, error)
    return _Reading(state, good, None)


def _state_of(path: Path) -> tuple[int, ...]:
    """What differs when a file was changed or replaced."""
    try:
        facts = path.stat()
    except OSError:
        return ()
    return (facts.st_dev, facts.st_ino, facts.st_size, facts.st_mtime_ns, facts.st_ctime_ns)
