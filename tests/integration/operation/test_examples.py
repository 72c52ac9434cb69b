from __future__ import annotations

from pathlib import Path

import pytest
from git_server import git

from tljh_plugin.installation import ensure_state
from tljh_plugin.operation import examples
from tljh_plugin.settings import Settings, load_desktop
from tljh_plugin.source.resolve import Resolver
from tljh_plugin.source.spec import RepoSpec


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    made = load_desktop(tmp_path / "state")
    ensure_state(made)
    return made


async def test_equal_files_give_equal_commits(settings: Settings, tmp_path: Path) -> None:
    other = load_desktop(tmp_path / "other")
    ensure_state(other)
    assert await examples.ensure_examples(settings) == examples.NAMES
    assert await examples.ensure_examples(other) == examples.NAMES
    assert await examples.ensure_examples(settings) == ()
    for name in examples.NAMES:
        heads = {
            git(each.examples_dir / name, "-c", "safe.directory=*", "rev-parse", "main")
            for each in (settings, other)
        }
        assert len(heads) == 1


async def test_they_are_found_below_a_private_home(tmp_path: Path) -> None:
    home = tmp_path / "private"
    home.mkdir(mode=0o700)
    settings = load_desktop(home / "state")
    ensure_state(settings)
    await examples.ensure_examples(settings)
    spec = RepoSpec("local", str(settings.examples_dir / "example"))
    pinned = await Resolver(settings).resolve(spec)
    assert len(pinned.commit) == 40


async def test_a_new_version_adds_a_commit(
    settings: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    await examples.ensure_examples(settings)
    package = tmp_path / "package"
    for name in examples.NAMES:
        (package / "examples" / name).mkdir(parents=True)
        (package / "examples" / name / "README.md").write_text("new\n")
    monkeypatch.setattr(examples, "files", lambda _: package)
    assert await examples.ensure_examples(settings) == examples.NAMES
    log = git(settings.examples_dir / "example", "-c", "safe.directory=*", "rev-list", "main")
    assert len(log.splitlines()) == 2


async def test_an_interrupted_attempt_is_made_good(settings: Settings) -> None:
    (settings.examples_dir / "example" / "objects").mkdir(parents=True)
    assert await examples.ensure_examples(settings) == examples.NAMES
    assert await examples.ensure_examples(settings) == ()
