"""Another version comes in, or this one comes back: a real environment, a real pip, no network."""

from __future__ import annotations

import base64
import csv
import hashlib
import io
import os
import subprocess
import sys
import sysconfig
import venv
import zipfile
from importlib.metadata import distribution
from pathlib import Path

import pytest
from installation_on_disk import OnDisk

import tljh_plugin
from tljh_plugin.errors import UpgradeImpossible
from tljh_plugin.operation import environment, upgrade

PACKAGE = Path(tljh_plugin.__file__).parent
BROKEN = "raise RuntimeError('this version does not work')\n"
# A migration that only the new version knows, and then a failure.
MIGRATES_AND_FAILS = """

@migrations()
def m9999_later(db):
    db.conn.execute("CREATE TABLE later (x)")


@migrations()
def m99999_fails(db):
    raise RuntimeError("no room")
"""


def wheel(folder: Path, version: str, **changed: str) -> Path:
    """The package as it is here with another version, and text added to files (their names with `__`)."""
    target = folder / f"the_littlest_binder-{version}-py3-none-any.whl"
    info = f"the_littlest_binder-{version}.dist-info"
    facts = distribution("the-littlest-binder")
    metadata = (facts.read_text("METADATA") or "").replace(
        f"Version: {facts.version}\n", f"Version: {version}\n"
    )
    files = {
        str(path.relative_to(PACKAGE.parent)): path.read_bytes()
        for path in sorted(PACKAGE.rglob("*"))
        if path.is_file() and "__pycache__" not in path.parts
    }
    for name, text in changed.items():
        files[f"tljh_plugin/{name.replace('__', '/')}.py"] += text.encode()
    init = "tljh_plugin/__init__.py"
    files[init] = files[init].replace(f'"{tljh_plugin.__version__}"'.encode(), f'"{version}"'.encode())
    files[f"{info}/METADATA"] = metadata.encode()
    files[f"{info}/WHEEL"] = (
        b"Wheel-Version: 1.0\nGenerator: test\nRoot-Is-Purelib: true\nTag: py3-none-any\n"
    )
    files[f"{info}/entry_points.txt"] = b"[console_scripts]\nlittlest-binder = tljh_plugin.cli:main\n"
    record = io.StringIO()
    lines = csv.writer(record, lineterminator="\n")
    with zipfile.ZipFile(target, "w") as archive:
        for name, data in files.items():
            archive.writestr(name, data)
            digest = base64.urlsafe_b64encode(hashlib.sha256(data).digest()).rstrip(b"=").decode()
            lines.writerow([name, f"sha256={digest}", len(data)])
        lines.writerow([f"{info}/RECORD", "", ""])
        archive.writestr(f"{info}/RECORD", record.getvalue())
    return target


class Environment:
    """A virtual environment with version 0.90, which sees our dependencies but not our checkout."""

    def __init__(self, folder: Path, state: Path) -> None:
        self.folder, self.state = folder, state
        venv.create(folder, with_pip=True)
        self.python = folder / "bin" / "python"
        packages = Path(sysconfig.get_path("purelib"))
        here = Path(sysconfig.get_path("purelib", vars={"base": str(folder)}))
        seen = folder / "dependencies"
        seen.mkdir()
        for each in packages.iterdir():
            if "littlest_binder" not in each.name and each.name not in ("pip", "__pycache__"):
                (seen / each.name).symlink_to(each)
        (here / "dependencies.pth").write_text(f"{seen}\n")

    def run(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        environment = {**os.environ, "LITTLEST_BINDER_STATE": str(self.state), "PIP_NO_INDEX": "1"}
        environment.pop("PYTHONPATH", None)
        return subprocess.run(
            [self.python, *arguments], env=environment, capture_output=True, text=True, check=False, cwd="/"
        )

    def binder(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        return self.run("-m", "tljh_plugin.cli", *arguments)

    @property
    def version(self) -> str:
        return self.binder("--version").stdout.split()[-1]


@pytest.fixture(scope="module")
def module_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("environment")


@pytest.fixture
def installed(module_folder: Path, place: OnDisk) -> Environment:
    """The same environment for all tests, each with 0.90 anew."""
    folder = module_folder / "venv"
    made = Environment.__new__(Environment)
    if folder.exists():
        made.folder, made.state, made.python = folder, place.state, folder / "bin" / "python"
    else:
        made = Environment(folder, place.state)
    done = made.run(
        "-m", "pip", "install", "--force-reinstall", "--no-deps", str(wheel(module_folder, "0.90"))
    )
    assert done.returncode == 0, done.stderr
    assert made.version == "0.90"
    return made


def test_a_newer_version_is_installed_with_a_backup_before(installed: Environment, tmp_path: Path) -> None:
    done = installed.binder("upgrade", str(wheel(tmp_path, "0.91")), "--yes")
    assert done.returncode == 0, f"{done.stdout}\n{done.stderr}"
    assert "the-littlest-binder: 0.90 → 0.91" in done.stdout
    assert installed.version == "0.91"
    assert len(list((installed.state / "backups").iterdir())) == 1
    assert not (installed.state / upgrade.KEPT).exists()


def test_a_version_that_does_not_start_is_taken_back(installed: Environment, tmp_path: Path) -> None:
    done = installed.binder("upgrade", str(wheel(tmp_path, "0.92", store__schema=BROKEN)), "--yes")
    assert done.returncode == 1
    assert "version 0.90 is back" in done.stderr
    assert "this version does not work" in done.stderr
    assert installed.version == "0.90"
    assert installed.run("-m", "pip", "check").returncode == 0


def test_a_store_that_was_half_migrated_is_put_back(
    installed: Environment, tmp_path: Path, place: OnDisk
) -> None:
    before = place.rows("SELECT * FROM images")
    done = installed.binder(
        "upgrade", str(wheel(tmp_path, "0.93", store__schema=MIGRATES_AND_FAILS)), "--yes"
    )
    assert done.returncode == 1, done.stdout
    assert "version 0.90 is back with its store as it was" in done.stderr
    assert place.rows("SELECT * FROM images") == before
    assert place.rows("SELECT name FROM sqlite_master WHERE name = 'later'") == []
    assert (place.state / "store.sqlite.of-the-failed-upgrade").exists()
    assert installed.binder("backup").returncode == 0


def test_a_dry_run_installs_nothing(installed: Environment, tmp_path: Path) -> None:
    done = installed.binder("upgrade", str(wheel(tmp_path, "0.94")), "--dry-run")
    assert done.returncode == 0, done.stderr
    assert installed.version == "0.90"
    assert not (installed.state / "backups").exists()


def test_a_version_that_pip_cannot_have_changes_nothing(installed: Environment) -> None:
    done = installed.binder("upgrade", "77.0", "--yes")
    assert done.returncode == 1
    assert "pip cannot install the-littlest-binder==77.0" in done.stderr
    assert installed.version == "0.90"


def test_a_file_that_is_not_there_is_said() -> None:
    with pytest.raises(UpgradeImpossible, match=r"no file \./x\.whl"):
        upgrade.wanted_of("./x.whl")


def test_a_development_checkout_is_refused() -> None:
    if "editable" not in (distribution("the-littlest-binder").read_text("direct_url.json") or ""):
        pytest.skip("this is no development checkout")
    with pytest.raises(UpgradeImpossible, match="development checkout"):
        environment.check()


def test_versions_can_be_named_as_people_do() -> None:
    assert upgrade.wanted_of("v0.7.0") == ("the-littlest-binder==0.7.0",)
    assert upgrade.wanted_of("") == ("--upgrade", "the-littlest-binder")
    assert sys.prefix
