"""What Docker does not know: builds, images' titles and uses, projects.

SQLite through sqlite-utils, one process (a lock file), one connection in one thread. Losing the file loses
history and pins, never an image or a person's file.
"""

from .audit import AuditFilter, AuditLog
from .rows import (
    AuditEntry,
    BuildRow,
    BuildTime,
    Enqueued,
    ImageRow,
    ImageUse,
    LatestBuild,
    LeaseRow,
    NewerRow,
    ProjectRow,
    RunRow,
    ServerRun,
    SizeRow,
    utc_now,
)
from .store import Store

__all__ = [
    "AuditEntry",
    "AuditFilter",
    "AuditLog",
    "BuildRow",
    "BuildTime",
    "Enqueued",
    "ImageRow",
    "ImageUse",
    "LatestBuild",
    "LeaseRow",
    "NewerRow",
    "ProjectRow",
    "RunRow",
    "ServerRun",
    "SizeRow",
    "Store",
    "utc_now",
]
