"""The walls of the house: what each process may load. See docs/explanation/architecture.md."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parents[2] / "tljh_plugin"

HUB_MODULES = ("hub", "hooks", "hub_api", "desktop", "launch.spawner", "launch.form", "launch.gateway")
NEVER_IN_HUB = ("store", "build", "service", "projects", "cache", "operation", "cli")

# What a stage may import from the package, besides the small root modules.
VALUES = {
    "accounts", "amounts", "errors", "installation", "labels", "log_lines", "metrics", "moments",
    "plain_http", "request_ids", "settings", "time_limit", "wire", "yaml_places",
}  # fmt: skip
MAY_IMPORT = {
    "source": {"access"},
    "engine": set(),
    "access": set(),
    "store": set(),
    "build": {"source", "engine", "store", "access", "cache"},
    "cache": {"source", "engine", "store", "access", "build"},
    "projects": {"engine", "store", "source"},
    "launch": {"source", "engine", "access", "client", "hub_api"},
    "operation": {
        *("source", "engine", "store", "build", "cache", "projects", "launch"),
        *("access", "client", "hub_api", "desktop", "handover", "tables"),
    },
}


def loaded_by(module: str) -> set[str]:
    """The package's modules that a fresh interpreter has loaded after importing `module`."""
    code = (
        f"import sys, tljh_plugin.{module}; print(*[m for m in sys.modules if m.startswith('tljh_plugin.')])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    return {name.removeprefix("tljh_plugin.") for name in done.stdout.split()}


@pytest.mark.parametrize("module", HUB_MODULES)
def test_the_hub_process_never_loads_the_service_side(module: str) -> None:
    strangers = {m for m in loaded_by(module) if m.split(".")[0] in NEVER_IN_HUB}
    assert not strangers, f"{module} loads {sorted(strangers)}"


def imports_of(path: Path) -> set[str]:
    """First parts, below the package, of what a file imports from the package (`source`, `errors`, …)."""
    found: set[str] = set()
    here = path.relative_to(PACKAGE).parent.parts
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.ImportFrom) and node.level:
            base = list(here[: len(here) - (node.level - 1)])
            names = [*base, *(node.module or "").split(".")] if node.module else base
            targets = [names] if node.module else [[*base, alias.name] for alias in node.names]
            found |= {target[0] for target in targets if target and target[0]}
        elif isinstance(node, ast.ImportFrom) and (node.module or "").startswith("tljh_plugin."):
            found.add(str(node.module).split(".")[1])
        elif isinstance(node, ast.Import):
            found |= {a.name.split(".")[1] for a in node.names if a.name.startswith("tljh_plugin.")}
    return found


@pytest.mark.parametrize("stage", sorted(MAY_IMPORT))
def test_no_stage_reaches_back(stage: str) -> None:
    allowed = MAY_IMPORT[stage] | VALUES | {stage}
    for path in (PACKAGE / stage).rglob("*.py"):
        strangers = imports_of(path) - allowed - {"__version__"}
        assert not strangers, f"{path.relative_to(PACKAGE)} imports {sorted(strangers)}"


def test_only_the_worker_imports_repo2docker() -> None:
    users = {
        str(path.relative_to(PACKAGE))
        for path in PACKAGE.rglob("*.py")
        if any(
            (isinstance(node, ast.ImportFrom) and (node.module or "").split(".")[0] == "repo2docker")
            or (
                isinstance(node, ast.Import)
                and any(a.name.split(".")[0] == "repo2docker" for a in node.names)
            )
            for node in ast.walk(ast.parse(path.read_text()))
        )
    }
    assert all(user == "build/worker.py" or user.startswith("build/recipe/") for user in users), users


@pytest.mark.parametrize("folder", [p for p in sorted(PACKAGE.rglob("*")) if (p / "__init__.py").exists()])
def test_every_folder_says_what_happens_in_it(folder: Path) -> None:
    text = ast.get_docstring(ast.parse((folder / "__init__.py").read_text()))
    assert text, f"{folder.relative_to(PACKAGE)} has no docstring"
