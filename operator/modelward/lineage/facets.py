"""Facets of modelward's own in OpenLineage events; docs/reference/lineage has their schemas."""

from __future__ import annotations

from typing import Any

import attr
from openlineage.client.generated.base import JobFacet, RunFacet

SCHEMAS = "https://modelward.io/spec/facets/1-0-0/"
PURPOSE, TRANSFORMATIONS, SERVING = "modelward_purpose", "modelward_transformations", "modelward_serving"


@attr.define
class PurposeJobFacet(JobFacet):
    """Why data is processed: purposes, legal bases, and who is declared to use the answers."""

    purposes: list[str]
    legalBases: list[dict[str, str]]  # noqa: N815
    classifications: list[str]
    consumer: str | None = None

    @staticmethod
    def _get_schema() -> str:
        return SCHEMAS + "PurposeJobFacet.json"


@attr.define
class TransformationsJobFacet(JobFacet):
    """What was changed between the data and the model, how, and why, as the model's owner says."""

    steps: list[dict[str, str]]

    @staticmethod
    def _get_schema() -> str:
        return SCHEMAS + "TransformationsJobFacet.json"


@attr.define
class ServingRunFacet(RunFacet):
    """Counts of one window of serving by one replica: who got answers, and for what purpose. No values."""

    replica: str
    requests: int
    answered: int
    rows: int
    others: int
    unnamedFields: int  # noqa: N815
    consumers: list[dict[str, Any]]

    @staticmethod
    def _get_schema() -> str:
        return SCHEMAS + "ServingRunFacet.json"
