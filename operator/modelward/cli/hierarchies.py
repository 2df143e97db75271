"""Hierarchies among the files of `modelward check`: an error where one cannot be used, a note where it is not there."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from modelward.api.manifest import Document
from modelward.api.printable import printable
from modelward.api.references import HIERARCHY_KEY
from modelward.planner.references import References, hierarchies_among
from modelward.planner.sidecar import SYSTEM_NAMESPACE
from modelward.privacy.effective import Policy
from modelward.privacy.hierarchy import HierarchyError, read_hierarchy
from modelward.rules.check import REFERENCE, Finding, Level, who
from modelward.rules.judge import policy_name


def judge_hierarchies(documents: Sequence[Document], policies: Sequence[Policy]) -> Iterator[Finding]:
    """Yield what is wrong with the hierarchies that the policies' fields name.

    Args:
        documents: all of the files.
        policies: those among them that can be read, as they are stored.
    """
    kept = References(hierarchies=hierarchies_among(document.data for document in documents))
    there = {_place(document.data): document for document in documents}
    for policy in policies:
        document = there.get(_place(policy))
        for index, field in enumerate(policy["spec"].get("fields", ()) if document else ()):
            if document is not None and field.get("hierarchy"):
                yield from _judged(document, policy, index, kept)


def _judged(document: Document, policy: Policy, index: int, kept: References) -> Iterator[Finding]:
    field = policy["spec"]["fields"][index]
    name, where = field["hierarchy"], f"spec.fields[{index}].hierarchy"

    def finding(level: Level, message: str, fix: str = "") -> Finding:
        line = document.line(("spec", "fields", index, "hierarchy"))
        source = printable(document.source)
        return Finding(
            level, source, line, who(document), REFERENCE, where, printable(message), fix, policy_name(policy)
        )

    text = kept.hierarchy(name)
    if text is None:
        place = f"ConfigMap {SYSTEM_NAMESPACE}/{name} with {HIERARCHY_KEY}"
        yield finding("note", f"{place} is not among these files: fine if the cluster has it")
        return
    try:
        read_hierarchy(text, field.get("level") or 1)
    except HierarchyError as error:
        fix = "Write a value and its groups on each line, the finest first, separated by `;`, as many on each."
        yield finding("error", f"{name}: {error}", fix)


def _place(item: Policy) -> tuple[str, str, str]:
    metadata = item.get("metadata")
    metadata = metadata if isinstance(metadata, dict) else {}
    namespace = "" if item.get("kind") == "ClusterDataPolicy" else metadata.get("namespace") or "default"
    return str(item.get("kind")), str(namespace), str(metadata.get("name"))
