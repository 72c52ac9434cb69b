"""What a hostile repository tries at run time: each an `Attempt` that a server runs from inside.

The code sets `got` to something true if it got what it wanted. The same code runs once more in a container
of the same image under `control`, arguments of `docker run` that lack just the rule in question, and must
succeed there: else the attempt would prove nothing.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Attempt:
    """`control` of None: nothing here lets it succeed, for the reason in `why`.

    `expected` of True marks what cannot be prevented; `page` is then the heading's sentence on the security
    page, which must be there word by word.
    """

    name: str
    code: str
    control: Sequence[str] | None
    why: str = ""
    expected: bool = False
    page: str = ""
