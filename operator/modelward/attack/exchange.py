"""What attacks are made of: requests that they want sent, the answers that they are given, and what they find.

An attack is a generator: it yields requests and is sent their answers, and ends with a finding. It opens no socket and
looks at no clock, so that each one can be tried without a network.
"""

from __future__ import annotations

import json
from collections.abc import Generator, Mapping
from typing import Literal, NamedTuple, TypeVar

from modelward.attack.report import Outcome

Channel = Literal["endpoint", "plain", "old-tls", "no-certificate", "model"]
"""How a request goes: to the endpoint as it is given; to its port without TLS; to it with TLS below 1.2; without the
client certificate; past the sidecar, to the model's own port."""
Trouble = Literal["", "refused", "closed", "timeout", "tls", "unsupported"]
"""Why no answer came: no connection; it was closed; nothing in time; no handshake; not to be had on this machine."""
PROBLEM = "application/problem+json"
_TYPE = "https://modelward.io/problems/"
_INSIDE = frozenset(
    {"anomalous-input", "answer-withheld", "schema-violation", "malformed-json", "rate-limited", "model-refused",
     "model-failed"}
)  # fmt: skip
_T = TypeVar("_T")


class Request(NamedTuple):
    """One request.

    Attributes:
        target: path and query, as they are sent.
        headers: beside Host and Content-Length, which are added.
        body: None: the request has none.
        raw: sent byte for byte on a connection of its own, in place of all of the above.
        channel: how it goes.
        patient: whether an answer of 429 is waited out; an attack on the rate limit wants to see it.
    """

    method: str
    target: str
    headers: Mapping[str, str] = {}
    body: bytes | None = None
    raw: bytes | None = None
    channel: Channel = "endpoint"
    patient: bool = True


class Reply(NamedTuple):
    """What came back.

    Attributes:
        status: 0: no answer of HTTP came, and `trouble` says why.
        headers: names in lower case.
        body: at most a MiB of it.
        following: the statuses of further answers that came unasked on the same connection.
        stale: none came, for the connection kept from the request before had ended: to be sent anew, on another one.
    """

    status: int = 0
    headers: Mapping[str, str] = {}
    body: bytes = b""
    trouble: Trouble = ""
    following: tuple[int, ...] = ()
    stale: bool = False

    @property
    def good(self) -> bool:
        """Whether it was granted."""
        return 200 <= self.status < 300

    @property
    def problem(self) -> str:
        """The kind of modelward's own refusal, such as `unauthenticated`; empty: it is none."""
        if self.headers.get("content-type", "").partition(";")[0] != PROBLEM:
            return ""
        try:
            document = json.loads(self.body)
        except (ValueError, RecursionError):
            return ""
        kind = document.get("type") if isinstance(document, dict) else None
        return kind.removeprefix(_TYPE) if isinstance(kind, str) and kind.startswith(_TYPE) else ""

    @property
    def let_in(self) -> bool:
        """Whether the caller got past authentication: granted, or refused for what was asked and not for who asked."""
        return self.good or self.problem in _INSIDE

    @property
    def silent(self) -> bool:
        """Whether nobody was there to answer: it came from what stands before them, or not in time (RFC 9110, 15.6)."""
        return self.status in (502, 503, 504) or self.trouble in ("refused", "timeout")

    @property
    def told(self) -> str:
        """The answer in a word or two, without anything that the other side wrote."""
        return f"{self.status}" if self.status else self.trouble or "no answer"


class Finding(NamedTuple):
    """What came of an attack; see `report.AttackReport`."""

    outcome: Outcome
    evidence: str
    measure: float | None = None
    threshold: float | None = None


class SpentError(Exception):
    """No further request is sent for this attack; the message says what is used up.

    It is raised where an attack waits for an answer. One that has enough to judge by catches it.
    """


class GoneError(Exception):
    """The endpoint does not take connections any more; the suite ends."""


Asking = Generator[Request, Reply, _T]
"""Yields requests, is sent their answers, and returns something at the end."""
Steps = Asking[Finding]


def skipped(why: str) -> Steps:
    """An attack that is not tried."""
    return Finding("Skipped", why)
    yield  # a generator, as the others
