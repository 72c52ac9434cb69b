"""Failed builds, explained. The excerpts are from logs of builds that failed so."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from tljh_plugin.build import explain as explain_module
from tljh_plugin.build.builder import NO_BUILDKIT
from tljh_plugin.build.explain import CAUSES, MEANINGS, explain
from tljh_plugin.errors import _by_code

INSTALL = (
    "/usr/bin/python3 -I -S /usr/local/lib/littlest-binder/install.py --user 1000:1000 --wheels "
    "-- -r /run/littlest-binder/src/requirements.txt"
)


def ended(step: str, code: int = 1) -> str:
    """BuildKit's last words about a step, as Docker 20.10 says them."""
    return (
        f"ERROR: executor failed running [/bin/sh -c {step}]: exit code: {code}\n"
        f"ERROR: failed to solve: executor failed running [/bin/sh -c {step}]: exit code: {code}\n"
    )


EXCERPTS = {
    "disk-full": (
        "dd: error writing '/dev/full': No space left on device\n1+0 records in\n" + ended("./postBuild"),
        "The disk is full.",
    ),
    "docker-broke-off (first connections)": (
        f"ERROR: {NO_BUILDKIT}\n",
        "Docker broke off the connection to the build.",
    ),
    "docker-broke-off (third connection)": (
        "ERROR: listing workers for Build: failed to list workers: Unavailable: connection error: desc = "
        '"transport: Error while dialing: unexpected EOF"\n',
        "Docker broke off the connection to the build.",
    ),
    "docker-broke-off (session)": (
        "ERROR: failed to dial gRPC: unexpected EOF\n",
        "Docker broke off the connection to the build.",
    ),
    "docker-broke-off (version)": (
        "ERROR: unexpected EOF: driver not connecting\n",
        "Docker broke off the connection to the build.",
    ),
    "docker-broke-off (during a step)": (
        "#5 [2/2] RUN sleep 60\nERROR: failed to receive status: rpc error: code = Unavailable desc = error "
        "reading from server: EOF\n",
        "Docker broke off the connection to the build.",
    ),
    "package-not-found": (
        "error: No solution found when resolving dependencies\n"
        "  cause: Because littlest-binder-there-is-no-such-package was not found in the package registry and "
        "you require littlest-binder-there-is-no-such-package==9.9, we can conclude that your requirements "
        "are unsatisfiable.\n" + ended(INSTALL),
        "There is no Python package called `littlest-binder-there-is-no-such-package`.",
    ),
    "version-not-found": (
        "error: No solution found when resolving dependencies\n"
        "  cause: Because there is no version of numpy==99.1 and you require numpy==99.1, we can conclude "
        "that your requirements are unsatisfiable.\n" + ended(INSTALL),
        "There is no `numpy==99.1`.",
    ),
    "python-mismatch": (
        "  cause: Because torch==1.7.0 has no wheels with a matching Python ABI tag (e.g., `cp311`) and you "
        "require torch==1.7.0, we can conclude that your requirements are unsatisfiable.\n\n"
        "hint: You require CPython 3.11 (`cp311`), but we only found wheels for `torch` (v1.7.0) with the "
        "following Python ABI tags: `cp36m`, `cp37m`, `cp38`, `cp38m`\n" + ended(INSTALL),
        "There is no `torch==1.7.0` for the Python of this image.",
    ),
    "python-mismatch (requires-python)": (
        "  cause: Because the current Python version (3.11.2) does not satisfy Python>=3.12 and numpy==2.5.0 "
        "depends on Python>=3.12, we can conclude that numpy==2.5.0 cannot be used.\n"
        "         And because you require numpy==2.5.0, we can conclude that your requirements are "
        "unsatisfiable.\n" + ended(INSTALL),
        "A package needs Python>=3.12, this image has 3.11.2.",
    ),
    "version-conflict": (
        "error: No solution found when resolving dependencies\n"
        "  cause: Because pandas>=3.0.0rc0,<=3.0.0rc1 depends on numpy>=1.26.0 and all of:\n"
        "             pandas>=3.0.0rc2,<=3.0.3\n"
        "         depend on numpy>=1.23.2.\n"
        "         And because you require numpy<1.20 and pandas>=2.2, we can conclude that your requirements "
        "are unsatisfiable.\n" + ended(INSTALL),
        "The requirements contradict each other: numpy<1.20 and pandas>=2.2.",
    ),
    "hash-mismatch": (
        "error: Failed to download `six==1.16.0`\n  cause: Hash mismatch for `six==1.16.0`\n\n"
        "         Expected:\n           sha256:00000000\n" + ended(INSTALL),
        "The hash of `six==1.16.0` in requirements.txt is not that of the package.",
    ),
    "package-not-found (pip)": (
        "ERROR: Could not find a version that satisfies the requirement numpy-not-there-zzz (from versions: "
        "none)\nERROR: No matching distribution found for numpy-not-there-zzz\n"
        + ended("pip install numpy-not-there-zzz"),
        "There is no Python package `numpy-not-there-zzz` for the Python of this image.",
    ),
    "requirement-invalid": (
        "ERROR: Invalid requirement: 'numpy ==== 3': Expected comma (within version specifier), semicolon "
        "(after version specifier) or end\n    numpy ==== 3\n          ~~~~~^ (from line 1 of "
        "requirements.txt)\n" + ended(INSTALL),
        "This is not a requirement: numpy ==== 3.",
    ),
    "not-a-package": (
        "error: `/home/jovyan` does not appear to be a Python project, as neither `pyproject.toml` nor "
        "`setup.py` are present in the directory\nuv could not install this, so pip is tried.\n"
        + ended(INSTALL),
        "requirements.txt installs `/home/jovyan`, which is no Python package (no pyproject.toml, no "
        "setup.py).",
    ),
    "header-missing": (
        "error: Failed to build `python-ldap==3.4.4`\n  cause: The build backend returned an error\n"
        "         In file included from Modules/LDAPObject.c:3:\n"
        "         Modules/common.h:15:10: fatal error: lber.h: No such file or directory\n"
        "         compilation terminated.\n" + ended(INSTALL),
        "`lber.h` is missing, which a package needs to be built from source.",
    ),
    "package-not-built": (
        "error: Failed to build `mysqlclient==2.2.4`\n  cause: The build backend returned an error\n"
        "         Exception: Can not find valid pkg-config name.\n" + ended(INSTALL),
        "`mysqlclient==2.2.4` could not be built from source.",
    ),
    "apt-package-not-found": (
        "Reading state information...\nE: Unable to locate package no-such-debian-package\n"
        + ended("apt-get -qq update", 100),
        "There is no Debian package called `no-such-debian-package`.",
    ),
    "apt-package-not-found (version)": (
        "Reading state information...\nE\n: Version '99' for 'git' was not found\n"
        + ended("apt-get -qq update", 100),
        "There is no version 99 of the Debian package `git`.",
    ),
    "registry-unreachable": (
        'ERROR: failed to do request: Head "https://registry.example.org/v2/library/python/manifests/3.12": '
        "dial tcp: lookup registry.example.org on 10.255.255.53:53: no such host\n",
        "The registry registry.example.org cannot be reached, which has the image `library/python:3.12`.",
    ),
    "certificate-unknown": (
        "curl: (60) SSL certificate problem: self-signed certificate\n" + ended("./postBuild", 60),
        "A server showed a certificate that this machine does not trust.",
    ),
    "network": (
        "  cause: failed to fetch into: /run/littlest-binder/own/git-v0/db/8dab139913c4b566\n"
        "  cause: process didn't exit successfully: `/usr/bin/git fetch` (exit status: 128)\n"
        "fatal: unable to access 'https://nowhere.invalid/x.git/': Could not resolve host: nowhere.invalid\n"
        + ended(INSTALL),
        "`nowhere.invalid` could not be reached from the build.",
    ),
    "network (a program's own words)": (
        '  File "/usr/lib/python3.11/socket.py", line 962, in getaddrinfo\n    ^^^^^^^\n'
        "socket.gaierror: [Errno -2] Name or service not known\n" + ended("./postBuild"),
        "The network could not be reached from the build: socket.gaierror: [Errno -2] Name or service not "
        "known.",
    ),
    "killed": (
        "Killed\n" + ended("./postBuild", 137),
        "The step `./postBuild` was killed, most likely because the memory was not enough.",
    ),
    "command-not-found": (
        "./postBuild: line 2: nosuchcommand: command not found\n" + ended("./postBuild", 127),
        "There is no program called `nosuchcommand` in the image.",
    ),
    "postbuild-failed": (
        'working\nTraceback (most recent call last):\n  File "<string>", line 1, in <module>\n'
        "ModuleNotFoundError: No module named 'nothing_like_that'\n" + ended("./postBuild"),
        "`postBuild` ended with exit code 1: ModuleNotFoundError: No module named 'nothing_like_that'",
    ),
    "dockerfile-invalid": (
        "ERROR: failed to solve: rpc error: code = Unknown desc = failed to solve with frontend "
        "dockerfile.v0: failed to create LLB definition: dockerfile parse error line 2: unknown instruction: "
        "RUNN\n",
        "Line 2 of the Dockerfile is wrong: unknown instruction: RUNN.",
    ),
    "file-not-found": (
        'ERROR: "/nothing.txt" not found: not found\n'
        'ERROR: failed to solve: failed to compute cache key: "/nothing.txt" not found: not found\n',
        "The Dockerfile copies `/nothing.txt`, which is not in the repository.",
    ),
    "step-failed": (
        "Step 2/2: RUN make\nmake: *** No targets specified and no makefile found.\ndone in 0.6 s\n"
        + ended("make", 2),
        "The step `make` ended with exit code 2: make: *** No targets specified and no makefile found.",
    ),
}


@pytest.mark.parametrize("name", EXCERPTS)
def test_a_failure_is_explained_in_one_sentence(name: str) -> None:
    log, sentence = EXCERPTS[name]
    error = explain(["Step 2/3: install what requirements.txt asks for", *log.splitlines()])
    assert error.code == f"build-{name.partition(' ')[0]}"
    assert error.message == sentence
    assert error.next_step


def test_every_cause_has_an_excerpt() -> None:
    assert {cause.code for cause in CAUSES} == {f"build-{name.partition(' ')[0]}" for name in EXCERPTS}


def test_every_code_is_documented() -> None:
    raised = {
        code
        for path in Path(explain_module.__file__).parent.rglob("*.py")
        for code in re.findall(r'code="((?:build|base)-[a-z-]+)"', path.read_text())
    }
    assert (raised | {cause.code for cause in CAUSES}) - set(_by_code()) == set(MEANINGS)


def test_newer_builders_words_are_understood() -> None:
    process = 'process "/bin/sh -c ./binder/postBuild"'
    error = explain(["oh", f"ERROR: failed to solve: {process} did not complete successfully: exit code: 3"])
    assert error.code == "build-postbuild-failed"
    assert error.message == "`binder/postBuild` ended with exit code 3: oh"


def test_our_own_install_step_is_named_for_people() -> None:
    assert "`install requirements.txt`" in explain(["something new", *ended(INSTALL).splitlines()]).message


def test_an_unknown_failure_shows_the_last_error() -> None:
    error = explain(["\x1b[31m#7 1.234 error: this was never seen before\x1b[0m", "", "bye"])
    assert error.code == "build-failed"
    assert error.message == "The build failed: error: this was never seen before"


@pytest.mark.parametrize("lines", [[], [""], ["only this"]])
def test_a_silent_failure_is_an_error_too(lines: list[str]) -> None:
    assert explain(lines).message.startswith("The build failed: ")


def test_braces_in_a_log_are_text() -> None:
    assert "{0}" in explain(["x {0} {name}", *ended("echo {x}").splitlines()]).message
