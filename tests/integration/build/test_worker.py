"""The real worker with a real Docker: from a folder to an image, and what must never happen on the way."""

from __future__ import annotations

import json
import secrets
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from image_bench import Bench, in_image
from package_index import PackageIndex

from tljh_plugin.build.base import BaseImage
from tljh_plugin.build.job import LogEvent

pytestmark = pytest.mark.docker

REPOSITORIES = Path(__file__).parents[2] / "repositories"


def inspect(image: str) -> dict[str, Any]:
    said = subprocess.run(["docker", "image", "inspect", image], capture_output=True, text=True, check=True)
    return dict(json.loads(said.stdout)[0])


def history(image: str) -> str:
    command = ["docker", "history", "--no-trunc", "--format", "{{.CreatedBy}}", image]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout


@pytest.fixture
def bench(base: BaseImage, tmp_path: Path) -> Iterator[Bench]:
    ours = Bench(base, tmp_path)
    yield ours
    ours.clean()
    assert list(ours.temporary.iterdir()) == []


def test_requirements_become_an_image(bench: Bench) -> None:
    labels = {"org.littlest-binder.test": 'a "quoted" $HOME \\ value', "other": "x=y"}
    result, worker = bench.build({"requirements.txt": "cowsay==6.1\n", "a b.txt": "hello"}, labels=labels)
    assert result.ok, worker.log
    assert (result.pack, result.python) == ("FastPython", "3.11")
    assert worker.percents == sorted(worker.percents)
    facts = inspect(result.image_id)
    theirs = inspect(bench.base.id)["Config"]["Labels"] or {}  # an image has those of its base as well
    assert facts["Config"]["Labels"] == {**theirs, **labels}
    assert facts["Config"]["User"] == "1000:1000"
    assert facts["Config"]["WorkingDir"] == "/home/jovyan"
    assert (
        in_image(result.image_id, "python -c 'import cowsay, sys; print(sys.prefix)'; cat 'a b.txt'")
        == "/srv/venv\nhello"
    )
    assert in_image(result.image_id, "stat -c '%u:%g' 'a b.txt' . /srv/venv | sort -u") == "1000:1000"
    assert "__pycache__" in in_image(
        result.image_id, "find /srv/venv -path '*cowsay/__pycache__*' -name '*.pyc'"
    )


def test_the_environment_is_that_of_repo2dockers_images(bench: Bench) -> None:
    packages = "ipywidgets, notebook, jupyter_resource_usage, jupyter_offlinenotebook"
    programs = "jupyter jupyterhub-singleuser jupyter-lab pip node npm git"
    said = in_image(
        bench.made({"requirements.txt": ""}),
        "echo $USER $HOME $REPO_DIR $LANG $SHELL $NB_PYTHON_PREFIX $KERNEL_PYTHON_PREFIX; "
        f"for each in {programs}; do command -v $each; done; "
        f"bash -lc 'command -v python'; python -c 'import {packages}'",
    )
    assert said.splitlines() == [
        "jovyan /home/jovyan /home/jovyan en_US.UTF-8 /bin/bash /srv/venv /srv/venv",
        *(f"/srv/venv/bin/{name}" for name in ("jupyter", "jupyterhub-singleuser", "jupyter-lab", "pip")),
        *(f"/usr/local/bin/{name}" for name in ("node", "npm")),
        "/usr/bin/git",
        "/srv/venv/bin/python",
    ]


def test_a_commit_that_changes_only_code_installs_nothing(bench: Bench) -> None:
    first = {"requirements.txt": "cowsay==6.1\n", "code.py": "x = 1\n"}
    bench.made(first)
    result, worker = bench.build({**first, "code.py": "x = 2\n"})
    assert result.ok
    place = worker.lines.index("Step 2/3: install what requirements.txt asks for")
    assert worker.lines[place + 1] == "unchanged since an earlier build"
    assert in_image(result.image_id, "cat code.py") == "x = 2"


def test_packages_of_the_system_postbuild_and_start(bench: Bench) -> None:
    files = {
        "apt.txt": "sl # a train\n",
        "requirements.txt": "cowsay==6.1\n",
        "postBuild": "#!/bin/bash -e\npython -c 'import cowsay'\necho $NB_USER $NB_UID > built\n",
        "start": '#!/bin/bash\nexport FROM_START=yes\nexec "$@"\n',
    }
    image = bench.made(files)
    said = in_image(image, "cat built; ls /usr/games/sl; echo $FROM_START; id -u")
    assert said.splitlines() == ["jovyan 1000", "/usr/games/sl", "yes", "1000"]
    assert (
        in_image(image, "find /var/lib/apt/lists /var/cache/apt -size +0 -type f 2>/dev/null || true") == ""
    )


def test_a_repository_without_any_description_gets_the_plain_environment(bench: Bench) -> None:
    result, worker = bench.build({"index.ipynb": "{}"})
    assert result.ok, worker.log
    assert result.pack == "FastPython"
    assert in_image(result.image_id, "ls") == "index.ipynb"


def test_a_package_is_installed_with_what_it_depends_on(bench: Bench) -> None:
    project = (
        '[project]\nname="ours"\nversion="1"\ndependencies=["cowsay==6.1"]\n'
        '[build-system]\nrequires=["setuptools"]\nbuild-backend="setuptools.build_meta"\n'
        '[tool.setuptools]\npy-modules=["ours"]\n'
    )
    files = {"pyproject.toml": project, "ours.py": "import cowsay\nX = 1\n"}
    image = bench.made(files)
    assert in_image(image, "cd /; python -c 'import ours; print(ours.X)'") == "1"
    result, worker = bench.build({**files, "ours.py": "import cowsay\nX = 2\n"})
    assert result.ok
    place = worker.lines.index("Step 2/4: install what pyproject.toml asks for")
    assert worker.lines[place + 1] == "unchanged since an earlier build"
    assert in_image(result.image_id, "cd /; python -c 'import ours; print(ours.X)'") == "2"


def test_an_editable_install_finds_the_repository(bench: Bench) -> None:
    setup = "from setuptools import setup\nsetup(name='ours', py_modules=['ours'])\n"
    files = {"requirements.txt": "-e ./deep\ncowsay==6.1\n", "deep/setup.py": setup, "deep/ours.py": ""}
    said = in_image(bench.made(files), "cd /; python -c 'import ours, cowsay; print(ours.__file__)'")
    assert said == "/home/jovyan/deep/ours.py"


def test_what_is_ignored_is_left_out(bench: Bench) -> None:
    files = {
        "binder/requirements.txt": "",
        "binder/.dockerignore": "*.dat\n!keep.dat\n",
        "a.dat": "",
        "keep.dat": "",
        ".dockerignore": "index.ipynb",
        "index.ipynb": "",
    }
    assert in_image(bench.made(files), "ls").split() == ["binder", "index.ipynb", "keep.dat"]


def test_a_folder_of_the_repository_can_be_built_alone(bench: Bench) -> None:
    files = {"requirements.txt": "there-is-no-such-thing", "deep/er/requirements.txt": "", "deep/er/here": ""}
    assert in_image(bench.made(files, subdir="deep/er"), "ls").split() == ["here", "requirements.txt"]
    result, _ = bench.build(files, subdir="deep/other")
    assert result.error is not None
    assert result.error.code == "build-no-such-folder"


def test_the_appendix_is_added(bench: Bench) -> None:
    image = bench.made({"requirements.txt": ""}, appendix="ENV INSTITUTE=ours\nRUN touch appended")
    assert in_image(image, "echo $INSTITUTE; ls appended") == "ours\nappended"


# -- what must not happen -------------------------------------------------------------------------------


def test_code_that_builds_a_package_sees_neither_the_shared_cache_nor_credentials(bench: Bench) -> None:
    with PackageIndex() as index:
        address = f"http://ann:geheim42@{index.address}/simple"
        result, worker = bench.build(
            {"requirements.txt": "curious==1.0\n"}, secret_env={"PIP_INDEX_URL": address}
        )
        assert result.ok, f"{result.error}\n{worker.log}"
        assert "Not all of this comes as wheels, so it is built from source." in worker.lines
        assert "ann:geheim42" in index.credentials
    seen = json.loads(
        in_image(result.image_id, "python -c 'import curious, json; print(json.dumps(curious.SEEN))'")
    )
    assert seen["identity"] == [1000, []]
    assert not {"/run/littlest-binder/shared", "/run/littlest-binder/uv-trusted.toml"} & set(seen)
    assert index.address in seen["/run/littlest-binder/uv.toml"]
    everything = (
        json.dumps(seen) + worker.log + history(result.image_id) + json.dumps(inspect(result.image_id))
    )
    assert "geheim42" not in everything


def test_a_dockerfile_sees_cache_mounts_of_its_own_alone(bench: Bench) -> None:
    text = (
        "FROM littlest-binder/base\nUSER root\n"
        "RUN --mount=type=cache,id=littlest-binder-wheels-1000,target=/c ls -A /c > /seen\n"
        "USER 1000:1000\n"
    )
    bench.made({"requirements.txt": f"cowsay==6.1\n# {bench.namespace}\n"})
    assert in_image(bench.made({"Dockerfile": text}), "cat /seen") == ""


def test_proxies_reach_the_build_but_not_its_history(bench: Bench) -> None:
    text = 'FROM littlest-binder/base\nRUN echo "$http_proxy $HTTPS_PROXY $no_proxy" > proxies\n'
    environment = {
        "http_proxy": "http://ann:geheim42@proxy:1",
        "https_proxy": "http://proxy:2",
        "no_proxy": "here",
    }
    result, worker = bench.build({"Dockerfile": text}, environment=environment)
    assert result.ok, worker.log
    assert in_image(result.image_id, "cat proxies") == "http://ann:geheim42@proxy:1 http://proxy:2 here"
    assert "geheim42" not in history(result.image_id) + worker.log + json.dumps(inspect(result.image_id))


def test_secrets_are_taken_out_of_the_log(bench: Bench) -> None:
    result, worker = bench.build(
        {"postBuild": "#!/bin/sh\necho the token is gehei''m42\nexit 1\n"}, secret_env={"TOKEN": "geheim42"}
    )
    assert not result.ok
    assert "the token is ***" in worker.lines
    assert "geheim42" not in str(result.error) + worker.log


@pytest.mark.parametrize("allowed", [True, False])
def test_dockerfiles_are_built_only_where_that_is_allowed(bench: Bench, allowed: bool) -> None:
    files = {"Dockerfile": "FROM littlest-binder/base\nRUN touch made\n"}
    result, _ = bench.build(files, dockerfile_allowed=allowed)
    assert result.ok is allowed
    if not allowed:
        assert result.error is not None
        assert result.error.code == "dockerfile-refused"
        assert "policy.dockerfile_repositories" in result.error.next


def test_somebody_elses_image_is_refused(bench: Bench, small_image: Callable[..., str]) -> None:
    name = f"somebody/{secrets.token_hex(6)}:latest"
    subprocess.run(["docker", "tag", small_image(), name], check=True)
    try:
        for text in (f"FROM {name}\n", f"FROM littlest-binder/base\nCOPY --from={name} /content /x\n"):
            result, _ = bench.build({"Dockerfile": text})
            assert result.error is not None
            assert result.error.code == "dockerfile-refused"
            assert name in result.error.message
    finally:
        subprocess.run(["docker", "image", "rm", name], check=True, capture_output=True)


@pytest.mark.parametrize("name", ["apt.txt", "requirements.txt", "Dockerfile", "binder", "environment.yml"])
def test_no_file_of_this_machine_is_read_through_a_link(bench: Bench, name: str, tmp_path: Path) -> None:
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "apt.txt").write_text("secret-of-the-host\n")
    job = bench.job({"index.ipynb": "{}"})
    (job.checkout / name).symlink_to(outside if name == "binder" else outside / "apt.txt")
    with bench.start(job) as worker:
        result = worker.finish()
    assert result.error is not None
    assert result.error.code == "build-link-leaves"
    assert "secret-of-the-host" not in worker.log + worker.stderr


def test_a_command_in_apt_txt_reaches_no_shell(bench: Bench) -> None:
    for folder in ("", "binder/"):
        result, worker = bench.build(
            {f"{folder}apt.txt": "less; id\n", "environment.yml": "dependencies: []"}
        )
        assert result.error is not None
        assert result.error.code == "build-apt-name"
        assert worker.lines == []


def test_an_image_of_the_same_name_is_not_taken_for_this_one(bench: Bench) -> None:
    first = bench.job({"requirements.txt": "", "x": "1"})
    with bench.start(first) as worker:
        assert worker.finish().ok
    (first.checkout / "x").write_text("2")
    with bench.start(first) as worker:
        assert in_image(worker.finish().image_id, "cat x") == "2"


def test_the_checkout_is_not_changed(bench: Bench) -> None:
    job = bench.job({"requirements.txt": "", "postBuild": "#!/bin/sh\ntouch made\n"})
    before = {path: path.stat().st_mtime_ns for path in job.checkout.rglob("*")}
    with bench.start(job) as worker:
        assert worker.finish().ok
    assert {path: path.stat().st_mtime_ns for path in job.checkout.rglob("*")} == before


# -- failures ---------------------------------------------------------------------------------------------


def test_a_missing_package_is_named(bench: Bench) -> None:
    result, worker = bench.build(REPOSITORIES / "missing-package")
    assert result.error is not None
    assert result.error.code == "build-package-not-found"
    assert "littlest-binder-there-is-no-such-package" in result.error.message
    assert "pip is tried" not in worker.log


def test_a_failed_postbuild_says_what_it_said(bench: Bench) -> None:
    result, _ = bench.build({"postBuild": "#!/bin/sh\necho I cannot go on >&2\nexit 7\n"})
    assert result.error is not None
    assert result.error.code == "build-postbuild-failed"
    assert "exit code 7: I cannot go on" in result.error.message


@pytest.mark.parametrize(
    ("files", "named"),
    [
        ({"runtime.txt": "python-banana\n"}, "runtime.txt"),
        ({"pyproject.toml": "[project\n"}, "pyproject.toml"),
        ({"environment.yml": "- a\nb: [\n"}, "environment.yml"),
        ({"binder/x": "", ".binder/x": ""}, ".binder"),
    ],
)
def test_files_that_cannot_be_read_are_an_error_of_the_repository(
    bench: Bench, files: dict[str, str], named: str
) -> None:
    result, worker = bench.build(files)
    assert result.error is not None, worker.log
    assert result.error.code == "build-not-understood"
    assert named in result.error.message


def test_a_bad_job_is_refused_in_one_line(base: BaseImage, tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "tljh_plugin.build.worker"],
        input=b'{"uid": 0}\n',
        capture_output=True,
        check=False,
    )
    assert done.returncode == 2
    assert b"bad job" in done.stderr
    assert done.stdout == b""


# -- the life-line ------------------------------------------------------------------------------------------


def running(marker: str) -> bool:
    """Whether a process of that command line runs anywhere on this machine, containers included."""
    for entry in Path("/proc").iterdir():
        if entry.name.isdecimal():
            try:
                if (
                    marker.encode() in (entry / "cmdline").read_bytes()
                    and "python" not in (entry / "comm").read_text()
                ):
                    return True
            except OSError:
                continue
    return False


def wait_for(condition: Callable[[], bool], seconds: float = 120.0) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, f"not within {seconds:g} s"
        time.sleep(0.02)


@pytest.mark.parametrize("end", ["cut", "terminate"])
def test_a_worker_that_is_let_go_leaves_nothing(bench: Bench, end: str) -> None:
    marker = f"86{secrets.randbelow(10**6):06d}"
    with bench.start(bench.job({"postBuild": f"#!/bin/sh\necho begun\nsleep {marker}\n"})) as worker:
        for event in worker.events():
            if isinstance(event, LogEvent) and event.text == "begun":
                break
        wait_for(lambda: running(f"sleep\0{marker}"))
        began = time.monotonic()
        worker.cut() if end == "cut" else worker.process.terminate()
        assert worker.process.wait(60) == -signal.SIGKILL
        assert time.monotonic() - began < 60  # 2 s on a quiet machine; the step itself takes days
        wait_for(lambda: not running(f"sleep\0{marker}"))
    assert worker.result is None
    assert list(bench.temporary.iterdir()) == []
