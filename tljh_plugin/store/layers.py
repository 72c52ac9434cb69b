"""What is kept of layers and of the build cache: tables `chains`, `layers`, `leftovers` and `removals`."""

from __future__ import annotations

import json
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass

from sqlite_utils import Database

from .connection import Connection


@dataclass(frozen=True)
class RemovalRow:
    """A removal that has begun, and when: the cache records that images shared before it."""

    image_id: str
    erase: bool
    shared: frozenset[str]
    begun: str


@dataclass(frozen=True)
class LeftoverRow:
    """A cache record that stayed when its image went; `image_id` is empty where that is not known."""

    record_id: str
    image_id: str
    bytes: int | None


class LayerRows:
    """Reads and writes them. Every method raises `StoreError`."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    async def chains(self) -> dict[str, tuple[str, ...]]:
        """The chain ids of every image that is known, lowest first."""
        return await self._connection.read(
            lambda db: {row["image_id"]: tuple(json.loads(row["chain"])) for row in db["chains"].rows}
        )

    async def sizes(self) -> dict[str, int | None]:
        """Bytes by chain id."""
        return await self._connection.read(
            lambda db: {row["chain_id"]: row["bytes"] for row in db["layers"].rows}
        )

    async def add_chain(self, image_id: str, layers: Mapping[str, int | None]) -> None:
        """Keep an image's layers (chain ids with bytes, lowest first)."""
        await self._connection.write(lambda db: _add_chain(db, image_id, layers))

    async def forget_chains(self, image_ids: Collection[str]) -> None:
        """Drop images that are gone, and the layers that none has any more."""
        await self._connection.write(lambda db: _forget_chains(db, image_ids))

    async def leftovers(self) -> list[LeftoverRow]:
        """What evicted images left in the build cache."""
        return await self._connection.read(
            lambda db: [LeftoverRow(**row) for row in db["leftovers"].rows_where(order_by="record_id")]
        )

    async def note_leftovers(self, rows: Iterable[LeftoverRow]) -> None:
        """Keep these, instead of what was noted of the same records."""
        values = [(each.record_id, each.image_id, each.bytes) for each in rows]
        await self._connection.write(lambda db: _note_leftovers(db, values))

    async def forget_leftovers(self, record_ids: Collection[str]) -> None:
        """Drop records that are gone, or that an image has again."""
        await self._connection.write(lambda db: _forget_leftovers(db, record_ids))

    async def begin_removal(self, removal: RemovalRow) -> None:
        """Note what is needed to finish it after a crash."""
        await self._connection.write(
            lambda db: db.conn.execute(
                "INSERT OR REPLACE INTO removals (image_id, erase, shared, begun) VALUES (?, ?, ?, ?)",
                [removal.image_id, int(removal.erase), json.dumps(sorted(removal.shared)), removal.begun],
            )
        )

    async def end_removal(self, image_id: str, left: Iterable[LeftoverRow] = ()) -> None:
        """It is done; `left` stays in the build cache."""
        rows = [(each.record_id, each.image_id, each.bytes) for each in left]
        await self._connection.write(lambda db: _end_removal(db, image_id, rows))

    async def removals(self) -> list[RemovalRow]:
        """Those that have begun and not ended."""
        return await self._connection.read(
            lambda db: [
                RemovalRow(
                    row["image_id"], bool(row["erase"]), frozenset(json.loads(row["shared"])), row["begun"]
                )
                for row in db["removals"].rows
            ]
        )


def _add_chain(db: Database, image_id: str, layers: Mapping[str, int | None]) -> None:
    db.conn.execute("INSERT OR REPLACE INTO chains VALUES (?, ?)", [image_id, json.dumps(list(layers))])
    db.conn.executemany("INSERT OR REPLACE INTO layers VALUES (?, ?)", list(layers.items()))


def _forget_chains(db: Database, image_ids: Collection[str]) -> None:
    db.conn.executemany("DELETE FROM chains WHERE image_id = ?", [[each] for each in image_ids])
    db.conn.execute(
        "DELETE FROM layers WHERE chain_id NOT IN (SELECT value FROM chains, json_each(chains.chain))"
    )


def _forget_leftovers(db: Database, record_ids: Collection[str]) -> None:
    db.conn.executemany("DELETE FROM leftovers WHERE record_id = ?", [[each] for each in record_ids])


def _end_removal(db: Database, image_id: str, left: Collection[tuple[str, str, int | None]]) -> None:
    db.conn.execute("DELETE FROM removals WHERE image_id = ?", [image_id])
    _note_leftovers(db, left)


def _note_leftovers(db: Database, rows: Collection[tuple[str, str, int | None]]) -> None:
    db.conn.executemany("INSERT OR REPLACE INTO leftovers VALUES (?, ?, ?)", rows)
