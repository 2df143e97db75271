"""Sanitising: text without what deceives readers and parsers.

Text is brought to Unicode's canonical composition (NFC; NFKC where asked, which also folds full-width letters and
ligatures), and loses control characters but tab and line breaks, directional embeddings, overrides and isolates
(the «Trojan Source» attack, CVE-2021-42574), and invisible fillers. Joiners and direction marks stay: Persian,
Hindi and Hebrew need them.
"""

import unicodedata
from typing import Any, Literal

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
