"""`littlest-binder doctor`: what is wrong with an installation, what that means, and what to do.

Comes in: a `Site`, which is an installation that may run or not, on a Docker that may answer or not. Goes
out: a `Report`. Checks only look; what is put right, and only if asked, can be done twice and loses nothing.
Nothing that is not ours is touched.
"""

from .examine import examine, put_right
from .findings import CannotCheck, Finding, Repair, Report, Verdict
from .registry import GROUPS, LIMIT_S, Check, all_checks, check, named
from .site import Site, open_site

__all__ = [
    "GROUPS",
    "LIMIT_S",
    "CannotCheck",
    "Check",
    "Finding",
    "Repair",
    "Report",
    "Site",
    "Verdict",
    "all_checks",
    "check",
    "examine",
    "named",
    "open_site",
    "put_right",
]
