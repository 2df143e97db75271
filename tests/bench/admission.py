"""What admission costs, on a real etcd and kube-apiserver with the real admission server.

    make bench-admission            or: python -m tests.bench.admission [--rounds 5] [--seconds 4] [--reviews 100000]
    python -m tests.bench.admission --footprint                     starts and memory alone, to the terminal

Rates are of one run, side by side: each round measures the API server bare, with the ValidatingAdmissionPolicies
alone, and with the webhook in front of them, and ratios are taken within a round. CPU time is the kernel's account of
the processes, whose bytecode is compiled beforehand as it is in the image. The table goes to the terminal and to
docs/benchmarks/admission.md, whatever it says.
"""

from __future__ import annotations

import os
import shutil
import ssl
import statistics
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

from tests.bench import creates, reviews
from tests.bench.page import command_line
from tests.bench.report import Row, machine, markdown, table
from tests.integration import admission
from tests.integration.admission import Authority
from tests.integration.apiserver import ApiServer, started

ROOT = Path(__file__).parents[2]
PAGE = ROOT / "docs" / "benchmarks" / "admission.md"


@dataclass(frozen=True)
class Options:
    rounds: int
    seconds: float
    reviews: int
    starts: int
    footprint: bool
    page: Path | None


def options() -> Options:
    parser = command_line(__doc__)
    parser.add_argument("--rounds", type=int, default=5, help="of creates; medians are over them")
    parser.add_argument("--seconds", type=float, default=4.0, help="of each measurement of creates")
    parser.add_argument("--reviews", type=int, default=100_000, help="before memory is read again")
    parser.add_argument("--starts", type=int, default=5, help="of the admission server; the median counts")
    parser.add_argument("--footprint", action="store_true", help="starts and memory alone; writes no page")
    parser.add_argument("--page", type=Path, default=PAGE, help="where the table goes; `-` for nowhere")
    given = vars(parser.parse_args())
    return Options(**{**given, "page": None if given["footprint"] or str(given["page"]) == "-" else given["page"]})


def bin_dir() -> Path:
    if given := os.environ.get("MODELWARD_TEST_BIN"):
        return Path(given)
    done = subprocess.run(
        [sys.executable, "-m", "tests.cluster", "tools"], cwd=ROOT, stdout=subprocess.PIPE, text=True, check=True
    )
    return Path(done.stdout.strip().splitlines()[-1])


def ready(programs: Path, authority: Authority) -> ApiServer:
    """An API server with the CRDs, the policies and what the admission server needs; nothing enforces yet."""
    server = started(programs)
    server.install_crds()
    admission.prepare(server, programs, authority)
    result = server.apply(admission.namespace(creates.SPACE), *reviews.policies())
    assert result.ok, result.stderr
    return server


def bar() -> Progress:
    return Progress(
        TextColumn("{task.description:<34}"),
        BarColumn(),
        TextColumn("{task.completed:.0f}/{task.total:.0f}"),
        TimeElapsedColumn(),
        TimeRemainingColumn(),
        console=Console(stderr=True),
    )


def starts(server: ApiServer, folder: Path, count: int, progress: Progress) -> list[Row]:
    walls, cpus = [], []
    for number in progress.track(range(count), description="start to ready"):
        place = folder / f"start-{number}"
        place.mkdir()
        process = admission.start(server, place)
        walls.append(process.ready_after)
        cpus.append(process.cpu_seconds())
        process.kill()
    return [
        Row("start to ready, s", statistics.median(walls), "<= 1", statistics.median(walls) <= 1.0),
        Row("CPU until ready, s", statistics.median(cpus)),
    ]


def _costs(
    server: ApiServer, folder: Path, programs: Path, authority: Authority, chosen: Options, progress: Progress
) -> list[Row]:
    process = admission.start(server, folder)
    try:
        return creates.measure(server, process, programs, authority, chosen.rounds, chosen.seconds, progress)
    finally:
        process.kill()


def _compiled(folder: Path) -> None:
    """Have every process that is started from here on find its bytecode compiled, as those of the image do."""
    os.environ.pop("PYTHONDONTWRITEBYTECODE", None)
    os.environ["PYTHONPYCACHEPREFIX"] = str(folder)
    for module in ("modelward.admission.main", "tests.bench.kopf_peer"):
        subprocess.run([sys.executable, "-c", f"import {module}"], cwd=ROOT, check=True)


def main() -> int:
    chosen = options()
    programs, authority = bin_dir(), Authority()
    folder = Path(tempfile.mkdtemp(prefix="modelward-bench-"))
    context = ssl.create_default_context(cadata=authority.pem.decode())
    rows: list[Row] = []
    _compiled(folder / "bytecode")
    server = ready(programs, authority)
    try:
        with bar() as progress:
            rows += starts(server, folder, chosen.starts, progress)
            if chosen.footprint:
                rows += reviews.footprint(server, folder, context, chosen.reviews, progress)
            else:
                rows += _costs(server, folder, programs, authority, chosen, progress)
                rows += reviews.measure(server, folder, authority, context, chosen.reviews, progress)
    finally:
        server.stop()
        shutil.rmtree(server.folder, ignore_errors=True)
        shutil.rmtree(folder, ignore_errors=True)
    told = machine(programs, f"{chosen.rounds} rounds of {chosen.seconds:g} s, medians")
    print(table(rows, told))
    if chosen.page:
        chosen.page.parent.mkdir(parents=True, exist_ok=True)
        chosen.page.write_text(markdown(rows, told))
        print(f"written to {chosen.page}")
    return 0 if all(row.met is not False for row in rows) else 1


if __name__ == "__main__":
    sys.exit(main())
