"""Carrying out checks, all at the same time, each with its time; then, if wanted, what puts things right."""

from __future__ import annotations

import asyncio
import inspect
import logging
import time
from collections.abc import Sequence
from datetime import datetime, timezone
from typing import cast

from ...engine.threads import in_thread
from ...errors import BinderError
from ...time_limit import within
from ...wire import RepairView
from .findings import CannotCheck, Finding, Report, Verdict
from .registry import LIMIT_S, Answer, Check
from .site import Site

log = logging.getLogger("littlest_binder.doctor")

# Putting one thing right may stop containers, which takes their time.
_REPAIR_S = 60.0


async def examine(site: Site, checks: Sequence[Check], *, limit_s: float = LIMIT_S) -> Report:
    """What the checks say. Nothing raises: a check that fails or takes longer than `limit_s` was not made."""
    began = time.monotonic()
    found = await asyncio.gather(*(_carry_out(site, each, limit_s) for each in checks))
    return Report(
        checked=datetime.now(timezone.utc).isoformat(timespec="milliseconds"),
        seconds=time.monotonic() - began,
        findings=tuple(finding for each in found for finding in each),
    )


async def put_right(site: Site, checks: Sequence[Check], *, limit_s: float = LIMIT_S) -> Report:
    """Examine, do what is safe about what was found, and examine once more what that concerned.

    Repairs come one after the other in the order of the checks, each on what the check saw just before.
    """
    began = time.monotonic()
    first = await examine(site, checks, limit_s=limit_s)
    done = [await _repair(each) for each in first.findings if each.verdict.repair is not None]
    if not done:
        return first
    concerned = {each.id for each in done}
    again = await examine(site.anew(), [each for each in checks if each.id in concerned], limit_s=limit_s)
    kept = tuple(each for each in first.findings if each.id not in concerned)
    return Report(again.checked, time.monotonic() - began, (*kept, *again.findings), tuple(done))


async def _carry_out(site: Site, check: Check, limit_s: float) -> list[Finding]:
    verdicts = await _verdicts(site, check, limit_s)
    return [Finding(check.id, check.group, check.title, each) for each in verdicts]


async def _verdicts(site: Site, check: Check, limit_s: float) -> Sequence[Verdict]:
    try:
        answer = await within(limit_s, _look(site, check))
    except CannotCheck as why:
        return [Verdict("not-checked", str(why))]
    except BinderError as error:
        return [Verdict("not-checked", error.message, error.next_step)]
    except (TimeoutError, asyncio.TimeoutError):
        return [
            Verdict(
                "not-checked",
                f"It took longer than {limit_s:g} s.",
                f"`littlest-binder doctor {check.id}` gives it more time.",
            )
        ]
    except PermissionError as error:
        return [Verdict("not-checked", f"No permission to look at {error.filename}.", "Run it with `sudo`.")]
    except Exception as error:  # a mistake of ours must not hide what the other checks found
        log.warning("The check %s failed", check.id, exc_info=error)
        return [
            Verdict(
                "not-checked",
                f"The check itself failed: {type(error).__name__}: {error}",
                "Please report this; the other checks are good.",
            )
        ]
    return [answer] if isinstance(answer, Verdict) else answer


async def _look(site: Site, check: Check) -> Answer:
    if inspect.iscoroutinefunction(check.look):
        return cast(Answer, await check.look(site))
    return cast(Answer, await in_thread(lambda: check.look(site)))


async def _repair(finding: Finding) -> RepairView:
    """Do it; what goes wrong is told and nothing else is held up."""
    repair = finding.verdict.repair
    done, error = "", ""
    if repair is not None:
        try:
            done = await within(_REPAIR_S, repair.do())
        except (TimeoutError, asyncio.TimeoutError):
            error = f"It did not end within {_REPAIR_S:g} s."
        except Exception as failure:  # as above: the next repair does not depend on this one
            log.warning("Putting %s right failed", finding.id, exc_info=failure)
            error = str(failure) or type(failure).__name__
    return RepairView(id=finding.id, about=finding.verdict.about, done=done, error=error)
