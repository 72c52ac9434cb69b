"""Sign-in links and where they may lead."""

from __future__ import annotations

import hashlib
import threading
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

import pytest

from tljh_plugin.desktop import new_link, use_code
from tljh_plugin.settings import Settings, from_mapping
from tljh_plugin.sign_in import is_own_address

ORIGIN = "http://binder.localhost:8888"


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    return from_mapping({}, platform="desktop", state_dir=tmp_path, owner="ada")


def code_of(link: str) -> str:
    return parse_qs(urlsplit(link).query)["code"][0]


def test_a_code_works_once(settings: Settings) -> None:
    code = code_of(new_link(settings))
    assert use_code(settings, code)
    assert not use_code(settings, code)


def test_of_many_who_use_a_code_at_once_one_gets_in(settings: Settings) -> None:
    for _ in range(20):
        code = code_of(new_link(settings))
        got: list[bool] = []
        barrier = threading.Barrier(8)

        def use(code: str = code, got: list[bool] = got, barrier: threading.Barrier = barrier) -> None:
            barrier.wait()
            got.append(use_code(settings, code))

        threads = [threading.Thread(target=use) for _ in range(8)]
        for each in threads:
            each.start()
        for each in threads:
            each.join()
        assert got.count(True) == 1


def test_a_code_is_long_and_only_its_digest_is_on_disk(settings: Settings) -> None:
    code = code_of(new_link(settings))
    assert len(code) >= 43  # 256 bits in base64
    (place,) = (settings.run_dir / "sign-in").iterdir()
    assert place.name == hashlib.sha256(code.encode()).hexdigest()
    assert code not in place.read_text()
    assert place.stat().st_mode & 0o777 == 0o600
    assert place.parent.stat().st_mode & 0o777 == 0o700


def test_an_expired_code_does_not_work_and_is_forgotten(tmp_path: Path) -> None:
    short = from_mapping(
        {"desktop": {"sign_in_link_s": 1e-9}}, platform="desktop", state_dir=tmp_path, owner="ada"
    )
    code, _ = code_of(new_link(short)), new_link(short)
    assert not (tmp_path / "run" / "sign-in" / hashlib.sha256(code.encode()).hexdigest()).exists()
    assert not use_code(short, code_of(new_link(short)))


@pytest.mark.parametrize("code", ["", "x", "../../instance", "\0", "ü" * 5000])
def test_what_is_no_code_does_not_work(settings: Settings, code: str) -> None:
    new_link(settings)
    assert not use_code(settings, code)


def test_a_damaged_file_is_no_code(settings: Settings) -> None:
    code = code_of(new_link(settings))
    (place,) = (settings.run_dir / "sign-in").iterdir()
    place.write_text("{")
    assert not use_code(settings, code)


@pytest.mark.parametrize(
    "address",
    [
        "/hub/home",
        "/hub/spawn?opt-repository=https://github.com/o/r",
        "http://binder.localhost:8888/hub/",
        "http://binder--service.binder.localhost:8888/services/binder/v2/gh/o/r/main?labpath=a%20b.ipynb",
        "http://ada.binder.localhost:8888/user/ada/one/lab",
    ],
)
def test_our_own_pages_may_come_next(address: str) -> None:
    assert is_own_address(address, ORIGIN)


@pytest.mark.parametrize(
    "address",
    [
        "https://evil.example/",
        "//evil.example/",
        "///evil.example/",
        "/\\evil.example/",
        "\\\\evil.example",
        "/\t/evil.example",
        " //evil.example",
        "http://binder.localhost:9999/",
        "https://binder.localhost:8888/",
        "http://evilbinder.localhost:8888/",
        "http://binder.localhost:8888.evil.example/",
        "http://binder.localhost:8888@evil.example/",
        "http://ada@binder.localhost:8888/",
        "http://binder.localhost:nonsense/",
        "http://[binder.localhost:8888/",
        "http:evil.example",
        "http:/evil.example",
        "http:///evil.example",
        "hub/home",
        "javascript:alert(1)",
        "data:text/html,x",
        "http://localhost:8888/",
    ],
)
def test_nobody_elses_pages_may(address: str) -> None:
    assert not is_own_address(address, ORIGIN)
