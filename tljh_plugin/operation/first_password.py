"""The first administrator's password on a fresh TLJH, so that nobody else can choose it by signing in first.

TLJH's authenticator takes the password of a person's first sign-in for theirs. The installer runs this as a
module in TLJH's hub environment: the name as its argument, the password on its standard input.
"""

from __future__ import annotations

import dbm
import sys
from pathlib import Path

_STORE = Path("/opt/tljh/state/passwords.dbm")


def keep(name: str, password: str, store: Path = _STORE) -> bool:
    """Keep the password unless the person has one; whether it was kept. The same file as TLJH's own."""
    import bcrypt  # type: ignore[import-not-found,unused-ignore]  # of TLJH's environment, no dependency of ours

    with dbm.open(str(store), "c", 0o600) as kept:
        if name.encode() in kept:
            return False
        kept[name.encode()] = bcrypt.hashpw(password.encode(), bcrypt.gensalt())
    return True


def main(arguments: list[str]) -> int:
    password = sys.stdin.readline().rstrip("\n")
    if len(arguments) != 1 or not password:
        sys.stderr.write("A name as the argument and a password on standard input are needed.\n")
        return 2
    sys.stdout.write("kept\n" if keep(arguments[0], password) else "there is one\n")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
