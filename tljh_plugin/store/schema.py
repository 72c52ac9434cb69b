"""The tables, as migrations of sqlite-utils; a migration that was released is never edited."""

from __future__ import annotations

from sqlite_utils import Database
from sqlite_utils.migrations import Migrations

migrations = Migrations("littlest-binder")


@migrations()  # type: ignore[untyped-decorator]  # sqlite_utils is not followed by mypy
def m0001_first(db: Database) -> None:
    """Builds, images, uses, projects, leases and the audit log.

    Uses and projects keep the id of an image that may be gone: history and files outlive it.
    """
    db.executescript(
        """
        CREATE TABLE builds (
            id TEXT PRIMARY KEY,
            identity TEXT NOT NULL,
            url TEXT NOT NULL,
            "commit" TEXT NOT NULL,
            subdir TEXT NOT NULL,
            platform TEXT NOT NULL,
            spec TEXT NOT NULL,
            asked_ref TEXT NOT NULL,
            requested_by TEXT NOT NULL,
            created TEXT NOT NULL,
            visibility TEXT NOT NULL CHECK (visibility IN ('everyone', 'private')),
            rebuild INTEGER NOT NULL,
            state TEXT NOT NULL CHECK (state IN ('queued', 'running', 'built', 'failed', 'cancelled')),
            phase TEXT NOT NULL,
            progress INTEGER NOT NULL CHECK (progress BETWEEN 0 AND 100),
            image_id TEXT NOT NULL,
            image_name TEXT NOT NULL,
            error_code TEXT NOT NULL,
            error_message TEXT NOT NULL,
            error_next TEXT NOT NULL,
            started TEXT NOT NULL,
            finished TEXT NOT NULL,
            worker_pid INTEGER NOT NULL,
            worker_start INTEGER NOT NULL,
            attempts INTEGER NOT NULL,
            recipe TEXT NOT NULL,
            settled INTEGER NOT NULL
        );
        CREATE UNIQUE INDEX one_active_build ON builds (
            identity, (CASE visibility WHEN 'private' THEN requested_by ELSE '' END)
        ) WHERE state IN ('queued', 'running');
        CREATE INDEX builds_by_time ON builds (created, id);
        CREATE INDEX unsettled_builds ON builds (created) WHERE settled = 0;

        CREATE TABLE requesters (
            build_id TEXT NOT NULL REFERENCES builds (id) ON DELETE CASCADE,
            person TEXT NOT NULL,
            time TEXT NOT NULL,
            PRIMARY KEY (build_id, person)
        );

        CREATE TABLE images (
            image_id TEXT PRIMARY KEY,
            name TEXT NOT NULL,
            identity TEXT NOT NULL,
            url TEXT NOT NULL,
            "commit" TEXT NOT NULL,
            subdir TEXT NOT NULL,
            platform TEXT NOT NULL,
            spec TEXT NOT NULL,
            asked_ref TEXT NOT NULL,
            title TEXT NOT NULL,
            built_by TEXT NOT NULL,
            build_id TEXT REFERENCES builds (id),
            created TEXT NOT NULL,
            size INTEGER NOT NULL,
            recipe TEXT NOT NULL,
            home TEXT NOT NULL,
            workdir TEXT NOT NULL,
            visibility TEXT NOT NULL CHECK (visibility IN ('everyone', 'private')),
            pinned INTEGER NOT NULL,
            description TEXT NOT NULL
        );
        CREATE INDEX images_by_identity ON images (identity);

        CREATE TABLE uses (
            image_id TEXT NOT NULL,
            person TEXT NOT NULL,
            server TEXT NOT NULL,
            time TEXT NOT NULL
        );
        CREATE INDEX uses_by_image ON uses (image_id, time);

        CREATE TABLE projects (
            id TEXT NOT NULL,
            owner TEXT NOT NULL,
            repository TEXT NOT NULL,
            spec TEXT NOT NULL,
            "commit" TEXT NOT NULL,
            subdir TEXT NOT NULL,
            image_id TEXT NOT NULL,
            path TEXT NOT NULL UNIQUE,
            created TEXT NOT NULL,
            last_used TEXT NOT NULL,
            visibility TEXT NOT NULL CHECK (visibility IN ('everyone', 'private')),
            PRIMARY KEY (owner, id)
        );
        CREATE INDEX projects_by_repository ON projects (owner, repository);

        CREATE TABLE leases (
            id TEXT PRIMARY KEY,
            image_id TEXT NOT NULL,
            until TEXT NOT NULL
        );

        CREATE TABLE audit (
            number INTEGER PRIMARY KEY AUTOINCREMENT,
            time TEXT NOT NULL,
            who TEXT NOT NULL,
            what TEXT NOT NULL,
            thing TEXT NOT NULL,
            result TEXT NOT NULL
        );
        CREATE TRIGGER audit_is_not_changed BEFORE UPDATE ON audit
        BEGIN SELECT RAISE(ABORT, 'the audit log is append only'); END;
        CREATE TRIGGER audit_is_not_deleted BEFORE DELETE ON audit
        BEGIN SELECT RAISE(ABORT, 'the audit log is append only'); END;
        """
    )


@migrations()  # type: ignore[untyped-decorator]  # sqlite_utils is not followed by mypy
def m0002_projects(db: Database) -> None:
    """Titles of projects, their measured sizes, and the project that a start in progress uses.

    A size belongs to a folder, be it a project, a deleted one or a person's own; `whole` is 0 where a part
    could not be looked at, `took` the seconds that measuring took.
    """
    db.conn.execute("ALTER TABLE projects ADD COLUMN title TEXT NOT NULL DEFAULT ''")
    db.conn.execute("ALTER TABLE leases ADD COLUMN server TEXT NOT NULL DEFAULT ''")
    db.conn.execute("ALTER TABLE leases ADD COLUMN project TEXT NOT NULL DEFAULT ''")
    db.conn.execute(
        """
        CREATE TABLE sizes (
            path TEXT PRIMARY KEY,
            owner TEXT NOT NULL,
            bytes INTEGER NOT NULL,
            entries INTEGER NOT NULL,
            whole INTEGER NOT NULL,
            took REAL NOT NULL,
            measured TEXT NOT NULL
        )
        """
    )
    db.conn.execute("CREATE INDEX sizes_by_owner ON sizes (owner)")


@migrations()  # type: ignore[untyped-decorator]  # sqlite_utils is not followed by mypy
def m0003_access(db: Database) -> None:
    """For which groups a private build or image is open (a JSON list), and which credential a build needs.

    A row that is open to groups stays `private` in its own column: whoever does not know of groups, such as
    an older version, then shows it to its owner alone.
    """
    db.conn.execute("ALTER TABLE builds ADD COLUMN groups TEXT NOT NULL DEFAULT '[]'")
    db.conn.execute("ALTER TABLE builds ADD COLUMN credential TEXT NOT NULL DEFAULT ''")
    db.conn.execute("ALTER TABLE images ADD COLUMN groups TEXT NOT NULL DEFAULT '[]'")


@migrations()  # type: ignore[untyped-decorator]  # sqlite_utils is not followed by mypy
def m0004_life_of_images(db: Database) -> None:
    """What administrators decide about an image: icon, defaults of a start, the end of a pin, retirement."""
    for column in ("icon", "profile", "urlpath", "pin_reason", "pinned_until"):
        db.conn.execute(f"ALTER TABLE images ADD COLUMN {column} TEXT NOT NULL DEFAULT ''")
    for column in ("retired", "adopted"):
        db.conn.execute(f"ALTER TABLE images ADD COLUMN {column} INTEGER NOT NULL DEFAULT 0")


@migrations()  # type: ignore[untyped-decorator]  # sqlite_utils is not followed by mypy
def m0005_runs(db: Database) -> None:
    """Deletions that were carried out, and when servers were last seen to run on which image.

    `plan`, `results` and `problem` are JSON; `finished` is empty while it goes on. A use is noted when it
    begins, and a server can run for weeks.
    """
    db.conn.execute(
        """
        CREATE TABLE runs (
            id TEXT PRIMARY KEY,
            mode TEXT NOT NULL CHECK (mode IN ('evict', 'erase')),
            by TEXT NOT NULL,
            started TEXT NOT NULL,
            finished TEXT NOT NULL,
            plan TEXT NOT NULL,
            results TEXT NOT NULL,
            gained_bytes INTEGER NOT NULL,
            problem TEXT NOT NULL
        )
        """
    )
    db.conn.execute("CREATE INDEX runs_by_time ON runs (started)")
    db.conn.execute("CREATE TABLE seen_in_use (image_id TEXT PRIMARY KEY, time TEXT NOT NULL)")


@migrations()  # type: ignore[untyped-decorator]  # sqlite_utils is not followed by mypy
def m0006_disk(db: Database) -> None:
    """What filesystems held at which time (`parts`: a JSON object of bytes), and what layers' folders occupy.

    A layer's folder never changes, so it is measured once; `folder` is its name in Docker's folder.
    """
    db.conn.execute(
        """
        CREATE TABLE disk_history (
            time TEXT NOT NULL,
            path TEXT NOT NULL,
            total INTEGER NOT NULL,
            used INTEGER NOT NULL,
            parts TEXT NOT NULL,
            PRIMARY KEY (path, time)
        )
        """
    )
    db.conn.execute("CREATE TABLE layer_folders (folder TEXT PRIMARY KEY, bytes INTEGER NOT NULL)")


@migrations()  # type: ignore[untyped-decorator]  # sqlite_utils is not followed by mypy
def m0008_accounting(db: Database) -> None:
    """How long which server of whom ran, and in which groups they were who asked for a build (JSON lists)."""
    db.conn.execute(
        """
        CREATE TABLE server_runs (
            container_id TEXT PRIMARY KEY,
            person TEXT NOT NULL,
            server TEXT NOT NULL,
            image_id TEXT NOT NULL,
            groups TEXT NOT NULL,
            profile TEXT NOT NULL,
            memory_bytes INTEGER NOT NULL,
            cpus REAL NOT NULL,
            started TEXT NOT NULL,
            ended TEXT NOT NULL,
            seen TEXT NOT NULL,
            exact INTEGER NOT NULL
        )
        """
    )
    db.conn.execute("CREATE INDEX server_runs_by_end ON server_runs (ended, started)")
    db.conn.execute("CREATE INDEX server_runs_by_image ON server_runs (image_id, seen)")
    db.conn.execute("ALTER TABLE builds ADD COLUMN asked_groups TEXT NOT NULL DEFAULT '[]'")
    db.conn.execute("CREATE INDEX audit_by_time ON audit (time)")


@migrations()  # type: ignore[untyped-decorator]  # sqlite_utils is not followed by mypy
def m0009_moves(db: Database) -> None:
    """Builds without cache; where refs point now; which image a build replaces; notes to ourselves.

    A store without any build is new: the labels of the images in Docker are then read once (`rescan`).
    """
    db.conn.execute("ALTER TABLE builds ADD COLUMN no_cache INTEGER NOT NULL DEFAULT 0")
    db.conn.execute(
        """
        CREATE TABLE newer (
            image_id TEXT PRIMARY KEY,
            "commit" TEXT NOT NULL,
            looked TEXT NOT NULL,
            problem TEXT NOT NULL
        )
        """
    )
    db.conn.execute(
        "CREATE TABLE successors (build_id TEXT PRIMARY KEY REFERENCES builds (id), image_id TEXT NOT NULL)"
    )
    db.conn.execute("CREATE TABLE notes (name TEXT PRIMARY KEY, value TEXT NOT NULL)")
    db.conn.execute(
        "INSERT INTO notes"
        " SELECT 'rescan', CASE WHEN EXISTS (SELECT 1 FROM builds) THEN 'done' ELSE 'due' END"
    )


@migrations()  # type: ignore[untyped-decorator]  # sqlite_utils is not followed by mypy
def m0007_layers(db: Database) -> None:
    """Layers of images, what an evicted image left in the build cache, and an erasing that goes on.

    `chain` is a JSON list of chain ids, lowest first; `bytes` is NULL where Docker does not tell. `leftovers`
    are cache records that stay of an image, so that its layers stay, too. `removals` has at most one row: the
    records that images shared before (a JSON list), to finish the erasing after a crash.
    """
    db.conn.execute("CREATE TABLE chains (image_id TEXT PRIMARY KEY, chain TEXT NOT NULL)")
    db.conn.execute("CREATE TABLE layers (chain_id TEXT PRIMARY KEY, bytes INTEGER)")
    db.conn.execute(
        "CREATE TABLE leftovers (record_id TEXT PRIMARY KEY, image_id TEXT NOT NULL, bytes INTEGER)"
    )
    db.conn.execute(
        "CREATE TABLE removals (image_id TEXT PRIMARY KEY, erase INTEGER NOT NULL, shared TEXT NOT NULL)"
    )


@migrations()  # type: ignore[untyped-decorator]  # sqlite_utils is not followed by mypy
def m0010_packages(db: Database) -> None:
    """What images said that they have when they were checked: JSON lists of kind, name and version."""
    db.conn.execute(
        "CREATE TABLE packages (image_id TEXT PRIMARY KEY, recorded TEXT NOT NULL, found TEXT NOT NULL)"
    )


@migrations()  # type: ignore[untyped-decorator]  # sqlite_utils is not followed by mypy
def m0011_removal_times(db: Database) -> None:
    """When a removal was begun; empty for one of before, which is long ago."""
    db.conn.execute("ALTER TABLE removals ADD COLUMN begun TEXT NOT NULL DEFAULT ''")


@migrations()  # type: ignore[untyped-decorator]  # sqlite_utils is not followed by mypy
def m0012_imported(db: Database) -> None:
    """Whether an image came from a file; of those of before the audit log tells."""
    db.conn.execute("ALTER TABLE images ADD COLUMN imported INTEGER NOT NULL DEFAULT 0")
    db.conn.execute(
        "UPDATE images SET imported = 1 WHERE build_id IS NULL AND EXISTS"
        " (SELECT 1 FROM audit WHERE what = 'image.import' AND result LIKE images.image_id || ' %')"
    )


@migrations()  # type: ignore[untyped-decorator]  # sqlite_utils is not followed by mypy
def m0013_indexes(db: Database) -> None:
    """What each look at Docker asks of the whole history is answered from these alone, without any row."""
    for index, columns in (
        ("builds_by_identity", "builds (identity, created, id, state, visibility, started, finished)"),
        ("uses_by_image", "uses (image_id, time, person)"),
        ("server_runs_by_image", "server_runs (image_id, seen, person)"),
    ):
        db.conn.execute(f"DROP INDEX IF EXISTS {index}")
        db.conn.execute(f"CREATE INDEX {index} ON {columns}")


@migrations()  # type: ignore[untyped-decorator]  # sqlite_utils is not followed by mypy
def m0014_decided(db: Database) -> None:
    """Whether an administrator has decided about an image; of those that are there the audit log tells.

    Only an image's owner and administrators share it, and administrators alone do the rest.
    """
    db.conn.execute("ALTER TABLE images ADD COLUMN decided INTEGER NOT NULL DEFAULT 0")
    db.conn.execute(
        "UPDATE images SET decided = 1 WHERE EXISTS (SELECT 1 FROM audit WHERE thing = images.name AND"
        " (what IN ('image.describe', 'image.pin', 'image.retire', 'image.succeed')"
        " OR what = 'image.share' AND who != images.built_by))"
    )


@migrations()  # type: ignore[untyped-decorator]  # sqlite_utils is not followed by mypy
def m0015_requests(db: Database) -> None:
    """By which id a build, or what was done, is found in the logs; empty for those of before."""
    db.conn.execute("ALTER TABLE builds ADD COLUMN request TEXT NOT NULL DEFAULT ''")
    db.conn.execute("ALTER TABLE audit ADD COLUMN request TEXT NOT NULL DEFAULT ''")
    db.conn.execute("CREATE INDEX builds_by_request ON builds (request) WHERE request != ''")
    db.conn.execute("CREATE INDEX audit_by_request ON audit (request) WHERE request != ''")
