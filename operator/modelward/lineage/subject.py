"""What lineage events tell of a model apart from counts: its origin, what it takes, what is done to that, and why."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping, Sequence
from itertools import islice
from typing import Any, Literal, NamedTuple

from modelward.api.lineage import readable
from modelward.lineage.build import treatment_text
from modelward.privacy.effective import Choice, choices, targets
from modelward.rules.judge import policy_name

FitState = Literal["START", "COMPLETE", "FAIL"]
MAX_FIELDS = 2000
"""Fields of one dataset that events tell of; treated ones first."""


class Field(NamedTuple):
    """A column of a request or an answer: its type (Open Inference Protocol), what is done to it, and why.

    `how` is empty where it passes as it is.
    """

    name: str
    datatype: str
    how: str = ""
    why: str = ""
    dropped: bool = False


class Basis(NamedTuple):
    """On what ground data is processed, by a policy: GDPR article 6 (1), article 9 (2), and words of its own."""

    policy: str
    article6: str = ""
    article9: str = ""
    note: str = ""


class Fit(NamedTuple):
    """A baseline that is fitted in the cluster.

    Attributes:
        run: what tells it from other fits of the model.
        dataset: address of the data.
        state: how far it is.
        why: it failed.
        sha256: of what was fitted, hex.
    """

    run: str
    dataset: str
    state: FitState
    why: str = ""
    sha256: str = ""


class Step(NamedTuple):
    """What was changed, how, and why, as the annotation `transformations` tells."""

    what: str
    how: str
    why: str


class Subject(NamedTuple):
    """A model as events tell of it.

    Attributes:
        namespace: of the ModelDeployment.
        name: of the ModelDeployment.
        uid: which tells it from another that had its name before.
        spec: hex SHA-256 of its specification but for how many replicas there are, which autoscalers write.
        declared: the lineage annotations that nothing is wrong with, by their short names.
        steps: what the annotation `transformations` says.
        inputs: the fields of a request; of those past MAX_FIELDS, `unnamed` counts.
        outputs: the fields of an answer.
        unnamed: fields that there is no room for.
        purposes: for which it may be asked.
        bases: on which grounds.
        classifications: of the data, by its policies.
    """

    namespace: str
    name: str
    uid: str
    spec: str
    declared: Mapping[str, str]
    steps: tuple[Step, ...]
    inputs: tuple[Field, ...]
    outputs: tuple[Field, ...]
    unnamed: int
    purposes: tuple[str, ...]
    bases: tuple[Basis, ...]
    classifications: tuple[str, ...]

    @property
    def digest(self) -> str:
        """Hex SHA-256 of all of it: another one is another deployment."""
        return _digest(self)


def subject_of(raw: Mapping[str, Any], policies: Sequence[Mapping[str, Any]]) -> Subject:
    """Return what events tell of a model.

    Args:
        raw: the ModelDeployment, as the API server stores it (camelCase, defaults applied).
        policies: those that govern it, likewise.
    """
    metadata, spec = raw["metadata"], raw["spec"]
    schema = spec.get("schema") or {}
    given = schema.get("inputs") or []
    chosen = choices([dict(policy) for policy in policies], given, lambda _: None)
    inputs, more_inputs = _fields(given, chosen)
    outputs, more_outputs = _fields(schema.get("outputs") or [], chosen)
    declared = readable(metadata.get("annotations") or {})
    rules = (spec.get("access") or {}).get("rules") or []
    return Subject(
        metadata.get("namespace") or "default",
        metadata["name"],
        metadata.get("uid") or "",
        _digest({key: value for key, value in spec.items() if key != "replicas"}),
        declared,
        tuple(Step(one["what"], one["how"], one["why"]) for one in json.loads(declared.get("transformations", "[]"))),
        inputs,
        outputs,
        more_inputs + more_outputs,
        tuple(sorted({purpose for rule in rules for purpose in rule.get("purposes") or ()})),
        tuple(_basis(policy) for policy in policies if policy["spec"].get("legalBasis")),
        tuple(sorted({one["spec"]["classification"] for one in policies if one["spec"].get("classification")})),
    )


def _digest(content: Any) -> str:
    return hashlib.sha256(json.dumps(content, sort_keys=True, default=str).encode()).hexdigest()


def _basis(policy: Mapping[str, Any]) -> Basis:
    said = policy["spec"]["legalBasis"]
    return Basis(
        policy_name(dict(policy)), said.get("article6") or "", said.get("article9") or "", said.get("note") or ""
    )


def _fields(tensors: Iterable[Mapping[str, Any]], chosen: Mapping[str, Choice]) -> tuple[tuple[Field, ...], int]:
    """The fields of some tensors, as many as there is room for, and how many there is none for."""
    treated: dict[str, Field] = {}
    others: dict[str, Field] = {}
    treatments = {name: choice.treatment for name, choice in chosen.items()}
    for tensor in tensors:
        columns = tensor.get("columns") or ()
        done = {one.field: one for one in targets(treatments, tensor["name"], columns)}
        whole = done.get(tensor["name"])
        for name in (tensor["name"],) if whole and whole.offset is None else columns or (tensor["name"],):
            target = done.get(name)
            if target is None:
                others[name] = Field(name, tensor["datatype"])
                continue
            choice = chosen.get(name) or chosen[tensor["name"]]
            how = treatment_text(target.treatment)
            dropped = target.treatment.treatment == "Drop"
            treated[name] = Field(name, tensor["datatype"], how, _why(choice, name), dropped)
    found = {**treated, **{name: field for name, field in others.items() if name not in treated}}
    return tuple(islice(found.values(), MAX_FIELDS)), max(len(found) - MAX_FIELDS, 0)


def _why(choice: Choice, name: str) -> str:
    fields = {one["name"]: one for one in choice.policy["spec"]["fields"]}
    role = (fields.get(name) or next(iter(fields.values()))).get("role", "Feature")
    classification = choice.policy["spec"].get("classification")
    return f"{role}{f' of {classification} data' if classification else ''}, {policy_name(choice.policy)}"
