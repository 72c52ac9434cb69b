"""Each file, label and metric that the code knows is in the reference."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

from tljh_plugin import labels

ROOT = Path(__file__).parents[2]
PACKAGE = ROOT / "tljh_plugin"
REFERENCE = ROOT / "docs" / "reference"
# Folders of the state folder whose contents have names of their own in the reference.
WITHIN = {"run_dir": "run/", "log_dir": "logs/"}


def trees() -> Iterator[tuple[Path, ast.Module]]:
    for path in PACKAGE.rglob("*.py"):
        yield path, ast.parse(path.read_text(encoding="utf-8"))


def constants(tree: ast.Module) -> dict[str, str]:
    """Names of texts that a module sets."""
    return {
        target.id: node.value.value
        for node in tree.body
        if isinstance(node, ast.Assign) and isinstance(node.value, ast.Constant)
        for target in node.targets
        if isinstance(target, ast.Name) and isinstance(node.value.value, str)
    }


def places() -> set[str]:
    """What the code puts below `state_dir`, `run_dir` and `log_dir`, relative to the state folder."""
    found = set()
    for _, tree in trees():
        known = constants(tree)
        for node in ast.walk(tree):
            if not (isinstance(node, ast.BinOp) and isinstance(node.op, ast.Div)):
                continue
            left = node.left.attr if isinstance(node.left, ast.Attribute) else getattr(node.left, "id", "")
            name = node.right.value if isinstance(node.right, ast.Constant) else None
            if isinstance(node.right, ast.Name):
                name = known.get(node.right.id)
            if left in ("state_dir", "run_dir", "log_dir") and isinstance(name, str):
                found.add(WITHIN.get(left, "") + name)
    return found


def test_each_place_of_the_state_folder_is_documented() -> None:
    text = (REFERENCE / "files.md").read_text(encoding="utf-8")
    known = places()
    assert {"instance", "store.sqlite", "endings", "run/service.sock", "run/up.lock", "storage.json"} <= known
    documented = set(re.findall(r"`([\w./-]+?)/?`", text))
    missing = {
        each for each in known if each not in documented and each.removeprefix("logs/") not in documented
    }
    assert missing == set()


def test_each_label_is_documented_and_none_is_made_elsewhere() -> None:
    text = (REFERENCE / "labels.md").read_text(encoding="utf-8")
    known = {value for name, value in vars(labels).items() if name.endswith("_LABEL")}
    assert len(known) > 20
    assert known == set(re.findall(r"`(org\.littlest-binder\.[a-z-]+)`", text))
    for path, tree in trees():
        joined = [node for node in ast.walk(tree) if isinstance(node, ast.BinOp | ast.JoinedStr)]
        made = [node for node in joined if "LABEL_PREFIX" in ast.unparse(node) and path.name != "labels.py"]
        assert all(isinstance(node, ast.JoinedStr) and " " in ast.unparse(node) for node in made), path


def test_what_is_measured_is_named_in_the_how_to_as_it_is() -> None:
    """An alert on a name that does not exist never rings."""
    text = (ROOT / "docs" / "how-to" / "monitor.md").read_text(encoding="utf-8")
    reference = (REFERENCE / "metrics.md").read_text(encoding="utf-8")
    known = set(re.findall(r"`(littlest_binder_\w+)`", reference))
    for name in set(re.findall(r"littlest_binder_\w+", text)):
        assert name in known or re.sub(r"_(count|sum|bucket)$", "", name) in known, name
    for label, value in re.findall(r'(\w+)="(\w+)"\}', text):
        assert re.search(rf"`{label}`: [^|;]*\b{value}\b", reference), (label, value)
