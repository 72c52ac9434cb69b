"""What Docker does not know: builds, images' titles and uses, projects.

SQLite through sqlite-utils, one process (a lock file), one connection in one thread. Losing the file loses
history and pins, never an image or a person's file.
"""

from .rows import (
    AuditEntry,
    BuildRow,
    Enqueued,
    ImageRow,
    ImageUse,
    LatestBuild,
    LeaseRow,
    NewerRow,
    ProjectRow,
    RunRow,
    SizeRow,
    utc_now,
)
from .store import Store

__all__ = [
    "AuditEntry",
    "BuildRow",
    "Enqueued",
    "ImageRow",
    "ImageUse",
    "LatestBuild",
    "LeaseRow",
    "NewerRow",
    "ProjectRow",
    "RunRow",
    "SizeRow",
    "Store",
    "utc_now",
]
