"""The `binder` section of the configuration: types, defaults and help in one place.

Comes in: a mapping read from YAML. Goes out: a frozen `Settings`. Each field's description is its
documentation; unknown keys are errors that name the nearest known key.
"""

from __future__ import annotations

import difflib
import os
import pwd
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError
from ruamel.yaml import YAML
from ruamel.yaml.error import YAMLError

from .errors import SettingsError

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
        "off", description="Whether existing Docker images may be started as `image/NAME`."
    )
    image_names: tuple[str, ...] = Field((), description="With `images: listed`: patterns of image names.")


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
    max_checkout_bytes: int = Field(4 * GIB, gt=0, description="Largest size of a commit's files, in bytes.")
    max_file_bytes: int = Field(2 * GIB, gt=0, description="Largest single file of a commit, in bytes.")
    max_files: int = Field(200_000, gt=0, description="Most files that a commit may have.")
    max_fetch_bytes: int = Field(8 * GIB, gt=0, description="Most bytes that one fetch may write.")
    full_history_bytes: int = Field(
        20 * MIB, ge=0, description="A history smaller than this is put into the image whole, in bytes."
    )


class BuildSettings(Section):
    """The image builder."""

    concurrent: int = Field(2, ge=1, description="Builds that run at the same time.")
    per_person: int = Field(5, ge=1, description="Builds that one person may have queued or running.")
    timeout_s: float = Field(3600.0, gt=0, description="Seconds that one build may take.")
    silence_s: float = Field(900.0, gt=0, description="Seconds for which a build may print nothing.")
    log_bytes: int = Field(32 * MIB, gt=0, description="Largest log of one build, in bytes.")
    disk_reserve_bytes: int = Field(
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
    max_fill_bytes: int = Field(
        4 * GIB, gt=0, description="Most bytes that an image may put into a new project folder."
    )
    default: Literal["project", "ephemeral"] = Field("project", description="Storage if nothing is said.")


class ServerSettings(Section):
    """What a notebook server gets, and as whom it runs."""

    uid: int | None = Field(
        None, ge=1, description="Numeric user of all servers. Default: the owner's on a desktop, else 1000."
    )
    gid: int | None = Field(None, ge=1, description="Numeric group of all servers. Default: as `uid`.")
    groups: tuple[int, ...] = Field((), description="Numeric supplementary groups of all servers.")
    memory_bytes: int = Field(2 * GIB, gt=0, description="Memory of a server, in bytes; no swap on top.")
    cpus: float = Field(2.0, gt=0, description="Processors of a server.")
    pids: int = Field(2048, ge=256, description="Processes and threads of a server.")
    shm_bytes: int = Field(256 * MIB, gt=0, description="Shared memory (/dev/shm) of a server, in bytes.")
    log_bytes: int = Field(10 * MIB, gt=0, description="Bytes of a server's log that Docker keeps.")
    start_timeout_s: float = Field(120.0, gt=0, description="Seconds from container start to first answer.")
    stop_timeout_s: int = Field(5, ge=1, description="Seconds that a server has to end by itself.")


class NetworkSettings(Section):
    """The network of the servers and how they reach the hub."""

    subnet: str = Field("", description="CIDR of the servers' network. Default: Docker chooses a free one.")
    gateway_port: int = Field(0, ge=0, le=65535, description="Port of the gateway listener; 0: a free one.")


class DesktopSettings(Section):
    """Binder at home."""

    port: int = Field(8888, ge=1, le=65535, description="Port on 127.0.0.1 at which the pages are.")
    sign_in_link_s: float = Field(600.0, gt=0, description="Seconds for which a sign-in link is good.")


class Settings(Section):
    """The whole `binder` section, plus where it applies.

    `platform`, `state_dir` and `owner` are set by whoever starts us, not by the file.
    """

    platform: Literal["desktop", "tljh", "jupyterhub"] = Field("desktop", exclude=True)
    state_dir: Path = Field(Path("/opt/tljh/state/binder"), exclude=True)
    owner: str = Field("", exclude=True, description="Desktop: the one person of this installation.")

    policy: PolicySettings = PolicySettings()
    source: SourceSettings = SourceSettings()
    build: BuildSettings = BuildSettings()
    storage: StorageSettings = StorageSettings()
    servers: ServerSettings = ServerSettings()
    network: NetworkSettings = NetworkSettings()
    desktop: DesktopSettings = DesktopSettings()

    # -- what follows from the settings ---------------------------------------------------------------

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


def desktop_state_dir() -> Path:
    """`$XDG_DATA_HOME/littlest-binder` of the person, by the XDG base directory specification."""
    base = os.environ.get("XDG_DATA_HOME", "")
    root = Path(base) if os.path.isabs(base) else Path.home() / ".local" / "share"
    return root / "littlest-binder"


def _explain(error: ValidationError, source: str) -> SettingsError:
    first = error.errors()[0]
    key = "binder." + ".".join(str(part) for part in first["loc"])
    if first["type"] == "extra_forbidden":
        model: Any = Settings
        for part in first["loc"][:-1]:
            model = model.model_fields[str(part)].annotation
        near = difflib.get_close_matches(str(first["loc"][-1]), list(model.model_fields), n=1)
        hint = f"Did you mean `{near[0]}`? " if near else ""
        return SettingsError(
            f"Unknown setting `{key}` (value {first['input']!r}) in {source}.",
            f"{hint}Known keys there: {', '.join(sorted(model.model_fields))}.",
            code="unknown-setting",
        )
    return SettingsError(
        f"Setting `{key}` in {source} has the value {first['input']!r}: {first['msg'].lower()}.",
        "Correct it and run the command again.",
    )


def from_mapping(
    section: Mapping[str, Any],
    *,
    platform: Literal["desktop", "tljh", "jupyterhub"],
    state_dir: Path,
    owner: str = "",
    source: str = "the configuration",
) -> Settings:
    """Validate a `binder` section; raises `SettingsError` naming the key, its value and the next step."""
    reserved = {"platform", "state_dir", "owner"} & set(section)
    if reserved:
        raise SettingsError(
            f"Unknown setting `binder.{sorted(reserved)[0]}` in {source}.",
            "It is decided by the installation, not by the file: remove the line.",
            code="unknown-setting",
        )
    try:
        return Settings.model_validate(
            {**section, "platform": platform, "state_dir": state_dir, "owner": owner}
        )
    except ValidationError as error:
        raise _explain(error, source) from None


def read_file(path: Path) -> dict[str, Any]:
    """The `binder` section of a YAML file; `{}` if the file does not exist."""
    try:
        text = path.read_text(encoding="utf-8")
    except FileNotFoundError:
        return {}
    except OSError as error:
        raise SettingsError(f"Cannot read {path}: {error.strerror}.", "Check its permissions.") from error
    try:
        document = YAML(typ="safe").load(text)
    except YAMLError as error:
        raise SettingsError(f"{path} is not valid YAML: {error}", "Correct the file.") from None
    if document is None:
        return {}
    if not isinstance(document, dict) or set(document) - {"binder"}:
        raise SettingsError(
            f"{path} must hold one section `binder:`, found {document!r:.80}.",
            "Indent the keys under `binder:`.",
        )
    return document["binder"] or {}


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
    )
