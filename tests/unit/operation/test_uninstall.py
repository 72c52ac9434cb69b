"""What is ours goes, what people made stays, and a second run finds nothing more to do."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner
from installation_on_disk import OnDisk, seen

from tljh_plugin.cli.uninstall import command
from tljh_plugin.errors import EngineUnavailable, UninstallRefused
from tljh_plugin.labels import KIND_LABEL
from tljh_plugin.operation import at_home, uninstall
from tljh_plugin.operation.uninstall import Wish


@dataclass
class Row:
    id: str
    name: str
    labels: dict[str, str]
    state: str = "running"


@dataclass
class Docker:
    """What uninstalling asks of an engine; real ones are in the integration tests."""

    instance: str
    rows: list[Row] = field(default_factory=list)
    down: bool = False

    def is_ours(self, labels: dict[str, str]) -> bool:
        return labels.get("instance") == self.instance

    async def containers(self) -> Sequence[Row]:
        if self.down:
            raise EngineUnavailable("Docker does not run.", "Start it.")
        return list(self.rows)

    async def stop(self, container: str, timeout_s: int) -> None:
        return

    async def remove(self, container: str) -> None:
        self.rows = [row for row in self.rows if row.id != container]

    async def network(self) -> None:
        return None

    async def image(self, ref: str) -> None:
        return None


def docker(place: OnDisk, *servers: str, **more: Any) -> Any:
    ours = place.installed.instance
    labels = {"instance": ours, KIND_LABEL: "server", "org.littlest-binder.person": "ann"}
    rows = [Row(name, name, {**labels, "org.littlest-binder.server": name}) for name in servers]
    rows.append(Row("other", "other", {"instance": "another", KIND_LABEL: "server"}))
    return Docker(ours, rows, **more)


def decide(place: OnDisk, engine: Any, **wish: bool) -> uninstall.Plan:
    return asyncio.run(uninstall.decide(place.installed, Wish(**wish), engine))


def carry_out(plan: uninstall.Plan, engine: Any) -> uninstall.Report:
    return asyncio.run(uninstall.carry_out(plan, engine, lambda text: None))


@pytest.fixture(autouse=True)
def links(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> tuple[Path, Path]:
    """One of ours, and one to another program."""
    folder = tmp_path / "bin"
    folder.mkdir()
    ours, other = folder / "littlest-binder", folder / "other"
    ours.symlink_to(tmp_path / "here" / "venv" / "bin" / "littlest-binder")
    other.symlink_to("/bin/sh")
    monkeypatch.setattr(uninstall, "LINKS", (ours, other))
    return ours, other


def test_data_stays_unless_told_otherwise(place: OnDisk, links: tuple[Path, Path]) -> None:
    (place.state / "venv" / "bin").mkdir(parents=True)
    before = {name: facts for name, facts in seen(place.state).items() if not name.startswith("venv")}
    engine = docker(place)
    plan = decide(place, engine)
    assert any("settings, store, secrets" in each for each in plan.stays)
    carry_out(plan, engine)
    assert seen(place.state) == before
    assert not links[0].is_symlink()
    assert links[1].is_symlink()


def test_nothing_of_others_is_removed_from_docker(place: OnDisk) -> None:
    engine = docker(place, "one")
    carry_out(decide(place, engine, stop_servers=True), engine)
    assert [row.name for row in engine.rows] == ["other"]


def test_running_servers_are_named_and_nothing_is_done(place: OnDisk) -> None:
    with pytest.raises(UninstallRefused, match="ann/one, ann/two"):
        decide(place, docker(place, "one", "two"))


def test_a_hub_at_home_that_runs_is_left_alone(place: OnDisk) -> None:
    with at_home.only_one(place.settings), pytest.raises(UninstallRefused, match="running"):
        decide(place, docker(place))


def test_erasing_takes_the_whole_state_folder(place: OnDisk) -> None:
    engine = docker(place)
    plan = decide(place, engine, erase_data=True)
    assert any("ALL FILES OF ALL PEOPLE" in each for each in plan.goes)
    carry_out(plan, engine)
    assert not place.state.exists()


def test_it_can_be_run_twice(place: OnDisk) -> None:
    engine = docker(place)
    for _ in range(2):
        carry_out(decide(place, engine), engine)
    for _ in range(2):
        plan = decide(place, engine, erase_data=True)
        carry_out(plan, engine)


def test_interrupted_erasing_is_finished_by_the_next_run(
    place: OnDisk, monkeypatch: pytest.MonkeyPatch
) -> None:
    engine = docker(place)
    removed = 0
    real = uninstall._remove_tree

    def interrupted(folder: Path) -> None:
        nonlocal removed
        removed += 1
        if removed > 2:
            raise KeyboardInterrupt
        real(folder)

    monkeypatch.setattr(uninstall, "_remove_tree", interrupted)
    with pytest.raises(KeyboardInterrupt):
        carry_out(decide(place, engine, erase_data=True), engine)
    monkeypatch.setattr(uninstall, "_remove_tree", real)
    carry_out(decide(place, engine, erase_data=True), engine)
    assert not place.state.exists()


def test_files_on_a_disk_of_their_own_stay_even_when_all_is_erased(place: OnDisk, tmp_path: Path) -> None:
    root = tmp_path / "disk" / "projects"
    root.parent.mkdir()
    place.root.rename(root)
    (place.state / "config.yaml").write_text(f"binder:\n  storage:\n    root: {root}\n")
    before = seen(root)
    engine = docker(place)
    plan = decide(place, engine, erase_data=True)
    assert any(str(root) in each for each in plan.stays)
    carry_out(plan, engine)
    assert seen(root) == before


def test_a_mount_in_the_state_folder_is_never_erased(place: OnDisk) -> None:
    (place.state / "data").mkdir()
    (place.state / "config.yaml").write_text(
        f"binder:\n  mounts:\n  - id: data\n    source: {place.state}/data\n"
    )
    with pytest.raises(UninstallRefused, match="mount `data`"):
        decide(place, docker(place), erase_data=True)


def test_without_docker_the_rest_goes_and_it_says_what_is_left(place: OnDisk) -> None:
    engine = docker(place, down=True)
    report = carry_out(decide(place, engine), engine)
    assert "Docker" in report.left[0]


def test_what_others_added_is_removed_by_them(place: OnDisk, monkeypatch: pytest.MonkeyPatch) -> None:
    asked = []

    def remover(settings: object, dry_run: bool) -> list[str]:
        asked.append(dry_run)
        return ["the menu entry"]

    monkeypatch.setattr(uninstall, "REMOVERS", (remover,))
    engine = docker(place)
    plan = decide(place, engine)
    assert "the menu entry" in plan.goes
    assert "the menu entry" in carry_out(plan, engine).removed
    assert asked == [True, False]


def test_erasing_needs_the_folders_name(place: OnDisk, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DOCKER_HOST", "unix:///nowhere/docker.sock")
    refused = CliRunner().invoke(command, ["--erase-data"], input="yes\n")
    assert isinstance(refused.exception, UninstallRefused)
    assert place.state.exists()
    done = CliRunner().invoke(command, ["--erase-data"], input=f"{place.state.name}\n")
    assert done.exception is None, done.output
    assert not place.state.exists()


def test_a_dry_run_changes_nothing(place: OnDisk, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DOCKER_HOST", "unix:///nowhere/docker.sock")
    before = seen(place.state)
    done = CliRunner().invoke(command, ["--erase-data", "--dry-run"])
    assert done.exit_code == 0, done.output
    after = {name: facts for name, facts in seen(place.state).items() if "lock" not in name}
    assert after == {name: facts for name, facts in before.items() if "lock" not in name}
