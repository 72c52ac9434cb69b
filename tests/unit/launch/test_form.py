"""The form on the hub's own spawn page, without a hub."""

from __future__ import annotations

from html.parser import HTMLParser

import pytest

from tljh_plugin.errors import InvalidOptions, InvalidSpec
from tljh_plugin.launch import form
from tljh_plugin.launch.options import LaunchOptions, parse
from tljh_plugin.launch.ticks import ticks
from tljh_plugin.wire import ErrorView, ImageView, MountView

COMMIT = "a" * 40
IMAGE = f"sha256:{'b' * 64}"


class Fields(HTMLParser):
    """What a browser would send if the form were sent as it is."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.sent: dict[str, list[str]] = {}
        self.tags: list[str] = []
        self._select = ""
        self.feed(html)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        given = {name: value or "" for name, value in attrs}
        self.tags.append(tag)
        if tag == "select":
            self._select = given["name"]
        elif tag == "option" and ("selected" in given or self._select not in self.sent):
            self.sent[self._select] = [given["value"]]
        elif tag == "input" and "disabled" not in given:
            kind = given.get("type")
            if kind == "checkbox" and "checked" in given:
                self.sent.setdefault(given["name"], []).append(given["value"])
            elif kind not in ("radio", "checkbox") or "checked" in given:
                self.sent[given["name"]] = [given.get("value", "")]


def image(**changes: str) -> ImageView:
    values = {
        "id": IMAGE, "name": "littlest-binder/x:1", "title": "x", "spec": "gh/o/r/main", "commit": COMMIT,
        "repository": "https://github.com/o/r", "built_by": "ada", "created": "",
    }  # fmt: skip
    return ImageView.model_validate({**values, "size": 1, **changes})


@pytest.mark.parametrize(
    "options",
    [
        {"repository": "gh/o/r/main", "commit": COMMIT, "path": "lab/tree/a%20%23b.ipynb"},
        {"repository": "gh/o/r/HEAD", "commit": COMMIT, "storage": "ephemeral"},
        {"repository": "git/https%3A%2F%2Fgit.example.org%2Fo%2Fr/feature/x", "commit": COMMIT},
        {"repository": "gl/group%2Fsub%2Fproject/v1.0", "commit": COMMIT, "path": "rstudio/"},
        {"repository": "local/%2Fsrv%2Frepositories%2Fa%20b", "commit": COMMIT, "project": "r-1234abcd"},
        {"repository": "gh/o/r/main?subdir=a/b", "commit": COMMIT},
        {"image": IMAGE, "path": "lab/tree/x.ipynb?reset"},
    ],
)
def test_start_on_a_prefilled_form_means_the_options_of_before(options: dict[str, str]) -> None:
    before = parse(options)
    sent = Fields(form.render(form.from_options(before), [image()])).sent
    assert parse(form.read(sent)) == before


MOUNTS = [
    MountView(id="lab", title="The <lab>", target="/data/lab", link="lab", default=True),
    MountView(id="shared", title="Shared", target="/mnt/s", link="shared", access="read-write"),
    MountView(
        id="gone", title="Gone", target="/data/gone", link="gone", default=True,
        error=ErrorView(code="mount-missing", message="/srv/<gone> is not there.", next="Mount its disk."),
    ),
]  # fmt: skip


def test_a_new_form_ticks_what_is_on_by_default_and_can_be_had() -> None:
    html = form.render(form.from_options(None), [], mounts=MOUNTS)
    sent = Fields(html).sent
    assert (sent["mounts"], sent["my_files"]) == (["lab"], ["1"])
    assert "~/shared, /mnt/s" in html
    assert "read and write" in html
    assert "/srv/&lt;gone&gt; is not there. Mount its disk." in html
    assert "<lab>" not in html
    assert [each.ticked for each in ticks(MOUNTS, None)] == [True, False, False]
    read = parse(form.read({**sent, "repository": ["o/r"]}))
    assert (read.mounts, read.my_files) == (("lab",), True)


def test_a_form_ticks_what_was_ticked_before() -> None:
    before = parse({"repository": "gh/o/r/main", "commit": COMMIT, "mounts": ["shared", "gone"]})
    sent = Fields(form.render(form.from_options(before), [], mounts=MOUNTS)).sent
    assert sent["mounts"] == ["shared"]
    assert "my_files" not in sent
    typed = form.from_typed({**sent, "mounts": ["lab", "shared"], "my_files": ["1"]})
    assert Fields(form.render(typed, [], mounts=MOUNTS)).sent["mounts"] == ["lab", "shared"]


def test_a_link_ticks_nothing() -> None:
    asked = parse({"repository": "gh/o/r/main", "mounts": ["lab", "shared"], "my_files": True})
    for choice in (form.from_options(asked), form.from_options(None)):
        sent = Fields(form.render(form.without_ticks(choice), [], mounts=MOUNTS)).sent
        assert not {"mounts", "my_files"} & set(sent)


def test_a_new_project_is_made_once() -> None:
    before = LaunchOptions(repository="gh/o/r/main", commit=COMMIT, project="new")
    sent = Fields(form.render(form.from_options(before), [])).sent
    assert parse(form.read(sent)).project == ""


@pytest.mark.parametrize("change", [{"ref": ["other"]}, {"repository": ["o/other"]}, {"newest": ["1"]}])
def test_the_commit_is_kept_only_for_what_it_belongs_to(change: dict[str, list[str]]) -> None:
    before = LaunchOptions(repository="gh/o/r/main", commit=COMMIT, project="r-1234abcd")
    sent = Fields(form.render(form.from_options(before), [])).sent
    changed = parse(form.read({**sent, **change}))
    assert changed.commit == ""
    assert changed.project == "", "files of one commit are not silently used with another"


@pytest.mark.parametrize(
    ("typed", "meant"),
    [
        ({"repository": ["o/r"]}, {"repository": "gh/o/r/HEAD"}),
        ({"repository": ["https://github.com/o/r/tree/dev"]}, {"repository": "gh/o/r/dev"}),
        (
            {"repository": ["https://mybinder.org/v2/gh/o/r/main?labpath=a%20b.ipynb"]},
            {"repository": "gh/o/r/main", "path": "lab/tree/a%20b.ipynb"},
        ),
        (
            {"repository": ["o/r"], "ref": ["feature/x"], "path": ["/rstudio"]},
            {"repository": "gh/o/r/feature/x", "path": "rstudio"},
        ),
        (
            {"repository": ["o/r"], "kind": ["repository"], "image": [IMAGE], "storage": ["new"]},
            {"repository": "gh/o/r/HEAD", "project": "new"},
        ),
        ({"repository": ["o/r"], "kind": ["image"], "image": [IMAGE]}, {"image": IMAGE}),
    ],
)
def test_what_is_typed_becomes_options(typed: dict[str, list[str]], meant: dict[str, str]) -> None:
    assert parse(form.read(typed)) == parse(meant)


@pytest.mark.parametrize(
    ("typed", "error", "shown"),
    [
        ({}, InvalidOptions, "Neither a repository nor an image"),
        ({"repository": ["  "]}, InvalidOptions, "Neither"),
        ({"repository": ["file:///etc"]}, InvalidSpec, "file"),
        ({"kind": ["image"], "image": ["debian:latest"]}, InvalidOptions, "debian:latest"),
        ({"repository": ["o/r"], "storage": ["/etc"]}, InvalidOptions, "/etc"),
        ({"repository": ["o/r"], "path": ["//evil.example/x"]}, None, ""),
    ],
)
def test_what_cannot_be_meant_is_refused_with_its_value(
    typed: dict[str, list[str]], error: type[Exception] | None, shown: str
) -> None:
    if error is None:
        # Slashes at the beginning only say that it is an address on the person's own server.
        assert form.read(typed)["path"] == "evil.example/x"
        return
    with pytest.raises(error, match=shown):
        form.read(typed)


def test_nothing_typed_becomes_markup() -> None:
    nasty = '"><script>alert(1)</script>'
    typed = {
        name: [nasty] for name in ("repository", "ref", "path", "commit", "commit_of", "image", "storage")
    }
    choice = form.from_typed({**typed, "kind": ["image"]})
    html = form.render(choice, [image(title=nasty, name=nasty)], notice=nasty, problem=nasty)
    assert "script" not in Fields(html).tags
    assert Fields(html).sent["repository"] == [nasty]


def test_a_new_form_offers_the_storage_of_the_settings() -> None:
    assert Fields(form.render(form.from_options(None, "ephemeral"), [])).sent["storage"] == ["ephemeral"]
