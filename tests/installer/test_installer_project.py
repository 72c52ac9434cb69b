"""The project's environment and its command on the PATH."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from steps import project, proxy
from steps.console import Step
from steps.site import Site


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    here = tmp_path / "checkout"
    (here / "tljh_plugin").mkdir(parents=True)
    for name in ("pyproject.toml", "README.md", "LICENSE", "tljh_plugin/__init__.py"):
        (here / name).write_text(name)
    return here


def digest(checkout: Path) -> str:
    return project.digest(checkout, list(project.project_files(checkout)))


def test_the_digest_follows_names_and_contents(checkout: Path) -> None:
    first = digest(checkout)
    (checkout / "tljh_plugin" / "__pycache__").mkdir()
    (checkout / "tljh_plugin" / "__pycache__" / "x.pyc").write_text("compiled")
    (checkout / "docs.md").write_text("not installed")
    os.utime(checkout / "README.md", (0, 0))
    assert digest(checkout) == first
    (checkout / "tljh_plugin" / "__init__.py").rename(checkout / "tljh_plugin" / "other.py")
    second = digest(checkout)
    assert second != first
    (checkout / "pyproject.toml").write_text("changed")
    assert digest(checkout) not in (first, second)


def test_a_link_in_the_checkout_is_not_followed(checkout: Path) -> None:
    first = digest(checkout)
    (checkout / "tljh_plugin" / "shadow").symlink_to("/etc/shadow")
    assert digest(checkout) == first


def test_the_command_is_linked_once(site: Site, step: Step, tmp_path: Path, changes: Path) -> None:
    link = tmp_path / "bin" / "littlest-binder"
    assert project.ensure_command(site, step, link) == str(link)
    assert os.readlink(link) == str(site.venv / "bin" / "littlest-binder")
    assert "as it was" in project.ensure_command(site, step, link)
    assert str(link) in changes.read_text()


@pytest.fixture
def changes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The record of changes of the machine, elsewhere."""
    path = tmp_path / "machine.jsonl"
    monkeypatch.setattr("steps.site.RECORD", path)
    return path


def test_a_link_of_ours_that_leads_nowhere_is_renewed(
    site: Site, step: Step, tmp_path: Path, changes: Path
) -> None:
    link = tmp_path / "littlest-binder"
    link.symlink_to("/gone/littlest-binder/venv/bin/littlest-binder")
    project.ensure_command(site, step, link)
    assert os.readlink(link) == str(site.venv / "bin" / "littlest-binder")


def test_what_is_not_ours_is_never_replaced(site: Site, step: Step, tmp_path: Path, changes: Path) -> None:
    file, foreign, other = tmp_path / "file", tmp_path / "foreign", tmp_path / "other"
    file.write_text("somebody's program")
    foreign.symlink_to("/bin/true")
    theirs = tmp_path / "bob" / "littlest-binder" / "venv" / "bin" / "littlest-binder"
    theirs.parent.mkdir(parents=True)
    theirs.write_text("")
    other.symlink_to(theirs)
    for link in (file, foreign, other):
        said = project.ensure_command(site, step, link)
        assert "stays" in said
        assert str(site.venv / "bin" / "littlest-binder") in said
    assert file.read_text() == "somebody's program"
    assert os.readlink(foreign) == "/bin/true"
    assert os.readlink(other) == str(theirs)
    assert not changes.exists()


@pytest.mark.parametrize("damage", ["", "{", "[1]", "null"])
def test_a_damaged_stamp_counts_as_none(tmp_path: Path, damage: str) -> None:
    (tmp_path / "littlest-binder.json").write_text(damage)
    assert project.read_stamp(tmp_path) == {}


def test_a_stamp_is_read_as_it_was_written(tmp_path: Path) -> None:
    assert project.read_stamp(tmp_path) == {}
    project.write_stamp(tmp_path, {"python": "3.11"})
    assert project.read_stamp(tmp_path) == {"python": "3.11"}


def test_the_proxys_launcher_becomes_the_proxy() -> None:
    text = proxy.launcher_text(Path("/home/ada lovelace/node"))
    assert 'exec "/home/ada lovelace/node/' in text
    assert text.rstrip().endswith('"$@"')
