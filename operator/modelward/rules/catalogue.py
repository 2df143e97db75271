"""The catalogue: each rule a data file in `catalogue/`, and everything that enforces or tells of rules made from it."""

from __future__ import annotations

from functools import cache
from importlib import resources
from typing import Literal

import msgspec


class Rule(msgspec.Struct, frozen=True, forbid_unknown_fields=True, rename="camel", kw_only=True):
    """A rule as data.

    Attributes:
        id: family and number, such as ENC-001; never given to another rule.
        requires: path below a policy's `spec.require` that switches the rule on when it is there.
        when: CEL over `params`, further narrowing when the rule applies.
        expression: CEL over `object` and `params`; the rule holds where it is true.
        field: path in the ModelDeployment that a violation points to.
        message: CEL that gives what was found; evaluated only where the rule applies and does not hold.
        fix: what to do about it, for the person whose manifest it is.
        enforced_at: `admission` refuses the object; `readiness` withholds Ready.
    """

    id: str
    title: str
    severity: Literal["high", "medium", "low"]
    enforced_at: Literal["admission", "readiness"] = "admission"
    reason: str
    frameworks: tuple[str, ...] = ()
    requires: str = ""
    when: str = "true"
    expression: str
    field: str
    message: str
    fix: str

    @property
    def applies(self) -> str:
        """CEL over `params` that is true where a policy asks for this rule."""
        steps = ["require", *self.requires.split(".")] if self.requires else []
        chain = [f"has(params.spec.{'.'.join(steps[: depth + 1])})" for depth in range(len(steps))]
        if self.when != "true":
            chain.append(f"({self.when})")
        return " && ".join(chain) or "true"


@cache
def catalogue() -> tuple[Rule, ...]:
    """Return every rule, by id."""
    folder = resources.files("modelward.rules") / "catalogue"
    files = sorted((file for file in folder.iterdir() if file.name.endswith(".yaml")), key=lambda file: file.name)
    return tuple(msgspec.yaml.decode(file.read_bytes(), type=Rule) for file in files)
