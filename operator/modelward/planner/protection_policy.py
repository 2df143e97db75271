"""What keeps people from working around the sidecar: ValidatingAdmissionPolicies on everything beside the pod.

None has a parameter, so none depends on modelward's own resources being there. Verbs that RBAC does not know are asked
of the cluster's authorizer: grant `breakglass` on modeldeployments (in a namespace) to whom may look into protected
pods, and `unprotect` on clusterdatapolicies (or modeldeployments) to whom may end a protection.
"""

from __future__ import annotations

from modelward.planner.job_policy import job_policies
from modelward.planner.managed_policy import COLLECTORS, WRITERS, managed_policies, user_in
from modelward.planner.sidecar import PROTECTED_LABEL
from modelward.planner.target_policy import target_policies
from modelward.planner.validating_policy import CONTROLLER, Check, Policy, label_of

_GROUP = "modelward.io"
_MAY_UNPROTECT_CLUSTER = f"authorizer.group('{_GROUP}').resource('clusterdatapolicies').check('unprotect').allowed()"
# Of whichever of the two the request is about.
_MAY_UNPROTECT = (
    f"request.resource.resource == 'clusterdatapolicies' ? {_MAY_UNPROTECT_CLUSTER}"
    f" : authorizer.group('{_GROUP}').resource('modeldeployments').namespace(request.namespace)"
    ".check('unprotect').allowed()"
)
_PROTECTED = {"matchLabels": {PROTECTED_LABEL: "true"}}


def protection_policies() -> list[Policy]:
    """Return the policies on managed objects, protected namespaces and modelward's own resources."""
    return [
        *managed_policies(),
        *job_policies(),
        _protected_network(),
        _breakglass(),
        _unprotect_namespace(),
        _unprotect(),
        _baseline(),
        _held_models(),
        *target_policies(),
        _orphans(),
        _owners(),
        _status(),
    ]


def _protected_network() -> Policy:
    """Services, their addresses and NetworkPolicies add up, so one more could lead past the sidecar."""
    return Policy(
        name="modelward-protected-network",
        operations=["CREATE", "UPDATE"],
        resources=[
            ("", ["services", "endpoints"]),
            ("discovery.k8s.io", ["endpointslices"]),
            ("networking.k8s.io", ["networkpolicies"]),
        ],
        matches={"namespaceSelector": _PROTECTED},
        checks=[
            Check(
                # system:apiserver keeps the Service `kubernetes` of the namespace `default`.
                user_in((*WRITERS, "system:apiserver")),
                "in a protected namespace modelward's controller alone makes Services and NetworkPolicies, and the "
                "cluster's alone their endpoints. Fix: call "
                "the model by the Service of its ModelDeployment, or use a namespace that is not protected",
            )
        ],
    )


def _breakglass() -> Policy:
    """CONNECT shows no pod labels: by namespace, then."""
    return Policy(
        name="modelward-breakglass",
        operations=["CONNECT", "UPDATE"],
        resources=[
            ("", ["pods/exec", "pods/attach", "pods/portforward", "pods/proxy", "pods/ephemeralcontainers"]),
        ],
        matches={"namespaceSelector": _PROTECTED},
        checks=[
            Check(
                f"authorizer.group('{_GROUP}').resource('modeldeployments').namespace(request.namespace)"
                ".check('breakglass').allowed()",
                "exec, attach, port-forward, proxy and ephemeral containers reach past the sidecar of a protected "
                "pod. Fix: ask for a Role with the verb breakglass on modeldeployments.modelward.io in this namespace",
            )
        ],
        audit={"access": "request.userInfo.username + ' ' + request.subResource + ' ' + request.name"},
    )


def _unprotect_namespace() -> Policy:
    return Policy(
        name="modelward-unprotect-namespace",
        operations=["UPDATE"],
        resources=[("", ["namespaces", "namespaces/status", "namespaces/finalize"])],
        matches={"objectSelector": _PROTECTED},
        checks=[
            Check(
                f"{label_of('oldObject', PROTECTED_LABEL)} != 'true' || {label_of('object', PROTECTED_LABEL)} == 'true'"
                f" || {_MAY_UNPROTECT_CLUSTER}",
                f"taking the label {PROTECTED_LABEL} off a namespace ends its protection. Fix: ask for a ClusterRole "
                "with the verb unprotect on clusterdatapolicies.modelward.io",
            )
        ],
    )


def _unprotect() -> Policy:
    """Deleting these leaves something running that nothing watches; deleting other ModelDeployments ends their pods."""
    return Policy(
        name="modelward-unprotect",
        operations=["DELETE"],
        resources=[(_GROUP, ["clusterdatapolicies", "modeldeployments"])],
        conditions={
            "someone-else": f"!({user_in((CONTROLLER, *COLLECTORS))})",
            "baseline-or-target": "request.resource.resource == 'clusterdatapolicies'"
            " ? oldObject.metadata.name == 'baseline' : has(oldObject.spec.targetRef)",
        },
        checks=[
            Check(
                _MAY_UNPROTECT,
                "deleting the policy baseline, or a ModelDeployment with targetRef, leaves models running unprotected."
                " Fix: ask for a role with the verb unprotect on this resource of modelward.io",
            )
        ],
    )


def _baseline() -> Policy:
    """Hollowing `baseline` out is as good as deleting it: Audit for Enforce, a selector that fits nothing."""
    return Policy(
        name="modelward-baseline",
        operations=["UPDATE"],
        resources=[(_GROUP, ["clusterdatapolicies"])],
        conditions={"another-spec": "oldObject.metadata.name == 'baseline' && object.spec != oldObject.spec"},
        checks=[
            Check(
                _MAY_UNPROTECT_CLUSTER,
                "changing the policy baseline may leave models running unprotected. Fix: put stricter demands into a "
                "ClusterDataPolicy of your own, they add up; or ask for a ClusterRole with the verb unprotect on "
                "clusterdatapolicies.modelward.io",
            )
        ],
    )


def _held_models() -> Policy:
    """What counts as a deletion though nothing is deleted, and what is changed while nothing is judged any more."""
    return Policy(
        name="modelward-held-models",
        operations=["UPDATE"],
        resources=[(_GROUP, ["modeldeployments"])],
        conditions={"spec-changed": "object.spec != oldObject.spec"},
        checks=[
            Check(
                "!has(oldObject.spec.targetRef)"
                " || (has(object.spec.targetRef) && object.spec.targetRef == oldObject.spec.targetRef)"
                f" || authorizer.group('{_GROUP}').resource('modeldeployments').namespace(request.namespace)"
                ".name(request.name).check('unprotect').allowed()",
                "naming another workload in spec.targetRef leaves the present one running unprotected. Fix: ask for a "
                "role with the verb unprotect on modeldeployments.modelward.io, or make another ModelDeployment",
            ),
            Check(
                "!has(object.metadata.deletionTimestamp)",
                "the ModelDeployment is being deleted, and its spec is judged no more. Fix: wait until it is gone, and "
                "create it anew",
            ),
        ],
    )


def _orphans() -> Policy:
    """A model whose ModelDeployment is gone is judged by no policy any more, and its certificate ends."""
    return Policy(
        name="modelward-orphans",
        operations=["DELETE"],
        resources=[(_GROUP, ["modeldeployments"])],
        checks=[
            Check(
                "(!has(request.options.propagationPolicy) || request.options.propagationPolicy != 'Orphan')"
                " && (!has(request.options.orphanDependents) || !request.options.orphanDependents)"
                # The finalizer says the same as the option, and counts where no option is given.
                " && (!has(oldObject.metadata.finalizers) || !('orphan' in oldObject.metadata.finalizers))",
                "what was made for a ModelDeployment ends with it: orphaned, it would run on with nobody to judge it. "
                "Fix: delete it without --cascade=orphan, and take the finalizer `orphan` out",
            )
        ],
    )


def _owners() -> Policy:
    """The garbage collector deletes what an owner that is gone is said to own, and is asked by nobody."""
    return Policy(
        name="modelward-owners",
        operations=["CREATE", "UPDATE"],
        resources=[(_GROUP, ["clusterdatapolicies", "modeldeployments"])],
        conditions={
            "another-owner": "has(object.metadata.ownerReferences) && (oldObject == null"
            " || !has(oldObject.metadata.ownerReferences)"
            " || object.metadata.ownerReferences != oldObject.metadata.ownerReferences)",
            "baseline-or-target": "request.resource.resource == 'clusterdatapolicies'"
            " ? object.metadata.name == 'baseline' : has(object.spec.targetRef)",
        },
        checks=[
            Check(
                _MAY_UNPROTECT,
                "with an owner, the policy baseline or a ModelDeployment with targetRef would be deleted by the garbage"
                " collector, and models run on unprotected. Fix: leave metadata.ownerReferences out, or ask for a role"
                " with the verb unprotect on this resource of modelward.io",
            )
        ],
    )


def _status() -> Policy:
    """Exceptions and verdicts are read from status: it is the controller's word."""
    return Policy(
        name="modelward-status",
        operations=["UPDATE"],
        resources=[(_GROUP, ["clusterdatapolicies/status", "datapolicies/status", "modeldeployments/status"])],
        checks=[
            Check(
                user_in((CONTROLLER,)),
                "status is written by modelward's controller alone. Fix: change spec; the controller tells in status "
                "what it makes of it",
            )
        ],
    )
