"""The attacks of each suite: what each is called, tries and says where it succeeds, in the order in which they run.

The order matters: an attack that detectors notice may have its caller held, and many ordinary rows use a caller's
budget up. So what looks least like an attack comes first, and what asks most after that.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

from modelward.attack import credentials, malformed, reach
from modelward.attack.backdoor import backdoor
from modelward.attack.evasion import evasion
from modelward.attack.exchange import Steps
from modelward.attack.extraction import augmented, synthetic
from modelward.attack.framing import smuggling
from modelward.attack.membership import membership
from modelward.attack.oracle import Oracle
from modelward.attack.rate import rate_limit
from modelward.attack.report import Severity
from modelward.attack.target import Target

Asker = Literal["nobody", "caller", "rows"]


@dataclass(frozen=True)
class Known:
    """What attacks are told beside the target: the oracle where rows can be asked, and how often 429 was seen."""

    oracle: Oracle | None = None
    limited: int = 0


@dataclass(frozen=True)
class Attack:
    """One attack.

    Attributes:
        id, title, tries, severity, fix, frameworks: as in `report.AttackReport`.
        run: begins it.
        share: of the suite's requests and seconds that it may use, at the most.
        asks_as: nobody; a caller who may ask; or one who may, with the model's answers to rows.
    """

    id: str
    title: str
    tries: str
    severity: Severity
    fix: str
    frameworks: tuple[str, ...]
    run: Callable[[Target, Known], Steps]
    share: float = 0.1
    asks_as: Asker = "caller"


def _http(run: Callable[[Target], Steps]) -> Callable[[Target, Known], Steps]:
    return lambda target, _: run(target)


def _rows(run: Callable[[Target, Oracle | None], Steps]) -> Callable[[Target, Known], Steps]:
    return lambda target, known: run(target, known.oracle)


_RULES = "Let nobody in by `spec.access.rules` but subjects whom `spec.access.issuers` vouch for; no `*`, no anonymous."
_ISSUERS = "Name the issuer, its audiences and its keys in `spec.access.issuers`; tokens are then held to all of them."
_DECLARE = "Declare every input in `spec.schema.inputs`, with datatype, shape, minimum and maximum."
_FRONT = "Let the sidecar alone be reachable: no Service, Ingress or port of the model's own beside it."
_ACCESS = ("OWASP-ML05", "ATLAS-T0040")

BASELINE: tuple[Attack, ...] = (
    Attack(
        "bypass.no-token", "Nobody is answered who does not say who they are",
        "Asks the model, and about it, without credentials.",
        "critical", _RULES, (*_ACCESS, "CWE-306"), _http(credentials.no_token), asks_as="nobody",
    ),
    Attack(
        "bypass.garbage-token", "A token that is none opens nothing",
        "Asks with texts in the place of a token.",
        "critical", _ISSUERS, (*_ACCESS, "CWE-287"), _http(credentials.garbage_token), asks_as="nobody",
    ),
    Attack(
        "bypass.alg-none", "A token without a signature opens nothing",
        "Asks with the token given, rewritten to need no signature (RFC 8725, 2.1).",
        "critical", _ISSUERS, (*_ACCESS, "CWE-347"), _http(credentials.unsigned_token), asks_as="nobody",
    ),
    Attack(
        "bypass.forged-token", "A token signed by somebody else opens nothing",
        "Asks with the token given and other signatures, key names and keys of its own.",
        "critical", _ISSUERS, (*_ACCESS, "CWE-347"), _http(credentials.forged_token), asks_as="nobody",
    ),
    Attack(
        "bypass.changed-claims", "A token whose claims were changed opens nothing",
        "Asks with the token given, but expired, for another audience, of another issuer, subject or purpose.",
        "critical", _ISSUERS, (*_ACCESS, "CWE-345"), _http(credentials.changed_claims), asks_as="nobody",
    ),
    Attack(
        "bypass.stranger", "Who is known and has no right is not answered",
        "Asks as somebody whose token verifies and whom no rule lets ask.",
        "critical", _RULES, (*_ACCESS, "CWE-862"), _http(credentials.stranger), asks_as="nobody",
    ),
    Attack(
        "bypass.purpose", "Nobody is answered who does not say what for",
        "Leaves the purpose out, and gives one that no rule names.",
        "high", "Name the purposes in `spec.access.rules[].purposes`.", ("CWE-863",), _http(credentials.purpose),
    ),
    Attack(
        "bypass.spoofed-identity", "Headers do not say who somebody is",
        "Asks without credentials, as «admin» in the headers that proxies set.",
        "critical", _FRONT, (*_ACCESS, "CWE-290"), _http(credentials.spoofed_identity), asks_as="nobody",
    ),
    Attack(
        "bypass.path", "A path spelt another way leads nowhere",
        "Asks without credentials by doubled slashes, dot segments, escapes, other cases and whole URLs.",
        "critical", _FRONT, (*_ACCESS, "CWE-22"), _http(reach.paths), asks_as="nobody",
    ),
    Attack(
        "bypass.override", "Headers do not make another request of one",
        "Asks without credentials for what is open, with headers that override method or path.",
        "critical", _FRONT, (*_ACCESS, "CWE-436"), _http(reach.overridden), asks_as="nobody",
    ),
    Attack(
        "bypass.undeclared-model", "No model answers but the one that was declared",
        "Asks, as a caller who may, for other models of the same server.",
        "high", "Let the sidecar stand before the server: it knows the declared model alone.", ("OWASP-ML05",),
        _http(reach.undeclared_model),
    ),
    Attack(
        "bypass.admin", "What administers the server is not open",
        "Asks, as a caller who may ask the model, for repository, metrics, documentation and debugging.",
        "high", _FRONT, ("ATLAS-T0007", "CWE-749"), _http(reach.admin),
    ),
    Attack(
        "bypass.smuggling", "No request hides in another",
        "Sends pairs whose border two servers may see in different places: CL.TE, TE.CL, two lengths, folds.",
        "high", _FRONT, ("CWE-444",), _http(smuggling),
    ),
    Attack(
        "bypass.plain-http", "Nothing is said in the clear",
        "Speaks plain HTTP on the port of TLS.",
        "high", "Set `spec.encryption.inTransit.mode` to TLS or MutualTLS.", ("CWE-319",),
        _http(reach.plain_http), asks_as="nobody",
    ),
    Attack(
        "bypass.old-tls", "No version of TLS is spoken that is broken",
        "Offers TLS 1.0 and 1.1.",
        "medium", 'Set `spec.encryption.inTransit.minVersion` to "1.2" or "1.3".', ("CWE-327",),
        _http(reach.old_tls), asks_as="nobody",
    ),
    Attack(
        "bypass.model-port", "There is no way to the model past the sidecar",
        "Connects to the model's own port and asks it.",
        "critical", "Let the model listen on 127.0.0.1 alone, and keep `Bypassable` False.", (*_ACCESS, "CWE-288"),
        _http(reach.model_port), asks_as="nobody",
    ),
    Attack(
        "input.undeclared", "What was not declared is refused",
        "Sends inputs, members and parameters that nobody declared, identifiers of people in them.",
        "medium", f"{_DECLARE} Keep `undeclaredFields: Reject`.", ("OWASP-ML01", "CWE-20"), _http(malformed.undeclared),
    ),
    Attack(
        "input.not-a-number", "What is no number is refused",
        "Sends NaN, infinity, null, texts and truth values where numbers belong.",
        "medium", _DECLARE, ("OWASP-ML01", "CWE-20"), _http(malformed.not_numbers),
    ),
    Attack(
        "input.out-of-range", "What cannot be is refused",
        "Sends numbers beyond the bounds that are declared, and beyond any.",
        "medium", f"{_DECLARE} A detector of rows finds what no bound says.", ("OWASP-ML01", "CWE-1284"),
        _http(malformed.out_of_range),
    ),
    Attack(
        "input.shape", "Shapes that do not fit are refused",
        "Sends shapes that do not fit the data, cannot be, or are not there.",
        "medium", _DECLARE, ("OWASP-ML01", "CWE-131"), _http(malformed.shapes),
    ),
    Attack(
        "input.unreadable", "What cannot be read is refused, and not repeated",
        "Sends bodies that are half, twice, of another encoding or kind than they say.",
        "medium", "Let the sidecar stand before the server: it reads bodies strictly and writes them anew.",
        ("OWASP-ML01", "CWE-209"), _http(malformed.unreadable),
    ),
    Attack(
        "input.deep", "Nesting without end breaks nothing",
        "Sends brackets in brackets, fifty thousand deep.",
        "medium", "Let the sidecar stand before the server.", ("ATLAS-T0029", "CWE-674"), _http(malformed.deep),
    ),
    Attack(
        "input.oversized", "A body that is too large is refused",
        "Sends one body of 8 MiB.",
        "medium", "Keep the sidecar's limit of a body, 4 MiB.", ("ATLAS-T0029", "CWE-770"), _http(malformed.oversized),
    ),
    Attack(
        "input.identifiers", "What names a person does not come back",
        "Sends made-up identifiers in free text, and looks for them in the answer.",
        "high", "Give the input a role and a treatment in a policy's `fields`: Mask, Pseudonymise or Drop.",
        ("OWASP-ML03", "CWE-359"), _http(malformed.identifiers),
    ),
    Attack(
        "backdoor.trigger", "No small change brings all to one class",
        "Searches for a patch, or values of one or two columns, that bring nearly all rows to one class.",
        "critical", "Do not serve this model; look through its training data with `modelward scan-data`. Meanwhile the"
        " detector Backdoor with `onAnomaly: Block`.",
        ("OWASP-ML10", "ATLAS-T0018", "ATLAS-T0043.004"), _rows(backdoor), 0.25, asks_as="rows",
    ),
    Attack(
        "evasion.boundary", "Rows are not turned by a small change",
        "Walks along the model's border towards rows, by its decisions alone (HopSkipJump).",
        "medium", "Add the detectors Evasion and Membership with `onAnomaly: Block`, or train a sturdier model.",
        ("OWASP-ML01", "ATLAS-T0043.001", "ATLAS-T0015"), _rows(evasion), 0.3, asks_as="rows",
    ),
    Attack(
        "extraction.augmented", "A few rows and their variants do not copy the model",
        "Asks a few real rows and variants of them, and trains a copy on the answers (Jacobian augmentation).",
        "high", "Add the detector Extraction, with a `coverage`, and a rate limit; `onAnomaly: Block`.",
        ("OWASP-ML05", "ATLAS-T0024.002"), _rows(augmented), 0.16, asks_as="rows",
    ),
    Attack(
        "extraction.synthetic", "Made-up rows do not copy the model",
        "Asks rows of noise in the range of each column, and trains a copy on the answers.",
        "high", "Add a detector of rows (Ensemble) and Extraction with `onAnomaly: Block`, and a rate limit.",
        ("OWASP-ML05", "ATLAS-T0024.002"), _rows(synthetic), 0.16, asks_as="rows",
    ),
    Attack(
        "membership.confidence", "Answers do not tell who was in the training data",
        "Compares how sure the model is of rows that it was trained on and of rows that it was not.",
        "high",
        "Round scores by a policy's `fields`, tell labels alone, or train a model that overfits less.",
        ("OWASP-ML04", "ATLAS-T0024.000"), _rows(membership), 0.16, asks_as="rows",
    ),
    Attack(
        "rate.limit", "Asking without end is stopped",
        "Asks an ordinary row until that is refused.",
        "medium", "Give each of `spec.access.rules` a `rateLimit`.", ("OWASP-ML05", "ATLAS-T0029", "CWE-770"),
        lambda target, known: rate_limit(target, known.limited), 1.0,
    ),
)  # fmt: skip

SUITES: dict[str, tuple[Attack, ...]] = {"baseline": BASELINE}
