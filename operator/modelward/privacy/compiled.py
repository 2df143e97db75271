"""From a declared treatment to a function: everything that can be done once is done here, not for each request."""

import math
from collections.abc import Callable
from typing import Any

from modelward.privacy.coarsen import Bucket, Round, Step
from modelward.privacy.dates import DateShift
from modelward.privacy.hierarchy import Hierarchy
from modelward.privacy.keys import Keys
from modelward.privacy.mask import Mask, mask_identifiers
from modelward.privacy.pseudonym import Pseudonymiser
from modelward.privacy.spec import Treatment, mistake
from modelward.privacy.tokens import Sealer, recipient

Treat = Callable[[Any], Any]
"""Gives the treated value of a value, or raises TreatmentError."""

_INTEGERS = {
    **{f"INT{bits}": (-(1 << (bits - 1)), (1 << (bits - 1)) - 1) for bits in (8, 16, 32, 64)},
    **{f"UINT{bits}": (0, (1 << bits) - 1) for bits in (8, 16, 32, 64)},
}


class CannotTreatError(Exception):
    """A treatment that cannot be compiled; the message says why, and the fix."""


def neutral(datatype: str, low: float | None = None, high: float | None = None) -> Any:
    """What stands in a column whose value is dropped: empty text, False, or the number nearest to 0 in its bounds."""
    if datatype == "BYTES":
        return ""
    if datatype == "BOOL":
        return False
    value = min(max(0.0, -math.inf if low is None else low), math.inf if high is None else high)
    if datatype in _INTEGERS:
        return math.ceil(value) if value > 0 else math.floor(value)
    return value


def compiled(treatment: Treatment, field: str, datatype: str, keys: Keys | None, namespace: str) -> Treat:
    """The function that treats one value of the column `field`; for a DateShift see `date_shift`.

    Raises:
        CannotTreatError: the treatment does not fit the datatype, or needs keys and there are none.
    """
    wrong = mistake(treatment, datatype)
    if wrong:
        raise CannotTreatError(f"field {field}: {wrong}")
    match treatment.treatment:
        case "Keep":
            return _keep
        case "Drop":
            stands = neutral(datatype)
            return lambda _: stands
        case "Pseudonymise":
            return Pseudonymiser(_needed(keys, field), field)
        case "Tokenise":
            return Sealer(recipient(treatment.recipient), namespace, field)
        case "Mask":
            return mask_identifiers if treatment.identifiers else Mask(treatment.keep_last)
        case "DateShift":
            raise ValueError("a date shift needs the subject as well: date_shift")
    if treatment.groups is not None:
        return Hierarchy(treatment.groups).text
    treats = coarse(treatment)
    if datatype == "BYTES":
        return treats.text
    bounds = _INTEGERS.get(datatype)
    return treats.number if bounds is None else _whole(treats.number, *bounds)


def date_shift(treatment: Treatment, field: str, datatype: str, keys: Keys | None) -> DateShift:
    """The function of a date and its subject. Raises CannotTreatError as `compiled` does."""
    wrong = mistake(treatment, datatype)
    if wrong:
        raise CannotTreatError(f"field {field}: {wrong}")
    return DateShift(_needed(keys, field), treatment.subject, treatment.max_days or 1)


def coarse(treatment: Treatment) -> Step | Bucket | Round:
    """What treats numbers, one by one, as text or as an array, by a treatment that has no `mistake`."""
    if treatment.treatment == "Bucket":
        return Bucket(treatment.edges)
    if treatment.treatment == "Round":
        return Round(treatment.digits or 0)
    return Step(treatment.step or 1)


def _whole(treat: Treat, low: int, high: int) -> Treat:
    """The edge of an interval may lie beyond what the column can hold: then the column's own end stands for it."""
    return lambda value: min(max(int(treat(value)), low), high)


def _keep(value: Any) -> Any:
    return value


def _needed(keys: Keys | None, field: str) -> Keys:
    if keys is None:
        raise CannotTreatError(f"field {field}: there is no key for it; only the controller gives one")
    return keys
