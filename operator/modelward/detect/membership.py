"""Membership: does somebody ask around one row, to learn whether the model was trained on it?

Attacks that see labels alone ask for the row with little noise, again and again (Choquette-Choo and others, 2021). An
exact repetition tells nothing new of a model that answers the same each time, and does not count.
"""

from typing import NamedTuple

import numpy as np

from modelward.detect.clients import Caller, Remembered, some
from modelward.detect.critical import at_least
from modelward.detect.encoding import Array
from modelward.detect.space import SAME, Space, distances

RING = 64  # last different queries of a client
MAX_ROWS = 64  # of one request
HORIZON = 1000  # rows


class Around(NamedTuple):
    """So many of a client's last RING queries lie around its newest; `score` 1.0 is the limit."""

    queries: int
    score: float


class _Asked:
    """A client's last queries, round and round, and when they came."""

    __slots__ = ("count", "places", "times")

    def __init__(self, width: int) -> None:
        self.places = np.zeros((RING, width), dtype=np.float32)
        self.times = np.full(RING, -np.inf)
        self.count = 0


class Membership:
    """Queries around one row, per client.

    Args:
        space: where distances are taken; what is nearer than the nearest twentieth of ordinary rows is around.
        rate: the chance of a false finding for HORIZON independent ordinary rows of one client, at the most.
        limit: so many are allowed at least, however rare they are.
        seconds: what is older is forgotten.
        clients: how many are remembered.

    Memory: RING places of at most 32 numbers a client, 9 kB; with the default `clients` at most 5 MB. After a restart
    nothing is remembered.
    """

    def __init__(
        self, space: Space, rate: float = 0.01, limit: int = 16, seconds: float = 3600.0, clients: int = 512
    ) -> None:
        self._space = space
        self._seconds = seconds
        around = [float((distances(space.landmarks, place) < space.near).mean()) for place in space.landmarks]
        # A row in the densest twentieth: what is near to it by chance is most.
        chance = float(np.quantile(around, 0.95))
        self.limit = next(
            (count for count in range(limit, RING) if at_least(count, RING, chance) <= rate / HORIZON), RING
        )
        self._clients = Remembered(clients, lambda: _Asked(space.landmarks.shape[1]))

    def add(self, caller: Caller, rows: Array, now: float) -> Around | None:
        """The rows (n, d) of one request; None: nothing that is too much."""
        asked = self._clients.of(caller.key("client"))
        places = self._space.place(rows)
        most = 0
        for place in places[some(len(places), MAX_ROWS)]:
            lately = (asked.times <= now) & (asked.times >= now - self._seconds)
            apart = distances(asked.places[lately], place)
            if len(apart) and float(apart.min()) <= SAME:
                continue
            most = max(most, int(np.count_nonzero(apart < self._space.near)))
            asked.places[asked.count % RING] = place
            asked.times[asked.count % RING] = now
            asked.count += 1
        return Around(most, most / self.limit) if most > self.limit else None

    def release(self, caller: Caller) -> None:
        """Forget what a client has asked."""
        self._clients.drop(caller.key("client"))
