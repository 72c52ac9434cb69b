"""Lists the packages of the environment in which it runs: Python's, conda's and Debian's.

Runs inside an image while that is checked, with the image's own Python, so it is the image's own word.
Standard library only. Prints one line of JSON, `{"packages": [["python", "numpy", "2.3.1"], …]}`.
"""

from __future__ import annotations

import glob
import json
import os
import sys
from collections.abc import Iterable, Iterator
from importlib import metadata

MOST = 5000
DPKG_STATUS = "/var/lib/dpkg/status"

Found = tuple[str, str, str]


def prefixes() -> list[str]:
    """Where environments are: this one, and those that repo2docker names."""
    named = (
        sys.prefix,
        *(os.environ.get(f"{name}_PREFIX", "") for name in ("NB_PYTHON", "KERNEL_PYTHON", "CONDA")),
    )
    return list(dict.fromkeys(os.path.realpath(each) for each in named if each))


def python(places: Iterable[str]) -> Iterator[Found]:
    """Installed distributions on this Python's path and in the environments."""
    found = [place for each in places for place in glob.glob(each + "/lib/python3*/site-packages")]
    for each in metadata.distributions(path=list(dict.fromkeys([*sys.path, *found]))):
        name = each.metadata["Name"]
        if name:
            yield "python", str(name), str(each.version)


def conda(places: Iterable[str]) -> Iterator[Found]:
    """From the names of conda's records, `numpy-2.3.1-py313h1.json`."""
    for each in places:
        for path in sorted(glob.glob(each + "/conda-meta/*.json")):
            parts = os.path.basename(path)[: -len(".json")].rsplit("-", 2)
            if len(parts) == 3:
                yield "conda", parts[0], parts[1]


def debian(status: str = DPKG_STATUS) -> Iterator[Found]:
    """What dpkg has installed."""
    try:
        with open(status, encoding="utf-8", errors="replace") as file:
            paragraphs = file.read().split("\n\n")
    except OSError:
        return
    for paragraph in paragraphs:
        fields = dict(
            line.split(": ", 1)
            for line in paragraph.splitlines()
            if ": " in line and not line.startswith(" ")
        )
        if fields.get("Status", "").endswith(" installed") and "Package" in fields:
            yield "debian", fields["Package"], fields.get("Version", "")


def main() -> None:
    places = prefixes()
    found: dict[Found, None] = {}
    for kind in (python(places), conda(places), debian()):
        try:
            for each in kind:
                found[each] = None
        except Exception:  # noqa: S112 - a broken record of one kind hides none of the others
            continue
    print(json.dumps({"packages": sorted(found)[:MOST]}), flush=True)


if __name__ == "__main__":
    main()
