"""Cases of access: subjects, issuers, purposes and rate limits."""

from __future__ import annotations

from tests.corpus.case import add, both, case, drop, good, put

RULES = "spec/access/rules"
FIRST = f"{RULES}/0"
ISSUERS = "spec/access/issuers"
ISSUER = good()["spec"]["access"]["issuers"][0]

case("baseline", "no access", drop("spec/access"), "ACC-001")
case("strict", "no access", drop("spec/access"), "ACC-001")
case("strict", "no rules", put(RULES, []), "ACC-001")
case("baseline", "access by defaults", put("spec/access", {}), "ACC-001")
case("baseline anonymous", "no subjects", put(f"{FIRST}/subjects", []), "ACC-002")
case("baseline", "a bare name", put(f"{FIRST}/subjects", ["bob"]), "ACC-002")
case("baseline", "a kind of subject that there is not", put(f"{FIRST}/subjects", ["role:admin"]), "ACC-002")
case("baseline", "a form in capitals", put(f"{FIRST}/subjects", ["User:bob"]), "ACC-002")
case("baseline", "a bare name among others", add(f"{FIRST}/subjects", "bob"), "ACC-002")
case("baseline", "anybody", put(f"{FIRST}/subjects", ["*"]), "ACC-003")
case("anonymous", "anybody", put(f"{FIRST}/subjects", ["*"]))
case("baseline", "any user", put(f"{FIRST}/subjects", ["user:*"]), "ACC-003")
case("baseline", "a pattern", put(f"{FIRST}/subjects", ["group:team-*"]), "ACC-003")
case("baseline", "anonymous", put(f"{RULES}/1/subjects", ["user:system:anonymous"]), "ACC-003")
case("baseline", "anonymous, in short", put(f"{RULES}/1/subjects", ["user:anonymous"]), "ACC-003")
case("baseline", "unauthenticated", put(f"{RULES}/1/subjects", ["group:system:unauthenticated"]), "ACC-003")
case("baseline", "authenticated", put(f"{RULES}/1/subjects", ["group:system:authenticated"]), "ACC-003")
case("baseline", "a later subject", add(f"{RULES}/1/subjects", "*"), "ACC-003")
case("baseline", "somebody whose name begins like anonymous", put(f"{FIRST}/subjects", ["user:anonymous-2"]))
case("strict", "everybody, by no known form", put(f"{FIRST}/subjects", ["everybody*"]), "ACC-002", "ACC-003")
case("baseline", "no issuer, client certificates", put(ISSUERS, []))
case(
    "baseline anonymous",
    "nobody vouches",
    both(put(ISSUERS, []), put("spec/encryption/inTransit/mode", "TLS")),
    "ACC-004",
)
case("anonymous", "nobody vouches and nothing is encrypted", both(put(ISSUERS, []), drop("spec/encryption")), "ACC-004")
case("strict", "an issuer not trusted", put(f"{ISSUERS}/0/issuer", "https://evil.example"), "ACC-005")
case("strict", "an issuer with a slash too many", put(f"{ISSUERS}/0/issuer", "https://id.clinic.example/"), "ACC-005")
case("baseline", "an issuer of one's own", put(f"{ISSUERS}/0/issuer", "https://evil.example"))
case(
    "strict",
    "a second issuer not trusted",
    add(ISSUERS, {**ISSUER, "name": "other", "issuer": "https://id.other.example"}),
    "ACC-005",
)
case("strict", "no purposes", put(f"{FIRST}/purposes", []), "ACC-006")
case("strict", "another purpose", put(f"{RULES}/1/purposes", ["marketing"]), "ACC-006")
case("strict", "one purpose too many", put(f"{RULES}/1/purposes", ["diagnosis", "marketing"]), "ACC-006")
case("strict", "another allowed purpose", put(f"{RULES}/1/purposes", ["audit", "diagnosis"]))
case("baseline", "any purpose", put(f"{RULES}/1/purposes", ["marketing"]))
case("baseline anonymous", "no audience", put(f"{ISSUERS}/0/audiences", []), "ACC-007")
case("baseline", "two audiences", put(f"{ISSUERS}/0/audiences", ["wdbc", "triage"]))
case("strict", "no rate limit", drop(f"{RULES}/1/rateLimit"), "ACC-008")
case("baseline", "no rate limit", drop(f"{RULES}/1/rateLimit"))
for _requests, _seconds, _broken in (
    (600, 60, ()),
    (601, 60, ("ACC-009",)),
    (1, 86400, ()),
    (1_000_000, 60, ("ACC-009",)),
):
    case(
        "strict",
        f"{_requests} in {_seconds} s",
        put(f"{FIRST}/rateLimit", {"requests": _requests, "seconds": _seconds}),
        *_broken,
    )
case("strict", "a limit in seconds by default", put(f"{FIRST}/rateLimit", {"requests": 600}))
case("baseline", "any rate", put(f"{FIRST}/rateLimit", {"requests": 1_000_000, "seconds": 1}))
case("baseline", "no operations", put(f"{FIRST}/operations", []), "ACC-010")
case("strict", "no operations", put(f"{FIRST}/operations", []), "ACC-010", "EXP-003")
case("baseline", "an issuer twice", add(ISSUERS, {**ISSUER, "name": "again"}), "ACC-011")
case("baseline", "two issuers", add(ISSUERS, {**ISSUER, "name": "other", "issuer": "https://id.other.example"}))


def by_address(address: str) -> dict[str, object]:
    return {**{key: value for key, value in ISSUER.items() if key != "jwksConfigMapName"}, "jwksURI": address}


case("baseline", "keys over TLS", put(f"{ISSUERS}/0", by_address("https://id.clinic.example/jwks")))
case("baseline", "keys in the clear", put(f"{ISSUERS}/0", by_address("http://id.clinic.example/jwks")), "ACC-012")
case("keys", "keys from where they may come", put(f"{ISSUERS}/0", by_address("https://id.clinic.example/a/jwks")))
case("keys", "keys from the very address", put(f"{ISSUERS}/0", by_address("https://exact.example/jwks")))
for _address in (
    "https://id.clinic.example.evil.example/jwks",
    "https://id.clinic.example@evil.example/jwks",
    "https://id.clinic.example:8443/jwks",
    "https://exact.example/jwks/more",
    "https://exact.example/",
):
    case("keys", f"keys from {_address}", put(f"{ISSUERS}/0", by_address(_address)), "ACC-013")
case(
    "keys",
    "keys from there in the clear",
    put(f"{ISSUERS}/0", by_address("http://exact.example/jwks")),
    *("ACC-012", "ACC-013"),
)
case("keys", "no address at all", put(f"{ISSUERS}/0/serviceAccounts", False))
case(
    "nothing", "everything wrong, and nothing asked", put("spec/access/rules", [{"subjects": ["*"], "operations": []}])
)
