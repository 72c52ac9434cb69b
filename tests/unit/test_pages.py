"""The pages speak of what is there: commands, options, settings, addresses, files, error codes, pages."""

from __future__ import annotations

import argparse
import functools
import re
import sys
from pathlib import Path
from typing import Any, get_args, get_origin

import click
import pytest
from pages import DOCS, ROOT, Page, all_pages
from ruamel.yaml import YAML

from tljh_plugin import errors
from tljh_plugin.build.explain import MEANINGS
from tljh_plugin.cli import group
from tljh_plugin.service.app import API_ROUTES, OWN_API_ROUTES
from tljh_plugin.settings import Settings, entry_of, from_mapping

for place in (DOCS, ROOT / "installer"):
    sys.path.insert(0, str(place))

import bootstrap  # noqa: E402

PAGES = all_pages()
BY_PATH = {page.path: page for page in PAGES}
CONTEXT = click.Context(group, info_name="littlest-binder")
KINDS = ("how-to", "tutorial", "reference", "explanation")

each_page = pytest.mark.parametrize("page", [pytest.param(page, id=page.name) for page in PAGES])

# Options of other programs that pages name by themselves.
OF_OTHERS = {
    "--plugin", "--show-progress-page",  # TLJH's installer
    "--soak", "--soak-minutes", "--soak-part", "--setup-only", "--lanes",  # tests/run
    "--next",  # tests/benchmarks/bytes.py
    "--volume",  # repo2docker
    "--from", "--network", "--security", "--mount=from",  # lines of a Dockerfile
}  # fmt: skip

# What a page names to say that there is no such thing.
REFUSED = {"--host"}
MISSPELT = {"build.concurent"}
# Files that people make themselves beside ours.
OF_PEOPLE = {"vagrant/Vagrantfile.room"}
# What looks like a setting and is a package of Debian, a kind of BuildKit's records, TLJH's, a host.
OTHERWISE = {"docker.io", "source.local", "limits.cpu", "limits.memory", "localhost"}


# -- commands -----------------------------------------------------------------------------------------


def commands(among: click.Group) -> dict[str, click.Command]:
    found = {name: among.get_command(CONTEXT, name) for name in among.list_commands(CONTEXT)}
    return {name: each for name, each in found.items() if each is not None}


def options(command: click.Command) -> set[str]:
    known = [each for each in command.params if isinstance(each, click.Option)]
    return {"--help", *(name for each in known for name in [*each.opts, *each.secondary_opts])}


def is_placeholder(word: str) -> bool:
    return word.startswith(("…", "COMMAND", "<")) or word in ("OPTIONS", "[OPTIONS]")


def mistakes_in(words: list[str]) -> list[str]:
    """What is wrong with the arguments of `littlest-binder`."""
    if not words or is_placeholder(words[0]) or words[0] in ("--version", "--help"):
        return []
    known = commands(group)
    name = words[0].rstrip(".,:;")
    if name not in known:
        return [f"no command {name}"]
    command, rest = known[name], words[1:]
    if isinstance(command, click.Group) and rest and rest[0] in commands(command):
        command, rest = commands(command)[rest[0]], rest[1:]
    given = {word.partition("=")[0] for word in rest if re.match(r"--?[a-z]", word)}
    return [f"{name} has no option {option}" for option in sorted(given - options(command) - REFUSED)]


def test_a_wrong_command_or_option_is_found() -> None:
    text = "Say `littlest-binder fly` or\n\n```sh\nlittlest-binder images --wings | wc\n```\n"
    page = Page(ROOT / "x.md", text)
    found = [mistake for words in page.commands("littlest-binder") for mistake in mistakes_in(words)]
    assert sorted(found) == ["images has no option --wings", "no command fly"]


@each_page
def test_commands_and_their_options_exist(page: Page) -> None:
    assert [mistake for words in page.commands("littlest-binder") for mistake in mistakes_in(words)] == []


def installs() -> dict[str, argparse.ArgumentParser]:
    """The parsers of what `bootstrap.py` can install."""
    [kinds] = [each for each in bootstrap.parser()._actions if isinstance(each, argparse._SubParsersAction)]
    return dict(kinds.choices)


@each_page
def test_calls_of_the_installer_are_right(page: Page) -> None:
    known = installs()
    for words in page.commands("installer/bootstrap.py"):
        if not words:
            continue
        assert words[0] in known
        given = {word.partition("=")[0] for word in words if word.startswith("--")}
        assert given <= set(known[words[0]]._option_string_actions)


@each_page
def test_an_option_that_is_named_alone_exists(page: Page) -> None:
    known = set(OF_OTHERS)
    for command in commands(group).values():
        known |= options(command)
        if isinstance(command, click.Group):
            known |= {name for each in commands(command).values() for name in options(each)}
    for parser in installs().values():
        known |= set(parser._option_string_actions)
    alone = {span.split()[0].partition("=")[0] for span in page.spans() if re.match(r"--[a-z]", span)}
    assert alone - known == set()


@pytest.mark.parametrize("name", sorted(commands(group)))
def test_every_command_is_shown_where_it_is_of_use(name: str) -> None:
    """The reference says what it does; a how-to, tutorial or explanation says when one wants it."""
    told = [page for page in PAGES if page.path.parent != DOCS / "reference"]
    assert any(name in words[:1] for page in told for words in page.commands("littlest-binder"))


# -- settings -----------------------------------------------------------------------------------------


def has_setting(key: str) -> bool:
    """Whether `section.key…` is a setting; names within a mapping, and items of a list, are free."""
    model: Any = Settings
    parts = re.sub(r"\.\d+(?=\.|$)", "[]", key).removesuffix("[]").split(".")
    for place, part in enumerate(parts):
        field = model.model_fields.get(part.removesuffix("[]"))
        if field is None:
            return False
        last = place == len(parts) - 1
        annotation = field.annotation
        if get_origin(annotation) is dict:
            return last or place == len(parts) - 2 or has_field(entry_of(annotation), parts[place + 2 :])
        if get_origin(annotation) is tuple and hasattr(entry_of(annotation), "model_fields"):
            return last or has_field(entry_of(annotation), parts[place + 1 :])
        inner = [each for each in (annotation, *get_args(annotation)) if hasattr(each, "model_fields")]
        if not inner:
            return last
        model = inner[0]
    return True


def has_field(model: Any, parts: list[str]) -> bool:
    return len(parts) == 1 and parts[0] in model.model_fields


def settings_of(page: Page) -> set[str]:
    """Keys that a page names: all that begin with `binder.`, and spans that begin with a section."""
    code = [text for _, text in page.fences()]
    found = {
        key.rstrip(".")
        for text in [*code, *page.spans()]
        for key in re.findall(r"(?<![\w./-])binder\.([a-z_]+(?:\.[\w\[\]]+)*)(?![\w/(-])", text)
    }
    sections = "|".join(Settings.model_fields)
    for span in page.spans():
        shown = re.fullmatch(rf"((?:{sections})\.[a-z_]+(?:\.\w+)*)(?::.*)?", span)
        if shown and not re.search(r"\.(json|yaml|md|py|sqlite|log|tar|localhost\S*)$", shown[1]):
            found.add(shown[1])
    return found - OTHERWISE - MISSPELT - actions()


@functools.cache
def actions() -> frozenset[str]:
    """Names of what the audit log notes look like settings; `test_audit_actions.py` sees to them."""
    code = "".join(path.read_text(encoding="utf-8") for path in (ROOT / "tljh_plugin").rglob("*.py"))
    kinds = "build|image|mirror|mount|project|retention|settings|storage"
    return frozenset(re.findall(rf'"((?:{kinds})\.[a-z]+)"', code))


def test_settings_are_known_or_not() -> None:
    for key in (
        "retention.high_watermark_percent",
        "limits.groups.NAME.cpus",
        "mounts[].id",
        "mounts.0.source",
        "mounts",
        "policy",
    ):
        assert has_setting(key)
    for key in (
        "retention.high",
        "limits.groups.NAME.wings",
        "mounts[].wings",
        "wings",
        "build.release.wings",
    ):
        assert not has_setting(key)
    page = Page(ROOT / "x.md", "`servers.wings` and `binder.wings: 1`, `storage.json`; `servers.cpus: 2`")
    assert settings_of(page) == {"servers.wings", "wings", "servers.cpus"}


@each_page
def test_settings_that_are_named_exist(page: Page) -> None:
    assert [key for key in sorted(settings_of(page)) if not has_setting(key)] == []


EXAMPLES = [
    pytest.param(text, id=f"{page.path.stem}-{number}")
    for page in PAGES
    for number, text in enumerate(text for kind, text in page.fences() if kind == "yaml")
]


@pytest.mark.parametrize("text", EXAMPLES)
def test_every_example_is_yaml_and_its_settings_are_valid(text: str, tmp_path: Path) -> None:
    shown = YAML(typ="safe").load(text)
    section = shown.get("binder") if isinstance(shown, dict) else None
    if section:
        assert_valid(section, tmp_path)


def assert_valid(section: dict[str, Any], state_dir: Path) -> None:
    """An example is for one kind of installation; the error is that of TLJH's."""
    wrong = []
    for platform in ("tljh", "desktop", "jupyterhub"):
        try:
            from_mapping(section, platform=platform, state_dir=state_dir)
        except errors.SettingsError as error:
            wrong.append(error)
    if len(wrong) == 3:
        raise wrong[0]


@each_page
def test_values_for_tljh_config_are_valid(page: Page, tmp_path: Path) -> None:
    for words in page.commands("tljh-config"):
        if words[:1] == ["set"] and words[1].startswith("binder."):
            key = words[1].removeprefix("binder.")
            if key != "KEY":
                value: Any = YAML(typ="safe").load(words[2])
                for part in reversed(key.split(".")):
                    value = {part: value}
                from_mapping(value, platform="tljh", state_dir=tmp_path)


# -- addresses, files, errors, pages ------------------------------------------------------------------


@each_page
def test_addresses_of_the_api_exist(page: Page) -> None:
    shapes = {re.sub(r"\(\[\^/\]\+\)|\(\.\+\)", "*", route) for route, *_ in [*API_ROUTES, *OWN_API_ROUTES]}
    own = {shape.replace("\\", "") for shape in shapes}
    for span in page.spans():
        found = re.fullmatch(r"(?:GET|POST|PATCH|DELETE|PUT) ([\w{}/]+)(?: .*|\?.*)?", span)
        if found and not found[1].startswith("/"):
            assert re.sub(r"\{\w+\}", "*", found[1].removeprefix("api/v1/")) in own, span


@each_page
def test_files_of_the_project_that_are_named_exist(page: Page) -> None:
    texts = [text for _, text in page.fences()] + list(page.spans())
    named = {
        each.rstrip(".,:;")
        for text in texts
        for each in re.findall(r"(?<![\w/.-])(?:tests|tljh_plugin|installer|docs|vagrant)/[\w./*-]+", text)
    }
    assert [each for each in sorted(named) if not made_up(each) and not list(ROOT.glob(each))] == []


def made_up(path: str) -> bool:
    """Whether a path stands for many, or is of what a test run leaves."""
    return "NAME" in path or ".state" in path or path in OF_PEOPLE


def test_troubleshooting_has_every_error_code() -> None:
    spans = set(BY_PATH[DOCS / "how-to" / "troubleshoot.md"].spans())
    assert sorted({*errors._by_code(), *MEANINGS, *given_codes()} - spans) == []


def test_the_reference_has_the_codes_that_one_place_gives() -> None:
    spans = set(BY_PATH[DOCS / "reference" / "errors.md"].spans())
    assert {"unknown-setting", "base-missing"} <= given_codes()
    assert sorted(given_codes() - spans) == []


def given_codes() -> set[str]:
    """Codes that are given to an error where it is made."""
    code = "".join(path.read_text(encoding="utf-8") for path in (ROOT / "tljh_plugin").rglob("*.py"))
    return set(re.findall(r'\bcode="([a-z]+(?:-[a-z]+)+)"', code))


@each_page
def test_links_work_on_a_git_host(page: Page) -> None:
    broken = []
    for link in page.links():
        target, _, anchor = link.partition("#")
        path = (page.path.parent / target).resolve() if target else page.path
        if not path.exists() or (anchor and anchor not in BY_PATH[path].anchors()):
            broken.append(link)
    assert broken == []


@pytest.mark.parametrize("kind", KINDS)
def test_every_page_is_in_the_list_of_its_kind(kind: str) -> None:
    listed = {(DOCS / kind / link.partition("#")[0]) for link in BY_PATH[DOCS / kind / "index.md"].links()}
    there = set((DOCS / kind).glob("*.md")) - {DOCS / kind / "index.md"}
    assert sorted(str(each) for each in there - listed) == []
