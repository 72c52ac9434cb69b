"""Reading `apt.txt`: names of Debian packages, nothing that a shell or apt could take for more."""

from __future__ import annotations

import re

from ...errors import BuildFailed

# A name as in Debian's policy manual (5.6.1), perhaps with an architecture and a version or release, which
# apt understands and repositories use. A trailing `-` would remove the package.
_PACKAGE = re.compile(r"[a-z0-9][a-z0-9+.-]*[a-z0-9+](:[a-z0-9-]+)?([=/][A-Za-z0-9][A-Za-z0-9.+:~-]*)?")


def parse_apt(text: str) -> tuple[str, ...]:
    """The packages, sorted. Raises `BuildFailed` naming the first line that is not one.

    repo2docker's own check looks at the beginning of a line only, so `less; id` would reach a root shell.
    """
    found = set()
    for number, line in enumerate(text.splitlines(), 1):
        for word in line.partition("#")[0].split():
            if not _PACKAGE.fullmatch(word):
                raise BuildFailed(
                    f"Line {number} of apt.txt is not the name of a Debian package: {line.strip()!r:.80}.",
                    "Write one package on each line, without options or commands.",
                    code="build-apt-name",
                )
            found.add(word)
    return tuple(sorted(found))
