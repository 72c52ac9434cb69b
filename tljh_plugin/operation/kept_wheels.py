"""An installed distribution as a wheel again, so that what an upgrade replaces can be put back without a
network.

Comes in: a distribution as `importlib.metadata` finds it. Goes out: a file that pip installs. See the
"Binary distribution format" of the Python Packaging User Guide.
"""

from __future__ import annotations

import base64
import csv
import hashlib
import io
import zipfile
from importlib.metadata import Distribution, PackageNotFoundError, distribution
from pathlib import Path

# What the installer added, and what it will add again.
_OF_THE_INSTALLER = ("INSTALLER", "REQUESTED", "direct_url.json", "RECORD")


def keep(name: str, folder: Path) -> Path | None:
    """The wheel of an installed distribution in `folder`; None if it is not installed, or not from files.

    Raises `OSError` if a file that it lists is gone.
    """
    try:
        found = distribution(name)
    except PackageNotFoundError:
        return None
    return write(found, folder)


def write(found: Distribution, folder: Path) -> Path | None:
    """As `keep`, of a distribution."""
    files = found.files
    wheel_facts = found.read_text("WHEEL")
    if files is None or wheel_facts is None:
        return None
    tag = next(line.partition(":")[2].strip() for line in wheel_facts.splitlines() if line.startswith("Tag:"))
    name = found.metadata["Name"].replace("-", "_")
    target = folder / f"{name}-{found.version}-{tag}.whl"
    dist_info = next(str(each.parent) for each in files if each.name == "METADATA")
    record = io.StringIO()
    lines = csv.writer(record, lineterminator="\n")
    with zipfile.ZipFile(target, "w", zipfile.ZIP_DEFLATED, compresslevel=1) as archive:
        for each in sorted(files, key=str):
            place = str(each)
            # Commands outside of the package folder are made anew from its entry points.
            if place.startswith("..") or "__pycache__" in each.parts or Path(place).is_absolute():
                continue
            if str(each.parent) == dist_info and each.name in _OF_THE_INSTALLER:
                continue
            data = Path(str(found.locate_file(each))).read_bytes()
            archive.writestr(place, data)
            digest = base64.urlsafe_b64encode(hashlib.sha256(data).digest()).rstrip(b"=").decode()
            lines.writerow([place, f"sha256={digest}", len(data)])
        lines.writerow([f"{dist_info}/RECORD", "", ""])
        archive.writestr(f"{dist_info}/RECORD", record.getvalue())
    return target
