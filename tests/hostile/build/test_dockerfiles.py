"""Dockerfiles that reach beyond their repository, and that Docker itself would obey."""

from __future__ import annotations

import io
import secrets
import subprocess
import tarfile
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from tljh_plugin.build.dockerfile import LocalImages, check_dockerfile, read_dockerfile
from tljh_plugin.errors import DockerfileRefused

BASE = "FROM littlest-binder/base\n"


@dataclass(frozen=True)
class Trick:
    """`VICTIM` stands for somebody else's image, `ADDRESS` for a service of this machine's loopback.

    `obeyed` tells that the engine of the tests would do it; the others need a newer BuildKit.
    """

    name: str
    text: str
    obeyed: bool = True

    def written(self, victim: str, address: str) -> bytes:
        # By Latin-1, so that a trick can have any byte; what is meant as UTF-8 is written as its bytes.
        return self.text.replace("VICTIM", victim).replace("ADDRESS", address).encode("latin-1")


def utf8(text: str) -> str:
    """The bytes of the text, one letter each."""
    return text.encode().decode("latin-1")


NBSP, A_GRAVE = utf8("\u00a0"), utf8("à")

TRICKS = [
    Trick("plain", BASE + "COPY --from=VICTIM /content /x\n"),
    Trick("second stage", BASE + "FROM VICTIM\n"),
    Trick("mount", BASE + "RUN --mount=type=bind,from=VICTIM,target=/v cp /v/content /tmp/x\n"),
    Trick("small letters", BASE + "copy --from=VICTIM /content /x\n"),
    Trick("carriage return for a blank", BASE + "COPY\r--from=VICTIM\r/content\r/x\n"),
    Trick("carriage return after FROM", BASE + "FROM\rVICTIM\n"),
    Trick("form feed for a blank", BASE + "COPY\f--from=VICTIM /content /x\n"),
    Trick("no-break space before it", BASE + NBSP + "COPY --from=VICTIM /content /x\n"),
    Trick("ideographic space before it", BASE + utf8("\u3000") + "COPY --from=VICTIM /content /x\n"),
    Trick("a byte that is no letter", BASE + "COPY \xa0--from=VICTIM /content /x\n"),
    Trick("a byte that is no letter, newer", BASE + "COPY \x85--from=VICTIM /content /x\n"),
    Trick("backslash in the flag", BASE + "COPY --fr\\om=VICTIM /content /x\n"),
    Trick(
        "backslash where a backtick escapes",
        "# escape=`\n" + BASE + "COPY --fr\\om=VICTIM /content /x\n",
    ),
    Trick("quotes in the flag", BASE + 'COPY --fr"om=VICTIM" /content /x\n'),
    Trick(
        "escape after an unknown directive",
        "# a=b\n# escape=`\n" + BASE + "RUN : #`\nCOPY --from=VICTIM /content /x\n",
    ),
    Trick(
        "escape after a no-break space",
        "#" + NBSP + "escape=`\n" + BASE + "RUN : #`\nCOPY --from=VICTIM /content /x\n",
    ),
    Trick(
        "a blank line that is none",
        BASE + "RUN true \\\n" + NBSP + "\nFROM scratch AS VICTIM\nCOPY --from=VICTIM /content /x\n",
        obeyed=False,
    ),
    Trick("argument hidden in quotes", 'ARG A=VICTIM\nARG B="x A=python:3.11 "\n' + BASE + "FROM $A\n"),
    Trick("argument hidden by an escape", "ARG A=VICTIM\nARG B=x\\ A=python:3.11\n" + BASE + "FROM $A\n"),
    Trick("argument taken back", "ARG A=python:3.11\nARG A\n" + BASE + "FROM ${A:-VICTIM}\n"),
    Trick("default", BASE + "FROM ${NOTHING:-VICTIM}\n"),
    Trick("byte order mark", "\xef\xbb\xbf" + BASE + "COPY --from=VICTIM /content /x\n"),
    Trick("flag without an equals sign", BASE + "COPY --from VICTIM /content /x\n", obeyed=False),
    Trick("platform without an equals sign", BASE + "FROM --platform linux/amd64 VICTIM\n", obeyed=False),
    Trick("quoted platform", BASE + 'FROM --platform="linux/amd64" VICTIM\n'),
    Trick(
        "triggered later",
        "FROM littlest-binder/base AS one\nONBUILD COPY --from=VICTIM /content /x\nFROM one\n",
        obeyed=False,
    ),
    Trick(
        "trigger of a trigger's here-document",
        BASE + "ONBUILD RUN <<'E\\'\nE\\\nCOPY --from=VICTIM /content /x\n",
        obeyed=False,
    ),
    Trick(
        "here-document after an odd blank",
        BASE + "RUN x" + NBSP + "<<'E\\'\nE\\\nCOPY --from=VICTIM /content /x\n",
        obeyed=False,
    ),
    Trick("address", BASE + "ADD ADDRESS /x\n"),
    Trick("address, carriage return", BASE + "ADD\rADDRESS /x\n"),
    Trick("address, no-break space before it", BASE + NBSP + "ADD ADDRESS /x\n"),
    Trick("address in a list", BASE + 'ADD ["ADDRESS", "/x"]\n'),
    Trick("address in a variable", BASE + "ENV A=ADDRESS\nADD $A /x\n"),
    Trick("address in the old form of ENV", BASE + "ENV A ADDRESS\nADD $A /x\n"),
    Trick("variable set again in quotes", BASE + 'ENV A=ADDRESS\nENV B="x A=./safe "\nADD $A /x\n'),
    Trick("variable set again by an escape", BASE + "ENV A=ADDRESS\nENV B=x\\ A=./safe\nADD $A /x\n"),
    Trick(
        "variable set after an odd blank",
        BASE + "ENV A=./safe\nENV B=x" + NBSP + "A=ADDRESS\nADD $A /x\n",
    ),
    Trick("variable as a name", BASE + "ENV N=A A=./safe\nENV $N=ADDRESS\nADD $A /x\n"),
    Trick("default of a variable of the stage", BASE + "ARG A=ADDRESS\nADD ${A:-./safe} /x\n"),
    Trick(
        "variable of an earlier stage",
        "FROM littlest-binder/base AS a\nENV A=ADDRESS\nFROM a\nADD $A /x\n",
    ),
    Trick("here-document that ends later", BASE + "RUN <<EOF\nEOF\nADD ADDRESS /x\n", obeyed=False),
    Trick("other builder", "# syntax=VICTIM\n" + BASE),
    Trick("other builder after a mark", "\xef\xbb\xbf# syntax = VICTIM\n" + BASE),
    Trick("network of the machine", BASE + "RUN --network=host true\n", obeyed=False),
    Trick("no isolation", BASE + "RUN --security=insecure true\n", obeyed=False),
]


class Loopback:
    """A service that listens on this machine's loopback, and counts who asks."""

    def __init__(self) -> None:
        self.asked = 0
        service = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                service.asked += 1
                self.send_response(200)
                self.send_header("Content-Length", "6")
                self.end_headers()
                self.wfile.write(b"secret")

            do_HEAD = do_GET

            def log_message(self, format: str, *args: object) -> None:
                return

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.address = f"http://127.0.0.1:{self._server.server_address[1]}/x"

    def __enter__(self) -> Loopback:
        threading.Thread(target=self._server.serve_forever, daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._server.server_close()


@pytest.fixture(scope="module")
def victim() -> Iterator[str]:
    """Somebody else's image, with a file `/content`."""
    data = io.BytesIO()
    with tarfile.open(fileobj=data, mode="w") as archive:
        entry = tarfile.TarInfo("content")
        entry.size = 16
        archive.addfile(entry, io.BytesIO(secrets.token_bytes(8).hex().encode()))
    name = f"somebody/{secrets.token_hex(6)}"
    subprocess.run(["docker", "import", "-", name], input=data.getvalue(), check=True, capture_output=True)
    yield name
    subprocess.run(["docker", "image", "rm", name], capture_output=True, check=False)


def refused(path: Path, victim: str) -> str:
    here = frozenset({f"{victim}:latest", "littlest-binder/base:latest"})
    with pytest.raises(DockerfileRefused) as caught:
        check_dockerfile(read_dockerfile(path), {"NB_USER": "jovyan"}, LocalImages(here, here))
    return caught.value.message


@pytest.mark.attack("build: Dockerfile")
@pytest.mark.parametrize("trick", TRICKS, ids=lambda trick: trick.name)
def test_it_is_refused_with_the_line(trick: Trick, tmp_path: Path) -> None:
    path = tmp_path / "Dockerfile"
    path.write_bytes(trick.written("somebody/image", "http://127.0.0.1:1/x"))
    assert "of the Dockerfile" in refused(path, "somebody/image")


@pytest.mark.docker
def test_docker_would_obey(tmp_path: Path, victim: str) -> None:
    """The other half of the test above: what is refused there is an attack and no mistake in writing."""
    tricks = [trick for trick in TRICKS if trick.obeyed and "builder" not in trick.name]
    with ThreadPoolExecutor(8) as threads:
        said = threads.map(lambda trick: complaint(trick, tmp_path / trick.name, victim), tricks)
    assert [each for each in said if each] == []


def complaint(trick: Trick, folder: Path, victim: str) -> str:
    """Empty if the trick works."""
    folder.mkdir()
    with Loopback() as loopback:
        (folder / "Dockerfile").write_bytes(trick.written(victim, loopback.address))
        done = subprocess.run(
            ["docker", "buildx", "build", "--output", "type=cacheonly", str(folder)],
            capture_output=True,
            text=True,
            check=False,
        )
    worked = bool(loopback.asked) if "ADDRESS" in trick.text else done.returncode == 0
    return "" if worked else f"{trick.name}: {done.stderr[-1000:]}"


@pytest.mark.parametrize(
    "text",
    [
        BASE.replace("\n", "\r\n") + "# é\r\nCOPY a \\\r\n  b\r\nRUN echo à\r\n",
        BASE + "ENV V=\"1.2\" W='x'\nADD data-$V-$W.tgz /x\n",
        BASE + "ENV A=1 \\\n    B=2\nADD ./$C/$A /x\nCOPY --chown=1000:1000 übung.txt /x\n",
        "# escape=`\r\n" + BASE + "RUN a `\r\n  b\r\n",
        BASE + "RUN --network=none --mount=type=cache,target=/c make\n",
    ],
)
def test_honest_ones_are_built(text: str, tmp_path: Path) -> None:
    path = tmp_path / "Dockerfile"
    path.write_bytes(text.encode())
    here = frozenset({"littlest-binder/base:latest"})
    assert not check_dockerfile(read_dockerfile(path), {}, LocalImages(here, here)).pull


@pytest.mark.docker
@pytest.mark.attack("build: Dockerfile")
def test_what_comes_from_a_registry_is_not_taken_from_this_machine(tmp_path: Path, victim: str) -> None:
    """Triggers of a registry's image cannot be read before; told to pull, Docker uses no image of here."""
    (tmp_path / "Dockerfile").write_text(f"FROM scratch\nCOPY --from={victim} /content /x\n")
    build = ["docker", "buildx", "build", "--output", "type=cacheonly"]
    assert subprocess.run([*build, str(tmp_path)], capture_output=True, check=False).returncode == 0
    assert check_dockerfile("FROM python:3.11\n", {}, LocalImages()).pull
    pulled = subprocess.run([*build, "--pull", str(tmp_path)], capture_output=True, text=True, check=False)
    assert pulled.returncode != 0
    assert victim in pulled.stderr
