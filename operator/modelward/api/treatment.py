"""How a policy has an input or column treated on its way to the model and into records."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import ConfigDict, Field

from modelward.api.base import FieldName, ObjectName, Part, cel
from modelward.api.schema import Role


class FieldTreatment(Part):
    """How one field is treated on its way to the model and into records (names of ISO/IEC 20889)."""

    model_config = ConfigDict(
        json_schema_extra=cel(
            (
                "self.treatment != 'Generalise' || has(self.step) != has(self.hierarchy)",
                "Generalise needs step (the width of an interval) or hierarchy (a ConfigMap), and not both",
            ),
            (
                "self.treatment != 'Bucket' || (has(self.edges) && size(self.edges) > 0)",
                "Bucket needs edges, rising numbers",
            ),
            ("self.treatment != 'Round' || has(self.digits)", "Round needs digits, as many as stay after the point"),
            ("self.treatment != 'DateShift' || has(self.maxDays)", "DateShift needs maxDays, the largest shift"),
        )
    )

    name: FieldName = Field(description="The input or column that is treated. Example: age.")
    role: Role = Field(
        default="Feature",
        description="What it says about a person: Identifier names one, QuasiIdentifier does with others,"
        " Sensitive must not leak.",
    )
    treatment: Literal[
        "Keep", "Drop", "Pseudonymise", "Tokenise", "Generalise", "Mask", "Bucket", "Round", "DateShift"
    ] = Field(
        default="Keep",
        description="What is done with it on its way to the model and into records; some treatments have a"
        " setting below.",
    )
    step: float | None = Field(
        default=None,
        gt=0,
        description="For Generalise: width of an interval. Example: 5 makes 43 the interval from 40 to 45.",
    )
    hierarchy: ObjectName | None = Field(
        default=None,
        description="For Generalise: name of a ConfigMap in modelward-system with a hierarchy of values under"
        " hierarchy.csv: a value and its groups a line, the finest first, separated by `;`.",
    )
    level: int = Field(
        default=1, ge=1, le=16, description="For Generalise: which level of the hierarchy; 1 is the finest."
    )
    keep_last: int | None = Field(
        default=None, ge=0, le=64, description="For Mask: how many characters at the end stay readable. Example: 4."
    )
    identifiers: bool = Field(
        default=False,
        description="For Mask: of free text, mask only what is recognised as an identifier (cards, IBANs, e-mail"
        " and IP addresses, national and telephone numbers), or as an age or a postcode by the words beside it, each by"
        " its kind, as in [e-mail]; the rest stays.",
    )
    edges: Annotated[list[float], Field(max_length=128)] = Field(
        default=[], description="For Bucket: the edges between buckets, rising. Example: [18, 40, 65]."
    )
    digits: int | None = Field(
        default=None,
        ge=-12,
        le=12,
        description="For Round: digits after the point; negative ones round before it. Example: -1 makes 43 into 40.",
    )
    max_days: int | None = Field(default=None, ge=1, le=36525, description="For DateShift: the largest shift, in days.")
    subject: FieldName | None = Field(
        default=None,
        description="For DateShift: the field that tells whose date it is. Not given: the first field, or else input,"
        " with the role Identifier.",
    )
