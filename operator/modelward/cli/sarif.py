"""Findings as SARIF 2.1.0 (OASIS), in the subset that code scanning shows: rules with help, results with places.

https://docs.oasis-open.org/sarif/sarif/v2.1.0/sarif-v2.1.0.html
"""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any
from urllib.parse import quote

from modelward import __version__
from modelward.cli.output import to_json, with_fix
from modelward.rules.catalogue import Rule, catalogue
from modelward.rules.check import (
    REFERENCE,
    SCHEMA,
    TREATMENT,
    UNREACHABLE,
    UNREADABLE,
    UNSUPPORTED,
    Checked,
    Finding,
    Level,
)

_SCHEMA = "https://docs.oasis-open.org/sarif/sarif/v2.1.0/errata01/os/schemas/sarif-schema-2.1.0.json"
_LEVELS: dict[Level, str] = {
    "error": "error",
    "violation": "error",
    "warning": "warning",
    "audit": "note",
    "excused": "error",
    "note": "note",
}
_DEFAULT_LEVELS = {"critical": "error", "high": "error", "medium": "warning", "low": "note"}
_SCORES = {"critical": "9.5", "high": "8.0", "medium": "5.5", "low": "3.0"}
"""Severities on the scale of 0 to 10 that code scanning sorts by (CVSS's bands)."""
_OWN = {
    SCHEMA: ("The resource fits its schema", "The API server refuses an object that does not.", "error"),
    REFERENCE: (
        "What a resource names is there",
        "A ConfigMap or Secret that is named and not there keeps a model from being Ready; it may be in the cluster.",
        "note",
    ),
    TREATMENT: (
        "A field can be treated as the policies ask",
        "A model is not Ready where a field cannot be treated: nothing is let through untreated.",
        "warning",
    ),
    UNREACHABLE: (
        "Who is named can call",
        "A subject that nobody can prove to be keeps out the very callers that it means to let in.",
        "note",
    ),
    UNSUPPORTED: (
        "What is declared can be honoured",
        "A model is not Ready where something that it declares cannot be done: nothing is left undone unsaid.",
        "warning",
    ),
    UNREADABLE: ("The file can be read", "What cannot be read cannot be judged.", "error"),
}
"""Findings that no rule of the catalogue is behind: title, reason, level."""


def as_sarif(checked: Checked) -> str:
    """Write findings as a SARIF log with one run."""
    rules = [_rule(rule) for rule in catalogue()]
    rules += [_described(id_, title, reason, level) for id_, (title, reason, level) in _OWN.items()]
    return log(checked.findings, rules, "check", successful=all(one.rule != UNREADABLE for one in checked.findings))


def log(findings: Sequence[Finding], rules: list[dict[str, Any]], verb: str, *, successful: bool) -> str:
    """Write a SARIF log with one run.

    Args:
        findings: its results.
        rules: the tool's, as SARIF has them; those of findings that are not among them are added.
        verb: of modelward that ran.
        successful: whether it came to its end.
    """
    rules = list(rules)
    known = {rule["id"]: index for index, rule in enumerate(rules)}
    for finding in findings:  # a policy owner's own rules are known by id and fix alone
        if finding.rule not in known:
            known[finding.rule] = len(rules)
            rules.append(_described(finding.rule, finding.rule, finding.fix or finding.message, "warning"))
    repeated: Counter[str] = Counter()
    run = {
        "tool": {"driver": {"name": "modelward", "semanticVersion": __version__, "rules": rules}},
        "automationDetails": {"id": f"modelward/{verb}/"},
        "invocations": [{"executionSuccessful": successful}],
        "columnKind": "unicodeCodePoints",
        "results": [_result(finding, known[finding.rule], repeated) for finding in findings],
    }
    return to_json({"$schema": _SCHEMA, "version": "2.1.0", "runs": [run]})


def _rule(rule: Rule) -> dict[str, Any]:
    return described(rule.id, rule.title, rule.reason, rule.fix, rule.severity, rule.frameworks)


def described(
    id_: str, title: str, reason: str, fix: str, severity: str, frameworks: Sequence[str], precision: str = "very-high"
) -> dict[str, Any]:
    """A rule as SARIF has it; `severity` is low, medium, high or critical."""
    served = "".join(f"\n- {place}" for place in frameworks)
    return {
        "id": id_,
        "shortDescription": {"text": title},
        "fullDescription": {"text": reason},
        "help": {
            "text": f"{reason}\n\nFix: {fix}",
            "markdown": f"{reason}\n\n**Fix:** {fix}" + (f"\n\n**Serves**\n{served}" if served else ""),
        },
        "defaultConfiguration": {"level": _DEFAULT_LEVELS[severity]},
        "properties": {
            "tags": ["security", *frameworks],
            "precision": precision,
            "problem.severity": _DEFAULT_LEVELS[severity],
            "security-severity": _SCORES[severity],
        },
    }


def _described(id_: str, title: str, reason: str, level: str) -> dict[str, Any]:
    return {
        "id": id_,
        "shortDescription": {"text": title},
        "fullDescription": {"text": reason},
        "help": {"text": reason},
        "defaultConfiguration": {"level": level},
    }


def _result(finding: Finding, rule_index: int, repeated: Counter[str]) -> dict[str, Any]:
    place = f"{finding.object}: {finding.field}" if finding.field else finding.object
    text = with_fix(f"{place}: {finding.message}", finding.fix)
    asked = f" (asked by {finding.policy})" if finding.policy else ""
    suppressed = {"kind": "external", "status": "accepted", "justification": finding.excuse}
    return {
        "ruleId": finding.rule,
        "ruleIndex": rule_index,
        "level": _LEVELS[finding.level],
        "message": {"text": f"{text}{asked}"},
        "locations": [
            {
                "physicalLocation": {
                    "artifactLocation": {"uri": _uri(finding.source)},
                    "region": {"startLine": max(finding.line, 1)},
                },
                "logicalLocations": [{"fullyQualifiedName": place, "kind": "resource"}],
            }
        ],
        "partialFingerprints": {"modelwardFinding/v1": _fingerprint(finding, repeated)},
        "suppressions": [suppressed] if finding.level == "excused" else [],
    }


def _fingerprint(finding: Finding, repeated: Counter[str]) -> str:
    """What stays the same when lines move and values change: the rule, the file, the object and its field."""
    identity = "\n".join((finding.rule, _uri(finding.source), finding.object, finding.field))
    repeated[identity] += 1
    return hashlib.sha256(f"{identity}\n{repeated[identity]}".encode()).hexdigest()[:32]


def _uri(source: str) -> str:
    """The source as a URI reference: a file below the working folder is relative to it, as code scanning wants."""
    if "://" in source:
        return quote(source, safe=":/[]")
    path = Path(source)
    if path.is_absolute():
        if not path.is_relative_to(Path.cwd()):
            return path.as_uri()
        path = path.relative_to(Path.cwd())
    return quote(path.as_posix())
