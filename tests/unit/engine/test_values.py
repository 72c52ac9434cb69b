"""Values of the engine: what they refuse, and where a person's files go in an image."""

from __future__ import annotations

import pytest

from tljh_plugin.engine import ContainerSpec, ImageFacts, Limits, Mount
from tljh_plugin.engine.images import facts

LIMITS = Limits(1000, 1000, (), 2**28, 1.0, 256, 2**26, 2**20)


def image(env: list[str] | None = None, workdir: str = "") -> ImageFacts:
    """An image as an engine describes it."""
    return facts({"Id": "sha256:1", "Config": {"Env": env, "WorkingDir": workdir}})


@pytest.mark.parametrize(
    ("env", "workdir", "home"),
    [
        (["PATH=/bin", "HOME=/home/ann"], "/work", "/home/ann"),
        (["HOME=/home/ann/"], "", "/home/ann"),
        (["PATH=/bin"], "/srv/app", "/srv/app"),
        (None, "", "/home/jovyan"),
        (["HOME=/"], "/work", "/work"),
        (["HOME=/"], "/", "/home/jovyan"),
        (["HOME=relative"], "", "/home/jovyan"),
        (["HOME=/home/../etc"], "", "/home/jovyan"),
        (["HOME=/etc"], "/usr/lib", "/home/jovyan"),
        (["HOME=/usr/src/app"], "", "/usr/src/app"),
        (["HOME=//proc//self"], "", "/home/jovyan"),
    ],
)
def test_the_home_is_never_a_folder_of_the_system(env: list[str] | None, workdir: str, home: str) -> None:
    assert image(env, workdir).home == home


def test_a_server_starts_where_the_image_says() -> None:
    assert image(["HOME=/home/ann"], "/srv/repo").start_folder == "/srv/repo"
    assert image(["HOME=/home/ann"]).start_folder == "/home/ann"


def test_values_with_equal_signs_stay_whole() -> None:
    assert image(["OPTIONS=a=b=c", "EMPTY="]).env == {"OPTIONS": "a=b=c", "EMPTY": ""}


def test_an_image_without_any_configuration_can_be_read() -> None:
    bare = facts({"Id": "sha256:1"})
    assert (bare.tags, dict(bare.labels), bare.entrypoint, bare.layers) == ((), {}, (), ())


@pytest.mark.parametrize("user", ["jovyan", "root", "0:0", "1000", "1000:0", "01000:1"])
def test_a_container_runs_only_as_a_number_that_is_not_root(user: str) -> None:
    with pytest.raises(ValueError, match="numeric"):
        ContainerSpec(image="x", command=("true",), limits=LIMITS, kind="check", user=user)


def test_the_network_of_the_host_is_never_shared() -> None:
    with pytest.raises(ValueError, match="host"):
        ContainerSpec(image="x", command=("true",), limits=LIMITS, kind="check", network="host")


def test_a_mount_needs_absolute_paths() -> None:
    with pytest.raises(ValueError, match="absolute"):
        Mount("volume-name", "/data")
