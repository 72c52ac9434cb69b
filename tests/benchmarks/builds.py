"""How long builds take, side by side in one run.

    python tests/benchmarks/builds.py [--rounds N] [--json FILE] [NAME…]

Everything is measured in turns (one round of all arms, then the next), since others may use the machine, and
medians are compared. What a run made in Docker, images and records in the build cache, is removed by its id.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import re
import secrets
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))

from git_server import GitServer
from installation_parts import settings_for, visited
from worker_process import WorkerProcess

from tljh_plugin.build.base import BaseImage, ensure_base
from tljh_plugin.build.job import WorkerJob
from tljh_plugin.installation import ensure_state
from tljh_plugin.settings import from_mapping

FIVE = "numpy\npandas\nmatplotlib\nscipy\nscikit-learn\n"
REPOSITORIES = Path(__file__).parents[1] / "repositories"
RUN = "/run/littlest-binder"
INSTALL = "/usr/bin/python3 -I -S /usr/local/lib/littlest-binder/install.py --user 1000:1000 --wheels"
OF_THE_PACK = f"{INSTALL} -- -r {RUN}/src/requirements.txt"


@dataclass
class Figure:
    """`seconds` of each arm, one value a round; the first arm is measured against the second."""

    name: str
    aim: str
    seconds: dict[str, list[float]] = field(default_factory=dict)

    def add(self, arm: str, seconds: float) -> None:
        self.seconds.setdefault(arm, []).append(seconds)

    @property
    def medians(self) -> dict[str, float]:
        return {arm: statistics.median(values) for arm, values in self.seconds.items()}

    @property
    def ratio(self) -> float:
        ours, theirs = list(self.medians.values())[:2]
        return ours / theirs

    @property
    def difference(self) -> float:
        ours, theirs = list(self.medians.values())[:2]
        return ours - theirs

    def __str__(self) -> str:
        arms = ", ".join(f"{arm} {seconds:.2f} s" for arm, seconds in self.medians.items())
        aim = f" (aim: {self.aim})" if self.aim else ""
        return f"{self.name}: {arms}; ratio {self.ratio:.2f}, difference {self.difference:+.2f} s{aim}"


def cache_records() -> dict[str, str]:
    """What is in Docker's build cache: descriptions by id."""
    command = ["docker", "buildx", "du", "--verbose"]
    said = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    found = re.findall(r"^ID:\s+(\S+)$.*?^Description:\s*(.*?)$", said, re.MULTILINE | re.DOTALL)
    return dict(found)


class Bench:
    """Builds in a folder of its own; its steps carry a mark by which they are found again."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.mark = f"mark-{secrets.token_hex(6)}"
        self._images: list[str] = []
        self._records: set[str] = set()
        settings = from_mapping({}, platform="jupyterhub", state_dir=folder / "state")
        settings.state_dir.mkdir()
        ensure_state(settings)
        self.base: BaseImage = asyncio.run(ensure_base(settings, print))

    def _name(self) -> str:
        self._images.append(f"littlest-binder-test/{secrets.token_hex(6)}:1")
        return self._images[-1]

    def plain(self, dockerfile: str, files: Mapping[str, str], *arguments: str) -> tuple[float, float]:
        """Seconds of a whole `docker buildx build`, and of its `RUN` alone as BuildKit says."""
        context = Path(tempfile.mkdtemp(dir=self.folder))
        for name, content in {**files, "Dockerfile": dockerfile}.items():
            (context / name).write_text(content)
        command = ["docker", "buildx", "build", "--progress", "plain", "--tag", self._name(), *arguments]
        with self._watched():
            began = time.monotonic()
            done = subprocess.run([*command, str(context)], capture_output=True, text=True, check=True)
            whole = time.monotonic() - began
        step = re.search(r"^#(\d+) \[[^\]]*\d+/\d+\] RUN", done.stderr, re.MULTILINE)
        spent = re.search(rf"^#{step[1]} DONE (\d+\.\d+)s$", done.stderr, re.MULTILINE) if step else None
        return whole, float(spent[1]) if spent else 0.0

    def worker(self, files: Mapping[str, str], *, namespace: str) -> float:
        """Seconds from the start of a worker to its end."""
        checkout = Path(tempfile.mkdtemp(dir=self.folder))
        for name, content in files.items():
            (checkout / name).write_text(content)
        job = WorkerJob(
            checkout=checkout,
            image_name=self._name(),
            uid=1000,
            gid=1000,
            base_image=self.base.name,
            cache_namespace=namespace,
            dockerfile_allowed=True,
        )
        with self._watched():
            began = time.monotonic()
            with WorkerProcess(job, self.folder) as worker:
                result = worker.finish()
            took = time.monotonic() - began
        if not result.ok:
            raise SystemExit(f"{result.error}\n{worker.log}")
        return took

    @contextmanager
    def _watched(self) -> Iterator[None]:
        """Note which records came meanwhile that look like ours."""
        before = cache_records()
        yield
        for each, description in cache_records().items():
            ours = self.mark in description or OF_THE_PACK in description or description == "fileop target"
            if ours and each not in before and not description.startswith("cached mount /run"):
                self._records.add(each)

    def clean(self) -> None:
        """Images first; then records, one by its id at a time: a filter that is not understood would empty
        everybody's cache."""
        for name in self._images:
            subprocess.run(["docker", "image", "rm", name], capture_output=True, check=False)
        self._records |= {each for each, description in cache_records().items() if self.mark in description}
        left = len(self._records) + 1
        while left > len(self._records):  # what stands on others goes first, and there is no telling which
            left = len(self._records)
            for each in sorted(self._records):
                command = ["docker", "buildx", "prune", "--force", "--filter", f"id={each}"]
                subprocess.run(command, capture_output=True, check=False)
            self._records &= set(cache_records())


def five_packages(bench: Bench, rounds: int) -> list[Figure]:
    """numpy, pandas, matplotlib, scipy, scikit-learn, nothing cached, on the same base.

    pip compiles the bytecode of everything, ours leaves out the tests of packages; uv's own way to compile is
    shown beside them. "The step" is what BuildKit reports for installing alone, without starting the builder
    and writing the image, which are the same for all.
    """
    files = {"requirements.txt": FIVE}

    def ours(option: str) -> tuple[float, float]:
        run = (
            f"--mount=type=bind,source=requirements.txt,target={RUN}/requirements.txt "
            f"--mount=type=cache,id={bench.mark}-{secrets.token_hex(4)},target={RUN}/shared "
            f": {bench.mark}; {INSTALL} {option} -- -r {RUN}/requirements.txt"
        )
        text = f"FROM {bench.base.name}\nUSER root\nRUN {run}\nUSER 1000:1000\n"
        return bench.plain(text, files, "--no-cache")

    def theirs(command: str) -> tuple[float, float]:
        run = f": {bench.mark}; {command} -r requirements.txt"
        text = f"FROM {bench.base.name}\nCOPY requirements.txt .\nRUN {run}\n"
        return bench.plain(text, files, "--no-cache")

    def figures(name: str, aim: str, arms: dict[str, Callable[[], tuple[float, float]]]) -> list[Figure]:
        step = Figure(f"five packages {name}, the step", aim)
        whole = Figure(f"five packages {name}, the whole build", "")
        for _ in range(rounds):
            for arm, measure in arms.items():
                in_all, alone = measure()
                step.add(arm, alone)
                whole.add(arm, in_all)
        return [step, whole]

    pip = "pip install --no-cache-dir"
    without = {"ours": lambda: ours("--no-bytecode"), pip: lambda: theirs(f"{pip} --no-compile")}
    compiled = {
        "ours": lambda: ours(""),
        pip: lambda: theirs(pip),
        "uv, compiling all": lambda: theirs("uv pip install --no-cache --compile-bytecode"),
    }
    return [
        *figures("without bytecode", "at most 0.4", without),
        *figures("with bytecode", "", compiled),
    ]


def code_only(bench: Bench, rounds: int) -> list[Figure]:
    """A commit that changes only code, against the first build of its repository; by the real worker.

    The wheels are in the shared cache before, so the first build is as quick as it can be.
    """
    figure = Figure("a commit that changes only code", "at most 0.2", {"code only": [], "first": []})
    namespace = secrets.token_hex(8)
    bench.worker({"requirements.txt": f"{FIVE}# {bench.mark}"}, namespace=namespace)
    for number in range(rounds):
        files = {"requirements.txt": f"{FIVE}# {bench.mark} {number}", "code.py": "x = 1"}
        figure.add("first", bench.worker(files, namespace=namespace))
        figure.add("code only", bench.worker({**files, "code.py": "x = 2"}, namespace=namespace))
    return [figure]


def small(bench: Bench, rounds: int) -> list[Figure]:
    """A small repository, first build, by the real worker, its wheels in the shared cache; and pip."""
    pip = "pip in a build"
    figure = Figure("a small repository", "", {"ours": [], pip: []})
    wanted = (REPOSITORIES / "python-plot" / "requirements.txt").read_text()
    bench.worker({"requirements.txt": f"{wanted}\n# {bench.mark}"}, namespace=secrets.token_hex(8))
    for number in range(rounds):
        files = {"requirements.txt": f"{wanted}\n# {bench.mark} {number}"}
        figure.add("ours", bench.worker(files, namespace=secrets.token_hex(8)))
        run = f": {bench.mark}; pip install --no-cache-dir -r requirements.txt"
        text = f"FROM {bench.base.name}\nCOPY requirements.txt .\nRUN {run}\n"
        figure.add(pip, bench.plain(text, files, "--no-cache")[0])
    return [figure]


def dockerfile(bench: Bench, rounds: int) -> list[Figure]:
    """A Dockerfile repository by the real worker, against `docker buildx build` of it."""
    plain = "docker buildx build"
    first = Figure("a Dockerfile, first build", "at most +1.5 s", {"ours": [], plain: []})
    again = Figure("a Dockerfile, nothing changed", "at most +1.5 s", {"ours": [], plain: []})
    original = (REPOSITORIES / "dockerfile" / "Dockerfile").read_text()
    hello = {"hello.txt": (REPOSITORIES / "dockerfile" / "hello.txt").read_text()}
    for number in range(rounds):
        texts = [original.replace("RUN ", f"RUN : {bench.mark} {who} {number}; ") for who in ("we", "they")]
        for figure in (first, again):
            figure.add("ours", bench.worker({"Dockerfile": texts[0], **hello}, namespace=bench.mark))
            figure.add(plain, bench.plain(texts[1], hello)[0])
    return [first, again]


def whole_way(bench: Bench, rounds: int) -> list[Figure]:
    """A Dockerfile repository from the request to the recorded image (resolve, fetch, build, check), each
    time at a new commit, against `docker buildx build` of files that are there."""
    plain = "docker buildx build"
    figure = Figure("a Dockerfile repository, our whole way", "at most +1.5 s", {"ours": [], plain: []})
    original = (REPOSITORIES / "dockerfile" / "Dockerfile").read_text()
    hello = {"hello.txt": (REPOSITORIES / "dockerfile" / "hello.txt").read_text()}

    def text(who: str, number: int) -> str:
        return original.replace("RUN ", f"RUN : {bench.mark} whole {who} {number}; ")

    async def ours() -> None:
        with GitServer(bench.folder / "served") as served:
            served.new("whole", {"Dockerfile": text("we", -1), **hello})
            settings = settings_for(
                bench.folder / "whole", {"policy": served.settings(), "source": {"resolve_cache_s": 0}}
            )
            async with visited(settings) as parts:
                for number in range(rounds):
                    served.commit("whole", {"Dockerfile": text("we", number)})
                    began = time.monotonic()
                    view = await parts.build(served.spec("whole"))
                    figure.add("ours", time.monotonic() - began)
                    if view.state != "built" or view.hit:
                        raise SystemExit(f"{view.state}, hit: {view.hit}, {view.error}")
                    log = await parts.log(view.id)
                    print(
                        next(line.text for line in log if line.text.startswith("The server answered")),
                        flush=True,
                    )
                    figure.add(plain, bench.plain(text("they", number), hello)[0])

    asyncio.run(ours())
    return [figure]


BENCHMARKS: dict[str, Callable[[Bench, int], list[Figure]]] = {
    "five-packages": five_packages,
    "code-only": code_only,
    "small": small,
    "dockerfile": dockerfile,
    "whole-way": whole_way,
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"some of: {', '.join(BENCHMARKS)}")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--json", type=Path, help="write the figures to this file as well")
    args = parser.parse_args()
    figures: list[Figure] = []
    with tempfile.TemporaryDirectory(prefix="littlest-binder-benchmark-") as folder:
        bench = Bench(Path(folder))
        try:
            for name in args.names or BENCHMARKS:
                for figure in BENCHMARKS[name](bench, args.rounds):
                    figures.append(figure)
                    print(figure, flush=True)
        finally:
            bench.clean()
    if args.json:
        written = [
            {
                "name": figure.name,
                "aim": figure.aim,
                "seconds": figure.seconds,
                "ratio": round(figure.ratio, 3),
                "difference_s": round(figure.difference, 3),
            }
            for figure in figures
        ]
        args.json.write_text(json.dumps(written, indent=2) + "\n")


if __name__ == "__main__":
    main()
