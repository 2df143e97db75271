"""A treatment as it is declared: its parameters, what it asks of a column, and which of two is the stricter."""

import base64
import math
from collections.abc import Iterable
from typing import Annotated, Literal

import msgspec
from msgspec import Meta

Kind = Literal["Keep", "Drop", "Pseudonymise", "Tokenise", "Generalise", "Mask", "Bucket", "Round", "DateShift"]

# What is left of a value, from all of it to nothing. The three in the middle coarsen numbers and are compared by how
# wide their intervals are.
_RANK: dict[str, int] = {
    "Keep": 0,
    "Round": 1,
    "Bucket": 1,
    "Generalise": 1,
    "DateShift": 2,
    "Mask": 3,
    "Tokenise": 4,  # one person can undo it
    "Pseudonymise": 5,  # nobody can, and it still tells who is the same
    "Drop": 6,
}
_TEXT_ONLY = ("Pseudonymise", "Tokenise", "Mask", "DateShift")
_NUMBERS_INSTEAD = "use Drop, or coarsen it with Generalise (step), Bucket or Round"


class Treatment(msgspec.Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True, rename="camel"):
    """What is done with one column.

    `step`: width of an interval. `groups`: a hierarchy at one level, value by value. `identifiers`: of free text, mask
    those alone. `subject`: the input or column that tells whose date it is. `recipient`: base64 of the X25519 public
    key of who may undo a token.
    """

    treatment: Kind
    step: Annotated[float, Meta(gt=0)] | None = None
    groups: dict[str, str] | None = None
    keep_last: Annotated[int, Meta(ge=0, le=64)] = 0
    identifiers: bool = False
    edges: Annotated[tuple[float, ...], Meta(max_length=128)] = ()
    digits: Annotated[int, Meta(ge=-12, le=12)] | None = None
    max_days: Annotated[int, Meta(ge=1, le=36525)] | None = None
    subject: Annotated[str, Meta(max_length=256)] = ""
    recipient: Annotated[str, Meta(max_length=64)] = ""

    @property
    def width(self) -> float:
        """Of the coarsening ones: the width of the narrowest interval."""
        match self.treatment:
            case "Round":
                return 10.0 ** -(self.digits or 0)
            case "Bucket":
                return min(
                    (high - low for low, high in zip(self.edges, self.edges[1:], strict=False)), default=math.inf
                )
            case "Generalise":
                return math.inf if self.groups is not None or self.step is None else self.step
        return 0.0

    @property
    def strictness(self) -> tuple[float, ...]:
        """Sorts treatments: the greater, the less is left of a value."""
        if self.identifiers:  # most of the text is left
            return (_RANK["Keep"] + 0.5, 0, 0)
        within = {
            "DateShift": self.max_days or 0,
            "Mask": -self.keep_last,
        }.get(self.treatment, self.width)
        return (
            _RANK[self.treatment],
            within,
            ("Round", "Bucket", "Generalise").index(self.treatment) if self.width else 0,
        )


KEEP = Treatment("Keep")


def strictest(treatments: Iterable[Treatment]) -> Treatment:
    """The one that leaves least of a value; of equally strict ones the first. Keep, if there are none."""
    return max(treatments, key=lambda one: one.strictness, default=KEEP)


def mistake(treatment: Treatment, datatype: str) -> str:
    """What keeps `treatment` from a column of `datatype` (Open Inference Protocol), and the fix; "" if nothing does."""
    kind = treatment.treatment
    if kind in ("Keep", "Drop"):
        return ""
    if datatype == "BOOL":
        return f"{kind} of a BOOL column: there is nothing between its two values; use Drop or Keep"
    if kind in _TEXT_ONLY and datatype != "BYTES":
        return f"{kind} gives text and the column is {datatype}: {_NUMBERS_INSTEAD}"
    lacks = _lacks(treatment)
    if lacks:
        return f"{kind} lacks {lacks}"
    if kind == "Generalise" and treatment.groups is not None and datatype != "BYTES":
        return f"Generalise by a hierarchy gives text and the column is {datatype}: use `step`"
    if kind == "Bucket" and any(low >= high for low, high in zip(treatment.edges, treatment.edges[1:], strict=False)):
        return "Bucket: `edges` must rise, each above the one before"
    if datatype.startswith(("INT", "UINT")):
        bounds = [treatment.step] if kind == "Generalise" else treatment.edges if kind == "Bucket" else []
        if any(not float(bound or 0).is_integer() for bound in bounds):
            return f"{kind} of an {datatype} column: give whole numbers, so that what comes out is whole"
    return ""


def _lacks(treatment: Treatment) -> str:
    match treatment.treatment:
        case "Generalise" if treatment.step is None and treatment.groups is None:
            return "`step` (a width) or `hierarchy` (a ConfigMap)"
        case "Bucket" if not treatment.edges:
            return "`edges`"
        case "Round" if treatment.digits is None:
            return "`digits`"
        case "DateShift" if treatment.max_days is None:
            return "`maxDays`"
        case "DateShift" if not treatment.subject:
            return "a subject: give another field the role Identifier, or name one with `subject`"
        case "Tokenise" if not _is_key(treatment.recipient):
            return (
                "a key holder: the policy allows tokens by `tokenRecipient`, the base64 of an X25519 public key, "
                "which `modelward token keygen` makes"
            )
    return ""


def _is_key(text: str) -> bool:
    try:
        return len(base64.b64decode(text, validate=True)) == 32
    except ValueError:
        return False
