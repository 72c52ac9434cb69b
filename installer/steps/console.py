"""What the installer shows and writes down: numbered steps, a live line on a terminal, one log."""

from __future__ import annotations

import contextlib
import os
import shutil
import sys
import time
import traceback
from collections.abc import Callable, Sequence
from typing import IO, TextIO

# On a terminal the live line is drawn anew this often, in seconds; elsewhere a line is added this often.
_REDRAW_S = 0.2
_PLAIN_S = 15.0
_NAME_WIDTH = 20


class StepFailed(Exception):
    """A step that could not be done.

    `what` says what happened, `tried` the command, `tail` its last lines, `next_step` what to do.
    """

    def __init__(self, what: str, *, next_step: str, tried: str = "", tail: Sequence[str] = ()) -> None:
        super().__init__(what)
        self.what = what
        self.next_step = next_step
        self.tried = tried
        self.tail = tuple(tail)


class Step:
    """One step on its way: takes what is going on, and at the end one sentence of what it came to."""

    def __init__(self, console: Console, name: str, number: str) -> None:
        self._console = console
        self.name = name
        self.number = number
        self.started = time.monotonic()
        self._activity = ""
        self._notes: list[str] = []
        self._drawn = 0.0
        self._plain = self.started
        self.draw()

    @property
    def seconds(self) -> float:
        return time.monotonic() - self.started

    def say(self, activity: str) -> None:
        """Show what is going on now; the latest line of a command, say."""
        text = activity.strip()
        if text:
            self._activity = text
        self.tick()

    def log(self, text: str) -> None:
        """Write to the log only (and to the screen with `--verbose`)."""
        self._console.log(text)

    def note(self, text: str) -> None:
        """Add a line that stays below the step when it has finished."""
        self._notes.append(text)

    def tick(self) -> None:
        """Let the time go on; call this while waiting."""
        now = time.monotonic()
        if self._console.live:
            if now - self._drawn >= _REDRAW_S:
                self.draw()
        elif now - self._plain >= _PLAIN_S:
            self._plain = now
            self._console.say(f"{self.number} {self.name}: {self._activity:.80} ({self.seconds:.0f} s)")

    def draw(self) -> None:
        self._drawn = time.monotonic()
        self._console.draw(
            f"{self.number} {self.name:<{_NAME_WIDTH}} {self.seconds:5.0f} s  {self._activity}"
        )

    def finished(self, text: str) -> None:
        self._console.say(f"{self.number} {self.name:<{_NAME_WIDTH}} {self.seconds:5.1f} s  {text}")
        for note in self._notes:
            self._console.say(" " * len(self.number) + f" {note}")


class Console:
    """The screen and the log of one run."""

    def __init__(self, *, total: int, stream: TextIO | None = None, verbose: bool = False) -> None:
        self._stream = stream or sys.stdout
        self._log: IO[str] | None = None
        self._early: list[str] = []
        self._total = total
        self._count = 0
        self._verbose = verbose
        self._drawn = False
        self.live = self._stream.isatty() and os.environ.get("TERM", "dumb") != "dumb" and not verbose

    def write_log_to(self, log: IO[str] | None) -> None:
        """Keep everything in `log` from now on, what was said before included; with None, nowhere."""
        self._log = log
        if log is None:
            return
        log.writelines(self._early)
        log.flush()
        self._early = []

    @property
    def log_name(self) -> str:
        return self._log.name if self._log is not None else ""

    def log(self, text: str) -> None:
        line = f"{time.strftime('%Y-%m-%dT%H:%M:%SZ', time.gmtime())} {text.rstrip()}\n"
        if self._log is None:
            self._early.append(line)
        else:
            self._log.write(line)
            self._log.flush()
        if self._verbose:
            self._print("    | " + text.rstrip())

    def say(self, text: str) -> None:
        """Print a line that stays; it is in the log, too."""
        self._print(text)
        verbose, self._verbose = self._verbose, False
        self.log(text)
        self._verbose = verbose

    def draw(self, text: str) -> None:
        """Replace the live line; nothing where there is no terminal."""
        if not self.live:
            return
        width = shutil.get_terminal_size().columns - 1
        printable = "".join(c if c.isprintable() else " " for c in text)
        self._write("\r" + printable[:width] + "\x1b[K")
        self._drawn = True

    def _print(self, text: str) -> None:
        before = "\r\x1b[K" if self._drawn else ""
        self._drawn = False
        self._write(f"{before}{text}\n")

    def _write(self, text: str) -> None:
        """A terminal that was closed meanwhile must not keep us from putting things in order."""
        encoding = self._stream.encoding or "ascii"
        with contextlib.suppress(OSError):
            self._stream.write(text.encode(encoding, "replace").decode(encoding))
            self._stream.flush()

    def do(self, name: str, ensure: Callable[[Step], str]) -> None:
        """Carry out one step and show what it came to; its errors go on to the caller."""
        self._carry_out(self.start(name), ensure)

    def do_uncounted(self, name: str, ensure: Callable[[Step], str]) -> None:
        """The same for a step that is not one of those announced."""
        self._carry_out(Step(self, name, ""), ensure)

    def _carry_out(self, step: Step, ensure: Callable[[Step], str]) -> None:
        try:
            step.finished(ensure(step))
        except StepFailed:
            step.finished("FAILED")
            raise
        except OSError as error:
            step.finished("FAILED")
            self.log(traceback.format_exc())
            raise StepFailed(
                f"{error.strerror or error}" + (f": {error.filename}" if error.filename else ""),
                next_step="Check the free disk (`df`) and who may write there, then run the command again.",
            ) from error
        except BaseException:
            step.finished("interrupted")
            raise

    def explain(self, error: StepFailed) -> None:
        """What happened, what was tried, its last lines, and what to do."""
        self.say("")
        self.say(f"What happened: {error.what}")
        if error.tried:
            self.say(f"Tried:         {error.tried}")
        for line in error.tail:
            self.say(f"    | {line}")
        self.say(f"What to do:    {error.next_step}")
        if self.log_name:
            self.say(f"All of it:     {self.log_name}")

    def start(self, name: str) -> Step:
        self._count += 1
        width = len(str(self._total))
        number = f"[{self._count:>{width}}/{self._total}]"
        self.log(f"{number} {name}: started")
        return Step(self, name, number)
