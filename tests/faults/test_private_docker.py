"""The tests' own Docker after a run of the tests that was killed: the next run ends all that is left."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from private_docker import PrivateDocker

from tljh_plugin.build.processes import process_facts

pytestmark = pytest.mark.docker

IMAGE = "littlest-binder/base:sleep"
# A run of the tests that has a container running, says so, and is still there.
RUN = f"""
import sys
from pathlib import Path
from private_docker import PrivateDocker

with PrivateDocker(Path(sys.argv[1])) as engine:
    engine.docker("import", sys.argv[2], "{IMAGE}")
    engine.docker("run", "--detach", "--network", "none", "{IMAGE}", "/usr/bin/sleep", "600")
    engine.leave_room(10_000_000)
    print("ready", flush=True)
    sys.stdin.read()
"""


def of_this_run(run: Path) -> list[str]:
    """Processes, mounts and folders that belong to an engine."""
    found = [str(run)] if run.exists() else []
    for entry in Path("/proc").glob("[0-9]*"):
        facts = process_facts(int(entry.name))
        if facts is not None and facts.state not in "ZX":
            try:
                command = (entry / "cmdline").read_bytes().replace(b"\0", b" ").decode()
            except OSError:
                continue
            found += [f"{entry.name} {command}"] if str(run) in command else []
    return found


def test_the_next_run_ends_what_a_killed_one_left(tmp_path: Path) -> None:
    folder, image = tmp_path / "engine", tmp_path / "image.tar"
    libraries = subprocess.run(["ldd", "/usr/bin/sleep"], capture_output=True, text=True, check=True).stdout
    files = ["/usr/bin/sleep", *re.findall(r"(/\S+) \(0x", libraries)]
    subprocess.run(["tar", "-cPhf", image, *files], check=True)
    first = subprocess.Popen(
        [sys.executable, "-c", RUN, str(folder), str(image)],
        cwd=Path(__file__).parents[1],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        start_new_session=True,
    )
    try:
        assert first.stdout
        assert first.stdout.readline() == b"ready\n"
    finally:
        os.kill(first.pid, signal.SIGKILL)
        first.wait()
    known = json.loads((folder / "running.json").read_text())
    run = Path(known["run"])
    left = process_facts(known["pid"])
    assert left
    assert left.start == known["start"]

    with PrivateDocker(folder) as second:
        assert second.run == run
        assert second.process
        assert second.process.pid != known["pid"]
        assert second.docker("ps", "--all", "--quiet") == ""
        assert IMAGE in second.docker("images", "--format", "{{.Repository}}:{{.Tag}}")
        assert not (second.data / "filler").exists()
        bridge = Path("/sys/class/net", second.bridge)
        assert bridge.exists()
    assert of_this_run(run) == []
    assert not bridge.exists()
    assert str(folder) not in Path("/proc/self/mountinfo").read_text()


def test_a_process_that_got_the_number_of_the_daemon_is_left_alone(tmp_path: Path) -> None:
    """As after a crash long ago: the note is of another start than the process with its number now."""
    stranger = subprocess.Popen(["sleep", "600"])
    try:
        facts = process_facts(stranger.pid)
        assert facts
        engine = PrivateDocker(tmp_path)
        (tmp_path / "run").mkdir()
        engine.process, engine.run = stranger, tmp_path / "run"
        engine._write_note()
        known = json.loads(engine._note.read_text())
        engine._note.write_text(json.dumps({**known, "start": facts.start - 1}))
        engine._take_over()
        assert stranger.poll() is None
        engine._note.write_text(json.dumps(known))
        engine._take_over()
        assert stranger.wait(60) == -signal.SIGKILL
    finally:
        stranger.kill()
        stranger.wait()
