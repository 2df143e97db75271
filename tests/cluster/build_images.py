"""The images of modelward's processes and of the example's model server, tagged by what they are made of.

``python3 -m tests.cluster.build_images`` builds those that Docker does not have and prints all of them, ``name:tag``, a
line each; with ``-o json`` as an object from name to reference. The same sources have the same tag in every checkout.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import sys
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from tests.cluster import cache, images
from tests.cluster.commands import ClusterError, run
from tests.cluster.prerequisites import ensure_debootstrap, ensure_docker
from tests.cluster.progress import Step, run_steps

ROOT = Path(__file__).parents[2]
PROCESSES = ("controller", "admission", "sidecar", "jobs")
EXAMPLE = "modelward-example-wdbc"

_SOURCES = ("Dockerfile", ".dockerignore", "pyproject.toml", "operator", "requirements")
_EXAMPLE_SOURCES = Path("examples/breast-cancer/server")
_PROXIES = ("HTTP_PROXY", "HTTPS_PROXY", "NO_PROXY", "http_proxy", "https_proxy", "no_proxy")


@dataclass(frozen=True)
class Image:
    """An image that is built from files of this repository.

    `sources` are the files and folders of `context` that it is made of; `seconds` is what it takes on two cores.
    """

    name: str
    context: Path
    sources: tuple[str, ...]
    arguments: tuple[str, ...]
    seconds: float

    @cached_property
    def reference(self) -> str:
        """``name:tag``. The tag changes with any source, argument, or base image."""
        files = [path for source in self.sources for path in _files(self.context / source)]
        parts = [part for path in files for part in (path.relative_to(self.context).as_posix(), path.read_bytes())]
        return f"{self.name}:{cache.key(*self.arguments, *parts)}"

    def build(self) -> None:
        """Build it.

        Raises:
            ClusterError: the build failed; the message has its last lines.
        """
        arguments = [f"--build-arg={argument}" for argument in (*self.arguments, *_proxies())]
        # The host's network: it has the way to the package index, whatever that is, where Docker's bridge may not.
        options = ["--network=host", "--tag", self.reference, *arguments]
        run(["docker", "build", *options, self.context], env={"DOCKER_BUILDKIT": "0"})


def all_images(tree: Path, bases: list[str]) -> list[Image]:
    """The images of a copy of this repository; `bases` is what their Dockerfiles start from, the operator's first."""
    operator, example = bases
    shared = ("Dockerfile", ".dockerignore", "pyproject.toml", "operator", "requirements/build.txt")
    compiled = ("requirements/he.txt", "requirements/pyfhel_wheel.py", "requirements/seal.cmake")
    seconds = {"controller": 60, "admission": 45, "sidecar": 600, "jobs": 90}
    processes = [
        Image(
            f"modelward-{process}",
            tree,
            (*shared, f"requirements/{process}.txt", *(compiled if process == "sidecar" else ())),
            (f"BASE={operator}", f"PROCESS={process}"),
            seconds[process],
        )
        for process in PROCESSES
    ]
    return [*processes, Image(EXAMPLE, tree / _EXAMPLE_SOURCES, (".",), (f"BASE={example}",), 120)]


def build() -> dict[str, str]:
    """Build what is missing; return every image's reference by its name.

    Raises:
        ClusterError: a prerequisite is missing, or a build failed.
    """
    with cache.lock(), cache.scratch() as tree:
        ensure_docker()
        bases = _bases()
        _copy_sources(tree)  # so that what is built is what was hashed, whatever an editor does meanwhile
        wanted = all_images(tree, bases)
        missing = [image for image in wanted if not images.exists(image.reference)]
        run_steps([Step(f"building {image.reference}", image.seconds, image.build) for image in missing])
        return {image.name: image.reference for image in wanted}


def _bases() -> list[str]:
    bases = images.python_bases()
    if steps := images.base_steps(bases):
        ensure_debootstrap()
        run_steps(steps)
    return bases


def _copy_sources(tree: Path) -> None:
    for source in (*map(Path, _SOURCES), _EXAMPLE_SOURCES):
        target = tree / source
        target.parent.mkdir(parents=True, exist_ok=True)
        if (ROOT / source).is_dir():
            shutil.copytree(ROOT / source, target, ignore=shutil.ignore_patterns("__pycache__"))
        else:
            shutil.copy(ROOT / source, target)


def _files(path: Path) -> list[Path]:
    """The files at or below ``path``, in an order that does not depend on the file system."""
    if path.is_file():
        return [path]
    return sorted(file for file in path.rglob("*") if file.is_file())


def _proxies() -> list[str]:
    """The names of the proxy settings that are set here; Docker looks up the values, which may hold passwords."""
    return [name for name in _PROXIES if os.environ.get(name)]


def main() -> int:
    """Build, and print the references; 0 fine, 1 a build failed, 2 a prerequisite is missing."""
    parser = argparse.ArgumentParser(prog="python3 -m tests.cluster.build_images", description=__doc__)
    parser.add_argument("-o", choices=("lines", "json"), default="lines", dest="output", help="format (%(default)s)")
    args = parser.parse_args()
    try:
        references = build()
    except ClusterError as error:
        print(f"modelward: {error}", file=sys.stderr)
        return error.exit_code
    print(json.dumps(references, indent=2) if args.output == "json" else "\n".join(references.values()))
    return 0


if __name__ == "__main__":
    sys.exit(main())
