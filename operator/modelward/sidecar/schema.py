"""Bodies of the inference protocols, checked against the declared inputs and written anew.

What is forwarded is what was checked: a name that comes twice is refused, and the body is rebuilt from the decoded
values, so an odd encoding or a field that this module does not know cannot reach the model in another reading than
ours.
"""

from collections.abc import Callable, Container, Sequence
from functools import cache
from typing import Annotated, Any, Literal, TypeVar

import msgspec
from msgspec import UNSET, Meta, Raw, UnsetType

from modelward.sidecar import binary, config
from modelward.sidecar.binary import Body
from modelward.sidecar.problems import Refusal
from modelward.sidecar.repeated import refuse_repeated
from modelward.sidecar.tensors import MAX_RANK, Tensor, TensorSpec, quote

Name = Annotated[str, Meta(min_length=1, max_length=256)]
Parameter = bool | int | float | Annotated[str, Meta(max_length=1024)] | None
Parameters = Annotated[dict[Name, Parameter], Meta(max_length=32)]
T = TypeVar("T")


class _Strict(msgspec.Struct, forbid_unknown_fields=True, omit_defaults=True, kw_only=True):
    pass


class _V2Tensor(_Strict):
    name: Name
    shape: Annotated[list[Annotated[int, Meta(ge=0, le=1 << 31)]], Meta(min_length=1, max_length=MAX_RANK)]
    datatype: config.Datatype
    data: Raw = Raw()  # as it came, empty where the data come as bytes; to be written: the checked list, or UNSET
    parameters: Parameters | UnsetType = UNSET


class _V2Wanted(_Strict):
    name: Name
    parameters: Parameters | UnsetType = UNSET


class _V2(_Strict):
    inputs: Annotated[list[_V2Tensor], Meta(min_length=1, max_length=128)]
    id: Annotated[str, Meta(max_length=256)] | UnsetType = UNSET
    parameters: Parameters | UnsetType = UNSET
    outputs: Annotated[list[_V2Wanted], Meta(max_length=128)] | UnsetType = UNSET


class _V2Output(_V2Tensor):
    parameters: Parameters | UnsetType | None = UNSET  # type: ignore[assignment] # KServe writes null where it has none


class _V2Answer(_Strict):
    outputs: Annotated[list[_V2Output], Meta(max_length=128)]
    model_name: str | UnsetType = UNSET
    model_version: str | UnsetType | None = UNSET
    id: str | UnsetType | None = UNSET
    parameters: dict[str, Any] | UnsetType | None = UNSET


class _V1(_Strict):
    instances: Any
    signature_name: Annotated[str, Meta(max_length=256)] | UnsetType = UNSET
    parameters: Parameters | UnsetType = UNSET


class _V1Read(_V1):
    instances: Annotated[list[Raw], Meta(min_length=1)]


class Checked:
    """A body that fits: its tensors, which screening may still change, and how to write it."""

    __slots__ = ("_write", "tensors")

    def __init__(self, tensors: list[Tensor], write: Callable[[list[Tensor]], Body]) -> None:
        self.tensors = tensors
        self._write = write

    @property
    def rows(self) -> int:
        """How many rows the first input has."""
        if not self.tensors:
            return 0
        tensor = self.tensors[0]
        return tensor.shape[0] if tensor.spec.shape[0] == -1 else 1

    def encode(self) -> Body:
        """The body for the model."""
        return self._write(self.tensors)


class Schema:
    """The declared inputs of one configuration, for one protocol."""

    def __init__(
        self,
        protocol: Literal["v1", "v2"],
        inputs: list[config.TensorDeclaration] | None,
        undeclared: Literal["Reject", "Drop"],
    ) -> None:
        specs = [TensorSpec(declared) for declared in inputs or []]
        self.declared = None if inputs is None else {spec.name: spec for spec in specs}
        if self.declared is not None and len(self.declared) != len(specs):
            raise config.ConfigError("two declared inputs have the same name")
        self._drop_undeclared = undeclared == "Drop"
        self.optional: frozenset[str] = frozenset()  # inputs that may be left out: the model does not get them anyway
        self.treated: frozenset[str] = frozenset()  # fields that may not go past their treatment as parameters
        self.check = self._check_v2 if protocol == "v2" else self._check_v1

    check: Callable[[Body], Checked]
    """Check a body: raises Refusal (400 not JSON, 422 does not fit)."""

    # --- V2: {"inputs": [{"name", "shape", "datatype", "data"}]}

    def _check_v2(self, body: Body) -> Checked:
        content, trailer = (body.content, None) if body.json_length is None else body.split()
        request = _decode(_V2_DECODER, content)
        parts = [request, *request.inputs, *(request.outputs or ())]
        _refuse_repeated(content, request.inputs, 1 + (request.id is not UNSET), parts)
        if any([part.parameters for part in parts]):  # noqa: C419 - for so few, a generator costs more than a list
            _refuse_reserved(request)
            self._refuse_treated(*parts)
        kept: list[_V2Tensor] = []
        tensors: list[Tensor] = []
        seen: set[str] = set()
        for entry in request.inputs:
            if entry.name in seen:
                raise Refusal("schema-violation", f"Input {quote(entry.name)} comes twice.")
            seen.add(entry.name)
            raw = _raw(entry, trailer)
            spec = self._spec(entry)
            if spec is None:
                continue
            if entry.datatype != spec.datatype:
                raise spec.refuse(f"the datatype must be {spec.datatype}, not {entry.datatype}.")
            tensors.append(spec.read(entry.data, entry.shape) if raw is None else spec.read_bytes(raw, entry.shape))
            kept.append(entry)
        if trailer is not None:
            trailer.end()
        self._refuse_missing(seen)

        def write(tensors: list[Tensor]) -> Body:
            """What was decoded is what is encoded, with the data as they are by now."""
            rest: list[bytes | memoryview] = []
            for entry, tensor in zip(kept, tensors, strict=True):
                if not tensor.kept:
                    continue
                if tensor.binary:
                    rest.append(tensor.to_bytes())
                    entry.data = UNSET  # type: ignore[assignment] # to be written, see there
                    entry.parameters = dict(entry.parameters or {}) | {binary.SIZE: len(rest[-1])}
                else:
                    entry.data = tensor.data  # type: ignore[assignment]
            request.inputs = [entry for entry, tensor in zip(kept, tensors, strict=True) if tensor.kept]
            head = _ENCODER.encode(request)
            return Body.of(head, rest) if rest else Body(head)

        return Checked(tensors, write)

    def _spec(self, entry: _V2Tensor) -> TensorSpec | None:
        """The declaration that `entry` must fit; None when it is to be dropped."""
        if self.declared is None:
            return _any_tensor(entry.datatype, len(entry.shape))
        spec = self.declared.get(entry.name)
        if spec is None and not self._drop_undeclared:
            raise Refusal(
                "schema-violation", f"Input {quote(entry.name)} is not declared; declared are {self._names()}."
            )
        return spec

    # --- V1: {"instances": [row, ...]}, a row being an array, or an object of input names where there are several

    def _check_v1(self, body: Body) -> Checked:
        if body.json_length is not None:  # what this protocol does not have is not read as if it were not said
            raise Refusal("unsupported-media-type", "The protocol V1 has no binary tensors; send the body as JSON.")
        request = _decode(_V1_DECODER, body.content)
        if self.treated:
            self._refuse_treated(request)
        if self.declared is None:
            refuse_repeated(body.content, _members(request))
            rows = [_decode_any(row) for row in request.instances]
            return Checked([], lambda _: Body(_ENCODER.encode(_v1(request, rows))))
        as_objects = bytes(request.instances[0])[:1] == b"{"
        specs = list(self.declared.values())
        if not as_objects and len(specs) != 1:
            raise Refusal("schema-violation", f"Each instance must be an object with the inputs {self._names()}.")
        columns = self._v1_columns(request.instances) if as_objects else {specs[0].name: request.instances}
        refuse_repeated(body.content, _members(request) + (sum(map(len, columns.values())) if as_objects else 0))
        tensors = [_read_rows(spec, columns[spec.name]) for spec in specs if spec.name in columns]

        def write(tensors: list[Tensor]) -> Body:
            rows = [nested(tensor) for tensor in tensors if tensor.kept]
            names = [tensor.spec.name for tensor in tensors if tensor.kept]
            instances = (
                [dict(zip(names, row, strict=True)) for row in zip(*rows, strict=True)] if as_objects else rows[0]
            )
            return Body(_ENCODER.encode(_v1(request, instances)))

        return Checked(tensors, write)

    def _v1_columns(self, instances: list[Raw]) -> dict[str, list[Raw]]:
        columns: dict[str, list[Raw]] = {name: [] for name in self.declared or ()}
        for index, instance in enumerate(instances):
            row = _decode(_OBJECT_DECODER, instance, f"instances[{index}]")
            self._refuse_missing(row.keys())
            for name, value in row.items():
                if name in columns:
                    columns[name].append(value)
                elif not self._drop_undeclared:
                    raise Refusal(
                        "schema-violation", f"Input {quote(name)} is not declared; declared are {self._names()}."
                    )
        for name in self.optional:
            if 0 < len(columns[name]) < len(instances):
                raise Refusal("schema-violation", f"Input {quote(name)} must be in every instance or in none.")
            if not columns[name]:
                del columns[name]
        return columns

    def _refuse_treated(self, *parts: _V1 | _V2 | _V2Tensor | _V2Wanted) -> None:
        for part in parts:
            for name in part.parameters or ():
                if name in self.treated:
                    detail = f"The parameter {quote(name)} is a field that is treated: send it as an input."
                    raise Refusal("schema-violation", detail)

    def _refuse_missing(self, present: Container[str]) -> None:
        for name in self.declared or ():
            if name not in present and name not in self.optional:
                raise Refusal("schema-violation", f"Input {quote(name)} is missing; declared are {self._names()}.")

    def _names(self) -> str:
        return ", ".join(quote(name) for name in list(self.declared or ())[:16])


def _read_rows(spec: TensorSpec, rows: Sequence[Raw]) -> Tensor:
    """A V1 column of instances as one tensor; the batch axis is the instances'."""
    if spec.shape[0] != -1 or -1 in spec.shape[1:]:
        raise spec.refuse("instances need a declared shape whose first axis, and no other, is -1.")
    return spec.read(b"[" + b",".join(bytes(row) for row in rows) + b"]", [len(rows), *spec.shape[1:]])


def nested(tensor: Tensor) -> list[Any]:
    """A tensor's rows, each an array of its shape, as V1 has them."""
    rows = tensor.data
    for length in reversed(tensor.shape[1:]):
        rows = [rows[start : start + length] for start in range(0, len(rows), length)]
    return rows


def _v1(request: _V1, instances: list[Any]) -> _V1:
    return _V1(instances=instances, signature_name=request.signature_name, parameters=request.parameters)


@cache
def _any_tensor(datatype: config.Datatype, rank: int) -> TensorSpec:
    return TensorSpec(config.TensorDeclaration("undeclared", datatype, [-1] * rank))


class Outputs:
    """The declared outputs of one configuration: what the model may answer (V2)."""

    def __init__(self, outputs: list[config.TensorDeclaration]) -> None:
        self._declared = {declared.name: TensorSpec(declared) for declared in outputs}

    def check(self, body: Body) -> None:
        """Return when each output in the answer `body` is declared and fits; a declared one may be absent.

        Raises:
            Refusal: 502; the caller is not told what did not fit.
        """
        try:
            content, trailer = (body.content, None) if body.json_length is None else body.split()
            answer = _decode(_ANSWER_DECODER, content)
            named = (
                1 + (answer.model_name is not UNSET) + (answer.model_version is not UNSET) + (answer.id is not UNSET)
            )
            _refuse_repeated(content, answer.outputs, named, [answer, *answer.outputs])
            for entry in answer.outputs:
                spec = self._declared.get(entry.name)
                if spec is None or entry.datatype != spec.datatype:
                    raise _unfit()
                raw = _raw(entry, trailer)
                if raw is None:
                    spec.elements(entry.data, entry.shape)
                else:
                    spec.read_bytes(raw, entry.shape)
            if trailer is not None:
                trailer.end()
        except Refusal:
            raise _unfit() from None


def _unfit() -> Refusal:
    return Refusal("bad-upstream", "The model's answer does not fit its declared outputs.", reason="upstream-schema")


def _members(*parts: _Strict) -> int:
    """How many members these objects have, with those of their parameters."""
    count = 0
    for part in parts:
        for name in part.__struct_fields__:
            value = getattr(part, name)
            if value is not UNSET and (name != "data" or value):  # no data: they come as bytes
                count += 1 + (len(value) if name == "parameters" and value else 0)
    return count


def _refuse_repeated(content: bytes, tensors: Sequence[_V2Tensor], named: int, parts: Sequence[_Strict]) -> None:
    """Refuse a name that comes twice in one of `parts`, `tensors` among them.

    `named`: how many members the others are known to have. Counting all members takes longer than decoding them did, so
    a message without rare ones is spared it.
    """
    for tensor in tensors:
        named += 4 if tensor.data else 3  # name, shape, datatype, data
    if content.count(b":") > named:
        refuse_repeated(content, _members(*parts))


def _raw(entry: _V2Tensor, trailer: binary.Trailer | None) -> memoryview | None:
    """The bytes of a tensor whose data come after the JSON part; None when they are in it."""
    if trailer is None and not entry.parameters and entry.data:
        return None
    size = binary.size_of(entry.parameters, trailer)
    if (size is None) != bool(entry.data):
        wanted = f"needs `data`, or the parameter `{binary.SIZE}`" if size is None else "has its data twice"
        raise Refusal("schema-violation", f"Tensor {quote(entry.name)} {wanted}.")
    return None if size is None or trailer is None else trailer.take(size)


def _refuse_reserved(request: _V2) -> None:
    if request.parameters:
        binary.refuse_reserved(request.parameters, "binary_data_output")
    for tensor in request.inputs:
        if tensor.parameters:
            binary.refuse_reserved(tensor.parameters, binary.SIZE)
    for wanted in request.outputs or ():
        if wanted.parameters:
            binary.refuse_reserved(wanted.parameters, "binary_data")


_ENUM = "Invalid enum value"


def _decode(decoder: "msgspec.json.Decoder[T]", body: bytes | Raw, where: str = "The body") -> T:
    try:
        try:
            return decoder.decode(body)
        except msgspec.ValidationError as error:
            _ANY_DECODER.decode(body)  # reading ends at the first misfit: is the rest JSON at all?
            refuse_repeated(bytes(body), 0)
            # msgspec names types, fields and positions; of values, those alone that are to be one of a few.
            what, at, place = str(error).rpartition(" - at ")
            if what.startswith(_ENUM):
                what = _ENUM
            detail = f"{where} does not fit the inference protocol: {f'{what}{at}{place}'[:256]}."
            raise Refusal("schema-violation", detail) from None
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        raise Refusal("malformed-json", f"{where} cannot be read as JSON (UTF-8, RFC 8259).") from None


def _decode_any(raw: Raw) -> Any:
    return _decode(_ANY_DECODER, raw, "An instance")


_V2_DECODER = msgspec.json.Decoder(_V2)
_ANSWER_DECODER = msgspec.json.Decoder(_V2Answer)
_V1_DECODER = msgspec.json.Decoder(_V1Read)
_OBJECT_DECODER = msgspec.json.Decoder(dict[Name, Raw])
_ANY_DECODER = msgspec.json.Decoder(Any)
_ENCODER = msgspec.json.Encoder()
