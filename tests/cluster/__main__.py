"""The command line: ``python3 -m tests.cluster <verb>``."""

from __future__ import annotations

import argparse
import signal
import sys
from typing import NoReturn

from tests.cluster import cache, go_builds, images, kind, versions
from tests.cluster.commands import ClusterError, PrerequisiteError
from tests.cluster.prerequisites import docker_answers, ensure_debootstrap, ensure_docker, ensure_go
from tests.cluster.progress import run_steps


def main() -> int:
    """Run one verb; 0 when it is done, 1 when it failed, 2 when the machine lacks something, 130 when interrupted."""
    arguments = _parser().parse_args()
    signal.signal(signal.SIGTERM, _interrupt)
    try:
        arguments.run(arguments)
    except ClusterError as error:
        print(f"tests.cluster {arguments.verb}: {error}", file=sys.stderr)
        return error.exit_code
    except KeyboardInterrupt:
        print("interrupted: what was finished is kept, the next run goes on from there", file=sys.stderr)
        return 130
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python3 -m tests.cluster", description=__doc__)
    verbs = parser.add_subparsers(dest="verb", required=True, metavar="<verb>")
    verbs.add_parser("prerequisites", help="Docker and Go, checked and mended where that may be done").set_defaults(
        run=_prerequisites
    )
    verbs.add_parser("up", help="the kind cluster, kept if it is healthy").set_defaults(run=_up)
    verbs.add_parser("down", help="remove the cluster").set_defaults(run=_down)
    verbs.add_parser("status", help="what there is").set_defaults(run=_status)
    tools = verbs.add_parser("tools", help=f"build {', '.join(go_builds.TOOLS)}; the last line is their folder")
    tools.add_argument("names", nargs="*", metavar="NAME", help="only these")
    tools.add_argument(
        "--kubernetes",
        type=_kubernetes,
        default=_minor(versions.KUBERNETES),
        metavar="VERSION",
        help=f"of this minor version, as {_minor(versions.OTHER_KUBERNETES[0])}; {versions.KUBERNETES} is the default",
    )
    tools.set_defaults(run=_tools)
    load = verbs.add_parser("load", help="put local images into the cluster; prints each with its name by digest")
    load.add_argument("images", nargs="+", metavar="IMAGE")
    load.set_defaults(run=_load)
    verbs.add_parser("base", help="the base images for Dockerfiles; prints them, Python 3.13's first").set_defaults(
        run=_base
    )
    return parser


def _minor(version: str) -> str:
    return version.removeprefix("v").rpartition(".")[0]


def _kubernetes(minor: str) -> str:
    """The patch release that stands for a minor version."""
    known = {_minor(version): version for version in (*versions.OTHER_KUBERNETES, versions.KUBERNETES)}
    if minor not in known:
        raise argparse.ArgumentTypeError(f"{minor!r}: there are {', '.join(known)}")
    return known[minor]


def _prerequisites(_: argparse.Namespace) -> None:
    with cache.lock():
        ensure_docker()
    ensure_go()
    print("Docker answers, Go is new enough", file=sys.stderr)


def _up(_: argparse.Namespace) -> None:
    with cache.lock():
        kind.up()


def _down(_: argparse.Namespace) -> None:
    with cache.lock():
        kind.down()


def _status(_: argparse.Namespace) -> None:
    if docker_answers():
        print(kind.status())
    else:
        print("Docker does not answer: no cluster; `python3 -m tests.cluster up` says what to do, or does it")


def _tools(arguments: argparse.Namespace) -> None:
    names = tuple(arguments.names) or go_builds.TOOLS
    programs = go_builds.programs_of(arguments.kubernetes)
    if unknown := set(names) - set(go_builds.TOOLS):
        raise PrerequisiteError(f"no such tool: {', '.join(sorted(unknown))}; there are {', '.join(go_builds.TOOLS)}")
    if go_builds.steps(names, programs):  # nobody waits for a lock to hear that all is there
        ensure_go()
        with cache.lock():
            run_steps(go_builds.steps(names, programs))
    print(go_builds.tool_folder(programs))


def _load(arguments: argparse.Namespace) -> None:
    ensure_docker()
    with cache.lock():
        for loaded in kind.load(arguments.images):
            print(loaded.image, loaded.by_digest)


def _base(_: argparse.Namespace) -> None:
    with cache.lock():
        ensure_docker()
        bases = images.python_bases()
        if steps := images.base_steps(bases):
            print("no image registry answers: the base images are made here, of Debian packages", file=sys.stderr)
            ensure_debootstrap()
            run_steps(steps)
    print(*bases, sep="\n")


def _interrupt(*_: object) -> NoReturn:
    raise KeyboardInterrupt


if __name__ == "__main__":
    sys.exit(main())
