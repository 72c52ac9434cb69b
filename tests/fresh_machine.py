"""A machine that never saw the project: a container in which Docker itself can run.

It stands on the Debian root filesystem and gets what every Debian has (Python, sudo, certificates), the
account `ada`, this machine's certificate authorities, and a copy of the checkout in her home. `--privileged`
fails on machines that lack a capability themselves, so the capabilities are added one by one.
"""

from __future__ import annotations

import os
import secrets
import subprocess
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
IMAGE = "littlest-binder/debian:bookworm"
# In the order of linux/capability.h, up to the last one that Docker 20.10 knows by name.
_NAMES = (
    "chown",
    "dac_override",
    "dac_read_search",
    "fowner",
    "fsetid",
    "kill",
    "setgid",
    "setuid",
    "setpcap",
    "linux_immutable",
    "net_bind_service",
    "net_broadcast",
    "net_admin",
    "net_raw",
    "ipc_lock",
    "ipc_owner",
    "sys_module",
    "sys_rawio",
    "sys_chroot",
    "sys_ptrace",
    "sys_pacct",
    "sys_admin",
    "sys_boot",
    "sys_nice",
    "sys_resource",
    "sys_time",
    "sys_tty_config",
    "mknod",
    "lease",
    "audit_write",
    "audit_control",
    "setfcap",
    "mac_override",
    "mac_admin",
    "syslog",
    "wake_alarm",
    "block_suspend",
    "audit_read",
)
_PASSED = ("http_proxy", "https_proxy", "no_proxy", "HTTP_PROXY", "HTTPS_PROXY", "NO_PROXY", "PIP_INDEX_URL")
_LEFT_OUT = (
    ".git",
    "./tests/.state",
    "__pycache__",
    ".mypy_cache",
    ".ruff_cache",
    ".pytest_cache",
    ".hypothesis",
)
# Signs in by a link and prints status and address of the page behind it. Browsers know where `*.localhost` is
# (RFC 6761), Python asks the system, whose part for that (nss-myhostname) this machine lacks.
_FETCH = """
import http.cookiejar, socket, sys, urllib.request
find = socket.getaddrinfo
socket.getaddrinfo = lambda host, *rest, **more: find(
    "127.0.0.1" if host.endswith(".localhost") else host, *rest, **more
)
jar = http.cookiejar.CookieJar()
web = urllib.request.build_opener(urllib.request.ProxyHandler({}), urllib.request.HTTPCookieProcessor(jar))
answer = web.open(sys.argv[1], timeout=60)
print(answer.status, answer.url)
"""
COMMAND = ("python3", "installer/bootstrap.py", "desktop")
CHECKOUT = "/home/ada/littlest-binder"


def capabilities() -> list[str]:
    """Those that this machine may hand on, by name: the bounding set of proc(5)."""
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith("CapBnd:"):
            mask = int(line.split()[1], 16)
            return [name for number, name in enumerate(_NAMES) if mask & (1 << number)]
    return []


class FreshMachine:
    """One such container; removed with everything in it at the end of the `with` block."""

    def __init__(self, *packages: str, init: Sequence[str] = ("sleep", "infinity")) -> None:
        self.name = f"littlest-binder-fresh-{secrets.token_hex(4)}"
        self._packages = packages
        self._init = init

    def __enter__(self) -> FreshMachine:
        added = [part for name in capabilities() for part in ("--cap-add", name)]
        self._docker(
            "run", "--detach", "--name", self.name, "--hostname", "fresh", *added,
            "--security-opt", "seccomp=unconfined", "--security-opt", "apparmor=unconfined",
            "--cgroupns=host", "--volume", "/sys/fs/cgroup:/sys/fs/cgroup:rw", "--volume", "/var/lib/docker",
            # Docker inside may read this setting only, and where it is off it does not start.
            "--sysctl", "net.ipv4.ip_forward=1",
            "--tmpfs", "/run", "--tmpfs", "/tmp:exec", IMAGE, *self._init,
        )  # fmt: skip
        try:
            self._furnish()
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self._docker("rm", "--force", "--volumes", self.name)

    def _furnish(self) -> None:
        authorities = sorted(Path("/usr/local/share/ca-certificates").rglob("*.crt"))
        self.run("apt-get", "-q", "update")
        self.run(
            "apt-get", "-q", "-y", "--no-install-recommends", "install",
            "python3", "sudo", "ca-certificates", "procps", *self._packages,
            environment={"DEBIAN_FRONTEND": "noninteractive"},
        )  # fmt: skip
        for authority in authorities:
            self._docker("cp", str(authority), f"{self.name}:/usr/local/share/ca-certificates/")
        self.run("update-ca-certificates")
        # It is a container's, in the image for builds; a machine has none.
        self.run("rm", "-f", "/usr/sbin/policy-rc.d")
        self.run("useradd", "--create-home", "--shell", "/bin/bash", "ada")
        self.run("sh", "-c", "echo 'ada ALL=(ALL) NOPASSWD: ALL' >/etc/sudoers.d/ada")
        self.copy_checkout()

    def copy_checkout(self) -> None:
        """The files of the checkout as they are now, owned by ada."""
        self.run("rm", "-rf", CHECKOUT)
        self.run("mkdir", CHECKOUT)
        left_out = [f"--exclude={pattern}" for pattern in _LEFT_OUT]
        packed = subprocess.Popen(
            ["tar", "--create", *left_out, "--directory", str(ROOT), "."], stdout=subprocess.PIPE
        )
        subprocess.run(
            ["docker", "exec", "--interactive", self.name, "tar", "--extract", "--directory", CHECKOUT],
            stdin=packed.stdout,
            check=True,
        )
        assert packed.wait() == 0
        self.run("chown", "--recursive", "ada:", CHECKOUT)

    def command(
        self, *command: str, user: str = "root", environment: Mapping[str, str] | None = None
    ) -> list[str]:
        """How to run `command` inside from here."""
        passed = {name: os.environ[name] for name in _PASSED if name in os.environ} | dict(environment or {})
        variables = [part for name, value in passed.items() for part in ("--env", f"{name}={value}")]
        folder = CHECKOUT if user != "root" else "/"
        return ["docker", "exec", "--user", user, "--workdir", folder, *variables, self.name, *command]

    def run(
        self,
        *command: str,
        user: str = "root",
        environment: Mapping[str, str] | None = None,
        check: bool = True,
        timeout_s: float = 600,
    ) -> subprocess.CompletedProcess[str]:
        """Run `command` inside to its end."""
        done = subprocess.run(
            self.command(*command, user=user, environment=environment),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=timeout_s,
            check=False,
        )
        assert not check or done.returncode == 0, f"{command} gave {done.returncode}:\n{done.stdout}"
        return done

    def processes(self) -> list[str]:
        """Command lines of everything that runs inside, without the container's own first process.

        Zombies do not count: the first process of a container is no init and buries nobody.
        """
        shown = self.run("ps", "-eo", "pid=,stat=,args=").stdout.splitlines()
        rows = [line.split(None, 2) for line in shown]
        return [
            args
            for pid, state, args in rows
            if pid != "1" and state[0] != "Z" and not args.startswith("ps -eo")
        ]

    def page(self, link: str) -> str:
        """The address of the page to which a sign-in link leads; fails unless it is answered with 200."""
        shown = self.run("python3", "-c", _FETCH, link).stdout
        assert shown.startswith("200 "), shown
        return shown.split()[1]

    def browser(self, folder: Path) -> str:
        """A program in `folder`: this machine's Chromium, in the other machine's network.

        The tests speak to it through pipes, so that nothing needs to listen for them.
        """
        pid = self._docker("inspect", "--format", "{{.State.Pid}}", self.name)
        program = folder / "chromium-in-its-network"
        program.write_text(f'#!/bin/sh\nexec nsenter --net=/proc/{pid}/ns/net chromium "$@"\n')
        program.chmod(0o755)
        return str(program)

    def wait_for(self, path: str, text: str, timeout_s: float = 300) -> None:
        """Until the file at `path` holds `text`."""
        deadline = time.monotonic() + timeout_s
        while self.run("grep", "--quiet", "--fixed-strings", text, path, check=False).returncode != 0:
            assert time.monotonic() < deadline, f"{text!r} did not appear in {path}"
            time.sleep(0.05)

    def _docker(self, *command: str) -> str:
        done = subprocess.run(["docker", *command], capture_output=True, text=True, check=False)
        assert done.returncode == 0, f"docker {' '.join(command)}:\n{done.stderr}"
        return done.stdout.strip()
