"""The pods of modelward's own Jobs: ValidatingAdmissionPolicies on the label that tells them from all others.

In a protected namespace every pod needs a sidecar but these. So the label may be had in one way alone: the controller
writes a Job whose template has it, and the cluster's Job controller makes the pod.
"""

from __future__ import annotations

from modelward.planner.managed_policy import COLLECTORS, user_in
from modelward.planner.sidecar import INJECT_LABEL, JOB_FOR_LABEL, JOB_LABEL, MODEL_LABEL
from modelward.planner.validating_policy import CONTROLLER, OUTSIDE_SYSTEM_NAMESPACES, Check, Policy, label_of

_JOB_CONTROLLER = (COLLECTORS[0], "system:serviceaccount:kube-system:job-controller")
_FIX = f"Fix: leave the label {JOB_LABEL} out"
_HAS_IT = {"matchExpressions": [{"key": JOB_LABEL, "operator": "Exists"}]}


def job_policies() -> list[Policy]:
    """Return the policies on pods of modelward's own Jobs, and on the templates that would make some."""
    return [_new_pods(), _running_pods(), _templates()]


def _new_pods() -> Policy:
    return Policy(
        name="modelward-job-pods",
        operations=["CREATE"],
        resources=[("", ["pods"])],
        matches={"objectSelector": _HAS_IT, "namespaceSelector": OUTSIDE_SYSTEM_NAMESPACES},
        checks=[
            Check(
                user_in(_JOB_CONTROLLER),
                f"a pod with the label {JOB_LABEL} runs a Job of modelward's, and is made by its Job alone. {_FIX}",
            ),
            Check(
                f"{label_of('object', MODEL_LABEL)} == '' && {label_of('object', INJECT_LABEL)} == ''",
                f"a pod with the label {JOB_LABEL} is no model's pod. {_FIX}, or the labels {MODEL_LABEL} and "
                f"{INJECT_LABEL}",
            ),
        ],
    )


def _running_pods() -> Policy:
    """NetworkPolicies choose by these labels: with them a pod could be reached, or get out, as it should not."""
    same = " && ".join(f"{label_of('object', k)} == {label_of('oldObject', k)}" for k in (JOB_LABEL, JOB_FOR_LABEL))
    return Policy(
        name="modelward-running-job-pods",
        operations=["UPDATE"],
        resources=[("", ["pods", "pods/status", "pods/resize", "pods/ephemeralcontainers"])],
        matches={"objectSelector": _HAS_IT, "namespaceSelector": OUTSIDE_SYSTEM_NAMESPACES},
        checks=[
            Check(
                f"{same} && {label_of('object', MODEL_LABEL)} == {label_of('oldObject', MODEL_LABEL)}",
                f"the labels {JOB_LABEL} and {JOB_FOR_LABEL} of a running pod may be neither given, changed nor taken "
                "away, and it is no model's. Fix: leave them as they are",
            ),
            Check(
                "!has(request.subResource) || request.subResource != 'ephemeralcontainers'",
                "an ephemeral container could read the data that a baseline is fitted on, or the tokens of a security "
                "test. Fix: see the Job's own message with `kubectl describe`",
            ),
        ],
    )


def _templates() -> Policy:
    """The cluster's Job controller makes pods for anyone who writes a Job."""
    labels = "object.spec.template.metadata.labels"
    return Policy(
        name="modelward-job-templates",
        operations=["CREATE", "UPDATE"],
        resources=[("batch", ["jobs"])],
        matches={"namespaceSelector": OUTSIDE_SYSTEM_NAMESPACES},
        conditions={
            "makes-pods-of-modelwards": f"has(object.spec.template.metadata) && has({labels})"
            f" && '{JOB_LABEL}' in {labels}"
        },
        checks=[
            Check(
                user_in((CONTROLLER, *COLLECTORS, *_JOB_CONTROLLER)),
                f"a Job whose pods have the label {JOB_LABEL} is modelward's controller's to write. {_FIX}",
            )
        ],
    )
