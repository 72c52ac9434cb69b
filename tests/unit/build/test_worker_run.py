"""Promises about a worker's process: what is heard, which limits hold, and that nothing outlives it."""

from __future__ import annotations

import asyncio
import fcntl
import itertools
import os
import signal
import sys
import textwrap
import time
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tljh_plugin.build.job import LogEvent, PhaseEvent, WorkerJob
from tljh_plugin.build.processes import MARK, end_group, end_orphan, members, process_facts
from tljh_plugin.build.run import (
    LineSplitter,
    Watch,
    WorkerResult,
    redact,
    run_worker,
    to_its_end,
    worker_environment,
)
from tljh_plugin.errors import BuildTimedOut, DiskLow

JOB = WorkerJob(
    checkout=Path("/nowhere"),
    image_name="littlest-binder/building:b-1",
    uid=1000,
    gid=1000,
    base_image="littlest-binder/base",
    cache_namespace="n" * 8,
    secret_env={"TOKEN": "hunter2-token"},
)


class Run:
    """Runs a few lines of Python in a worker's place and remembers what was heard."""

    def __init__(self, tmp_path: Path, script: str) -> None:
        self.command = (sys.executable, "-u", "-c", textwrap.dedent(script))
        self.tmp_path = tmp_path
        self.events: list[LogEvent | PhaseEvent] = []
        self.pid = 0
        self.start = 0
        self.heard = asyncio.Event()

    async def hear(self, event: LogEvent | PhaseEvent) -> None:
        self.events.append(event)
        self.heard.set()

    async def started(self, pid: int, start: int) -> None:
        self.pid, self.start = pid, start

    async def guard(self) -> None:
        return

    async def __call__(self, *, timeout_s: float = 300, silence_s: float = 300) -> WorkerResult:
        watch = Watch(timeout_s, silence_s, self.started, self.guard, guard_s=0.05)
        return await run_worker(
            JOB,
            self.hear,
            watch,
            mark="b-1",
            temporary=self.tmp_path,
            secrets=["s3cret"],
            command=self.command,
        )

    @property
    def texts(self) -> list[str]:
        return [event.text for event in self.events if isinstance(event, LogEvent)]


async def test_events_and_the_result_are_heard(tmp_path: Path) -> None:
    run = Run(
        tmp_path,
        """
        import json, sys
        job = json.loads(sys.stdin.readline())
        print(json.dumps({"event": "log", "text": "building " + job["image_name"]}))
        print(json.dumps({"event": "phase", "phase": "building", "progress": 40}))
        print(json.dumps({"event": "result", "ok": True, "image_id": "sha256:1", "pack": "p"}))
        """,
    )
    result = await run()
    assert result.ok
    assert result.image_id == "sha256:1"
    assert result.pack == "p"
    assert run.events == [
        LogEvent(text="building littlest-binder/building:b-1"),
        PhaseEvent(progress=40),
    ]


async def test_the_error_of_the_worker_comes_through(tmp_path: Path) -> None:
    run = Run(
        tmp_path,
        """
        import json
        print(json.dumps({"event": "result", "ok": False,
                          "error": {"code": "c", "message": "with s3cret inside", "next": "n"}}))
        """,
    )
    result = await run()
    assert not result.ok
    assert result.error
    assert result.error.message == "with *** inside"


async def test_junk_is_text_and_what_goes_to_stderr_is_too(tmp_path: Path) -> None:
    run = Run(
        tmp_path,
        r"""
        import sys, os
        print('{"event": "unknown"}'); print("[1, 2"); print('{"event": "phase", "progress": 4000}')
        os.write(1, b"\xff\xfe not utf-8\n"); os.write(1, b"no end of line")
        print("Traceback s3cret hunter2-token", file=sys.stderr); sys.exit(3)
        """,
    )
    result = await run()
    assert not result.ok
    assert result.error is None
    assert result.exit_code == 3
    assert set(run.texts) == {
        '{"event": "unknown"}',
        "[1, 2",
        '{"event": "phase", "progress": 4000}',
        "\ufffd\ufffd not utf-8",
        "no end of line",
        "Traceback *** ***",
    }
    assert set(result.tail) == set(run.texts)


async def test_a_worker_that_is_killed_is_told_from_one_that_failed(tmp_path: Path) -> None:
    result = await Run(tmp_path, "import os, signal; os.kill(os.getpid(), signal.SIGKILL)")()
    assert not result.ok
    assert result.exit_code == -signal.SIGKILL


async def test_an_endless_line_costs_no_memory(tmp_path: Path) -> None:
    run = Run(tmp_path, "import os\nfor _ in range(200): os.write(1, b'x' * 65536)\nprint()")
    await run()
    [text] = run.texts
    assert len(text) < 300_000
    assert text.endswith("bytes cut)")


async def test_much_output_is_heard_completely(tmp_path: Path) -> None:
    run = Run(tmp_path, "for n in range(50_000): print(n)")
    await run()
    assert run.texts == [str(number) for number in range(50_000)]


async def test_a_log_that_is_written_slowly_does_not_cost_the_result(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """On a disk that stalls a line can take longer than the worker's end."""
    monkeypatch.setattr("tljh_plugin.build.run._DRAIN_S", 0.02)
    run = Run(
        tmp_path,
        """
        import json
        print("a line")
        print(json.dumps({"event": "result", "ok": True, "image_id": "sha256:1"}))
        """,
    )

    async def slowly(event: LogEvent | PhaseEvent) -> None:
        await asyncio.to_thread(_wait_for_death, run.pid)
        await asyncio.sleep(0.5)
        run.events.append(event)

    run.hear = slowly
    result = await run()
    assert (result.ok, result.image_id, run.texts) == (True, "sha256:1", ["a line"])


async def test_it_may_not_take_longer_than_allowed(tmp_path: Path) -> None:
    run = Run(tmp_path, "import time\nwhile True: print('busy'); time.sleep(0.01)")
    with pytest.raises(BuildTimedOut, match=r"longer than 0\.3 seconds"):
        await run(timeout_s=0.3)
    assert members(run.pid) == []


async def test_it_may_not_be_silent_longer_than_allowed(tmp_path: Path) -> None:
    run = Run(tmp_path, "import time\nprint('once'); time.sleep(60)")
    with pytest.raises(BuildTimedOut, match=r"nothing for 0\.5 seconds"):
        await run(silence_s=0.5)
    assert members(run.pid) == []


async def test_the_guard_can_end_it(tmp_path: Path) -> None:
    run = Run(tmp_path, "import time; time.sleep(60)")

    async def full() -> None:
        raise DiskLow("full", "free some")

    run.guard = full
    with pytest.raises(DiskLow):
        await run()
    assert members(run.pid) == []


async def test_a_log_that_cannot_be_written_ends_it(tmp_path: Path) -> None:
    run = Run(tmp_path, "import time\nprint('x'); time.sleep(60)")

    async def broken(event: LogEvent | PhaseEvent) -> None:
        raise DiskLow("full", "free some")

    run.hear = broken
    with pytest.raises(DiskLow):
        await run()
    assert members(run.pid) == []


STUBBORN = """
import os, signal, subprocess, sys, time
signal.signal(signal.SIGTERM, signal.SIG_IGN)
child = "import os, signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); {}; time.sleep(60)"
subprocess.Popen([sys.executable, "-c", child.format("pass")])
subprocess.Popen([sys.executable, "-c", child.format("os.setpgid(0, 0)")])
print("ready"); time.sleep(60)
"""


async def test_cancelling_ends_the_whole_family_however_stubborn(tmp_path: Path) -> None:
    run = Run(tmp_path, STUBBORN)
    task = asyncio.create_task(run())
    await run.heard.wait()
    family = members(run.pid)
    assert len(family) == 3
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert members(run.pid) == []
    for pid in family:
        facts = process_facts(pid)
        assert facts is None or facts.state == "Z"


async def test_children_that_are_born_meanwhile_end_as_well(tmp_path: Path) -> None:
    """One process after the other, each the child of the one before: a look through /proc misses them, the
    lock that all of them hold does not."""
    lock = tmp_path / "lock"
    run = Run(
        tmp_path,
        f"""
        import fcntl, os, signal, time
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        held = open({str(lock)!r}, "w")
        fcntl.flock(held, fcntl.LOCK_EX)
        print("ready")
        over = time.monotonic() + 20  # should it escape, it ends by itself
        while time.monotonic() < over:
            time.sleep(0.005)
            if os.fork():
                os._exit(0)
        """,
    )
    task = asyncio.create_task(run())
    await run.heard.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    with lock.open() as file:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)


async def test_a_second_cancel_does_not_interrupt_the_clean_up(tmp_path: Path) -> None:
    run = Run(tmp_path, STUBBORN)
    task = asyncio.create_task(run())
    await run.heard.wait()
    task.cancel()
    await asyncio.wait({task}, timeout=0.5)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert members(run.pid) == []


async def test_a_cancel_that_comes_during_clean_up_is_not_forgotten() -> None:
    release = asyncio.Event()
    done = []

    async def clean_up() -> None:
        await release.wait()
        done.append("clean")

    task = asyncio.create_task(to_its_end(clean_up()))
    await asyncio.wait({task}, timeout=0)
    task.cancel()
    await asyncio.wait({task}, timeout=0)
    release.set()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert done == ["clean"]


async def test_what_the_worker_leaves_running_is_ended_with_it(tmp_path: Path) -> None:
    run = Run(
        tmp_path,
        """
        import json, subprocess, sys
        subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"])
        print(json.dumps({"event": "result", "ok": True, "image_id": "sha256:1"}))
        """,
    )
    began = time.monotonic()
    result = await run()
    assert result.ok
    assert members(run.pid) == []
    assert time.monotonic() - began < 120


async def test_a_worker_ends_by_its_life_line_when_the_service_is_killed(tmp_path: Path) -> None:
    service = await asyncio.create_subprocess_exec(
        sys.executable,
        "-c",
        textwrap.dedent(
            """
            import asyncio, pathlib, sys
            sys.path.insert(0, sys.argv[1])
            from test_worker_run import Run
            async def main():
                run = Run(pathlib.Path(sys.argv[2]), "import sys\\nprint('ready'); sys.stdin.read()")
                task = asyncio.create_task(run())
                await run.heard.wait()
                print(run.pid, flush=True)
                await task
            asyncio.run(main())
            """
        ),
        str(Path(__file__).parent),
        str(tmp_path),
        stdout=asyncio.subprocess.PIPE,
    )
    assert service.stdout is not None
    worker = int(await service.stdout.readline())
    service.kill()
    await service.wait()
    await asyncio.wait_for(asyncio.to_thread(_wait_for_death, worker), 60)


async def test_a_program_that_is_not_there_is_an_error(tmp_path: Path) -> None:
    run = Run(tmp_path, "")
    run.command = ("/nowhere/python", "", "", "")
    with pytest.raises(FileNotFoundError):
        await run()


class TestOrphans:
    async def spawn(self, script: str = "", mark: str = "b-9") -> asyncio.subprocess.Process:
        process = await asyncio.create_subprocess_exec(
            sys.executable,
            "-c",
            f"{script}\nprint(flush=True)\nimport time; time.sleep(60)",
            stdout=asyncio.subprocess.PIPE,
            start_new_session=True,
            env={**os.environ, MARK: mark},
        )
        assert process.stdout is not None
        await process.stdout.readline()
        return process

    async def test_the_same_process_is_ended(self) -> None:
        process = await self.spawn()
        facts = process_facts(process.pid)
        assert facts is not None
        assert await end_orphan(process.pid, facts.start, "b-9")
        await process.wait()

    async def test_a_number_that_went_to_another_process_is_left_alone(self) -> None:
        process = await self.spawn()
        facts = process_facts(process.pid)
        assert facts is not None
        assert not await end_orphan(process.pid, facts.start - 1, "b-9")
        assert process.returncode is None
        assert process_facts(process.pid) is not None
        await end_group(process.pid)
        await process.wait()

    async def test_children_of_a_dead_leader_are_ended_by_their_mark(self) -> None:
        sleeper = "[sys.executable, '-c', 'import time; time.sleep(60)']"
        process = await self.spawn(f"import subprocess, sys; subprocess.Popen({sleeper})")
        process.kill()
        await asyncio.to_thread(_wait_for_death, process.pid)
        assert len(members(process.pid)) == 1
        assert not await end_orphan(process.pid, 0, "b-other")
        assert len(members(process.pid)) == 1
        assert await end_orphan(process.pid, 0, "b-9")
        assert members(process.pid) == []
        await process.wait()

    async def test_nothing_there_is_nothing_to_do(self) -> None:
        process = await self.spawn()
        await end_group(process.pid)
        await process.wait()
        assert not await end_orphan(process.pid, 1, "b-9")


def _wait_for_death(pid: int) -> None:
    while True:
        facts = process_facts(pid)
        if facts is None or facts.state in "ZX":
            return
        time.sleep(0.01)


def test_a_name_with_parentheses_does_not_fool_us() -> None:
    facts = process_facts(os.getpid())
    assert facts is not None
    assert (facts.group, facts.session) == (os.getpgrp(), os.getsid(0))
    assert facts.start > 0


def test_the_worker_gets_what_a_build_needs_and_no_token(tmp_path: Path) -> None:
    ours = {
        "PATH": "/bin",
        "HTTPS_PROXY": "http://proxy",
        "no_proxy": "localhost",
        "PIP_INDEX_URL": "https://index",
        "SSL_CERT_FILE": "/etc/x.pem",
        "DOCKER_HOST": "unix:///run/docker.sock",
        "JUPYTERHUB_API_TOKEN": "secret",
        "JPY_API_TOKEN": "secret",
        "CONFIGPROXY_AUTH_TOKEN": "secret",
        "PYTHONPATH": "/elsewhere",
    }
    environment = worker_environment(ours, mark="b-1", temporary=tmp_path)
    assert environment == {
        "PATH": "/bin",
        "HOME": "/",
        "LANG": "C.UTF-8",
        "HTTPS_PROXY": "http://proxy",
        "no_proxy": "localhost",
        "PIP_INDEX_URL": "https://index",
        "SSL_CERT_FILE": "/etc/x.pem",
        "DOCKER_HOST": "unix:///run/docker.sock",
        "TMPDIR": str(tmp_path),
        "PYTHONUNBUFFERED": "1",
        MARK: "b-1",
    }


@given(st.binary(max_size=300), st.lists(st.integers(0, 300), max_size=8), st.integers(1, 40))
def test_lines_do_not_depend_on_how_the_pieces_come(data: bytes, cuts: list[int], limit: int) -> None:
    def split(pieces: list[bytes]) -> list[bytes]:
        splitter = LineSplitter(limit)
        lines = [line for piece in pieces for line in splitter.feed(piece)]
        return lines + splitter.end()

    places = sorted({0, len(data), *(cut for cut in cuts if cut <= len(data))})
    pieces = [data[a:b] for a, b in itertools.pairwise(places)]
    lines = split(pieces)
    assert lines == split([data])
    wanted = data.split(b"\n")
    if wanted[-1] == b"":
        wanted.pop()
    assert len(lines) == len(wanted)
    for line, whole in zip(lines, wanted, strict=True):
        assert line == whole if len(whole) <= limit else line.startswith(whole[:limit])


@given(st.text(alphabet="abc"), st.lists(st.text(alphabet="abc", min_size=4, max_size=6), max_size=3))
def test_no_secret_stays(text: str, secrets: list[str]) -> None:
    assert not any(secret in redact(text, secrets) for secret in secrets)
