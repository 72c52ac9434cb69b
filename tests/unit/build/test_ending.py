"""Why an image did not answer: one sentence and a next step for each kind of ending."""

from __future__ import annotations

import pytest

from tljh_plugin.build.ending import Ending, explain, is_the_images_fault
from tljh_plugin.engine import Limits

LIMITS = Limits(1000, 1000, (), 2**31, 1.0, 256, 2**26, 2**20)

TRACEBACK = """\
Traceback (most recent call last):
  File "/srv/venv/bin/jupyterhub-singleuser", line 5, in <module>
    from jupyterhub.singleuser import main
"""


def told(exit_code: int | None, log: str, *, out_of_memory: bool = False) -> tuple[str, str]:
    return explain(Ending(exit_code, log, out_of_memory), LIMITS, 60.0)


@pytest.mark.parametrize(
    "log",
    [
        "[FATAL tini (7)] exec jupyterhub-singleuser failed: No such file or directory",
        "/usr/local/bin/repo2docker-entrypoint: line 24: exec: jupyterhub-singleuser: not found",
        "/bin/bash: line 1: jupyterhub-singleuser: command not found",
        "/bin/sh: 1: exec: jupyterhub-singleuser: not found",
        "env: 'jupyterhub-singleuser': No such file or directory",
        "FileNotFoundError: [Errno 2] No such file or directory: 'jupyterhub-singleuser'",
        'exec: "jupyterhub-singleuser": executable file not found in $PATH',
    ],
)
def test_a_missing_program_is_told_with_what_to_add(log: str) -> None:
    problem, next_step = told(127, f"starting\n{log}\n")
    assert problem == "The image has no `jupyterhub-singleuser`."
    assert "pip install jupyterhub jupyterlab" in next_step


def test_another_missing_file_is_not_taken_for_it() -> None:
    problem, _ = told(1, "jupyterhub-singleuser says:\nNo such file or directory: '/data/x'\n")
    assert "exit code 1" in problem


@pytest.mark.parametrize(
    "line",
    [
        "PermissionError: [Errno 13] Permission denied: '/home/jovyan/.local'",
        "touch: cannot touch '/root/x': Permission denied",
        "mount: Operation not permitted",
        "This must be run as root!",
        "nginx: [emerg] requires root privileges",
    ],
)
def test_an_image_that_wants_root_is_told_so(line: str) -> None:
    problem, next_step = told(1, f"some\n{line}\n")
    assert "root" in problem
    assert line in problem
    assert "1000:1000" in next_step


def test_jupyters_own_advice_about_root_is_not_taken_for_it() -> None:
    problem, _ = told(2, "Running as root is not recommended. Use --allow-root to bypass.\n")
    assert "exit code 2" in problem


@pytest.mark.parametrize("module", ["jupyterlab", "jupyter_server", "tornado", "jupyterhub"])
def test_a_missing_part_of_jupyter_is_named(module: str) -> None:
    problem, next_step = told(1, f"{TRACEBACK}ModuleNotFoundError: No module named '{module}'\n")
    assert f"`{module}`" in problem
    assert "pip install jupyterhub jupyterlab" in next_step


def test_another_missing_module_is_named() -> None:
    problem, next_step = told(1, f"{TRACEBACK}ModuleNotFoundError: No module named 'numpy.core'\n")
    assert "`numpy.core`" in problem
    assert "Add it" in next_step


def test_a_crash_shows_the_last_lines() -> None:
    problem, _ = told(3, "".join(f"line {number}\n\n" for number in range(50)))
    assert "exit code 3" in problem
    assert "line 45 | line 46 | line 47 | line 48 | line 49" in problem
    assert "line 44" not in problem


def test_silence_is_told_with_its_time() -> None:
    problem, next_step = told(None, "")
    assert "within 60 s" in problem
    assert "printed nothing" in problem
    assert "ENTRYPOINT" in next_step


def test_denials_of_a_server_that_runs_on_are_not_the_cause() -> None:
    problem, _ = told(None, "warning: Permission denied: /etc/motd\n")
    assert "did not answer" in problem


def test_who_was_killed_most_likely_wanted_memory_even_if_docker_did_not_notice() -> None:
    problem, next_step = told(137, "")
    assert "most likely it needed more than" in problem
    assert "servers.memory_bytes" in next_step


def test_too_little_memory_is_told_with_the_figure() -> None:
    problem, next_step = told(137, "Killed\n", out_of_memory=True)
    assert "2048 MiB" in problem
    assert "servers.memory_bytes" in next_step


def test_another_architecture_is_told() -> None:
    assert "architecture" in told(255, "exec /usr/bin/tini: exec format error")[0]


def test_colours_and_control_characters_never_reach_a_page() -> None:
    problem, _ = told(1, "\x1b[31mred\x1b[0m \x07bell\x00\n" + "x" * 5000)
    assert "\x1b" not in problem
    assert "red bell" in problem
    assert len(problem) < 1000


@pytest.mark.parametrize(
    ("refusal", "fault"),
    [
        ('OCI runtime create failed: exec: "x": executable file not found in $PATH', True),
        ("mkdir /etc/passwd: not a directory", True),
        ("OCI runtime create failed: no space left on device", False),
        ("Conflict. The container name is in use", False),
        ("network littlest-binder not found", False),
    ],
)
def test_the_image_is_blamed_only_for_what_is_in_it(refusal: str, fault: bool) -> None:
    assert is_the_images_fault(refusal) == fault
