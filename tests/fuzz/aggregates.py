"""Changed windows and aggregates of encrypted counters: an error with a name, and never another count.

An input is a recipe, as in `encrypted`: a byte that says what is changed, then the changes.

0: what a pod hands over, as the controller reads it. What is added must be a ciphertext in every byte.
1: an aggregate that was changed on its way. Nobody signed it, so it must be refused.
2: one that was changed before the controller signed it, as a lying sidecar may bring about. What opens tells the truth.
"""

from __future__ import annotations

import tempfile
from functools import cache
from pathlib import Path

import msgspec
import numpy as np
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from modelward.audit import auditor, ledger
from modelward.audit.aggregate import Sum, WindowError, added, public_key, sealed
from modelward.audit.layout import Counted, layout_of
from modelward.audit.parameters import LEVEL, PARAMETERS, RING
from modelward.audit.told import Collected, Window
from modelward.encrypted import envelope
from modelward.encrypted.context import Encryptor
from modelward.encrypted.parameters import EncryptedError
from tests.fuzz.driver import Target, main
from tests.fuzz.encrypted import changed, mutate

_SECONDS, _NOW, _SIGNATURE = 300, 3_000_000, 64
_LAYOUT = layout_of([Counted("sex", ("f", "m")), Counted("age", ("young", "old"), (40.0,))])
_COUNTS = [700, 300, 0, 600, 400, 0]


class World:
    """An auditor, a controller, and a good example of each thing."""

    def __init__(self) -> None:
        self.controller = Ed25519PrivateKey.generate()
        self._folder = tempfile.TemporaryDirectory()
        self.folder = Path(self._folder.name, "keys")
        signer = self.controller.public_key().public_bytes_raw().hex()
        keys = auditor.generate(self.folder, signer, epsilon="99.0", base=1)  # no noise to speak of
        self.ledger = ledger.read(self.folder)
        encryptor = Encryptor(PARAMETERS, public_key(keys.public))
        window = Window(
            envelope.digest(keys.public),
            _LAYOUT.digest(),
            _NOW - _SECONDS,
            encryptor.encrypt_integers(np.array(_COUNTS)),
        )
        self.total = Sum(window.keys, window.layout)
        self.collected = msgspec.json.encode(Collected((window,)))
        total = added(self.total, window, "pod", _SECONDS, _NOW)
        self.aggregate = sealed(total, _LAYOUT.encode(), self.controller, model="m/m", policy="p", minimum=1)

    def sign(self, body: bytes) -> bytes:
        return body + self.controller.sign(envelope._signed(envelope.digest(body + bytes(_SIGNATURE))))


@cache
def world() -> World:
    """Made when it is first wanted."""
    return World()


def one(content: bytes) -> None:
    """Try one recipe.

    Raises:
        AssertionError: something passed that must not.
    """
    what = content[0] % 3 if content else 0
    if what == 0:
        _collect(changed(world().collected, content[1:]))
    else:
        _open(content[1:], signed=what == 2)


def _collect(content: bytes) -> None:
    try:
        windows = msgspec.json.decode(content, type=Collected).windows
    except (ValueError, RecursionError):
        return
    for window in windows:
        try:
            total = added(world().total, window, "pod", _SECONDS, _NOW)
        except WindowError as error:
            assert len(str(error)) < 600
            continue
        RING.check_ciphertext(total.ciphertext, LEVEL)
        assert (total.windows, total.begun, total.ended) == (1, _NOW - _SECONDS, _NOW)


def _open(recipe: bytes, *, signed: bool) -> None:
    here = world()
    good = here.aggregate
    bad = here.sign(changed(good[:-_SIGNATURE], recipe)) if signed else changed(good, recipe)
    ledger.create(here.folder, here.ledger)
    try:
        opened = auditor.opened(here.folder, bad)
    except EncryptedError as error:
        assert bad != good, error
        assert len(str(error)) < 600
        return
    assert signed or bad == good, "what nobody signed has been opened"
    assert opened.left == here.ledger.limit - 1
    told = [count if count is not None else 0 for count in (cell.count for cell in opened.cells)]
    least = opened.header.minimum
    assert told == [count if count >= least else 0 for count in _COUNTS], "another count is told as the right one"


TARGET = Target("aggregates", one, mutate)


if __name__ == "__main__":
    main(TARGET)
