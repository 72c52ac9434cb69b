"""What git is told, so that it connects to the address that was allowed and to no other."""

from __future__ import annotations

import pytest

from tljh_plugin.errors import PolicyRefused, RepositoryUnreachable
from tljh_plugin.source import git
from tljh_plugin.source.remote import _http_access, explain
from tljh_plugin.source.spec import parse_typed


def test_git_is_held_to_the_addresses_that_were_looked_at(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(git, "version", lambda: (2, 37))
    options = dict(_http_access("http://git.example.org/x", ["192.0.2.1", "2001:db8::1"]).options)
    assert options["http.curloptResolve"] == "git.example.org:80:192.0.2.1,[2001:db8::1]"


def test_an_older_git_that_looks_names_up_once_more_gets_none_over_plain_http(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Over https a name that points elsewhere meanwhile ends at the certificate."""
    monkeypatch.setattr(git, "version", lambda: (2, 34))
    with pytest.raises(PolicyRefused, match=r"git\.example\.org.*up again"):
        _http_access("http://git.example.org/x", ["192.0.2.1"])
    assert _http_access("https://git.example.org/x", ["192.0.2.1"]).protocol == "https"
    for host, address in (("192.0.2.1", "192.0.2.1"), ("[2001:db8::1]", "2001:db8::1")):
        assert _http_access(f"http://{host}/x", [address]).protocol == "http"
    monkeypatch.setenv("http_proxy", "http://proxy.example.org:3128")
    assert _http_access("http://git.example.org/x", []).protocol == "http"


@pytest.mark.parametrize("said", ["sh: 1: ssh: not found", "/bin/sh: line 1: ssh: command not found"])
def test_a_machine_without_ssh_is_not_mistaken_for_a_repository_that_is_missing(said: str) -> None:
    failed = git.GitFailed("ls-remote", 128, f"{said}\nfatal: Could not read from remote repository.\n")
    told = explain(failed, parse_typed("ssh://git@example.org/owner/repo").spec)
    assert isinstance(told, RepositoryUnreachable)
    assert "no `ssh`" in told.message
    assert "openssh-client" in told.next_step
