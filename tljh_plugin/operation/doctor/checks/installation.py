"""The environment, what is installed in it, and the settings."""

from __future__ import annotations

import os
import site as python_site
import sys
from importlib import metadata

from packaging.requirements import InvalidRequirement, Requirement
from packaging.version import Version

from ....errors import BinderError
from ....store.examination import versions_in_images
from ..findings import CannotCheck, Verdict, note, ok, problem, warning
from ..registry import check
from ..site import Site

_DISTRIBUTION = "the-littlest-binder"
_TRIED = ((3, 10), (3, 13))
_MOST_NAMES = 5


@check("python", "Installation", "Python and its environment")
def python(site: Site) -> Verdict:
    """The version of Python, and whether this command runs in the environment of the installation."""
    version = ".".join(map(str, sys.version_info[:3]))
    seen = {"version": version, "environment": sys.prefix}
    hub = site.tljh / "hub"
    if site.settings.platform == "tljh" and hub.is_dir() and sys.prefix != str(hub):
        return warning(
            f"This command runs in {sys.prefix}, and TLJH's hub in {hub}: versions below are not the hub's.",
            f"Run `sudo {hub}/bin/littlest-binder doctor`.",
            seen=seen,
        )
    if not _TRIED[0] <= sys.version_info[:2] <= _TRIED[1]:
        tried = "3.10 to 3.13"
        return warning(
            f"The Littlest Binder is tested with Python {tried}, and this is {version}.",
            f"Install it into an environment of Python {tried}.",
            seen=seen,
        )
    leaks = [name for name in ("PYTHONPATH", "PYTHONHOME") if os.environ.get(name)]
    if leaks or (sys.prefix == sys.base_prefix and python_site.ENABLE_USER_SITE):
        why = f"{leaks[0]} is set" if leaks else "it is not an environment of its own"
        return note(
            f"Packages from elsewhere can take the place of the environment's: {why}.",
            "Unset the variable." if leaks else "Install with the installer, which makes an environment.",
            seen=seen,
        )
    return ok(seen=seen)


@check("packages", "Installation", "Versions of packages")
def packages(site: Site) -> Verdict:
    """What is installed in this environment, against what The Littlest Binder needs, by its own metadata."""
    try:
        needed = metadata.requires(_DISTRIBUTION) or []
    except metadata.PackageNotFoundError:
        raise CannotCheck(
            f"The environment does not know {_DISTRIBUTION} as a package: it was not installed by pip."
        ) from None
    wrong, seen = [], {}
    for text in needed:
        requirement = _requirement(text)
        if requirement is None or (requirement.marker and not requirement.marker.evaluate({"extra": ""})):
            continue
        found = _installed(requirement.name)
        seen[requirement.name] = found or "missing"
        if not found:
            wrong.append(f"{requirement.name} is missing")
        elif not requirement.specifier.contains(found, prereleases=True):
            wrong.append(f"{requirement.name} is {found}, needed is {requirement.specifier}")
    if wrong:
        return problem(
            f"Packages do not go together: {'; '.join(wrong)}.",
            f"Run `{sys.executable} -m pip install --upgrade {_DISTRIBUTION}`, or the installer again, and "
            "restart the hub.",
            seen=seen,
        )
    return ok(seen=seen)


@check("single-user", "Installation", "JupyterHub in images and of the hub")
def single_user(site: Site) -> Verdict:
    """The JupyterHub that images have for their servers, as far as is recorded, against the hub's."""
    hub = _installed("jupyterhub")
    known = versions_in_images(site.settings.store_path, "jupyterhub")
    if not known or not hub:
        raise CannotCheck("No image is recorded with what is in it.")
    newer = [name for name, each in known.items() if _major(each) > _major(hub)]
    older = [name for name, each in known.items() if _major(each) + 1 < _major(hub)]
    seen = {"hub": hub, "images": ", ".join(sorted(set(known.values()), key=Version))}
    if newer or older:
        word = "newer" if newer else "much older"
        names = sorted(newer or older)
        shown = ", ".join(names[:_MOST_NAMES]) + (" …" if len(names) > _MOST_NAMES else "")
        return warning(
            f"{len(names)} images have a {word} JupyterHub than the hub ({hub}): their servers may not "
            "start.",
            f"Build them anew, or let their repositories not pin `jupyterhub`: {shown}.",
            seen=seen,
        )
    return ok(seen=seen)


@check("settings", "Installation", "Settings")
def settings(site: Site) -> Verdict:
    """The file of the settings: valid, no unknown key, and the same as those that the hub works with."""
    path = site.settings.origin or (site.handover.origin if site.handover else None)
    seen = {"file": str(path or "none"), "platform": site.settings.platform}
    if site.settings_problem is not None:
        error = site.settings_problem
        return problem(
            f"{error.message} The hub goes on with what the file said before, and a restart fails.",
            error.next_step,
            seen=seen,
        )
    if site.handover is not None and _differ(site):
        return note(
            "The file was changed since the hub was started. Most settings apply already; addresses, "
            "folders, "
            "and Docker's need a restart of the hub.",
            "Run `sudo tljh-config reload`."
            if site.settings.platform == "tljh"
            else "Restart the hub when it suits people.",
            seen=seen,
        )
    return ok(seen=seen)


def _differ(site: Site) -> bool:
    if site.handover is None:
        return False
    try:
        return site.handover.settings().model_dump(mode="json") != site.settings.model_dump(mode="json")
    except BinderError:  # it was written by another version
        return True


def _requirement(text: str) -> Requirement | None:
    try:
        return Requirement(text)
    except InvalidRequirement:
        return None


def _installed(name: str) -> str:
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return ""


def _major(version: str) -> int:
    head = version.split(".")[0]
    return int(head) if head.isdigit() else 0
