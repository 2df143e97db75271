"""Cases of encryption: in transit, at rest and in use."""

from __future__ import annotations

from typing import Any

from tests.corpus.case import Change, both, case, drop, put

IN_TRANSIT = "spec/encryption/inTransit"
IN_USE = "spec/encryption/inUse"

case("baseline", "no encryption", drop("spec/encryption"), "ENC-001")
case("strict", "no encryption", drop("spec/encryption"), "ENC-001", "ENC-004", "HEC-001")
case("baseline", "encryption at rest alone", drop(IN_TRANSIT), "ENC-001")
case("baseline", "TLS", put(f"{IN_TRANSIT}/mode", "TLS"))
case("strict", "TLS", put(f"{IN_TRANSIT}/mode", "TLS"), "ENC-002")
case("baseline", "TLS 1.2", put(f"{IN_TRANSIT}/minVersion", "1.2"))
case("strict", "TLS 1.2", put(f"{IN_TRANSIT}/minVersion", "1.2"), "ENC-003")
case("strict", "in transit by defaults", put(IN_TRANSIT, {}), "ENC-002")
case("strict", "TLS 1.2 without client certificates", put(IN_TRANSIT, {"minVersion": "1.2"}), "ENC-002", "ENC-003")
case("strict", "not attested", drop("spec/encryption/atRest/attestedBy"), "ENC-004")
case("strict", "no storage class", put("spec/encryption/atRest/storageClassNames", []), "ENC-004")
case("strict", "nothing at rest", drop("spec/encryption/atRest"), "ENC-004")


def telemetry(**fields: Any) -> Change:
    return put("spec/monitoring/telemetry", fields)


case("strict", "records over TLS", telemetry(otlpEndpoint="https://otel:4318", lineageEndpoint="https://marquez:5000"))
case("strict", "lineage in the clear", telemetry(lineageEndpoint="http://marquez:5000"), "ENC-005")
case(
    "strict",
    "one of two in the clear",
    telemetry(otlpEndpoint="https://otel:4318", lineageEndpoint="http://marquez:5000"),
    "ENC-005",
)
case("baseline", "records in the clear", telemetry(otlpEndpoint="http://otel:4318"))

case("strict", "nothing in use", drop(IN_USE), "HEC-001")
case("strict", "another scheme", put(f"{IN_USE}/scheme", "BFV"), "HEC-001")
case("strict", "in use by defaults", put(IN_USE, {}), "HEC-006")
case("strict", "encrypted requests beside plain ones", put(f"{IN_USE}/only", False), "HEC-006")
case("secure192", "beside plain ones, of what is no special category", put(IN_USE, {"coeffModulusBits": [50, 40, 60]}))


def primes(degree: int, *bits: int, scale: int = 30, scheme: str = "CKKS") -> Change:
    fields = {"scheme": scheme, "polyModulusDegree": degree, "coeffModulusBits": list(bits), "scaleBits": scale}
    return put(IN_USE, {"only": True, **fields})


# HomomorphicEncryption.org security standard, ternary secret, classical attacks: most bits of Q at the degree.
# Each bound is met exactly, and then passed by one bit.
MOST_BITS = {
    "strict": {4096: 109, 8192: 218, 16384: 438, 32768: 881},
    "secure192": {4096: 75, 8192: 152, 16384: 305, 32768: 611},
    "secure256": {4096: 58, 8192: 118, 16384: 237, 32768: 476},
}


def split(bits: int) -> list[int]:
    """Primes of 20 to 60 bits that add up, the largest first and last and the scale's in between."""
    primes_there = max(2, -(-bits // 60))
    each, rest = divmod(bits, primes_there)
    return sorted([each + 1] * rest + [each] * (primes_there - rest))


for _policy, _table in MOST_BITS.items():
    for _degree, _bits in _table.items():
        case(_policy, f"{_bits} bits at {_degree}", primes(_degree, *split(_bits), scale=10))
        case(_policy, f"{_bits + 1} bits at {_degree}", primes(_degree, *split(_bits + 1), scale=10), "HEC-002")
case("strict baseline", "a degree that is no power of two", primes(8000, 40, 30, 40), "HEC-002")
case("secure192", "BFV", primes(8192, 50, 50, scheme="BFV"))
case("secure192", "the strict policy's parameters", primes(8192, 60, 40, 60), "HEC-002")
case("secure192 secure256", "by defaults", put(IN_USE, {}), "HEC-002")
case("baseline", "too many bits though nobody asked", primes(4096, 40, 40, 40), "HEC-002")
case("nothing", "too many bits and no policy for encryption", primes(4096, 40, 40, 40))
case("strict", "no primes", primes(8192))
case("strict", "a scale above the middle prime", primes(8192, 60, 40, 60, scale=41), "HEC-004")
case("strict", "a first prime close to the scale", primes(8192, 40, 40, 60, scale=40), "HEC-004")
case("strict", "BFV has no scale", primes(8192, 40, 40, 60, scale=60, scheme="BFV"), "HEC-001")
case("strict", "a small last prime", primes(8192, 60, 40, 50), "HEC-005")
case(
    "strict",
    "everything wrong in use",
    both(primes(4096, 60, 30, 50, scale=55)),
    *("HEC-002", "HEC-004", "HEC-005"),
)
