"""Running other programs, and for whom."""

from __future__ import annotations

import contextlib
import errno
import io
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from steps import command
from steps.command import Stopped, ask_docker, requests, run
from steps.console import Console, Step, StepFailed
from steps.person import CA_BUNDLE, Person, environment, the_person
from steps.running import stoppable

ENV = {"PATH": "/usr/bin:/bin"}
INSTALLER = Path(__file__).resolve().parents[2] / "installer"


def gone(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "Z"
    except OSError:
        return True


def wait_until_gone(pid: int) -> None:
    deadline = time.monotonic() + 120
    while not gone(pid):
        assert time.monotonic() < deadline, f"process {pid} is still there: {told_of(pid)}"
        time.sleep(0.05)


def told_of(pid: int) -> str:
    """What Linux tells of a process."""
    folder = Path(f"/proc/{pid}")
    with contextlib.suppress(OSError):
        return f"{(folder / 'cmdline').read_bytes()!r}\n{(folder / 'status').read_text()}"
    return "it went just now"


def test_every_line_is_returned_and_logged(step: Step, console: Console) -> None:
    log = io.StringIO()
    log.name = "log"  # type: ignore[misc]
    console.write_log_to(log)
    lines = run(step, ["sh", "-c", "echo one; printf 'two\\rthree' >&2"], env=ENV, next_step="")
    assert lines == ["one", "two", "three"]
    assert "$ sh -c" in log.getvalue()
    assert "  three" in log.getvalue()


def test_a_failure_names_the_command_its_last_lines_and_the_next_step(step: Step) -> None:
    with pytest.raises(StepFailed) as caught:
        run(step, ["sh", "-c", "seq 100; exit 3"], env=ENV, next_step="Do this.")
    assert "exit code 3" in caught.value.what
    assert caught.value.tried == "sh -c 'seq 100; exit 3'"
    assert caught.value.tail[-1] == "100"
    assert len(caught.value.tail) < 20
    assert caught.value.next_step == "Do this."


def test_a_docker_that_does_not_answer_is_not_waited_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "docker").write_text("#!/bin/sh\nexec sleep 60\n")
    (tmp_path / "docker").chmod(0o755)
    monkeypatch.setattr(command, "_DOCKER_S", 0.2)
    with pytest.raises(StepFailed, match="Docker did not answer") as caught:
        ask_docker("buildx", "version", env={"PATH": f"{tmp_path}:/usr/bin:/bin"})
    assert caught.value.tried == "docker buildx version"
    assert "docker info" in caught.value.next_step


def test_a_program_that_is_not_there_is_an_error_like_any_other(step: Step) -> None:
    with pytest.raises(StepFailed, match="could not be started"):
        run(step, ["/no/such/program"], env=ENV, next_step="Install it.")


def test_a_program_that_takes_too_long_is_ended_with_its_children(step: Step, tmp_path: Path) -> None:
    note = tmp_path / "pid"
    script = f"sleep 600 & echo $! >{note}.new; mv {note}.new {note}; wait"
    for timeout_s in (0.5, 5, 60):  # on a busy machine it may have had no time to begin
        with pytest.raises(StepFailed, match="did not finish"):
            run(step, ["sh", "-c", script], env=ENV, next_step="", timeout_s=timeout_s)
        if note.exists():
            break
    wait_until_gone(int(note.read_text()))


def test_a_request_to_end_reaches_the_program_and_its_children(step: Step, tmp_path: Path) -> None:
    note = tmp_path / "pid"
    script = f"sleep 600 & echo $! >{note}; kill -TERM $PPID; wait"
    with pytest.raises(Stopped), stoppable():
        run(step, ["sh", "-c", script], env=ENV, next_step="")
    wait_until_gone(int(note.read_text()))


def test_what_a_program_leaves_that_ends_just_then_is_ended_too(tmp_path: Path) -> None:
    note = tmp_path / "pid"
    script = f"sleep 600 & echo $! >{note}"
    program = subprocess.Popen(["sh", "-c", script], env=ENV, start_new_session=True)
    os.waitid(os.P_PID, program.pid, os.WEXITED | os.WNOWAIT)
    command.end(program)
    wait_until_gone(int(note.read_text()))


@pytest.mark.parametrize("outlives", [False, True])
def test_only_what_must_not_stop_half_way_outlives_a_killed_installer(tmp_path: Path, outlives: bool) -> None:
    pid, done = tmp_path / "pid", tmp_path / "done"
    rest_s = 1.5 if outlives else 600  # which is cut short
    child = f"echo $$ >{pid}.new; mv {pid}.new {pid}; sleep {rest_s}; echo out; touch {done}"
    code = (
        "from steps.console import Console; from steps.command import run\n"
        f"run(Console(total=1).start('s'), ['sh', '-c', {child!r}], env={ENV!r}, next_step='',"
        f" outlives_us={outlives})"
    )
    installer = subprocess.Popen(
        [sys.executable, "-c", code], cwd=INSTALLER, stdout=subprocess.DEVNULL, start_new_session=True
    )
    while not pid.exists():
        assert installer.poll() is None
        time.sleep(0.01)
    installer.kill()
    installer.wait()
    wait_until_gone(int(pid.read_text()))
    assert done.exists() is outlives


@pytest.mark.skipif(os.geteuid() != 0, reason="becoming somebody else needs root rights")
def test_a_program_of_the_person_runs_with_their_rights_alone(step: Step, somebody: Person) -> None:
    lines = run(step, ["sh", "-c", "id -u; id -G"], env=ENV, next_step="", person=somebody)
    assert lines == [str(somebody.uid), " ".join(map(str, somebody.groups))]


@pytest.mark.skipif(os.geteuid() != 0, reason="becoming somebody else needs root rights")
def test_files_are_touched_with_the_persons_rights(somebody: Person, tmp_path: Path) -> None:
    secret = tmp_path / "secret"
    secret.write_text("x")
    secret.chmod(0o600)
    tmp_path.chmod(0o711)
    with somebody.acting(), pytest.raises(PermissionError):
        secret.read_text()
    assert secret.read_text() == "x"
    assert os.geteuid() == 0


def test_the_person_is_the_one_behind_sudo() -> None:
    assert the_person({"SUDO_USER": "nobody"}).name == (
        "nobody" if os.geteuid() == 0 else the_person({}).name
    )
    assert the_person({}).uid == os.geteuid()
    assert the_person({"SUDO_USER": "no-such-account"}).uid == os.geteuid()


def test_the_state_folder_follows_xdg(somebody: Person) -> None:
    assert somebody.state_dir({}) == somebody.home / ".local/share/littlest-binder"
    assert somebody.state_dir({"XDG_DATA_HOME": "/data"}) == Path("/data/littlest-binder")
    assert somebody.state_dir({"XDG_DATA_HOME": "relative"}) == somebody.home / ".local/share/littlest-binder"


def test_an_institutions_proxy_and_authority_reach_the_person_and_nothing_else_does(somebody: Person) -> None:
    given = {
        "https_proxy": "http://proxy:3128",
        "NO_PROXY": "localhost",
        "PIP_INDEX_URL": "https://index.example/simple",
        "npm_config_registry": "https://npm.example",
        "SSL_CERT_FILE": "/etc/own.pem",
        "AWS_SECRET_ACCESS_KEY": "secret",
        "HOME": "/root",
        "LD_PRELOAD": "/tmp/x.so",
        "PYTHONPATH": "/tmp",
        "DOCKER_HOST": "tcp://far",
    }
    env = environment(given, somebody, path="/usr/bin", ca_bundle=CA_BUNDLE)
    for name in ("https_proxy", "NO_PROXY", "PIP_INDEX_URL", "npm_config_registry", "SSL_CERT_FILE"):
        assert env[name] == given[name]
    assert env["PIP_CERT"] == env["NODE_EXTRA_CA_CERTS"] == str(CA_BUNDLE)
    assert env["HOME"] == str(somebody.home)
    assert env["USER"] == somebody.name
    assert not {"AWS_SECRET_ACCESS_KEY", "LD_PRELOAD", "PYTHONPATH", "DOCKER_HOST"} & env.keys()


def test_without_a_terminal_each_step_is_one_plain_line(console: Console, screen: io.StringIO) -> None:
    console.do("Look", lambda step: "found it")
    (line,) = screen.getvalue().splitlines()
    assert line.startswith("[1/1] Look")
    assert line.endswith("found it")
    assert "\x1b" not in line


def test_what_the_system_refuses_is_explained_like_any_other_failure(console: Console) -> None:
    def full(step: Step) -> str:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), "/var/lib/x")

    with pytest.raises(StepFailed, match="No space left on device: /var/lib/x"):
        console.do("Write", full)


def test_a_terminal_that_was_closed_stops_nothing() -> None:
    reader, writer = os.pipe()
    os.close(reader)
    with os.fdopen(writer, "w") as closed:
        done: list[str] = []
        Console(total=1, stream=closed).do("Look", lambda step: done.append("it") or "done")
        assert done == ["it"]
        with contextlib.suppress(OSError):
            closed.close()


def test_letters_that_the_terminal_does_not_know_stop_nothing() -> None:
    raw = io.BytesIO()
    console = Console(total=1, stream=io.TextIOWrapper(raw, encoding="ascii"))
    console.do("Look", lambda step: "naïve")
    assert b"na?ve" in raw.getvalue()


def test_a_request_to_end_that_python_dropped_is_found(step: Step, tmp_path: Path) -> None:
    note = tmp_path / "pid"
    with stoppable():
        requests.append(signal.SIGTERM)  # what is left of a signal whose exception a finalizer swallowed
        with pytest.raises(Stopped):
            run(step, ["sh", "-c", f"echo $$ >{note}; sleep 600"], env=ENV, next_step="")
    assert requests == []
    if note.exists():
        wait_until_gone(int(note.read_text()))


def test_a_program_goes_on_while_we_do_other_things(step: Step, tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "fifo")
    program = command.Program(
        step, ["sh", "-c", "echo one; read x <fifo; echo two"], env=ENV, next_step="", cwd=str(tmp_path)
    )
    program.let_signals_through()
    assert run(step, ["echo", "meanwhile"], env=ENV, next_step="") == ["meanwhile"]
    (tmp_path / "fifo").write_text("go\n")
    assert program.finish(step) == ["one", "two"]


def test_a_program_that_failed_meanwhile_is_told_when_it_is_waited_for(step: Step) -> None:
    program = command.Program(step, ["sh", "-c", "echo broken; exit 4"], env=ENV, next_step="Do this.")
    with pytest.raises(StepFailed) as caught:
        program.finish(step)
    assert "exit code 4" in caught.value.what
    assert caught.value.tail == ("broken",)
    assert caught.value.next_step == "Do this."


def test_a_program_that_nobody_needs_any_more_is_ended(step: Step, tmp_path: Path) -> None:
    program = command.Program(
        step, ["sh", "-c", "sleep 600 & echo $! >pid; wait"], env=ENV, next_step="", cwd=str(tmp_path)
    )
    while not (tmp_path / "pid").exists() or not (tmp_path / "pid").read_text().strip():
        time.sleep(0.02)
    program.close()
    wait_until_gone(int((tmp_path / "pid").read_text()))
    assert not signal.pthread_sigmask(signal.SIG_BLOCK, []) & set(command.ENDING)


def test_who_has_ended_and_is_not_buried_does_not_run() -> None:
    process = subprocess.Popen(["true"])
    os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOWAIT)
    assert Path(f"/proc/{process.pid}").exists()
    assert not command.alive(process.pid)
    process.wait()
    assert not command.alive(process.pid)
    assert command.alive(os.getpid())
