"""The real worker as its queue starts it: a process, a job on stdin, events on stdout."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import IO

from tljh_plugin.build.job import LogEvent, PhaseEvent, ResultEvent, WorkerJob, parse_event

KEPT = ("PATH", "HOME", "DOCKER_HOST", "SSL_CERT_FILE")


class WorkerProcess:
    """Use as a context: at its end the life-line is cut, and the process is waited for."""

    def __init__(self, job: WorkerJob, temporary: Path, environment: Mapping[str, str] | None = None) -> None:
        ours = {name: os.environ[name] for name in KEPT if name in os.environ}
        self._stderr: IO[bytes] = tempfile.TemporaryFile()  # noqa: SIM115
        self.process = subprocess.Popen(
            [sys.executable, "-m", "tljh_plugin.build.worker"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._stderr,
            env={**ours, "TMPDIR": str(temporary), **(environment or {})},
            start_new_session=True,
        )
        self._send(job.model_dump_json().encode() + b"\n")
        self.lines: list[str] = []
        self.percents: list[int] = []
        self.result: ResultEvent | None = None
        self.stderr = ""  # once it has ended

    def __enter__(self) -> WorkerProcess:
        return self

    def __exit__(self, *_: object) -> None:
        self.cut()
        self.process.wait(60)
        self.process.stdout.close()  # type: ignore[union-attr]
        self.stderr = self._said()
        self._stderr.close()

    def _send(self, data: bytes) -> None:
        self.process.stdin.write(data)  # type: ignore[union-attr]
        self.process.stdin.flush()  # type: ignore[union-attr]

    def cut(self) -> None:
        """Cut the life-line."""
        self.process.stdin.close()  # type: ignore[union-attr]

    def events(self) -> Iterator[LogEvent | PhaseEvent | ResultEvent]:
        """Events as they come, until the worker ends; also kept in `lines`, `percents` and `result`."""
        for line in self.process.stdout or ():
            event = parse_event(line)
            if isinstance(event, LogEvent):
                self.lines.append(event.text)
            elif isinstance(event, PhaseEvent):
                self.percents.append(event.progress)
            else:
                self.result = event
            yield event

    def finish(self) -> ResultEvent:
        """Read to the end; the result."""
        for _ in self.events():
            continue
        if self.result is None:
            raise AssertionError(f"no result; the worker said:\n{self.log}\n{self._said()}")
        return self.result

    @property
    def log(self) -> str:
        return "\n".join(self.lines)

    def _said(self) -> str:
        self._stderr.seek(0)
        return self._stderr.read().decode(errors="replace")
