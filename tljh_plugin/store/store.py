"""The store's typed, asynchronous methods."""

from __future__ import annotations

import json
import secrets
import sqlite3
from collections.abc import Collection, Iterable, Mapping
from dataclasses import asdict, fields, replace
from datetime import datetime, timezone
from pathlib import Path
from typing import Any, Literal, TypeVar

from sqlite_utils import Database

from ..errors import StoreError
from ..wire import BuildState, DiskSample, ErrorView, Phase, Visibility
from . import accounting, audit, disk, moves, runs
from .about_images import AboutImages
from .accounting import ServerRuns
from .audit import AuditLog
from .connection import Connection
from .layers import LayerRows
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
    utc_after,
    utc_now,
)

Row = TypeVar("Row", BuildRow, ImageRow, ProjectRow, LeaseRow, SizeRow, AuditEntry)
_BOOLEANS = frozenset(
    {"rebuild", "settled", "pinned", "whole", "retired", "adopted", "imported", "no_cache", "decided"}
)


class Store:
    """`await Store.open(path)` … `await store.close()`. Every method raises `StoreError` when the disk or the
    file fails."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        self.layers = LayerRows(connection)
        self.about_images = AboutImages(connection)
        self.server_runs = ServerRuns(connection)
        self.audit_log = AuditLog(connection)

    @classmethod
    async def open(cls, path: Path) -> Store:
        """Raises `StoreError`: in use by another process (named), damaged, or of a newer version."""
        connection = Connection(path)
        try:
            await connection.open()
        except BaseException:
            await connection.close()
            raise
        return cls(connection)

    async def problem(self) -> str:
        """What keeps it from answering; empty if nothing does."""
        try:
            await self._connection.read(lambda db: db.execute("SELECT 1").fetchone())
        except StoreError as error:
            return str(error)
        return ""

    async def close(self) -> None:
        await self._connection.close()

    # -- builds ---------------------------------------------------------------------------------------

    async def enqueue(self, wish: BuildRow, *, per_person: int, considered: Collection[str] = ()) -> Enqueued:
        """Join an equal build that is queued or running, else add `wish` as a new row, in one transaction.

        `considered` are the recorded images of this identity that the caller found to be no hit: if there is
        another one, it was recorded since, and the answer is `look_again`.
        """
        return await self._connection.write(lambda db: _enqueue(db, wish, per_person, considered))

    async def build(self, build_id: str) -> BuildRow | None:
        return await self._one(BuildRow, "builds", "id = ?", [build_id])

    async def builds(
        self,
        *,
        states: Iterable[BuildState] = (),
        asked_by: str = "",
        limit: int = 200,
        before: str = "",
    ) -> list[BuildRow]:
        """Newest first; `before` is a build's id, for the next page.

        `asked_by`: only builds that this person asked for or joined.
        """
        wanted = list(states)
        where, values = ["1"], list[Any]()
        if asked_by:
            where.append("id IN (SELECT build_id FROM requesters WHERE person = ?)")
            values.append(asked_by)
        if wanted:
            where.append(f"state IN ({', '.join('?' * len(wanted))})")
            values += wanted
        if before:
            where.append("(created, id) < (SELECT created, id FROM builds WHERE id = ?)")
            values.append(before)
        return await self._many(
            BuildRow, "builds", " AND ".join(where), values, order="created DESC, id DESC", limit=limit
        )

    async def queued_builds(self) -> list[BuildRow]:
        """In the order in which they will be started."""
        return await self._many(BuildRow, "builds", "state = 'queued'", [], order="created, id")

    async def unsettled_builds(self) -> list[BuildRow]:
        """Builds of which something may be left over, oldest first."""
        return await self._many(BuildRow, "builds", "settled = 0", [], order="created, id")

    async def active_build(self, identity: str, person: str) -> BuildRow | None:
        """The queued or running build of an identity that is for everyone or for `person`."""
        return await self._one(
            BuildRow,
            "builds",
            "identity = ? AND state IN ('queued', 'running')"
            " AND (visibility = 'everyone' OR requested_by = ?)",
            [identity, person],
        )

    async def latest_builds(self) -> dict[str, LatestBuild]:
        """The newest build of each identity, by its key."""
        return await self._connection.read(
            lambda db: {
                identity: LatestBuild(build_id, state, visibility == "everyone")
                # SQLite takes the other columns from the row that has the maximum.
                for identity, build_id, state, visibility, _ in db.execute(
                    "SELECT identity, id, state, visibility, MAX(created) FROM builds GROUP BY identity"
                )
            }
        )

    async def start_build(self, build_id: str) -> bool:
        """From queued to running; false if it was cancelled meanwhile."""
        return await self._change(
            "UPDATE builds SET state = 'running', phase = 'fetching', progress = 0, attempts = attempts + 1,"
            " started = ? WHERE id = ? AND state = 'queued'",
            [utc_now(), build_id],
        )

    async def set_phase(self, build_id: str, phase: Phase, progress: int) -> bool:
        """False if the build is not running any more."""
        return await self._change(
            "UPDATE builds SET phase = ?, progress = ? WHERE id = ? AND state = 'running'",
            [phase, progress, build_id],
        )

    async def set_recipe(self, build_id: str, recipe: str) -> bool:
        return await self._change("UPDATE builds SET recipe = ? WHERE id = ?", [recipe, build_id])

    async def set_worker(self, build_id: str, pid: int, start: int) -> bool:
        """Note the worker's process, so that the next service can end it if this one dies; 0, 0: none."""
        return await self._change(
            "UPDATE builds SET worker_pid = ?, worker_start = ? WHERE id = ?", [pid, start, build_id]
        )

    async def finish_built(self, build_id: str, image: ImageRow) -> bool:
        """Record the image and the end of its build in one transaction; false if the build was cancelled
        meanwhile, and then nothing is recorded."""
        return await self._connection.write(lambda db: _finish_built(db, build_id, image))

    async def finish_unbuilt(
        self, build_id: str, state: Literal["failed", "cancelled"], error: ErrorView
    ) -> bool:
        """False if it had ended already."""
        return await self._connection.write(lambda db: _finish_unbuilt(db, build_id, state, error))

    async def requeue_build(self, build_id: str, *, count_attempt: bool = True) -> bool:
        """From running back to queued; without `count_attempt` the interrupted start does not count."""
        return await self._change(
            "UPDATE builds SET state = 'queued', phase = 'queued', progress = 0, worker_pid = 0,"
            " worker_start = 0, attempts = attempts - ? WHERE id = ? AND state = 'running'",
            [0 if count_attempt else 1, build_id],
        )

    async def settle_build(self, build_id: str) -> bool:
        """Nothing of an ended build is left over."""
        return await self._change(
            "UPDATE builds SET settled = 1, worker_pid = 0, worker_start = 0"
            " WHERE id = ? AND state NOT IN ('queued', 'running')",
            [build_id],
        )

    async def requesters(self, build_id: str) -> list[str]:
        """Who asked for the build and has not withdrawn, in the order of asking."""
        return await self._connection.read(lambda db: _requesters(db, build_id))

    async def withdraw(self, build_id: str, person: str, if_last: ErrorView) -> list[str]:
        """Take `person` out of a build's requesters; who stays. The build passes to the first of them; if
        nobody stays it is cancelled with `if_last`, in the same transaction."""
        return await self._connection.write(lambda db: _withdraw(db, build_id, person, if_last))

    # -- images ---------------------------------------------------------------------------------------

    async def image(self, image_id: str) -> ImageRow | None:
        return await self._one(ImageRow, "images", "image_id = ?", [image_id])

    async def images(self) -> list[ImageRow]:
        """Newest first."""
        return await self._many(ImageRow, "images", "1", [], order="created DESC, image_id")

    async def images_of(self, identity: str) -> list[ImageRow]:
        """Newest first."""
        return await self._many(
            ImageRow, "images", "identity = ?", [identity], order="created DESC, image_id"
        )

    async def update_image(
        self,
        image_id: str,
        *,
        name: str | None = None,
        title: str | None = None,
        description: str | None = None,
        pinned: bool | None = None,
        size: int | None = None,
    ) -> bool:
        """Change what is given; false if the image is not recorded."""
        given = {
            "name": name,
            "title": title,
            "description": description,
            "pinned": pinned,
            "size": size,
        }
        changes = {key: value for key, value in given.items() if value is not None}
        if not changes:
            return await self.image(image_id) is not None
        assignments = ", ".join(f"{key} = ?" for key in changes)
        return await self._change(
            f"UPDATE images SET {assignments} WHERE image_id = ?",  # noqa: S608 - the names are ours
            [*changes.values(), image_id],
        )

    async def change_image(
        self, image_id: str, changes: Mapping[str, str | bool], who: str, notes: Mapping[str, str]
    ) -> bool:
        """Change columns of an image, as an administrator decided, and note it (what was done, and the
        result), both or neither; false if it is not recorded."""
        return await self._connection.write(lambda db: _change_image(db, image_id, changes, who, notes))

    async def share_image(
        self, image_id: str, visibility: Visibility, groups: Collection[str], *, decided: bool = False
    ) -> bool:
        """Change who may use an image, and with it who may see the build that made it; false if it is not
        recorded. `decided` if an administrator does."""
        return await self._connection.write(
            lambda db: _share_image(db, image_id, visibility, groups, decided)
        )

    async def forget_image(self, image_id: str, created: str = "") -> bool:
        """Drop the record of a deleted image; its build, log, uses and audit entries stay.

        With `created` only that record, not one that a rebuild of the same image has made since.
        """
        return await self._change(
            "DELETE FROM images WHERE image_id = ? AND ? IN ('', created)", [image_id, created]
        )

    # -- moves ----------------------------------------------------------------------------------------

    async def record_image(self, image: ImageRow, who: str, what: str) -> bool:
        """Add an image that no build here has made, and note it; false if it is recorded already."""
        return await self._connection.write(
            lambda db: moves.record_image(db, {**_columns(image), "build_id": None}, who, what)
        )

    async def newer(self) -> dict[str, NewerRow]:
        """What refs were seen to point to, by image id."""
        return await self._connection.read(
            lambda db: {row["image_id"]: NewerRow(**row) for row in db["newer"].rows}
        )

    async def set_newer(self, found: Collection[NewerRow]) -> None:
        """Keep where refs point to; what is known of images that are gone goes."""
        await self._connection.write(lambda db: moves.set_newer(db, found))

    async def add_successor(self, build_id: str, image_id: str) -> None:
        """What the build makes takes the place of this image."""
        await self._change("INSERT OR REPLACE INTO successors VALUES (?, ?)", [build_id, image_id])

    async def successors(self) -> dict[str, str]:
        """By build, whose place its image is to take."""
        return await self._connection.read(
            lambda db: {row["build_id"]: row["image_id"] for row in db["successors"].rows}
        )

    async def succeed(self, build_id: str, who: str) -> bool:
        """Give the build's image, if there is one, what was decided about the one whose place it takes, and
        forget the wish; whether anything was given."""
        return await self._connection.write(lambda db: moves.succeed(db, build_id, who))

    async def notes(self) -> dict[str, str]:
        """What we wrote down for ourselves, by name."""
        return await self._connection.read(lambda db: {row["name"]: row["value"] for row in db["notes"].rows})

    async def set_note(self, name: str, value: str) -> None:
        """An empty value takes the note away."""
        if value:
            await self._change("INSERT OR REPLACE INTO notes VALUES (?, ?)", [name, value])
        else:
            await self._change("DELETE FROM notes WHERE name = ?", [name])

    # -- uses -----------------------------------------------------------------------------------------

    async def end_lease(self, lease_id: str) -> bool:
        """Give back the lease of a start that succeeded: its image was launched. False if it had expired."""
        return await self._connection.write(lambda db: _end_lease(db, lease_id))

    async def add_use(self, image_id: str, person: str, server: str) -> None:
        """An image was started on a server."""
        await self._change("INSERT INTO uses VALUES (?, ?, ?, ?)", [image_id, person, server, utc_now()])

    async def uses(self) -> dict[str, ImageUse]:
        """By image id."""
        return await self._connection.read(accounting.uses)

    async def build_seconds(self) -> dict[str, float]:
        """What the builds took that made our images, by the builds' ids."""
        return await self._connection.read(accounting.build_seconds)

    async def note_in_use(self, image_ids: Collection[str]) -> None:
        """Servers run on these images now."""
        now = utc_now()
        await self._connection.write(lambda db: runs.note_in_use(db, image_ids, now))

    async def seen_in_use(self) -> dict[str, str]:
        """By image id, when a server was last seen to run on it."""
        return await self._connection.read(
            lambda db: {row["image_id"]: row["time"] for row in db["seen_in_use"].rows}
        )

    # -- runs -----------------------------------------------------------------------------------------

    async def put_run(self, run: RunRow) -> None:
        """Add a deletion, or note what has become of it."""
        await self._connection.write(lambda db: runs.put_run(db, run))

    async def note_results(self, run_id: str, results: str) -> bool:
        """What became of the images of a run so far; false if there is none of this id."""
        return await self._change("UPDATE runs SET results = ? WHERE id = ?", [results, run_id])

    async def run(self, run_id: str) -> RunRow | None:
        found = await self._connection.read(lambda db: runs.read_runs(db, "id = ?", [run_id], 1))
        return found[0] if found else None

    async def runs(self, *, limit: int | None = 50) -> list[RunRow]:
        """Newest first."""
        return await self._connection.read(lambda db: runs.read_runs(db, "1", [], limit))

    async def unfinished_runs(self) -> list[RunRow]:
        """Those that go on, or were cut off."""
        return await self._connection.read(lambda db: runs.read_runs(db, "finished = ''", [], None))

    async def rebuild_seconds(self) -> dict[str, float]:
        """By identity, what its longest build took."""
        return await self._connection.read(runs.rebuild_seconds)

    # -- projects -------------------------------------------------------------------------------------

    async def add_project(self, project: ProjectRow) -> None:
        """Raises `StoreError` if the owner has one of this id, or the path is taken."""
        await self._connection.write(lambda db: _insert(db, "projects", _columns(project)))

    async def project(self, owner: str, project_id: str) -> ProjectRow | None:
        return await self._one(ProjectRow, "projects", "owner = ? AND id = ?", [owner, project_id])

    async def projects(self, owner: str, repository: str = "") -> list[ProjectRow]:
        """One person's projects (of one repository), oldest first."""
        return await self._many(
            ProjectRow,
            "projects",
            "owner = ? AND (? = '' OR repository = ?)",
            [owner, repository, repository],
            order="created, id",
        )

    async def use_project(self, owner: str, project_id: str, image_id: str) -> bool:
        """The project was used now, with this image; false if there is none of this id."""
        return await self._connection.write(lambda db: _use_project(db, owner, project_id, image_id))

    async def title_project(self, owner: str, project_id: str, title: str) -> bool:
        """False if there is none of this id."""
        return await self._change(
            "UPDATE projects SET title = ? WHERE owner = ? AND id = ?", [title, owner, project_id]
        )

    async def move_project(self, project: ProjectRow, moved: ProjectRow) -> bool:
        """A project went to another folder, and its measured size with it; false if it is not recorded."""
        return await self._connection.write(lambda db: _move_project(db, project, moved))

    async def forget_project(self, owner: str, project_id: str) -> bool:
        """Drop the record of a project whose files are gone."""
        return await self._connection.write(lambda db: _forget_project(db, owner, project_id))

    async def all_projects(self) -> list[ProjectRow]:
        """Of everybody, deleted ones too."""
        return await self._many(ProjectRow, "projects", "1", [], order="owner, id")

    async def has_projects(self) -> bool:
        """Whether anybody ever kept files here."""
        return await self._connection.read(lambda db: bool(list(db["projects"].rows_where(limit=1))))

    # -- sizes ----------------------------------------------------------------------------------------

    async def set_size(self, size: SizeRow) -> None:
        """Keep what a folder was measured to occupy."""
        await self._change(
            "INSERT OR REPLACE INTO sizes (path, owner, bytes, entries, whole, took, measured)"
            " VALUES (?, ?, ?, ?, ?, ?, ?)",
            [size.path, size.owner, size.bytes, size.entries, int(size.whole), size.took, size.measured],
        )

    async def sizes(self, owner: str = "") -> dict[str, SizeRow]:
        """By path; of one person, or of all."""
        found = await self._many(SizeRow, "sizes", "? = '' OR owner = ?", [owner, owner], order="path")
        return {row.path: row for row in found}

    async def forget_size(self, path: str) -> None:
        """Drop the size of a folder that is gone."""
        await self._change("DELETE FROM sizes WHERE path = ?", [path])

    # -- disk -----------------------------------------------------------------------------------------

    async def add_disk_samples(self, samples: Iterable[DiskSample]) -> None:
        """What filesystems hold now; older samples are thinned out."""
        taken, now = list(samples), datetime.now(timezone.utc)
        await self._connection.write(lambda db: disk.add_samples(db, taken, now))

    async def disk_samples(self, path: str = "", since: str = "") -> list[DiskSample]:
        """Of the filesystem mounted at `path`, or of all; oldest first."""
        return await self._connection.read(lambda db: disk.read_samples(db, path, since))

    async def layer_folders(self) -> dict[str, int]:
        """Allocated bytes of layers' folders in Docker's folder, by their names."""
        return await self._connection.read(
            lambda db: {row["folder"]: row["bytes"] for row in db["layer_folders"].rows}
        )

    async def set_layer_folders(self, measured: dict[str, int], there: set[str]) -> None:
        """Keep what layers' folders occupy; those that are not `there` any more are forgotten."""
        await self._connection.write(lambda db: disk.keep_layer_folders(db, measured, there))

    # -- leases ---------------------------------------------------------------------------------------

    async def add_lease(self, image_id: str, until: str, server: str = "") -> LeaseRow:
        """Expired leases are dropped on the way."""
        lease = LeaseRow(f"l-{secrets.token_hex(8)}", image_id, until, server)
        await self._connection.write(lambda db: _add_lease(db, lease))
        return lease

    async def lease_project(self, lease_id: str, path: str) -> bool:
        """The start in progress uses this project as well; false if the lease is gone."""
        return await self._change("UPDATE leases SET project = ? WHERE id = ?", [path, lease_id])

    async def renew_lease(self, lease_id: str, until: str) -> bool:
        """False if the lease is gone."""
        return await self._change("UPDATE leases SET until = ? WHERE id = ?", [until, lease_id])

    async def drop_lease(self, lease_id: str) -> bool:
        return await self._change("DELETE FROM leases WHERE id = ?", [lease_id])

    async def leases(self) -> list[LeaseRow]:
        """Those that have not expired."""
        return await self._many(LeaseRow, "leases", "until > ?", [utc_now()], order="until")

    # -- audit ----------------------------------------------------------------------------------------

    async def audit(self, who: str, what: str, thing: str, result: str) -> None:
        """Note that `who` did `what` (`build.request`, `image.delete`, …) to `thing`."""
        await self.audit_log.note(who, what, thing, result)

    async def audit_entries(self, *, limit: int = 200, before: int = 0) -> list[AuditEntry]:
        """Newest first; `before` is the number of an entry, for the next page. See `audit_log` for more."""
        return await self.audit_log.entries(limit=limit, before=before)

    # -- how ------------------------------------------------------------------------------------------

    async def _change(self, sql: str, values: list[Any]) -> bool:
        return await self._connection.write(lambda db: bool(db.conn.execute(sql, values).rowcount))

    async def _one(self, kind: type[Row], table: str, where: str, values: list[Any]) -> Row | None:
        found = await self._many(kind, table, where, values, limit=1)
        return found[0] if found else None

    async def _many(
        self,
        kind: type[Row],
        table: str,
        where: str,
        values: list[Any],
        *,
        order: str | None = None,
        limit: int | None = None,
    ) -> list[Row]:
        return await self._connection.read(
            lambda db: [
                _row(kind, found)
                for found in db[table].rows_where(where, values, order_by=order, limit=limit)
            ]
        )


def _row(kind: type[Row], found: dict[str, Any]) -> Row:
    known = {field.name for field in fields(kind)}
    values = {key: _value(key, value) for key, value in found.items() if key in known}
    if values.get("groups"):
        values["visibility"] = "group"
    return kind(**values)


def _columns(row: BuildRow | ImageRow | ProjectRow) -> dict[str, Any]:
    """As the tables hold it; see the migration `m0003_access`."""
    values = asdict(row)
    if "groups" in values:
        values |= _shared(row.visibility, row.groups)
    if isinstance(row, BuildRow):
        values["asked_groups"] = json.dumps(row.asked_groups, ensure_ascii=True)
    return values


def _shared(visibility: Visibility, groups: Collection[str]) -> dict[str, str]:
    open_to = sorted(groups) if visibility == "group" else []
    return {
        "visibility": "everyone" if visibility == "everyone" else "private",
        "groups": json.dumps(open_to, ensure_ascii=True),
    }


def _value(column: str, value: Any) -> Any:
    if column in _BOOLEANS:
        return bool(value)
    if column in ("groups", "asked_groups"):
        return tuple(json.loads(value))
    return "" if value is None else value


def _use_project(db: Database, owner: str, project_id: str, image_id: str) -> bool:
    """Later than all uses before it, also when the clock was set back: the last one is what a start means."""
    [[last]] = db.conn.execute("SELECT max(last_used) FROM projects WHERE owner = ?", [owner]).fetchall()
    values = [utc_after(last or ""), image_id, owner, project_id]
    sql = "UPDATE projects SET last_used = ?, image_id = ? WHERE owner = ? AND id = ?"
    return bool(db.conn.execute(sql, values).rowcount)


def _insert(db: Database, table: str, values: dict[str, Any]) -> None:
    try:
        db[table].insert(values)
    except sqlite3.IntegrityError as error:
        raise StoreError(
            f"The store refused a row of `{table}`: {error}.", "It exists already: look before you add."
        ) from error


def _enqueue(db: Database, wish: BuildRow, per_person: int, considered: Collection[str]) -> Enqueued:
    active = list(
        db["builds"].rows_where(
            "identity = ? AND state IN ('queued', 'running') AND visibility = ?"
            " AND (visibility = 'everyone' OR requested_by = ?)",
            [wish.identity, wish.visibility, wish.requested_by],
        )
    )
    if active:
        _add_requester(db, active[0]["id"], wish.requested_by)
        return Enqueued(_row(BuildRow, active[0]), joined=True)
    recorded = {row["image_id"] for row in db["images"].rows_where("identity = ?", [wish.identity])}
    if not wish.rebuild and not recorded <= set(considered):
        return Enqueued(look_again=True)
    [(count,)] = db.execute(
        "SELECT COUNT(*) FROM builds WHERE requested_by = ? AND state IN ('queued', 'running')",
        [wish.requested_by],
    ).fetchall()
    if count >= per_person:
        return Enqueued(full=count)
    _insert(db, "builds", _columns(wish))
    _add_requester(db, wish.id, wish.requested_by)
    return Enqueued(wish)


def _add_requester(db: Database, build_id: str, person: str) -> None:
    db.conn.execute("INSERT OR IGNORE INTO requesters VALUES (?, ?, ?)", [build_id, person, utc_now()])


def _requesters(db: Database, build_id: str) -> list[str]:
    return [
        row["person"] for row in db["requesters"].rows_where("build_id = ?", [build_id], order_by="rowid")
    ]


def _withdraw(db: Database, build_id: str, person: str, if_last: ErrorView) -> list[str]:
    db.conn.execute("DELETE FROM requesters WHERE build_id = ? AND person = ?", [build_id, person])
    left = _requesters(db, build_id)
    if left:
        db.conn.execute(
            "UPDATE builds SET requested_by = ? WHERE id = ? AND requested_by = ?",
            [left[0], build_id, person],
        )
    else:
        _finish_unbuilt(db, build_id, "cancelled", if_last)
    return left


def _finish_unbuilt(db: Database, build_id: str, state: BuildState, error: ErrorView) -> bool:
    return bool(
        db.conn.execute(
            "UPDATE builds SET state = ?, phase = ?, error_code = ?, error_message = ?, error_next = ?,"
            " finished = ? WHERE id = ? AND state IN ('queued', 'running')",
            [state, state, error.code, error.message, error.next, utc_now(), build_id],
        ).rowcount
    )


def _finish_built(db: Database, build_id: str, image: ImageRow) -> bool:
    changed = db.conn.execute(
        "UPDATE builds SET state = 'built', phase = 'built', progress = 100, image_id = ?, image_name = ?,"
        " finished = ? WHERE id = ? AND state = 'running'",
        [image.image_id, image.name, utc_now(), build_id],
    ).rowcount
    if not changed:
        return False
    known = list(db["images"].rows_where("image_id = ?", [image.image_id]))
    if known:
        # A rebuild that gave the same image again: what people decided about it stays. But what somebody else
        # had made, from what everyone may read, is for everyone: it would be no hit for them otherwise.
        old = _row(ImageRow, known[0])
        opened = image.visibility == "everyone" and image.built_by != old.built_by
        image = replace(
            image,
            title=old.title,
            description=old.description,
            pinned=old.pinned,
            built_by=old.built_by,
            icon=old.icon,
            profile=old.profile,
            urlpath=old.urlpath,
            pin_reason=old.pin_reason,
            pinned_until=old.pinned_until,
            retired=old.retired,
            decided=old.decided,
        )
        if not opened:
            image = replace(image, visibility=old.visibility, groups=old.groups)
        db.conn.execute("DELETE FROM images WHERE image_id = ?", [image.image_id])
    _insert(db, "images", {**_columns(image), "build_id": image.build_id or None})
    return True


def _change_image(
    db: Database, image_id: str, changes: Mapping[str, str | bool], who: str, notes: Mapping[str, str]
) -> bool:
    names = [row["name"] for row in db["images"].rows_where("image_id = ?", [image_id], select="name")]
    if not names:
        return False
    for column, value in {**changes, "decided": True}.items():
        sql = f"UPDATE images SET {column} = ? WHERE image_id = ?"  # noqa: S608 - the names are ours
        db.conn.execute(sql, [value, image_id])
    for what, result in notes.items():
        audit.note(db, who, what, names[0], result)
    return True


def _share_image(
    db: Database, image_id: str, visibility: Visibility, groups: Collection[str], decided: bool
) -> bool:
    columns = [*_shared(visibility, groups).values(), image_id]
    changed = db.conn.execute(
        "UPDATE images SET visibility = ?, groups = ?, decided = max(decided, ?) WHERE image_id = ?",
        [*columns[:-1], decided, image_id],
    ).rowcount
    db.conn.execute(
        "UPDATE builds SET visibility = ?, groups = ? WHERE state NOT IN ('queued', 'running')"
        " AND id = (SELECT build_id FROM images WHERE image_id = ?)",
        columns,
    )
    return bool(changed)


def _end_lease(db: Database, lease_id: str) -> bool:
    found = list(db["leases"].rows_where("id = ?", [lease_id]))
    if not found:
        return False
    person, _, server = str(found[0]["server"]).partition("/")
    db.conn.execute("INSERT INTO uses VALUES (?, ?, ?, ?)", [found[0]["image_id"], person, server, utc_now()])
    db.conn.execute("DELETE FROM leases WHERE id = ?", [lease_id])
    return True


def _add_lease(db: Database, lease: LeaseRow) -> None:
    db.conn.execute("DELETE FROM leases WHERE until <= ?", [utc_now()])
    _insert(db, "leases", asdict(lease))


def _move_project(db: Database, project: ProjectRow, moved: ProjectRow) -> bool:
    key = [project.owner, project.id]
    # The disk is the truth: a record that stands in the way is of something that is gone.
    db.conn.execute(
        "DELETE FROM projects WHERE (path = ? OR (owner = ? AND id = ?)) AND NOT (owner = ? AND id = ?)",
        [moved.path, moved.owner, moved.id, *key],
    )
    db.conn.execute("DELETE FROM sizes WHERE path = ?", [moved.path])
    db.conn.execute("UPDATE sizes SET path = ? WHERE path = ?", [moved.path, project.path])
    return bool(
        db.conn.execute(
            "UPDATE projects SET id = ?, path = ? WHERE owner = ? AND id = ?", [moved.id, moved.path, *key]
        ).rowcount
    )


def _forget_project(db: Database, owner: str, project_id: str) -> bool:
    key = [owner, project_id]
    db.conn.execute(
        "DELETE FROM sizes WHERE path IN (SELECT path FROM projects WHERE owner = ? AND id = ?)", key
    )
    return bool(db.conn.execute("DELETE FROM projects WHERE owner = ? AND id = ?", key).rowcount)
