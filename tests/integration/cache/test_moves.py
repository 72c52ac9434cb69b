"""Images into files and out of files again, on a real Docker: the other machine is another installation."""

from __future__ import annotations

import hashlib
import io
import json
import secrets
import subprocess
import tarfile
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any

import docker
import pytest
from installation_parts import ANN, ROOT, Parts, settings_for, visited

from tljh_plugin.build.identity import ImageIdentity, image_names, labels_for, platform_of
from tljh_plugin.cache.image_file import CHECKSUM, MANIFEST, PIECES
from tljh_plugin.cache.moves import Moves, Wanted
from tljh_plugin.cache.rescan import Rescan
from tljh_plugin.errors import (
    BadImageFile,
    BinderError,
    DiskLow,
    Forbidden,
    ImageNotLaunchable,
    NotVouchedFor,
    PolicyRefused,
)
from tljh_plugin.installation import secret
from tljh_plugin.source.spec import parse_link
from tljh_plugin.store.about_images import Package

pytestmark = pytest.mark.docker

_CHUNK = 300_001  # no multiple of anything
_DEBIAN = "littlest-binder/debian:bookworm"
_COMMIT = "5" * 40
_SERVER = r"""#!/usr/bin/perl
use IO::Socket::INET;
my $s = IO::Socket::INET->new(LocalPort => 8888, Listen => 5, ReuseAddr => 1) or die;
while (my $c = $s->accept) {
    while (<$c>) { last if /^\r?$/ }
    print $c "HTTP/1.1 200 OK\r\nContent-Length: 2\r\nConnection: close\r\n\r\n{}";
    close $c;
}
"""
# What an image has is its own word, and a whole Python would make the files large.
_PYTHON = """#!/bin/sh
echo '{"packages": [["python", "optics", "1.2"]]}'
"""


@pytest.fixture
def sections(base_image: str) -> dict[str, Any]:
    return {"build": {"disk_reserve_bytes": 0}}


@pytest.fixture
async def here(tmp_path: Path, sections: dict[str, Any]) -> AsyncIterator[Parts]:
    async with visited(settings_for(tmp_path / "here", sections)) as ours:
        yield ours


@pytest.fixture
async def there(tmp_path: Path, sections: dict[str, Any]) -> AsyncIterator[Parts]:
    async with visited(settings_for(tmp_path / "there", sections)) as theirs:
        yield theirs


@pytest.fixture
def image(
    here: Parts,
    client: docker.APIClient,
    build_image: Callable[..., str],
    small_image: Callable[..., str],
) -> Callable[..., Awaitable[str]]:
    """Makes an image that `here` has built: one of a few kilobytes, or with `starts` one that starts."""

    async def make(*, starts: bool = False) -> str:
        mark = secrets.token_hex(4)
        spec = parse_link(f"gh/owner/moved-{mark}/{_COMMIT}")
        identity = ImageIdentity(
            spec.normal_url, _COMMIT, "", platform_of((await here.engine.info()).architecture)
        )
        key = secret(here.settings)
        labels = labels_for(identity, spec=spec.path, ref="main", recipe="r", secret=key)
        lines = [f'LABEL "{name}"="{value}"' for name, value in labels.items()]
        name = next(image_names(identity, "r", ""))
        if starts:
            copy = "COPY jupyterhub-singleuser python3 /usr/local/bin/"
            made = build_image(
                "\n".join([f"FROM {_DEBIAN}", copy, "ENV HOME=/home/jovyan", *lines]),
                {"jupyterhub-singleuser": _SERVER, "python3": _PYTHON},
            )
        else:
            made = small_image(*lines)
        client.tag(made, *name.rsplit(":", 1))
        if starts:
            client.remove_image(made)
        [found] = (
            await Rescan(here.settings, here.store, here.engine, here.inventory, nobody).run(ROOT)
        ).restored
        return found.id

    return make


async def nobody() -> list[str]:
    return []


def moves(parts: Parts) -> Moves:
    return Moves(parts.settings, parts.store, parts.engine, parts.inventory, parts.leases)


async def exported(parts: Parts, image_id: str, file: Path) -> Path:
    async with moves(parts).export(ROOT, image_id) as export:
        with file.open("wb") as out:
            async for piece in export.pieces:
                out.write(piece)
    return file


async def content(file: Path, until: int = -1) -> AsyncIterator[bytes]:
    with file.open("rb") as data:
        left = until
        while left and (piece := data.read(_CHUNK if until < 0 else min(_CHUNK, left))):
            left -= len(piece)
            yield piece


def load_by_hand(file: Path) -> None:
    command = f"tar -xOf {file} --wildcards 'image/*' | docker load"
    subprocess.run(["sh", "-c", command], check=True, capture_output=True)


async def gone(parts: Parts, image_id: str) -> None:
    """As on another machine, where the image is not."""
    await parts.engine.remove_image(image_id)
    await parts.store.forget_image(image_id)
    assert await parts.engine.image(image_id) is None


async def nothing_came(parts: Parts, image_id: str) -> None:
    assert await parts.engine.image(image_id) is None
    assert await parts.store.image(image_id) is None
    assert [name for name in await parts.store.notes() if name.startswith("import")] == []
    assert [each.name for each in await parts.engine.containers() if parts.engine.is_ours(each.labels)] == []


async def test_an_image_goes_to_another_machine(
    here: Parts, there: Parts, image: Callable[..., Awaitable[str]], tmp_path: Path
) -> None:
    image_id = await image(starts=True)
    await here.store.update_image(image_id, title="Our course", description="For the summer school")
    file = await exported(here, image_id, tmp_path / "image.tar")
    before = await here.store.image(image_id)
    assert before
    await gone(here, image_id)

    with pytest.raises(NotVouchedFor) as refused:
        await moves(there).receive(ROOT, content(file), Wanted())
    assert _COMMIT[:12] in refused.value.message
    await nothing_came(there, image_id)

    assert await moves(there).receive(ROOT, content(file), Wanted(trust=True)) == image_id
    after = await there.store.image(image_id)
    assert after
    same = ("identity", "url", "commit", "spec", "asked_ref", "recipe", "title", "description", "home")
    assert {each: getattr(after, each) for each in same} == {each: getattr(before, each) for each in same}
    assert (after.built_by, after.adopted, after.visibility) == ("root", False, "everyone")
    facts = await there.engine.image(image_id)
    assert facts
    assert facts.tags == (after.name,)
    packages = await there.store.about_images.packages(image_id)
    assert packages
    assert packages.found == (Package("python", "optics", "1.2"),)
    hit = await there.request(after.spec, ANN)
    assert (hit.hit, hit.image_id) == (True, image_id)
    # Once more is no error, and changes nothing.
    assert await moves(there).receive(ROOT, content(file), Wanted(trust=True)) == image_id
    told = [(entry.what, entry.result.partition(" ")[0]) for entry in await there.store.audit_entries()]
    assert ("image.import", image_id) in told


async def test_its_own_signature_is_enough_for_the_machine_that_wrote_it(
    here: Parts, image: Callable[..., Awaitable[str]], tmp_path: Path
) -> None:
    image_id = await image(starts=True)
    file = await exported(here, image_id, tmp_path / "image.tar")
    await gone(here, image_id)
    assert await moves(here).receive(ROOT, content(file), Wanted()) == image_id
    [view] = here.inventory.images()
    assert (view.id, view.visibility) == (image_id, "everyone")


async def test_docker_reads_the_file_without_us(
    here: Parts, image: Callable[..., Awaitable[str]], tmp_path: Path
) -> None:
    image_id = await image()
    file = await exported(here, image_id, tmp_path / "image.tar")
    await gone(here, image_id)
    load_by_hand(file)
    assert await here.engine.image(image_id) is not None
    await here.engine.remove_image(image_id)


async def test_damaged_and_short_files_leave_nothing(
    here: Parts, there: Parts, image: Callable[..., Awaitable[str]], tmp_path: Path
) -> None:
    image_id = await image()
    file = await exported(here, image_id, tmp_path / "image.tar")
    await gone(here, image_id)
    size = file.stat().st_size
    receiving = moves(there)
    for short in (0, 300, size // 3, size // 2, size - 2500, size - 1100):
        with pytest.raises(BadImageFile):
            await receiving.receive(ROOT, content(file, short), Wanted(trust=True))
        await nothing_came(there, image_id)
    damaged = tmp_path / "damaged.tar"
    for at in (size // 3, size // 2, size - 4000):
        damaged.write_bytes(file.read_bytes())
        with damaged.open("r+b") as data:
            data.seek(at)
            byte = data.read(1)
            data.seek(at)
            data.write(bytes([byte[0] ^ 1]))
        with pytest.raises(BadImageFile):
            await receiving.receive(ROOT, content(damaged), Wanted(trust=True))
        await nothing_came(there, image_id)


def altered(file: Path, to: Path, change: Callable[[str, bytes], bytes]) -> Path:
    """The same file with other members; the checksum is made anew, as somebody who means harm would."""
    digest, size = hashlib.sha256(), 0
    with tarfile.open(file) as old, tarfile.open(to, "w", format=tarfile.USTAR_FORMAT) as new:
        for member in old:
            taken = old.extractfile(member)
            assert taken
            data = change(member.name, taken.read())
            if member.name == CHECKSUM:
                data = json.dumps({"bytes": size, "sha256": digest.hexdigest()}).encode()
            else:
                digest.update(data)
                size += len(data) if member.name.startswith(PIECES) else 0
            member.size = len(data)
            new.addfile(member, io.BytesIO(data))
    return to


async def test_a_file_that_lies_is_refused(
    here: Parts, there: Parts, image: Callable[..., Awaitable[str]], tmp_path: Path, client: docker.APIClient
) -> None:
    image_id = await image()
    file = await exported(here, image_id, tmp_path / "image.tar")
    await gone(here, image_id)

    def says(**other: object) -> Callable[[str, bytes], bytes]:
        def change(name: str, data: bytes) -> bytes:
            return json.dumps({**json.loads(data), **other}).encode() if name == MANIFEST else data

        return change

    def named(name: str, data: bytes) -> bytes:
        """Docker would give the image this name, whosever it is."""
        return data.replace(b'"RepoTags":null', b'"RepoTags":["a:1"]'[:15].ljust(15))

    lies: list[tuple[Callable[[str, bytes], bytes], type[BinderError]]] = [
        (says(spec="gh/somebody/else/" + "a" * 40), BadImageFile),
        (says(spec="gh/somebody/else/main"), BadImageFile),
        (says(image_id="sha256:" + "a" * 64), BadImageFile),
        (says(platform="linux/riscv64"), BadImageFile),
        (says(format=2), BadImageFile),
        (says(size=10**15), DiskLow),
        (named, BadImageFile),
    ]
    for change, kind in lies:
        lie = altered(file, tmp_path / "lie.tar", change)
        with pytest.raises(kind):
            await moves(there).receive(ROOT, content(lie), Wanted(trust=True))
        await nothing_came(there, image_id)
    # Its own signature does not cover what was changed.
    lie = altered(file, tmp_path / "lie.tar", says(title="Something else"))
    with pytest.raises(NotVouchedFor):
        await moves(here).receive(ROOT, content(lie), Wanted())
    with pytest.raises(Forbidden):
        await moves(there).receive(ANN, content(file), Wanted(trust=True))


async def test_what_does_not_start_or_is_not_allowed_is_not_kept(
    here: Parts, image: Callable[..., Awaitable[str]], tmp_path: Path, sections: dict[str, Any]
) -> None:
    image_id = await image()
    file = await exported(here, image_id, tmp_path / "image.tar")
    await gone(here, image_id)
    blocked = {**sections, "policy": {"blocked_repositories": ["*/moved*"]}}
    async with visited(settings_for(tmp_path / "blocked", blocked)) as strict:
        with pytest.raises(PolicyRefused):
            await moves(strict).receive(ROOT, content(file), Wanted(trust=True))
        await nothing_came(strict, image_id)
    # A few kilobytes without any program in them.
    with pytest.raises(ImageNotLaunchable):
        await moves(here).receive(ROOT, content(file), Wanted())
    await nothing_came(here, image_id)


async def test_an_import_that_was_cut_off_is_tidied_up(
    here: Parts, there: Parts, image: Callable[..., Awaitable[str]], tmp_path: Path
) -> None:
    image_id = await image()
    file = await exported(here, image_id, tmp_path / "image.tar")
    await gone(here, image_id)
    receiving = moves(there)
    # As if the service was killed between loading and the start check.
    await there.store.set_note(f"import {image_id}", receiving._provisional)
    load_by_hand(file)
    await there.engine.tag(image_id, receiving._provisional)
    await moves(there).recover()
    await nothing_came(there, image_id)
