"""A server that keeps nothing says so where everybody sees it."""

from __future__ import annotations

from tljh_plugin.launch.ephemeral import NOTICE, environment, notice
from tljh_plugin.wire import Prepared


def prepared(project_path: str = "") -> Prepared:
    return Prepared(
        image_id="sha256:1",
        image_name="n",
        home="/home/jovyan",
        workdir="/home/jovyan/work",
        project_path=project_path,
    )


def test_a_file_at_the_top_says_that_nothing_is_kept() -> None:
    [(path, text)] = notice(prepared()).items()
    assert path == f"/home/jovyan/work/{NOTICE}"
    assert text.startswith("This server keeps nothing.")
    assert environment(prepared()) == {"LITTLEST_BINDER_STORAGE": "ephemeral"}


def test_where_files_are_kept_nothing_is_put_among_them() -> None:
    kept = prepared("/data/projects/ann-1/p-1/home")
    assert notice(kept) == {}
    assert environment(kept) == {"LITTLEST_BINDER_STORAGE": "project"}
