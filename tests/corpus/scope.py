"""Cases of what a policy governs and excuses, and of its own rules."""

from __future__ import annotations

from tests.corpus.case import BARE_BASELINE, bare, both, case, nothing, put

GOOD_UNDER = (
    "baseline strict anonymous selective nothing excused custom personal anonymised pseudonymous secure192 secure256"
)
case(GOOD_UNDER.replace(" anonymised", "").replace(" secure192", "").replace(" secure256", ""), "good", nothing)
case("baseline", "bare", bare, *BARE_BASELINE)
case(
    "strict",
    "bare",
    bare,
    *BARE_BASELINE,
    *("ENC-004", "HEC-001", "LIN-005", "LIN-006", "MIN-001", "MIN-008", "MON-001", "MON-002"),
    *("EXP-001", "FAI-001", "TST-001", "RUN-002", "RUN-005"),
)
case("nothing selective personal", "bare", bare)
case("secure192 secure256", "bare", bare, "HEC-001")
case("anonymous", "bare", bare, "ACC-001", "ACC-004")
case("excused", "bare", bare, *(set(BARE_BASELINE) - {"ENC-001"}))
case("excused", "another name", both(bare, put("metadata/name", "other")), *BARE_BASELINE)
case("selective", "bare and selected", both(bare, put("metadata/labels", {"team": "cardiology"})), *BARE_BASELINE)
case("selective", "bare and of another team", both(bare, put("metadata/labels", {"team": "oncology"})))
case("selective", "bare, with another label", both(bare, put("metadata/labels", {"crew": "cardiology"})))
case("custom", "another name", put("metadata/name", "other"), "CUSTOM-001")
case("custom", "no replicas", put("spec/replicas", 0), "CUSTOM-002")
case("custom", "both", both(put("metadata/name", "o"), put("spec/replicas", 0)), "CUSTOM-001", "CUSTOM-002")
