"""CEL, shared by both evaluators, that says when a policy concerns a review at all and what it excuses."""

from __future__ import annotations

LINEAGE_KEYS = ("dataset", "model", "training-run", "transformations", "consumer")
LINEAGE_PREFIX = "lineage.modelward.io/"

NOT_BEING_DELETED = "!has(object.metadata.deletionTimestamp)"

_LABELS_SAME = (
    "(has(object.metadata.labels) ? object.metadata.labels : {}) =="
    " (has(oldObject.metadata.labels) ? oldObject.metadata.labels : {})"
)
_LINEAGE_SAME = " && ".join(
    f"(has(object.metadata.annotations) && '{key}' in object.metadata.annotations"
    f" ? object.metadata.annotations['{key}'] : '') =="
    f" (has(oldObject.metadata.annotations) && '{key}' in oldObject.metadata.annotations"
    f" ? oldObject.metadata.annotations['{key}'] : '')"
    for key in (LINEAGE_PREFIX + name for name in LINEAGE_KEYS)
)
# A tightened policy must not make what runs undeletable, or stop its controllers from writing finalizers.
CHANGED = f"oldObject == null || object.spec != oldObject.spec || !({_LABELS_SAME} && {_LINEAGE_SAME})"

SELECTED = (
    "!has(params.spec.selector) || !has(params.spec.selector.matchLabels) || params.spec.selector.matchLabels.all(k,"
    " has(object.metadata.labels) && k in object.metadata.labels"
    " && object.metadata.labels[k] == params.spec.selector.matchLabels[k])"
)
NAMESPACE_SELECTED = (
    "!has(params.spec.namespaceSelector) || !has(params.spec.namespaceSelector.matchLabels)"
    " || params.spec.namespaceSelector.matchLabels.all(k,"
    " has(namespaceObject.metadata.labels) && k in namespaceObject.metadata.labels"
    " && namespaceObject.metadata.labels[k] == params.spec.namespaceSelector.matchLabels[k])"
)


def governs(enforcement: str, *, cluster: bool) -> str:
    """CEL that is true where a policy is enforced in this way and concerns this object and this change; cheapest first.

    Args:
        enforcement: Enforce, Warn or Audit.
        cluster: whether it is a ClusterDataPolicy.
    """
    enforced = f"has(params.spec.enforcement) && params.spec.enforcement == '{enforcement}'"
    conditions = [enforced, NOT_BEING_DELETED, SELECTED, *([NAMESPACE_SELECTED] if cluster else []), CHANGED]
    return " && ".join(f"({condition})" for condition in conditions)


def excused_rules(*, cluster: bool) -> str:
    """CEL that gives the lists of rule ids that exceptions excuse for this object, now.

    On CREATE the time is the object's own creation time, set by the API server; on UPDATE, where a policy cannot know
    the time, an exception counts while the controller still lists it in `status.activeExceptions`. With the controller
    dead none is added to that list, and one that ends stays on it until the controller is back.
    """
    place = "request.namespace in e.namespaces && " if cluster else ""
    return (
        "has(params.spec.exceptions) ? params.spec.exceptions.filter(e, has(e.names) && has(e.rules)"
        f"{' && has(e.namespaces)' if cluster else ''} && object.metadata.name in e.names && {place}"
        "(oldObject == null"
        " ? timestamp(e.expires) > timestamp(object.metadata.creationTimestamp)"
        " : has(params.status) && has(params.status.activeExceptions) && params.status.activeExceptions.exists(a,"
        " a.expires == e.expires && has(a.rules) && a.rules == e.rules && has(a.names) && a.names == e.names"
        f"{' && has(a.namespaces) && a.namespaces == e.namespaces' if cluster else ''}))"
        ").map(e, e.rules) : []"
    )


def is_excused(rule_id: str) -> str:
    """CEL that is true where the variable `excused` holds this rule."""
    return f"variables.excused.exists(ids, '{rule_id}' in ids)"
