"""What keeps people from taking the marks off a protected workload: ValidatingAdmissionPolicies.

Nobody but the controller changes them, and who may end a protection anyway (the verb `unprotect`). What belongs to
another controller is left out: a framework copies the marks of its own resource, and takes them away when that loses
them.
"""

from __future__ import annotations

from modelward.planner.sidecar import INJECT_LABEL, MODEL_LABEL, PORT_LABEL
from modelward.planner.target_marks import TEMPLATES
from modelward.planner.validating_policy import CONTROLLER, Check, Policy, label_of

_KEYS = (INJECT_LABEL, MODEL_LABEL, PORT_LABEL)
_WORKLOADS = [("apps", ["deployments", "statefulsets", "daemonsets", "replicasets"])]


def target_policies() -> list[Policy]:
    """Return the policies on workloads that `spec.targetRef` names. A Job's pod template is fixed by itself."""
    predictor = "{name}.spec.predictor"
    return [
        _policy("workloads", _WORKLOADS, _template("Deployment")),
        _policy("cronjobs", [("batch", ["cronjobs"])], _template("CronJob")),
        _policy("inferenceservices", [("serving.kserve.io", ["inferenceservices"])], predictor),
        _seldon(),
    ]


def _template(kind: str) -> str:
    return ".".join(("{name}", *map(str, TEMPLATES[kind]), "metadata"))


def _policy(suffix: str, resources: list[tuple[str, list[str]]], labelled: str) -> Policy:
    """A policy on workloads whose pods' labels are at one place; `labelled` is CEL for what has them."""
    old, new = (labelled.format(name=name) for name in ("oldObject", "object"))
    kept = " && ".join(f"({_label(old, key)} == '' || {_label(new, key)} == {_label(old, key)})" for key in _KEYS)
    return _named(suffix, resources, kept)


def _seldon() -> Policy:
    marked = f"p, {_label('p', MODEL_LABEL)} == {label_of('oldObject', MODEL_LABEL)}"
    kept = f"!oldObject.spec.predictors.all({marked}) || object.spec.predictors.all({marked})"
    return _named("seldondeployments", [("machinelearning.seldon.io", ["seldondeployments"])], kept)


def _named(suffix: str, resources: list[tuple[str, list[str]]], kept: str) -> Policy:
    owners = "object.metadata.ownerReferences"
    owned = f"has({owners}) && {owners}.exists(o, has(o.controller) && o.controller)"
    mine = f"{label_of('object', MODEL_LABEL)} == {label_of('oldObject', MODEL_LABEL)}"
    return Policy(
        name=f"modelward-marks-{suffix}",
        operations=["UPDATE"],
        resources=resources,
        matches={"objectSelector": {"matchExpressions": [{"key": MODEL_LABEL, "operator": "Exists"}]}},
        conditions={
            "someone-else": f"request.userInfo.username != '{CONTROLLER}'",
            "marked-before": f"{label_of('oldObject', MODEL_LABEL)} != ''",
            "its-own": f"!({owned})",
        },
        checks=[
            Check(
                f"({mine} && ({kept})) || authorizer.group('modelward.io').resource('modeldeployments')"
                ".namespace(request.namespace).check('unprotect').allowed()",
                f"the labels {', '.join(_KEYS)} of the pod template, and {MODEL_LABEL} of the workload, are what it is "
                "protected by. Fix: leave them in; to end the protection delete the ModelDeployment, for which you "
                "need the verb unprotect on modeldeployments.modelward.io in this namespace",
            )
        ],
    )


def _label(labelled: str, key: str) -> str:
    """CEL for a label of the pods; an empty string where it is not there."""
    return f"(has({labelled}.labels) && '{key}' in {labelled}.labels ? {labelled}.labels['{key}'] : '')"
