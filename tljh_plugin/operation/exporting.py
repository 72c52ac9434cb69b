"""What an image's file says of itself, by a copy of the store: the service need not run for it."""

from __future__ import annotations

import hashlib
import sqlite3
from contextlib import closing
from pathlib import Path

from ..cache.image_file import Manifest
from ..engine import Engine
from ..installation import instance_id, secret
from ..settings import Settings
from ..store import utc_now


async def image_manifest(settings: Settings, engine: Engine, store: Path, image_id: str) -> Manifest | None:
    """Signed by this installation; None if Docker does not have the image. Raises `EngineError`."""
    facts = await engine.image(image_id)
    if facts is None:
        return None
    with closing(sqlite3.connect(store)) as db:
        db.row_factory = sqlite3.Row
        [row] = db.execute("SELECT * FROM images WHERE image_id = ?", [image_id]).fetchall()
    return Manifest(
        image_id=image_id,
        layers=facts.layers,
        labels=dict(facts.labels),
        platform=row["platform"],
        size=facts.size,
        spec=row["spec"],
        ref=row["asked_ref"],
        recipe=row["recipe"],
        created=row["created"],
        title=row["title"],
        description=row["description"],
        icon=row["icon"],
        urlpath=row["urlpath"],
        private=row["visibility"] != "everyone",
        installation=hashlib.sha256(instance_id(settings).encode()).hexdigest()[:16],
        exported=utc_now(),
    ).signed(secret(settings))
