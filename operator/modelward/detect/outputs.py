"""Answers that are not as usual: without confidence, of one label only, or out of the range of scores.

What is usual comes from a reference of ordinary answers, or is learned from the first `learn` answers after the start:
then nothing is found until they are there, and what an attacker sent among them is taken for ordinary (no client gives
more than a tenth of them, unless there are too few clients: after ten times as many answers all count).

- *collapse*: answers that are less sure than nine in ten ordinary ones come more often than one in five times. So does
  who searches the boundary between two classes (boundary attacks, extraction by line search), and so does a model whose
  inputs have drifted;
- *flood*: one label comes far more often than it should: its odds are many times the usual. For scores of a regression
  the label is the tenth of the ordinary ones that it falls in;
- *range*: a score is farther from the ordinary median than ordinary scores are, but for the share `rate` of them.

Collapse and flood are watched per client and overall. While answers are independent and within those shares, each has
on average at least HORIZON / rate answers between false findings (see `cusum`), so HORIZON ordinary answers of a client
have one with a chance of at most about 2 * `rate`.
"""

import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, NamedTuple

import numpy as np

from modelward.detect.clients import Caller, Remembered
from modelward.detect.cusum import Cusum
from modelward.detect.encoding import Array

Kind = Literal["labels", "probabilities", "values"]
Test = Literal["collapse", "flood", "range"]
Answer = float | str | bool | Sequence[float]

HORIZON = 1000  # answers
MAX_LABELS = 256  # more are counted together
MAX_LEARNED = 100_000
_UNSURE = 0.1  # of ordinary answers are
_CLIENT_ODDS, _OVERALL_ODDS = 9.0, 3.0  # a client may have a mix of its own


class Finding(NamedTuple):
    """A test that is over its threshold, which is 1.0; `label`: the one that floods."""

    test: Test
    scope: Literal["client", "overall"]
    score: float
    label: str | None = None


@dataclass(frozen=True, slots=True)
class Ordinary:
    """What ordinary answers are like.

    `labels` and their `shares`, the last of which is that of all other labels. `unsure`: ordinary confidences below it
    are one in ten (probabilities). `middle`, `reach` and `tenths` (9) are of scores: median, the distance from it that
    they exceed at the asked rate, and what parts them into tenths.
    """

    kind: Kind
    labels: tuple[str, ...]
    shares: Array
    unsure: float = 0.0
    middle: float = 0.0
    reach: float = 0.0
    tenths: tuple[float, ...] = ()

    @classmethod
    def of(cls, kind: Kind, answers: Sequence[Answer], rate: float = 0.01) -> "Ordinary":
        """From ordinary answers, at least 20 and at most the first MAX_LEARNED of them.

        Args:
            kind: what an answer is: a label, the probabilities of all classes, or a score.
            answers: those that were given.
            rate: the share of ordinary scores that lie beyond `reach`.

        Raises:
            ValueError: there are fewer than 20.
        """
        answers = answers[:MAX_LEARNED]
        if len(answers) < 20:
            raise ValueError(f"ordinary answers are at least 20, not {len(answers)}")
        if kind == "values":
            return cls._of_scores(np.array(answers, dtype=np.float64), rate)
        sure = [_confidence(each) for each in answers] if kind == "probabilities" else []
        return cls._of_names(kind, [_name(answer) for answer in answers], sure)

    @classmethod
    def _of_names(cls, kind: Kind, names: Sequence[str], sure: Sequence[float]) -> "Ordinary":
        labels, shares = _mix(names)
        return cls(kind, labels, shares, unsure=float(np.quantile(sure, _UNSURE)) if sure else 0.0)

    @classmethod
    def _of_scores(cls, scores: Array, rate: float) -> "Ordinary":
        middle = float(np.median(scores))
        apart = np.sort(np.abs(scores - middle))
        rank = min(len(apart), int(np.ceil((len(apart) + 1) * (1 - rate))))  # split conformal, as a baseline's
        tenths = np.quantile(scores, np.arange(1, 10) / 10)
        names = [str(tenth) for tenth in np.searchsorted(tenths, scores, side="right")]
        labels, shares = _mix(names)
        reach = max(float(apart[rank - 1]), 1e-12)
        return cls("values", labels, shares, middle=middle, reach=reach, tenths=tuple(tenths.tolist()))

    def read(self, answer: Answer) -> tuple[str, bool, float]:
        """The label of an answer, whether it is unsure, and its distance from the middle (1.0: the reach)."""
        match self.kind:
            case "labels":
                return _name(answer), False, 0.0
            case "probabilities":
                return _name(answer), not _confidence(answer) >= self.unsure, 0.0
            case "values":
                value = float(answer)  # type: ignore[arg-type]
                tenth = str(int(np.searchsorted(self.tenths, value, side="right")))
                apart = abs(value - self.middle) / self.reach
                return tenth, False, np.inf if math.isnan(apart) else apart


def _mix(names: Sequence[str]) -> tuple[tuple[str, ...], Array]:
    """The labels, and their shares as if each, and one that was never seen, had come once more."""
    found = Counter(names)
    labels = tuple(sorted(label for label, _ in found.most_common(MAX_LABELS - 1)))
    times = np.array([*(found[label] for label in labels), len(names) - sum(found[label] for label in labels)])
    return labels, (times + 1) / (times + 1).sum()


def _name(answer: Answer) -> str:
    match answer:
        case str():
            return answer
        case int() | float():  # 1, 1.0 and true are one label
            return str(int(answer)) if answer == answer // 1 else str(answer)
    return str(int(np.argmax(answer)))


def _confidence(answer: Answer) -> float:
    return float(np.max(answer))


class Shares:
    """Who may give how much of the `count` that are learned from: no client more than a tenth.

    Unless there are too few clients: after ten times as many everybody may. Memory: a number a client, of `count`.
    """

    def __init__(self, count: int) -> None:
        self._count = count
        self._given: dict[str, int] = {}
        self._met = 0

    def takes(self, client: str) -> bool:
        """Whether one more of this client counts."""
        self._met += 1
        given = self._given.get(client, 0)
        if given >= self._count / 10 and self._met < 10 * self._count:
            return False
        if given or len(self._given) < self._count:
            self._given[client] = given + 1
        return True


class _Watched:
    """What is remembered of one client, or of all."""

    __slots__ = ("floods", "unsure")

    def __init__(self) -> None:
        self.unsure = 0.0
        self.floods: dict[int, float] = {}  # of labels that have come lately; all others stand at 0.0


class Outputs:
    """The tests over all answers of one output.

    Memory: of a client at most MAX_LABELS numbers, and few where few labels come; while it learns, at most MAX_LEARNED
    answers, of each its label and how sure it is. After a restart it learns anew, unless a reference is given.
    """

    def __init__(
        self, kind: Kind, reference: Ordinary | None = None, rate: float = 0.01, learn: int = 1000, clients: int = 512
    ) -> None:
        if reference is None and not 20 <= learn <= MAX_LEARNED:
            raise ValueError(f"between 20 and {MAX_LEARNED} answers are learned from, not {learn}")
        self._kind: Kind = kind
        self._rate, self._learn = rate, learn
        self._names: list[str] = []
        self._numbers: list[float] = []  # of each answer how sure it is, or the score that it is
        self._shares = Shares(learn)
        self._clients = Remembered(clients, _Watched)
        self._overall = _Watched()
        self._collapse = Cusum.of(2 * _UNSURE, 0.6, HORIZON / rate)
        self.reference: Ordinary | None = None
        if reference is not None:
            self._begin(reference)

    def _begin(self, reference: Ordinary) -> None:
        self.reference = reference
        self._places = {label: place for place, label in enumerate(reference.labels)}
        self._floods = {
            "client": _flood_tests(reference.shares, _CLIENT_ODDS, HORIZON / self._rate),
            "overall": _flood_tests(reference.shares, _OVERALL_ODDS, HORIZON / self._rate),
        }

    def add(self, caller: Caller, answer: Answer, *, tests: bool = False) -> tuple[Finding, ...]:
        """The answer for one row; the findings that it raises, greatest first. `tests`: see `forms`."""
        if self.reference is None:
            if not tests:
                self._learn_from(caller.key("client"), answer)
            return ()
        label, unsure, apart = self.reference.read(answer)
        found = [Finding("range", "client", apart)] if apart > 1.0 else []
        scopes: tuple[Literal["client", "overall"], ...] = ("client",) if tests else ("client", "overall")
        for scope in scopes:
            watched = self._overall if scope == "overall" else self._clients.of(caller.key("client"))
            watched.unsure = self._collapse.after(watched.unsure, unsure)
            if unsure and (score := self._collapse.score(watched.unsure)) > 1.0:
                found.append(Finding("collapse", scope, score))
            if (score := self._flood(watched, scope, self._places.get(label, len(self._places)))) > 1.0:
                found.append(Finding("flood", scope, score, label))
        return tuple(sorted(found, key=lambda finding: -finding.score))

    def _flood(self, watched: _Watched, scope: Literal["client", "overall"], place: int) -> float:
        tests = self._floods[scope]
        for other in list(watched.floods):
            if other != place and not (state := tests[other].after(watched.floods[other], hit=False)):
                del watched.floods[other]
            elif other != place:
                watched.floods[other] = state
        watched.floods[place] = tests[place].after(watched.floods.get(place, 0.0), hit=True)
        return tests[place].score(watched.floods[place])

    def _learn_from(self, client: str, answer: Answer) -> None:
        if not self._shares.takes(client):
            return
        match self._kind:
            case "values":
                self._numbers.append(float(answer))  # type: ignore[arg-type]
            case "probabilities":
                self._numbers.append(_confidence(answer))
                self._names.append(_name(answer))
            case "labels":
                self._names.append(_name(answer))
        if max(len(self._names), len(self._numbers)) >= self._learn:
            names, numbers = self._names, self._numbers  # first: what cannot be learnt from is not kept
            self._names, self._numbers, self._shares = [], [], Shares(self._learn)
            if self._kind == "values":
                self._begin(Ordinary.of("values", numbers, self._rate))
            else:
                self._begin(Ordinary._of_names(self._kind, names, numbers))  # noqa: SLF001 - its own kind


def _flood_tests(shares: Array, odds: float, trials: float) -> list[Cusum]:
    """One for each label; a flood is halfway from the most that is allowed to nothing else."""
    allowed = [odds * share / (1 - share + odds * share) for share in shares.tolist()]
    return [Cusum.of(most, (1 + most) / 2, trials * len(allowed)) for most in allowed]
