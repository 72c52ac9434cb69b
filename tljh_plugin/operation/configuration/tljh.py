"""What TLJH's own settings and ours say of the same thing, and what of TLJH's ours replaces.

Read from its `config.yaml` as it stands, without TLJH: this runs before a reload, perhaps on another machine.
Keys with a `:` before them are TLJH's own.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from ...amounts import shown_bytes, shown_number, shown_seconds
from ...launch.profiles import profiles_of
from ...settings import Settings
from .file import SettingsFile
from .finding import Finding, Remark

# tljh/configurer.py, `default`.
CULL = {"enabled": True, "timeout": 600, "every": 60, "max_age": 0, "users": False}
# jupyterhub/traitlets.py, `ByteSpecification`.
_MEMORY = re.compile(r"(\d+(?:\.\d+)?)([KMGT]?)")
_UNITS = {"": 1, "K": 1024, "M": 1024**2, "G": 1024**3, "T": 1024**4}
# Where TLJH's hook left lists, an assignment in a later file throws away what is in them.
_ASSIGNED = re.compile(
    r"^\s*c\.JupyterHub\.(services|load_roles|spawner_class|extra_handlers|template_paths|custom_scopes)\s*=",
    re.M,
)
_SUBDOMAINS = re.compile(r"^\s*c\.JupyterHub\.subdomain_host\s*=\s*[frb]*['\"]([^'\"]*)['\"]", re.M)


def remarks(file: SettingsFile, settings: Settings) -> Iterator[Remark]:
    """What the file says besides `binder`."""
    document: Mapping[str, Any] = file.document if isinstance(file.document, Mapping) else {}
    yield from _culler(document, settings)
    yield from _limits(document, settings)
    yield from _environment(document)
    yield from _groups(document)


def _at(document: Any, *keys: str) -> Any:
    for key in keys:
        document = document.get(key) if isinstance(document, Mapping) else None
    return document


def culler(document: Any) -> dict[str, Any]:
    """TLJH's own culler as the file sets it."""
    said = _at(document, "services", "cull")
    return {**CULL, **(said if isinstance(said, Mapping) else {})}


def _culler(document: Mapping[str, Any], settings: Settings) -> Iterator[Remark]:
    cull = culler(document)
    if not cull["enabled"]:
        return
    if not settings.ends_servers:
        said = [name for name in ("idle_s", "lifetime_s") if name in settings.servers.model_fields_set]
        yield Remark(
            "warning" if said else "note", f"servers.{said[0]}" if said else ":services.cull",
            f"TLJH's culler ends servers that were idle for {shown_seconds(float(cull['timeout']))}, and "
            "takes a computation that prints nothing for idleness.",
            "Say when servers end in `binder.servers.idle_s` or in profiles, which replaces it; or "
            "`tljh-config set services.cull.enabled false`.",
        )  # fmt: skip
        return
    yield Remark(
        "note", ":services.cull",
        "TLJH's culler is taken out of the running configuration: `binder.servers` and `binder.profiles` say "
        "when servers end. The file stays as it is.",
    )  # fmt: skip
    for name, what in (("users", "removes people who are idle"), ("max_age", "ends servers of that age")):
        if cull[name]:
            yield Remark(
                "warning", f":services.cull.{name}", f"Nothing {what}: TLJH's culler does not run.",
                "For the age of servers use `lifetime_s`; to remove people run a culler of your own in "
                "jupyterhub_config.d." if name == "users" else "Use `binder.servers.lifetime_s`.",
            )  # fmt: skip


def _limits(document: Mapping[str, Any], settings: Settings) -> Iterator[Remark]:
    memory, cpu = _at(document, "limits", "memory"), _at(document, "limits", "cpu")
    found = _MEMORY.fullmatch(str(memory))
    if found is not None:
        most = int(float(found[1]) * _UNITS[found[2]])
        for each in profiles_of(settings):
            if most and each.memory_bytes > most:
                yield Remark(
                    "warning", ":limits.memory",
                    f"TLJH's limit of {shown_bytes(most)} holds for {_who(settings, each.id)} as well, "
                    f"which would have {shown_bytes(each.memory_bytes)}: the smaller one counts.",
                    "`tljh-config unset limits.memory`, and set `binder.servers.memory_bytes`.",
                )  # fmt: skip
    if isinstance(cpu, (int, float)) and not isinstance(cpu, bool) and cpu:
        for each in profiles_of(settings):
            if each.cpus > cpu:
                yield Remark(
                    "warning", ":limits.cpu",
                    f"TLJH's limit of {shown_number(cpu)} holds for {_who(settings, each.id)} as well, which "
                    f"would have {shown_number(each.cpus)} processors: the smaller one counts.",
                    "`tljh-config unset limits.cpu`, and set `binder.servers.cpus`.",
                )  # fmt: skip


def _who(settings: Settings, profile: str) -> str:
    return f"the profile `{profile}`" if settings.profiles else "our servers"


def _environment(document: Mapping[str, Any]) -> Iterator[Remark]:
    app = _at(document, "user_environment", "default_app")
    if app not in (None, "jupyterlab"):
        yield Remark(
            "note", ":user_environment.default_app",
            f"`{app}` has no effect: what opens is what a link or an image says, else JupyterLab.",
        )  # fmt: skip


def _groups(document: Mapping[str, Any]) -> Iterator[Remark]:
    if _at(document, "users", "extra_user_groups"):
        yield Remark(
            "note", ":users.extra_user_groups",
            "These are accounts' groups on this machine; `groups` of profiles and mounts are JupyterHub's.",
        )  # fmt: skip


# -- files that come after us ---------------------------------------------------------------------------


def later_files(file: SettingsFile) -> Iterator[Finding]:
    """What `jupyterhub_config.d/*.py`, which TLJH loads after us, would throw away."""
    named = ""
    for path in sorted((file.path.parent / "jupyterhub_config.d").glob("*.py")):
        try:
            text = path.read_text(encoding="utf-8")
        except (OSError, UnicodeDecodeError):
            continue
        for found in _ASSIGNED.finditer(text):
            ours = (
                "our servers are replaced"
                if found[1] == "spawner_class"
                else "what TLJH and we put there is lost"
            )
            yield Finding(
                "mistake", f":{found[1]}", str(path), text.count("\n", 0, found.start(1)) + 1,
                f"`c.JupyterHub.{found[1]} =` comes after ours: {ours}.",
                "Take it out."
                if found[1] == "spawner_class"
                else f"Write `c.JupyterHub.{found[1]}.append(…)` or `.extend(…)`.",
            )  # fmt: skip
        for found in _SUBDOMAINS.finditer(text):
            named = found[1]
            yield from _subdomains(file, path, text.count("\n", 0, found.start(1)) + 1, named)
    if not named:
        yield Finding(
            "note", ":subdomain_host", str(file.path), None,
            "Notebooks have the same origin as the pages: a script in one can act as who opens it.",
            "Give servers names of their own (`c.JupyterHub.subdomain_host`, a wildcard name and certificate "
            "for it), or open others' notebooks as a person who is no administrator.",
        )  # fmt: skip


def _subdomains(file: SettingsFile, path: Path, line: int, named: str) -> Iterator[Finding]:
    https = _at(file.document, "https")
    if not re.match(r"https?://[^/]+$", named):
        yield Finding("mistake", ":subdomain_host", str(path), line, f"`{named}` is no origin.",
                      "Give one such as `https://hub.example.org`.")  # fmt: skip
    elif _at(https, "enabled") and named.startswith("http:"):
        yield Finding("mistake", ":subdomain_host", str(path), line, f"`{named}`: people come by https.",
                      "Begin it with `https://`.")  # fmt: skip
    elif _at(https, "enabled") and _at(https, "letsencrypt", "email"):
        yield Finding(
            "warning", ":subdomain_host", str(path), line,
            "TLJH's Let's Encrypt certificate names its domains one by one; each server has its own name.",
            "Get a wildcard certificate and set `https.tls.cert` and `https.tls.key`.",
        )  # fmt: skip


def sections(file: SettingsFile) -> Iterator[Remark]:
    """A section that was meant to be ours, and a file that TLJH itself does not take."""
    if file.there and file.document is None:
        yield Remark(
            "mistake", ":", "TLJH does not start with an empty file.", "Write `{}` into it, or remove it.",
        )  # fmt: skip
        return
    if not isinstance(file.document, Mapping):
        return
    memory = _at(file.document, "limits", "memory")
    if memory is not None and _MEMORY.fullmatch(str(memory)) is None:
        yield Remark(
            "mistake", ":limits.memory", f"JupyterHub does not understand {memory!r} and does not start.",
            "Give a number and K, M, G or T: `2G`.",
        )  # fmt: skip
    for name in file.document:
        if name != "binder" and re.fullmatch(r"(little\w*[-_])?bi?n?de?r?s?(hub)?", str(name).lower()):
            yield Remark(
                "warning", f":{name}", f"Nobody reads the section `{name}`.", "Ours is called `binder`."
            )
