"""Values that hold each by itself, and do not go together. Pure: the settings come in, remarks go out."""

from __future__ import annotations

import ipaddress
from collections.abc import Callable, Iterator
from fnmatch import fnmatch

from ...amounts import shown_bytes, shown_number, shown_seconds
from ...launch.profiles import Profile, profiles_of
from ...settings import Settings
from .finding import Remark

# Servers report what happens in them every five minutes: docs/how-to/limit-use.md.
_SHORTEST_IDLE_S = 600.0
_PROTOCOLS = ("https", "ssh", "http")


def remarks(settings: Settings) -> Iterator[Remark]:
    """All of them."""
    for rule in _RULES:
        yield from rule(settings)


def _policy(settings: Settings) -> Iterator[Remark]:
    policy = settings.policy
    for each in policy.protocols:
        if each not in _PROTOCOLS:
            yield Remark(
                "warning", "policy.protocols", f"`{each}` is no protocol that is ever cloned from.",
                f"There are: {', '.join(_PROTOCOLS)}.",
            )  # fmt: skip
    if policy.dockerfile_repositories and settings.dockerfile_policy != "listed":
        yield Remark(
            "warning", "policy.dockerfile_repositories",
            f"The list has no effect: `policy.dockerfile` is `{settings.dockerfile_policy}`.",
            "Set `binder.policy.dockerfile` to `listed`, or take the list out.",
        )  # fmt: skip
    if policy.dockerfile == "listed" and not policy.dockerfile_repositories:
        yield Remark(
            "warning", "policy.dockerfile", "No repository is listed, so no Dockerfile is built.",
            "List some in `binder.policy.dockerfile_repositories`.",
        )  # fmt: skip
    if policy.image_names and policy.images == "off":
        yield Remark(
            "warning", "policy.image_names", "The list has no effect: `policy.images` is `off`.",
            "Set `binder.policy.images` to `listed`.",
        )  # fmt: skip
    if policy.images == "listed" and not policy.image_names:
        yield Remark(
            "warning", "policy.images", "No name is listed, so no image can be adopted.",
            "List patterns in `binder.policy.image_names`.",
        )  # fmt: skip
    for host in policy.allowed_hosts:
        blocking = next((each for each in policy.blocked_hosts if fnmatch(host, each)), None)
        if blocking:
            yield Remark(
                "warning", "policy.allowed_hosts",
                f"`{host}` is allowed and, by `{blocking}` in `policy.blocked_hosts`, blocked: that counts.",
                "Take it out of one of the lists.",
            )  # fmt: skip
    if policy.local_roots and settings.platform != "desktop":
        yield Remark("note", "policy.local_roots", "Folders as repositories are for a desktop.")


def _building(settings: Settings) -> Iterator[Remark]:
    build, source = settings.build, settings.source
    if build.silence_s >= build.timeout_s and "silence_s" in build.model_fields_set:
        yield Remark(
            "warning", "build.silence_s",
            f"A build ends after {shown_seconds(build.timeout_s)} in any case (`build.timeout_s`).",
            "Choose less.",
        )  # fmt: skip
    if source.max_file_bytes > source.max_checkout_bytes and "max_file_bytes" in source.model_fields_set:
        yield Remark(
            "warning", "source.max_file_bytes",
            f"No file can be larger than all files together, {shown_bytes(source.max_checkout_bytes)} "
            "(`source.max_checkout_bytes`).",
            "Choose less, or raise the other.",
        )  # fmt: skip
    if settings.updates.rebuild != "none" and not settings.updates.nightly_at:
        yield Remark(
            "warning", "updates.rebuild", "Nothing is rebuilt: nothing looks for newer commits.",
            "Say when in `binder.updates.nightly_at`, such as `03:30`.",
        )  # fmt: skip


def _profiles(settings: Settings) -> Iterator[Remark]:
    listed = profiles_of(settings)
    for number, each in enumerate(listed):
        key = f"profiles.{number}" if settings.profiles else "servers"
        yield from _one_profile(settings, each, key)
    if settings.profiles and all(each.people or each.groups for each in settings.profiles):
        yield Remark(
            "warning", "profiles", "No profile is for everyone: who is in none cannot start a server.",
            "Add a profile without `people` and `groups`, if that is not meant.",
        )  # fmt: skip
    default = next((each for each in settings.profiles if each.id == settings.servers.profile), None)
    if default is not None and (default.people or default.groups):
        yield Remark(
            "note", "servers.profile",
            f"`{default.id}` is not for everyone: the others get the first profile that is meant for them.",
        )  # fmt: skip


def _one_profile(settings: Settings, profile: Profile, key: str) -> Iterator[Remark]:
    limits = settings.limits
    if profile.idle_s and profile.lifetime_s and profile.lifetime_s <= profile.idle_s:
        yield Remark(
            "warning", f"{key}.idle_s",
            f"A server cannot be idle for {shown_seconds(profile.idle_s)}: it ends after "
            f"{shown_seconds(profile.lifetime_s)}.",
            "Choose a shorter idle time, or 0.",
        )  # fmt: skip
    if 0 < profile.idle_s < _SHORTEST_IDLE_S:
        yield Remark(
            "warning", f"{key}.idle_s",
            f"{shown_seconds(profile.idle_s)} is too short: servers report what happens every five minutes.",
            "Choose at least 600.",
        )  # fmt: skip
    may_memory = max([limits.memory_bytes, *(each.memory_bytes or 0 for each in limits.groups.values())])
    any_memory = not limits.memory_bytes or any(each.memory_bytes == 0 for each in limits.groups.values())
    if not any_memory and profile.memory_bytes > may_memory:
        yield Remark(
            "warning", f"{key}.memory_bytes",
            f"Nobody can start a server of {shown_bytes(profile.memory_bytes)}: one person may have "
            f"{shown_bytes(may_memory)} in all (`limits.memory_bytes`).",
            "Lower it, or raise the limit.",
        )  # fmt: skip
    may_cpus = max([limits.cpus, *(each.cpus or 0 for each in limits.groups.values())])
    any_cpus = not limits.cpus or any(each.cpus == 0 for each in limits.groups.values())
    if not any_cpus and profile.cpus > may_cpus:
        yield Remark(
            "warning", f"{key}.cpus",
            f"Nobody can start a server with {shown_number(profile.cpus)} processors: one person may have "
            f"{shown_number(may_cpus)} in all (`limits.cpus`).",
            "Lower it, or raise the limit.",
        )  # fmt: skip
    if profile.shm_bytes > profile.memory_bytes:
        yield Remark(
            "note", f"{key}.shm_bytes",
            f"What is in /dev/shm counts as memory, of which there are {shown_bytes(profile.memory_bytes)}.",
        )  # fmt: skip


def _storage(settings: Settings) -> Iterator[Remark]:
    storage = settings.storage
    if "warn_fraction" in storage.model_fields_set and not storage.max_bytes_per_person:
        yield Remark(
            "warning", "storage.warn_fraction",
            "Nobody is warned: there is no `storage.max_bytes_per_person`.",
            "Set that as well.",
        )  # fmt: skip
    if 0 < storage.max_bytes_per_person < storage.max_fill_bytes:
        yield Remark(
            "note", "storage.max_bytes_per_person",
            f"One image may fill a project with more, {shown_bytes(storage.max_fill_bytes)} "
            "(`storage.max_fill_bytes`).",
        )  # fmt: skip
    if storage.root and not storage.root.startswith("/"):
        yield Remark(
            "mistake", "storage.root", f"`{storage.root}` depends on where a process was started.",
            "Give an absolute path.",
        )  # fmt: skip


def _retention(settings: Settings) -> Iterator[Remark]:
    retention = settings.retention
    said = retention.model_fields_set - {"enabled", "min_age_hours", "mode"}
    if said and not settings.retention_enabled:
        why = "is false" if retention.enabled is False else "is false on a desktop"
        yield Remark(
            "warning", "retention",
            f"No image goes by itself: `retention.enabled` {why}. The rules hold for runs on demand.",
            "Set `binder.retention.enabled` to true, if images are to go by themselves.",
        )  # fmt: skip
    if 0 < retention.unused_days * 24 < retention.min_age_hours:
        yield Remark(
            "warning", "retention.unused_days",
            f"No image goes in its first {shown_number(retention.min_age_hours)} hours "
            "(`retention.min_age_hours`).",
            "Choose more days, or fewer hours.",
        )  # fmt: skip
    if settings.retention_enabled and settings.disk.warn_percent <= retention.high_watermark_percent:
        yield Remark(
            "warning", "disk.warn_percent",
            f"Pages warn from {settings.disk.warn_percent:g} % on, before retention acts "
            f"({retention.high_watermark_percent:g} %, `retention.high_watermark_percent`).",
            "Choose more, so that they warn of what retention cannot help.",
        )  # fmt: skip


def _network(settings: Settings) -> Iterator[Remark]:
    network = settings.network
    if network.subnet:
        try:
            ipaddress.IPv4Network(network.subnet)
        except ValueError as error:
            yield Remark(
                "mistake", "network.subnet", f"`{network.subnet}` is no IPv4 network: {error}.",
                "Give one such as `10.89.0.0/24`.",
            )  # fmt: skip
    if settings.firewall != "off":
        return
    for name in ("private_ranges", "allowed", "denied", "builds"):
        if name in network.model_fields_set:
            yield Remark(
                "warning", f"network.{name}", "It has no effect: `network.firewall` is `off`.",
                "Take one of them out.",
            )  # fmt: skip
    if settings.platform == "tljh":
        yield Remark(
            "warning", "network.firewall",
            "Servers can reach this machine's own services and the local network.",
            "Leave it at `required`, unless something else keeps them apart.",
        )  # fmt: skip


def _elsewhere(settings: Settings) -> Iterator[Remark]:
    if settings.platform != "desktop" and "desktop" in settings.model_fields_set:
        yield Remark(
            "warning", "desktop", "The section has no effect here: this is no desktop.", "Take it out."
        )


_RULES: tuple[Callable[[Settings], Iterator[Remark]], ...] = (
    _policy, _building, _profiles, _storage, _retention, _network, _elsewhere,
)  # fmt: skip
