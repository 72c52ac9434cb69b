"""What the hub hands to the service and to commands besides JupyterHub's own variables: `run/service.json`.

The hub writes it each time it is configured, so that both always work with the same settings. Where a service
manager starts the service, it also carries what JupyterHub would have told a service that it started itself.
"""

from __future__ import annotations

import json
import os
import secrets
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, ValidationError

from .errors import BinderError, HubUnavailable, SettingsError
from .settings import PLAIN_STATE_DIR, Settings, desktop_state_dir, from_mapping

# Names the state folder for `littlest-binder serve` and other commands.
STATE_VARIABLE = "LITTLEST_BINDER_STATE"


class Handover(BaseModel):
    """Where and with which settings an installation works.

    `section` is the `binder` section that was in force, `environment` the variables of JupyterHub's service
    contract that a service manager's process lacks. `service_token` is the service's own; `cli_token`
    (desktop) makes tokens of the owner, so that commands can act as them. `hub_database` is the path of the
    hub's SQLite file, or the kind of another database with `://`, `cookie_secret_file` the path of that.
    """

    model_config = ConfigDict(frozen=True, extra="ignore")

    version: int = 1
    platform: Literal["desktop", "tljh", "jupyterhub"]
    state_dir: Path
    owner: str = ""
    origin: Path | None = None  # the file from which the settings came
    section: dict[str, Any]
    environment: dict[str, str] = {}
    hub_api_url: str = ""
    hub_url: str = ""  # the address of the hub's pages for a browser, up to and with the base path
    subdomains: bool = False  # whether each person's servers have a host name of their own
    service_token: str = ""
    cli_token: str = ""
    hub_database: str = ""
    cookie_secret_file: str = ""

    def settings(self) -> Settings:
        """The settings that the hub works with."""
        return from_mapping(
            self.section,
            platform=self.platform,
            state_dir=self.state_dir,
            owner=self.owner,
            source=str(path(self.state_dir)),
            origin=self.origin,
        )


def path(state_dir: Path) -> Path:
    """Where it lies; readable by the owner alone."""
    return state_dir / "run" / "service.json"


def find_state_dir() -> Path:
    """The state folder of the installation that a command belongs to.

    Raises `SettingsError` if it is a server's, into which only root may look.
    """
    named = os.environ.get(STATE_VARIABLE, "")
    if named:
        return Path(named)
    desktop = desktop_state_dir()
    if path(desktop).exists():
        return desktop
    for shared in (Path("/opt/tljh/state/binder"), PLAIN_STATE_DIR):
        try:
            path(shared).stat()
        except PermissionError as error:
            raise SettingsError(
                f"{shared} is there for root alone ({error.strerror}).", "Put `sudo` before the command."
            ) from None
        except OSError:
            continue
        return shared
    return desktop


def write(handover: Handover) -> None:
    """Put it in its place, whole or not at all; the folder must be there."""
    where = path(handover.state_dir)
    draft = where.with_name(f".{where.name}.{secrets.token_hex(4)}")
    descriptor = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(descriptor, "w", encoding="utf-8") as file:
        file.write(handover.model_dump_json())
    draft.replace(where)


def read(state_dir: Path) -> Handover:
    """Read it. Raises `HubUnavailable` if no hub was ever started there, and `SettingsError` if it is damaged
    or somebody else's: whoever wrote it decides to which address a command sends what it knows.
    """
    where = path(state_dir)
    try:
        with where.open(encoding="utf-8") as file:
            owner = os.fstat(file.fileno()).st_uid
            if owner not in (0, os.geteuid()):
                raise SettingsError(
                    f"{where} belongs to the account {owner}.",
                    "Run the command as that account; with `sudo`, without keeping HOME and XDG_DATA_HOME.",
                )
            return Handover.model_validate(json.load(file))
    except FileNotFoundError:
        raise HubUnavailable(
            f"No hub works with {state_dir}: {where} does not exist.",
            "Start it: `littlest-binder up` on a desktop, `systemctl start jupyterhub` on a server.",
        ) from None
    except OSError as error:
        raise SettingsError(
            f"Cannot read {where}: {error.strerror}.", "Run the command as the owner of the installation."
        ) from error
    except (ValueError, ValidationError):
        raise SettingsError(f"{where} is damaged.", "Restart the hub: it writes the file anew.") from None


def last_settings(state_dir: Path) -> Settings | None:
    """The settings with which a hub worked there last; None if none did, or if they do not hold any more."""
    try:
        return read(state_dir).settings()
    except BinderError:
        return None
