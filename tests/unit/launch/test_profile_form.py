"""Profiles in options, links and the hub's own form."""

from __future__ import annotations

import re
from typing import Any

import pytest

from tljh_plugin.errors import InvalidOptions, InvalidSpec
from tljh_plugin.launch import form
from tljh_plugin.launch.options import parse
from tljh_plugin.source.spec import LaunchLink, parse_typed
from tljh_plugin.wire import ProfilesView, ProfileView, RoomView

GIB = 1024**3
SMALL = ProfileView(id="small", title="Small", memory_bytes=GIB, cpus=1, default=True)
BIG = ProfileView(
    id="big", title="Big", memory_bytes=8 * GIB, cpus=4, lifetime_s=43200, description="<b>GPU</b>"
)
ROOM = RoomView(
    memory_bytes=16 * GIB, available_bytes=9 * GIB, cpus=4, load=0.5, servers=2, promised_bytes=3 * GIB
)


def shown(profiles: ProfilesView | None, **options: Any) -> tuple[list[str], str]:
    """Ids of the profiles that are selected, and the form."""
    choice = form.from_options(parse({"repository": "gh/o/r/main", **options}))
    html = form.render(choice, [], profiles=profiles)
    select = re.search(r'<select[^>]* name="profile".*?</select>', html, re.DOTALL)
    return re.findall(r'value="([^"]*)" selected', select[0]) if select else [], html


def test_the_default_is_preselected_and_what_was_chosen_before_wins() -> None:
    both = ProfilesView(profiles=(SMALL, BIG), room=ROOM)
    assert shown(both)[0] == ["small"]
    assert shown(both, profile="big")[0] == ["big"]
    assert shown(both, profile="gone")[0] == ["small"]
    assert form.read({"repository": ["o/r"], "profile": ["big"]})["profile"] == "big"
    html = shown(both, profile="big")[1]
    assert "Big: 8 GiB memory, 4 processors, ends after 12 h. &lt;b&gt;GPU&lt;/b&gt;" in html
    assert (
        "9 of 16 GiB memory are free, 0.5 of 4 processors busy. 2 servers are running (up to 3 GiB)." in html
    )


def test_what_does_not_fit_is_shown_with_its_reason() -> None:
    full = BIG.model_copy(update={"problem": "You have 2 servers.", "possible": True})
    never = BIG.model_copy(update={"id": "huge", "title": "Huge", "problem": "Too big.", "possible": False})
    selected, html = shown(ProfilesView(profiles=(SMALL, full, never)), profile="huge")
    assert selected == ["small"], "what never fits is not preselected"
    assert "Big: You have 2 servers." in html
    assert html.count("disabled>Huge") == 1


def test_one_profile_is_no_choice() -> None:
    html = shown(ProfilesView(profiles=(SMALL,)))[1]
    assert 'name="profile"' not in html
    assert "Small" not in html
    full = SMALL.model_copy(update={"problem": "You have 3."})
    assert "You have 3." in shown(ProfilesView(profiles=(full,)))[1]
    assert 'name="profile"' not in shown(None)[1]


@pytest.mark.parametrize("bad", ["/etc", "Big", "a b", "-x", "x" * 41])
def test_a_profile_is_an_id(bad: str) -> None:
    with pytest.raises(InvalidOptions, match="profile"):
        parse({"repository": "gh/o/r/main", "profile": bad})
    with pytest.raises(InvalidSpec, match="id of a profile"):
        LaunchLink.from_request("gh/o/r/main", {"profile": [bad]})


def test_a_link_may_propose_a_profile() -> None:
    link = LaunchLink.from_request("gh/o/r/main", {"profile": ["big"]})
    assert link.profile == "big"
    assert link.to_url("https://hub").endswith("/v2/gh/o/r/main?profile=big")
    assert parse_typed("https://mybinder.org/v2/gh/o/r/main?profile=big").profile == "big"
    assert form.read({"repository": ["https://mybinder.org/v2/gh/o/r/main?profile=big"]})["profile"] == "big"
