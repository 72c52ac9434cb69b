from __future__ import annotations

from pathlib import Path
from typing import Any, get_args, get_origin

import pytest

from tljh_plugin import settings as module
from tljh_plugin.amounts import read_bytes
from tljh_plugin.errors import SettingsError
from tljh_plugin.settings import Settings, fresh, from_mapping, load_desktop, load_file, read_file, stale


def make(section: dict[str, Any], **more: Any) -> Settings:
    return from_mapping(section, platform=more.pop("platform", "desktop"), state_dir=Path("/state"), **more)


def test_an_empty_section_gives_the_defaults() -> None:
    made = make({})
    assert made.build.concurrent == 2
    assert made.dockerfile_policy == "everyone"
    assert make({}, platform="tljh").dockerfile_policy == "listed"


def test_an_unknown_key_is_an_error_that_names_the_nearest_one() -> None:
    with pytest.raises(SettingsError) as caught:
        make({"build": {"concurent": 3}})
    assert caught.value.code == "unknown-setting"
    assert "binder.build.concurent" in caught.value.message
    assert "3" in caught.value.message
    assert "`concurrent`" in caught.value.next_step


def test_an_unknown_section_is_an_error() -> None:
    with pytest.raises(SettingsError, match=r"binder\.bild"):
        make({"bild": {}})


def test_a_wrong_value_is_shown() -> None:
    with pytest.raises(SettingsError) as caught:
        make({"servers": {"memory_bytes": "a lot"}})
    assert caught.value.code == "invalid-setting"
    assert "binder.servers.memory_bytes" in caught.value.message
    assert "'a lot'" in caught.value.message


@pytest.mark.parametrize("key", ["platform", "state_dir", "owner"])
def test_what_the_installation_decides_cannot_be_set_in_the_file(key: str) -> None:
    with pytest.raises(SettingsError, match=key):
        make({key: "x"})


def test_servers_never_run_as_root() -> None:
    with pytest.raises(SettingsError, match=r"servers\.uid"):
        make({"servers": {"uid": 0}})
    assert make({}, owner="root").server_uid == 1000


def test_the_file_holds_one_section(tmp_path: Path) -> None:
    path = tmp_path / "config.yaml"
    assert read_file(path) == {}
    path.write_text("binder:\n  desktop:\n    port: 9000\n")
    assert load_desktop(tmp_path).desktop.port == 9000
    path.write_text("desktop:\n  port: 9000\n")
    with pytest.raises(SettingsError, match="one section `binder:`"):
        read_file(path)
    path.write_text("binder: [unclosed")
    with pytest.raises(SettingsError, match="not valid YAML"):
        read_file(path)


@pytest.mark.parametrize("text", ["", "binder:\n"])
def test_an_empty_file_gives_the_defaults(tmp_path: Path, text: str) -> None:
    (tmp_path / "config.yaml").write_text(text)
    assert load_desktop(tmp_path).desktop.port == 8888


def test_the_state_folder_follows_xdg(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path))
    assert module.desktop_state_dir() == tmp_path / "littlest-binder"
    monkeypatch.setenv("XDG_DATA_HOME", "relative")  # the specification: relative paths are ignored
    monkeypatch.setenv("HOME", str(tmp_path))
    assert module.desktop_state_dir() == tmp_path / ".local/share/littlest-binder"


def test_bytes_can_be_written_with_a_unit_everywhere() -> None:
    made = make(
        {
            "servers": {"memory_bytes": "1.5GiB", "shm_bytes": 1024**3},
            "build": {"disk_reserve_bytes": "500 MB"},
            "profiles": [{"id": "big", "memory_bytes": "8G"}],
        }
    )
    assert made.servers.memory_bytes == 3 * 1024**3 // 2
    assert made.servers.shm_bytes == 1024**3
    assert made.build.disk_reserve_bytes == 500 * 1024**2
    assert made.profiles[0].memory_bytes == 8 * 1024**3
    for section in Settings.model_fields.values():
        model = section.annotation if not get_args(section.annotation) else None
        for name, field in getattr(model, "model_fields", {}).items():
            if name.endswith("_bytes"):
                assert field.metadata, f"{name} is no amount of bytes"
                assert any(getattr(each, "func", None) is read_bytes for each in field.metadata), name


@pytest.mark.parametrize(
    ("section", "message", "next_step"),
    [
        ({"profiles": [{"id": "a"}, {"id": "a"}]}, "two profiles have the id `a`", "Correct"),
        (
            {"profiles": [{"id": "a"}], "servers": {"profile": "b"}},
            r"`servers.profile` is `b`, which is no profile \(profiles: a\)",
            "Correct",
        ),
        ({"profiles": [{"id": "Big One"}]}, r"binder\.profiles\.0\.id", "Correct"),
        ({"profiles": [{"id": "a", "memory": "1G"}]}, r"binder\.profiles\.0\.memory", "memory_bytes"),
        ({"limits": {"groups": {"lab": {"cpu": 1}}}}, r"binder\.limits\.groups\.lab\.cpu", "cpus"),
    ],
)
def test_wrong_profiles_and_limits_are_named(section: dict[str, Any], message: str, next_step: str) -> None:
    with pytest.raises(SettingsError, match=message) as caught:
        make(section)
    assert next_step in caught.value.next_step


def test_every_setting_has_a_description() -> None:
    for name, section in Settings.model_fields.items():
        listed = get_origin(section.annotation) is tuple
        kind = module.entry_of(section.annotation) if listed else section.annotation
        fields = getattr(kind, "model_fields", {})
        assert all(field.description for field in fields.values()), name


# -- changes while we run -----------------------------------------------------------------------------


def write(path: Path, text: str) -> None:
    """As editors do: another file in its place."""
    draft = path.with_suffix(".draft")
    draft.write_text(text)
    draft.rename(path)


MOUNT = "binder: {mounts: [{id: lab, source: /srv/lab}]}"


def test_a_change_of_the_file_holds_without_a_restart(tmp_path: Path) -> None:
    before = load_desktop(tmp_path)
    assert fresh(before).mounts == ()
    write(tmp_path / "config.yaml", MOUNT)
    now = fresh(before)
    assert [(each.id, each.source, each.place) for each in now.mounts] == [("lab", "/srv/lab", "/data/lab")]
    assert (now.state_dir, now.owner, now.platform) == (before.state_dir, before.owner, before.platform)
    assert fresh(now) is now, "a file that did not change was read again"


def test_a_mistake_in_the_file_keeps_the_last_good_settings_and_is_told(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    before = load_desktop(tmp_path)
    write(tmp_path / "config.yaml", MOUNT)
    assert len(fresh(before).mounts) == 1
    assert stale(before) is None
    write(tmp_path / "config.yaml", "binder: {mounts: [{id: lab, sorce: /srv/lab}]}")
    for _ in range(3):
        assert len(fresh(before).mounts) == 1
    problem = stale(before)
    assert problem is not None
    assert "sorce" in str(problem)
    assert len([each for each in caplog.records if "sorce" in each.message]) == 1, "told once"


def test_other_sections_of_tljhs_file_are_not_ours(tmp_path: Path) -> None:
    path = tmp_path / "config.yaml"
    path.write_text(f"users: {{admin: [ada]}}\n{MOUNT}")
    before = make({}, platform="tljh", origin=path)
    assert [each.id for each in fresh(before).mounts] == ["lab"]
    path.write_text("users: {admin: [ada]}")
    assert fresh(before).mounts == ()


def test_settings_that_came_from_no_file_stay(tmp_path: Path) -> None:
    before = make({"mounts": [{"id": "lab", "source": "/srv/lab"}]})
    assert fresh(before) is before


# -- mounts -------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("mount", "shown"),
    [
        ({"id": "Lab", "source": "/srv"}, "Lab"),
        ({"id": "my-files", "source": "/srv"}, "my-files"),
        ({"id": "grant-1", "source": "/srv"}, "grant-1"),
        ({"id": "lab", "source": "srv/lab"}, "absolute"),
        ({"id": "lab", "source": "//srv/lab"}, "absolute"),
        ({"id": "lab", "source": "/srv/{username}"}, "braces"),
        ({"id": "lab", "source": "/srv/../etc"}, r"\.\."),
        ({"id": "lab", "source": "/srv/a\nb"}, "control"),
        ({"id": "lab", "source": "/srv", "target": "data"}, "absolute"),
        ({"id": "lab", "source": "/srv", "access": "rw"}, "read-write"),
        ({"id": "lab"}, "source"),
    ],
)
def test_a_mount_that_means_nothing_is_refused(mount: dict[str, Any], shown: str) -> None:
    with pytest.raises(SettingsError, match=shown):
        make({"mounts": [mount]})


def test_two_mounts_of_one_id_are_refused() -> None:
    mount = {"id": "lab", "source": "/srv"}
    with pytest.raises(SettingsError, match="two mounts have the id `lab`"):
        make({"mounts": [mount, mount]})


def test_folders_are_picked_on_a_desktop_alone() -> None:
    assert make({}, owner="root").mount_roots == (Path("/root"),)
    assert make({"desktop": {"mount_roots": ["/srv/a/"]}}, owner="root").mount_roots == (Path("/srv/a"),)
    assert make({}, platform="tljh").mount_roots == ()


# -- other hubs, and lines ------------------------------------------------------------------------------


def test_a_plain_hub_reads_a_file_of_its_own(tmp_path: Path) -> None:
    path = tmp_path / "binder.yaml"
    made = load_file(path, state_dir=tmp_path / "state")
    assert (made.platform, made.state_dir, made.origin) == ("jupyterhub", tmp_path / "state", path)
    path.write_text("binder: {servers: {cpus: 1}}")
    assert load_file(str(path), state_dir=str(tmp_path)).servers.cpus == 1
    assert load_file(path).state_dir == Path("/var/lib/littlest-binder")
    assert fresh(made).servers.cpus == 1
    path.write_text("servers: {cpus: 1}")
    with pytest.raises(SettingsError, match="one section `binder:`"):
        load_file(path)


def test_a_mistake_in_a_file_is_told_with_its_line(tmp_path: Path) -> None:
    (tmp_path / "config.yaml").write_text("binder:\n  build:\n    release: bookworm\n    concurrent: many\n")
    with pytest.raises(SettingsError, match=r"config\.yaml:4 has the value 'many'"):
        load_desktop(tmp_path)
    (tmp_path / "config.yaml").write_text("binder:\n  build: {}\n  owner: ada\n")
    with pytest.raises(SettingsError, match=r"binder\.owner` in .*config\.yaml:3"):
        load_desktop(tmp_path)


def test_a_file_that_is_no_text_is_told(tmp_path: Path) -> None:
    (tmp_path / "config.yaml").write_bytes(b"binder: \xff\xfe\n")
    with pytest.raises(SettingsError, match="not UTF-8"):
        load_desktop(tmp_path)


@pytest.mark.parametrize(
    ("section", "ends"),
    [
        ({}, False),
        ({"servers": {"idle_s": 0}}, False),
        ({"servers": {"lifetime_s": 60}}, True),
        ({"profiles": [{"id": "a", "idle_s": 60}]}, True),
        ({"profiles": [{"id": "a", "idle_s": 0}]}, False),
    ],
)
def test_whether_some_server_ends_by_its_time(section: dict[str, Any], ends: bool) -> None:
    assert make(section).ends_servers is ends
