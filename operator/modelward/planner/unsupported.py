"""What a ModelDeployment and its policies declare and this version cannot honour.

A model that declares any of it is not served: a protection that is declared and not there is worse than none.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from modelward.api.modeldeployment import ModelDeployment
from modelward.planner.anonymity import anonymity_unsupported
from modelward.planner.dataset import DatasetError, read_dataset
from modelward.planner.explanations import explanations_unsupported
from modelward.planner.fairness import fairness_unsupported
from modelward.planner.in_use import in_use_unsupported
from modelward.planner.names import KubeObject
from modelward.planner.security_test import security_test_unsupported
from modelward.planner.tensors import tensor_config
from modelward.planner.treatment import impossible
from modelward.planner.upstream import protocol_of


def unsupported(md: ModelDeployment, policies: Sequence[KubeObject]) -> list[str]:
    """Return every declared field that cannot be honoured, with the reason (and the fix) where it is not plain."""
    wrong = (f"{_who(one.policy)} {one.field} ({one.message})" for one in impossible(md, policies))
    return [
        *_of_model(md),
        *anonymity_unsupported(md, policies),
        *explanations_unsupported(md, policies),
        *wrong,
        *(f"{_who(policy)} {field}" for policy in policies for field in _of_policy(md, policy)),
    ]


def _of_model(md: ModelDeployment) -> Iterator[str]:
    spec = md.spec
    for index, issuer in enumerate(spec.access.issuers if spec.access else ()):
        if not issuer.audiences:
            yield f"spec.access.issuers[{index}].audiences (none: a token for anything would do; name one)"
    yield from _of_monitoring(md)
    yield from declared_unsupported(md)


def declared_unsupported(md: ModelDeployment) -> Iterator[str]:
    """Give what the model's owner declares, no rule of the catalogue is about, and cannot be honoured."""
    yield from in_use_unsupported(md)
    yield from _of_schema(md)
    yield from _of_dataset(md)
    yield from fairness_unsupported(md)
    yield from security_test_unsupported(md)


def _of_dataset(md: ModelDeployment) -> Iterator[str]:
    baseline = md.spec.monitoring.baseline if md.spec.monitoring else None
    if baseline and baseline.dataset:
        try:
            read_dataset(baseline.dataset, md.metadata.annotations)
        except DatasetError as error:
            yield f"spec.monitoring.baseline.dataset ({error})"


def _of_schema(md: ModelDeployment) -> Iterator[str]:
    schema = md.spec.schema_
    if schema is None or protocol_of(md) == "v2":
        return
    if schema.outputs:
        yield "spec.schema.outputs with the protocol v1"
    for index, tensor in enumerate(schema.inputs):
        shape = tensor_config(tensor)["shape"]
        if shape[0] != -1 or -1 in shape[1:]:
            yield f"spec.schema.inputs[{index}].shape with the protocol v1 (the first axis, and no other, must be -1)"


def _of_monitoring(md: ModelDeployment) -> Iterator[str]:
    monitoring = md.spec.monitoring
    if monitoring is None:
        return
    for index, detector in enumerate(monitoring.detectors):
        if detector.type == "Output":  # it looks at answers alone
            continue
        if not monitoring.baseline:
            yield f"spec.monitoring.detectors[{index}] without spec.monitoring.baseline"
        if not md.spec.schema_ or not md.spec.schema_.inputs:
            yield f"spec.monitoring.detectors[{index}] without spec.schema.inputs"
    telemetry = monitoring.telemetry
    if telemetry and telemetry.access_log == "OTLP" and not telemetry.otlp_endpoint:
        yield "spec.monitoring.telemetry.accessLog OTLP without otlpEndpoint"


def _of_policy(md: ModelDeployment, policy: KubeObject) -> Iterator[str]:
    if md.spec.target_ref and policy["spec"].get("onViolation") == "Stop":
        yield "spec.onViolation Stop with spec.targetRef (a workload of somebody else's is not scaled)"


def _who(policy: KubeObject) -> str:
    return f"{policy.get('kind', 'DataPolicy')} {policy['metadata']['name']}"
