"""Treats what comes back: a field that the policies treat is treated in the model's answer as well.

A value that was sent to the model treated and comes back as it was sent passes: a pseudonym is not made of a pseudonym.
Anything else of that field is treated. Where that cannot be done, nothing of it is told.
"""

import math
from collections.abc import Callable, Container, Mapping, Sequence
from typing import Any

import msgspec

from modelward.privacy.compiled import CannotTreatError, Treat, compiled, neutral
from modelward.privacy.effective import targets
from modelward.privacy.keys import Keys
from modelward.privacy.spec import Treatment
from modelward.privacy.tokens import TokenError
from modelward.privacy.values import TreatmentError
from modelward.sidecar import binary, config
from modelward.sidecar.binary import Body
from modelward.sidecar.problems import Refusal
from modelward.sidecar.repeated import refuse_repeated
from modelward.sidecar.tensors import Tensor

_MAX_DEPTH = 8
_Sent = Callable[[str], Container[Any]]


class Answers:
    """The treatments of one configuration, for the answers of its model."""

    def __init__(self, settings: config.Config, keys: Keys | None) -> None:
        self._fields = settings.fields
        self._keys = keys
        self._namespace = settings.binding.namespace
        self._columns = {tensor.name: tensor.columns for tensor in settings.outputs or ()}
        self._inputs = settings.inputs or ()
        self._v2 = settings.upstream.protocol == "v2"
        self._compiled: dict[tuple[int, str, str], Treat] = {}
        # Declared outputs are all that passes: whether one of them is treated is known beforehand.
        self.concerned = settings.outputs is None or any(
            targets(settings.fields, tensor.name, tensor.columns) for tensor in settings.outputs
        )

    def treat(self, body: Body, tensors: Sequence[Tensor]) -> Body:
        """The answer `body`, treated; the very same where no field of it is. `tensors` are those of the request.

        Raises:
            Refusal: 502; the answer is not JSON, or not of the protocol.
        """
        sent = _Echo(tensors, self._inputs).values
        try:
            content, trailer = body.split()
            answer = _DECODER.decode(content)
            if not isinstance(answer, dict):
                raise _unfit()
            by_name = self._v2 and "outputs" in answer  # an explanation may have another form
            refuse_repeated(content, len(answer) + sum(map(len, answer["outputs"])) if by_name else 0)
            rest: list[bytes | memoryview] = []
            changed = self._outputs(answer, trailer, sent, rest) if by_name else self._walk(answer, sent, _MAX_DEPTH)
            if trailer is not None:
                trailer.end()
            return Body.of(_ENCODER.encode(answer), rest) if changed else body
        except (
            Refusal, msgspec.MsgspecError, UnicodeDecodeError, RecursionError, KeyError, TypeError, ValueError,
            AttributeError, binary.UnfitError,
        ):  # fmt: skip
            raise _unfit() from None

    # --- V2: outputs by name, their columns as they are declared

    def _outputs(
        self, answer: dict[str, Any], trailer: binary.Trailer | None, sent: _Sent, rest: list[bytes | memoryview]
    ) -> bool:
        """Whether anything was treated; `rest` gets the data of the outputs that are kept and came as bytes."""
        changed = False
        kept = []
        for part in (answer, *answer["outputs"]):
            if part.get("parameters"):
                changed |= self._walk(part["parameters"], sent, _MAX_DEPTH)
        for output in answer["outputs"]:
            size = binary.size_of(output.get("parameters"), trailer)
            raw = None if size is None or trailer is None else trailer.take(size)
            if raw is not None and "data" in output:
                raise _unfit()
            columns = self._columns.get(output["name"], ())
            found = targets(self._fields, output["name"], columns)
            if any(target.offset is None and target.treatment.treatment == "Drop" for target in found):
                changed = True
                continue
            kept.append(output)
            if found:
                data = _flat(output["data"]) if raw is None else _from_bytes(output, raw)
                for offset, field, treatment in found:
                    window = slice(offset or 0, None, 1 if offset is None else len(columns))
                    values = data[window]
                    data[window] = [self._value(treatment, field, output["datatype"], one, sent) for one in values]
                changed = True
                if raw is None:
                    output["data"] = data
                else:
                    raw = memoryview(binary.to_bytes(output["datatype"], data))
                    output["parameters"][binary.SIZE] = len(raw)
            if raw is not None:
                rest.append(raw)
        answer["outputs"] = kept
        return changed

    # --- V1: whatever has a field's name, wherever it is

    def _walk(self, node: Any, sent: _Sent, depth: int) -> bool:
        if not depth:
            raise _unfit()
        if isinstance(node, list):
            return sum(self._walk(item, sent, depth - 1) for item in node if isinstance(item, list | dict)) > 0
        changed = False
        for name in list(node):
            treatment = self._fields.get(name)
            if treatment is None:
                if isinstance(node[name], list | dict):
                    changed |= self._walk(node[name], sent, depth - 1)
            elif treatment.treatment == "Drop":
                del node[name]
                changed = True
            else:
                node[name] = self._nested(treatment, name, node[name], sent, depth - 1)
                changed = True
        return changed

    def _nested(self, treatment: Treatment, field: str, node: Any, sent: _Sent, depth: int) -> Any:
        if isinstance(node, list) and depth:
            return [self._nested(treatment, field, item, sent, depth - 1) for item in node]
        datatype = _DATATYPES.get(type(node))
        return None if datatype is None else self._value(treatment, field, datatype, node, sent)

    def _value(self, treatment: Treatment, field: str, datatype: str, value: Any, sent: _Sent) -> Any:
        if isinstance(value, str) and value in sent(field):
            return value
        try:
            treat = self._compiled.get((id(treatment), field, datatype))
            if treat is None and treatment.treatment not in ("DateShift", "Drop"):  # whose date it is, nobody says
                treat = compiled(treatment, field, datatype, self._keys, self._namespace)
                self._compiled[id(treatment), field, datatype] = treat
            if treat is not None:
                return treat(value)
        except (CannotTreatError, TokenError, TreatmentError):
            pass
        return neutral(datatype)


class _Echo:
    """What was sent to the model of each field, in the form that it was sent in."""

    def __init__(self, tensors: Sequence[Tensor], inputs: Sequence[config.TensorDeclaration]) -> None:
        self._tensors: Mapping[str, Tensor] = {tensor.spec.name: tensor for tensor in tensors if tensor.kept}
        self._inputs = inputs
        self._known: dict[str, Container[Any]] = {}

    def values(self, field: str) -> Container[Any]:
        """The values of `field` in the request as the model got it."""
        found = self._known.get(field)
        if found is None:
            found = self._known[field] = self._find(field)
        return found

    def _find(self, field: str) -> Container[Any]:
        for declared in self._inputs:
            tensor = self._tensors.get(declared.name)
            if tensor is not None and declared.name == field:
                return set(tensor.data)
            if tensor is not None and field in declared.columns:
                return set(tensor.data[declared.columns.index(field) :: len(declared.columns)])
        return ()


def _flat(data: Any) -> list[Any]:
    flat = list(data)
    for _ in range(_MAX_DEPTH):
        if not any(isinstance(item, list) for item in flat):
            return flat
        flat = [element for row in flat for element in row]
    raise _unfit()


def _from_bytes(output: Mapping[str, Any], raw: memoryview) -> list[Any]:
    count = math.prod(output["shape"])
    if output["datatype"] == "BYTES":
        return binary.Texts(raw, count).tolist()
    elements: list[Any] = binary.numbers(output["datatype"], raw, count).tolist()
    return elements


def _unfit() -> Refusal:
    return Refusal(
        "bad-upstream",
        "The model's answer could not be read, so its fields could not be treated.",
        reason="upstream-schema",
    )


_DATATYPES = {str: "BYTES", bool: "BOOL", int: "INT64", float: "FP64"}
_DECODER = msgspec.json.Decoder()
_ENCODER = msgspec.json.Encoder()
