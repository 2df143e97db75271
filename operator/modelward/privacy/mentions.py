"""Ages and postcodes in prose: short numbers that only the words beside them tell from any other.

In linear time: a word or a number is found first, and what stands beside it is looked at within a bounded window.
"""

import re
from collections.abc import Iterator

_BESIDE = 32  # characters between a word and what it tells
_LONGEST = 12  # characters of a postcode
_ADDRESS = 160  # characters of an address before its last line
_OLDEST = 122  # years: nobody is known to have lived longer

_NUMBER = re.compile(r"(?<![\w.,:/$€£#%+-])\d{1,3}(?!\d)(?![.,:/]\d)", re.ASCII)
# «31 years old», «79-year-old», «26 y/o», «45 ans», where the words say that it is an age.
_OLD = re.compile(
    r"[ -]?(?:(?:year|yr|month)s?[ -]?(?:old|of age|young)|y\.?[ /-]?o\b|jahre alt|-?jährige?[mnrs]?\b|jaar oud"
    r"|ans d'âge|años de edad|anni d'età|lat życia)",
    re.IGNORECASE,
)
_AGED = re.compile(
    r"(?:\bage(?:d|s)?|\bturn(?:s|ed|ing)?|\bâgée? de|\bedad|\balter|\bleeftijd|\bwiek|\bw wieku)"
    r"(?: (?:just|only|now|about|around|is|was|of|de|von|van))?[\s:=(]{1,3}\Z",
    re.IGNORECASE,
)
# Whoever «is 31» is so old where nothing follows that is counted: not «31 minutes late», nor «31 % sure».
_IS = re.compile(
    r"(?:\bI'?(?:m| am| was)|\b(?:s?he|who)(?:'s| is| was)|\b(?:they|you|we)(?:'re| are| were))"
    r"(?: (?:just|only|now|already|about|around|almost|nearly|over|under))?[\s]\Z",
    re.IGNORECASE,
)
_ENDS = re.compile(r"\s*(?:\Z|[.!?;,)\n]|(?:and|but|when|now|today|this year|last year|next year)\b)")
_COUNTED = re.compile(r"[ -]?(?:%|°|degrees?\b|percent\b|pounds?\b|dollars?\b|out of\b|into\b|pages?\b|o'clock\b)")

_POSTCODE_WORD = re.compile(
    r"\bzip(?:code)?s?\b|\bpost(?:al)?[ -]?codes?\b|(?-i:\bPLZ\b|\bCEP\b)|\bpostleitzahl\b|\bcode postal\b"
    r"|\bc[óo]digo postal\b|\bpost(?:nummer|nr|index)\b|\bkod pocztowy\b|\bps[čc]\b|\beircode\b",
    re.IGNORECASE,
)
_STATE = re.compile(
    r"(?<![\w.-])(?:A[KLRZ]|C[AOT]|D[CE]|FL|GA|HI|I[ADLN]|K[SY]|LA|M[ADEINOST]|N[CDEHJMVY]|O[HKR]|PA|RI|S[CD]|T[NX]|UT"
    r"|V[AT]|W[AIVY]),?(?= \d{5}(?![\d]))"
)
# By country: Poland, Portugal, Brazil and Japan; the Netherlands; Czechia, Sweden and Greece; ZIP+4 and plain digits
# (most); Canada; the United Kingdom; Ireland. Some write the country's letters before (D-, LV-).
_FORMS = (
    r"(?:[A-Z]{1,2}-)?(?:[0-9]{2}-[0-9]{3}|[0-9]{4}-[0-9]{3}|[0-9]{5}-[0-9]{3}|[0-9]{3}-[0-9]{4}|[0-9]{4} ?[A-Z]{2}"
    r"|[0-9]{3} [0-9]{2}|[0-9]{5}(?:-[0-9]{4})?|[0-9]{4}|[0-9]{6,7}|(?i:[A-Z][0-9][A-Z][ -]?[0-9][A-Z][0-9]"
    r"|[A-Z]{1,2}[0-9][A-Z0-9]? ?[0-9][A-Z]{2}|[A-Z][0-9][0-9W] ?[A-Z0-9]{4}))(?!\w)(?![.,/-][0-9])"
)
_POSTCODE = re.compile(rf"(?<![\w.,/-]){_FORMS}")
_WORDED = re.compile(rf"(?<![\w.,/-])(?:{_FORMS}|[0-9]{{3}}(?!\w)(?![.,/-][0-9]))")  # Iceland has three digits
# The last line of an address: places, or nothing, and the code.
_LAST_LINE = re.compile(
    rf"\n[ \t]{{0,8}}(?:[^\W\d_][\w.'-]{{0,30}},?[ \t]{{1,2}}){{0,6}}({_FORMS})[ \t]{{0,8}}(?=\n|\Z)"
)
_HOUSE = re.compile(r"\d,? [^\W\d_]|[^\W\d_] \d|\baddress\b|\badresse\b|\bdirecci[óo]n\b", re.IGNORECASE)
# «in Paris 75001»: a place's name between a word of place and the code.
_IN_PLACE = re.compile(rf"\b(?:in|from|near)((?: [^\W\d_][\w.'\u2019-]{{0,30}},?){{1,4}}) ({_FORMS})")
_YEAR = re.compile(r"(?:1[89]|20)[0-9]{2}\Z")
# Forms that nothing else has: letters and digits in turn, as the United Kingdom and Canada write them.
_PLAIN_POSTCODE = re.compile(
    r"(?<![\w.,/-])(?:[A-PR-UWYZ][A-HK-Y]?\d[A-Z\d]? \d[ABD-HJLNP-UW-Z]{2}|[ABCEGHJ-NPRSTVXY]\d[A-Z] \d[A-Z]\d)"
    r"(?![\w-])",
    re.ASCII,
)
_OTHER = re.compile(r"\d|phone|\btel\b|fax|mobile|\bcall|\bfiles?\b|\barchive", re.IGNORECASE)


def ages(text: str) -> Iterator[tuple[int, int]]:
    """Where the years that somebody has lived stand: `text[start:end]` is the number alone."""
    for found in _NUMBER.finditer(text):
        start, end = found.span()
        if int(found[0]) <= _OLDEST and _is_age(text, start, end):
            yield start, end


def _is_age(text: str, start: int, end: int) -> bool:
    if _OLD.match(text, end, end + _BESIDE):
        return True
    before = text[max(0, start - _BESIDE) : start]
    if _AGED.search(before):
        return not _COUNTED.match(text, end, end + _BESIDE)
    return bool(_IS.search(before) and _ENDS.match(text, end))


def postcodes(text: str) -> Iterator[tuple[int, int]]:
    """Where postcodes stand: of a form that nothing else has, after a state's letters, or beside a word for them."""
    for found in _PLAIN_POSTCODE.finditer(text):
        yield found.span()
    for state in _STATE.finditer(text):
        found_after = _POSTCODE.match(text, state.end() + 1)
        if found_after:
            yield found_after.span()
    for line in _LAST_LINE.finditer(text):
        if _HOUSE.search(text, max(0, line.start() - _ADDRESS), line.start()):
            yield line.span(1)
    for place in _IN_PLACE.finditer(text):
        if place[1][1].isupper() and not _YEAR.match(place[2]):
            yield place.span(2)
    for word in _POSTCODE_WORD.finditer(text):
        found_beside = _after(text, word.end()) or _before(text, word.start())
        if found_beside:
            yield found_beside.span()


def _after(text: str, at: int) -> re.Match[str] | None:
    found = _WORDED.search(text, at, at + _BESIDE + _LONGEST)
    if found is None or found.start() > at + _BESIDE or _OTHER.search(text, at, found.start()):
        return None
    return found


def _before(text: str, at: int) -> re.Match[str] | None:
    """The last that stands before it, as in «94105 is my ZIP»."""
    found = list(_POSTCODE.finditer(text, max(0, at - _BESIDE), at))
    return found[-1] if found and not _OTHER.search(text, found[-1].end(), at) else None
