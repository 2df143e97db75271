"""A tensor of a schema, as the sidecar has it. `modelward check` reads it too, and waits for no numpy."""

from __future__ import annotations

from typing import Any

from modelward.api.schema import Tensor


def tensor_config(tensor: Tensor) -> dict[str, Any]:
    """Return one tensor of `inputs` or `outputs`; -1 in its shape is any length."""
    shape = list(tensor.shape)
    if tensor.columns and shape[-1] == -1:  # the columns say how many there are
        shape[-1] = len(tensor.columns)
    out = tensor.model_dump(mode="json", by_alias=True, exclude_none=True, exclude={"role"})
    return {**out, "shape": shape}
