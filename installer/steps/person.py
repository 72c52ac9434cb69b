"""For whom the installer works, and what of root's environment they get."""

from __future__ import annotations

import contextlib
import grp
import os
import pwd
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

CA_BUNDLE = Path("/etc/ssl/certs/ca-certificates.crt")

# What a machine behind an institution's proxy, certificate authority or package index needs, plus what a
# browser needs to open on the person's own screen. Everything else of root's environment stays behind.
_PASSED = (
    "http_proxy", "https_proxy", "ftp_proxy", "all_proxy", "no_proxy",
    "HTTP_PROXY", "HTTPS_PROXY", "FTP_PROXY", "ALL_PROXY", "NO_PROXY",
    "SSL_CERT_FILE", "SSL_CERT_DIR", "REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE", "NODE_EXTRA_CA_CERTS",
    "GIT_SSL_CAINFO", "TERM", "COLORTERM", "NO_COLOR", "LANG", "LANGUAGE", "TZ",
    "DISPLAY", "WAYLAND_DISPLAY", "XAUTHORITY", "BROWSER", "XDG_CURRENT_DESKTOP", "XDG_SESSION_TYPE",
    "SOURCE_DATE_EPOCH",
)  # fmt: skip
_PASSED_PREFIXES = ("PIP_", "UV_", "NPM_CONFIG_", "npm_config_", "LC_", "LITTLEST_BINDER_")
_BUNDLE_VARIABLES = ("PIP_CERT", "SSL_CERT_FILE", "REQUESTS_CA_BUNDLE", "NODE_EXTRA_CA_CERTS")


@dataclass(frozen=True)
class Person:
    """An account of this machine."""

    name: str
    uid: int
    gid: int
    home: Path

    @property
    def groups(self) -> list[int]:
        """Numeric groups as the system has them now."""
        return os.getgrouplist(self.name, self.gid)

    def as_child(self) -> dict[str, Any]:
        """The arguments with which `subprocess.Popen` starts a program as this person."""
        if os.geteuid() != 0 or self.uid == 0:
            return {}
        return {"user": self.uid, "group": self.gid, "extra_groups": self.groups}

    def state_dir(self, environ: Mapping[str, str]) -> Path:
        """`$XDG_DATA_HOME/littlest-binder`, by the XDG base directory specification."""
        base = environ.get("XDG_DATA_HOME", "")
        return (Path(base) if os.path.isabs(base) else self.home / ".local" / "share") / "littlest-binder"

    @contextlib.contextmanager
    def acting(self) -> Iterator[None]:
        """Touch files with this person's rights, so that no link of theirs leads root astray."""
        if os.geteuid() != 0 or self.uid == 0:
            yield
            return
        groups, gid = os.getgroups(), os.getegid()
        os.setgroups(self.groups)
        os.setegid(self.gid)
        os.seteuid(self.uid)
        try:
            yield
        finally:
            os.seteuid(0)
            os.setegid(gid)
            os.setgroups(groups)


def _account(entry: pwd.struct_passwd) -> Person:
    return Person(entry.pw_name, entry.pw_uid, entry.pw_gid, Path(entry.pw_dir))


def the_person(environ: Mapping[str, str]) -> Person:
    """Who asked: the account behind `sudo`, else the account that runs us."""
    name = environ.get("SUDO_USER", "")
    if os.geteuid() == 0 and name:
        with contextlib.suppress(KeyError):
            return _account(pwd.getpwnam(name))
    return _account(pwd.getpwuid(os.geteuid()))


def group_name(gid: int) -> str:
    try:
        return grp.getgrgid(gid).gr_name
    except KeyError:
        return str(gid)


def environment(
    environ: Mapping[str, str], person: Person, *, path: str, ca_bundle: Path | None = None
) -> dict[str, str]:
    """A clean environment for a program that runs as `person`.

    The machine's own CA bundle is the default of pip, Python and Node.js: `sudo` strips such variables, and
    pip and Node.js bring lists of their own that lack an institution's authority.
    """
    clean = {k: v for k, v in environ.items() if k in _PASSED or k.startswith(_PASSED_PREFIXES)}
    clean.setdefault("LANG", "C.UTF-8")
    clean |= {"PATH": path, "HOME": str(person.home), "USER": person.name, "LOGNAME": person.name}
    data_home = environ.get("XDG_DATA_HOME", "")
    if os.path.isabs(data_home):
        clean["XDG_DATA_HOME"] = data_home
    if ca_bundle is not None:
        for variable in _BUNDLE_VARIABLES:
            clean.setdefault(variable, str(ca_bundle))
    runtime = Path(f"/run/user/{person.uid}")
    if runtime.is_dir():
        clean["XDG_RUNTIME_DIR"] = str(runtime)
        if (runtime / "bus").exists():
            clean["DBUS_SESSION_BUS_ADDRESS"] = f"unix:path={runtime}/bus"
    return clean
