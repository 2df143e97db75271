"""What must exist for a ModelDeployment: a pure function of it, its policies and what it refers to."""

from __future__ import annotations

import base64
import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

from modelward.api.modeldeployment import ModelDeployment
from modelward.api.references import BASELINE_KEY, WEIGHTS_KEY, baseline_reference
from modelward.planner.access import AccessSettings, egress_rules
from modelward.planner.audit import audit_files
from modelward.planner.config_map import Sign, config_map
from modelward.planner.deployment import deployment
from modelward.planner.disruption_budget import disruption_budget
from modelward.planner.explanations import EXPLAINED_WEIGHTS, explained_weights_of
from modelward.planner.in_use import weights_of
from modelward.planner.names import KubeObject
from modelward.planner.network_policy import network_policy
from modelward.planner.references import References
from modelward.planner.secret import ServingCertificate, secret
from modelward.planner.service import service
from modelward.planner.service_account import service_account
from modelward.planner.sidecar import sidecar_container, sidecar_volumes
from modelward.planner.sidecar_config import sidecar_config
from modelward.planner.sidecar_config_error import SidecarConfigError

_MAX_CONTENT_BYTES = 1 << 20  # of a ConfigMap or Secret: Kubernetes' own bound


@dataclass(frozen=True)
class Settings:
    """What an installation decides for all its models.

    Attributes:
        sidecar_image: the sidecar's image, as pods name it.
        config_key: base64 of the public key that signs configurations.
        former_images: images that the sidecar had before; pods with one are watched until they are replaced.
        monitoring_namespaces: namespaces from which metrics may be read.
        access: what it decides about access.
        jobs_image: the image of Jobs; empty: there are none.
    """

    sidecar_image: str
    config_key: str
    former_images: tuple[str, ...] = ()
    monitoring_namespaces: tuple[str, ...] = ("monitoring",)
    access: AccessSettings = field(default_factory=AccessSettings)
    jobs_image: str = ""


@dataclass(frozen=True)
class Material:
    """What cannot be computed from manifests: the serving certificate, the means to sign, and the namespace's keys."""

    certificate: ServingCertificate
    sign: Sign
    keys: bytes = b""


@dataclass(frozen=True)
class Plan:
    """What must exist, in the order in which it is made, and what must not: pairs of kind and name."""

    objects: tuple[KubeObject, ...]
    absent: tuple[tuple[str, str], ...] = ()

    @property
    def configuration(self) -> str:
        """The digest of the sidecar's configuration, by which a sidecar tells which one it goes by."""
        maps = (item for item in self.objects if item["kind"] == "ConfigMap")
        return hashlib.sha256(next(maps)["data"]["config.json"].encode()).hexdigest()


def plan(
    md: ModelDeployment,
    policies: Sequence[dict[str, Any]],
    references: References,
    material: Material,
    settings: Settings,
    *,
    withheld: bool = False,
    port: int | None = None,
    replicas: int | None = None,
) -> Plan:
    """Return everything that must exist for a model that modelward runs, or beside a workload that runs already.

    Args:
        md: the ModelDeployment, admitted, and with all that it refers to at hand.
        policies: those that govern it, as the API server stores them.
        references: the ConfigMaps and Secrets that it names.
        material: certificate, signature and keys.
        settings: what the installation decides.
        withheld: whether callers are kept away for now.
        port: of the model server, where the workload that runs already tells it.
        replicas: how many pods that workload has.

    Raises:
        SidecarConfigError: the sidecar's configuration cannot be made, or is too large for what it lies in.
    """
    config = sidecar_config(
        md, policies, references, port, replicas=replicas, access=settings.access, keys=material.keys
    )
    # The way in is closed and the pods' volumes are there before the first pod is.
    ways_out = egress_rules(md, settings.access)
    closed = network_policy(md, settings.monitoring_namespaces, ways_out, withheld=withheld)
    files = {
        BASELINE_KEY: _baseline(md, references, "ConfigMap"),
        WEIGHTS_KEY: weights_of(md, references),
        EXPLAINED_WEIGHTS: explained_weights_of(md, references),
        **audit_files(policies, references),
    }
    beside = (
        secret(
            md,
            material.certificate,
            material.keys if "keys" in config else b"",
            _baseline(md, references, "Secret"),
        ),
        config_map(md, config, material.sign, files),
        service(md, withheld=withheld),
    )
    _fit_in(*beside[:2])
    if md.spec.model is None:  # what else a workload needs it has already
        return Plan((closed, *beside))
    budget = disruption_budget(md)
    objects = (
        closed,
        service_account(md),
        *beside,
        *((budget,) if budget else ()),
        deployment(md, md.spec.model, runtime(md, settings)),
    )
    return Plan(objects, () if budget else (("PodDisruptionBudget", md.metadata.name),))


def runtime(md: ModelDeployment, settings: Settings) -> str:
    """Return the digest of what the webhook adds to the pods, which are to be replaced when it changes."""
    container = sidecar_container(md.metadata.name, settings.sidecar_image, settings.config_key)
    parts = [container, sidecar_volumes(md.metadata.name)]
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()[:16]


def _fit_in(*items: KubeObject) -> None:
    """Refuse what the API server would, before anything of the plan is made.

    Raises:
        SidecarConfigError: an object holds more than Kubernetes keeps in one.
    """
    for item in items:
        plain, encoded = ("data", "binaryData") if item["kind"] == "ConfigMap" else ("stringData", "data")
        size = sum(len(text.encode()) for text in item.get(plain, {}).values())
        size += sum(len(base64.b64decode(text)) for text in item.get(encoded, {}).values())
        if size > _MAX_CONTENT_BYTES:
            raise SidecarConfigError(
                f"the {item['kind']} {item['metadata']['name']} would hold {size:,} bytes, and Kubernetes keeps"
                f" {_MAX_CONTENT_BYTES:,}: a sidecar's configuration, baseline and weights lie in one ConfigMap, its"
                " certificate and a baseline of a Secret in one Secret. Fit on fewer columns, export a smaller model,"
                " or keep the baseline in a Secret (spec.monitoring.baseline.secretName)"
            )


def _baseline(md: ModelDeployment, references: References, kind: Literal["ConfigMap", "Secret"]) -> bytes | None:
    """The baseline, where it is kept in an object of this kind: it is copied into one of the same."""
    baseline = md.spec.monitoring.baseline if md.spec.monitoring else None
    reference = baseline_reference(baseline) if baseline else None
    if baseline and baseline.dataset and kind == "Secret":
        return references.fitted
    if reference is None or reference.kind != kind:
        return None
    return references.content(reference.kind, reference.name, reference.key)
