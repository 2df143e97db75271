"""What is attacked: a model behind an endpoint, and with what one comes to it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

from modelward.attack.exchange import Channel, Request
from modelward.attack.layout import Layout, Protocol
from modelward.detect.encoding import Array

PURPOSE_HEADER = "x-modelward-purpose"


@dataclass(frozen=True)
class Rows:
    """Rows of data, and what each of them is in truth where that is known."""

    rows: Array
    truth: npt.NDArray[np.str_] | None = None

    def __len__(self) -> int:
        return len(self.rows)


@dataclass
class Callers:
    """Those who may ask, by their tokens: the first asks until it is refused everything, then the next."""

    tokens: tuple[str, ...] = ()
    current: int = 0

    @property
    def token(self) -> str | None:
        """That of the caller whose turn it is."""
        return self.tokens[self.current] if self.tokens else None

    def another(self) -> bool:
        """Go on as the next caller; false: there is none."""
        if self.current + 1 >= len(self.tokens):
            return False
        self.current += 1
        return True


@dataclass(frozen=True)
class Target:
    """A model, and what its attacker has.

    Attributes:
        host: as the header Host has it.
        issued: claims of tokens as the model's issuers would give them, which anybody can make up.
        stranger: a token that verifies, of somebody whom no rule lets ask.
        purpose: what is said in the header; None: nothing.
        certificate: whether a client certificate is shown.
        tls: whether the endpoint is https; loopback: whether it is on this machine.
        model_port: whether the model's own port is to be tried, past the sidecar.
        layout: None: nobody knows what the model takes.
        data: reference rows, which the model may have been trained on; holdout: rows that it was not.
        rate_limit: requests and seconds as declared; None: not known.
    """

    model: str
    host: str
    protocol: Protocol = "v2"
    callers: Callers = field(default_factory=Callers)
    issued: tuple[Mapping[str, Any], ...] = ()
    stranger: str | None = None
    purpose: str | None = None
    certificate: bool = False
    tls: bool = True
    loopback: bool = False
    model_port: bool = False
    layout: Layout | None = None
    data: Rows | None = None
    holdout: Rows | None = None
    rate_limit: tuple[int, float] | None = None
    seed: int = 0

    @property
    def nobody(self) -> Channel:
        """How those come who have nothing to show."""
        return "no-certificate" if self.certificate else "endpoint"

    @property
    def path(self) -> str:
        """Where the model is asked."""
        return self.path_of(self.model)

    def path_of(self, model: str) -> str:
        """Where a model of that name is asked."""
        return f"/v1/models/{model}:predict" if self.protocol == "v1" else f"/v2/models/{model}/infer"

    @property
    def about(self) -> str:
        """Where it is told about."""
        return f"/{self.protocol}/models/{self.model}"

    def headers(self, token: str | None = "", purpose: str | None = "", more: Mapping[str, str] = {}) -> dict[str, str]:
        """Headers of a request; an empty token or purpose is that which is given, None is none."""
        given = self.callers.token if token == "" else token
        stated = self.purpose if purpose == "" else purpose
        return (
            {"content-type": "application/json", "accept": "application/json"}
            | ({"authorization": f"Bearer {given}"} if given else {})
            | ({PURPOSE_HEADER: stated} if stated else {})
            | dict(more)
        )

    def references(self, count: int, after: int = 0) -> Array:
        """So many reference rows (count, d) by chance, the same each time; `after` so many that others have asked.

        Attacks take the same ones: what one of them has learnt of a row the next need not ask, and honest callers'
        budgets are not used up by what is no attack.
        """
        assert self.data is not None  # noqa: S101 - whoever asks has looked
        order = np.random.default_rng([self.seed, 3]).permutation(len(self.data))
        chosen: Array = self.data.rows[order[after:][:count]]
        return chosen

    def ordinary(self) -> Array | None:
        """A row as honest callers send it, as far as anybody knows."""
        if self.data is not None and len(self.data):
            return np.asarray(self.data.rows[0], dtype=np.float64)
        return None if self.layout is None else self.layout.middle()

    def content(self) -> bytes:
        """The body of an ordinary request; where the inputs are not known, one that only looks like it."""
        row = self.ordinary()
        return b'{"inputs": []}' if self.layout is None or row is None else self.layout.body(row)

    def infer(self, body: bytes, headers: Mapping[str, str] | None = None, channel: Channel = "endpoint") -> Request:
        """A request to the model."""
        return Request("POST", self.path, self.headers() if headers is None else headers, body, channel=channel)

    def get(self, path: str, headers: Mapping[str, str] | None = None, channel: Channel = "endpoint") -> Request:
        """A request that only reads."""
        return Request("GET", path, self.headers() if headers is None else headers, channel=channel)
