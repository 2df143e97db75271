"""Between a request's tensors and a baseline's rows: where each column lies, and how its values are encoded."""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from modelward.detect.baseline import Baseline
from modelward.detect.encoding import UNSEEN, Array, Column
from modelward.sidecar.config import ConfigError
from modelward.sidecar.problems import Refusal
from modelward.sidecar.tensors import Tensor, TensorSpec


class Source(NamedTuple):
    """Where a column of the baseline lies: element `offset` of each row of input `name`."""

    name: str
    offset: int


class Subject(NamedTuple):
    """One row of a request: encoded (d,), and its tensors by name, of one row each."""

    row: Array
    tensors: Mapping[str, Tensor]


class Columns:
    """The columns of one baseline in the inputs of one schema. `whole`: they are just one input's, all and in order.

    `names`: what the schema calls them, where it does, otherwise what the baseline does; `as_taken`: the same as the
    model takes them, in order.

    Raises:
        ConfigError: they do not fit one another.
    """

    def __init__(self, baseline: Baseline, declared: Mapping[str, TensorSpec]) -> None:
        self._columns = baseline.encoding.columns
        self._sources = _locate(baseline, declared)
        self._inputs = frozenset(at.name for at in self._sources)
        named = [declared[at.name].columns for at in self._sources]
        pairs = zip(self._sources, named, baseline.columns, strict=True)
        self.names = [given[at.offset] if given else column for at, given, column in pairs]
        places = [(list(declared).index(at.name), at.offset) for at in self._sources]
        self.as_taken = [name for _, name in sorted(zip(places, self.names, strict=True))]
        self._codes = [_codes(column) for column in self._columns]
        self._coded = any(codes is not None for codes in self._codes)
        self._lower, self._upper = baseline.summary.lower, baseline.summary.upper
        self.whole = None if self._coded else _whole_input(self._sources, declared)

    def __len__(self) -> int:
        return len(self._sources)

    def rows(self, tensors: Sequence[Tensor]) -> Array:
        """The encoded rows (n, d) of a request.

        Raises:
            Refusal: 422, its inputs have different numbers of rows.
        """
        if self.whole is not None:
            numbers = next(tensor.numbers() for tensor in tensors if tensor.spec.name == self.whole)
            return numbers.reshape(-1, len(self._sources))
        by_name = {tensor.spec.name: tensor for tensor in tensors}
        numbers_of = {name: by_name[name].numbers() for name in self._inputs if by_name[name].spec.datatype != "BYTES"}
        columns = []
        for at, codes in zip(self._sources, self._codes, strict=True):
            tensor = by_name[at.name]
            window = slice(at.offset, None, tensor.spec.width)
            if codes is None:
                columns.append(numbers_of[at.name][window])
            else:
                columns.append(np.array([codes.get(_text(value), UNSEEN) for value in tensor.data[window]], np.float64))
        if len({len(column) for column in columns}) != 1:
            raise Refusal("schema-violation", "The inputs must have the same number of rows.")
        return np.array(columns, dtype=np.float64).T

    def subjects(self, tensors: Sequence[Tensor]) -> list[Subject]:
        """The rows of a request, each for itself.

        Raises:
            Refusal: 422, its inputs have different numbers of rows.
        """
        rows = self.rows(tensors)
        cut = [_cut(tensor, len(rows)) for tensor in tensors if tensor.kept]
        return [Subject(row, {one.spec.name: one for one in parts}) for row, *parts in zip(rows, *cut, strict=True)]

    def covers(self, spec: TensorSpec) -> bool:
        """Whether every element of a row of this input is a column of the baseline's."""
        offsets = {at.offset for at in self._sources if at.name == spec.name}
        return offsets == set(range(spec.width))

    def data(self, spec: TensorSpec, rows: Array, subject: Subject | None = None) -> list[Any]:
        """The data of an input, for encoded `rows` (n, d), flattened in row-major order.

        `subject`: what it has is taken from it: elements that are no column of the baseline's, and values that are its
        own. Without one, the input must be covered.
        """
        if self.whole == spec.name and spec.datatype.startswith("FP"):
            low, high = spec.bounds
            whole: list[Any] = np.clip(rows, low, high).ravel().tolist()
            return whole
        own = None if subject is None else subject.tensors[spec.name].data
        data: list[Any] = [None] * (len(rows) * spec.width) if own is None else list(own) * len(rows)
        for index, at in enumerate(self._sources):
            if at.name == spec.name:
                values = self._values(index, rows[:, index], spec)
                if subject is not None and own is not None:
                    mine = (rows[:, index] == subject.row[index]).tolist()
                    values = [own[at.offset] if same else value for same, value in zip(mine, values, strict=True)]
                data[at.offset :: spec.width] = values
        return data

    def put(self, tensors: Sequence[Tensor], rows: Array) -> None:
        """Write encoded `rows` (n, d), finite, into the data of the request's tensors, in the datatype of each."""
        by_name = {tensor.spec.name: tensor for tensor in tensors}
        for index, at in enumerate(self._sources):
            tensor = by_name[at.name]
            window = slice(at.offset, None, tensor.spec.width)
            before = tensor.data[window]
            values = self._values(index, rows[:, index], tensor.spec)
            tensor.data[window] = [new if new != old else old for new, old in zip(values, before, strict=True)]

    def _values(self, index: int, values: Array, spec: TensorSpec) -> list[Any]:
        categories = self._columns[index].categories
        if categories is None:
            return self._numbers(index, values, spec)
        return [_value(categories[int(code)], spec.datatype) for code in values.tolist()]

    def _numbers(self, index: int, values: Array, spec: TensorSpec) -> list[Any]:
        """Whole numbers stay within what the baseline has seen, and all within the declared bounds."""
        low, high = spec.bounds
        if spec.datatype.startswith(("INT", "UINT")):
            least, most = max(np.ceil(self._lower[index]), low), min(np.floor(self._upper[index]), high)
            return [int(value) for value in np.clip(np.rint(values), least, max(most, least)).tolist()]
        if spec.datatype == "BOOL":
            return [value >= 0.5 for value in values.tolist()]
        whole: list[Any] = np.clip(values, low, high).tolist()
        return whole


def _cut(tensor: Tensor, count: int) -> list[Tensor]:
    """A tensor's rows, each as a tensor."""
    spec, data = tensor.spec, tensor.data
    rows = tensor.rows
    if rows != count:
        raise Refusal("schema-violation", "The inputs must have the same number of rows.")
    shape = [1, *tensor.shape[1:]] if spec.shape[0] == -1 else tensor.shape
    width = len(data) // rows
    return [Tensor(spec, shape, data[start : start + width]) for start in range(0, rows * width, width)]


def _codes(column: Column) -> dict[str, int] | None:
    return None if column.categories is None else {text: code for code, text in enumerate(column.categories)}


def _text(value: Any) -> str:
    return value if isinstance(value, str) else str(value)


def _value(category: str, datatype: str) -> Any:
    """A category as an element of this datatype; raises ValueError when it is none."""
    if datatype == "BYTES":
        return category
    if datatype == "BOOL":
        return category.lower() in ("true", "1")
    return int(category) if datatype.startswith(("INT", "UINT")) else float(category)


def _locate(baseline: Baseline, declared: Mapping[str, TensorSpec]) -> list[Source]:
    """Where each column of the baseline is found: by name, or in order when the baseline's columns have no names."""
    categories = {column.name for column in baseline.encoding.columns if column.categories is not None}
    usable = [spec for spec in declared.values() if spec.width > 0]
    numeric = [spec for spec in usable if spec.numeric]
    if baseline.named:
        by_name = {
            column: Source(spec.name, offset)
            for spec in usable
            for offset, column in enumerate(spec.columns)
            if spec.datatype != "BYTES" or column in categories
        }
        missing = [name for name in baseline.columns if name not in by_name]
        if not missing:
            return [by_name[name] for name in baseline.columns]
        if categories or any(spec.columns for spec in numeric):
            raise ConfigError(
                f"the baseline has columns that the schema does not name: {', '.join(missing[:5])}; "
                "set `columns` of the input in `spec.schema.inputs` to the baseline's"
            )
    width = sum(spec.width for spec in numeric)
    if categories or width != len(baseline.columns):
        raise ConfigError(
            f"the baseline has {len(baseline.columns)} columns, a row of the schema's numeric inputs {width}"
        )
    return [Source(spec.name, offset) for spec in numeric for offset in range(spec.width)]


def _whole_input(sources: Sequence[Source], declared: Mapping[str, TensorSpec]) -> str | None:
    name = sources[0].name
    in_order = all(source == Source(name, offset) for offset, source in enumerate(sources))
    return name if in_order and declared[name].width == len(sources) else None
