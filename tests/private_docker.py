"""A Docker engine of its own that tests may kill, starve and stop: own socket, data, containerd and bridge.

Its data lie on a small file system of their own, in a file below `tests/.state`, so that it can be filled up
and so that the base image is copied in once for many runs. It writes no firewall rules, but in a network
namespace of its own: those of the engine on the default socket stay as they are. A run that is killed leaves
it, and a note about it; the next run ends what it left.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import re
import secrets
import select
import shutil
import signal
import subprocess
import time
import zlib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import IO, Any

import docker

from tljh_plugin.build.processes import process_facts
from tljh_plugin.desktop import boot_id

STATE = Path(__file__).resolve().parent / ".state" / "private-docker"
_SIZE = 7 * 1024**3
# On a busy disk half a minute passes until a daemon that listens serves.
_START_S = 240.0
_LOCK_S = 300.0
_LISTS = {"ENTRYPOINT": "Entrypoint", "CMD": "Cmd"}
_WORDS = {"USER": "User", "WORKDIR": "WorkingDir"}
_KEPT = ("littlest-binder/base:", "littlest-binder/debian:")


class PrivateDocker:
    """Use as a context; `host` is for `DOCKER_HOST`.

    `programs` is the root of an unpacked package with another `dockerd` (and `containerd`) than the
    machine's; `features` are switches of the daemon. `namespace` names a network namespace in which it works,
    with firewall rules; with `live_restore` its containers go on without it.
    """

    def __init__(
        self,
        folder: Path = STATE,
        *,
        programs: Path | None = None,
        features: Mapping[str, bool] | None = None,
        namespace: str = "",
        live_restore: bool = False,
    ) -> None:
        self.live_restore = live_restore
        self._there = ["nsenter", f"--net=/run/netns/{namespace}"] if namespace else []
        self.programs = programs
        self.features = dict(features or {})
        self.folder = folder.resolve()  # as the kernel lists mounts
        # A Unix socket's path may have 107 bytes, which a test's folder can exceed.
        self.run = Path(f"/run/lb-faults-{secrets.token_hex(4)}")
        self.data = self.folder / "data"
        self.log = self.folder / "dockerd.log"
        # Another checkout may run its own at the same time.
        number = zlib.crc32(bytes(self.folder))
        self.bridge = f"lbf{number:08x}"
        self._bridge_address = f"10.213.{number % 254 + 1}.1/24"
        self._lock: IO[str] | None = None
        self.process: subprocess.Popen[bytes] | None = None

    @property
    def socket(self) -> Path:
        return self.run / "docker.sock"

    @property
    def host(self) -> str:
        return f"unix://{self.socket}"

    def __enter__(self) -> PrivateDocker:
        self.folder.mkdir(parents=True, exist_ok=True)
        self._lock = (self.folder / "lock").open("w")
        _take(self._lock)
        self._take_over()
        self.run.mkdir(mode=0o700, exist_ok=True)
        try:
            self._mount()
            self.make_room()
            self._make_bridge()
            self.start()
            self._empty()
        except BaseException:
            self._leave()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        try:
            self.make_room()
            if self.process is None or self.process.poll() is not None:
                self.start()
            self._empty()
        finally:
            self._leave()

    def _leave(self) -> None:
        try:
            self.stop()
            self._end_containerd()
        finally:  # else the next one waits in vain for the lock
            for place in self._mounts():
                subprocess.run(["umount", "--lazy", place], check=False, capture_output=True)
            self._ip("link", "delete", self.bridge, check=False)
            shutil.rmtree(self.run, ignore_errors=True)
            self._note.unlink(missing_ok=True)
            if self._lock is not None:
                self._lock.close()

    # -- what a killed run left -----------------------------------------------------------------------

    @property
    def _note(self) -> Path:
        return self.folder / "running.json"

    def _write_note(self) -> None:
        """The daemon that runs now: its number alone may be another process's by the time it is read."""
        assert self.process is not None
        facts = process_facts(self.process.pid)
        known = {
            "boot": boot_id(),
            "run": str(self.run),
            "pid": self.process.pid,
            "start": facts.start if facts else 0,
        }
        draft = self._note.with_suffix(".new")
        draft.write_text(json.dumps(known))
        draft.replace(self._note)

    def _take_over(self) -> None:
        """End the daemon of a run that was killed, and go on in its folder: ours finds there what it ran."""
        try:
            known = json.loads(self._note.read_text())
            run, pid, start = Path(known["run"]), int(known["pid"]), int(known["start"])
        except (OSError, ValueError, KeyError):
            return
        if known["boot"] != boot_id() or not run.is_dir():
            return
        self.run = run
        with contextlib.suppress(ProcessLookupError):
            handle = os.pidfd_open(pid)
            try:
                facts = process_facts(pid)
                if facts is not None and facts.start == start:
                    signal.pidfd_send_signal(handle, signal.SIGKILL)
                    select.select([handle], [], [], _START_S)
            finally:
                os.close(handle)

    # -- the daemon -----------------------------------------------------------------------------------

    def start(self) -> None:
        """Start it, or start it again, and wait until it answers."""
        # The kernel ends containerd with its daemon. Where nobody buries the dead, it is taken for alive.
        for note in (self.run / "docker.pid", self.run / "exec" / "containerd" / "containerd.pid"):
            if note.exists() and not _told(int(note.read_text())):
                note.unlink()
        environment, program = os.environ.copy(), "dockerd"
        if self.programs is not None:
            program = str(self.programs / "usr" / "sbin" / "dockerd")
            places = [self.programs / "usr" / "sbin", self.programs / "usr" / "bin"]
            environment["PATH"] = ":".join([*map(str, places), environment["PATH"]])
        configuration = self.run / "daemon.json"
        configuration.write_text(json.dumps({"features": self.features, "live-restore": self.live_restore}))
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(
                [
                    *self._there,
                    program,
                    f"--config-file={configuration}",
                    f"--host={self.host}",
                    f"--data-root={self.data / 'docker'}",
                    f"--exec-root={self.run / 'exec'}",
                    f"--pidfile={self.run / 'docker.pid'}",
                    # With `--default-address-pool` a daemon removes `docker0`, which is the other engine's.
                    f"--bridge={self.bridge}",
                    f"--iptables={'true' if self._there else 'false'}",
                    "--ip6tables=false",
                    "--containerd-namespace=lb-faults",
                    "--containerd-plugins-namespace=lb-faults-plugins",
                    "--shutdown-timeout=5",
                ],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
                env=environment,
            )
        self._write_note()
        deadline = time.monotonic() + _START_S
        while not self.answers():
            assert self.process.poll() is None, self.last_lines()
            assert time.monotonic() < deadline, self.last_lines()
            time.sleep(0.05)

    def stop(self) -> None:
        """As a service manager stops it, which stops its containers."""
        if self.process is not None and self.process.poll() is None:
            self.process.terminate()
            with contextlib.suppress(subprocess.TimeoutExpired):
                self.process.wait(60)
        self.kill()

    def kill(self) -> None:
        """As the kernel kills it for memory: containers and containerd go on without it.

        All but one that it was just about to start. Docker 20.10 loses that one: it gives its address to the
        next container, while the half-started one answers there as well until the machine restarts.
        """
        if self.process is not None and self.process.poll() is None:
            self.process.send_signal(signal.SIGKILL)
            self.process.wait()
            for pid in _processes():
                if _is_half_started(pid, self.run):
                    print(f"\nended what Docker was about to start: {pid}")
                    with contextlib.suppress(ProcessLookupError):
                        os.kill(pid, signal.SIGKILL)

    def answers(self) -> bool:
        if not self.socket.exists():
            return False
        client = docker.APIClient(base_url=self.host, version="1.41", timeout=5)
        try:
            return bool(client.ping())
        except Exception:
            return False
        finally:
            client.close()

    def last_lines(self) -> str:
        return "\n".join(self.log.read_text(errors="replace").splitlines()[-15:])

    def docker(self, *arguments: str) -> str:
        """What the `docker` command says when it asks this engine."""
        done = subprocess.run(
            ["docker", "--host", self.host, *arguments], capture_output=True, text=True, check=True
        )
        return done.stdout

    @contextlib.contextmanager
    def client(self) -> Iterator[docker.APIClient]:
        client = docker.APIClient(base_url=self.host, version="auto", timeout=60)
        try:
            yield client
        finally:
            client.close()

    # -- what is in it --------------------------------------------------------------------------------

    def copy_in(self, *names: str) -> None:
        """Images of the engine on the default socket, with the same ids, unless they are here already."""
        for name in names:
            with self.client() as client, contextlib.suppress(docker.errors.NotFound):
                if client.inspect_image(name)["Id"] == _told_of(name)["Id"]:
                    continue
            with subprocess.Popen(["docker", "save", name], env=_theirs(), stdout=subprocess.PIPE) as save:
                subprocess.run(
                    ["docker", "--host", self.host, "load", "--quiet"],
                    stdin=save.stdout, check=True, capture_output=True,
                )  # fmt: skip

    def copy_flat(self, name: str) -> None:
        """The same as one layer, and so under another id: what is large is written once, not three times."""
        facts = _told_of(name)
        mark = f"{name}-flat-{facts['Id'].removeprefix('sha256:')[:12]}"
        with self.client() as client, contextlib.suppress(docker.errors.NotFound):
            client.tag(mark, *name.rsplit(":", 1))
            return
        self._forget(name.rpartition(":")[0])
        command = ["docker", "create", "--network", "none", name]
        made = subprocess.run(
            command, env=_theirs(), capture_output=True, text=True, check=True
        ).stdout.strip()
        try:
            changes = [part for each in _changes(facts["Config"]) for part in ("--change", each)]
            with subprocess.Popen(
                ["docker", "export", made], env=_theirs(), stdout=subprocess.PIPE
            ) as export:
                subprocess.run(
                    ["docker", "--host", self.host, "import", *changes, "-", mark],
                    stdin=export.stdout, check=True, capture_output=True,
                )  # fmt: skip
        finally:
            subprocess.run(["docker", "rm", made], env=_theirs(), check=True, capture_output=True)
        self.docker("tag", mark, name)

    def _forget(self, repository: str) -> None:
        """Copies of what has been made anew since would fill the disk."""
        with self.client() as client:
            for each in client.images(repository):
                with contextlib.suppress(docker.errors.APIError):
                    client.remove_image(each["Id"], force=True)

    def _empty(self) -> None:
        """Remove what an earlier run left, but for the base images and the build cache."""
        with self.client() as client:
            for each in client.containers(all=True):
                client.remove_container(each["Id"], force=True, v=True)
            client.prune_networks()
            for each in client.images():
                names = each.get("RepoTags") or []
                if not any(name.startswith(_KEPT) for name in names):
                    with contextlib.suppress(docker.errors.APIError):
                        client.remove_image(each["Id"], force=True)

    # -- its disk -------------------------------------------------------------------------------------

    def leave_room(self, free: int) -> None:
        """Fill its file system up to `free` bytes."""
        self.make_room()
        figures = os.statvfs(self.data)
        size = figures.f_bavail * figures.f_frsize - free
        with (self.data / "filler").open("wb") as filler:
            os.posix_fallocate(filler.fileno(), 0, size)

    def make_room(self) -> None:
        with contextlib.suppress(OSError):
            (self.data / "filler").unlink()

    def _mount(self) -> None:
        self.data.mkdir(exist_ok=True)
        if str(self.data) in self._mounts():
            if self._note.exists():
                # Containers may still use it, and a second mount of the same file beside it would harm both.
                return
            subprocess.run(["umount", "--lazy", str(self.data)], check=True)
        disk = self.folder / "disk.ext4"
        if not disk.exists():
            draft = disk.with_suffix(".new")
            with draft.open("wb") as file:
                file.truncate(_SIZE)
            subprocess.run(["mkfs.ext4", "-q", "-F", "-m", "0", str(draft)], check=True)
            draft.replace(disk)
        subprocess.run(["mount", "-o", "loop", str(disk), str(self.data)], check=True)

    def _mounts(self) -> list[str]:
        """Mount points of this engine, deepest first."""
        lines = Path("/proc/self/mountinfo").read_text().splitlines()
        places = [line.split()[4] for line in lines]
        ours = [place for place in places if place.startswith((str(self.data), str(self.run)))]
        return sorted(ours, key=len, reverse=True)

    def _make_bridge(self) -> None:
        self._ip("link", "delete", self.bridge, check=False)
        self._ip("link", "add", self.bridge, "type", "bridge")
        self._ip("address", "add", self._bridge_address, "dev", self.bridge)
        self._ip("link", "set", self.bridge, "up")

    def _ip(self, *arguments: str, check: bool = True) -> None:
        subprocess.run([*self._there, "ip", *arguments], check=check, capture_output=True)

    def _end_containerd(self) -> None:
        """containerd and its shims outlive a daemon that was killed; they know this engine's folder."""
        deadline = time.monotonic() + _START_S
        while left := [pid for pid in _processes() if str(self.run) in _told(pid) and pid != os.getpid()]:
            assert time.monotonic() < deadline, left
            for pid in left:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
            time.sleep(0.1)


def _theirs() -> dict[str, str]:
    """The environment with which a `docker` command asks the engine on the default socket."""
    return {name: value for name, value in os.environ.items() if name != "DOCKER_HOST"}


def _told_of(name: str) -> dict[str, Any]:
    command = ["docker", "image", "inspect", name]
    told = subprocess.run(command, env=_theirs(), capture_output=True, text=True, check=True)
    return dict(json.loads(told.stdout)[0])


def _changes(config: Mapping[str, Any]) -> list[str]:
    """What a flat copy loses, as instructions of a Dockerfile."""
    found = [f"{word} {json.dumps(config[key])}" for word, key in _LISTS.items() if config.get(key)]
    found += [f"{word} {config[key]}" for word, key in _WORDS.items() if config.get(key)]
    found += [f"ENV {name}={_quoted(value)}" for name, _, value in (e.partition("=") for e in config["Env"])]
    found += [f"LABEL {_quoted(k)}={_quoted(v)}" for k, v in (config.get("Labels") or {}).items()]
    return found


def _quoted(text: str) -> str:
    return '"' + re.sub(r'(["\\$])', r"\\\1", text) + '"'


def _processes() -> list[int]:
    return [int(entry.name) for entry in Path("/proc").iterdir() if entry.name.isdigit()]


def _is_half_started(pid: int, run: Path) -> bool:
    """Whether it waits to become a container's first process, for the engine in `run`."""
    place = Path("/proc") / str(pid)
    with contextlib.suppress(OSError):
        waits = (place / "comm").read_text().startswith("runc:[")
        return waits and bytes(run) in (place / "environ").read_bytes()
    return False


def _take(lock: IO[str]) -> None:
    """Another run of the tests may have it, or, by mistake, this one."""
    deadline = time.monotonic() + _LOCK_S
    while True:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return
        except BlockingIOError:
            assert time.monotonic() < deadline, f"{lock.name} is held: by another run, or twice in this one"
            time.sleep(0.2)


def _told(pid: int) -> str:
    """Its command line; empty for one that has ended."""
    with contextlib.suppress(OSError):
        if (Path("/proc") / str(pid) / "stat").read_text().rpartition(")")[2].split()[0] not in "ZX":
            return (Path("/proc") / str(pid) / "cmdline").read_bytes().replace(b"\0", b" ").decode()
    return ""
