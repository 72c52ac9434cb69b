"""What a server gets that runs as a person's own account: images are made for one user, and must do for any.

Without an account (`servers.identity: fixed`) everything here is empty: an image's own user runs it.
"""

from __future__ import annotations

import posixpath

from ..accounts import Identity
from ..wire import Prepared

# In an environment of its own Python hides what a person installs in their home, so that pip would refuse to
# install there, and could not anywhere else either: the environment belongs to the image's user. Python
# reads a `.pth` twice, the second time after it has decided so (`site.venv`).
USER_SITE = "littlest-binder-user-site.pth"
_USER_SITE = """\
import site; site.ENABLE_USER_SITE = site.check_enableusersite(); \
site.ENABLE_USER_SITE and site.addusersitepackages(set())
"""


def environment(who: Identity) -> dict[str, str]:
    """What programs ask first for the name of the user, before the system, which may know none."""
    return {"USER": who.account, "LOGNAME": who.account} if who.account else {}


def files(who: Identity, prepared: Prepared) -> dict[str, str]:
    """What lets `pip install` in the server reach the person's own packages in the home."""
    if not who.account or not prepared.packages:
        return {}
    return {posixpath.join(prepared.packages, USER_SITE): _USER_SITE}


def owned(who: Identity, prepared: Prepared) -> str:
    """The home, where it is the image's own and not a folder of the person; else empty."""
    return prepared.home if who.account and not prepared.project_path else ""
