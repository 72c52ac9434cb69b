"""What of this machine reaches a build, and what never does."""

from __future__ import annotations

from pathlib import Path

from tljh_plugin.build.machine import IndexSettings, Machine, read_index, read_machine

PEM = b"-----BEGIN CERTIFICATE-----\nMII\n-----END CERTIFICATE-----\n"


def test_certificates_are_taken_and_keys_stay(tmp_path: Path) -> None:
    (tmp_path / "deep").mkdir()
    (tmp_path / "a.crt").write_bytes(PEM)
    (tmp_path / "deep" / "b.crt").write_bytes(PEM)
    (tmp_path / "key.crt").write_bytes(PEM + b"-----BEGIN PRIVATE KEY-----\n")
    (tmp_path / "other.pem").write_bytes(PEM)
    machine = read_machine({}, certificates=tmp_path, pip_files=[])
    assert machine.certificates == (("a.crt", PEM), ("deep_b.crt", PEM))


def test_proxies_are_given_in_both_spellings_and_by_name_only(tmp_path: Path) -> None:
    environ = {"HTTPS_PROXY": "http://ann:geheim@proxy:3128", "no_proxy": "localhost", "http_proxy": ""}
    machine = read_machine(environ, certificates=tmp_path, pip_files=[])
    assert machine.proxy_arguments() == [
        part
        for name in ("HTTPS_PROXY", "NO_PROXY", "https_proxy", "no_proxy")
        for part in ("--build-arg", name)
    ]
    assert machine.environment()["https_proxy"] == environ["HTTPS_PROXY"]
    assert machine.secrets == {"ann:geheim", "geheim"}
    assert "geheim" not in repr(machine)


def test_pips_files_are_read_in_its_order(tmp_path: Path) -> None:
    first, second = tmp_path / "first", tmp_path / "second"
    first.write_text("[global]\nindex-url = https://one/simple\ntrusted-host = one\n")
    second.write_text(
        "[install]\nindex_url = https://two/simple\nextra-index-url =\n  https://three/simple\n  file:///opt/x\n"
    )
    assert read_index({}, [first, second, tmp_path / "missing"]) == IndexSettings(
        url="https://two/simple", extra_urls=("https://three/simple",), trusted_hosts=("one",)
    )


def test_variables_win_over_files_and_uvs_over_pips(tmp_path: Path) -> None:
    file = tmp_path / "pip.conf"
    file.write_text("[global]\nindex-url = https://file/simple\n")
    pips = {"PIP_INDEX_URL": "https://pip/simple"}
    assert read_index(pips, [file]).url == "https://pip/simple"
    assert (
        read_index({**pips, "UV_DEFAULT_INDEX": "ours=https://uv/simple"}, [file]).url == "https://uv/simple"
    )


def test_what_makes_no_sense_inside_a_build_is_left_out(tmp_path: Path) -> None:
    values = "file:///opt/simple http://localhost:3141/ http://127.0.0.1/simple /opt/wheels https://[broken"
    assert not read_index({"PIP_EXTRA_INDEX_URL": values, "PIP_INDEX_URL": "file:///x"}, [])
    bad = tmp_path / "pip.conf"
    bad.write_bytes(b"[global\nindex-url = \xff")
    assert not read_index({}, [bad])


def test_only_trusted_steps_get_credentials() -> None:
    index = IndexSettings(url="https://ann:geheim@index/simple", extra_urls=("https://token@other/simple",))
    machine = Machine(index=index)
    environment = machine.environment()
    shown = {
        part.split(",env=")[0]: part.split(",env=")[1]
        for part in machine.secret_arguments(trusted=False)[1::2]
    }
    assert set(shown) == {"id=pip.conf", "id=uv.toml"}
    assert all(
        "geheim" not in environment[name] and "token" not in environment[name] for name in shown.values()
    )
    trusted = machine.secret_arguments(trusted=True)
    assert "https://ann:geheim@index/simple" in environment[trusted[-1].split(",env=")[1]]
    assert index.secrets == {"ann:geheim", "geheim", "token"}
    assert "geheim" not in repr(index)


def test_settings_are_written_as_pip_and_uv_read_them() -> None:
    index = IndexSettings("https://a%40b@index/simple", ("https://x/", "https://y/"), ("index", "x:8080"))
    assert index.pip_conf() == (
        "[global]\nindex-url = https://a%40b@index/simple\n"
        "extra-index-url =\n    https://x/\n    https://y/\ntrusted-host =\n    index\n    x:8080\n"
    )
    assert index.uv_toml() == (
        'index-url = "https://a%40b@index/simple"\nextra-index-url = ["https://x/", "https://y/"]\n'
        'allow-insecure-host = ["index", "x:8080"]\n'
    )


def test_without_settings_nothing_is_passed() -> None:
    assert Machine().secret_arguments(trusted=True) == []
    assert Machine().environment() == {}
