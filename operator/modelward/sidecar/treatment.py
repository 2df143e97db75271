"""Treats fields as the policies say: in a request before the model and the detectors see it, and in what comes back.

Everything is compiled when the configuration is taken: an input without a treated field costs one look-up. A value that
cannot be treated refuses the request; it is never let through as it came.
"""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

from modelward.privacy.compiled import CannotTreatError, Treat, compiled, date_shift, neutral
from modelward.privacy.dates import DateShift
from modelward.privacy.effective import targets
from modelward.privacy.keys import Keys
from modelward.privacy.spec import Treatment
from modelward.privacy.tokens import TokenError
from modelward.privacy.values import TreatmentError
from modelward.sidecar import config
from modelward.sidecar.problems import Refusal
from modelward.sidecar.tensors import Tensor, TensorSpec, quote


class _Column(NamedTuple):
    """A treated column: element `offset` of every `stride`; its name, and what treats a value of it."""

    offset: int
    stride: int
    field: str
    treat: Treat


class _Dates(NamedTuple):
    """A column of dates, and the column (of an input) that tells whose they are."""

    input: str
    offset: int
    stride: int
    field: str
    shift: DateShift
    subject: "_Place"


class _Place(NamedTuple):
    """Where a field lies: element `offset` of every `stride` of input `name`."""

    name: str
    offset: int
    stride: int


class Treatments:
    """The treatments of one configuration, compiled for its declared inputs.

    `dropped`: inputs that are left out whole; a caller need not send them.
    """

    def __init__(self, settings: config.Config, declared: Mapping[str, TensorSpec], keys: Keys | None) -> None:
        self._columns: dict[str, list[_Column]] = {}
        self._dates: list[_Dates] = []
        namespace = settings.binding.namespace
        subjects = set()
        dropped = set()
        for tensor in settings.inputs or ():
            spec = declared[tensor.name]
            columns = _columns(tensor)
            for offset, field, treatment in targets(settings.fields, tensor.name, columns):
                stride = 1 if offset is None else len(columns)
                if treatment.treatment == "Drop" and offset is None:
                    dropped.add(tensor.name)
                elif treatment.treatment == "DateShift":
                    place = _find(settings, treatment.subject)
                    subjects.add(place.name)
                    shift = date_shift(treatment, field, spec.datatype, keys)
                    self._dates.append(_Dates(tensor.name, offset or 0, stride, field, shift, place))
                else:
                    treat = _treat(treatment, field, tensor, keys, namespace)
                    self._columns.setdefault(tensor.name, []).append(_Column(offset or 0, stride, field, treat))
        self._dropped = frozenset(dropped)
        self.optional = frozenset(dropped - subjects)

    @classmethod
    def build(
        cls, settings: config.Config, declared: Mapping[str, TensorSpec] | None, keys: Keys | None
    ) -> "Treatments | None":
        """The treatments that `settings` asks for, None if none.

        Raises:
            ConfigError: one does not fit its column, there are no declared inputs, or no keys where one needs them.
        """
        if not settings.fields:
            return None
        if declared is None:
            raise config.ConfigError(
                "fields are treated only where the model's inputs are declared: `spec.schema.inputs`"
            )
        if keys is not None and keys.namespace != settings.binding.namespace:
            raise config.ConfigError("the keys of the pseudonyms are another namespace's")
        try:
            return cls(settings, declared, keys)
        except (CannotTreatError, TokenError) as error:
            raise config.ConfigError(f"a treatment cannot be applied: {error}") from error

    @property
    def dropped(self) -> frozenset[str]:
        """Inputs that the model never gets."""
        return self._dropped

    def apply(self, tensors: Sequence[Tensor]) -> None:
        """Treat the data of `tensors` in place, and mark those that are left out.

        Raises:
            Refusal: 422; names the field, never the value.
        """
        if self._dates:
            self._shift(tensors)
        for tensor in tensors:
            columns = self._columns.get(tensor.spec.name)
            if columns is not None:
                data = tensor.data
                for offset, stride, field, treat in columns:
                    try:
                        if stride == len(data):
                            data[offset] = treat(data[offset])
                        else:
                            data[offset::stride] = [treat(value) for value in data[offset::stride]]
                    except TreatmentError as error:
                        raise _refuse(tensor, field, error) from None
            elif tensor.spec.name in self._dropped:
                tensor.kept = False

    def _shift(self, tensors: Sequence[Tensor]) -> None:
        """Before anything else: afterwards the subject may be a pseudonym, or nothing."""
        by_name = {tensor.spec.name: tensor for tensor in tensors}
        moved = []
        for name, offset, stride, field, shift, place in self._dates:
            tensor, subject = by_name[name], by_name[place.name]
            dates, subjects = tensor.data[offset::stride], subject.data[place.offset :: place.stride]
            if len(dates) != len(subjects):
                raise tensor.spec.refuse(f"field {quote(field)} needs one {quote(place.name)} for each date.")
            try:
                treated = [shift(value, whose) for value, whose in zip(dates, subjects, strict=True)]
            except TreatmentError as error:
                raise _refuse(tensor, field, error) from None
            moved.append((tensor.data, slice(offset, None, stride), treated))
        for data, window, treated in moved:
            data[window] = treated


def _treat(
    treatment: Treatment, field: str, tensor: config.TensorDeclaration, keys: Keys | None, namespace: str
) -> Treat:
    if treatment.treatment == "Drop":
        stands = neutral(tensor.datatype, tensor.minimum, tensor.maximum)
        return lambda _: stands
    return compiled(treatment, field, tensor.datatype, keys, namespace)


def _columns(tensor: config.TensorDeclaration) -> Sequence[str]:
    """The names of the last axis. Data are flat in row-major order: a column is every so-manieth element."""
    if tensor.columns and tensor.shape[-1] != len(tensor.columns):
        raise config.ConfigError(f"input {tensor.name} names {len(tensor.columns)} columns, its last axis has others")
    return tensor.columns


def _find(settings: config.Config, field: str) -> _Place:
    for tensor in settings.inputs or ():
        if tensor.name == field:
            return _Place(tensor.name, 0, 1)
        if field in tensor.columns:
            return _Place(tensor.name, tensor.columns.index(field), len(tensor.columns))
    raise config.ConfigError(f"the subject {field} of a DateShift is not among the declared inputs")


def _refuse(tensor: Tensor, field: str, error: TreatmentError) -> Refusal:
    where = "" if field == tensor.spec.name else f"column {quote(field)} "
    return tensor.spec.refuse(f"{where}{error}.")
