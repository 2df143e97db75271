"""Requests that were flagged and are ordinary: what `modelward feedback` writes and `fit --feedback` counts.

Of each request the scores of its strangest row are known, over the threshold of the asked rate (1.0 is the threshold),
and never a value: `score * baseline.threshold(detector, rate)` is the detector's own score again, for the baseline that
it was scored by and for no other.
"""

from typing import Annotated, Literal

import msgspec
from msgspec import Meta

MAX_BYTES = 16 << 20
MAX_ROWS = 100_000

Text = Annotated[str, Meta(max_length=256)]
Score = Annotated[float, Meta(gt=0, le=1e6)]
Share = Annotated[float, Meta(gt=0, lt=1)]


class FeedbackError(Exception):
    """A file that is no feedback; the message says why and what would mend it."""


class Benign(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One request, by its id and time in the access log: each detector's score, and the rate that was asked of it."""

    request: Text
    time: Text
    scores: Annotated[dict[Text, Score], Meta(min_length=1, max_length=16)]
    rates: Annotated[dict[Text, Share], Meta(max_length=16)]


class Feedback(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """All of them; `baseline` is the digest (sha256:...) of the one that they were scored by."""

    baseline: Annotated[str, Meta(pattern=r"^sha256:[0-9a-f]{64}$")]
    rows: Annotated[tuple[Benign, ...], Meta(min_length=1, max_length=MAX_ROWS)]
    format: Literal[1] = 1

    def to_bytes(self) -> bytes:
        """The file's content."""
        return msgspec.json.format(msgspec.json.encode(self), indent=2) + b"\n"


def from_bytes(content: bytes) -> Feedback:
    """Read a feedback file.

    Raises:
        FeedbackError: it is none.
    """
    if len(content) > MAX_BYTES:
        raise FeedbackError(f"the file has {len(content)} bytes, feedback has at most {MAX_BYTES}")
    try:
        return msgspec.json.decode(content, type=Feedback)
    except (ValueError, RecursionError) as error:  # msgspec's errors are ValueErrors
        raise FeedbackError(f"the file is no feedback as `modelward feedback` writes it: {str(error)[:256]}") from error
