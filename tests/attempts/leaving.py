"""Leaving the container: devices, mounts, the engine's socket, the kernel's knobs, other processes."""

from __future__ import annotations

from . import Attempt

KIND = "leaving"

_PLAIN = ("--user", "1000:1000")
_ROOT = ("--user", "0:0")

_TRY = """
import os, socket, ctypes
libc = ctypes.CDLL(None, use_errno=True)
def works(what):
    try:
        what()
        return True
    except OSError:
        return False
"""


def _try(what: str) -> str:
    return f"{_TRY}got = works(lambda: {what})"


ATTEMPTS = [
    Attempt(
        "making a device node of a disk",
        _try("os.mknod('/tmp/disk', 0o60600, os.makedev(7, 0))"),
        _ROOT,
    ),
    Attempt(
        "opening a device node that the image brings",
        _try("os.close(os.open('/opt/evil/device', os.O_RDONLY))"),
        (*_PLAIN, "--device-cgroup-rule", "c 10:229 r"),
    ),
    Attempt(
        "opening a device node that was copied into a volume",
        _try("os.close(os.open('/vol/device', os.O_RDONLY))"),
        (*_PLAIN, "--device-cgroup-rule", "c 10:229 r"),
    ),
    Attempt(
        "mounting a file system",
        _TRY + "got = libc.mount(b'none', b'/mnt', b'tmpfs', 0, None) == 0",
        (*_ROOT, "--cap-add", "SYS_ADMIN"),
    ),
    Attempt(
        "the engine's socket",
        _try(
            "[socket.socket(socket.AF_UNIX).connect(each) for each in "
            "('/run/docker.sock', '/var/run/docker.sock')]"
        ),
        (*_ROOT, "--volume", "/var/run/docker.sock:/var/run/docker.sock"),
    ),
    Attempt(
        "what the kernel runs when a program crashes",
        _try("open('/proc/sys/kernel/core_pattern', 'a').close()"),
        (*_ROOT, "--security-opt", "systempaths=unconfined"),
    ),
    Attempt(
        "the control groups' files",
        _try(
            "[open(os.path.join(folder, 'cgroup.procs'), 'a').close() "
            "for folder, *_ in os.walk('/sys/fs/cgroup') if os.path.exists(f'{folder}/cgroup.procs')][0]"
        ).replace("except OSError", "except (OSError, IndexError)"),
        (*_ROOT, "--volume", "/sys/fs/cgroup:/sys/fs/cgroup"),
    ),
    Attempt(
        "the kernel's keys of another session",
        _TRY + "number = 250 if os.uname().machine == 'x86_64' else 219\n"
        "got = libc.syscall(number, 0, -3, 1) != -1",
        (*_PLAIN, "--security-opt", "seccomp=unconfined"),
    ),
    Attempt(
        "seeing the machine's processes",
        "import os\ngot = any(b'dockerd' in open(f'/proc/{each}/cmdline', 'rb').read() "
        "for each in os.listdir('/proc') if each.isdigit() and os.path.exists(f'/proc/{each}/cmdline'))",
        (*_PLAIN, "--pid", "host"),
    ),
    Attempt(
        "packets of its own making (raw sockets)",
        _try("socket.socket(socket.AF_INET, socket.SOCK_RAW, 1)"),
        _ROOT,
    ),
    Attempt(
        "frames of its own making (packet sockets)",
        _try("socket.socket(socket.AF_PACKET, socket.SOCK_RAW, 3)"),
        _ROOT,
    ),
    Attempt(
        "another address for itself",
        _TRY + "import fcntl, struct\n"
        "request = struct.pack('16sH2s4s8s', b'eth0', 2, b'', socket.inet_aton('203.0.113.9'), b'')\n"
        "got = works(lambda: fcntl.ioctl(socket.socket(), 0x8916, request))",
        (*_ROOT, "--cap-add", "NET_ADMIN"),
    ),
]
