"""Lets TLJH's own installer take Miniforge from a file instead of from GitHub; see `steps/offline.py`.

TLJH has no option for that. Python reads this file at its start because its folder is on PYTHONPATH; it does
something in the process of TLJH's installer only, and there replaces one function.
"""

import contextlib
import importlib
import os
import sys


def _use_file(path: str) -> None:
    conda = importlib.import_module("tljh.conda")

    @contextlib.contextmanager
    def from_file(installer_url, sha256sum):  # type: ignore[no-untyped-def]
        found = conda.sha256_file(path)
        if found != sha256sum:
            print(f"{path} is not the file that TLJH names ({installer_url}); used as it was given.")
        yield path

    setattr(conda, "download_miniconda_installer", from_file)  # noqa: B010 - a module that types do not know


if sys.orig_argv[1:3] == ["-m", "tljh.installer"] and os.environ.get("LITTLEST_BINDER_MINIFORGE"):
    _use_file(os.environ["LITTLEST_BINDER_MINIFORGE"])
