"""Start a program again at once when it is killed: JupyterHub looks after its services every 30 s only.

The keeper is a process that does nothing else, so there is little that could end it; it passes requests to
end on, and its child ends with it. A program that ends by itself, or is killed right after its start, is not
started again: that is for whoever started the keeper.
"""

from __future__ import annotations

import ctypes
import logging
import os
import signal
import sys
import time
from contextlib import suppress

log = logging.getLogger("littlest_binder.keeper")

_PR_SET_PDEATHSIG = 1
_SIGNALS = (signal.SIGTERM, signal.SIGINT)


def keep(settled_s: float = 3.0) -> None:
    """Return in a child of ours, and whenever it was killed in another one; the keeper itself never returns.

    Killed sooner than `settled_s` seconds after its start it would be killed again. To be called before
    threads and event loops are made.
    """
    keeper = os.getpid()
    told: list[int] = []
    children: list[int] = []

    def pass_on(number: int, _: object) -> None:
        told.append(number)
        for child in children:
            with suppress(ProcessLookupError):  # it has just ended by itself
                os.kill(child, number)

    before = {number: signal.signal(number, pass_on) for number in _SIGNALS}
    while True:
        began = time.monotonic()
        # A request to end that comes between two lines waits until it is known whom it concerns.
        signal.pthread_sigmask(signal.SIG_BLOCK, _SIGNALS)
        if told:  # it came while there was nobody to pass it on to
            sys.exit(128 + told[0])
        child = os.fork()
        if not child:
            for number, handler in before.items():
                signal.signal(number, handler)
            _end_with(keeper)
            signal.pthread_sigmask(signal.SIG_UNBLOCK, _SIGNALS)
            return
        children[:] = [child]
        signal.pthread_sigmask(signal.SIG_UNBLOCK, _SIGNALS)
        code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
        children.clear()
        if told or code >= 0 or time.monotonic() - began < settled_s:
            sys.exit(code if code >= 0 else 128 - code)
        log.warning("The service was killed (%s); it is started again.", signal.Signals(-code).name)


def _end_with(parent: int) -> None:
    """End in order when the keeper is killed: see prctl(2), PR_SET_PDEATHSIG."""
    ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_PDEATHSIG, signal.SIGTERM, 0, 0, 0)
    if os.getppid() != parent:
        sys.exit(1)
