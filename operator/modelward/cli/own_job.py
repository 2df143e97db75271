"""What the programs of the controller's own Jobs have in common: how each is started, and says why it failed."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Callable
from pathlib import Path

from modelward.errand import MESSAGE_CHARS, PORT


class JobError(Exception):
    """Why a Job came to nothing, for the ModelDeployment's owner; `code` is what to exit with."""

    def __init__(self, message: str, code: int = 1) -> None:
        super().__init__(message)
        self.code = code


def job_arguments(program: str, doc: str | None) -> argparse.ArgumentParser:
    """A parser of what each of them is told; see `modelward.planner.own_job.common_arguments`."""
    parser = argparse.ArgumentParser(program, description=doc)
    parser.add_argument("--tls", type=Path, required=True, help="folder with tls.crt and tls.key")
    parser.add_argument("--config-key", required=True, help="base64 of the key that the controller's tokens verify by")
    parser.add_argument("--model", required=True, help="namespace/name")
    parser.add_argument("--port", type=int, default=PORT)
    parser.add_argument("--message", type=Path, default=Path("/dev/termination-log"), help="where to say why it failed")
    return parser


def run_job(run: Callable[[argparse.Namespace], None], options: argparse.Namespace) -> None:
    """Run it; exit with why it failed as the termination message, which the controller makes a condition of."""
    os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
    try:
        run(options)
    except JobError as error:
        told = " ".join(str(error).split())[:MESSAGE_CHARS]
        options.message.write_text(told, encoding="utf-8")
        sys.stderr.write(f"{told}\n")
        sys.exit(error.code)
