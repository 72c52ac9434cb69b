"""Packages: what is missing is found out, and the machine's own apt is left alone."""

from __future__ import annotations

import contextlib
import functools
import hashlib
import http.server
import os
import signal
import subprocess
import sys
import threading
import time
from dataclasses import replace
from pathlib import Path

import pytest
from steps import base_image, buildx, machine, packages
from steps.console import Step, StepFailed
from steps.site import DEFAULT_MIRROR, Site, record

INSTALLER = Path(__file__).resolve().parents[2] / "installer"


def test_what_dpkg_has_is_told_from_what_it_has_not() -> None:
    assert packages.installed(["dpkg", "no-such-package-at-all"]) == {"dpkg"}


def test_nothing_missing_installs_nothing(site: Site, step: Step) -> None:
    assert packages.ensure_packages(site, step, ["dpkg"]) == []
    assert packages.ensure_programs(site, step, {"sh": "dash", "/etc/passwd": "base-passwd"}) == []


@pytest.mark.parametrize(
    ("targets", "mirror"),
    [
        ("", DEFAULT_MIRROR),
        ("Debian Debian main http://mirror.example/debian/\n", "http://mirror.example/debian"),
        ("Ubuntu Ubuntu main http://mirror.example/ubuntu/\n", DEFAULT_MIRROR),
        ("Debian Debian-Security main http://mirror.example/debian-security/\n", DEFAULT_MIRROR),
        ("Debian Debian contrib http://mirror.example/debian/\n", DEFAULT_MIRROR),
        ("Debian Debian main cdrom://disc/\nDebian Debian main http://b/debian\n", "http://b/debian"),
        # A minimal image has no certificates with which it could reach this one.
        ("Debian Debian main https://mirror.example/debian/\n", DEFAULT_MIRROR),
    ],
)
def test_the_mirror_is_the_machines_own(targets: str, mirror: str) -> None:
    assert packages.choose_mirror(targets) == mirror


def test_our_policy_for_services_goes_when_its_writer_is_gone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, site: Site
) -> None:
    policy = tmp_path / "policy-rc.d"
    monkeypatch.setattr(packages, "POLICY", policy)
    with packages.services_kept_still(site):
        assert subprocess.run([policy], check=False).returncode == 101
        packages._remove_own_policy()
        assert policy.exists(), "its writer, we, still run"
    assert not policy.exists()
    ended = subprocess.Popen(["true"])
    ended.wait()
    policy.write_text(f"#!/bin/sh\n{packages._POLICY_MARK}{ended.pid}.\nexit 101\n")
    packages._remove_own_policy()
    assert not policy.exists()


def test_the_machines_own_policy_for_services_stays(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, site: Site
) -> None:
    policy = tmp_path / "policy-rc.d"
    policy.write_text("#!/bin/sh\nexit 101\n")
    monkeypatch.setattr(packages, "POLICY", policy)
    with packages.services_kept_still(site):
        pass
    packages._remove_own_policy()
    assert policy.read_text() == "#!/bin/sh\nexit 101\n"


@pytest.mark.parametrize(
    ("depends", "unmet"),
    [
        ("Depends: libc6 (>= 2.34)", []),
        ("Depends: libc6 (>= 99), dpkg", ["libc6 (>= 99)"]),
        ("Depends: no-such-package | dpkg (>> 1.0)", []),
        ("Depends: no-such-package:any", ["no-such-package:any"]),
        ("Package: without-any", []),
    ],
)
def test_a_foreign_package_is_taken_only_if_this_machine_has_what_it_needs(
    depends: str, unmet: list[str]
) -> None:
    assert buildx.unmet_dependencies(f"Package: x\n{depends}\nSize: 1\n") == unmet


def apt_state() -> str:
    """A digest of everything that apt and dpkg know and are told on this machine."""
    total = hashlib.sha256()
    for folder in ("/etc/apt", "/var/lib/apt/lists", "/var/lib/dpkg"):
        for path in sorted(Path(folder).rglob("*")):
            if path.is_file() and "lock" not in path.name:
                total.update(f"{path} {path.stat().st_mtime_ns} {path.stat().st_size}".encode())
    return total.hexdigest()


@pytest.mark.skipif(os.geteuid() != 0, reason="apt needs root rights")
def test_the_next_releases_package_is_fetched_and_the_machines_apt_stays_as_it_was(
    site: Site, step: Step, tmp_path: Path
) -> None:
    before = apt_state()
    package = buildx.fetch(site, step, tmp_path)
    assert apt_state() == before
    shown = subprocess.run(["dpkg-deb", "--contents", package], capture_output=True, text=True, check=True)
    assert "docker/cli-plugins/docker-buildx" in shown.stdout


@pytest.mark.skipif(os.geteuid() != 0, reason="apt needs root rights")
def test_killed_while_it_fetches_it_leaves_the_machines_apt_as_it_was(tmp_path: Path) -> None:
    before = apt_state()
    code = (
        "import os; from pathlib import Path; from steps import buildx; from steps.console import Console\n"
        "from steps.person import Person; from steps.site import Site\n"
        f"root, here = Person('root', 0, 0, Path('/root')), Path({str(tmp_path)!r})\n"
        "site = Site(root, here, here / 'venv', here, dict(os.environ))\n"
        "buildx.fetch(site, Console(total=1).start('fetch'), here)\n"
    )
    installer = subprocess.Popen(
        [sys.executable, "-c", code], cwd=INSTALLER, stdout=subprocess.DEVNULL, start_new_session=True
    )
    partial = tmp_path / "state" / "lists" / "partial"
    while installer.poll() is None and not (partial.exists() and any(partial.iterdir())):
        time.sleep(0.002)
    with contextlib.suppress(ProcessLookupError):  # it was done before we looked
        os.killpg(installer.pid, signal.SIGKILL)
    installer.wait()
    assert apt_state() == before


@pytest.mark.skipif(os.geteuid() != 0, reason="apt needs root rights")
def test_a_mirror_that_debian_did_not_sign_is_refused(site: Site, step: Step, tmp_path: Path) -> None:
    served = tmp_path / "served"
    architecture = machine.read(site.person, tmp_path, tmp_path, {}, port=1).architecture
    index = served / "dists" / "trixie" / "main" / f"binary-{architecture}"
    index.mkdir(parents=True)
    (index / "Packages").write_text("Package: docker-buildx\nVersion: 6.6.6\nArchitecture: all\n")
    (served / "dists" / "trixie" / "Release").write_text("Origin: Debian\nSuite: trixie\nCodename: trixie\n")
    handler = functools.partial(QuietHandler, directory=served)
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever).start()
        try:
            elsewhere = replace(site, mirror=f"http://127.0.0.1:{server.server_port}")
            with pytest.raises(StepFailed) as caught:
                buildx.fetch(elsewhere, step, tmp_path / "work")
        finally:
            server.shutdown()
    assert "not signed" in "\n".join(caught.value.tail)


class QuietHandler(http.server.SimpleHTTPRequestHandler):
    def log_message(self, format: str, *arguments: object) -> None:
        pass


def test_security_updates_are_among_the_sources_where_the_mirror_has_them() -> None:
    text = base_image.sources("bookworm", "http://m/debian", "http://m/debian-security")
    assert "deb http://m/debian-security bookworm-security main" in text
    assert "security" not in base_image.sources("bookworm", "http://m/debian", "")


@pytest.mark.parametrize("options", ["", "[signed-by=/usr/share/keyrings/x.gpg] "])
def test_the_mirror_that_debootstrap_took_is_used_further(options: str) -> None:
    listed = f"deb {options}http://m/debian/ bookworm main\n"
    assert base_image.used_mirror(listed) == "http://m/debian"
    with pytest.raises(StepFailed, match="no package source"):
        base_image.used_mirror("# nothing\n")


def test_what_a_killed_run_left_is_cleared_away(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(buildx, "WORK_DIR", tmp_path)
    ended = subprocess.Popen(["true"])
    ended.wait()
    (tmp_path / f"debian-{ended.pid}-abc" / "root").mkdir(parents=True)
    (tmp_path / f"debian-{os.getpid()}-abc").mkdir()
    with buildx.work_folder("debian-") as folder:
        assert folder.parent == tmp_path
        assert not (tmp_path / f"debian-{ended.pid}-abc").exists()
        assert (tmp_path / f"debian-{os.getpid()}-abc").exists(), "another run's, which goes on"
    assert not folder.exists()


def test_a_change_of_the_machine_is_recorded_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("steps.site.RECORD", tmp_path / "deep" / "machine.jsonl")
    record("file", "/usr/local/x")
    record("file", "/usr/local/x")
    record("file", "/usr/local/y")
    assert len((tmp_path / "deep" / "machine.jsonl").read_text().splitlines()) == 2
