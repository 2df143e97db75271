"""Cases of lineage and of minimisation."""

from __future__ import annotations

from typing import Any

from tests.corpus.case import DIGEST, add, annotation, case, drop, put

for _number, _key in enumerate(("dataset", "model", "transformations", "consumer"), start=1):
    _also = ("LIN-006",) if _number < 3 else ()
    case("baseline", f"no {_key}", annotation(_key, None), f"LIN-00{_number}")
    case("strict", f"no {_key}", annotation(_key, None), f"LIN-00{_number}", *_also)
    case("baseline", f"empty {_key}", annotation(_key, ""), f"LIN-00{_number}")
    case("baseline", f"blank {_key}", annotation(_key, " \t\n "), f"LIN-00{_number}")
case("baseline", "no transformation", annotation("transformations", "[]"), "LIN-003")
case("baseline", "no transformation, spaced", annotation("transformations", " [ ] "), "LIN-003")
case("baseline", "no training run", annotation("training-run", None))
case("strict", "no training run", annotation("training-run", None), "LIN-005")
case("strict", "a data set without digest", annotation("dataset", "s3://clinic/wdbc.csv"), "LIN-006")
case("strict", "a short digest", annotation("model", "oci://x@sha256:abc"), "LIN-006")
case("strict", "two digests", annotation("model", f"oci://x@sha256:{DIGEST}@sha256:{DIGEST}"), "LIN-006")
case("strict", "another digest", annotation("model", f"oci://x@sha512:{DIGEST}"), "LIN-006")
case("baseline", "a data set without digest", annotation("dataset", "s3://clinic/wdbc.csv"))
case("baseline", "a long annotation", annotation("consumer", "x" * 8193), "LIN-007")
case("baseline", "an annotation at the bound", annotation("consumer", "x" * 8192))
case("baseline", "long transformations", annotation("transformations", "[" + " " * 8192 + "1]"), "LIN-007")
case("baseline", "no annotations", drop("metadata/annotations"), "LIN-001", "LIN-002", "LIN-003", "LIN-004")
case("nothing", "no annotations", drop("metadata/annotations"))
case("baseline", "unicode in an annotation", annotation("consumer", "ónkológia 🏥"))
for _secret in (
    "s3://key:secret@clinic/wdbc.csv",
    "https://bot@clinic.example/wdbc.csv",
    "https://s3.example/wdbc.csv?X-Amz-Signature=0123",
    "https://blob.example/wdbc.csv?sv=1&sig=0123",
    "https://clinic.example/wdbc.csv?token=0123",
):
    case("baseline", f"a data set at {_secret}", annotation("dataset", _secret), "LIN-010")
for _fine in (
    "models:/wdbc@champion",
    "https://clinic.example/@team/wdbc.csv",
    "s3://clinic/design=1/wdbc.csv",
    "://",
    "a://",
):
    case("baseline", f"a data set at {_fine}", annotation("dataset", _fine))

INPUTS = "spec/schema/inputs"


def text(name: str, role: str | None = None) -> dict[str, Any]:
    return {"name": name, "datatype": "BYTES", "shape": [-1], **({"role": role} if role else {})}


def numbers(*shape: int, **more: Any) -> dict[str, Any]:
    return {
        "name": "n",
        "datatype": "FP32",
        "shape": list(shape),
        "minimum": 0.0,
        "maximum": 1.0,
        "role": "Feature",
        **more,
    }


case("strict", "no schema", drop("spec/schema"), "MIN-001", "MIN-008")
case("strict", "no inputs", put(INPUTS, []), "MIN-001")
case("strict", "an identifier untreated", put(f"{INPUTS}/0/role", "Identifier"), "MIN-002")
case("strict", "a second identifier untreated", add(INPUTS, text("ssn", "Identifier")), "MIN-002")
case("baseline", "an identifier untreated", add(INPUTS, text("ssn", "Identifier")))
case("strict", "a quasi-identifier untreated", add(INPUTS, text("postcode", "QuasiIdentifier")), "MIN-003")
case("strict", "a quasi-identifier treated", add(INPUTS, text("age", "QuasiIdentifier")))
case("pseudonymous", "a quasi-identifier kept", add(INPUTS, text("kept", "QuasiIdentifier")), "MIN-003")
case("pseudonymous", "a quasi-identifier shifted", add(INPUTS, text("visit", "QuasiIdentifier")))
case("strict", "a table without columns", add(INPUTS, numbers(-1, 3)), "MIN-004")
case("strict", "a table with columns", add(INPUTS, numbers(-1, 3, columns=["a", "b", "c"])))
case("strict", "one column without a name", add(INPUTS, numbers(-1, 1)))
case("strict", "a picture", add(INPUTS, numbers(-1, 224, 224, 3)))
case("strict personal", "an input without a role", add(INPUTS, text("remarks")), "MIN-005")
case("strict personal", "a role by the policy", add(INPUTS, text("age")), *())
case("nothing baseline", "an input without a role", add(INPUTS, text("remarks")))
case("anonymised", "an identifier that is dropped", put(f"{INPUTS}/1/name", "patient"))
case("anonymised", "an identifier", add(INPUTS, text("ssn", "Identifier")), "MIN-002", "MIN-006")
case("anonymised", "an input without a role", add(INPUTS, text("remarks")))
case("pseudonymous", "an identifier masked", add(INPUTS, text("phone", "Identifier")), "MIN-007")
case("pseudonymous", "an identifier tokenised", add(INPUTS, text("account", "Identifier")))
case("pseudonymous", "an identifier untreated", add(INPUTS, text("ssn", "Identifier")), "MIN-002", "MIN-007")
case("strict", "no outputs", put("spec/schema/outputs", []), "MIN-008")
case("baseline", "no outputs", put("spec/schema/outputs", []))
