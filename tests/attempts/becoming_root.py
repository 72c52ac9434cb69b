"""Becoming root, by what the image brings along or by what the kernel offers."""

from __future__ import annotations

from . import Attempt

KIND = "becoming root"

# As a server, without the rules.
_PLAIN = ("--user", "1000:1000")
_ROOT = ("--user", "0:0")
_NO_FILTER = (*_PLAIN, "--security-opt", "seccomp=unconfined")

_RUN = """
import subprocess
def says(*command):
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=20, stdin=subprocess.DEVNULL)
    except OSError:
        return ''
    return done.stdout.strip() if done.returncode == 0 else ''
"""
_CALL = """
import ctypes
libc = ctypes.CDLL(None, use_errno=True)
"""

ATTEMPTS = [
    Attempt("the image's user is called root by number", "import os; got = os.getuid() == 0", ()),
    Attempt(
        "a group that only the image gives", "import os; got = 4242 in [os.getegid(), *os.getgroups()]", ()
    ),
    Attempt("a set-uid program of the image", _RUN + "got = says('/opt/evil/id', '-u') == '0'", _PLAIN),
    Attempt("a set-gid program of the image", _RUN + "got = says('/opt/evil/id', '-g') == '0'", _PLAIN),
    Attempt(
        "a set-uid program in a volume of the image", _RUN + "got = says('/vol/id', '-u') == '0'", _PLAIN
    ),
    Attempt(
        "su, where the image's root has no password",
        _RUN + "got = says('su', '-c', 'id -u') == '0'",
        _PLAIN,
    ),
    Attempt(
        "a program with file capabilities",
        _RUN + "got = 'daemon:' in says('/opt/evil/cat', '/etc/shadow')",
        _PLAIN,
    ),
    Attempt(
        "any capability at all",
        "got = any(int(line.split()[1], 16) for line in open('/proc/self/status') if line.startswith('Cap'))",
        _ROOT,
    ),
    Attempt(
        "setuid(0)",
        "import os\ntry:\n    os.setuid(0)\n    got = True\nexcept OSError:\n    got = False",
        (*_ROOT, "--cap-drop", "ALL"),
    ),
    Attempt("a user namespace by unshare", _CALL + "got = libc.unshare(0x10000000) == 0", _NO_FILTER),
    Attempt(
        "a user namespace by clone",
        _CALL + "got = libc.syscall(56 if __import__('os').uname().machine == 'x86_64' else 220, "
        "0x10000000 | 17, 0, 0, 0, 0)\nif got == 0:\n    __import__('os')._exit(0)\ngot = got > 0",
        _NO_FILTER,
    ),
    Attempt(
        "a mount namespace", _CALL + "got = libc.unshare(0x20000) == 0", (*_ROOT, "--cap-add", "SYS_ADMIN")
    ),
    Attempt(
        "writing the image's list of accounts",
        "try:\n    open('/etc/passwd', 'a').close()\n    got = True\nexcept OSError:\n    got = False",
        _ROOT,
    ),
    Attempt(
        "switching no-new-privileges off",
        _CALL + "libc.prctl(38, 0, 0, 0, 0)\ngot = 'NoNewPrivs:\\t0' in open('/proc/self/status').read()",
        _PLAIN,
    ),
]
