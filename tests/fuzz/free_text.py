"""Any text, and any text over and over: recognisers take a time in proportion to its length, and mask what they find.

A pattern that backtracks shows when a piece is repeated to 64 KiB: what takes a tenth of a second would take minutes.
"""

from __future__ import annotations

import itertools
import random
import time

from modelward.privacy.recognise import find, redact
from tests.fuzz.driver import Target, main

LENGTH = 1 << 16
SECONDS = 3.0
"""Of CPU: more than ten times what the slowest known text takes."""
_PIECES = (
    *(
        "1",
        "12",
        "123",
        "1234",
        "12345",
        "94105",
        "9" * 19,
        "0",
        " ",
        "  ",
        "\n",
        "\t",
        "-",
        ".",
        ",",
        ":",
        "/",
        "(",
        ")",
    ),
    *(
        "+",
        "@",
        "#",
        "x",
        "a",
        "A",
        "Aa",
        "AB",
        "é",
        "ß",
        "\u0660",
        "zip",
        "ZIP: ",
        "PLZ ",
        "age ",
        "aged ",
        "I'm ",
        "she is ",
    ),
    *(
        "turned ",
        " years old",
        " y/o",
        "in ",
        "from ",
        "near Paris ",
        "CA ",
        "SW1A 1AA",
        "GB82",
        "DE89 3704",
        "SSN ",
        "card ",
    ),
    *(
        "call ",
        "phone: ",
        "1.2.3.4",
        "::",
        "f:",
        "a.b",
        "post code ",
        "the PLZ",
        "code postal",
        "\n12 Main St\n",
        "D-10115",
    ),
)


def one(content: bytes) -> None:
    """Look through a text and through its repetition.

    Raises:
        AssertionError: it takes too long, what is found overlaps, or masking leaves some of it.
    """
    text = content.decode(errors="replace")
    found = find(text)
    assert all(first.end <= second.start for first, second in itertools.pairwise(found))
    assert all(0 <= each.start < each.end <= len(text) for each in found)
    masked = redact(text)
    assert len(masked) <= len(text) + sum(len(each.kind) + 2 for each in found)
    if text:
        began = time.process_time()
        find((text * (LENGTH // len(text) + 1))[:LENGTH])
        taken = time.process_time() - began
        assert taken < SECONDS, f"{taken:.1f} s for {LENGTH} characters"


def mutate(content: bytes, chance: random.Random) -> bytes:
    """A variant: pieces that patterns begin or end with, put in, taken out and repeated."""
    text = content.decode(errors="replace")
    for _ in range(chance.choice((1, 1, 2, 4))):
        at = chance.randrange(len(text) + 1)
        match chance.randrange(4):
            case 0:
                text = text[:at] + chance.choice(_PIECES) + text[at:]
            case 1:
                text = text[:at] + text[at + chance.randrange(1, 9) :]
            case 2:
                text = text[:at] + text[at : at + chance.randrange(1, 40)] * chance.randrange(2, 30) + text[at:]
            case 3:
                text = chance.choice(_PIECES) * chance.randrange(1, 40) + text[:at]
    return text[:2000].encode(errors="replace")


TARGET = Target("free_text", one, mutate, room=2000)


if __name__ == "__main__":
    main(TARGET)
