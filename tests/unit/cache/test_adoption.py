"""Promises of names: what another installation of the same Docker has as well is not taken away from it."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from small_cache import IDENTITY

from tljh_plugin.build.identity import building_name, image_names, labels_for
from tljh_plugin.cache.adoption import names_to_take
from tljh_plugin.cache.claims import blank_row
from tljh_plugin.engine import ImageFacts
from tljh_plugin.installation import ensure_state, instance_id, secret
from tljh_plugin.settings import Settings, from_mapping
from tljh_plugin.source.spec import parse_link
from tljh_plugin.store import ImageRow

ID = "sha256:" + "ab" * 32


def installation(folder: Path) -> Settings:
    settings = from_mapping({}, platform="desktop", state_dir=folder)
    ensure_state(settings)
    return settings


def suffixed(settings: Settings) -> str:
    names = image_names(IDENTITY, "r", instance_id(settings))
    next(names)
    return next(names)


PLAIN = next(image_names(IDENTITY, "r", ""))


def test_what_two_installations_have_keeps_the_names_of_the_other(tmp_path: Path) -> None:
    here, there = installation(tmp_path / "here"), installation(tmp_path / "there")
    names = [PLAIN, f"{PLAIN}-{'ab' * 4}", suffixed(here), suffixed(there), building_name("b-1"), "their:1"]
    labels = labels_for(IDENTITY, spec="gh/a/b/main", ref="main", recipe="r", secret=secret(here))
    facts = ImageFacts(ID, tuple(names), labels, 1, "", {}, "", "", (), (), (), "amd64")
    row = row_of(PLAIN)
    assert names_to_take(row, facts, here) == names[:3]
    assert names_to_take(replace(row, name=suffixed(there)), facts, there) == [suffixed(there)]


def test_an_adopted_image_loses_the_name_that_it_got(tmp_path: Path) -> None:
    here = installation(tmp_path / "here")
    facts = ImageFacts(ID, (PLAIN, "littlest-binder/mine:1"), {}, 1, "", {}, "", "", (), (), (), "amd64")
    row = replace(row_of("littlest-binder/mine:1"), adopted=True)
    assert names_to_take(row, facts, here) == ["littlest-binder/mine:1"]


def row_of(name: str) -> ImageRow:
    spec = parse_link(f"gh/a/b/{IDENTITY.commit}")
    return replace(blank_row(IDENTITY, spec, ref="main", recipe="r"), image_id=ID, name=name)
