"""A container that plays a virtual machine: systemd is its first process, and Docker runs inside.

What differs from a machine: the kernel is this one's, and so are its modules, its clock and its cgroup tree.
Everything else is what a fresh Debian has.
"""

from __future__ import annotations

import gc
import hashlib
import os
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path

from fresh_machine import CHECKOUT, IMAGE, ROOT, FreshMachine, capabilities

# Names a folder as docs/how-to/install-offline.md describes it.
FOLDER_VARIABLE = "LITTLEST_BINDER_TLJH_FOLDER"
OFFLINE = "/offline"
COMMAND = ("python3", f"{CHECKOUT}/installer/bootstrap.py", "tljh")
# What every Debian machine with a network has.
_PACKAGES = (
    "systemd", "systemd-sysv", "dbus", "python3", "sudo", "ca-certificates", "procps", "iproute2", "curl",
    "kmod", "less",
)  # fmt: skip
_BOOT_S = 180.0
_INOTIFY = Path("/proc/sys/fs/inotify/max_user_instances")
_INSTANCES = 1024
# A container may not write what belongs to its own network, which later versions of Docker do; what else
# lies beside it is the whole machine's, and stays as it is.
_OWN_NETWORK = "mount --bind /proc/sys/net /proc/sys/net && mount -o remount,rw,bind /proc/sys/net"
# Debian 13's systemd refuses a kernel that was booted with the older cgroups, unless told; a container's
# arguments are its kernel's command line. Others do not know the words.
_LEGACY_CGROUPS = (
    () if Path("/sys/fs/cgroup/cgroup.controllers").exists()
    else ("SYSTEMD_CGROUP_ENABLE_LEGACY_FORCE=1", "systemd.unified_cgroup_hierarchy=0")
)  # fmt: skip


def offline_folder() -> Path | None:
    """The folder that the environment names, if it is there."""
    path = Path(os.environ.get(FOLDER_VARIABLE, "") or "/nonexistent")
    return path if (path / "the-littlest-jupyterhub").is_dir() else None


class VirtualMachine(FreshMachine):
    """One such machine; gone with everything in it at the end of the `with` block."""

    def __init__(self, offline: Path | None = None, release: str = "bookworm") -> None:
        super().__init__(init=("/sbin/init", *_LEGACY_CGROUPS))
        self._offline = offline
        self._release = release
        self._limit = ""

    def __enter__(self) -> VirtualMachine:
        image = self._image()
        self._room_for_systemd()
        added = [part for name in capabilities() for part in ("--cap-add", name)]
        shared = ["--volume", f"{self._offline}:{OFFLINE}:ro"] if self._offline else []
        self._docker(
            "run", "--detach", "--name", self.name, "--hostname", "virtual", *added,
            "--security-opt", "seccomp=unconfined", "--security-opt", "apparmor=unconfined",
            "--cgroupns=host", "--volume", "/sys/fs/cgroup:/sys/fs/cgroup:rw", "--volume", "/var/lib/docker",
            "--tmpfs", "/run:exec", "--tmpfs", "/tmp:exec", "--env", "container=docker", *shared,
            # systemd takes SIGTERM for a request to start itself anew.
            "--stop-signal", "SIGRTMIN+3", image, *self._init,
        )  # fmt: skip
        try:
            self.booted()
            self._authorities()
            self._account()
            self.copy_checkout()
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *arguments: object) -> None:
        super().__exit__(*arguments)
        if self._limit:
            _INOTIFY.write_text(self._limit)

    def _room_for_systemd(self) -> None:
        """A handful of inotify instances, without which it ends without a word, at its start or later.

        All of root's processes share the kernel's few; resolvers of earlier tests hold some until they are
        collected, and so do other runs on this computer. The limit is put back at the end.
        """
        gc.collect()
        now = _INOTIFY.read_text().strip()
        if int(now) < _INSTANCES:
            _INOTIFY.write_text(str(_INSTANCES))
            self._limit = now

    def _image(self) -> str:
        """Debian with systemd, kept between runs."""
        base = self._base()
        known = hashlib.sha256(" ".join((base, *_PACKAGES)).encode()).hexdigest()[:12]
        name = f"littlest-binder-tests/virtual:{known}"
        if (
            subprocess.run(["docker", "image", "inspect", name], capture_output=True, check=False).returncode
            == 0
        ):
            return name
        maker = f"{self.name}-maker"
        self._docker("run", "--detach", "--name", maker, base, "sleep", "infinity")
        try:
            for command in (
                "apt-get -q update",
                "DEBIAN_FRONTEND=noninteractive apt-get -q -y --no-install-recommends install "
                + " ".join(_PACKAGES),
                # A container's, in the image for builds; a machine has none.
                "rm -f /usr/sbin/policy-rc.d /etc/machine-id && apt-get clean && touch /etc/machine-id",
                # The container's network, name and console are given from outside.
                "systemctl mask systemd-udevd.service systemd-networkd.service systemd-resolved.service "
                "getty.target console-getty.service systemd-logind.service systemd-timesyncd.service",
            ):
                self._docker("exec", maker, "sh", "-c", command)
            self._docker("commit", "--change", "CMD []", maker, name)
        finally:
            self._docker("rm", "--force", "--volumes", maker)
        return name

    def _base(self) -> str:
        """The release's root filesystem, made by the installer's own step where it is not there."""
        code = (
            "import os, sys; sys.path.insert(0, 'installer'); sys.dont_write_bytecode = True\n"
            "from pathlib import Path\n"
            "from steps import base_image, packages, person, site, console\n"
            "place = site.Site(person.Person('root', 0, 0, Path('/root')), Path('tests/.state'), Path(),\n"
            "    Path(), dict(os.environ), release=sys.argv[1], mirror=packages.machine_mirror())\n"
            "shown = console.Console(total=1)\n"
            "base_image.ensure(place, shown.start('Debian'))\n"
        )
        if self._release == "bookworm":
            return IMAGE
        subprocess.run([sys.executable, "-c", code, self._release], cwd=ROOT, check=True)
        return f"littlest-binder/debian:{self._release}"

    def _authorities(self) -> None:
        for authority in sorted(Path("/usr/local/share/ca-certificates").rglob("*.crt")):
            self._docker("cp", str(authority), f"{self.name}:/usr/local/share/ca-certificates/")
        self.run("update-ca-certificates")

    def _account(self) -> None:
        self.run("useradd", "--create-home", "--shell", "/bin/bash", "ada")
        self.run("sh", "-c", "echo 'ada ALL=(ALL) NOPASSWD: ALL' >/etc/sudoers.d/ada")

    def booted(self) -> None:
        """Until systemd has started what starts at boot; units that fail do not matter here."""
        deadline = time.monotonic() + _BOOT_S
        while True:
            shown = self.run("systemctl", "is-system-running", check=False).stdout.strip()
            if shown in ("running", "degraded"):
                self.run("sh", "-c", _OWN_NETWORK)
                return
            if "is not running" in shown or time.monotonic() > deadline:
                logs = subprocess.run(
                    ["docker", "logs", self.name], capture_output=True, text=True, check=False
                )
                raise AssertionError(
                    f"it did not boot: {shown}\n{logs.stdout[-4000:]}{logs.stderr[-4000:]}\nsystemd ends "
                    "without a word where no inotify instance is left (sysctl fs.inotify.max_user_instances)."
                )
            time.sleep(0.2)

    def reboot(self) -> None:
        """Stop everything in order and boot again; what lies in memory is gone."""
        self._room_for_systemd()
        self._docker("restart", "--time", "90", self.name)
        self.booted()

    @property
    def address(self) -> str:
        """The machine's address on this one's network."""
        return self._docker(
            "inspect", "--format", "{{range .NetworkSettings.Networks}}{{.IPAddress}}{{end}}", self.name
        )

    def install(self, *options: str, timeout_s: float = 1500) -> subprocess.CompletedProcess[str]:
        """The installer's command for a server, to its end."""
        offline = ["--offline", OFFLINE] if self._offline else []
        return self.run(*COMMAND, *options, *offline, check=False, timeout_s=timeout_s)

    def provision(self, admin: str, data: str) -> subprocess.CompletedProcess[str]:
        """What `vagrant up` runs in its machine, to its end."""
        offline = [OFFLINE] if self._offline else []
        script = f"{CHECKOUT}/vagrant/provision.sh"
        return self.run("sh", script, admin, CHECKOUT, data, *offline, check=False, timeout_s=1500)

    def install_killed_after(self, step: str, *options: str) -> str:
        """The same, and killed as soon as the step of that name has ended; what it had printed."""
        offline = ["--offline", OFFLINE] if self._offline else []
        return self.run(
            "python3", "-c", _KILLER, step, *COMMAND, *options, *offline, check=False, timeout_s=1500
        ).stdout

    def listing(self, *folders: str) -> list[str]:
        """Every path below the folders with its kind, rights, owner, size and time of change."""
        # Some of the folders may not be there.
        script = 'find "$@" -printf "%p %y %m %u %g %s %T@ %l\\n" 2>/dev/null'
        shown = self.run("sh", "-c", script, "-", *folders, check=False, timeout_s=120)
        return sorted(shown.stdout.splitlines())


def differences(before: Sequence[str], after: Sequence[str]) -> list[str]:
    """Lines that are in one listing only."""
    return sorted({f"- {line}" for line in before} ^ {f"- {line}" for line in after})


# In the machine itself, since from outside the next step is over before a signal arrives.
_KILLER = """\
import os, signal, subprocess, sys
step, command = sys.argv[1], sys.argv[2:]
process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, bufsize=1)
for line in process.stdout:
    sys.stdout.write(line)
    words = line.split("]", 1)
    if len(words) == 2 and words[1].strip().startswith(step + " ") and "FAILED" not in line:
        process.send_signal(signal.SIGKILL)
        break
sys.stdout.write("ended with %d\\n" % process.wait())
"""
