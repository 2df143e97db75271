"""What a model takes and gives: its tensors, and what each says about a person."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import ConfigDict, Field

from modelward.api.base import FieldName, Part, cel

Datatype = Literal[
    "BOOL", "UINT8", "UINT16", "UINT32", "UINT64", "INT8", "INT16", "INT32", "INT64", "FP16", "FP32", "FP64", "BYTES"
]
Role = Literal["Identifier", "QuasiIdentifier", "Sensitive", "Feature"]


class Tensor(Part):
    """One input or output of the model, in the words of the Open Inference Protocol."""

    model_config = ConfigDict(
        json_schema_extra=cel(
            ("!has(self.minimum) || !has(self.maximum) || self.minimum <= self.maximum", "minimum is above maximum"),
            (
                "!has(self.columns) || size(self.columns) == 0 || self.shape[size(self.shape) - 1] == -1"
                " || size(self.columns) == self.shape[size(self.shape) - 1]",
                "columns must name as many columns as the last dimension of shape",
            ),
        )
    )

    name: FieldName = Field(description="Name of the tensor as requests give it. Example: features.")
    datatype: Datatype = Field(
        description="Datatype of its elements, in the words of the Open Inference Protocol. Example: FP64."
    )
    shape: Annotated[list[Annotated[int, Field(ge=-1, le=1_000_000_000)]], Field(min_length=1, max_length=8)] = Field(
        description="Its dimensions; -1 is any, usually the batch. Example: [-1, 30]."
    )
    columns: Annotated[list[FieldName], Field(max_length=1024)] = Field(
        default=[],
        description="Names of the last dimension's columns; treatments and reasons speak of them. Example: [age,"
        " weight].",
    )
    minimum: float | None = Field(
        default=None,
        description="Smallest value allowed, in every column; a request with a smaller one is refused. Not given: any.",
    )
    maximum: float | None = Field(
        default=None,
        description="Largest value allowed, in every column; a request with a larger one is refused. Not given: any.",
    )
    role: Role | None = Field(
        default=None,
        description="What it says about a person: Identifier names one, QuasiIdentifier does with others,"
        " Sensitive must not leak.",
    )


class Schema(Part):
    """What the model takes and gives. No outputs declared: any output passes."""

    inputs: Annotated[list[Tensor], Field(max_length=128)] = Field(
        default=[],
        description="The model's inputs, which each request is checked against. The policy's undeclaredFields"
        " says what becomes of others.",
    )
    outputs: Annotated[list[Tensor], Field(max_length=128)] = Field(
        default=[], description="The model's outputs; none declared: any output passes."
    )
