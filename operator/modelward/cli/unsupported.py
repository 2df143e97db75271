"""What manifests declare and the sidecar could not honour, in `modelward check`: the model would never be Ready."""

from __future__ import annotations

from collections.abc import Iterator

from modelward.api.printable import printable
from modelward.planner.anonymity import anonymity_unsupported
from modelward.planner.explanations import explanations_unsupported
from modelward.planner.names import namespace_of
from modelward.planner.unsupported import declared_unsupported
from modelward.rules.check import UNSUPPORTED, Checked, Finding, path_of, who
from modelward.rules.judge import policy_name


def judge_support(checked: Checked) -> Iterator[Finding]:
    """Yield a warning for each such field that no rule of the catalogue and no treatment is about."""
    for document, md in checked.deployments:
        governing = checked.governing.get(f"{namespace_of(md)}/{md.metadata.name}", ())
        policies = [one for one in checked.policies if policy_name(one) in governing]
        told = (
            *anonymity_unsupported(md, policies),
            *explanations_unsupported(md, policies),
            *declared_unsupported(md),
        )
        for one in told:
            field, _, why = one.partition(" ")
            line = document.line(path_of(field))
            message = printable(f"cannot be honoured {why}")
            yield Finding("warning", printable(document.source), line, who(document), UNSUPPORTED, field, message)
