"""Binder at home without a terminal: started once, found, opened and stopped."""

from __future__ import annotations

import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import docker
import httpx
import pytest
from desktop import LINK, Desktop

from tljh_plugin.settings import load_desktop

pytestmark = [pytest.mark.docker, pytest.mark.hub]

# What a browser does with an address: go there, as often as the page says, until it is elsewhere.
BROWSER = """#!{python}
import sys, time, urllib.error, urllib.request
class Stay(urllib.request.HTTPRedirectHandler):
    def redirect_request(self, *_):
        return None
web = urllib.request.build_opener(urllib.request.ProxyHandler({{}}), Stay)
with open({note!r}, "a") as note:
    while True:
        try:
            text = web.open(sys.argv[1]).read().decode()
            print("PAGE", text, file=note, flush=True)
            if "http-equiv" not in text:
                break
        except urllib.error.HTTPError as error:
            print("SENT TO", error.headers["Location"], file=note, flush=True)
            break
        time.sleep(0.2)
"""


@pytest.fixture
def desktop(tmp_path: Path, base_image: str, client: docker.APIClient) -> Iterator[Desktop]:
    """Nothing runs; its browser notes in `browser.txt` where it was sent."""
    made = Desktop(tmp_path)
    program = tmp_path / "browser"
    program.write_text(BROWSER.format(python=sys.executable, note=str(tmp_path / "browser.txt")))
    program.chmod(0o755)
    made.environment |= {"BROWSER": str(program), "XDG_CONFIG_HOME": str(tmp_path / "config")}
    yield made
    made.command("stop")
    assert made.processes() == []


def sign_in(desktop: Desktop, link: str) -> int:
    local = link.replace("binder.localhost", "127.0.0.1")
    return httpx.get(local, headers={"Host": f"binder.localhost:{desktop.port}"}, timeout=60).status_code


def test_started_twice_it_runs_once_and_stop_ends_all_of_it(desktop: Desktop) -> None:
    first = desktop.command("start", "--no-browser")
    assert first.returncode == 0, first.stderr
    assert "Base image" in first.stderr, "what goes on is shown"
    ups = [line for line in desktop.processes() if " up --no-link" in line]
    assert len(ups) == 1
    second = desktop.command("start", "--no-browser")
    assert [line for line in desktop.processes() if " up --no-link" in line] == ups
    for done in (first, second):
        found = LINK.search(done.stdout)
        assert found
        assert sign_in(desktop, found[0]) == 302
    log = (desktop.state / "logs" / "up.log").read_text()
    assert not LINK.search(log), "no link lies in a file"
    assert desktop.command("stop").stdout == "Stopped.\n"
    assert desktop.processes() == []
    assert "Nothing runs" in desktop.command("stop").stdout


def test_two_starts_at_the_same_moment_agree(desktop: Desktop) -> None:
    command = [sys.executable, "-m", "tljh_plugin.cli", "start", "--no-browser"]
    both = [
        subprocess.Popen(command, env=desktop.environment, stdout=subprocess.PIPE, text=True)
        for _ in range(2)
    ]
    for each in both:
        assert LINK.search(each.communicate(timeout=300)[0])
        assert each.returncode == 0
    assert len([line for line in desktop.processes() if "-m jupyterhub" in line]) == 1


def test_the_menu_entry_leads_to_the_page_without_a_terminal(desktop: Desktop) -> None:
    done = desktop.command("start", "--menu")
    assert done.returncode == 0, done.stderr
    assert done.stdout == ""
    told = (desktop.home / "browser.txt").read_text()
    assert "Starting The Littlest Binder" in told
    link = LINK.search(told.partition("SENT TO ")[2])
    assert link
    assert sign_in(desktop, link[0]) == 302


def test_the_menu_entry_shows_an_error_on_a_page(desktop: Desktop) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", desktop.port))
        taken.listen()
        done = desktop.command("start", "--menu")
    assert done.returncode == 3
    told = (desktop.home / "browser.txt").read_text()
    assert "did not start" in told
    assert f"Port {desktop.port} on 127.0.0.1 is taken" in told
    assert str(load_desktop(desktop.state).log_dir / "up.log") in told


def test_link_open_sends_the_browser_there_and_shows_no_link(desktop: Desktop) -> None:
    desktop.command("start", "--no-browser")
    desktop.environment["DISPLAY"] = ":99"
    done = desktop.command("link", "--open")
    assert (done.returncode, done.stdout) == (0, "")
    link = LINK.search((desktop.home / "browser.txt").read_text().partition("SENT TO ")[2])
    assert link
    assert sign_in(desktop, link[0]) == 302


def test_what_runs_in_a_terminal_can_be_stopped_from_outside(desktop: Desktop) -> None:
    desktop.up()
    assert desktop.command("stop").stdout == "Stopped.\n"
    assert desktop.process is not None
    assert desktop.process.wait(60) == 0
