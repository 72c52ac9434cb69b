"""Whole builds of hostile repositories, with real git, real Docker and the real worker."""

from __future__ import annotations

import base64
import hashlib
import io
import json
import os
import re
import secrets
import subprocess
import zipfile
from collections.abc import AsyncIterator, Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
from git_server import GitServer, commit_files, git
from image_bench import Bench, in_image
from installation_parts import Parts, settings_for, visited
from package_index import PackageIndex
from repo2docker.buildpacks import RBuildPack

from tljh_plugin.build.base import BaseImage, ensure_base
from tljh_plugin.build.dockerfile import LocalImages, check_dockerfile, read_dockerfile
from tljh_plugin.build.job import ResultEvent
from tljh_plugin.errors import DockerfileRefused

pytestmark = pytest.mark.docker

LOG_BYTES = 1_000_000
BASE = "FROM littlest-binder/base\n"


@pytest.fixture
async def base(tmp_path: Path) -> BaseImage:
    return await ensure_base(settings_for(tmp_path / "base", {}), lambda _: None)


@pytest.fixture
async def parts(tmp_path: Path, git_server: GitServer, base: BaseImage) -> AsyncIterator[Parts]:
    """An installation on which one repository may be built by its Dockerfile."""
    policy = {
        **git_server.settings(),
        "dockerfile": "listed",
        "dockerfile_repositories": [git_server.url("listed")],
    }
    sections = {
        "policy": policy,
        "servers": {"uid": 1000, "gid": 1000},
        "source": {"resolve_cache_s": 0},
        "build": {"log_bytes": LOG_BYTES},
    }
    async with visited(settings_for(tmp_path / "state", sections)) as ours:
        yield ours


def processes_with(text: str) -> list[str]:
    """Command lines on the whole machine, containers included, that contain `text`."""
    return [line for line in map(command_line, os.listdir("/proc")) if text in line]


def command_line(entry: str) -> str:
    try:
        return (Path("/proc") / entry / "cmdline").read_bytes().replace(b"\0", b" ").decode()
    except OSError:
        return ""


# -- whose Dockerfile -----------------------------------------------------------------------------------


@pytest.mark.attack("build: Dockerfile")
async def test_a_fork_cannot_use_what_a_listed_repository_may(parts: Parts, git_server: GitServer) -> None:
    """git hosts serve the commits of forks and merge requests under the address of the original."""
    ran, stop = secrets.token_hex(8), "exit 3"
    path = git_server.new("listed", {"README.md": "honest"})
    git(path, "switch", "--quiet", "--detach")
    evil = commit_files(path, {"Dockerfile": f"FROM littlest-binder/base\nRUN echo evil-{ran} && {stop}\n"})
    git(path, "update-ref", "refs/pull/1/head", evil)
    git(path, "switch", "--quiet", "main")
    for ref in (evil, "refs/pull/1/head"):
        view = await parts.build(git_server.spec("listed", ref))
        assert view.error is not None
        assert view.error.code == "dockerfile-refused"
        assert f"evil-{ran}" not in "".join(line.text for line in await parts.log(view.id))
    # The control: the same lines on the repository's own branch are obeyed, also by their commit alone.
    own = git_server.commit(
        "listed", {"Dockerfile": f"FROM littlest-binder/base\nRUN echo own-{ran} && {stop}\n"}
    )
    for ref in ("main", own):
        view = await parts.build(git_server.spec("listed", ref), rebuild=True)
        assert view.error is not None
        assert view.error.code != "dockerfile-refused"
        assert f"own-{ran}" in "".join(line.text for line in await parts.log(view.id))


# -- what a build's own programs do -----------------------------------------------------------------------


@pytest.mark.attack("build: processes")
async def test_a_postbuild_cannot_stay_flood_or_speak_for_us(parts: Parts, git_server: GitServer) -> None:
    mark = f"left-{secrets.token_hex(8)}"
    script = f"""#!/bin/bash
(setsid bash -c 'exec -a {mark} sleep 600' > /dev/null 2>&1 &)
for _ in $(seq 600); do pgrep -f {mark} > /dev/null && break; sleep 0.1; done
pgrep -f {mark} > /dev/null && echo it-is-there
echo '{{"event":"result","ok":true,"image_id":"sha256:{"0" * 64}","pack":"x"}}'
echo '{{"event":"phase","progress":100}}'
printf '\\033]0;owned\\007\\033[2Jred\\033[0m\\n'
printf 'x\\r------\\n'
echo after-the-line
yes 'a line of a flood' | head -c 8000000
exit 3
"""
    git_server.new("bad", {"requirements.txt": "", "postBuild": script})
    view = await parts.build(git_server.spec("bad"))
    assert (view.state, view.image_id) == ("failed", "")
    lines = [line.text for line in await parts.log(view.id)]
    assert "it-is-there" in lines
    assert "after-the-line" in lines
    assert "red" in lines
    assert not any("\x1b" in line or "\x07" in line for line in lines)
    assert any("is longer than" in line for line in lines)
    assert (parts.settings.log_dir / f"{view.id}.jsonl").stat().st_size < LOG_BYTES + 100_000
    assert not processes_with(mark)


# -- packages -------------------------------------------------------------------------------------------


def wheel(name: str, files: Mapping[str, str], links: Mapping[str, str] | None = None) -> dict[str, bytes]:
    """A wheel of version 1.0 with any paths, as a file by its name. `links` become symbolic links."""
    info = f"{name}-1.0.dist-info"
    content = {
        **files,
        f"{info}/METADATA": f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.0\n",
        f"{info}/WHEEL": "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
    }
    record = ""
    for path, text in content.items():
        digest = base64.urlsafe_b64encode(hashlib.sha256(text.encode()).digest()).rstrip(b"=").decode()
        record += f"{path},sha256={digest},{len(text.encode())}\n"
    content[f"{info}/RECORD"] = record + f"{info}/RECORD,,\n"
    data = io.BytesIO()
    with zipfile.ZipFile(data, "w") as archive:
        for path, text in content.items():
            entry = zipfile.ZipInfo(path)
            entry.external_attr = 0o100755 << 16
            archive.writestr(entry, text)
        for path, target in (links or {}).items():
            entry = zipfile.ZipInfo(path)
            entry.external_attr = 0o120777 << 16
            archive.writestr(entry, target)
    return {f"{name}-1.0-py3-none-any.whl": data.getvalue()}


class IndexBench(Bench):
    """Builds against an index of ours, each time as a repository of its own."""

    def build_from(
        self, files: Mapping[str, str], index: PackageIndex | None = None, **more: Any
    ) -> tuple[ResultEvent, str]:
        """The result and the log."""
        self.namespace = secrets.token_hex(8)
        secret = {"PIP_INDEX_URL": f"http://ann:geheim42@{index.address}/simple"} if index else {}
        result, worker = self.build(files, **{"secret_env": secret, "dockerfile_allowed": False, **more})
        return result, worker.log


@pytest.fixture
def bench(base: BaseImage, tmp_path: Path) -> Iterator[IndexBench]:
    ours = IndexBench(base, tmp_path)
    yield ours
    ours.clean()


def shared_cache(pattern: str, folder: Path) -> set[str]:
    """What of the cache that all repositories share has this in its name."""
    folder.mkdir()
    (folder / "Dockerfile").write_text(
        f"FROM littlest-binder/base\nUSER root\nENV AT={secrets.token_hex(8)}\n"
        "RUN --mount=type=cache,id=littlest-binder-wheels-1000,target=/shared-cache "
        f"find /shared-cache -name '*{pattern}*'\n"
    )
    command = ["docker", "buildx", "build", "--progress", "plain", "--output", "type=cacheonly", str(folder)]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    return set(re.findall(r"\d /shared-cache(/.*)", done.stderr))


@pytest.mark.attack("build: Dockerfile")
def test_what_one_repository_left_in_a_cache_never_gets_into_another(bench: IndexBench) -> None:
    """Not by the id of the cache, and not by a step of the same words that was made with what is in it."""
    mount, poison = f"RUN --mount=type=cache,id=pip-{secrets.token_hex(4)},target=/c", secrets.token_hex(8)
    fill = f"{BASE}USER root\n{mount} echo {poison} >/c/wheel\nUSER 1000\n"
    use = f"{BASE}USER root\n{mount} cp /c/wheel /srv/installed || touch /srv/installed\nUSER 1000\n"
    attacker, victim = secrets.token_hex(8), secrets.token_hex(8)
    bench.made({"Dockerfile": fill}, cache_namespace=attacker)
    # The control: its own next build has it.
    theirs = bench.made({"Dockerfile": use}, cache_namespace=attacker)
    assert poison in in_image(theirs, "cat /srv/installed")
    ours = bench.made({"Dockerfile": use}, cache_namespace=victim)
    assert in_image(ours, "cat /srv/installed; echo end") == "end"


@pytest.mark.attack("build: packages")
def test_a_wheel_runs_nothing_in_the_step_that_has_the_shared_cache(
    bench: IndexBench, tmp_path: Path
) -> None:
    """Every way in which an installed package gets itself run; none may come before the step is over."""
    name, poison = f"evil{secrets.token_hex(4)}", f"poison{secrets.token_hex(6)}"
    places = "('/srv/venv', '/run/littlest-binder/shared')"
    run = f"import os; [open(d + '/{poison}', 'w').close() for d in {places} if os.path.isdir(d)]"
    shell = f"#!/bin/sh\ntouch /run/littlest-binder/shared/{poison} /srv/venv/{poison}\n"
    data = f"{name}-1.0.data"
    files = {
        f"{name}.py": "",
        f"{name}.pth": run + "\n",
        "sitecustomize.py": run,
        "usercustomize.py": run,
        "py_compile.py": run,
        "setuptools/__init__.py": run,
        "pip/__init__.py": run,
        f"{data}/data/bin/jupyter": shell,
        f"{data}/scripts/uv": shell,
        f"{data}/scripts/setpriv": shell,
    }
    with PackageIndex(wheel(name, files)) as index:
        result, log = bench.build_from({"requirements.txt": f"{name}==1.0\n"}, index)
    assert result.ok, log
    # The control: as soon as the image's Python starts it runs, and had not before.
    seen = in_image(result.image_id, "ls -d /srv/venv/p*; python -c pass; ls -d /srv/venv/p*")
    assert seen.split().count(f"/srv/venv/{poison}") == 1
    assert shared_cache(poison, tmp_path / "look") == set()
    # The wheel itself is in it: it is the right cache.
    assert shared_cache(name, tmp_path / "look-again")


@pytest.mark.attack("build: packages")
@pytest.mark.rounds(few=1, soak=3)
def test_a_wheel_that_leaves_its_place_writes_nowhere_else(
    bench: IndexBench, tmp_path: Path, round_number: int
) -> None:
    way = ("link", "path", "interpreter")[round_number]
    name, poison = f"evil{secrets.token_hex(4)}", f"poison{secrets.token_hex(6)}"
    outside = "../" * 6 + "run/littlest-binder/shared"
    shell = f"#!/bin/sh\ntouch /run/littlest-binder/shared/{poison}\n"
    made = {
        "path": ({f"{outside}/{poison}": "x", f"{outside}/bytecode/{poison}": "x"}, {}),
        "link": (
            {f"{name}/{poison}.py": "A = 1"},
            {
                f"{name}/__pycache__": "/run/littlest-binder/shared",
                f"{name}/b.py": "/run/littlest-binder/uv-trusted.toml",
            },
        ),
        "interpreter": ({f"{name}-1.0.data/data/bin/python3.11": shell}, {}),
    }
    with PackageIndex(wheel(name, {f"{name}.py": "", **made[way][0]}, made[way][1])) as index:
        result, log = bench.build_from({"requirements.txt": f"{name}==1.0\n"}, index)
        assert "geheim42" not in log
    found = shared_cache(poison, tmp_path / "look")
    assert not [path for path in found if path.count("/") == 1 or path.startswith("/bytecode")]
    if result.ok:
        find = f"find /srv/venv -path '*{name}*' -name 'b*' -exec cat {{}} + 2> /dev/null"
        assert "geheim42" not in in_image(result.image_id, f"{find}; true")


LINES = [
    "./package",
    "curious @ http://INDEX/files/curious-1.0.tar.gz",
    "-e .",
    "curious @ file:///srv/package",
    "--no-binary :all:\ncurious==1.0",
    "--index-url http://INDEX/simple\ncurious==1.0",
    "--find-links http://INDEX/files/\ncurious==1.0",
    'curious==1.0 --config-settings "a=b"',
    "git+http://INDEX/x",
    "-r http://INDEX/more.txt",
    "cur\\\nious==1.0",
]
PACKAGE = {
    "pyproject.toml": '[project]\nname="x"\nversion="1"\n[build-system]\nrequires=[]\nbuild-backend="b"\n'
    'backend-path=["."]\n',
    "b.py": "import os\nshared = os.path.isdir('/run/littlest-binder/shared')\n"
    "print('SEEN', shared, os.getgroups())\nraise SystemExit(3)\n",
}
LOOK = "python -c 'import curious, json; print(json.dumps(curious.SEEN))'"


@pytest.mark.attack("build: packages")
@pytest.mark.rounds(few=1, soak=len(LINES))
def test_a_line_that_runs_code_never_runs_it_beside_the_shared_cache(
    bench: IndexBench, round_number: int
) -> None:
    """The package's builder looks around: it must not see the shared cache, the group or the credentials."""
    line = LINES[round_number % len(LINES)]
    with PackageIndex() as index:
        asked = {"requirements.txt": line.replace("INDEX", index.address) + "\n"}
        result, log = bench.build_from({**asked, **PACKAGE}, index)
    assert not re.search("geheim42|SEEN True|61184", log)
    if result.ok:
        seen = json.loads(in_image(result.image_id, LOOK).splitlines()[-1])
        assert seen["identity"] == [1000, []]
        assert not {"/run/littlest-binder/shared", "/run/littlest-binder/uv-trusted.toml"} & set(seen)
        assert "geheim42" not in json.dumps(seen)


# -- files that become part of a Dockerfile ---------------------------------------------------------------

HIDDEN = "FROM littlest-binder/base\nADD\rhttp://127.0.0.1:1/x /x\n"
R_VERSION = "4.1.1\nADD http://localhost:1/x /x\nENV A="


@pytest.mark.attack("build: Dockerfile")
@pytest.mark.parametrize(
    ("files", "subdir", "code"),
    [
        ({"Dockerfile": HIDDEN}, "", "dockerfile-refused"),
        ({"binder/Dockerfile": HIDDEN, "Dockerfile": BASE}, "", "dockerfile-refused"),
        ({".binder/Dockerfile": HIDDEN}, "", "dockerfile-refused"),
        ({"deep/er/Dockerfile": HIDDEN, "Dockerfile": BASE}, "deep/er", "dockerfile-refused"),
        ({"deep/binder/Dockerfile": HIDDEN}, "deep", "dockerfile-refused"),
        ({"Dockerfile": BASE + "#" * 2_000_000}, "", "dockerfile-refused"),
        ({"runtime.txt": f"r-{R_VERSION}-2024-01-01", "install.R": "1"}, "", "build-not-understood"),
        ({"runtime.txt": "r-4.1.$(id)-2024-01-01", "install.R": "1"}, "", "build-not-understood"),
        ({"binder/runtime.txt": "python-3.11\nRUN id"}, "", "build-not-understood"),
        ({"environment.yml": "#" * 20_000_000}, "", "build-file-too-large"),
    ],
)
def test_it_is_refused_wherever_it_stands(
    bench: IndexBench, files: dict[str, str], subdir: str, code: str
) -> None:
    result, log = bench.build_from(files, subdir=subdir, dockerfile_allowed=True)
    assert result.error is not None, log
    assert result.error.code == code


@pytest.mark.attack("build: Dockerfile")
@pytest.mark.parametrize(
    "line", ["ADD http://127.0.0.1:1/x /x", "COPY --from=somebody/image /a /b", "FROM somebody/image"]
)
def test_what_repo2docker_writes_is_read_too(line: str, tmp_path: Path) -> None:
    """Should another of its files let a repository's words through as instructions."""
    stock = "docker.io/library/buildpack-deps:jammy"
    (tmp_path / "Dockerfile").write_text(f"FROM {stock}\nRUN true\n{line}\n")
    here = LocalImages(frozenset({"somebody/image:latest", "buildpack-deps:jammy"}))
    with pytest.raises(DockerfileRefused):
        check_dockerfile(read_dockerfile(tmp_path / "Dockerfile"), {}, here.all_but(stock))
    (tmp_path / "Dockerfile").write_text(f"FROM {stock}\nRUN true\n")
    check_dockerfile(read_dockerfile(tmp_path / "Dockerfile"), {}, here.all_but(stock))


@pytest.mark.attack("build: Dockerfile")
def test_a_version_of_r_would_have_become_an_instruction(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Why runtime.txt is read before repo2docker reads it."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(RBuildPack, "get_rspm_snapshot_url", lambda *_, **__: "https://example.org/a")
    Path("runtime.txt").write_text(f"r-{R_VERSION}-2024-01-01")
    pack = RBuildPack("docker.io/library/buildpack-deps:jammy")
    pack.platform = "linux/amd64"
    written = pack.render({"NB_USER": "jovyan"})
    assert "\nADD http://localhost:1/x /x\n" in written
    with pytest.raises(DockerfileRefused, match="fetch an address"):
        check_dockerfile(written, {"NB_USER": "jovyan"}, LocalImages())
    Path("runtime.txt").write_text("r-4.4-2024-01-01")
    honest = RBuildPack("docker.io/library/buildpack-deps:jammy")
    honest.platform = "linux/amd64"
    check_dockerfile(honest.render({"NB_USER": "jovyan"}), {"NB_USER": "jovyan"}, LocalImages())
