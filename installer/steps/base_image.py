"""The Debian root filesystem below our base image: `littlest-binder/debian:<release>`.

Always made by debootstrap, never pulled: the distribution's mirror is reachable where no registry is, its
packages are checked against the archive's keys, there are no rate limits, and every machine gets the same
filesystem as the one that was tested. It takes about half a minute, once. An image of that name which is
already there is used as it is: so a machine can be given another one by hand.
"""

from __future__ import annotations

import contextlib
import signal
import subprocess
import urllib.error
import urllib.request
from pathlib import Path

from .buildx import KEYRING, work_folder
from .command import Program, ask_docker, end, end_with_parent, run
from .console import Step, StepFailed
from .packages import ensure_programs, missing
from .running import unstoppable
from .site import Site

_SCRIPTS = Path("/usr/share/debootstrap/scripts")
_CHANGES = (
    "LABEL org.opencontainers.image.title=debian",
    "LABEL org.opencontainers.image.vendor=littlest-binder",
    'CMD ["/bin/bash"]',
)


def image_name(release: str) -> str:
    return f"littlest-binder/debian:{release}"


def present(site: Site) -> bool:
    shown = ask_docker("image", "inspect", "--format", "{{.Id}}", image_name(site.release), env=site.root_env)
    return shown.returncode == 0


# Programs or files that debootstrap needs, and the packages they come in.
PROGRAMS = {"debootstrap": "debootstrap", "gpgv": "gpgv", str(KEYRING): "debian-archive-keyring"}


def ensure(site: Site, step: Step, begun: Early | None = None) -> str:
    """The image is in Docker; from what `begun` has made, if that is what is wanted. Raises `StepFailed`."""
    name = image_name(site.release)
    if present(site):
        return f"{name}, already there"
    if begun is None or not begun.fits(site):
        ensure_programs(site, step, PROGRAMS)
        begun = Early(site, step)
    with contextlib.closing(begun):
        root = begun.finish(step)
        tidy(site, root)
        step.say(f"importing {name}")
        import_image(site, step, root, name)
    return f"{name}, made from {_shown(site.mirror)}"


class Early:
    """debootstrap, which goes on while other steps do their work; `close` ends it and takes its folder away.

    It runs in mount and process namespaces of its own: a killed run leaves no mount and no process.
    """

    def __init__(self, site: Site, step: Step) -> None:
        self._wanted = (site.release, site.mirror)
        self._stack = contextlib.ExitStack()
        self._root = self._stack.enter_context(work_folder("debian-")) / "root"
        script = _SCRIPTS / site.release
        try:
            self._program = Program(
                step,
                [
                    "unshare", "--mount", "--propagation", "private", "--pid", "--fork", "--kill-child",
                    "debootstrap", "--variant=minbase", f"--keyring={KEYRING}", "--force-check-gpg",
                    site.release, str(self._root), site.mirror,
                    str(script if script.exists() else _SCRIPTS / "sid"),
                ],
                env=site.root_env,
                next_step=f"Check that {_shown(site.mirror)} can be reached (another: `--mirror URL`), then "
                "run the command again.",
                # unshare ignores SIGTERM while it waits, and so does the first process of a namespace.
                end_by=signal.SIGKILL,
            )  # fmt: skip
        except BaseException:
            self._stack.close()
            raise
        self._stack.callback(self._program.close)

    def let_signals_through(self) -> None:
        self._program.let_signals_through()

    def fits(self, site: Site) -> bool:
        """Whether what is being made is what `site` asks for."""
        return self._wanted == (site.release, site.mirror)

    def finish(self, step: Step) -> Path:
        """The root filesystem, complete. Raises `StepFailed`."""
        self._program.finish(step, show=lambda line: line.removeprefix("I: "))
        return self._root

    def close(self) -> None:
        self._stack.close()


class Making:
    """The image in one run of the installer: begun while other steps wait for the network, had by its own."""

    def __init__(self) -> None:
        self._early: Early | None = None

    def begin(self, site: Site, step: Step) -> None:
        """Begin to make it, unless it is there or something that it needs is not."""
        if missing(PROGRAMS) or present(site):
            return
        self._early = Early(site, step)
        self._early.let_signals_through()
        step.note("The Debian base image is being made meanwhile.")

    def ensure(self, site: Site, step: Step) -> str:
        """See `ensure`."""
        return ensure(site, step, self._early)

    def end(self) -> None:
        """What was begun ends, and its folder goes; nothing if it has been had."""
        if self._early is not None:
            with unstoppable():
                self._early.close()


def tidy(site: Site, root: Path) -> None:
    """Package sources with the security updates, and nothing that only filled the cache."""
    listed = root / "etc/apt/sources.list"
    mirror = site.mirror or used_mirror(listed.read_text())
    listed.write_text(sources(site.release, mirror, security_mirror(site.release, mirror)))
    for pattern in (
        "var/cache/apt/archives/*.deb",
        "var/lib/apt/lists/*_*",
        "var/log/*.log",
        "var/cache/apt/*.bin",
    ):
        for path in root.glob(pattern):
            path.unlink()
    # What a minimal container does not need and a build would carry along: dpkg's answers for services.
    policy = root / "usr/sbin/policy-rc.d"
    policy.write_text("#!/bin/sh\nexit 101\n")
    policy.chmod(0o755)
    (root / "etc/apt/apt.conf.d/docker-clean").write_text(
        'DPkg::Post-Invoke { "rm -f /var/cache/apt/archives/*.deb || true"; };\nAcquire::Languages "none";\n'
    )


def sources(release: str, mirror: str, security: str) -> str:
    lines = [f"deb {mirror} {release} main", f"deb {mirror} {release}-updates main"]
    if security:
        lines.append(f"deb {security} {release}-security main")
    return "\n".join(lines) + "\n"


def used_mirror(listed: str) -> str:
    """The mirror that debootstrap took, from the sources.list that it left."""
    for line in listed.splitlines():
        words = [word for word in line.split() if not word.startswith("[")]
        if words[:1] == ["deb"] and len(words) > 2:
            return words[1].rstrip("/")
    raise StepFailed(
        f"debootstrap left no package source: {listed.strip()!r}.",
        next_step="Name a mirror with `--mirror URL`, then run the command again.",
    )


def _shown(mirror: str) -> str:
    return f"the mirror {mirror}" if mirror else "debootstrap's own mirror"


def security_mirror(release: str, mirror: str) -> str:
    """The mirror's neighbour with the security updates, by the usual naming; empty if there is none."""
    url = f"{mirror.rstrip('/')}-security"
    index = f"{url}/dists/{release}-security/InRelease"
    if not index.startswith(("http://", "https://")):
        return ""
    try:
        with urllib.request.urlopen(urllib.request.Request(index, method="HEAD"), timeout=20):
            return url
    except (urllib.error.URLError, OSError):
        return ""


def import_image(site: Site, step: Step, root: Path, name: str) -> None:
    changes = [part for change in _CHANGES for part in ("--change", change)]
    tar = subprocess.Popen(
        ["tar", "--create", "--numeric-owner", "--sort=name", "--directory", str(root), "."],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        env=site.root_env,
        start_new_session=True,
        preexec_fn=end_with_parent(),
    )
    try:
        run(
            step,
            ["docker", "import", *changes, "-", name],
            stdin=tar.stdout,
            env=site.root_env,
            next_step="See whether Docker's disk is full (`df`), then run the command again.",
        )
        if tar.stdout is not None:
            tar.stdout.close()
        if tar.wait(timeout=60) != 0:
            raise StepFailed(f"tar could not read {root}.", next_step="Run the command again.")
    except BaseException:
        end(tar)
        raise
