"""What is said to become free when an image is erased, against what the file system gains.

    python tests/benchmarks/bytes.py [--images N] [--deletions N] [--seed N] [--next] [--json]

An engine of its own on a file system of its own (a loop device) builds images that share most of their
layers: all stand on an imported base, a few on each of some common stacks, a few on each of some
environments. A layer is half one large file and half many small ones. Then images are erased in random
order, one at a time; before each it is said what that frees, and the kernel is asked before and after, with
`sync` in between. `--next` takes the engine of the next Debian release.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import random
import statistics
import sys
import tempfile
import time
from dataclasses import asdict, dataclass
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))

from engines import NEXT, OWN, private
from private_docker import PrivateDocker
from shared_layers import LayerBench, used

from tljh_plugin.cache.build_cache import BuildCache
from tljh_plugin.cache.bytes import freed_by
from tljh_plugin.cache.layers import Layers
from tljh_plugin.engine import Engine
from tljh_plugin.store import Store

AIM_EACH, AIM_MEDIAN = 0.05, 0.01
LAYER_BYTES = 6_000_000


@dataclass(frozen=True)
class Deletion:
    """One image: what Docker calls its size, what was said, and what the file system gained."""

    name: str
    size: int
    said: int
    gained: int
    seconds: float

    @property
    def off(self) -> float:
        """The difference, as a part of what was gained."""
        return abs(self.said - self.gained) / max(1, self.gained)


def stacks(count: int, chance: random.Random) -> dict[str, list[str]]:
    """Layers of each image, lowest first: on one of 3 stacks, one of 12 environments, and its own code."""
    found = {}
    for number in range(count):
        environment = chance.randrange(12)
        found[f"image-{number}"] = [
            "common",
            f"stack-{environment % 3}",
            f"environment-{environment}",
            f"own-{number}",
        ]
    return found


async def measure(docker: PrivateDocker, folder: Path, arguments: argparse.Namespace) -> list[Deletion]:
    """Build, then erase."""
    chance = random.Random(arguments.seed)
    bench = LayerBench(docker, folder / "context", size=LAYER_BYTES)
    bench.import_base()
    wanted = stacks(arguments.images, chance)
    begun = time.monotonic()
    # Engine 20.10 loses count of a layer that two builds hand over at the same moment, and never frees it:
    # what images share is built one by one, the rest at once.
    environments = {f"lb-layers/{layers[-2]}:1": layers[:-1] for layers in wanted.values()}
    for name, layers in environments.items():
        bench.build({name: layers})
    bench.build({f"lb-layers/{name}:1": layers for name, layers in wanted.items()})
    for name in environments:
        docker.docker("image", "rm", name)
    # What builds were made from: the engine would drop it by itself, at a minute of its choice.
    docker.docker("builder", "prune", "--force", "--filter=type=source.local")
    print(f"built {len(wanted)} images in {time.monotonic() - begun:.0f} s", file=sys.stderr)
    engine = Engine("0123456789abcdef", base_url=docker.host)
    store = await Store.open(folder / "store.sqlite")
    layers_ = Layers(store, engine)
    cache = BuildCache(store, engine, layers_)
    ids = {}
    for name in wanted:
        facts = await engine.image(f"lb-layers/{name}:1")
        if facts is None:
            raise SystemExit(f"{name} was not built")
        ids[name] = facts.id
    done = []
    for name in chance.sample(sorted(ids), arguments.deletions):
        layers_.notice([each.id for each in await engine.images()])
        await layers_.learn()
        said = freed_by([ids[name]], layers_.chains)
        facts = await engine.image(ids[name])
        if said is None or facts is None:
            raise SystemExit(f"nothing is known of {name}")
        before = used(docker)
        begun = time.monotonic()
        async with cache.removing(ids[name], erase=True):
            await engine.remove_image(ids[name], [f"lb-layers/{name}:1"])
        seconds = time.monotonic() - begun
        done.append(Deletion(name, facts.size, said, before - used(docker), seconds))
        print(
            f"{name:10} said {said:>10} gained {done[-1].gained:>10} off {done[-1].off:.3%}", file=sys.stderr
        )
    await engine.close()
    await store.close()
    return done


def report(done: list[Deletion]) -> dict[str, object]:
    """The figures that are asked for."""
    return {
        "deletions": len(done),
        "bytes gained": sum(each.gained for each in done),
        "bytes said": sum(each.said for each in done),
        "sum of Docker's sizes": sum(each.size for each in done),
        "median off": statistics.median(each.off for each in done),
        "largest off": max(each.off for each in done),
        "median seconds": statistics.median(each.seconds for each in done),
        "aims met": max(each.off for each in done) <= AIM_EACH
        and statistics.median(each.off for each in done) <= AIM_MEDIAN,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--images", type=int, default=66)
    parser.add_argument("--deletions", type=int, default=60)
    parser.add_argument("--seed", type=int, default=4)
    parser.add_argument("--next", action="store_true")
    parser.add_argument("--json", action="store_true")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="lb-bytes-", dir="/var/tmp") as name:
        folder = Path(name)
        with private(NEXT if arguments.next else OWN, folder) as docker:
            done = asyncio.run(measure(docker, folder, arguments))
    figures = report(done)
    if arguments.json:
        print(json.dumps({**figures, "each": [asdict(each) for each in done]}))
        return
    for what, value in figures.items():
        print(f"{what:24} {value:.3%}" if what.endswith(" off") else f"{what:24} {value}")


if __name__ == "__main__":
    main()
