"""What PermutationSHAP can be asked for; without numpy, so that a manifest is judged without it."""

from typing import Final

MIN_WALKS: Final = 4
MAX_WALKS: Final = 256
MAX_COLUMNS: Final = 256
USUAL_ROWS: Final = 2048


def affordable(budget: int, width: int, references: int) -> int:
    """How many walks a budget of rows allows over `width` columns: as many from each of so many reference rows.

    A walk costs at most 2 (width - 1) rows, and one for its reference; the explained row itself costs one. 0: too few.
    """
    count = min((budget - 1) // (2 * (width - 1) + 1), MAX_WALKS)
    if count > references:
        count -= count % references
    return count if count >= MIN_WALKS else 0


def trouble(budget: int, width: int) -> str:
    """What keeps so many columns from being explained by asking about so many rows, and the fix; "": nothing."""
    if not width:
        return "every column is dropped, and none is left to explain by"
    if width > MAX_COLUMNS:
        return f"PermutationSHAP explains at most {MAX_COLUMNS} columns, and there are {width}"
    least = 1 + MIN_WALKS * (2 * width - 1)
    if budget >= least:
        return ""
    return (
        f"with {width} columns the model must be asked about {least} rows to explain one, and {budget} are allowed:"
        " raise spec.explanations.extraCalls"
    )
