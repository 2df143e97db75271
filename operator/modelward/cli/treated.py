"""Reference data as the model and its detectors will see them: treated as the policies say."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from modelward.api.manifest import Document
from modelward.cli.files import read_paths
from modelward.planner.references import References, hierarchies_among
from modelward.privacy.effective import Policy, choices
from modelward.privacy.hierarchy import HierarchyError
from modelward.privacy.spec import Treatment, mistake
from modelward.rules.check import baseline_policy, check

if TYPE_CHECKING:
    import numpy as np

    from modelward.detect.table import Table

COARSE = ("Generalise", "Bucket", "Round")


class PolicyError(Exception):
    """Policies that data cannot be treated by; the message says which, and why."""


@dataclass(frozen=True)
class Policies:
    """Policies, and what they say of each column.

    Attributes:
        policies: as they are stored.
        treatments: of each field that they do not keep.
        hierarchies: by column, the text of those that they name, as far as they stand beside them.
        lacking: by column, the names of the others.
    """

    policies: Sequence[Policy] = ()
    treatments: Mapping[str, Treatment] = field(default_factory=dict)
    hierarchies: Mapping[str, str] = field(default_factory=dict)
    lacking: Mapping[str, str] = field(default_factory=dict)


def read_policies(path: Path) -> Policies:
    """Return the policies in a file, or folder, with the hierarchies beside them.

    Raises:
        PolicyError: there is none, one is not as it should be, or a hierarchy cannot be used.
        ManifestError: the file cannot be read.
    """
    documents = read_paths([path])
    policies = _policies_in(documents)
    kept = References(hierarchies=hierarchies_among(one.data for one in documents))
    try:
        chosen = choices(policies, (), kept.hierarchy)
    except HierarchyError as error:
        raise PolicyError(str(error)) from error
    named = {name: choice.said["hierarchy"] for name, choice in chosen.items() if choice.said.get("hierarchy")}
    texts = {name: kept.hierarchy(hierarchy) for name, hierarchy in named.items()}
    return Policies(
        policies,
        {name: choice.treatment for name, choice in chosen.items()},
        {name: text for name, text in texts.items() if text is not None},
        {name: named[name] for name, text in texts.items() if text is None},
    )


def _policies_in(documents: Sequence[Document]) -> list[Policy]:
    checked = check(documents)
    for finding in checked.findings:
        if finding.level == "error":
            raise PolicyError(f"{finding.source}:{finding.line}: {finding.object}: {finding.field}: {finding.message}")
    policies = [policy for policy in checked.policies if policy is not baseline_policy()]
    if not policies:
        raise PolicyError("no DataPolicy or ClusterDataPolicy in it")
    return policies


def left_out(fields: Mapping[str, Treatment]) -> list[str]:
    """Return the columns that have no place in a baseline: the model gets nothing of them, or text."""
    return [
        name for name, treatment in fields.items() if treatment.treatment not in COARSE or treatment.groups is not None
    ]


def treat(table: Table, fields: Mapping[str, Treatment]) -> np.ndarray:
    """Return the rows (n, d) with each column treated as the sidecar treats an FP64 column; what is missing stays so.

    Raises:
        PolicyError: the columns have no names, a treatment lacks something, or a value is beyond what it can treat.
    """
    import numpy as np  # noqa: PLC0415 - slow to import

    from modelward.privacy.compiled import coarse  # noqa: PLC0415
    from modelward.privacy.values import TreatmentError  # noqa: PLC0415

    rows = table.rows
    if not table.named:
        raise PolicyError("policies name columns, and the data's have no names: give a header, or --columns")
    treated = rows.copy()
    for index, kind in enumerate(table.kinds):
        name = kind.name
        treatment = fields.get(name)
        if treatment is None:
            continue
        if kind.categories is not None:
            raise PolicyError(
                f"column {name} holds texts, which {treatment.treatment} does not treat here; leave it out"
            )
        wrong = mistake(treatment, "FP64")
        if wrong:
            raise PolicyError(f"field {name}: {wrong}")
        present = np.isfinite(rows[:, index])
        try:
            treated[present, index] = coarse(treatment).array(rows[present, index])
        except TreatmentError as error:
            raise PolicyError(f"column {name} {error}") from error
    return treated
