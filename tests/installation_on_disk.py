"""An installation as it lies on the disk, without anything that runs: for tests of backup and restore."""

from __future__ import annotations

import asyncio
import getpass
import hashlib
import os
import sqlite3
from contextlib import closing
from dataclasses import dataclass
from datetime import datetime, timezone
from pathlib import Path

from tljh_plugin import handover
from tljh_plugin.build.identity import ImageIdentity
from tljh_plugin.installation import ensure_state, instance_id
from tljh_plugin.operation.installed import Installed, find
from tljh_plugin.projects.archive import put_away
from tljh_plugin.projects.marker import HOME, read_project, write_marker
from tljh_plugin.projects.names import project_id
from tljh_plugin.projects.people import ensure_person_folder
from tljh_plugin.projects.root import StorageRoot
from tljh_plugin.settings import Settings, load_desktop
from tljh_plugin.source.spec import parse_link
from tljh_plugin.store import ImageRow, ProjectRow, Store, utc_now

COMMIT = "0123456789abcdef0123456789abcdef01234567"
BIG = 5 * 1024**2  # more than is read at once


@dataclass(frozen=True)
class Seen:
    """One thing on the disk as a person would miss it."""

    kind: str
    mode: int
    content: str
    mtime_ns: int
    links: int
    sparse: bool


def seen(folder: Path) -> dict[str, Seen]:
    """Everything below a folder."""
    found = {}
    for place, folders, files in os.walk(folder):
        for name in (*folders, *files):
            path = Path(place, name)
            facts = path.lstat()
            if path.is_symlink():
                kind, content = "link", os.readlink(path)
            elif path.is_dir():
                kind, content = "folder", ""
            else:
                kind, content = "file", hashlib.sha256(path.read_bytes()).hexdigest()
            found[os.path.relpath(path, folder)] = Seen(
                kind,
                facts.st_mode & 0o7777,
                content,
                facts.st_mtime_ns,
                facts.st_nlink if kind == "file" else 0,
                kind == "file" and facts.st_blocks * 512 < facts.st_size,
            )
    return found


class OnDisk:
    """One desktop's installation in a state folder."""

    def __init__(self, state: Path, owner: str = "") -> None:
        self.state = state
        self.owner = owner or getpass.getuser()

    @property
    def settings(self) -> Settings:
        return load_desktop(self.state, owner=self.owner)

    @property
    def installed(self) -> Installed:
        return find(self.state)

    @property
    def root(self) -> Path:
        return self.settings.storage_root

    def fill(self, images: int = 3, projects: int = 2) -> None:
        """Settings, secrets, a store, a hub's database, projects with all that files can be."""
        self.state.mkdir(parents=True)
        (self.state / "config.yaml").write_text("# mine\nbinder:\n  desktop:\n    port: 9123  # free here\n")
        ensure_state(self.settings)
        handover.write(
            handover.Handover(
                platform="desktop",
                state_dir=self.state,
                owner=self.owner,
                section={},
                hub_database=str(self.state / "hub" / "jupyterhub.sqlite"),
                cookie_secret_file=str(self.state / "hub" / "cookie_secret"),
            )
        )
        (self.state / "hub").mkdir()
        (self.state / "hub" / "cookie_secret").write_text("c00kie\n")
        (self.state / "logs" / "b-1.jsonl").write_text('{"n": 1}\n')
        with closing(sqlite3.connect(self.state / "hub" / "jupyterhub.sqlite")) as db, db:
            db.execute("CREATE TABLE users (name TEXT)")
            db.execute("INSERT INTO users VALUES (?)", [self.owner])
        StorageRoot(self.settings, instance_id(self.settings)).adopt()
        rows = [self.project(f"https://example.org/lab/course-{n}") for n in range(projects)]
        asyncio.run(self._store([self.image(n) for n in range(images)], rows))

    async def _store(self, images: list[ImageRow], projects: list[ProjectRow]) -> None:
        store = await Store.open(self.settings.store_path)
        for image in images:
            await store.record_image(image, image.built_by, "image.import")
        for project in projects:
            await store.add_project(project)
        await store.close()

    def image(self, number: int) -> ImageRow:
        """A record; there is no such image in Docker."""
        spec = f"gh/lab/course-{number}/{COMMIT}"
        identity = ImageIdentity(parse_link(spec).normal_url, COMMIT, "", "linux/amd64")
        return ImageRow(
            image_id=f"sha256:{hashlib.sha256(b'%d' % number).hexdigest()}",
            name=f"littlest-binder/course-{number}:1",
            identity=identity.key,
            url=identity.url,
            commit=COMMIT,
            subdir="",
            platform="linux/amd64",
            spec=spec,
            asked_ref="main",
            title=f"Course {number}",
            built_by=self.owner,
            build_id="",
            created=utc_now(),
            size=1000,
            recipe="r",
            home="/home/jovyan",
            workdir="/home/jovyan",
            pinned=number == 0,
            imported=number == 0,
        )

    def project(self, repository: str) -> ProjectRow:
        """Files, folders, links in and out, a hole, two names of one file, odd rights and names."""
        identifier = project_id(repository)
        folder = ensure_person_folder(self.root, self.owner) / identifier
        home = folder / HOME
        (home / "data" / "empty").mkdir(parents=True)
        (home / "a.txt").write_text(f"work on {repository}\n")
        (home / "again.txt").hardlink_to(home / "a.txt")
        (home / "run.sh").write_text("#!/bin/sh\n")
        (home / "run.sh").chmod(0o755)
        (home / "nothing").touch()
        (home / "to-a").symlink_to("a.txt")
        (home / "out").symlink_to("/etc/passwd")
        (home / os.fsdecode(b"caf\xe9 \xf0\x9f\x8c\x8d\n")).write_bytes(b"odd\0name")
        (home / "big.bin").write_bytes(os.urandom(BIG))
        with (home / "data" / "sparse.dat").open("wb") as file:
            file.truncate(64 * 1024**2)
            file.seek(32 * 1024**2)
            file.write(b"in the middle")
        with (home / "data" / "hole.dat").open("wb") as file:
            file.truncate(1024**2)
        (home / "data").chmod(0o2775)
        (home / "a.txt").chmod(0o640)
        os.utime(home / "a.txt", ns=(1, 1_700_000_000_123_456_789))
        row = ProjectRow(
            id=identifier,
            owner=self.owner,
            repository=repository,
            spec=f"git/{repository}/{COMMIT}",
            commit=COMMIT,
            subdir="",
            image_id="sha256:x",
            path=str(home),
            created=utc_now(),
        )
        write_marker(folder, row, "littlest-binder/x:1", [])
        return row

    def delete(self, repository: str) -> ProjectRow:
        """Put a project into the archive."""
        found = read_project(ensure_person_folder(self.root, self.owner) / project_id(repository))
        assert found is not None
        return put_away(found, datetime.now(timezone.utc))

    def my_files(self) -> Path:
        folder = ensure_person_folder(self.root, self.owner) / "my-files"
        folder.mkdir(exist_ok=True)
        (folder / "notes.txt").write_text("mine\n")
        return folder

    def rows(self, query: str) -> list[tuple[object, ...]]:
        with closing(sqlite3.connect(self.settings.store_path)) as db:
            return list(db.execute(query))
