"""SQL of images that come from elsewhere, and of those that take the place of others."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import asdict
from typing import Any

from sqlite_utils import Database

from .rows import NewerRow, utc_now

# What administrators decided about an image; a pin goes over, so that it does not keep the old one.
_DECIDED = ("title", "description", "icon", "profile", "urlpath", "visibility", "groups")
_PIN = ("pinned", "pin_reason", "pinned_until")


def record_image(db: Database, columns: dict[str, Any], who: str, what: str) -> bool:
    """False if an image of this id is recorded."""
    if list(db["images"].rows_where("image_id = ?", [columns["image_id"]], select="image_id")):
        return False
    db["images"].insert(columns)
    note(db, who, what, columns["name"], f"{columns['image_id']} {columns['spec']}")
    return True


def set_newer(db: Database, found: Collection[NewerRow]) -> None:
    """Add what was found out, and drop what is of images that are gone."""
    for each in found:
        db["newer"].upsert(asdict(each), pk="image_id")
    db.conn.execute("DELETE FROM newer WHERE image_id NOT IN (SELECT image_id FROM images)")


def succeed(db: Database, build_id: str, who: str) -> bool:
    """What was decided about an image goes to the one that a build made in its place, if it made one.

    One that was there before the build keeps what was decided about it, and a pin is never taken away.
    """
    wishes = list(db["successors"].rows_where("build_id = ?", [build_id]))
    db.conn.execute("DELETE FROM successors WHERE build_id = ?", [build_id])
    made = list(
        db["images"].rows_where(
            "image_id = (SELECT image_id FROM builds WHERE id = ? AND state = 'built')", [build_id]
        )
    )
    if not wishes or not made or made[0]["image_id"] == wishes[0]["image_id"]:
        return False
    before = list(db["images"].rows_where("image_id = ?", [wishes[0]["image_id"]]))
    if not before:
        return False
    was_there = db["builds"].count_where(
        "image_id = ? AND id != ? AND state = 'built'", [made[0]["image_id"], build_id]
    )
    names = [*(() if was_there else _DECIDED), *(() if _is_pinned(made[0]) else _PIN)]
    taken = {name: before[0][name] for name in names}
    taken["decided"] = max(made[0]["decided"], before[0]["decided"])
    db["images"].update(made[0]["image_id"], taken)
    db["images"].update(before[0]["image_id"], {"pinned": 0, "pin_reason": "", "pinned_until": ""})
    note(db, who, "image.succeed", made[0]["name"], f"in place of {before[0]['name']}")
    return True


def _is_pinned(columns: Mapping[str, Any]) -> bool:
    until = columns["pinned_until"]
    return bool(columns["pinned"]) and (not until or until > utc_now())


def note(db: Database, who: str, what: str, thing: str, result: str) -> None:
    """An entry of the audit log, in the same transaction."""
    db.conn.execute(
        "INSERT INTO audit (time, who, what, thing, result) VALUES (?, ?, ?, ?, ?)",
        [utc_now(), who, what, thing, result],
    )
