"""What these pages speak of and another change brings: until then a link to it is plain text.

`tests/unit/test_pages.py` fails as soon as one of them is there: take it out. When nothing is left, remove
this module and what imports it.
"""

from __future__ import annotations

# Pages, as Sphinx names them.
PAGES: frozenset[str] = frozenset(
    {
        "how-to/back-up",
        "how-to/configure",
        "how-to/follow-a-request",
        "how-to/install-offline",
        "how-to/install-tljh",
        "how-to/monitor",
        "how-to/plain-jupyterhub",
        "how-to/serve-a-room",
        "how-to/try-in-vagrant",
        "how-to/uninstall",
        "how-to/unix-accounts",
        "how-to/upgrade",
        "reference/doctor",
        "reference/files",
        "reference/labels",
        "reference/metrics",
    }
)
# Commands of `littlest-binder`.
COMMANDS: frozenset[str] = frozenset({"backup", "config", "doctor", "restore", "uninstall", "upgrade"})
# Keys below `binder`.
SETTINGS: frozenset[str] = frozenset({"servers.home_mount", "servers.identity"})
# Kinds of installations of `installer/bootstrap.py`, and options of theirs and of the commands.
INSTALLS: frozenset[str] = frozenset({"tljh"})
OPTIONS: frozenset[str] = frozenset({"--admin", "--fix"})
