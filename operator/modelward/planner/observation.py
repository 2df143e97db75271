"""What is seen of a model in the cluster, and what keeps it from being made: what its status is computed from."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from modelward.planner.anonymity import Asked
from modelward.planner.consumers import Record
from modelward.planner.monitored import Watch
from modelward.planner.rollout import Rollout, deployment_rollout
from modelward.planner.signatures import Signatures
from modelward.planner.tested import LastTest
from modelward.rules.judge import Verdict


@dataclass(frozen=True)
class Obstacle:
    """Why nothing is made or changed for now: a word for programs, a sentence for people."""

    reason: Literal[
        "ApplyFailed",
        "ReferenceUnusable",
        "AddressNotAllowed",
        "BaselineFitFailed",
        "BaselineFitting",
        "InvalidSpec",
        "NotSupported",
        "PolicyViolation",
        "ReferenceMissing",
        "CertificateInvalid",
        "NameTaken",
        "TargetImmutable",
        "TargetMissing",
        "TargetTaken",
        "TargetUnsuitable",
    ]
    message: str


@dataclass(frozen=True)
class Observation:
    """What was seen of a model in the cluster.

    Attributes:
        verdict: what its policies say of its manifest; None when it could not be judged.
        readiness: what they say of what was seen of it.
        obstacle: what keeps it from being made or changed; None: what was planned was applied.
        deployment: its Deployment as the API server has it, None where there is none.
        target: how far the workload is that is protected instead; None where there is none.
        target_name: kind and name of that workload.
        selector: label selector of its pods, which chooses those of them as well that have no label of modelward's.
        past: Services that lead past the sidecar, a sentence each.
        certificate: who issued the serving certificate, for people; empty where there is none.
        certificate_ends: until when it holds (RFC 3339).
        waiting: why pods are not running, a sentence each.
        unwatched: pods that run without their sidecar.
        probed: pods whose model port was tried from outside.
        reachable: pods whose model port answered.
        test: what is asked and known of its security test.
        watch: what is known of its monitoring.
        signatures: whether its lineage is signed as policies ask.
        anonymity: what policies ask of its requests; None: nothing.
        served: who got its answers; None: its sidecars were not asked since the controller began.
        kept: policies whose auditors alone are told counts of groups.
        words: what such auditors said of them last, as `status.auditorsWords` has it.
        word: the one of these that is heard; None: none that still stands for what is declared.
    """

    verdict: Verdict | None = None
    readiness: Verdict = field(default_factory=Verdict)
    obstacle: Obstacle | None = None
    deployment: dict[str, Any] | None = None
    target: Rollout | None = None
    target_name: dict[str, str] | None = None
    selector: str = ""
    past: tuple[str, ...] = ()
    certificate: str = ""
    certificate_ends: str = ""
    waiting: tuple[str, ...] = ()
    unwatched: tuple[str, ...] = ()
    probed: int = 0
    reachable: tuple[str, ...] = ()
    test: LastTest = field(default_factory=LastTest)
    watch: Watch = field(default_factory=Watch)
    signatures: Signatures = field(default_factory=Signatures)
    anonymity: Asked | None = None
    served: Record | None = None
    kept: tuple[str, ...] = ()
    words: tuple[Mapping[str, Any], ...] = ()
    word: Mapping[str, Any] | None = None

    @property
    def judgement(self) -> Verdict | None:
        """What its policies say in all; None when it could not be judged."""
        return self.verdict + self.readiness if self.verdict else None

    @property
    def rollout(self) -> Rollout | None:
        """How far the workload is, whoever made it; None where there is none."""
        return self.target or (deployment_rollout(self.deployment) if self.deployment else None)
