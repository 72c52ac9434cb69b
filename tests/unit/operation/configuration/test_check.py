"""What `config check` finds in real files, each with its line and what to do."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from tljh_plugin.errors import SettingsError
from tljh_plugin.operation.configuration.check import check
from tljh_plugin.operation.configuration.file import Platform, find
from tljh_plugin.operation.configuration.finding import Finding


@pytest.fixture(autouse=True)
def nothing_installed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """No installation of this machine is looked at."""
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path / "data"))
    monkeypatch.setenv("TLJH_INSTALL_PREFIX", str(tmp_path / "tljh"))
    monkeypatch.delenv("LITTLEST_BINDER_STATE", raising=False)


def findings(tmp_path: Path, text: str, platform: Platform | None = "tljh") -> list[Finding]:
    path = tmp_path / "config.yaml"
    path.write_text(text)
    return check(find(path, platform))


def one(found: list[Finding], key: str) -> Finding:
    (only,) = [each for each in found if each.key == key]
    return only


@pytest.mark.parametrize("platform", ["desktop", "tljh", "jupyterhub"])
def test_a_file_without_mistakes_has_none(tmp_path: Path, platform: Platform) -> None:
    found = findings(tmp_path, "binder:\n  build:\n    concurrent: 3\n", platform)
    assert {each.level for each in found} <= {"note"}


def test_all_mistakes_are_told_at_once_each_with_its_line(tmp_path: Path) -> None:
    found = findings(
        tmp_path,
        "users:\n  admin: [ada]\nbinder:\n  build:\n    concurent: 3\n"
        "  servers:\n    cpus: many\n  bild: {}\n",
    )
    mistakes = {each.key: each for each in found if each.level == "mistake"}
    assert {key: each.line for key, each in mistakes.items()} == {
        "build.concurent": 5,
        "servers.cpus": 7,
        "bild": 8,
    }
    assert "`concurrent`" in mistakes["build.concurent"].next
    assert "'many'" in mistakes["servers.cpus"].message
    assert "`build`" in mistakes["bild"].next


def test_a_key_of_another_section_is_found_there(tmp_path: Path) -> None:
    found = one(findings(tmp_path, "binder:\n  servers:\n    concurrent: 3\n"), "servers.concurrent")
    assert "`binder.build.concurrent`" in found.next


@pytest.mark.parametrize("key", ["platform", "state_dir", "owner", "origin"])
def test_what_the_installation_decides_is_no_key(tmp_path: Path, key: str) -> None:
    found = findings(tmp_path, f"binder:\n  {key}: tljh\n")
    assert [(each.level, each.line) for each in found if "remove the line" in each.next] == [("mistake", 2)]


# -- what tljh-config makes of values -------------------------------------------------------------------


@pytest.mark.parametrize(
    ("section", "key", "advice"),
    [
        # tljh-config set binder.profiles.0.id …: keys instead of entries
        ("mounts:\n    '0': {source: /srv/lab}", "mounts", "cannot reach into a list"),
        ("mounts: lab", "mounts", "which `tljh-config` cannot write"),
        # tljh-config set binder.policy.allowed_hosts a.org,b.org
        ("policy: {allowed_hosts: 'a.org,b.org'}", "policy.allowed_hosts",
         "`tljh-config add-item binder.policy.allowed_hosts b.org`"),
        ("policy: {allowed_hosts: '[a.org]'}", "policy.allowed_hosts",
         "add-item binder.policy.allowed_hosts a.org"),
        # tljh-config set binder.build.appendix 0755
        ("build: {appendix: 755}", "build.appendix", "`0755` becomes 755"),
        ("build: {appendix: true}", "build.appendix", "true or false"),
        ("profiles: [{id: large, people: [12345]}]", "profiles.0.people.0", '`"12345"`'),
        # tljh-config set binder.updates.rebuild none
        ("updates: {rebuild: null}", "updates.rebuild", "tljh-config unset binder.updates.rebuild"),
        ("servers: {idle_s: 10m}", "servers.idle_s", "600"),
        ("servers: {lifetime_s: 12 hours}", "servers.lifetime_s", "43200"),
        ("policy: {dockerfile: Everyone}", "policy.dockerfile", "`everyone`"),
        ("profiles: [large]", "profiles.0", "`- id: …`"),
    ],
)  # fmt: skip
def test_what_became_of_a_value_is_told(tmp_path: Path, section: str, key: str, advice: str) -> None:
    found = one(findings(tmp_path, f"binder:\n  {section}\n"), key)
    assert found.level == "mistake"
    assert advice in found.next
    assert found.line in (2, 3)


@pytest.mark.parametrize(
    ("section", "key", "message"),
    [
        ("servers: {idle_s: true}", "servers.idle_s", "counts as 1"),
        ("servers: {memory_bytes: 4}", "servers.memory_bytes", "is 4 bytes"),
        ("build: {mirror: None}", "build.mirror", "the text `None`"),
    ],
)
def test_what_is_taken_and_hardly_meant_is_doubted(
    tmp_path: Path, section: str, key: str, message: str
) -> None:
    found = [each for each in findings(tmp_path, f"binder:\n  {section}\n") if each.key == key]
    assert message in found[0].message
    assert (found[0].level, found[0].line) == ("warning", 2)


# -- values that do not go together ---------------------------------------------------------------------

LAB = "profiles: [{id: lab, groups: [lab]}]"


@pytest.mark.parametrize(
    ("section", "key", "message"),
    [
        ("policy: {protocols: [git]}", "policy.protocols", "`git`"),
        ("policy: {dockerfile: everyone, dockerfile_repositories: [a]}", "policy.dockerfile_repositories",
         "everyone"),
        ("policy: {dockerfile: listed}", "policy.dockerfile", "no Dockerfile is built"),
        ("policy: {image_names: [a]}", "policy.image_names", "`off`"),
        ("policy: {images: listed}", "policy.images", "no image can be adopted"),
        ("policy: {allowed_hosts: [a.org], blocked_hosts: ['*.org']}", "policy.allowed_hosts", "that counts"),
        ("policy: {local_roots: [/srv]}", "policy.local_roots", "desktop"),
        ("build: {silence_s: 7200}", "build.silence_s", "1 h"),
        ("source: {max_file_bytes: 5GiB}", "source.max_file_bytes", "4 GiB"),
        ("updates: {rebuild: all}", "updates.rebuild", "Nothing is rebuilt"),
        ("servers: {idle_s: 7200, lifetime_s: 3600}", "servers.idle_s", "ends after 1 h"),
        ("servers: {idle_s: 60}", "servers.idle_s", "every five minutes"),
        ("limits: {memory_bytes: 1GiB}", "servers.memory_bytes", "one person may have 1 GiB"),
        ("limits: {cpus: 1}", "servers.cpus", "one person may have 1 in all"),
        (LAB, "profiles", "for everyone"),
        (LAB + "\n  servers: {profile: lab}", "servers.profile", "not for everyone"),
        ("storage: {warn_fraction: 0.5}", "storage.warn_fraction", "Nobody is warned"),
        ("storage: {max_bytes_per_person: 1GiB}", "storage.max_bytes_per_person", "4 GiB"),
        ("storage: {root: projects}", "storage.root", "where a process was started"),
        ("storage: {root: /tmp/projects}", "storage.root", "PrivateTmp"),
        ("storage: {root: /nowhere/projects}", "storage.root", "/nowhere does not exist"),
        ("retention: {enabled: false, unused_days: 3}", "retention", "No image goes by itself"),
        ("retention: {unused_days: 1, min_age_hours: 48}", "retention.unused_days", "48 hours"),
        ("retention: {high_watermark_percent: 95}", "disk.warn_percent", "before retention acts"),
        ("network: {subnet: 10.0.0.0/40}", "network.subnet", "no IPv4 network"),
        ("network: {firewall: 'off', denied: [10.0.0.0/8]}", "network.denied", "no effect"),
        ("network: {firewall: 'off'}", "network.firewall", "local network"),
        ("desktop: {port: 9000}", "desktop", "no desktop"),
        ("mounts: [{id: lab, source: /nowhere}]", "mounts.0.source", "/nowhere"),
        ("mounts: [{id: lab, source: /etc}]", "mounts.0.source", "/etc"),
        ("mounts: [{id: lab, source: /srv, target: /usr/lab}]", "mounts.0.target", "/usr"),
        ("source: {git_user: nobody-of-that-name}", "source.git_user", "no account"),
        ("source: {git_user: root}", "source.git_user", "never runs as root"),
        ("source: {credentials_file: /nowhere/hosts.yaml}", "source.credentials_file", "/nowhere/hosts.yaml"),
        ("servers: {groups: [0]}", "servers.groups", "root"),
        ("servers: {memory_bytes: 900TiB}", "servers.memory_bytes", "This machine has"),
        ("servers: {cpus: 4000}", "servers.cpus", "processors"),
    ],
)  # fmt: skip
def test_values_that_do_not_go_together(tmp_path: Path, section: str, key: str, message: str) -> None:
    found = [each for each in findings(tmp_path, f"binder:\n  {section}\n") if each.key == key]
    assert any(message in each.message for each in found), found


def test_two_mounts_at_one_place_are_told(tmp_path: Path) -> None:
    section = "mounts: [{id: a, source: /srv, target: /data/x}, {id: b, source: /srv, target: /data/x/y}]"
    found = findings(tmp_path, f"binder:\n  {section}\n")
    assert [each.key for each in found if each.key.endswith(".target")] == ["mounts.1.target"]


def test_a_folder_that_is_there_is_fine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    found = findings(tmp_path, f"binder:\n  storage: {{root: {tmp_path}/projects}}\n", "desktop")
    assert [each for each in found if each.key.startswith("storage")] == []


# -- TLJH's own settings --------------------------------------------------------------------------------


def culling(tmp_path: Path, text: str) -> list[tuple[str, str]]:
    return [(each.level, each.key) for each in findings(tmp_path, text) if "cull" in each.message]


def test_it_says_that_tljhs_culler_is_replaced_where_ours_ends_servers(tmp_path: Path) -> None:
    assert culling(tmp_path, "binder: {servers: {idle_s: 3600}}") == [("note", ":services.cull")]
    assert culling(tmp_path, "binder: {profiles: [{id: a, lifetime_s: 3600}]}") == [
        ("note", ":services.cull")
    ]


def test_it_says_that_tljhs_culler_ends_servers_where_ours_does_not(tmp_path: Path) -> None:
    assert culling(tmp_path, "{}") == [("note", ":services.cull")]
    assert culling(tmp_path, "binder: {servers: {idle_s: 0}}") == [("warning", "servers.idle_s")]
    assert culling(tmp_path, "services: {cull: {enabled: false}}\nbinder: {servers: {idle_s: 0}}") == []


def test_what_tljhs_culler_did_besides_is_told(tmp_path: Path) -> None:
    text = "services: {cull: {users: true, max_age: 9}}\nbinder: {servers: {idle_s: 3600}}"
    assert ("warning", ":services.cull.users") in culling(tmp_path, text)
    assert ("warning", ":services.cull.max_age") in culling(tmp_path, text)


@pytest.mark.parametrize(
    ("text", "key", "message", "line"),
    [
        ("limits:\n  memory: 1G", ":limits.memory", "the smaller one counts", 2),
        ("limits:\n  cpu: 1", ":limits.cpu", "the smaller one counts", 2),
        ("limits:\n  memory: 1GB", ":limits.memory", "does not start", 2),
        ("limits:\n  memory: 1GB\nbinder: {polcy: {}}", ":limits.memory", "does not start", 2),
        ("user_environment:\n  default_app: classic", ":user_environment.default_app", "no effect", 2),
        ("users:\n  extra_user_groups: {lab: [ada]}", ":users.extra_user_groups", "accounts' groups", 2),
        ("a: 1\nBinder: {servers: {}}", ":Binder", "Nobody reads", 2),
        ("littlest-binder: {servers: {}}", ":littlest-binder", "Nobody reads", 1),
    ],
)
def test_contradictions_with_tljhs_own_settings(
    tmp_path: Path, text: str, key: str, message: str, line: int
) -> None:
    found = one(findings(tmp_path, f"{text}\n"), key)
    assert message in found.message
    assert found.line == line


@pytest.mark.parametrize(
    "text", ["limits: {memory: 4G, cpu: 8}", "limits: {memory: null}", "users: {admin: []}"]
)
def test_tljhs_settings_that_say_nothing_else_are_fine(tmp_path: Path, text: str) -> None:
    assert {each.key for each in findings(tmp_path, text)} <= {":services.cull", ":subdomain_host"}


def test_tljh_would_not_start_with_an_empty_file(tmp_path: Path) -> None:
    assert findings(tmp_path, "# nothing\n")[0].message == "TLJH does not start with an empty file."


@pytest.mark.parametrize(
    ("code", "key", "level"),
    [
        ("c.JupyterHub.services = []", ":services", "mistake"),
        ("\nif True:\n    c.JupyterHub.spawner_class = 'simple'", ":spawner_class", "mistake"),
        ("c.JupyterHub.load_roles = [{}]", ":load_roles", "mistake"),
        ("c.JupyterHub.services.append({})", "", ""),
        ("# c.JupyterHub.services = []", "", ""),
        ("c.JupyterHub.subdomain_host = 'https://hub.example.org'", ":subdomain_host", "warning"),
        ("c.JupyterHub.subdomain_host = 'http://hub.example.org'", ":subdomain_host", "mistake"),
        ("c.JupyterHub.subdomain_host = 'hub.example.org'", ":subdomain_host", "mistake"),
    ],
)
def test_files_that_come_after_ours_are_read(tmp_path: Path, code: str, key: str, level: str) -> None:
    (tmp_path / "jupyterhub_config.d").mkdir()
    later = tmp_path / "jupyterhub_config.d" / "lab.py"
    later.write_text(code)
    https = "https: {enabled: true, letsencrypt: {email: a@example.org, domains: [hub.example.org]}}"
    found = [each for each in findings(tmp_path, https) if each.file == str(later)]
    assert [(each.key, each.level) for each in found] == ([(key, level)] if key else [])
    assert all(each.line == code.count("\n") + 1 for each in found)


# -- files ----------------------------------------------------------------------------------------------


def test_what_is_no_yaml_is_told_with_the_line(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match=r"config\.yaml:2 is not valid YAML"):
        findings(tmp_path, "binder:\n\tbuild: {}\n")
    with pytest.raises(SettingsError, match=r"config\.yaml:3 is not valid YAML.*duplicate"):
        findings(tmp_path, "binder:\n  build: {}\n  build: {}\n")


@pytest.mark.parametrize("text", ["- binder", "binder", "5"])
def test_a_file_that_holds_no_sections(tmp_path: Path, text: str) -> None:
    assert findings(tmp_path, text)[0].level == "mistake"


@pytest.mark.parametrize("text", ["binder: 5", "binder: [build]", "binder: text"])
def test_a_section_that_holds_no_keys(tmp_path: Path, text: str) -> None:
    (mistake,) = [each for each in findings(tmp_path, text) if each.level == "mistake"]
    assert mistake.line == 1
    assert "must hold keys" in mistake.message


def test_only_tljhs_file_holds_other_sections(tmp_path: Path) -> None:
    assert findings(tmp_path, "build: {}\n", "desktop")[0].next == "Indent the keys under `binder:`."
    assert findings(tmp_path, "build: {}\n", "jupyterhub")[0].level == "mistake"


def test_whose_file_it_is_is_seen_by_what_is_in_it(tmp_path: Path) -> None:
    path = tmp_path / "some.yaml"
    path.write_text("auth: {type: dummy}\n")
    assert find(path).platform == "tljh"
    path.write_text("binder: {}\n")
    assert find(path).platform == "desktop"


def test_without_a_file_that_of_the_machine_is_taken(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert find().platform == "desktop"
    assert not find().there
    (tmp_path / "tljh" / "config").mkdir(parents=True)
    found = find()
    assert (found.platform, found.path) == ("tljh", tmp_path / "tljh" / "config" / "config.yaml")
    assert found.state_dir == tmp_path / "tljh" / "state" / "binder"


def test_a_file_of_a_plain_hub_is_found_by_its_state(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from traitlets.config import Config

    from tljh_plugin.hub import configure
    from tljh_plugin.settings import load_file

    path = tmp_path / "etc" / "binder.yaml"
    configure(Config(), load_file(path, state_dir=tmp_path / "state"))
    monkeypatch.setenv("LITTLEST_BINDER_STATE", str(tmp_path / "state"))
    found: Any = find()
    assert (found.platform, found.path, found.there) == ("jupyterhub", path, False)
