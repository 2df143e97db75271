"""Whether a data set may be fitted on: it keeps the policy's k as the policy treats it, and names nobody.

What is wrong is told in sentences that hold no value of the data: more people see them than may see the data.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final

import numpy as np

from modelward.privacy.anonymity import Classes
from modelward.privacy.recognise import IN_PROSE
from modelward.privacy.spec import Treatment
from modelward.scan import generalise
from modelward.scan.dataset import DataError, DataSet
from modelward.scan.identifiers import recognised

_SIZES: Final = 5


@dataclass(frozen=True)
class Asked:
    """What is asked of the data.

    Attributes:
        k: of k-anonymity; None: not asked.
        roles: of columns; `treatments`: of those that are not kept as they are; `hierarchies`: by column, their text.
        columns: those that are kept of it, in a baseline.
    """

    k: int | None = None
    roles: Mapping[str, str] = field(default_factory=dict)
    treatments: Mapping[str, Treatment] = field(default_factory=dict)
    hierarchies: Mapping[str, str] = field(default_factory=dict)
    columns: Sequence[str] = ()


def obstacles(data: DataSet, asked: Asked) -> list[str]:
    """What is wrong, and how to mend it; nothing where the data may be fitted on."""
    return [*_named_people(data, asked), *(_singled_out(data, asked) if asked.k else ())]


def _named_people(data: DataSet, asked: Asked) -> list[str]:
    """Columns to be kept that tell who somebody is, as declared or as their cells show."""
    found = []
    for name in asked.columns:
        if name not in data.names or name in asked.treatments:
            continue
        mend = "Fix: drop or coarsen it in the policy's fields, or leave it out of the model's inputs"
        if asked.roles.get(name) == "Identifier":
            found.append(f"column {name}: declared an identifier, and no policy treats it. {mend}")
            continue
        told = recognised(data.column(name))
        kinds = ", ".join(f"{kind} in {count:,}" for kind, count in told.kinds.items() if kind not in IN_PROSE)
        if kinds:
            found.append(f"column {name}: of {told.cells:,} cells {kinds}, and no policy treats it. {mend}")
    return found


def _singled_out(data: DataSet, asked: Asked) -> list[str]:
    declared = [name for name, role in asked.roles.items() if role == "QuasiIdentifier"]
    columns = [name for name in declared if name in data.names and not _dropped(asked, name)]
    if declared and not data.named:
        return [
            f"the data's columns have no names, so its quasi-identifiers ({', '.join(declared)}) are not found and"
            f" the policy's k of {asked.k} cannot be judged. Fix: give the data a header"
        ]
    k = asked.k or 1
    left = generalise.treated(data, columns, asked.treatments) if columns else None
    if columns and left is None:
        return [f"{', '.join(columns)} cannot be treated as the policy says. Fix: mend its treatments or the data"]
    if left is None or left.k >= k:
        return []
    how = ", treated as the policy says," if any(name in asked.treatments for name in columns) else ""
    return [
        f"{left.below(k):,} of {data.rows:,} rows share {', '.join(columns)}{how} with too few others for the policy's"
        f" k of {k}: {_sizes(left, k)}. Fix: {_mend(data, columns, asked, k)}{_uncovered(data, columns, asked)}"
    ]


def _dropped(asked: Asked, name: str) -> bool:
    treatment = asked.treatments.get(name)
    return treatment is not None and treatment.treatment == "Drop"


def _sizes(left: Classes, k: int) -> str:
    """How many combinations have one row, two, and so on, below k."""
    sizes, counts = np.unique(left.sizes[left.sizes < k], return_counts=True)
    told = [f"{count:,} of {size} row{'s' * (size > 1)}" for size, count in zip(sizes.tolist(), counts, strict=True)]
    more = f" and {counts[_SIZES:].sum():,} of more" if len(told) > _SIZES else ""
    return f"combinations: {', '.join(told[:_SIZES])}{more}"


def _uncovered(data: DataSet, columns: Sequence[str], asked: Asked) -> str:
    named = [name for name in columns if name in asked.hierarchies]
    counts = {name: len(generalise.uncovered(data.column(name), asked.hierarchies[name])) for name in named}
    return "".join(
        f"; give the hierarchy of {name} a line for the values that it lacks, in {count:,} rows"
        for name, count in counts.items()
        if count
    )


def _mend(data: DataSet, columns: Sequence[str], asked: Asked, k: int) -> str:
    try:
        found = generalise.search(data, columns, k, asked.hierarchies, asked.treatments, 0.0)
    except DataError as error:  # a hierarchy whose levels are not one within the other, say: to be mended first
        return str(error).replace(". Fix: ", "; ")
    if found is None:
        return f"give at least {k} rows"
    steps = [f"{name} to {level.told}" for name, level in found.levels.items() if level.level]
    least = "the least generalisation" if found.exact else "a generalisation"
    return f"{least} that gives a k of {found.k}: {', '.join(steps)}; or take those rows out"
