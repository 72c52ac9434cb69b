"""Install what requirements files ask for into an image. Runs in builds, as root, with Debian's own Python.

Three ways:

1. uv with the cache of wheels that all repositories share (`--wheels`). No code of a package or a repository
   runs: uv's folder for building is sealed, so a package that must be built fails. What comes out depends on
   nothing that a repository could have touched, so all may share the layer.
2. uv with a cache that belongs to one repository alone.
3. pip, because what pip can install must not fail here.

The first is a build step by itself; where it is not enough the step ends with `AGAIN`, and the image is built
with the other two, which have neither the shared cache nor the credentials of the index. Each runs as the
image's user. Bytecode is compiled last, by an interpreter that no wheel can replace and that is started with
`-I -S`: a `.pth` file of an installed package would run in any other.

What an installer left half unpacked in a cache, as its build was ended in the middle, is taken away by the
next step that uses this cache, and by one that does nothing else (`--tidy`).
"""

from __future__ import annotations

import argparse
import fcntl
import os
import re
import shutil
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

AGAIN = "Not all of this comes as wheels, so it is built from source."
GROUP = 61184
# By their places: a repository's own `~/.local/bin` comes first on the PATH.
UV = "/usr/local/bin/uv"
SETPRIV = "/usr/bin/setpriv"
RUN = Path("/run/littlest-binder")
SHARED = RUN / "shared"
OWN = RUN / "own"
BYTECODE = Path(__file__).with_name("bytecode.py")

# Failures of uv that would be pip's as well: trying again would only take time. Looking for a solution pip
# may build one old version after the other, for hours; but it takes pre-releases where uv does not.
_FINAL = re.compile(
    r"No solution found(?!.*[Pp]re-?releases)|Hash mismatch for|"
    r"[Bb]uild backend (?:failed|returned an error)|No space left on device|"
    r"dns error|Connection refused|Network is unreachable|operation timed out",
    re.DOTALL,
)


@dataclass(frozen=True)
class Way:
    """One way to install; `trusted` gives the group."""

    command: tuple[str, ...]
    environment: dict[str, str]
    trusted: bool = False


def say(text: str) -> None:
    print(text, flush=True)  # noqa: T201


def ways(args: argparse.Namespace) -> list[Way]:
    """In the order in which they are tried."""
    hashes = ("--require-hashes",) if args.require_hashes else ()
    uv = (UV, "pip", "install", "--no-sources", "--python", args.python, *hashes, *args.what)
    if args.wheels:
        return [Way(uv, _uv(SHARED, RUN / "uv-trusted.toml"), trusted=True)]
    quiet = ("--no-input", "--disable-pip-version-check", "--progress-bar", "off")
    pip = (args.python, "-m", "pip", "install", "--no-cache-dir", "--no-compile", *quiet, *args.what)
    config = RUN / "pip.conf"
    with_pip = Way(pip, {"PIP_CONFIG_FILE": str(config)} if config.exists() else {})
    return [with_pip] if args.only_pip else [Way(uv, _uv(OWN, RUN / "uv.toml")), with_pip]


def _uv(cache: Path, config: Path) -> dict[str, str]:
    return {
        "UV_CACHE_DIR": str(cache),
        "UV_LINK_MODE": "copy",
        "UV_NO_PROGRESS": "1",
        "UV_PYTHON_DOWNLOADS": "never",
        "UV_INDEX_STRATEGY": "unsafe-best-match",  # as pip: the best version of all indexes
        **({"UV_CONFIG_FILE": str(config)} if config.exists() else {"UV_NO_CONFIG": "1"}),
    }


def seal(cache: Path) -> None:
    """Give the cache to the group, and keep uv from building.

    uv makes its build environments in `builds-v0` of the cache; where it cannot, it builds nothing.
    """
    builds = cache / "builds-v0"
    builds.mkdir(exist_ok=True)
    _own(builds, 0, 0, 0o555)
    _own(cache, 0, GROUP, 0o770)


def _own(path: Path, uid: int, gid: int, mode: int) -> None:
    os.chown(path, uid, gid)
    path.chmod(mode)


def as_user(owner: str, command: Sequence[str], *, trusted: bool = False) -> list[str]:
    """The command line that runs `command` as `uid:gid`, unable to gain anything."""
    uid, _, gid = owner.partition(":")
    groups = f"--groups={GROUP}" if trusted else "--clear-groups"
    drop = ("--no-new-privs", "--inh-caps=-all", "--bounding-set=-all")
    return [SETPRIV, f"--reuid={uid}", f"--regid={gid}", groups, *drop, "--", *command]


def tidy(cache: Path, patience_s: float) -> None:
    """Remove what is half unpacked in a cache, unless somebody goes on installing with it.

    That is waited for `patience_s` seconds.

    uv unpacks into `.tmp…` beside its buckets, and holds a lock on `.lock` as long as it works.
    """
    flags = os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_NONBLOCK
    lock = os.open(cache / ".lock", flags, 0o666)
    os.fchmod(lock, 0o666)
    deadline = time.monotonic() + patience_s
    while True:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            break
        except BlockingIOError:
            if time.monotonic() > deadline:
                return
            time.sleep(0.1)
    for each in cache.glob(".tmp*"):
        if each.is_dir() and not each.is_symlink():
            shutil.rmtree(each, ignore_errors=True)
        else:
            each.unlink()


def run(command: Sequence[str], environment: dict[str, str]) -> tuple[int, list[str]]:
    """The exit code and the lines from the first error on; the lines before it are said as they come."""
    errors: list[str] = []
    with subprocess.Popen(
        command,
        env={**os.environ, **environment},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        errors="replace",
    ) as process:
        for line in process.stdout or ():
            if errors or re.match(r"(error|ERROR):", line):
                errors.append(line.rstrip("\n"))
            else:
                say(line.rstrip("\n"))
    return process.returncode, errors


def install(args: argparse.Namespace) -> int:
    """Try the ways; the exit code of the last one that was tried."""
    code = 0
    for way in ways(args):
        if code:
            say("uv could not install this, so pip is tried.")
        if way.trusted:
            seal(SHARED)
        code, errors = run(as_user(args.user, way.command, trusted=way.trusted), way.environment)
        text = "\n".join(errors)
        final = code == 0 or bool(_FINAL.search(text))
        if text and (final or not way.trusted):
            say(text)
        if way.trusted and not final:
            say(AGAIN)
        if final:
            break
    return 0 if args.optional else code


def compile_new(args: argparse.Namespace, python: str, since: float) -> None:
    """Compile what was installed; with the cache only after a step in which nothing of it could run.

    `python` is the interpreter itself: a wheel may have put a file into its place in the environment.
    """
    cache = [str(SHARED / "bytecode")] if args.wheels else []
    for folder in Path(args.python).parents[1].glob("lib/python3*/site-packages"):
        command = [python, "-I", "-S", str(BYTECODE), str(folder), str(since), *cache]
        subprocess.run(as_user(args.user, command, trusted=args.wheels), check=False)  # only speed is lost


def main(argv: Sequence[str]) -> int:
    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0] if __doc__ else None)
    parser.add_argument("--tidy", action="store_true", help="install nothing, tidy the caches")
    parser.add_argument("--user", help="uid:gid")
    parser.add_argument("--python", default="/srv/venv/bin/python")
    parser.add_argument("--wheels", action="store_true", help="nothing in it asks for code to run")
    parser.add_argument("--only-pip", action="store_true", help="uv could not honour all of it")
    parser.add_argument("--require-hashes", action="store_true")
    parser.add_argument("--optional", action="store_true", help="a failure does not count")
    parser.add_argument("--no-bytecode", action="store_true")
    parser.add_argument("what", nargs=argparse.REMAINDER, help="for the installers: -r FILE, or a folder")
    args = parser.parse_args(argv)
    if args.tidy:
        for cache in (SHARED, OWN):
            tidy(cache, 15.0)
        return 0
    args.what = [part for part in args.what if part != "--"]
    python, began = os.path.realpath(args.python), time.time() - 1
    code = install(args)
    if code == 0 and not args.no_bytecode:
        compile_new(args, python, began)
    for cache in (SHARED, OWN):
        if cache.is_dir():
            tidy(cache, 0.0)
    return code


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
