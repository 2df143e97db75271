"""Server-sent events (the HTML standard, section 9.2) of a model's stream: each is checked before it goes on.

An event is passed on when it is whole and its data fits the declared outputs, with its fields treated; the first that
does not fit ends the stream. What lines say besides, nobody has declared: of an event's name, its id and the time to
wait a word is passed on, of comments nothing but that there was one.
"""

import re
from collections.abc import Callable

from modelward.sidecar.problems import Refusal

MAX_EVENT_BYTES = 1 << 20
_EVENT_END = re.compile(rb"\r\n\r\n|\n\n|\r\r")
_END_BYTES = 4
_LINE_END = re.compile(rb"\r\n|\n|\r")
_WORD = re.compile(rb"(?:event|id|retry):(?: ?[A-Za-z0-9._:-]{1,64})?")


class EventScreen:
    """Takes pieces of a stream as they come, gives the whole events that fit.

    `check` gives the data that go on, the very same where nothing is treated; it raises Refusal.
    """

    def __init__(self, check: Callable[[bytes], bytes]) -> None:
        self._check = check
        self._held = b""

    def __call__(self, piece: bytes | None) -> bytes:
        """What may go on after `piece`; None: nothing more comes, and what is held must be a whole event or blank."""
        held = self._held + (piece or b"")
        # No end is in what was held, but the beginning of one may be: small pieces of what is long cost little then.
        ends = [match.end() for match in _EVENT_END.finditer(held, max(len(self._held) - _END_BYTES + 1, 0))]
        whole = ends[-1] if ends else 0
        start = 0
        passed = []
        for end in ends:
            passed.append(self._judge(held[start:end]))
            start = end
        self._held = held[whole:]
        if len(self._held) > MAX_EVENT_BYTES:
            raise _unfit(f"The model's stream has an event of more than {MAX_EVENT_BYTES} bytes.")
        if piece is None and self._held.strip():
            raise _unfit("The model's stream ends in the middle of an event.")
        return b"".join(passed)

    def _judge(self, event: bytes) -> bytes:
        lines = [line for line in _LINE_END.split(event) if line]
        data = [line[5:].removeprefix(b" ") for line in lines if line.startswith(b"data:")]
        others = [line for line in lines if not line.startswith(b"data:")]
        passed = [line if line[:1] != b":" else b":" for line in others if line[:1] == b":" or _WORD.fullmatch(line)]
        if not data and any(not line.startswith(b":") for line in others):  # a comment keeps the connection awake
            raise _unfit("The model's stream has an event without data.")
        said = b"\n".join(data)
        treated = self._check(said) if data else said
        if treated is said and passed == others:
            return event
        told = [b"data: " + treated] if treated is not said else [b"data: " + line for line in data]
        return b"\n".join((*passed, *told, b"", b""))


def _unfit(detail: str) -> Refusal:
    return Refusal("bad-upstream", detail, reason="upstream-schema")
