"""What the fast pack makes of a repository, without building it."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tljh_plugin.build.builder import StepFailed
from tljh_plugin.build.recipe.fast_python import FastPython, Recipe
from tljh_plugin.build.recipe.install import AGAIN
from tljh_plugin.errors import BuildFailed

Make = Callable[..., FastPython]


@pytest.fixture
def make(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Make:
    """A pack for a repository of the given files, in a base with Python 3.11; 3.12 can be had as well."""
    monkeypatch.chdir(tmp_path)
    logging.getLogger("repo2docker").setLevel(logging.INFO)

    def with_python(version: str, asked: bool) -> str | None:
        return "base:x-python-3.12" if version == "3.12" else None

    def pack(**files: str) -> FastPython:
        for name, content in files.items():
            path = tmp_path / name.replace("__", "/")
            path = (
                path if path.suffix or "_" not in path.name else path.with_name(path.name.replace("_", "."))
            )
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(content)
        return FastPython("stock", Recipe("base:x", "3.11", 1001, 1002, "namespace", with_python))

    return pack


def rendered(pack: FastPython, **arguments: str) -> list[str]:
    assert pack.fits()
    return pack.render(arguments).replace(" \\\n    ", " ").splitlines()


def test_requirements_are_installed_before_the_repository_is_copied(make: Make) -> None:
    lines = rendered(make(requirements_txt="-r more.txt\nnumpy\n", more_txt="pandas\n"))
    install = next(place for place, line in enumerate(lines) if "install.py" in line)
    copy = next(place for place, line in enumerate(lines) if line.startswith("COPY"))
    assert install < copy
    assert "--wheels -- -r /run/littlest-binder/src/requirements.txt" in lines[install]
    for name in ("requirements.txt", "more.txt"):
        assert f"type=bind,source={name},target=/run/littlest-binder/src/{name}" in lines[install]
    assert lines[0] == "FROM base:x"
    assert lines[copy] == "COPY --chown=1001:1002 . ${HOME}/"
    assert lines[-1] == "USER 1001:1002"


@pytest.mark.parametrize("requirements", ["-e .", "./package", "-f wheels\nnumpy", "-r ../outside.txt"])
def test_requirements_that_need_the_repository_come_after_it(make: Make, requirements: str) -> None:
    lines = rendered(make(requirements_txt=requirements))
    install = next(place for place, line in enumerate(lines) if "install.py" in line)
    assert install > next(place for place, line in enumerate(lines) if line.startswith("COPY"))
    assert "type=bind" not in lines[install]


@pytest.mark.parametrize(
    "requirements",
    [
        "-e .",
        "git+https://example.org/x",
        "--index-url https://example.org/\nx",
        "x @ https://example.org/x.whl",
    ],
)
def test_only_plain_requirements_see_the_shared_cache_and_the_credentials(
    make: Make, requirements: str
) -> None:
    text = "\n".join(rendered(make(requirements_txt=requirements)))
    assert "--wheels" not in text
    assert "/shared" not in text
    assert "trusted" not in text
    assert "id=littlest-binder-own-namespace-1001" in text


def test_plain_requirements_give_the_same_step_in_every_repository(make: Make) -> None:
    install = next(line for line in rendered(make(requirements_txt="numpy\n")) if "install.py" in line)
    assert "namespace" not in install
    assert "/own" not in install


class Client:
    """A builder that fails as often as it is told to, saying `said`."""

    def __init__(self, failures: int, said: str) -> None:
        self.failures, self.said = failures, said
        self.dockerfiles: list[str] = []

    def build(self, *, dockerfile_text: str, **_: object) -> Iterator[str]:
        self.dockerfiles.append(dockerfile_text)
        yield "begun"
        if self.failures >= len(self.dockerfiles):
            yield f"#4 1.2 {self.said}"
            yield "ERROR: failed to solve"
            raise StepFailed("it failed")
        yield "done"


def test_where_wheels_are_not_enough_the_image_is_built_again_from_source(make: Make) -> None:
    pack, client = make(requirements_txt="numpy\n"), Client(1, AGAIN)
    assert pack.fits()
    lines = list(pack.build(client, "image", 0, {}, [], {}))
    assert lines == ["begun", f"#4 1.2 {AGAIN}", "begun", "done"]
    first, second = client.dockerfiles
    assert "--wheels" in first
    assert "--wheels" not in second
    assert "trusted" not in second
    assert "littlest-binder-own-namespace-1001" in second


def test_other_failures_are_not_tried_again(make: Make) -> None:
    pack, client = make(requirements_txt="numpy\n"), Client(1, "no such package")
    assert pack.fits()
    with pytest.raises(StepFailed):
        list(pack.build(client, "image", 0, {}, [], {}))
    assert len(client.dockerfiles) == 1


def test_it_is_tried_again_once(make: Make) -> None:
    pack, client = make(requirements_txt="numpy\n"), Client(9, AGAIN)
    assert pack.fits()
    with pytest.raises(StepFailed):
        list(pack.build(client, "image", 0, {}, [], {}))
    assert len(client.dockerfiles) == 2


def test_steps_that_run_the_repositorys_code_get_nothing_of_ours(make: Make) -> None:
    lines = rendered(make(requirements_txt="numpy", postBuild="#!/bin/sh\n", setup_py="import os"))
    ours = [line for line in lines if "trusted" in line or "/shared" in line]
    assert len(ours) == 1
    assert lines.index(ours[0]) < next(place for place, line in enumerate(lines) if line.startswith("COPY"))


def test_a_linked_requirements_file_is_installed_after_the_copy(make: Make, tmp_path: Path) -> None:
    pack = make(deep__reqs_txt="numpy")
    (tmp_path / "requirements.txt").symlink_to("deep/reqs.txt")
    assert "type=bind" not in "\n".join(rendered(pack))


def test_nothing_outside_of_the_repository_is_read(make: Make, tmp_path: Path) -> None:
    secret = tmp_path.parent / "secret.txt"
    secret.write_text("secret-package\n")
    pack = make(postBuild="")
    (tmp_path / "apt.txt").symlink_to(secret)
    assert "secret-package" not in "\n".join(rendered(pack))


def test_the_binder_folder_wins(make: Make) -> None:
    text = "\n".join(
        rendered(
            make(
                binder__requirements_txt="numpy",
                binder__apt_txt="vim\ngit\n",
                binder__postBuild="",
                binder__start="",
                requirements_txt="pandas",
                apt_txt="emacs",
            )
        )
    )
    assert "source=binder/requirements.txt" in text
    assert "source=requirements.txt" not in text
    assert "Dpkg::Use-Pty=0 git vim" in text
    assert "chmod +x binder/postBuild binder/start" in text
    assert "./binder/postBuild" in text
    assert 'ENV R2D_ENTRYPOINT="${REPO_DIR}/binder/start"' in text


def test_scripts_that_are_executable_cost_no_step(make: Make, tmp_path: Path) -> None:
    pack = make(postBuild="", start="")
    (tmp_path / "postBuild").chmod(0o755)
    (tmp_path / "start").chmod(0o755)
    assert "chmod" not in "\n".join(rendered(pack))


def test_a_package_gets_its_listed_dependencies_first(make: Make) -> None:
    project = '[project]\nname="x"\nversion="1"\ndependencies=["numpy>=2"]\n[build-system]\nrequires=[]\n'
    lines = [line for line in rendered(make(pyproject_toml=project)) if "install.py" in line]
    assert lines[0].endswith("--optional -- -r /run/littlest-binder/src/pyproject.toml")
    assert lines[1].endswith(" -- .")


@pytest.mark.parametrize(
    "dependencies", ["[]", '["x @ https://example.org/x"]', '["x @ file:x"]', '["=="]', "3"]
)
def test_dependencies_that_are_not_listed_by_name_wait_for_the_package(make: Make, dependencies: str) -> None:
    project = f'[project]\nname="x"\ndependencies={dependencies}\n[build-system]\nrequires=[]\n'
    assert "pyproject.toml" not in "\n".join(rendered(make(pyproject_toml=project)))


def test_pip_is_used_and_named_where_uv_would_differ(make: Make, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO, "repo2docker"):
        text = "\n".join(rendered(make(requirements_txt="--use-feature=fast-deps\nnumpy")))
    assert "--only-pip" in text
    assert "--wheels" not in text
    assert "--use-feature" in caplog.text


def test_hashes_are_asked_for(make: Make) -> None:
    assert "--require-hashes" in "\n".join(rendered(make(requirements_txt="x==1 --hash=sha256:00")))


# -- Python ---------------------------------------------------------------------------------------------


def test_the_bases_python_is_taken_where_it_is_asked_for(make: Make) -> None:
    pack = make(runtime_txt="python-3.11", requirements_txt="")
    assert rendered(pack)[0] == "FROM base:x"
    assert pack.python == "3.11"


def test_another_python_is_taken_where_it_can_be_had(make: Make) -> None:
    pack = make(runtime_txt="python-3.12")
    assert pack.detect()
    assert pack.render({}).startswith("FROM base:x-python-3.12\n")
    assert pack.python == "3.12"


@pytest.mark.parametrize(
    ("runtime", "words"),
    [("python-3.13", "could not be had"), ("python-3.9", "no Python 3.9"), ("python-2.7", "no Python 2.7")],
)
def test_a_python_that_cannot_be_had_is_left_to_the_stock_pack(
    make: Make, runtime: str, words: str, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.INFO, "repo2docker"):
        assert not make(runtime_txt=runtime).detect()
    assert words in caplog.text


def test_where_none_is_named_the_bases_is_taken_and_said(
    make: Make, caplog: pytest.LogCaptureFixture
) -> None:
    pack = make(requirements_txt="numpy")
    with caplog.at_level(logging.INFO, "repo2docker"):
        assert pack.fits()
    assert pack.python == "3.11"
    assert "would take 3.10" in caplog.text
    assert "This will change" not in caplog.text


def test_a_package_that_does_not_allow_the_bases_python_is_left_to_the_stock_pack(make: Make) -> None:
    assert make(pyproject_toml='[project]\nname="x"\nrequires-python=">=3.11"\n').fits()
    assert not make(pyproject_toml='[project]\nname="x"\nrequires-python=">=3.13"\n').fits()


# -- stepping aside ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "script",
    [
        "conda install x",
        "set -e\nmamba env update",
        "${CONDA_DIR}/bin/x",
        "/srv/conda/bin/pip install x",
        "true && conda list",
    ],
)
def test_scripts_that_use_conda_are_left_to_the_stock_pack(make: Make, script: str) -> None:
    assert not make(postBuild=f"#!/bin/bash\n{script}\n").fits()


def test_words_that_only_contain_conda_do_not_count(make: Make) -> None:
    assert make(postBuild="#!/bin/bash\necho anaconda secondary condarc\n").fits()


def test_version_control_that_the_base_lacks_is_left_to_the_stock_pack(make: Make) -> None:
    assert not make(requirements_txt="hg+https://example.org/x").detect()


def test_only_python_repositories_are_detected(make: Make) -> None:
    assert not make(README_md="hello").detect()
    assert make(requirements_txt="").detect()


def test_an_r_repository_is_not_detected(make: Make) -> None:
    assert not make(runtime_txt="r-4.3-2024-01-01", requirements_txt="numpy").detect()


# -- the rest of the image -----------------------------------------------------------------------------------


def test_the_repository_may_have_a_place_of_its_own(make: Make) -> None:
    lines = rendered(make(requirements_txt=""), REPO_DIR="/srv/repo")
    assert "WORKDIR /srv/repo" in lines
    assert "COPY --chown=1001:1002 . /srv/repo/" in lines
    assert "ENV REPO_DIR=/srv/repo PATH=/srv/repo/.local/bin:${PATH}" in lines


def test_the_appendix_comes_last(make: Make) -> None:
    pack = make(requirements_txt="")
    pack.appendix = "ENV INSTITUTE=ours"
    assert rendered(pack)[-1] == "ENV INSTITUTE=ours"


def test_ignore_files_are_read_where_the_stock_pack_reads_them(make: Make) -> None:
    pack = make(
        **{
            "binder__.dockerignore": "data\n# why\n\n!data/x",
            "binder__.containerignore": "*.tmp",
            ".dockerignore": "all",
        }
    )
    assert pack.ignored().splitlines()[1:] == ["data", "!data/x", "*.tmp"]


def test_a_bad_package_name_ends_the_build(make: Make) -> None:
    with pytest.raises(BuildFailed, match=r"apt\.txt"):
        rendered(make(apt_txt="vim; id"))


def test_a_huge_file_is_not_read(make: Make) -> None:
    with pytest.raises(BuildFailed, match="are not read"):
        make(requirements_txt="#" * (2**20 + 1)).detect()
