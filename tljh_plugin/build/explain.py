"""Why a build failed, from the last lines of its log: a code, one sentence, and what to change.

Pure: lines go in, an error comes out. A cause is a pattern over one line, tried in the order of `CAUSES`; of
the lines that match, the first is taken, since what follows is mostly its consequence.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from ..errors import BuildFailed

_ESCAPES = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]")
_LONGEST = 8192  # characters of a line that are looked at; a repository's programs choose how long they are
_STEP = re.compile(r"^#\d+ (?:\d+\.\d+ )?")
_INSTALL = re.compile(r"^/usr/bin/python3 -I -S \S+/install\.py .* -- (?:-r )?\"?(?P<what>[^\"]+)\"?$")
_OF_BUILDKIT = re.compile(r"^(ERROR: |done in |Step \d+/\d+: |unchanged since )")
_SHOWN = 200


@dataclass(frozen=True)
class Cause:
    """`message` and `next_step` are filled with the pattern's named groups, with the `line`, and with `said`:
    the last line before it that is not the builder's own."""

    code: str
    pattern: re.Pattern[str]
    message: str
    next_step: str


def _cause(code: str, pattern: str, message: str, next_step: str) -> Cause:
    return Cause(f"build-{code}", re.compile(pattern), message, next_step)


# How BuildKit ends a failed step, in its older and its newer words.
_RUNNING = r"(?:executor failed running \[|process \")/bin/sh -c "
_RAN = _RUNNING + r"(?P<step>.+?)(?:\]: |\" did not complete successfully: )"

CAUSES: tuple[Cause, ...] = (
    _cause(
        "disk-full",
        r"(?i)no space left on device|disk quota exceeded",
        "The disk is full.",
        "Delete images that nobody needs, or ask an administrator; then build again.",
    ),
    _cause(
        "docker-broke-off",
        r"^ERROR: (?:.*(?:driver not connecting|failed to dial gRPC|error during connect)"
        r"|no connection to Docker's own builder|listing workers|failed to receive status: "
        r"|Cannot connect to the Docker daemon)",
        "Docker broke off the connection to the build.",
        "Build again; if it happens again, look at Docker's own log and restart Docker.",
    ),
    _cause(
        "package-not-found",
        r"Because (?P<name>\S+) was not found in the package registry",
        "There is no Python package called `{name}`.",
        "Correct the name in requirements.txt (a module and its package may have different names).",
    ),
    _cause(
        "version-not-found",
        r"[Bb]ecause there is no version of (?P<name>\S+)",
        "There is no `{name}`.",
        "Ask for a version that exists in requirements.txt.",
    ),
    _cause(
        "python-mismatch",
        r"Because (?P<name>\S+) has no wheels with a matching Python",
        "There is no `{name}` for the Python of this image.",
        "Ask for another version in requirements.txt, or name a Python that it supports in runtime.txt.",
    ),
    _cause(
        "python-mismatch",
        r"Because the (?:current|requested) Python version \((?P<have>[^)]+)\) does not satisfy "
        r"(?P<want>\S+)",
        "A package needs {want}, this image has {have}.",
        "Ask for another version of it in requirements.txt, or name another Python in runtime.txt.",
    ),
    _cause(
        "version-conflict",
        r"because you require (?P<what>.+), we can conclude that your requirements are unsatisfiable",
        "The requirements contradict each other: {what}.",
        "Loosen one of them in requirements.txt; the log shows which needs what.",
    ),
    _cause(
        "hash-mismatch",
        r"Hash mismatch for `(?P<name>[^`]+)`",
        "The hash of `{name}` in requirements.txt is not that of the package.",
        "Write the hashes anew, for instance with `uv pip compile --generate-hashes`.",
    ),
    _cause(
        "package-not-found",
        r"No matching distribution found for (?P<name>.+?)\s*$",
        "There is no Python package `{name}` for the Python of this image.",
        "Correct its name or its version where it is asked for.",
    ),
    _cause(
        "requirement-invalid",
        r"Invalid requirement: (?P<what>.+?)(?:: Expected.*)?$",
        "This is not a requirement: {what}.",
        "Write it as in `numpy>=2,<3`.",
    ),
    _cause(
        "not-a-package",
        r"(?<!\S)(?P<name>\S+)(?: \(from .*\))? does not appear to be a Python project",
        "requirements.txt installs `{name}`, which is no Python package (no pyproject.toml, no setup.py).",
        "Take the line (such as `-e .`) out of requirements.txt, or add a pyproject.toml.",
    ),
    _cause(
        "header-missing",
        r"fatal error: (?P<name>\S+\.h(?:pp)?): No such file or directory",
        "`{name}` is missing, which a package needs to be built from source.",
        "Add the Debian package with this file to apt.txt (its name ends in `-dev`), or ask for a version "
        "of the Python package that comes as a wheel.",
    ),
    _cause(
        "package-not-built",
        r"[Ff]ailed to (?:download and )?build `(?P<name>[^`]+)`",
        "`{name}` could not be built from source.",
        "Ask for a version that comes as a wheel for this Python, or add what it needs to apt.txt; "
        "the log shows what is missing.",
    ),
    _cause(
        "apt-package-not-found",
        r"Unable to locate package (?P<name>\S+)|Package '(?P<other>\S+)' has no installation candidate",
        "There is no Debian package called `{name}{other}`.",
        "Correct the name in apt.txt; `apt-cache search` on a Debian machine finds it.",
    ),
    _cause(
        "apt-package-not-found",
        r"Version '(?P<version>[^']+)' for '(?P<name>[^']+)' was not found",
        "There is no version {version} of the Debian package `{name}`.",
        "Leave the version out in apt.txt.",
    ),
    _cause(
        "registry-unreachable",
        r"failed to do request: \w+ \"?https?://(?P<host>[^/\s\"]+)/v2/(?P<image>[^\s\"]+?)/manifests/(?P<tag>[^\s\":]+)",
        "The registry {host} cannot be reached, which has the image `{image}:{tag}`.",
        "Try again later; or describe the environment in requirements.txt, which needs no registry.",
    ),
    _cause(
        "certificate-unknown",
        r"(?i)certificate verify failed|SSL certificate problem|UnknownIssuer|unable to get local issuer"
        r"|certificate signed by unknown authority",
        "A server showed a certificate that this machine does not trust.",
        "Ask an administrator to put the authority into /usr/local/share/ca-certificates of this machine.",
    ),
    _cause(
        "network",
        r"(?i)(?:could not resolve (?:host: )?|lookup )[`'\"]?(?P<host>[\w.-]+)"
        r"|(?:failed to fetch:?|unable to access) [`'\"]https?://(?P<place>[^/'`\"]+)",
        "`{host}{place}` could not be reached from the build.",
        "Try again later, or ask an administrator whether a proxy is needed.",
    ),
    _cause(
        "network",
        r"(?i)temporary failure in name resolution|name or service not known|network is unreachable"
        r"|connection refused|connection timed out|failed to lookup address",
        "The network could not be reached from the build: {line}.",
        "Try again later, or ask an administrator whether a proxy is needed.",
    ),
    _cause(
        "killed",
        _RAN + r"exit code: 137",
        "The step `{step}` was killed, most likely because the memory was not enough.",
        "Let it do less at once, or ask an administrator.",
    ),
    _cause(
        "command-not-found",
        r"(?:line )?(?<!\d)\d+: (?P<name>[^\s:]+): (?:command )?not found",
        "There is no program called `{name}` in the image.",
        "Add the Debian package with it to apt.txt, or the Python package to requirements.txt.",
    ),
    _cause(
        "postbuild-failed",
        _RUNNING + r"(?:\./)?(?P<name>(?:\.?binder/)?postBuild)\b.*exit code: (?P<status>\d+)",
        "`{name}` ended with exit code {status}: {said}",
        "Correct `{name}`; the log shows what it printed.",
    ),
    _cause(
        "dockerfile-invalid",
        r"dockerfile parse error (?:on )?line (?P<number>\d+): (?P<what>.+)$",
        "Line {number} of the Dockerfile is wrong: {what}.",
        "Correct it.",
    ),
    _cause(
        "file-not-found",
        r"failed to (?:compute cache key|calculate checksum).*?\"(?P<name>[^\"]+)\"(?:: )?\s?not found",
        "The Dockerfile copies `{name}`, which is not in the repository.",
        "Correct the path, which is relative to the folder of the repository, or its .dockerignore.",
    ),
    _cause(
        "step-failed",
        _RAN + r"exit code: (?P<status>\d+)",
        "The step `{step}` ended with exit code {status}: {said}",
        "Correct it; the log shows what it printed.",
    ),
)

# The finer codes of failed builds: those of `CAUSES`, and those that are found without a failed step.
MEANINGS = {
    "base-failed": "The base image could not be built.",
    "base-missing": "The base image, or Debian's below it, is not in Docker.",
    "build-apt-name": "A line of apt.txt is not the name of a package.",
    "build-apt-package-not-found": "Debian has no package of that name or version.",
    "build-certificate-unknown": "A server showed a certificate that this machine does not trust.",
    "build-command-not-found": "A script uses a program that is not in the image.",
    "build-disk-full": "The disk became full.",
    "build-docker-broke-off": "Docker ended the connection over which the image was being built.",
    "build-dockerfile-invalid": "A line of the Dockerfile is not understood.",
    "build-file-not-found": "The Dockerfile copies a file that is not in the repository.",
    "build-file-too-large": "A file that describes the environment is too large to be one.",
    "build-hash-mismatch": "A package is not the one whose hash requirements.txt has.",
    "build-header-missing": "A package is built from source and lacks a C header.",
    "build-interrupted": "The service was killed during the build too often to take it up once more.",
    "build-killed": "A step, or the process of the build, was killed, most likely for want of memory.",
    "build-link-leaves": "A file that describes the environment is a link that leaves the repository.",
    "build-network": "An address could not be reached from the build.",
    "build-no-such-folder": "The repository has no folder of the name that the link gives.",
    "build-not-a-package": "requirements.txt installs a folder that is no Python package.",
    "build-not-understood": "A file that describes the environment cannot be read.",
    "build-package-not-built": "A package could not be built from source.",
    "build-package-not-found": "There is no Python package of that name.",
    "build-postbuild-failed": "The script postBuild ended with an error.",
    "build-python-mismatch": "A package does not exist for the Python of the image.",
    "build-registry-unreachable": "The registry that has a base image could not be reached.",
    "build-requirement-invalid": "A line of requirements.txt is not a requirement.",
    "build-step-failed": "A step of the Dockerfile ended with an error.",
    "build-version-conflict": "The requirements contradict each other.",
    "build-version-not-found": "A package has no such version.",
}


def clean(line: str) -> str:
    """A line of the builder's output without colours and without BuildKit's step number and time."""
    return _STEP.sub("", _ESCAPES.sub("", line[:_LONGEST])).rstrip()


def explain(lines: Iterable[str]) -> BuildFailed:
    """The error of a failed build; with an unknown cause the last line that speaks of an error is shown."""
    cleaned = [text for text in map(clean, lines) if text]
    for cause in CAUSES:
        for place, line in enumerate(cleaned):
            match = cause.pattern.search(line)
            if match:
                return _filled(cause, match, _said(cleaned[:place]))
    return BuildFailed(
        f"The build failed: {_last_error(cleaned)}",
        "Read the last lines of the log, correct the repository, and build again.",
    )


def _filled(cause: Cause, match: re.Match[str], said: str) -> BuildFailed:
    found = {name: (value or "").strip("`'\", ")[:_SHOWN] for name, value in match.groupdict().items()}
    install = _INSTALL.match(found.get("step", ""))
    if install:
        found["step"] = f"install {install['what'].removeprefix('/run/littlest-binder/src/')}"
    found |= {"said": said[:_SHOWN], "line": match.string.strip()[:_SHOWN]}
    return BuildFailed(cause.message.format(**found), cause.next_step.format(**found), code=cause.code)


def _said(lines: Sequence[str]) -> str:
    """The last line that is not the builder's own."""
    return next((line.strip() for line in reversed(lines) if not _OF_BUILDKIT.match(line)), "it said nothing")


def _last_error(lines: Sequence[str]) -> str:
    told = [line for line in lines if re.search(r"(?i)\b(error|fatal|failed|cannot)\b", line)]
    return (told or list(lines) or ["it said nothing"])[-1].strip()[:_SHOWN]
