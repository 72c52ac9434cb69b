"""People's project folders, filled on a real Docker from images that are honest, broken or hostile."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import stat
import sys
import textwrap
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import pytest

from tljh_plugin.engine import ContainerSpec, Engine, ImageFacts, Limits, Mount, limits_for
from tljh_plugin.errors import (
    NotFound,
    ProjectAtOtherCommit,
    ProjectError,
    ProjectFailed,
    ProjectTooLarge,
)
from tljh_plugin.projects import Projects, people, prepare
from tljh_plugin.projects.names import person_slug, project_id
from tljh_plugin.projects.people import PERSON_MARKER
from tljh_plugin.projects.root import ROOT_MARKER
from tljh_plugin.settings import Settings, from_mapping
from tljh_plugin.store import Store
from tljh_plugin.wire import Person, PrepareRequest

pytestmark = pytest.mark.docker

UID = 4321
REPOSITORY = "https://github.com/owner/repo"
OLD, NEW = "a" * 40, "b" * 40
ANN, BOB = Person(name="ann"), Person(name="bob")
GIB = 1024**3


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    return configured(tmp_path)


def configured(state: Path, **sections: Any) -> Settings:
    return from_mapping(
        {"servers": {"uid": UID, "memory_bytes": 512 * 1024**2}, **sections},
        platform="jupyterhub",
        state_dir=state,
    )


@pytest.fixture
async def store(settings: Settings) -> AsyncIterator[Store]:
    opened = await Store.open(settings.store_path)
    yield opened
    await opened.close()


@pytest.fixture
def projects(settings: Settings, store: Store, engine: Engine) -> Projects:
    return Projects(settings, store, engine)


@pytest.fixture
def image(build_image: Callable[..., str], engine: Engine, base_image: str) -> Callable[..., Any]:
    """Builds an image with a home of its own and returns its facts."""

    async def build(lines: str, files: dict[str, str] | None = None) -> ImageFacts:
        dockerfile = f"FROM littlest-binder/base\nUSER root\nENV HOME=/home/new\nWORKDIR /home/new\n{lines}\n"
        name = await asyncio.to_thread(build_image, dockerfile, files)
        facts = await engine.image(name)
        assert facts is not None
        return facts

    return build


@pytest.fixture
async def plain(image: Callable[..., Any]) -> ImageFacts:
    """An honest image with a few files."""
    facts: ImageFacts = await image(
        "RUN mkdir data && echo hello > README.md && echo 1,2 > data/a.csv && ln -s data/a.csv link"
        " && cp /bin/true set-id && chmod 4755 set-id && chown -R 4321:4321 /home/new"
        " && echo secret > /home/new/data/root-only && chmod 600 /home/new/data/root-only"
    )
    return facts


@pytest.fixture
def liar(image: Callable[..., Any]) -> Callable[..., Any]:
    """Builds an image whose Python runs `body` instead of what it is told, with `pipe` open for writing."""
    made_up = Path(__file__).parents[2] / "unit" / "projects" / "stream.py"

    async def build(body: str) -> ImageFacts:
        program = (
            "#!/opt/real-python -I\nimport os, sys, time\nsys.path.insert(0, '/opt')\nfrom stream import *\n"
            f"pipe = open(sys.argv[-1], 'wb')\n{textwrap.dedent(body)}\n"
        )
        facts: ImageFacts = await image(
            "COPY stream.py liar.py /opt/\nRUN cp -L /usr/bin/python3 /opt/real-python"
            " && cp /opt/liar.py /usr/bin/python3 && cp /opt/liar.py /srv/venv/bin/python3"
            " && cp /opt/liar.py /srv/venv/bin/python",
            {"stream.py": made_up.read_text(), "liar.py": program},
        )
        return facts

    return build


def request(
    image: ImageFacts, commit: str = OLD, project: str = "", repository: str = REPOSITORY
) -> PrepareRequest:
    return PrepareRequest(
        server="s",
        image_id=image.id,
        repository=repository,
        spec="gh/owner/repo/main",
        commit=commit,
        project=project,
    )


def entries(settings: Settings) -> list[str]:
    """Everything below the storage root but its own markers, hidden things and links included."""
    root = settings.storage_root
    return sorted(
        str(path.relative_to(root))
        for path in root.rglob("*")
        if path.name not in (ROOT_MARKER, PERSON_MARKER)
    )


# -- what a person gets ------------------------------------------------------------------------------------


async def test_a_new_project_holds_the_images_files(
    projects: Projects, plain: ImageFacts, base_image: str, settings: Settings
) -> None:
    view, path = await projects.prepare(ANN, request(plain), plain, base_image)
    assert path == settings.storage_root / person_slug("ann") / project_id(REPOSITORY) / "home"
    assert (view.id, view.owner, view.commit, view.repository) == (path.parent.name, "ann", OLD, REPOSITORY)
    assert sorted(each.name for each in path.iterdir()) == ["README.md", "data", "link", "set-id"]
    assert (path / "README.md").read_text() == "hello\n"
    assert os.readlink(path / "link") == "data/a.csv"
    assert not (path / "data" / "root-only").exists()
    for each in (path, *path.rglob("*")):
        facts = each.lstat()
        assert (facts.st_uid, facts.st_gid) == (UID, UID)
        assert stat.S_ISLNK(facts.st_mode) or not facts.st_mode & 0o7000
    marker = json.loads((path.parent / "project.json").read_text())
    assert (marker["owner"], marker["commit"], marker["image_id"]) == ("ann", OLD, plain.id)
    assert marker["skipped"] == ["data/root-only: Permission denied"]


async def test_all_above_the_home_is_closed_to_the_servers_user(
    projects: Projects, plain: ImageFacts, base_image: str, settings: Settings
) -> None:
    """Also where somebody opened it."""
    (settings.storage_root / person_slug("ann")).mkdir(parents=True, mode=0o755)
    _, path = await projects.prepare(ANN, request(plain), plain, base_image)
    for folder in (path.parent, path.parent.parent):
        facts = folder.stat()
        assert (facts.st_uid, stat.S_IMODE(facts.st_mode)) == (os.geteuid(), 0o700)
    assert sorted(each.name for each in path.parent.iterdir()) == ["home", "project.json"]


async def test_a_server_can_work_in_it_and_finds_its_files_again(
    projects: Projects, plain: ImageFacts, base_image: str, engine: Engine, settings: Settings
) -> None:
    _, path = await projects.prepare(ANN, request(plain), plain, base_image)
    work = ContainerSpec(
        image=plain.id,
        entrypoint=("/bin/sh", "-c"),
        command=("cat README.md && echo mine > README.md && mkdir own && echo more > own/file",),
        limits=limits_for(settings),
        kind="server",
        mounts=(Mount(str(path), plain.home),),
    )
    ended = await engine.run(work, 30)
    assert (ended.exit_code, ended.output) == (0, "hello\n")
    assert (await projects.prepare(ANN, request(plain), plain, base_image))[1] == path
    assert (path / "README.md").read_text() == "mine\n"
    assert (path / "own" / "file").read_text() == "more\n"


async def test_equal_requests_at_once_make_one_project(
    projects: Projects, plain: ImageFacts, base_image: str, settings: Settings, engine: Engine
) -> None:
    made = await asyncio.gather(
        *(projects.prepare(ANN, request(plain), plain, base_image) for _ in range(12)),
        *(projects.list(ANN) for _ in range(3)),
    )
    assert len({str(each[1]) for each in made[:12] if isinstance(each, tuple)}) == 1
    assert len(await projects.list(ANN)) == 1
    assert not [name for name in entries(settings) if ".filling" in name]


async def test_two_people_have_folders_of_their_own(
    projects: Projects, plain: ImageFacts, base_image: str
) -> None:
    (mine, my_path), (theirs, their_path) = await asyncio.gather(
        projects.prepare(ANN, request(plain), plain, base_image),
        projects.prepare(BOB, request(plain), plain, base_image),
    )
    assert my_path.parent.parent != their_path.parent.parent
    assert [view.id for view in await projects.list(ANN)] == [mine.id]
    assert (await projects.find(BOB, theirs.id)).owner == "bob"


async def test_people_whose_short_names_meet_are_kept_apart(
    projects: Projects, plain: ImageFacts, base_image: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Eight digits of a hash can be ground."""
    monkeypatch.setattr(people, "person_slug", lambda name: "same")
    _, mine = await projects.prepare(ANN, request(plain), plain, base_image)
    _, theirs = await projects.prepare(BOB, request(plain), plain, base_image)
    assert mine.parent.parent != theirs.parent.parent
    assert (await projects.find(BOB, mine.parent.name)).path == str(theirs)


async def test_repositories_whose_short_names_meet_are_kept_apart(
    projects: Projects, plain: ImageFacts, base_image: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(prepare, "project_id", lambda repository, subdir: "same")
    _, first = await projects.prepare(ANN, request(plain), plain, base_image)
    _, second = await projects.prepare(ANN, request(plain, repository="https://evil/x"), plain, base_image)
    assert first != second
    assert (await projects.prepare(ANN, request(plain), plain, base_image))[1] == first


# -- another commit ----------------------------------------------------------------------------------------


async def test_a_repository_that_moved_on_is_a_question(
    projects: Projects, plain: ImageFacts, base_image: str
) -> None:
    old, old_path = await projects.prepare(ANN, request(plain), plain, base_image)
    with pytest.raises(ProjectAtOtherCommit, match=f"{OLD[:12]}.*{NEW[:12]}"):
        await projects.prepare(ANN, request(plain, NEW), plain, base_image)
    _, continued = await projects.prepare(ANN, request(plain, NEW, old.id), plain, base_image)
    assert continued == old_path
    new, copied = await projects.prepare(ANN, request(plain, NEW, "new"), plain, base_image)
    assert copied != old_path
    assert (await projects.prepare(ANN, request(plain, NEW), plain, base_image))[1] == copied
    assert (await projects.prepare(ANN, request(plain, OLD), plain, base_image))[1] == old_path
    assert {view.id: view.commit for view in await projects.list(ANN)} == {old.id: OLD, new.id: NEW}


async def test_an_id_of_somebody_else_is_not_found(
    projects: Projects, plain: ImageFacts, base_image: str
) -> None:
    _, path = await projects.prepare(
        BOB, request(plain, repository="https://github.com/bob/own"), plain, base_image
    )
    with pytest.raises(NotFound):
        await projects.prepare(ANN, request(plain, OLD, path.parent.name), plain, base_image)


# -- the disk is the truth ---------------------------------------------------------------------------------


async def test_a_lost_store_loses_no_project(
    projects: Projects, plain: ImageFacts, base_image: str, settings: Settings, engine: Engine, tmp_path: Path
) -> None:
    view, path = await projects.prepare(ANN, request(plain), plain, base_image)
    (path / "mine").write_text("x")
    empty = await Store.open(tmp_path / "another.sqlite")
    try:
        again = Projects(settings, empty, engine)
        assert [each.id for each in await again.list(ANN)] == [view.id]
        assert (await again.prepare(ANN, request(plain), plain, base_image))[1] == path
        assert (await empty.projects("ann"))[0].last_used
    finally:
        await empty.close()
    assert (path / "mine").read_text() == "x"


async def test_a_project_whose_folder_is_gone_is_made_anew(
    projects: Projects, plain: ImageFacts, base_image: str
) -> None:
    _, path = await projects.prepare(ANN, request(plain), plain, base_image)
    path.parent.rename(path.parent.with_name("moved-away"))
    assert await projects.list(ANN) == []
    _, again = await projects.prepare(ANN, request(plain), plain, base_image)
    assert again == path
    assert (again / "README.md").exists()


async def test_a_home_without_a_marker_is_never_touched(
    projects: Projects, plain: ImageFacts, base_image: str, settings: Settings
) -> None:
    stranger = settings.storage_root / person_slug("ann") / project_id(REPOSITORY) / "home"
    stranger.mkdir(parents=True)
    _, path = await projects.prepare(ANN, request(plain), plain, base_image)
    assert path != stranger
    assert list(stranger.iterdir()) == []


async def test_files_of_another_user_are_told(
    projects: Projects, plain: ImageFacts, base_image: str, engine: Engine, store: Store, tmp_path: Path
) -> None:
    await projects.prepare(ANN, request(plain), plain, base_image)
    changed = Projects(configured(tmp_path, servers={"uid": 777}), store, engine)
    with pytest.raises(ProjectFailed, match=r"belongs to user 4321.*run as user 777"):
        await changed.prepare(ANN, request(plain), plain, base_image)


async def test_a_link_in_the_place_of_a_folder_is_refused(
    projects: Projects, plain: ImageFacts, base_image: str, settings: Settings, tmp_path: Path
) -> None:
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    settings.storage_root.mkdir()
    (settings.storage_root / person_slug("ann")).symlink_to(elsewhere)
    with pytest.raises(ProjectFailed, match="not a folder"):
        await projects.prepare(ANN, request(plain), plain, base_image)
    assert list(elsewhere.iterdir()) == []


# -- images that are broken or hostile ---------------------------------------------------------------------


async def refused(projects: Projects, facts: ImageFacts, base_image: str, settings: Settings) -> ProjectError:
    """The error; nothing of the project may be left."""
    with pytest.raises(ProjectError) as caught:
        await projects.prepare(ANN, request(facts), facts, base_image)
    assert entries(settings) == [person_slug("ann")]
    assert await projects.list(ANN) == []
    return caught.value


async def test_an_image_without_python_gets_a_clear_error(
    projects: Projects, engine: Engine, base_image: str, settings: Settings, limits: Limits
) -> None:
    facts = await engine.image("littlest-binder/debian:bookworm")
    assert facts is not None
    assert "no python3" in (await refused(projects, facts, base_image, settings)).message


async def test_an_image_with_nothing_in_it_gets_an_error(
    projects: Projects, engine: Engine, base_image: str, settings: Settings, small_image: Callable[..., str]
) -> None:
    facts = await engine.image(small_image())
    assert facts is not None
    await refused(projects, facts, base_image, settings)


async def test_a_python_that_fails_gets_an_error_with_its_words(
    projects: Projects, liar: Callable[..., Any], base_image: str, settings: Settings
) -> None:
    error = await refused(projects, await liar("sys.exit('no mood today')"), base_image, settings)
    assert "no mood today" in error.message


async def test_a_python_that_never_opens_the_pipe_is_no_wait(
    projects: Projects, image: Callable[..., Any], base_image: str, settings: Settings
) -> None:
    facts = await image(
        "RUN printf '#!/bin/sh\\nexit 0\\n' > /tmp/p && chmod 755 /tmp/p && cp /tmp/p /usr/bin/python3"
        " && cp /tmp/p /srv/venv/bin/python3"
    )
    assert "ended early" in (await refused(projects, facts, base_image, settings)).message


async def test_a_home_beyond_the_limit_is_refused(
    image: Callable[..., Any], base_image: str, tmp_path: Path, store: Store, engine: Engine
) -> None:
    small = configured(tmp_path, storage={"max_fill_bytes": 3_000_000})
    facts = await image("RUN head -c 5000000 /dev/urandom > large && chown -R 4321 .")
    error = await refused(Projects(small, store, engine), facts, base_image, small)
    assert isinstance(error, ProjectTooLarge)
    assert "storage.max_fill_bytes" in error.next_step


async def test_a_full_disk_is_told(
    plain: ImageFacts, base_image: str, tmp_path: Path, store: Store, engine: Engine
) -> None:
    full = configured(tmp_path, build={"disk_reserve_bytes": 2**60})
    error = await refused(Projects(full, store, engine), plain, base_image, full)
    assert "disk is too full" in error.message


async def test_a_stream_without_end_ends_at_the_limit(
    liar: Callable[..., Any], base_image: str, tmp_path: Path, store: Store, engine: Engine
) -> None:
    small = configured(tmp_path, storage={"max_fill_bytes": 20_000_000})
    facts = await liar(
        """
        pipe.write(MAGIC + file(b"f", size=2**40, end=False))
        for n in range(10**6):
            pipe.write(struct.pack(">QI", n * 10**6, 10**6) + b"x" * 10**6)
        """
    )
    assert isinstance(
        await refused(Projects(small, store, engine), facts, base_image, small), ProjectTooLarge
    )


@pytest.mark.parametrize(
    "body",
    [
        'pipe.write(MAGIC + link(b"out", b"/etc") + file(b"out/x") + END)',
        'pipe.write(MAGIC + file(b"../x", (0, b"evil")) + END)',
        'pipe.write(MAGIC + file(b"/into/x", (0, b"evil")) + END)',
        'pipe.write(b"\\0" * 10**7)',
        'pipe.write(MAGIC + file(b"f", (0, b"half"), end=False))',
    ],
)
async def test_a_stream_that_lies_makes_no_project(
    projects: Projects, liar: Callable[..., Any], base_image: str, settings: Settings, body: str
) -> None:
    await refused(projects, await liar(body), base_image, settings)


async def test_what_a_liar_can_get_is_harmless(
    projects: Projects, liar: Callable[..., Any], base_image: str
) -> None:
    facts = await liar(
        f"""
        pipe.write(MAGIC + file(b"set-id", (0, b"x"), mode=0o6777) + folder(b"locked", 0))
        pipe.write(file(b"locked/f", (0, b"x"), mode=0) + link(b"etc", b"/etc"))
        pipe.write(file(b"sparse", size={20 * GIB}) + END)
        pipe.close()
        time.sleep(300)  # it may stay as long as it likes, nobody waits for it
        """
    )
    _, path = await projects.prepare(ANN, request(facts), facts, base_image)
    assert stat.S_IMODE((path / "set-id").stat().st_mode) == 0o777
    assert stat.S_IMODE((path / "locked").stat().st_mode) == 0o700
    assert (path / "locked").stat().st_uid == UID
    assert os.readlink(path / "etc") == "/etc"
    assert (path / "sparse").stat().st_size == 20 * GIB
    assert (path / "sparse").stat().st_blocks * 512 < 1024 * 1024


async def test_the_image_can_write_nowhere_but_into_the_pipe(
    projects: Projects, liar: Callable[..., Any], base_image: str, settings: Settings
) -> None:
    facts = await liar(
        """
        import glob, socket
        wrote = []
        for folder, _, _ in os.walk("/"):
            if folder.startswith(("/proc", "/sys", "/dev")):
                continue
            try:
                open(os.path.join(folder, "x"), "w")
                wrote.append(folder)
            except OSError:
                pass
        for change in (lambda: os.unlink(sys.argv[-1]), lambda: os.chmod(sys.argv[-1], 0o777)):
            try:
                change()
                wrote.append("the pipe itself")
            except OSError:
                pass
        interfaces = [name for name in os.listdir("/sys/class/net") if name != "lo"]
        said = repr((wrote, interfaces, os.getuid(), os.getgroups())).encode()
        pipe.write(MAGIC + file(b"said", (0, said)) + END)
        """
    )
    _, path = await projects.prepare(ANN, request(facts), facts, base_image)
    assert (path / "said").read_text() == repr(([], [], UID, [UID]))


# -- broken off in the middle ------------------------------------------------------------------------------


@pytest.mark.parametrize("after_s", [0.0, 0.03, 0.1, 0.2, 0.3, 0.4, 0.5])
async def test_a_fill_that_is_cancelled_is_whole_or_gone(
    projects: Projects, plain: ImageFacts, base_image: str, settings: Settings, engine: Engine, after_s: float
) -> None:
    filling = asyncio.ensure_future(projects.prepare(ANN, request(plain), plain, base_image))
    await asyncio.wait({filling}, timeout=after_s)
    filling.cancel()
    await asyncio.wait({filling})
    whole = await projects.list(ANN)
    left = [name for name in entries(settings) if "/" in name]
    assert bool(left) == bool(whole)
    assert not [name for name in left if ".filling" in name]
    _, path = await projects.prepare(ANN, request(plain), plain, base_image)
    assert (path / "README.md").read_text() == "hello\n"


async def test_a_killed_process_leaves_what_the_next_one_cleans_up(
    projects: Projects,
    plain: ImageFacts,
    liar: Callable[..., Any],
    base_image: str,
    settings: Settings,
    engine: Engine,
) -> None:
    slow = await liar(
        """
        pipe.write(MAGIC + folder(b"half") + file(b"half/f", (0, b"x")) + folder(b"half/locked", 0))
        pipe.flush()
        time.sleep(300)
        """
    )
    program = f"""
        import asyncio
        from pathlib import Path
        from tljh_plugin.engine import Engine
        from tljh_plugin.projects import Projects
        from tljh_plugin.settings import from_mapping
        from tljh_plugin.store import Store
        from tljh_plugin.wire import Person, PrepareRequest

        async def main():
            settings = from_mapping({{"servers": {{"uid": {UID}}}}}, platform="jupyterhub",
                                    state_dir=Path({str(settings.state_dir)!r}))
            engine = Engine({engine.instance!r})
            image = await engine.image({slow.id!r})
            asked = PrepareRequest.model_validate_json({request(slow).model_dump_json()!r})
            store = await Store.open(settings.state_dir / "another.sqlite")  # the test has the other
            projects = Projects(settings, store, engine)
            await projects.prepare(Person(name="ann"), asked, image, {base_image!r})

        asyncio.run(main())
    """
    process = await asyncio.create_subprocess_exec(sys.executable, "-c", textwrap.dedent(program))
    folder = settings.storage_root / person_slug("ann") / project_id(REPOSITORY)
    half: list[Path] = []
    while not half:
        half = await asyncio.to_thread(lambda: list(folder.glob(".filling-*/home/half/locked")))
        assert process.returncode is None
    process.send_signal(signal.SIGKILL)
    await process.wait()
    assert len([row for row in await engine.containers() if engine.is_ours(row.labels)]) == 2
    assert await projects.list(ANN) == []
    assert not (folder / "home").exists()

    _, path = await projects.prepare(ANN, request(plain), plain, base_image)
    assert path == folder / "home"
    assert not (path / "half").exists()
    assert sorted(each.name for each in folder.iterdir()) == ["home", "project.json"]


async def test_staging_of_others_is_not_touched(
    projects: Projects, plain: ImageFacts, base_image: str, settings: Settings
) -> None:
    """A link, or a file, that only looks like one."""
    folder = settings.storage_root / person_slug("ann") / project_id(REPOSITORY)
    folder.mkdir(parents=True)
    victim = settings.state_dir / "victim"
    (victim / "home").mkdir(parents=True)
    (victim / "home" / "kept").write_text("x")
    (folder / ".filling-0123").symlink_to(victim)
    await projects.prepare(ANN, request(plain), plain, base_image)
    assert (victim / "home" / "kept").read_text() == "x"


# -- a desktop's ordinary person ---------------------------------------------------------------------------


def test_an_ordinary_person_fills_their_own_folder(
    base_image: str, tmp_path_factory: pytest.TempPathFactory
) -> None:
    """As on a desktop: not root, but allowed to use Docker."""
    state = tmp_path_factory.mktemp("desktop")
    group = os.stat("/var/run/docker.sock").st_gid
    for folder in (state, *state.parents):
        if os.stat(folder).st_uid == os.geteuid() and folder != Path("/"):
            folder.chmod(folder.stat().st_mode | 0o711)
    os.chown(state, UID, UID)
    settings = configured(state)

    async def work() -> bool:
        engine = Engine("test-desktop")
        facts = await engine.image(base_image)
        assert facts is not None
        asked = request(facts)

        store = await Store.open(settings.store_path)
        _, path = await Projects(settings, store, engine).prepare(ANN, asked, facts, base_image)
        await store.close()
        await engine.close()
        return path.is_dir() and path.stat().st_uid == UID == path.parent.stat().st_uid

    child = os.fork()
    if child == 0:
        code = 1
        try:
            os.setgroups([group])
            os.setresgid(UID, UID, UID)
            os.setresuid(UID, UID, UID)
            code = 0 if asyncio.run(work()) else 2
        finally:
            os._exit(code)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
