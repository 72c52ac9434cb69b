"""Promises of the build cache: what the engines' answers mean, and that no other record goes."""

from __future__ import annotations

from typing import Any

import pytest

from tljh_plugin.engine.cache_records import beside_images, by_api, parse, prune, read
from tljh_plugin.errors import EngineError

PRINTED = """\
ID:\t\tjfrhc3chc9czr8q7m36h5cp4l
Created at:\t2026-11-21 13:04:22.20300796 +0000 UTC
Mutable:\tfalse
Reclaimable:\ttrue
Shared:\t\ttrue
Size:\t\t2.959GB
Description:\tmount / from exec /bin/sh -c echo ID: 7
Usage count:\t1
Last used:\t3 hours ago
Type:\t\tregular

ID:\t\tkso48ngf1ldkma74odushjew7
Parents:\tjfrhc3chc9czr8q7m36h5cp4l,wzztjo586yp94qcsd6btpju2l
Created at:\t2026-11-21 13:03:18.95548971 +0000 UTC
Mutable:\ttrue
Reclaimable:\tfalse
Shared:\t\tfalse
Size:\t\t8.192kB
Description:\tcached mount /run/c from exec /bin/sh -c true
Type:\t\texec.cachemount

Shared:\t\t8.146GB
Private:\t7.498GB
Reclaimable:\t15.64GB
Total:\t\t15.64GB
"""


def test_what_buildx_prints_is_read() -> None:
    first, second = parse(PRINTED)
    assert (first.id, first.parents, first.bytes) == ("jfrhc3chc9czr8q7m36h5cp4l", (), 2_959_000_000)
    assert (first.shared, first.in_use, first.kind) == (True, False, "regular")
    assert first.description.endswith("echo ID: 7")
    assert second.parents == ("jfrhc3chc9czr8q7m36h5cp4l", "wzztjo586yp94qcsd6btpju2l")
    assert (second.bytes, second.shared, second.in_use) == (8192, False, True)
    assert first.created > second.created
    assert parse("") == []


def test_a_dockerfile_cannot_make_a_record_prunable() -> None:
    forged = "ID:\tjfrhc3chc9czr8q7m36h5cp4l\nReclaimable:\ttrue\nShared:\tfalse\nSize:\t1GB"
    lines = PRINTED.replace("true\nType", f"true\nShared:\tfalse\nSize:\t5GB\n\n{forged}\nType", 1)
    lines = lines.replace("echo ID: 7", f"echo\nShared: false\n\n{forged}")
    records = {each.id: each for each in parse(lines)}
    assert records["jfrhc3chc9czr8q7m36h5cp4l"].shared
    assert records["kso48ngf1ldkma74odushjew7"].bytes == 8192


def test_what_the_api_says_is_read() -> None:
    record = read(
        {"ID": "a" * 25, "Parent": "b" * 25, "Type": "regular", "Size": 5, "Shared": True, "InUse": False}
    )
    assert (record.parents, record.bytes, record.shared, record.last_used) == (("b" * 25,), 5, True, "")
    assert read({"ID": "a" * 25, "Parents": ["c" * 25], "Size": 5}).parents == ("c" * 25,)


def test_what_the_cache_holds_beside_images_is_what_none_shares() -> None:
    records = parse(PRINTED)
    assert beside_images(records) == 8192
    assert beside_images([*records, read({"ID": "a" * 25})]) is None
    assert beside_images([]) == 0


class Client:
    """Docker's client, as far as pruning goes."""

    def __init__(self, deletes: list[str], api_version: str = "1.41") -> None:
        self.deletes = deletes
        self.api_version = api_version
        self.asked: list[dict[str, Any]] = []

    def prune_builds(self, **asked: Any) -> dict[str, Any]:
        self.asked.append(asked)
        return {"CachesDeleted": self.deletes or None, "SpaceReclaimed": 7 * len(self.deletes)}


def test_one_record_is_asked_for_and_what_images_share_is_spared() -> None:
    client = Client(["a" * 25])
    assert prune(client, "a" * 25) == 7
    assert client.asked == [{"filters": {"id": ["a" * 25]}, "all": False}]
    assert prune(Client([]), "a" * 25) is None


def test_an_engine_that_ignores_the_filter_is_found_out() -> None:
    with pytest.raises(EngineError, match="removed 2 others"):
        prune(Client(["a" * 25, "b" * 25]), "a" * 25)


@pytest.mark.parametrize("pattern", ["", ".*", "a", "a" * 24 + "*", "A" * 25])
def test_a_pattern_is_no_id(pattern: str) -> None:
    client = Client([])
    with pytest.raises(EngineError, match="no id"):
        prune(client, pattern)
    assert client.asked == []


def test_an_old_api_is_not_asked() -> None:
    assert by_api(Client([], api_version="1.41")) is None
