"""Column lineage: what became of each field of a request on its way to the model, and of the model's answers.

What became of a field is told twice: in `transformations`, and in the two texts that they replace since the facet's
version 1-1-0, for those are all that Marquez 0.51 shows.
"""

from __future__ import annotations

from collections.abc import Sequence

from openlineage.client.generated.column_lineage_dataset import (
    ColumnLineageDatasetFacet,
    Fields,
    InputField,
    Transformation,
)

from modelward.lineage.subject import MAX_FIELDS, Field

Name = tuple[str, str]
"""A dataset's namespace and name."""


def of_features(inputs: Sequence[Field], requests: Name, producer: str) -> ColumnLineageDatasetFacet:
    """What the model gets of each field that callers send in the dataset `requests`.

    A treatment that leaves the value itself behind is `masking`; what is dropped reaches no field, and is told of for
    the dataset as a whole.
    """
    fields, dropped = {}, []
    for one in inputs:
        if one.dropped:
            dropped.append(InputField(*requests, one.name, [_treated(one, "INDIRECT", "FILTER")]))
        elif one.how:
            step = _treated(one, "DIRECT", "TRANSFORMATION")
            fields[one.name] = Fields([InputField(*requests, one.name, [step])], step.description, "MASKED")
        else:
            step = Transformation("DIRECT", "IDENTITY", "", masking=False)
            fields[one.name] = Fields([InputField(*requests, one.name, [step])], "as it is sent", "IDENTITY")
    return ColumnLineageDatasetFacet(fields, dropped, producer=producer)


def of_answers(
    outputs: Sequence[Field], inputs: Sequence[Field], features: Name, producer: str
) -> ColumnLineageDatasetFacet:
    """What each field of an answer comes of: everything that the model gets in the dataset `features`.

    Where every field by every other were more than `MAX_FIELDS`, it is told once for the dataset as a whole.
    """
    kept = [one.name for one in inputs if not one.dropped]
    scored = Transformation("DIRECT", "TRANSFORMATION", "the model's answer", masking=False)
    if len(outputs) * len(kept) > MAX_FIELDS:
        return ColumnLineageDatasetFacet(
            {}, [InputField(*features, name, [scored]) for name in kept], producer=producer
        )
    fields = {}
    for one in outputs:
        steps = [scored, _treated(one, "DIRECT", "TRANSFORMATION")] if one.how else [scored]
        told = ", ".join(step.description or "" for step in steps)
        fields[one.name] = Fields([InputField(*features, name, steps) for name in kept], told)
    return ColumnLineageDatasetFacet(fields, producer=producer)


def _treated(field: Field, kind: str, subtype: str) -> Transformation:
    return Transformation(kind, subtype, f"{field.how} ({field.why})", masking=True)
