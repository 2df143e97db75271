"""Contributions in words that whoever decides can read out to whom the decision is about.

Of a column the value is told as the model got it: an interval where the policies coarsen it, and none where they hide
it or it says who somebody is.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from modelward.detect.encoding import UNSEEN, Array
from modelward.privacy.spec import KEEP, Treatment

MAX_REASONS = 4
LEAST_TOLD = 5
_NOTABLE = 0.05  # of all that columns contribute, for and against
_STRONG = 0.25
_TOLD = ("Keep", "Generalise", "Bucket", "Round")


@dataclass(frozen=True, slots=True)
class Teller:
    """Words one column, of `categories` or numbers. `usual`: of the reference; `hidden`: its values are not told.

    `rare`: the codes of categories that fewer than `LEAST_TOLD` reference rows have. They are worded as those that none
    has: who may ask is not to find out, value by value, what single people of the reference had.
    """

    name: str
    categories: tuple[str, ...] | None
    usual: float
    treatment: Treatment = KEEP
    hidden: bool = False
    rare: frozenset[int] = frozenset()

    def words(self, value: float) -> str:
        """The column and its encoded value."""
        name = self.name.replace("_", " ")
        if self.hidden or self.treatment.treatment not in _TOLD:
            return f"{name} (its value is not told)"
        if self.categories is not None:
            if value == UNSEEN or int(value) in self.rare:
                return f"{name} has a value that few reference rows have, or none"
            return f'{name} is "{self.categories[int(value)]}"'
        return f"{name} is {self._number(value)} ({_written(self.usual)} is usual)"

    def _number(self, value: float) -> str:
        treatment = self.treatment
        match treatment.treatment:
            case "Round":
                return f"about {_written(value)}"
            case "Generalise" if treatment.step is not None:
                return f"between {_written(value)} and {_written(value + treatment.step)}"
            case "Bucket":
                above = [edge for edge in treatment.edges if edge > value]
                if above and value <= treatment.edges[0]:
                    return f"below {_written(above[0])}"
                return f"between {_written(value)} and {_written(above[0])}" if above else f"{_written(value)} or more"
        return _written(value)


def reasons(
    tellers: Sequence[Teller],
    row: Array,
    contributions: Array,
    unsure: Array | None = None,
    *,
    for_class: bool,
) -> tuple[str, ...]:
    """Why the answer to an encoded `row` (d,) is what it is, the weightiest first; at least one sentence.

    Args:
        tellers: of each column.
        row: its values.
        contributions: what each adds to the answer; to the class that was chosen, `for_class`.
        unsure: what of each may be chance: a contribution of no more is not told; None: they are exact.
        for_class: whether columns speak for a class, or raise a value.
    """
    sizes = np.abs(contributions)
    total = float(sizes.sum())
    sure = sizes > (0 if unsure is None else unsure)
    told = []
    for index in np.argsort(-sizes, kind="stable")[:MAX_REASONS].tolist():
        if not sure[index] or sizes[index] < _NOTABLE * total:
            continue
        effect = _for_class if for_class else _for_value
        told.append(f"{tellers[index].words(float(row[index]))}: {effect(float(contributions[index]), total)}.")
    if told:
        return tuple(told)
    return ("No column stands out: the answer is that to the reference rows, or many columns add a little each.",)


def _for_class(contribution: float, total: float) -> str:
    side = "for" if contribution > 0 else "against"
    how = " strongly" if abs(contribution) >= _STRONG * total else ""
    return f"speaks{how} {side} this answer"


def _for_value(contribution: float, _: float) -> str:
    verb = "raises" if contribution > 0 else "lowers"
    return f"{verb} the result by {_written(abs(contribution))}"


def _written(number: float) -> str:
    """Whole numbers as they are, others with four digits, none with an exponent unless it needs one."""
    if abs(number) < 1e15 and number == int(number):
        return str(int(number))
    return f"{float(f'{number:.4g}'):.15g}"
