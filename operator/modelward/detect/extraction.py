"""Extraction: is somebody copying the model by asking it?

Five tests on what one party has asked, none of which needs the model's answers:

- *strange*: queries unlike the data, as random, synthetic or borrowed ones are: farther from all of the reference than
  nine in ten ordinary rows, more often than one in five times. What varies or repeats an earlier query does not count;
- *blended*: queries mixed of real rows: nearer to the middle than the rows about them, as only one ordinary row in ten
  is, more often than one in five times;
- *close*: queries that vary earlier ones, as Jacobian augmentation (Papernot and others, 2017), line searches and
  boundary attacks make them: nearer to an earlier query than the nearest twentieth of ordinary rows lie to each other,
  more often than one in ten times. Exact repetitions do not count: they tell nothing new;
- *distances*: the distances of each query to the nearest earlier one are not distributed as those of ordinary rows, by
  the Shapiro-Francia statistic (1972), after PRADA (Juuti and others, 2019), which uses Shapiro-Wilk's. PRADA's fixed
  threshold and its classes by the model's answer are not used: sessions drawn from the reference itself give the
  threshold;
- *coverage*: how much of the model the answers give away: the share of the reference rows that have a query as near as
  half of the ordinary rows lie to each other. Who has covered all of them answers ordinary inputs by the nearest
  neighbour, without the model. It is a budget, not a test: rows from the very distribution of the data look like
  anybody's, and only how much one party may learn in a period can be bounded.

A party is a client, and also a network (/24, /48) and an issuer, which joins identities that one attacker splits.
Strange, blended and close rows count for all three; a finding is raised by such a row alone, so that the innocent of a
network go on. Distances are watched per client. Coverage has one budget for a client, and one for networks and issuers
that is off unless given: many honest callers of one issuer cover everything together.

What is controlled: while a party's rows are independent and within those shares, *strange*, *blended* and *close* have
on average at least `HORIZON * TESTS / rate` rows between false findings each (see `cusum`); *distances* is cut where a
normal tail of simulated ordinary sessions leaves the same; so a client of HORIZON ordinary rows has a false finding
with a chance of about `rate` at most, and far less where its rows are as the baseline's, not just within the shares.
"""

import math
from functools import cache
from typing import Literal, NamedTuple

import numpy as np
import numpy.typing as npt

from modelward.detect.clients import Caller, Remembered, Scope, some
from modelward.detect.critical import normal_upper
from modelward.detect.cusum import Cusum
from modelward.detect.encoding import Array
from modelward.detect.space import SAME, Places, Space, distances

Kind = Literal["strange", "blended", "close"]  # of a query
Test = Kind | Literal["distances", "coverage"]

HORIZON = 1000  # rows
TESTS = 10  # strange, blended and close in three scopes, distances in one
HISTORY = 128  # queries remembered of a party
SAMPLE = 100  # distances that are tested together
EVERY = 10  # new distances between two such tests
MAX_ROWS = 64  # of one request, chosen by chance, are compared with earlier ones; all count as covering
PERIOD = 86_400.0  # seconds, of the budget
_SESSIONS = 200  # simulated
_SCOPES: tuple[Scope, ...] = ("client", "network", "issuer")


class Finding(NamedTuple):
    """A test of a party that is over its threshold, which is 1.0."""

    test: Test
    scope: Scope
    score: float


class _Party:
    """What is remembered of one party."""

    __slots__ = (
        "began",
        "covered",
        "distances",
        "kept",
        "measured",
        "store",
        "sums",
        "unusual",
        "varied",
    )

    def __init__(self, landmarks: int) -> None:
        self.sums: dict[Kind, float] = {"strange": 0.0, "blended": 0.0, "close": 0.0}
        self.unusual = 0.0
        self.covered = np.zeros(landmarks, dtype=np.bool_)
        self.store: Places = np.empty((0, 0), dtype=np.float32)  # grows by doubling
        self.kept = 0  # places in it
        self.varied = 0  # queries that were no variants of earlier ones
        self.distances = np.empty(SAMPLE, dtype=np.float32)  # the last, round and round
        self.measured = 0
        self.began = -math.inf


class Extraction:
    """The tests over all parties.

    Args:
        space: where distances are taken.
        rate: the chance of a false finding for HORIZON ordinary rows of one client.
        budget: the share of the reference that a client may cover in PERIOD seconds from its first query.
        group_budget: the same for a network and for an issuer; None: no bound.
        clients: how many clients, and as many networks, are remembered; an eighth as many issuers.
        seed: for which queries stay remembered.

    Memory: of a party at most HISTORY places of at most 32 numbers, SAMPLE distances and a byte a landmark, 17.5 kB;
    with the default `clients` at most 19 MB. After a restart nothing is remembered: who was suspect begins anew, and
    so does each budget.
    """

    def __init__(
        self,
        space: Space,
        rate: float = 0.01,
        budget: float = 0.5,
        group_budget: float | None = None,
        clients: int = 512,
        seed: int = 0,
    ) -> None:
        self._space = space
        trials = HORIZON * TESTS / rate
        self._tests: dict[Kind, Cusum] = {
            "strange": Cusum.of(0.2, 0.6, trials),
            "blended": Cusum.of(0.2, 0.6, trials),
            "close": Cusum.of(0.1, 0.5, trials),
        }
        self._unusual = _session_limit(space.landmarks, rate / (HORIZON / EVERY * TESTS))
        self._budgets = {"client": budget, "network": group_budget, "issuer": group_budget}
        self._rng = np.random.default_rng(seed)
        most = {"client": clients, "network": clients, "issuer": max(1, clients // 8)}
        self._parties = {scope: Remembered(most[scope], self._new) for scope in _SCOPES}

    def _new(self) -> _Party:
        return _Party(len(self._space.landmarks))

    def add(self, caller: Caller, rows: Array, now: float) -> tuple[Finding, ...]:
        """The rows (n, d) of one request; the findings that they raise, greatest first."""
        places = self._space.place(rows)
        apart = self._space.to_landmarks(places)
        covers: npt.NDArray[np.bool_] = np.logical_or.reduce(apart <= self._space.typical + SAME, axis=0)
        looked_at = some(len(places), MAX_ROWS)
        sample, apart = places[looked_at], apart[looked_at]
        strange = (apart.min(axis=1) > self._space.strange).tolist()
        blended = (self._space.outwardness(sample, apart) < self._space.inward).tolist()
        found: list[Finding] = []
        for scope in _SCOPES:
            party = self._parties[scope].of(caller.key(scope))
            hits: set[Kind] = set()
            for place, far, mixed in zip(sample, strange, blended, strict=True):
                hits |= self._ask(party, place, {"strange": far, "blended": mixed}, scope)
            scores: dict[Test, float] = {kind: self._tests[kind].score(party.sums[kind]) for kind in hits}
            scores["distances"] = party.unusual
            scores["coverage"] = self._cover(party, covers, scope, now)
            found.extend(Finding(test, scope, score) for test, score in scores.items() if score > 1.0)
        return tuple(sorted(found, key=lambda finding: -finding.score))

    def coverage(self, caller: Caller, scope: Scope = "client") -> float:
        """The share of the reference that a party has covered in the running period."""
        return float(self._parties[scope].of(caller.key(scope)).covered.mean())

    def standing(self, caller: Caller) -> float:
        """How near a client's own queries are to a finding (1.0), whatever its network's are; of coverage, nothing."""
        party = self._parties["client"].of(caller.key("client"))
        return max(party.unusual, *(test.score(party.sums[kind]) for kind, test in self._tests.items()))

    def release(self, caller: Caller) -> None:
        """Forget what a client has asked: its owner vouches for it."""
        self._parties["client"].drop(caller.key("client"))

    def _ask(self, party: _Party, place: Places, kinds: dict[Kind, bool], scope: Scope) -> set[Kind]:
        """Compare one query with earlier ones; what it is a hit of."""
        nearest = float(distances(party.store[: party.kept], place).min()) if party.kept else math.inf
        if nearest <= SAME:
            return set()
        if scope == "client" and party.kept:
            self._watch_distances(party, nearest)
        varies = nearest < self._space.near
        # A variant of a strange row is no further strange row.
        tried: dict[Kind, bool] = {"close": True} if varies else {"close": False, **kinds}
        for kind, hit in tried.items():
            party.sums[kind] = self._tests[kind].after(party.sums[kind], hit)
        if not varies:
            self._remember(party, place)
        return {kind for kind, hit in tried.items() if hit}

    def _watch_distances(self, party: _Party, nearest: float) -> None:
        party.distances[party.measured % SAMPLE] = nearest
        party.measured += 1
        if self._unusual and party.measured >= SAMPLE and party.measured % EVERY == 0:
            party.unusual = self._unusual.score(party.distances)

    def _remember(self, party: _Party, place: Places) -> None:
        """Keep a sample of all queries that were no variants, each with the same chance (reservoir sampling)."""
        party.varied += 1
        if party.kept < HISTORY:
            if party.kept == len(party.store):
                grown = np.empty((min(HISTORY, max(8, 2 * party.kept)), len(place)), dtype=np.float32)
                grown[: party.kept] = party.store.reshape(-1, len(place))
                party.store = grown
            party.store[party.kept] = place
            party.kept += 1
        elif (at := int(self._rng.integers(party.varied))) < HISTORY:
            party.store[at] = place

    def _cover(self, party: _Party, covers: npt.NDArray[np.bool_], scope: Scope, now: float) -> float:
        if (budget := self._budgets[scope]) is None:
            return 0.0
        if not party.began <= now < party.began + PERIOD:
            party.covered[:] = False
            party.began = now
        party.covered |= covers
        return np.count_nonzero(party.covered) / len(party.covered) / budget


class _Sessions(NamedTuple):
    """Mean and deviation of log(1 - W) of ordinary sessions, and how many deviations are too many."""

    mean: float
    deviation: float
    many: float

    def score(self, sample: Places) -> float:
        return float((_irregularity(sample) - self.mean) / (self.deviation * self.many))


def _irregularity(sample: Places) -> float:
    """log(1 - W), W by Shapiro and Francia, near to normal for normal samples (Royston, 1993)."""
    values = np.sort(sample.astype(np.float64))
    values = values[np.abs(values - values.mean()) <= 3 * values.std()] if values.std() > 0 else values
    expected = _normal_scores(len(values))
    centred = values - values.mean()
    spread = float(np.sqrt((centred**2).sum() * (expected**2).sum()))
    w = (float(centred @ expected) / spread) ** 2 if spread > 0 else 0.0
    return math.log(max(1 - w, 1e-9))


@cache
def _normal_scores(count: int) -> Array:
    """What the ordered values of a standard normal sample are expected to be (Blom, 1958)."""
    return np.array([normal_upper(1 - (rank - 0.375) / (count + 0.25)) for rank in range(1, count + 1)])


def _session_limit(landmarks: Places, level: float) -> _Sessions | None:
    """From sessions drawn of the reference; None: it is too small for one."""
    length = SAMPLE + 1
    if len(landmarks) < length + EVERY:
        return None
    apart = np.stack([distances(landmarks, place) for place in landmarks])
    rng = np.random.default_rng(0)
    later = np.triu(np.ones((length, length), dtype=np.bool_))
    found = []
    for _ in range(_SESSIONS):
        chosen = rng.choice(len(landmarks), length, replace=False)
        nearest = np.where(later, np.inf, apart[np.ix_(chosen, chosen)]).min(axis=1)[1:]
        found.append(_irregularity(nearest[nearest > SAME]) if (nearest > SAME).sum() > 3 else 0.0)
    deviation = float(np.std(found))
    return _Sessions(float(np.mean(found)), deviation, normal_upper(level)) if deviation > 0 else None
