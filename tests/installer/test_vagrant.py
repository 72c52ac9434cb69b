"""The virtual machine's description: read by Vagrant itself and by ruby, and its script by shellcheck.

The test run installs ruby and shellcheck, which are small, and not Vagrant, which is not: its tests run where
it is installed, and are else skipped with the way to get it. What can be looked at without it is, everywhere.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from ruamel.yaml import YAML

from tljh_plugin.settings import from_mapping

FOLDER = Path(__file__).resolve().parents[2] / "vagrant"
PAGE = FOLDER.parent / "docs" / "how-to" / "try-in-vagrant.md"
SCRIPT = FOLDER / "provision.sh"


def needs(program: str, package: str) -> pytest.MarkDecorator:
    return pytest.mark.skipif(
        not shutil.which(program),
        reason=f"not run here: no {program}; `apt-get install --no-install-recommends {package}` brings it",
    )


def vagrant(tmp_path: Path, **variables: str) -> subprocess.CompletedProcess[str]:
    """`vagrant validate` without a provider: nothing is downloaded and no machine is made."""
    environment = {
        **os.environ, "HOME": str(tmp_path), "VAGRANT_HOME": str(tmp_path / "vagrant"),
        "VAGRANT_DOTFILE_PATH": str(tmp_path / "machine"), "VAGRANT_CHECKPOINT_DISABLE": "1", **variables,
    }  # fmt: skip
    return subprocess.run(
        ["vagrant", "validate", "--ignore-provider"],
        cwd=FOLDER, env=environment, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False,
    )  # fmt: skip


@needs("vagrant", "vagrant")
@pytest.mark.parametrize(
    "variables",
    [
        {},
        {"BINDER_BOX": "debian12"},
        {"BINDER_BOX": "", "BINDER_MEMORY": "8192", "BINDER_CPUS": "4", "BINDER_PORT": "9000"},
    ],
)
def test_vagrant_finds_it_valid(variables: dict[str, str], tmp_path: Path) -> None:
    done = vagrant(tmp_path, **variables)
    assert done.returncode == 0, done.stdout + done.stderr


@needs("vagrant", "vagrant")
@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("BINDER_BOX", "windows"),
        ("BINDER_ADMIN", "Robert'); --"),
        ("BINDER_MEMORY", "100"),
        ("BINDER_CPUS", "many"),
        ("BINDER_PORT", "80"),
        ("BINDER_DATA", "/no/such/folder"),
        ("BINDER_OFFLINE", "/no/such/folder"),
    ],
)
def test_a_wrong_variable_is_named_with_its_value(name: str, value: str, tmp_path: Path) -> None:
    done = vagrant(tmp_path, **{name: value})
    assert done.returncode != 0
    assert name in done.stderr
    assert value in done.stderr.replace('\\"', '"')


@needs("ruby", "ruby")
def test_ruby_can_read_it() -> None:
    shown = subprocess.run(
        ["ruby", "-wc", FOLDER / "Vagrantfile"], capture_output=True, text=True, check=False
    )
    assert (shown.returncode, shown.stdout.strip(), shown.stderr) == (0, "Syntax OK", "")


@needs("shellcheck", "shellcheck")
def test_shellcheck_finds_nothing_in_the_script() -> None:
    shown = subprocess.run(["shellcheck", SCRIPT], capture_output=True, text=True, check=False)
    assert (shown.returncode, shown.stdout) == (0, "")


def test_every_forwarded_port_is_on_loopback_only() -> None:
    text = (FOLDER / "Vagrantfile").read_text()
    ports = re.findall(r'"forwarded_port",(.*?)auto_correct', text, re.S)
    assert ports
    assert all('host_ip: "127.0.0.1"' in each for each in ports)
    assert "public_network" not in text


def test_every_variable_is_on_its_page() -> None:
    names = set(re.findall(r"BINDER_[A-Z]+", (FOLDER / "Vagrantfile").read_text()))
    assert names == set(re.findall(r"BINDER_[A-Z]+", PAGE.read_text()))


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        ([], "usage"),
        (["admin", "/nonexistent"], "no installer/bootstrap.py"),
        (["admin", str(FOLDER.parent), "/no/such/data"], "there is no folder /no/such/data"),
        (["admin", str(FOLDER.parent), "", "/no/such/stick"], "there is no folder /no/such/stick"),
        (["a", "b", "c", "d", "e"], "usage"),
    ],
)
def test_the_script_says_what_it_was_given_wrongly(arguments: list[str], says: str) -> None:
    done = subprocess.run(["sh", SCRIPT, *arguments], capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert says in done.stderr or "root rights" in done.stderr


def catalogue(tmp_path: Path, times: int = 1) -> Path:
    """TLJH's settings after the script's own Python part has run."""
    (program,) = re.findall(r"<<'PYTHON'\n(.*?)^PYTHON$", SCRIPT.read_text(), re.S | re.M)
    path = tmp_path / "config.yaml"
    for _ in range(times):
        done = subprocess.run(
            [sys.executable, "-", path, "/srv/data"],
            input=program, text=True, capture_output=True, check=False,
        )  # fmt: skip
        assert done.returncode == 0, done.stderr
    return path


@pytest.mark.parametrize(
    "before", [None, "", "# mine\nusers:\n  admin: [admin]\nbinder:\n  mounts:\n  - {id: a, source: /a}\n"]
)
def test_the_example_mount_is_added_once_and_nothing_is_lost(tmp_path: Path, before: str | None) -> None:
    path = tmp_path / "config.yaml"
    if before is not None:
        path.write_text(before)
        path.chmod(0o640)
    catalogue(tmp_path, times=2)
    found = YAML(typ="safe").load(path.read_text())
    settings = from_mapping(found["binder"], platform="tljh", state_dir=tmp_path)
    assert [each.id for each in settings.mounts].count("data") == 1
    assert path.stat().st_mode & 0o777 == (0o600 if before is None else 0o640)
    if before:
        assert path.read_text().startswith("# mine")
        assert found["users"] == {"admin": ["admin"]}
        assert settings.mounts[0].id == "a"
