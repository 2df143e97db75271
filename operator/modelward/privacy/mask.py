"""Masking (ISO/IEC 20889, 8.2.2): the end of a text is left, the rest is hidden, its length included."""

from typing import Any

from modelward.privacy.recognise import MAX_TEXT, redact
from modelward.privacy.values import TreatmentError

MASKED = "****"


class Mask:
    """Leaves `keep_last` characters, and never more than half of them: of a short text, fewer."""

    def __init__(self, keep_last: int) -> None:
        self._keep_last = keep_last

    def __call__(self, value: Any) -> str:
        """Four asterisks and the end of `value`, text or a whole number. Raises TreatmentError for anything else."""
        if isinstance(value, int) and not isinstance(value, bool):
            value = str(value)
        if not isinstance(value, str):
            raise TreatmentError("needs text or a whole number")
        kept = min(self._keep_last, len(value) // 2)
        return MASKED + value[len(value) - kept :]


def mask_identifiers(value: Any) -> str:
    """Text with each identifier that is recognised in it replaced by its kind, as in `[e-mail]`; idempotent.

    Raises:
        TreatmentError: no text, or more of it than is looked through.
    """
    if not isinstance(value, str):
        raise TreatmentError("needs text")
    if len(value) > MAX_TEXT:
        raise TreatmentError(f"needs text of at most {MAX_TEXT} characters")
    return redact(value)
