"""Sanitising: text without what deceives readers and parsers, numbers within what they may be.

Text is brought to Unicode's canonical composition (NFC; NFKC where asked, which also folds full-width letters and
ligatures), and loses control characters but tab and line breaks, directional embeddings, overrides and isolates
(the «Trojan Source» attack, CVE-2021-42574), and invisible fillers. Joiners and direction marks stay: Persian,
Hindi and Hebrew need them.
"""

import math
import unicodedata
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

from modelward.privacy.values import TreatmentError

MAX_TEXT = 1 << 20
_KEPT = "\t\n\r"
_BIDI = "\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069"
_FILLERS = "\u00ad\u180e\u200b\u2060\u2061\u2062\u2063\u2064\ufeff\uffa0\u3164\u115f\u1160"
_CONTROLS = "".join(chr(code) for code in (*range(0x20), *range(0x7F, 0xA0)) if chr(code) not in _KEPT)
_TAGS = "".join(chr(code) for code in range(0xE0000, 0xE0080))  # invisible copies of ASCII
_REMOVED = dict.fromkeys(map(ord, _CONTROLS + _BIDI + _FILLERS + _TAGS))
_MAX_MARKS = 8  # combining marks on one letter; scripts that pile them up need at most five


def text(value: Any, form: Literal["NFC", "NFKC"] = "NFC", max_length: int = MAX_TEXT) -> str:
    """`value` in normal form, without what is not to be seen; idempotent.

    Raises:
        TreatmentError: no text, too long, or with lone surrogates.
    """
    if type(value) is not str:
        raise TreatmentError("needs text")
    if len(value) > max_length:
        raise TreatmentError(f"needs text of at most {max_length} characters")
    if value.isascii() and value.isprintable():  # the common case costs next to nothing
        return value
    try:
        value.encode()
    except UnicodeEncodeError:
        raise TreatmentError("needs text in Unicode, without lone surrogates") from None
    cleaned = value.translate(_REMOVED)
    # Removing may bring together what composes, and composing may give what is removed: until nothing changes.
    while (composed := unicodedata.normalize(form, _thinned(cleaned)).translate(_REMOVED)) != cleaned:
        cleaned = composed
    return cleaned


def texts(values: list[str]) -> list[str]:
    """`text` of each of `values`; the very list where all of them are as they should be. Raises TreatmentError."""
    whole = "".join(values)
    if whole.isascii() and whole.isprintable() and len(whole) <= MAX_TEXT:  # then each is, and is no longer
        return values
    return [text(value) for value in values]


def _thinned(value: str) -> str:
    """`value` without more combining marks in a row than any script has."""
    if value.isascii():
        return value
    kept, marks = [], 0
    for char in value:
        marks = marks + 1 if unicodedata.combining(char) else 0
        if marks <= _MAX_MARKS:
            kept.append(char)
    return "".join(kept)


@dataclass(frozen=True, slots=True)
class Range:
    """What a number may be. `clip`: what lies beyond, infinities included, is brought to the nearer end."""

    low: float = -math.inf
    high: float = math.inf
    clip: bool = False

    def __post_init__(self) -> None:
        if not self.low <= self.high:
            raise ValueError("the low end of a range must not be above its high end")

    def number(self, value: Any) -> float:
        """`value`, within the range.

        Raises:
            TreatmentError: no number, NaN, an infinity where the range is open, or beyond it and not to be clipped.
        """
        if isinstance(value, bool) or not isinstance(value, int | float):
            raise TreatmentError("needs a number")
        if value != value:  # noqa: PLR0124 - NaN is the one that is not itself
            raise TreatmentError("needs a number, and NaN is none")
        held: float = min(max(value, self.low), self.high) if self.clip else value
        if not self.low <= held <= self.high or held in (math.inf, -math.inf):
            raise TreatmentError(f"needs a finite number between {self.low:g} and {self.high:g}")
        return held

    def array(self, values: np.ndarray) -> np.ndarray:
        """`number` of each of `values` (floats). Raises TreatmentError as it does."""
        if np.isnan(values).any():
            raise TreatmentError("needs a number, and NaN is none")
        if self.clip:
            values = np.clip(values, self.low, self.high)
        if not (np.isfinite(values) & (values >= self.low) & (values <= self.high)).all():
            raise TreatmentError(f"needs finite numbers between {self.low:g} and {self.high:g}")
        return np.asarray(values)
