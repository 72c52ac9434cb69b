"""Exhausting the machine: processes, memory, disk, connections."""

from __future__ import annotations

from . import Attempt

KIND = "exhausting"

_PLAIN = ("--user", "1000:1000")

ATTEMPTS = [
    Attempt(
        "more processes than allowed",
        """
import os, signal
children = []
try:
    while len(children) < place['pids'] + 50:
        number = os.fork()
        if number == 0:
            signal.pause()
            os._exit(0)
        children.append(number)
except OSError:
    pass
got = len(children) > place['pids']
for number in children:
    os.kill(number, signal.SIGKILL)
    os.waitpid(number, 0)
""",
        _PLAIN,
    ),
    Attempt(
        "more memory than allowed",
        """
import subprocess, sys
take = f"b = bytearray({place['memory']} + 2**26); b[::4096] = b'x' * len(b[::4096])"
got = subprocess.run([sys.executable, '-c', take], capture_output=True).returncode == 0
""",
        _PLAIN,
    ),
    Attempt(
        "more shared memory than allowed",
        """
try:
    with open('/dev/shm/large', 'wb') as file:
        for _ in range(place['shm'] // 2**20 + 1):
            file.write(bytes(2**20))
    got = True
except OSError:
    got = False
import os
os.unlink('/dev/shm/large')
""",
        (*_PLAIN, "--shm-size", "1g"),
    ),
    Attempt(
        "all connections of the hub's listener",
        """
import socket, time
opened = [socket.create_connection((place['gateway'], place['listener']), 5) for _ in range(100)]
def is_open(each):
    each.settimeout(0.01)
    try:
        return each.recv(1) != b''
    except TimeoutError:
        return True
    except OSError:
        return False
end = time.monotonic() + 5
while (left := sum(map(is_open, opened))) > 40 and time.monotonic() < end:
    pass
got = left > 40
for each in opened:
    each.close()
""",
        None,
        "the bound is in the listener itself; a test of the listener shows what it keeps away",
    ),
    Attempt(
        "filling the disk of the engine",
        "import os\nopen('/tmp/large', 'wb').write(os.urandom(2**24))\n"
        "got = os.path.getsize('/tmp/large') == 2**24\nos.unlink('/tmp/large')",
        _PLAIN,
        expected=True,
        page="A server can fill the disk",
    ),
]
