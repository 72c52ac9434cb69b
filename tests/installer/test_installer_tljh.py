"""What the installer for servers sees and decides, without a server."""

from __future__ import annotations

import io
import os
import subprocess
import sys
import threading
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
from steps import hub, offline, project, server, tljh
from steps.console import Step, StepFailed
from steps.site import Site

BOOTSTRAP = Path(__file__).resolve().parents[2] / "installer" / "bootstrap.py"


def installed(prefix: Path, **packages: str) -> None:
    """A hub environment with these packages."""
    (prefix / "hub" / "bin").mkdir(parents=True, exist_ok=True)
    (prefix / "hub" / "bin" / "python3").touch()
    (prefix / "hub" / "bin" / "tljh-config").touch()
    for name, version in packages.items():
        (prefix / f"hub/lib/python3.11/site-packages/{name}-{version}.dist-info").mkdir(parents=True)


def look(prefix: Path) -> tljh.Found:
    return tljh.look(prefix, prefix / "tljh-config", prefix / "jupyterhub.service")


@pytest.fixture
def whole(tmp_path: Path) -> Path:
    installed(tmp_path, the_littlest_jupyterhub="2.0.1.dev0")
    (tmp_path / "jupyterhub.service").touch()
    (tmp_path / "tljh-config").symlink_to(tmp_path / "hub" / "bin" / "tljh-config")
    return tmp_path


# -- what is there ------------------------------------------------------------------------------------


def test_nothing_is_nothing(tmp_path: Path) -> None:
    assert look(tmp_path) == tljh.Found(whole=False, partial=False, plugin=False)


def test_a_tljh_is_whole_when_its_installer_came_to_its_end(whole: Path) -> None:
    assert look(whole) == tljh.Found(whole=True, partial=False, plugin=False, version="2.0.1.dev0")


@pytest.mark.parametrize("missing", ["tljh-config", "jupyterhub.service"])
def test_one_that_was_interrupted_is_partial(whole: Path, missing: str) -> None:
    (whole / missing).unlink()
    found = look(whole)
    assert (found.whole, found.partial) == (False, True)


def test_our_package_and_a_rival_are_seen(whole: Path) -> None:
    installed(whole, the_littlest_binder="0.2.0", tljh_repo2docker="3.0.13")
    found = look(whole)
    assert found.plugin
    assert found.others == ("tljh_repo2docker",)


# -- what stands in the way ---------------------------------------------------------------------------


def facts(**changed: object) -> server.Server:
    given: dict[str, object] = {
        "service_manager": True,
        "python": "3.11.2",
        "found": tljh.Found(whole=False, partial=False, plugin=False),
        "ours_to_finish": False,
        "ports": (),
        "spawners": (),
    }
    return server.Server(**(given | changed))  # type: ignore[arg-type]


def test_a_machine_that_fits_has_no_problem() -> None:
    assert server.problems(facts(), admin=True) == []


@pytest.mark.parametrize(
    ("changed", "value"),
    [
        ({"service_manager": False}, "/run/systemd/system"),
        ({"python": "3.9.2"}, "3.9.2"),
        ({"ports": ((80, "apache2 (process 12)"),)}, "by apache2 (process 12)"),
        ({"found": tljh.Found(False, True, False)}, "/opt/tljh"),
        ({"found": tljh.Found(True, False, False, others=("tljh_repo2docker",))}, "tljh-repo2docker"),
        ({"spawners": ("/opt/tljh/config/jupyterhub_config.d/x.py",)}, "/opt/tljh/config"),
    ],
)
def test_each_problem_names_its_value_and_the_way_out(changed: dict[str, object], value: str) -> None:
    (problem,) = server.problems(facts(**changed), admin=True)
    assert value in problem.value
    assert problem.next_step


def test_a_new_tljh_needs_an_administrator_and_one_that_is_there_does_not() -> None:
    (problem,) = server.problems(facts(), admin=False)
    assert "--admin" in problem.next_step
    assert server.problems(facts(found=tljh.Found(True, False, False)), admin=False) == []


def test_what_a_run_of_ours_left_half_done_is_no_problem() -> None:
    found = tljh.Found(whole=False, partial=True, plugin=False)
    assert server.problems(facts(found=found, ours_to_finish=True), admin=True) == []


def test_a_spawner_in_a_comment_is_none(tmp_path: Path) -> None:
    (tmp_path / "a.py").write_text("# c.JupyterHub.spawner_class = 'x'\n")
    (tmp_path / "b.py").write_text("c.JupyterHub.spawner_class = 'systemd'\n")
    assert server._spawners(tmp_path) == (str(tmp_path / "b.py"),)


# -- the page for a TLJH that is there ----------------------------------------------------------------


def page(*servers: str) -> str:
    there = facts(found=tljh.Found(True, False, False, version="1.0.0"))
    lines = server.page(there, server.People(("jupyter-ada", "jupyter-bob"), servers), "sudo x")
    assert all(len(line) <= 110 for line in lines)
    assert len(lines) <= 30, "one page"
    return "\n".join(lines)


def test_the_page_says_what_changes_what_stays_and_how_to_go_back() -> None:
    text = page()
    for said in (
        "1.0.0", "2 people", "containers", "/opt/tljh/user", "identity: unix", "jupyter-NAME",
        "What stays", "littlest-binder uninstall", "sudo x --yes", "No server runs now",
    ):  # fmt: skip
        assert said in text


def test_the_page_names_whose_server_will_be_stopped() -> None:
    assert "2 servers run now and will be stopped: ada, bob." in page(
        "jupyter-ada.service", "jupyter-bob.service"
    )


# -- the offline folder -------------------------------------------------------------------------------


def test_what_is_in_the_folder_is_used_and_the_rest_is_fetched(tmp_path: Path) -> None:
    assert offline.look(tmp_path).tljh_env(None) == {}
    (tmp_path / "the-littlest-jupyterhub" / "bootstrap").mkdir(parents=True)
    (tmp_path / "the-littlest-jupyterhub" / "bootstrap" / "bootstrap.py").touch()
    (tmp_path / "wheels").mkdir()
    (tmp_path / "Miniforge3-1-Linux-x86_64.sh").touch()
    found = offline.look(tmp_path)
    assert found.tljh_env(found.sources) == {
        "PIP_NO_INDEX": "1",
        "PIP_FIND_LINKS": str(tmp_path / "wheels"),
        "TLJH_BOOTSTRAP_PIP_SPEC": str(tmp_path / "the-littlest-jupyterhub"),
        "PYTHONPATH": str(offline.PATCH),
        offline.MINIFORGE_VARIABLE: str(tmp_path / "Miniforge3-1-Linux-x86_64.sh"),
    }
    assert found.named() == "TLJH's sources, Miniforge, Python packages"


def test_traefik_is_placed_once(tmp_path: Path) -> None:
    program = tmp_path / "traefik"
    program.write_text("#!/bin/sh\necho 'Version:      3.6.5'\n")
    folder = offline.look(tmp_path)
    assert offline.place_traefik(folder, tmp_path / "hub") == "3.6.5"
    placed = tmp_path / "hub" / "bin" / "traefik"
    before = placed.stat().st_ino
    assert offline.place_traefik(folder, tmp_path / "hub") == "3.6.5"
    assert placed.stat().st_ino == before


def test_a_program_that_does_not_run_here_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "traefik").write_bytes(b"\x7fELF of another machine")
    with pytest.raises(StepFailed, match="does not run here"):
        offline.place_traefik(offline.look(tmp_path), tmp_path / "hub")


@pytest.mark.parametrize(("argv", "used"), [(["-m", "tljh.installer"], True), (["-c", "pass"], False)])
def test_only_tljhs_installer_takes_miniforge_from_the_file(
    argv: list[str], used: bool, tmp_path: Path
) -> None:
    package = tmp_path / "tljh"
    package.mkdir()
    (package / "__init__.py").touch()
    (package / "conda.py").write_text("def sha256_file(path): return '1'\n")
    (package / "installer.py").write_text(
        "from tljh import conda\n"
        "with conda.download_miniconda_installer('https://x/M.sh', '2') as path: print('from', path)\n"
    )
    shown = subprocess.run(
        [sys.executable, *argv],
        env={
            **os.environ,
            "PYTHONPATH": f"{offline.PATCH}:{tmp_path}",
            offline.MINIFORGE_VARIABLE: "/offline/M.sh",
        },
        capture_output=True,
        text=True,
        check=True,
    ).stdout
    assert ("from /offline/M.sh" in shown) is used
    assert ("is not the file that TLJH names" in shown) is used


# -- the rest -----------------------------------------------------------------------------------------


def test_proxies_of_the_terminal_reach_the_service() -> None:
    text = hub.environment_text(
        {"https_proxy": 'http://u:"p\\@proxy:3128', "HOME": "/root", "no_proxy": "", "PIP_CERT": "a\nb"}
    )
    assert text == 'https_proxy="http://u:\\"p\\\\@proxy:3128"\n'


def test_the_link_may_lead_to_tljhs_environment() -> None:
    assert project.is_ours("/opt/tljh/hub/bin/littlest-binder")
    assert not project.is_ours("/opt/other/bin/littlest-binder")


@pytest.mark.parametrize(
    ("arguments", "value"),
    [
        (["--admin", "a b"], "'a b'"),
        (["--admin", "ada:"], "'ada:'"),
        (["--admin", ":x"], "':x'"),
        (["--offline", "/nowhere"], "'/nowhere'"),
    ],
)
def test_what_is_typed_wrong_is_refused_with_its_value(arguments: list[str], value: str) -> None:
    shown = subprocess.run(
        [sys.executable, str(BOOTSTRAP), "tljh", *arguments], capture_output=True, text=True, check=False
    )
    assert shown.returncode == 2
    assert value in shown.stderr


def test_without_an_administrator_it_looks_at_the_machine_and_changes_nothing() -> None:
    shown = subprocess.run(
        [sys.executable, str(BOOTSTRAP), "tljh"],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
    )
    assert (shown.returncode, shown.stderr) == (2, "")
    assert "nothing was changed" in shown.stdout.lower()


def test_a_password_is_not_repeated(monkeypatch: pytest.MonkeyPatch, site: Site) -> None:
    import binder_on_tljh
    import bootstrap

    typed = ["installer/bootstrap.py", "tljh", "--admin", "ada:geheim"]
    monkeypatch.setattr("sys.argv", typed)
    made = binder_on_tljh.OnTljh(bootstrap.parser().parse_args(typed[1:]), site.checkout)
    assert made._command() == "sudo python3 installer/bootstrap.py tljh --admin ada"


def test_an_interrupted_installation_is_cleared_of_what_can_be_made_anew(
    site: Site, step: Step, screen: io.StringIO, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Half a hub environment goes; a user environment goes only if it does not work; the state stays."""
    for name in ("hub", "user", "state"):
        (tmp_path / name / "bin").mkdir(parents=True)
    monkeypatch.setattr(tljh, "HUB", tmp_path / "hub")
    monkeypatch.setattr(tljh, "USER", tmp_path / "user")
    monkeypatch.setattr(tljh, "run", lambda *arguments, **options: [])
    for name in ("conda", "python"):
        (tmp_path / "user" / "bin" / name).write_text("#!/bin/sh\nexit 0\n")
        (tmp_path / "user" / "bin" / name).chmod(0o755)
    tljh._clear(site, step)
    assert not (tmp_path / "hub").exists()
    assert (tmp_path / "user").exists()
    (tmp_path / "user" / "bin" / "python").write_text("#!/bin/sh\nexit 1\n")
    tljh._clear(site, step)
    assert not (tmp_path / "user").exists()
    assert (tmp_path / "state").exists()


def test_the_proxy_is_told_for_each_entry_point_that_there_is() -> None:
    text = hub.traefik_text(["http", "https"])
    assert text.count("allowEncodedSlash = true") == 2
    assert "[entryPoints.https.http.encodedCharacters]" in text
    assert "BackSlash" not in text


class Proxy:
    """Answers like traefik: 404 until it knows its routes, 400 to escaped characters until told."""

    def __init__(self, unknown: int) -> None:
        self.unknown = unknown  # so many requests come before it knows its routes
        self.told = False
        proxy = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                proxy.unknown -= 1
                status = 404 if proxy.unknown >= 0 else 400 if "%" in self.path and not proxy.told else 200
                self.send_response(status)
                self.end_headers()

            def log_message(self, *_: object) -> None:
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)

    def __enter__(self) -> Proxy:
        threading.Thread(target=self.server.serve_forever, args=(0.05,), daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self.server.shutdown()
        self.server.server_close()

    def reload(self, *_: object) -> None:
        """As `tljh-config reload proxy`, after which it is without routes for a moment again."""
        self.told, self.unknown = hub._TRAEFIK.exists(), 2


@pytest.fixture
def behind(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[Proxy], None]:
    def listens(proxy: Proxy) -> None:
        section = {"port": proxy.server.server_port, "enabled": False}
        monkeypatch.setattr(hub, "_config", lambda *_: section)
        monkeypatch.setattr(hub, "_TRAEFIK", tmp_path / "traefik_config.d" / "littlest-binder.toml")
        monkeypatch.setattr(hub, "_reload_proxy", proxy.reload)
        monkeypatch.setattr(hub, "record", lambda *_: None)

    return listens


def test_a_proxy_that_does_not_know_its_routes_yet_is_waited_for(
    site: Site, step: Step, behind: Callable[[Proxy], None]
) -> None:
    """Its 404 looked like a link that passes."""
    with Proxy(unknown=3) as proxy:
        behind(proxy)
        assert hub.ensure_links(site, step).startswith("lets escaped characters pass")
        assert hub._TRAEFIK.exists()
        proxy.reload()
        assert "pass" in hub.ensure_links(site, step)


def test_a_proxy_that_never_leads_to_the_hub_ends_the_step(
    site: Site, step: Step, behind: Callable[[Proxy], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(hub, "_PROXY_S", 0.5)
    monkeypatch.setattr(hub, "_journal", lambda unit: [f"of {unit}"])
    with Proxy(unknown=10**6) as proxy:
        behind(proxy)
        with pytest.raises(StepFailed, match="does not lead to the hub") as caught:
            hub.ensure_links(site, step)
    assert caught.value.tail == ("of traefik",)
    assert not hub._TRAEFIK.exists()


def test_a_systemd_that_is_not_on_the_path_is_put_there_for_the_bootstrap(tmp_path: Path) -> None:
    """As on Debian 13; TLJH's bootstrap would say that systemd is required."""
    there = tmp_path / "lib" / "systemd"
    there.parent.mkdir()
    nothing = {"PATH": str(tmp_path)}
    assert tljh.with_systemd(nothing, there) == nothing, "no systemd is no systemd"
    there.touch(mode=0o755)
    assert tljh.with_systemd(nothing, there) == {"PATH": f"{tmp_path}:{there.parent}"}
    found = {"PATH": str(there.parent)}
    assert tljh.with_systemd(found, there) == found


def test_a_service_that_the_unit_did_not_start_stands_in_the_way(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It holds the store: our unit would try for ever, and the other one's answers look like its own."""
    lock, group = tmp_path / "lock", tmp_path / "42" / "cgroup"
    group.parent.mkdir()
    monkeypatch.setattr(hub, "_LOCK", lock)
    monkeypatch.setattr(hub, "_ask_service", lambda: None)
    assert hub.problems(tmp_path) == []
    monkeypatch.setattr(hub, "_ask_service", dict)
    assert hub.problems(tmp_path) == [], "it has just ended"
    lock.write_text("42\n")
    group.write_text("1:name=systemd:/system.slice/tljh-binder.service\n")
    assert hub.problems(tmp_path) == []
    group.write_text("1:name=systemd:/system.slice/own-binder.service\n")
    assert [each.value for each in hub.problems(tmp_path)] == ["process 42"]
