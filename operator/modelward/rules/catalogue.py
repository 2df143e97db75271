"""The catalogue: each rule a data file in `catalogue/`, and everything that enforces or tells of rules made from it."""

from __future__ import annotations

from functools import cache
from importlib import resources
from typing import Annotated, Any, Literal

import msgspec

EnforcedAt = Literal["admission", "readiness"]
Severity = Literal["high", "medium", "low"]
Observation = Literal["lineage", "signature", "securityTest", "pods"]
"""What the controller may have seen of a model, and only it: see `planner.readiness`."""


class Fixture(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """What to change of the model and of the observations in `fixtures/`: JSON merge patches (RFC 7386)."""

    metadata: dict[str, Any] = {}
    spec: dict[str, Any] = {}
    observed: dict[str, Any] = {}


class Fixtures(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """A model that keeps the rule and one that breaks it and no other, under the policy of `fixtures/`.

    Attributes:
        policy: what to change of that policy's spec, for both.
        passes: the model that keeps the rule.
        fails: the model that breaks it.
    """

    policy: dict[str, Any] = {}
    passes: Fixture
    fails: Fixture


class Rule(msgspec.Struct, frozen=True, forbid_unknown_fields=True, rename="camel", kw_only=True):
    """A rule as data.

    Attributes:
        id: family and number, such as ENC-001; never given to another rule.
        enforced_at: `admission` refuses the object; `readiness` withholds Ready and the endpoint.
        frameworks: the places in `frameworks.yaml` that it serves, such as GDPR-25.
        requires: path below a policy's `spec.require` that switches the rule on when it is there.
        observes: what has to have been seen of the model for the rule to be judged at all.
        when: CEL over `params`, further narrowing when the rule applies.
        expression: CEL over `object` and `params`, and at readiness over `observed`; the rule holds where it is true.
        field: path in the ModelDeployment that a violation points to.
        message: CEL that gives what was found; evaluated only where the rule applies and does not hold.
        fix: what to do about it, for the person whose manifest it is.
        fixtures: an example of each verdict.
    """

    id: Annotated[str, msgspec.Meta(pattern=r"^[A-Z]{3}-\d{3}$")]
    title: str
    severity: Severity
    enforced_at: EnforcedAt = "admission"
    reason: str
    frameworks: Annotated[tuple[str, ...], msgspec.Meta(min_length=1)]
    requires: str = ""
    observes: Observation | None = None
    when: str = "true"
    expression: str
    field: str
    message: str
    fix: str
    fixtures: Fixtures

    @property
    def family(self) -> str:
        """The first part of the id, such as ENC."""
        return self.id.split("-", 1)[0]

    @property
    def switches(self) -> list[str]:
        """CEL over `params`, part by part, that is true where a policy asks for this rule."""
        steps = ["require", *self.requires.split(".")] if self.requires else []
        chain = [f"has(params.spec.{'.'.join(steps[: depth + 1])})" for depth in range(len(steps))]
        return chain if self.when == "true" else [*chain, f"({self.when})"]

    @property
    def applies(self) -> str:
        """CEL over `params` that is true where a policy asks for this rule."""
        return " && ".join(self.switches) or "true"


class Framework(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """A law, a framework or a list of risks, with its places that rules serve."""

    name: str
    places: dict[str, str]


FAMILIES = {
    "ENC": "Encryption",
    "HEC": "Homomorphic encryption",
    "ACC": "Access",
    "LIN": "Lineage",
    "MIN": "Minimisation",
    "MON": "Monitoring",
    "EXP": "Explanation",
    "FAI": "Fairness",
    "RUN": "Workload",
    "TST": "Security tests",
}


@cache
def catalogue() -> tuple[Rule, ...]:
    """Return every rule, by id."""
    folder = resources.files("modelward.rules") / "catalogue"
    files = sorted((file for file in folder.iterdir() if file.name.endswith(".yaml")), key=lambda file: file.name)
    return tuple(msgspec.yaml.decode(file.read_bytes(), type=Rule) for file in files)


@cache
def frameworks() -> dict[str, Framework]:
    """Return the frameworks that rules name places of, by their short names."""
    file = resources.files("modelward.rules") / "frameworks.yaml"
    return msgspec.yaml.decode(file.read_bytes(), type=dict[str, Framework])


def place_title(place: str) -> str:
    """Return what a place such as GDPR-25 is called.

    Raises:
        KeyError: there is no such place.
    """
    framework, _, rest = place.partition("-")
    return frameworks()[framework].places[rest]
