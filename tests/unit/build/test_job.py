"""What crosses between queue and worker."""

from __future__ import annotations

import pytest
from pydantic import ValidationError

from tljh_plugin.build.job import LogEvent, PhaseEvent, ResultEvent, WorkerJob, parse_event

JOB = {
    "checkout": "/srv/checkout",
    "image_name": "littlest-binder/x:y",
    "uid": 1000,
    "gid": 1000,
    "base_image": "littlest-binder/base:0123456789ab",
    "cache_namespace": "0123456789abcdef",
}


def test_a_job_crosses_unchanged() -> None:
    job = WorkerJob.model_validate({**JOB, "subdir": "a/b/", "secret_env": {"TOKEN": "geheim"}})
    assert job.subdir == "a/b"
    assert WorkerJob.model_validate_json(job.model_dump_json()) == job
    assert "geheim" not in repr(job)


@pytest.mark.parametrize("subdir", ["..", "a/../..", "/etc", "a//b", "./a", "a/."])
def test_a_folder_outside_of_the_checkout_is_refused(subdir: str) -> None:
    with pytest.raises(ValidationError, match="inside the repository"):
        WorkerJob.model_validate({**JOB, "subdir": subdir})


@pytest.mark.parametrize(
    "bad",
    [
        {"uid": 0},
        {"gid": 0},
        {"cache_namespace": "x,id=y"},
        {"cache_namespace": "short"},
        {"user_name": "a b"},
    ],
)
def test_nonsense_is_refused(bad: dict[str, object]) -> None:
    with pytest.raises(ValidationError):
        WorkerJob.model_validate({**JOB, **bad})


@pytest.mark.parametrize(
    "event",
    [
        LogEvent(text="häh\n"),
        PhaseEvent(progress=7),
        ResultEvent(ok=True, image_id="sha256:0", pack="FastPython"),
    ],
)
def test_events_are_one_line_and_read_back(event: LogEvent | PhaseEvent | ResultEvent) -> None:
    line = event.model_dump_json()
    assert "\n" not in line
    assert parse_event(line) == event


@pytest.mark.parametrize("line", ["", "{}", "[]", '{"event":"other"}', "Traceback (most recent call last):"])
def test_other_lines_are_no_events(line: str) -> None:
    with pytest.raises(ValueError, match=r"validation error"):
        parse_event(line)
