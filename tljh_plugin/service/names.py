"""Names of servers that fit JupyterHub 6's rule and are easy to say."""

from __future__ import annotations

import re
import secrets
from collections.abc import Collection

from ..errors import InvalidOptions

# jupyterhub/slugs.py, `is_valid_safe_slug`: 1 to 30 characters; JupyterHub 5 is more generous.
_RULE = re.compile(r"(?=.{1,30}\Z)[a-z][a-z0-9]*(-[a-z0-9]+)*")

_HOW = (
    "amber bold brave bright calm clever cosy crisp curious daring eager early fair fleet fresh gentle glad"
    " golden happy hazel honest jolly keen kind lively lucky mellow merry misty modest neat nimble noble open"
    " patient plain polite proud quick quiet rapid ready round silent silver sincere smart snowy solid steady"
    " still sunny swift tidy tiny true vivid warm wild wise witty young"
)
_WHO = (
    "badger beaver birch bison cedar clover comet condor coral crane cricket dolphin dove eagle elder elk"
    " ember falcon fern finch fjord fox gecko glacier hare harbor hawk heron island jay kestrel koala lagoon"
    " lake lark lemur linden lotus lynx maple marten meadow moss newt oak ocelot orchid osprey otter owl"
    " panda pebble pine plover poplar puffin quail rabbit raven reef river robin rowan salmon seal sparrow"
    " spruce starling stork swan tern thrush tiger trout tulip vole walnut whale willow wolf wren zebra"
)


def random_name(taken: Collection[str] = ()) -> str:
    """A readable name that is not among `taken`: `calm-otter`, with a number once those become rare."""
    for _ in range(50):
        name = f"{secrets.choice(_HOW.split())}-{secrets.choice(_WHO.split())}"
        if name not in taken:
            return name
    while True:
        name = f"{secrets.choice(_HOW.split())}-{secrets.choice(_WHO.split())}-{secrets.randbelow(10_000)}"
        if name not in taken:
            return name


def check_name(name: str) -> str:
    """`name` itself; raises `InvalidOptions` if JupyterHub would not take it."""
    if not _RULE.fullmatch(name):
        raise InvalidOptions(
            f"{name[:60]!r} cannot be the name of a server.",
            "Use 1 to 30 lowercase letters, digits and single hyphens, first a letter: `my-analysis`.",
        )
    return name
