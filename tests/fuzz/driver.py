"""Runs a fuzz target: guided by coverage where atheris is installed, by chance alone elsewhere.

    python -m tests.fuzz.<target> [--runs 20000] [--seed 0] [--by-chance] [--seconds 0]

`make fuzz` installs atheris where it is to be had. What is found is kept in `seeds/<target>/`, which the unit tests
replay.
"""

from __future__ import annotations

import argparse
import importlib.util
import random
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

_SEEDS = Path(__file__).parent / "seeds"
_EVERY = 1000  # runs between two looks at the clock


@dataclass(frozen=True)
class Target:
    """What is fuzzed: `one` raises when an input is not treated as it must be; `mutate` makes inputs of others.

    `room`: bytes of the longest input where coverage guides; what is long is slow, and seldom new.
    """

    name: str
    one: Callable[[bytes], None]
    mutate: Callable[[bytes, random.Random], bytes]
    room: int = 65_536

    @property
    def folder(self) -> Path:
        return _SEEDS / self.name

    def seeds(self) -> dict[str, bytes]:
        """The inputs that are kept, by name."""
        return {path.name: path.read_bytes() for path in sorted(self.folder.iterdir())}


def _by_chance(target: Target, runs: int, seed: int, seconds: float) -> None:
    chance = random.Random(seed)
    pool = list(target.seeds().values())
    began = time.monotonic()
    index = 0
    for index in range(1, runs + 1):
        content = target.mutate(chance.choice(pool), chance)
        try:
            target.one(content)
        except BaseException:
            path = target.folder / f"found-{seed}-{index}"
            path.write_bytes(content)
            print(f"\nrun {index}: what failed is kept in {path}", file=sys.stderr)
            raise
        if index % _EVERY == 0:
            taken = time.monotonic() - began
            print(f"\r{target.name}: {index} of {runs} runs, {index / taken:.0f} a second", end="", flush=True)
            if seconds and taken > seconds:
                break
    taken = time.monotonic() - began
    print(
        f"\r{target.name}: {index} runs by chance from {len(pool)} seeds in {taken:.0f} s"
        f" ({index / taken:.0f} a second): nothing found"
    )


def _by_coverage(target: Target, runs: int, seed: int, seconds: float) -> None:
    import atheris  # noqa: PLC0415 - only where it is installed

    def mutator(content: bytes, room: int, number: int) -> bytes:
        chance = random.Random(number)
        changed = atheris.Mutate(content, room) if chance.random() < 0.2 else target.mutate(content, chance)
        return bytes(changed[:room])

    with tempfile.TemporaryDirectory() as found:
        flags = [
            f"-runs={runs}",
            f"-max_total_time={seconds:.0f}",
            f"-seed={seed or 1}",
            f"-max_len={target.room}",
            "-rss_limit_mb=1024",
            "-timeout=10",
            "-verbosity=1",
            f"-artifact_prefix={target.folder}/",
        ]
        print(f"{target.name}: {runs} runs guided by coverage", flush=True)
        atheris.instrument_all()
        atheris.Setup([sys.argv[0], *flags, found, str(target.folder)], target.one, custom_mutator=mutator)
        atheris.Fuzz()


def main(target: Target) -> None:
    """Run `target` as the command line says."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=int, default=20_000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--seconds", type=float, default=0, help="end earlier, after so long; 0: do not")
    parser.add_argument("--by-chance", action="store_true", help="without coverage: more runs a second, less wit")
    given = parser.parse_args()
    guided = importlib.util.find_spec("atheris") and not given.by_chance
    (_by_coverage if guided else _by_chance)(target, given.runs, given.seed, given.seconds)
