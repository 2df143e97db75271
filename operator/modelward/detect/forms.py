"""The forms in which a model answers, each learned by itself: what is odd about one changes nothing about another.

A caller may choose which outputs come, and of some models how wide they are. Were the form told from the first answers
as they come, whoever mixes odd ones in would keep it from being told at all; were there one form alone, whoever is
first would have everybody else's answers taken for odd. So each output is a form by itself, by its name, its width and
whether it is text; each is learned from the answers that have it (see `outputs`); and of an answer the one that tells
most is judged, among those that are learnt.

There are at most MAX_FORMS. Where there is no room, the client who brought most of those that are not learnt loses one:
so a few clients, however many forms they bring, keep nobody else's from being learnt.
"""

from collections import Counter
from collections.abc import Sequence
from typing import Any, Final, Literal, NamedTuple

import numpy as np

from modelward.detect.answers import AnswerError, Answers, Form, Output, width_of
from modelward.detect.clients import Caller
from modelward.detect.encoding import Array
from modelward.detect.outputs import Answer, Finding, Kind, Outputs, Shares

MAX_FORMS: Final = 16
MAX_WATCHED: Final = 4
"""Outputs of one answer that are learned from, those of numbers before others: in that order they tell most. Whichever
is learnt is looked at: whoever asks says in which order outputs come, and would hide one behind others."""
FORM_ROWS: Final = 32
"""Answers from which it is told what numbers are: a single 0.0 may be a label, a probability or a measured value."""
_MAX_HELD: Final = 1 << 16  # numbers of a form, until it is told what they are
_MAX_TEXT: Final = 256  # characters of a label that count
_MAX_CLIENTS: Final = 64  # of a form, who are told apart
_KINDS: Final[dict[str, Kind]] = {"Labels": "labels", "Values": "values"}
_ORDER: Final = ("Probabilities", "Logits", "Probability", "Values", "Labels")


class Key(NamedTuple):
    """What forms are told apart by: an output's name, what its elements are, and how many there are a row."""

    name: str
    of: Literal["numbers", "text", "others"]
    width: int


class Forms:
    """The tests of `Outputs`, for each form of a model's answers.

    Args:
        rate: of false findings, as `Outputs` has it.
        learn: answers that each form is learned from.
    """

    def __init__(self, rate: float = 0.01, learn: int = 1000) -> None:
        self._rate, self._learn = rate, learn
        self._forms: dict[Key, _Learner] = {}

    def __len__(self) -> int:
        return len(self._forms)

    @property
    def learnt(self) -> dict[Key, Form]:
        """The forms that are learnt."""
        return {key: one.form for key, one in self._forms.items() if one.learnt and one.form is not None}

    def add(
        self, caller: Caller, outputs: Sequence[Output], rows: int, *, tests: bool = False
    ) -> tuple[Finding, ...] | None:
        """The answer to `rows` rows; the findings that it raises. None: it has no form that is learnt, others are.

        Of a security test (`tests`) nothing is learned, nor held against all callers together.

        Raises:
            AnswerError: nothing in it can be compared, or it holds a number that is not finite.
        """
        known = any(one.learnt for one in self._forms.values())
        present = self._present(None if tests else caller.key("client"), outputs, rows)
        judged = min((one for one, _ in present if one.learnt), key=lambda one: one.rank, default=None)
        found: tuple[Finding, ...] = ()
        unread: list[AnswerError] = []
        for one, output in present:
            if one is not judged and (one.learnt or tests):
                continue
            try:
                found += one.add(caller, output, rows, tests=tests)
            except AnswerError as error:
                if one is judged:
                    raise
                unread.append(error)  # an output that is not judged may be anything
        if unread and len(unread) == len(present):
            raise unread[0]
        return None if judged is None and known else found

    def _present(self, client: str | None, outputs: Sequence[Output], rows: int) -> list[tuple["_Learner", Output]]:
        """The forms of an answer, new ones of this client (None: no new ones) among them."""
        present: list[tuple[_Learner, Output]] = []
        seen: set[Key] = set()
        unlearnt = 0
        for output in sorted(outputs, key=lambda each: not each.datatype.startswith("FP")):
            width = width_of(output, rows)
            key = None if width is None else self._key_of(output, width)
            if key is None or key in seen:
                continue
            seen.add(key)
            one = self._forms.get(key)
            if one is None or not one.learnt:
                unlearnt += 1
                if unlearnt > MAX_WATCHED:
                    continue
                one = one or (None if client is None else self._opened(client, key))
            if one is not None:
                present.append((one, output))
        if not seen:
            raise AnswerError("the model's answer has no output that could be compared")
        if not present and client is not None:
            raise AnswerError("the model answers in more forms than are learnt")
        return present

    def _key_of(self, output: Output, width: int) -> Key:
        numbers = Key(output.name, "numbers", width)
        if output.datatype == "BYTES":
            return numbers._replace(of="text")
        # In JSON a score of 1.0 may be written as 1, and is the score that it was.
        return numbers if output.datatype.startswith("FP") or numbers in self._forms else numbers._replace(of="others")

    def _opened(self, client: str, key: Key) -> "_Learner | None":
        """A new form, if there is room; or if somebody has brought more of those that are not learnt."""
        if len(self._forms) >= MAX_FORMS:
            unlearnt = {key: one for key, one in self._forms.items() if not one.learnt}
            brought = Counter(one.owner for one in unlearnt.values())
            brought[client] += 1
            most = max(brought.values())
            lost = [key for key, one in unlearnt.items() if brought[one.owner] == most]
            if not lost:
                return None
            del self._forms[min(lost, key=lambda key: (len(unlearnt[key].clients), unlearnt[key].rows))]
        one = self._forms[key] = _Learner(client, key, self._rate, self._learn)
        return one


class _Learner:
    """One form: what its numbers are, then what is usual, then what is not. `owner`: the client who came with it."""

    __slots__ = (
        "_held",
        "_key",
        "_learn",
        "_outputs",
        "_rate",
        "_shares",
        "_telling",
        "clients",
        "form",
        "owner",
        "rows",
    )

    def __init__(self, owner: str, key: Key, rate: float, learn: int) -> None:
        self.owner = owner
        self.rows = 0
        self.clients: set[str] = set()  # some of those who came with it later
        self.form: Form | None = None
        self._key, self._rate, self._learn = key, rate, learn
        self._held: list[tuple[Caller, Array]] = []  # to be learned from, once it is told what they are
        self._telling: list[Array] = []  # from which that is told
        self._shares = Shares(FORM_ROWS)
        self._outputs: Outputs | None = None
        if key.of != "numbers":
            self._take(Form("Labels", 0, key.width))

    @property
    def learnt(self) -> bool:
        """Whether it is known what is usual."""
        return self._outputs is not None and self._outputs.reference is not None

    @property
    def rank(self) -> tuple[int, str]:
        """The one that tells most comes first."""
        return (_ORDER.index(self.form.kind) if self.form else len(_ORDER), self._key.name)

    def add(self, caller: Caller, output: Output, rows: int, *, tests: bool = False) -> tuple[Finding, ...]:
        """Take the answers to `rows` rows; what is found of them."""
        self.rows += rows
        if not self.learnt and len(self.clients) < _MAX_CLIENTS:
            self.clients.add(caller.key("client"))
        if self.form is None or self._outputs is None:
            self._hold(caller, output, rows)
            return ()
        return self._watch(self._outputs, caller, self.form.read((output,), rows), tests=tests)

    def _take(self, form: Form) -> Outputs:
        self.form = form
        self._outputs = Outputs(_KINDS.get(form.kind, "probabilities"), rate=self._rate, learn=self._learn)
        return self._outputs

    def _hold(self, caller: Caller, output: Output, rows: int) -> None:
        client, width = caller.key("client"), self._key.width
        room = min(self._learn, _MAX_HELD // width)
        for row in _numbers(output, rows, width):
            if len(self._held) < room:
                self._held.append((caller, row.copy()))
            if len(self._telling) < FORM_ROWS and self._shares.takes(client):
                self._telling.append(row.copy())
        if len(self._telling) < FORM_ROWS:
            return
        numbers = np.stack(self._telling)
        form = Form.of((Output("FP64", numbers.shape, numbers.reshape(-1)),), FORM_ROWS)
        watched = self._take(form)
        held, self._held, self._telling = self._held, [], []
        for caller_of, row in held:
            self._watch(watched, caller_of, form.read((Output("FP64", (1, len(row)), row),), 1))

    def _watch(self, watched: Outputs, caller: Caller, answers: Answers, *, tests: bool = False) -> tuple[Finding, ...]:
        rows = self._rows(answers)
        return tuple(found for answer in rows for found in watched.add(caller, answer, tests=tests))

    def _rows(self, answers: Answers) -> list[Answer]:
        if answers.scores is None:
            labels: list[Any] = [] if answers.labels is None else answers.labels.tolist()
            return [label[:_MAX_TEXT] if isinstance(label, str) else label for label in labels]
        of_classes = self.form is None or self.form.kind != "Values"
        rows: list[Answer] = (answers.scores if of_classes else answers.scores[:, 0]).tolist()
        return rows


def _numbers(output: Output, rows: int, width: int) -> Array:
    try:
        numbers = np.array(output.data, dtype=np.float64).reshape(rows, width)
    except (TypeError, ValueError) as error:
        raise AnswerError("the model's answer holds what is no number") from error
    if not np.isfinite(numbers).all():
        raise AnswerError("the model's answer holds a number that is not finite")
    return numbers
