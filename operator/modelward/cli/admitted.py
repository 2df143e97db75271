"""Data that a baseline is not fitted on, because the policies ask more of it."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from modelward.cli.treated import Policies, PolicyError
from modelward.privacy.roles import asked_k, asks_minimisation, roles

if TYPE_CHECKING:
    from modelward.detect.table import Table
    from modelward.scan.dataset import DataSet

_TRAFFIC = (".jsonl", ".ndjson", ".log")


def refuse_what_breaks(policies: Policies, path: Path, content: bytes, table: Table) -> None:
    """Raise PolicyError where the data break the policies: their k, or their wish that nobody is named.

    Args:
        policies: what is asked.
        path: of the data.
        content: what is there.
        table: its columns that are fitted on.
    """
    k = asked_k(policies.policies)
    if k is None and not asks_minimisation(policies.policies):
        return
    from modelward.scan.admitted import Asked, obstacles  # noqa: PLC0415 - numpy is slow to import
    from modelward.scan.dataset import DataError  # noqa: PLC0415

    said = roles(policies.policies)
    lacking = [name for name in policies.lacking if said.get(name) == "QuasiIdentifier"]
    if k is not None and lacking:
        raise PolicyError(
            f"the policy's k cannot be judged: hierarchy {policies.lacking[lacking[0]]} of field {lacking[0]} is not"
            " there. Fix: put its ConfigMap (namespace modelward-system) into the policy's file or folder"
        )
    columns = [kind.name for kind in table.kinds]
    asked = Asked(k, said, policies.treatments, policies.hierarchies, columns)
    try:
        found = obstacles(_read(path, content, columns), asked)
    except DataError as error:
        raise PolicyError(str(error)) from error
    if found:
        raise PolicyError("; ".join(found))


def _read(path: Path, content: bytes, columns: list[str]) -> DataSet:
    from modelward.scan.reading import read, recorded  # noqa: PLC0415

    return recorded(content, columns) if path.suffix.lower() in _TRAFFIC else read(path)
