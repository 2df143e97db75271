"""What comes of holding lineage annotations against signed statements."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from modelward.lineage.statement import Statement

Reason = Literal[
    "Signed",
    "StatementMalformed",
    "SignatureInvalid",
    "SignerNotTrusted",
    "Cyclic",
    "DigestMismatch",
    "TransformationsDiffer",
    "DigestMissing",
    "StatementMissing",
    "TrustMissing",
]


@dataclass(frozen=True)
class Signers:
    """Who signed: the names that could be verified, or why none could.

    Attributes:
        names: such as `key:ml-platform` or `cert:spiffe://clinic/release`.
        reason: a word for programs; empty where there are names.
        why: the same for people.
    """

    names: tuple[str, ...] = ()
    reason: Literal["", "SignatureInvalid", "SignerNotTrusted"] = ""
    why: str = ""


@dataclass(frozen=True)
class Judged:
    """A statement that could be read, where it is, who signed it, and whom of them the policy accepts."""

    place: str
    statement: Statement
    signers: Signers
    accepted: tuple[str, ...]

    @property
    def sources(self) -> frozenset[str]:
        """The digests of what its subjects were made of."""
        return frozenset(source.sha256 for source in self.statement.sources)

    @property
    def subject(self) -> str:
        """What it is about, for people."""
        first = self.statement.subjects[0]
        return f"{first.name or '(no name)'} (sha256:{first.sha256[:12]})"


@dataclass(frozen=True)
class Result:
    """What came of one annotation, or of them together.

    Attributes:
        annotation: its short name; empty where it is not about one.
        reason: `Signed`, or a word for why it is not.
        message: the same for people.
        signers: the accepted signers who answer for it.
    """

    annotation: str
    reason: Reason
    message: str
    signers: tuple[str, ...] = ()


@dataclass(frozen=True)
class Outcome:
    """What came of all of them, and the statements of accepted signers that bear on them."""

    results: tuple[Result, ...]
    statements: tuple[Judged, ...] = ()

    @property
    def failed(self) -> Result | None:
        """The first that is not answered for."""
        return next((result for result in self.results if result.reason != "Signed"), None)
