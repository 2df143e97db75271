"""Finds identifiers in free text: what has their form, then what has their check digits, then what is spoken of nearby.

In linear time: patterns look for runs of bounded length and never nest a repetition in another; everything else is
arithmetic on what they found. Numbers whose check digit is weak (one in ten passes by chance) count only where a word
that names them stands before them; ages and postcodes where the words beside them tell. Names, places and other prose
are not looked for: that takes a language model.
"""

import ipaddress
import re
from collections.abc import Callable, Iterator
from typing import Literal, NamedTuple

from modelward.privacy import checksums, mentions

Identifier = Literal[
    "card", "iban", "e-mail", "ip-address", "ssn", "nino", "steuer-id", "nir", "dni", "bsn", "pesel", "phone", "age",
    "postcode",
]  # fmt: skip
IN_PROSE: frozenset[Identifier] = frozenset({"age", "postcode"})
"""Kinds that tell of a person only together with others: identifiers of text, quasi-identifiers of a table."""
MAX_TEXT = 1 << 20
_BEFORE = 48  # characters in which a word that names a number must stand


class Found(NamedTuple):
    """An identifier at text[start:end]. It holds no text: it can be logged."""

    kind: Identifier
    start: int
    end: int


class _Numbered(NamedTuple):
    kind: Identifier
    pattern: re.Pattern[str]
    check: Callable[[str], bool]
    context: re.Pattern[str] | None = None


def _pattern(text: str) -> re.Pattern[str]:
    # No letter or digit before or after: a part of a longer number is not a number.
    return re.compile(rf"(?<![\w])(?<!\d[.,-])(?:{text})(?!\w)(?![.,-]\d)", re.ASCII | re.IGNORECASE)


def _words(text: str) -> re.Pattern[str]:
    return re.compile(text, re.IGNORECASE)


_SSN_WORDS = _words(r"\bssn\b|social security|\bitin\b|taxpayer")
# Strong forms first: what one has taken, no later one looks at.
_NUMBERED = (
    _Numbered("card", _pattern(r"(?<!\+)\d(?:[ -]?\d){11,18}"), checksums.card),
    _Numbered("card", _pattern(r"\d{12,19}"), checksums.luhn, _words(r"\bcards?\b|\bcredit\b|\bdebit\b")),
    _Numbered("nir", _pattern(r"[12] ?\d\d ?\d\d ?(?:\d\d|2[AB]) ?\d{3} ?\d{3} ?\d\d"), checksums.nir),
    _Numbered("dni", _pattern(r"(?:\d{8}|[XYZ]-?\d{7})-?[A-Z]"), checksums.dni),
    _Numbered("nino", _pattern(r"[A-Z]{2} ?\d\d ?\d\d ?\d\d ?[A-D]"), checksums.nino),
    _Numbered("ssn", _pattern(r"\d{3}(-| )\d\d\1\d{4}"), checksums.ssn),
    _Numbered("ssn", _pattern(r"\d{9}"), checksums.ssn, _SSN_WORDS),
    _Numbered(
        "steuer-id",
        _pattern(r"\d{2} ?\d{3} ?\d{3} ?\d{3}"),
        checksums.steuer_id,
        _words(r"steuer|idnr|\btax\b|\btin\b"),
    ),
    _Numbered("pesel", _pattern(r"\d{11}"), checksums.pesel, _words("pesel")),
    _Numbered("bsn", _pattern(r"\d{9}"), checksums.bsn, _words(r"\bbsn\b|burgerservice|sofi")),
)
_IBAN = re.compile(r"(?<!\w)[A-Z]{2}\d\d(?=[ -]?[A-Z0-9])", re.ASCII | re.IGNORECASE)
_IPV4 = re.compile(r"(?<![\w.])\d{1,3}\.\d{1,3}\.\d{1,3}\.\d{1,3}(?!\w)(?!\.\d)", re.ASCII)
_IPV6 = re.compile(r"(?<![\w:.])[0-9A-F:]{3,39}(?:\.\d{1,3}){0,3}(?![\w:])", re.ASCII | re.IGNORECASE)
_LOCAL = re.compile(r"[\w!#$%&*+^~.-]{1,64}\Z")
_DOMAIN = re.compile(r"(?:[^\W_](?:[\w-]{0,61}[^\W_])?\.){1,8}[^\W\d_]{2,63}(?![\w-])")
_PHONE = re.compile(
    r"(?<![\w./:#$€£-])(?<!\d,)(?:\+ ?|\()?\d[\d ().-]{5,24}\d(?:x\d{1,5})?(?!\w)(?![-/,:]\d)", re.ASCII
)
_PHONE_WORDS = _words(
    r"phone|\btel\b|mobile|\bcell|\bcall|\bfax\b|number|reach|contact|whatsapp|\bsms\b|text me|\bring\b|hotline"
)
# Dates, years from one to another, decimal fractions, and what has gaps that no telephone number has.
_NO_PHONE = re.compile(
    r"\d{4}[-. ]\d\d?[-. ]\d\d?|\d\d?[-. ]\d\d?[-. ](?:19|20)\d\d|(?:19|20)\d\d ?- ?(?:19|20)\d\d|\d+\.\d+"
    r"|.*(?:  |--|\.\.).*"
)


def find(text: str) -> list[Found]:
    """Every identifier in `text`, in order; none overlaps another.

    Raises:
        ValueError: the text has more than `MAX_TEXT` characters.
    """
    if len(text) > MAX_TEXT:
        raise ValueError(f"a text has at most {MAX_TEXT} characters")
    everything: list[Found] = []
    taken = bytearray(len(text))
    for finder in _FINDERS:
        for found in finder(text):
            if taken.find(1, found.start, found.end) < 0:
                taken[found.start : found.end] = b"\1" * (found.end - found.start)
                everything.append(found)
    return sorted(everything, key=lambda found: found.start)


def redact(text: str) -> str:
    """`text` with each identifier replaced by its kind in brackets, as in `[e-mail]`."""
    parts, at = [], 0
    for kind, start, end in find(text):
        parts += [text[at:start], f"[{kind}]"]
        at = end
    return "".join([*parts, text[at:]])


def _emails(text: str) -> Iterator[Found]:
    at = text.find("@")
    while at >= 0:
        local = _LOCAL.search(text, max(0, at - 64), at)
        domain = _DOMAIN.match(text, at + 1, at + 256)
        if local and domain:
            yield Found("e-mail", local.start(), domain.end())
        at = text.find("@", at + 1)


def _ibans(text: str) -> Iterator[Found]:
    for begun in _IBAN.finditer(text):
        length = checksums.IBAN_LENGTHS.get(begun[0][:2].upper(), 0)
        taken, at = 0, begun.start()
        while at < len(text) and taken < length:
            char = text[at]
            if char.isascii() and char.isalnum():
                taken += 1
            elif char not in " -":
                break
            at += 1
        ends = at == len(text) or not text[at].isalnum()
        if length and taken == length and ends and checksums.iban(_bare(text[begun.start() : at])):
            yield Found("iban", begun.start(), at)


def _addresses(text: str) -> Iterator[Found]:
    if text.count(":") >= 2:
        for found in _IPV6.finditer(text):
            if found[0].count(":") >= 2 and any(char.isalnum() for char in found[0]) and _is_ipv6(found[0]):
                yield Found("ip-address", *found.span())
    if "." in text:
        for found in _IPV4.finditer(text):
            if all(int(part) <= 255 for part in found[0].split(".")):
                yield Found("ip-address", *found.span())


def _is_ipv6(text: str) -> bool:
    try:
        ipaddress.IPv6Address(text)
    except ValueError:
        return False
    return True


def _numbers(text: str) -> Iterator[Found]:
    for kind, pattern, check, context in _NUMBERED:
        for found in pattern.finditer(text):
            if check(_bare(found[0])) and (context is None or _spoken_of(context, text, found.start())):
                yield Found(kind, *found.span())


def _phones(text: str) -> Iterator[Found]:
    """Numbers of 7 to 15 digits (E.164) written as people write them, or spoken of as a telephone's."""
    for found in _PHONE.finditer(text):
        start, written = found.start(), found[0]
        if written[0] == "(" and ")" not in written:  # the bracket belongs to the sentence
            start, written = start + 1, written[1:]
        main = written.partition("x")[0]
        digits = sum(char.isdecimal() for char in main)
        if not 7 <= digits <= 15 or main.count("(") != main.count(")") or _NO_PHONE.fullmatch(main):
            continue
        if _is_formed(written) or _spoken_of(_PHONE_WORDS, text, start):
            yield Found("phone", start, found.end())


def _postcodes(text: str) -> Iterator[Found]:
    return (Found("postcode", *span) for span in mentions.postcodes(text))


def _ages(text: str) -> Iterator[Found]:
    return (Found("age", *span) for span in mentions.ages(text))


def _is_formed(written: str) -> bool:
    """Tell whether it can hardly be anything else: two bare groups may be a house number and a street's, or a ZIP."""
    return written[0] in "+(0" or "x" in written or sum(char in " .-" for char in written) >= 2


def _spoken_of(context: re.Pattern[str], text: str, at: int) -> bool:
    return context.search(text, max(0, at - _BEFORE), at) is not None


def _bare(text: str) -> str:
    return text.replace(" ", "").replace("-", "")


_FINDERS = (_emails, _ibans, _addresses, _numbers, _postcodes, _phones, _ages)
