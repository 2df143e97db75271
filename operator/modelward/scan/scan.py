"""The scan: each question put to a data set in turn, quick ones first."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

from modelward.detect.poison import MAX_WIDTH, PoisonError
from modelward.privacy.spec import Treatment
from modelward.scan import generalise, singling, suspects
from modelward.scan.dataset import Array, DataError, DataSet
from modelward.scan.findings import Finding
from modelward.scan.identifiers import Recognised, recognised, unique

MAX_LABELS = 1000


@dataclass(frozen=True)
class Question:
    """What is asked of a data set.

    Attributes:
        roles: of columns, as the policies declare them.
        treatments: of each column that the policies do not keep.
        k: of k-anonymity, as the policies ask.
        hierarchies: by column, their text; `spare`: the share of rows that may be taken out to reach the k.
        lacking: by column, the names of hierarchies that are not there.
        label: the column that a model is to learn.
        embeddings: (n, w) one for each row.
        against: data that should have no row in common.
    """

    roles: Mapping[str, str] = field(default_factory=dict)
    treatments: Mapping[str, Treatment] = field(default_factory=dict)
    k: int | None = None
    hierarchies: Mapping[str, str] = field(default_factory=dict)
    lacking: Mapping[str, str] = field(default_factory=dict)
    spare: float = 0.0
    label: str | None = None
    embeddings: Array | None = None
    against: DataSet | None = None
    seed: int = 0


@dataclass
class Scanned:
    """What came of it. `skipped`: what was not looked for, and why."""

    findings: list[Finding] = field(default_factory=list)
    recognised: dict[str, Recognised] = field(default_factory=dict)
    unique: list[str] = field(default_factory=list)
    assessment: singling.Assessment | None = None
    cheapest: generalise.Cheapest | None = None
    left_out: tuple[str, ...] = ()
    compared: int = 0
    skipped: list[str] = field(default_factory=list)

    @property
    def clean(self) -> bool:
        """Nothing is to be looked at."""
        return all(finding.level == "note" for finding in self.findings)


Stage = tuple[str, Callable[[], None]]


def stages(data: DataSet, question: Question, scanned: Scanned) -> Sequence[Stage]:
    """The parts of the scan by name, to be run in this order; each adds to `scanned`.

    Raises:
        DataError: the label, or another column that is asked of, is not there.
    """
    if question.label is not None:
        data.column(question.label)
    return (
        ("identifiers", lambda: _identifiers(data, question, scanned)),
        ("quasi-identifiers", lambda: _singling(data, question, scanned)),
        ("repeats", lambda: _repeats(data, question, scanned)),
        ("neighbours", lambda: _neighbours(data, question, scanned)),
        ("signatures", lambda: _signatures(data, question, scanned)),
    )


def _identifiers(data: DataSet, question: Question, scanned: Scanned) -> None:
    for column in data.columns:
        found = recognised(column)
        scanned.recognised[column.name] = found
        if not found.whole and (column.numbers is None or column.whole):
            scanned.skipped.append(
                f"identifiers in a part of column {column.name}: {found.cells:,} cells were looked at"
            )
        treatment = question.treatments.get(column.name)
        mend = f"; the policy has {treatment.treatment} for it, and the training data need it too" if treatment else ""
        if found.kinds:
            kinds = ", ".join(f"{kind} in {count:,}" for kind, count in found.kinds.items())
            scanned.findings.append(
                Finding(
                    "DAT-001",
                    "finding",
                    f"of {found.cells:,} cells: {kinds}",
                    f"drop the column, or pseudonymise or mask it before training{mend}",
                    column.name,
                    max(found.kinds.values()),
                )
            )
        role = question.roles.get(column.name)
        alone = unique(column)
        if column.name != question.label and (role == "Identifier" or (alone and role != "Feature")):
            scanned.unique += [column.name] if alone else []
            told = f"{column.distinct:,} values in {column.present:,} rows"
            scanned.findings.append(
                Finding(
                    "DAT-002",
                    "finding",
                    f"{told}, and declared an identifier"
                    if role == "Identifier"
                    else f"{told}: it likely names people",
                    "drop or pseudonymise it before training"
                    + (mend if role == "Identifier" else "; if it names nobody, declare `role: Feature` in the policy"),
                    column.name,
                    column.present,
                )
            )


def _singling(data: DataSet, question: Question, scanned: Scanned) -> None:
    columns, discovered = singling.quasi_identifiers(data, question.roles, question.label)
    if not columns:
        scanned.skipped.append("k-anonymity: no column is declared a quasi-identifier, and none looks like one")
        return
    scanned.findings.extend(singling.uncovered(data, question.hierarchies))
    lacking = {name: hierarchy for name, hierarchy in question.lacking.items() if name in columns}
    scanned.skipped += [
        f"k as treated by the policy: hierarchy {hierarchy} of column {name} is not beside the policy"
        for name, hierarchy in lacking.items()
    ]
    treatments = {} if lacking else question.treatments
    sensitive = [name for name in data.names if question.roles.get(name) == "Sensitive"]
    told, found = singling.assess(data, columns, sensitive, question.k, treatments, discovered=discovered)
    scanned.assessment = told
    if told.asked and told.k < told.asked:
        scanned.cheapest = generalise.search(
            data, columns, told.asked, question.hierarchies, question.treatments, question.spare
        )
    scanned.findings.extend(singling.judged(data, told, found, scanned.cheapest))


def _repeats(data: DataSet, question: Question, scanned: Scanned) -> None:
    found = [suspects.repeats(data)]
    if question.label is not None and len(data.columns) > 1:
        found.append(suspects.torn(data, question.label))
    if question.against is not None:
        found.append(suspects.shared(data, question.against))
    scanned.findings.extend(one for one in found if one)


def _neighbours(data: DataSet, question: Question, scanned: Scanned) -> None:
    label = question.label
    if label is None:
        scanned.skipped.append("labels: name the column to be learnt with --label")
    points = suspects.compared(data, label, question.seed)
    if points is None:
        scanned.skipped.append("neighbours: no two rows have columns by which distances mean something")
        return
    scanned.left_out, scanned.compared = points.left_out, len(points.rows)
    found = [suspects.copies(data, points)]
    if label is not None and data.column(label).distinct > MAX_LABELS:
        scanned.skipped.append(f"labels: column {label} has more than {MAX_LABELS:,} values, so it is no class")
    elif label is not None:
        found.append(suspects.contradictions(data, label, points))
    scanned.findings.extend(one for one in found if one)


def _signatures(data: DataSet, question: Question, scanned: Scanned) -> None:
    if question.embeddings is None or question.label is None:
        lacks = "--label" if question.embeddings is not None else "--embeddings (a model's last layer but one)"
        scanned.skipped.append(f"spectral signatures: give {lacks}")
        return
    try:
        found = suspects.signatures(data, question.label, question.embeddings)
    except PoisonError as error:
        raise DataError(f"{error}. Fix: give at most {MAX_WIDTH:,} columns and fewer rows") from error
    scanned.findings.extend([found] if found else [])
