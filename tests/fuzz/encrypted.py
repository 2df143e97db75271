"""Changed keys, requests and answers of the homomorphic path: an error with a name, and never a wrong answer.

An input is a recipe, since the things themselves are large: a byte that says what is changed and whether its own
client signs it again afterwards (a client that means harm), and then changes of six bytes each: a place, what is done
there, a value. What nobody signed again must be refused; what its client signed may be scored, and is its own loss.
"""

from __future__ import annotations

import json
import random
import struct
from functools import cache

import numpy as np
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from modelward.encrypted import envelope
from modelward.encrypted.client import Client, ClientKeys
from modelward.encrypted.model import read
from modelward.encrypted.parameters import EncryptedError, Parameters
from modelward.encrypted.serve import Guest, Server
from tests.fuzz.driver import Target, main
from tests.fuzz.mutate import mutated

_PARAMETERS = Parameters(poly_modulus_degree=4096, coeff_modulus_bits=(40, 28, 41), scale_bits=28)
_CHANGE = struct.Struct("<IBB")
_SIGNATURE = 64
_MAX_CHANGES = 32
_TRUTH = 0.75


class World:
    """A client, its server, and a good example of each thing."""

    def __init__(self) -> None:
        self.keys = ClientKeys.generate(_PARAMETERS, columns=2)
        self.signing = Ed25519PrivateKey.from_private_bytes(self.keys.signing)
        self.client = Client(self.keys)
        weights = read(json.dumps({"coef": [0.5, 0.25]}).encode())
        self.server = Server(weights, "m", _PARAMETERS)
        self.guest: Guest = self.server.guest(self.keys.public)
        self.request = self.client.encrypt(np.ones((1, 2)), ["a", "b"], model="m", now=0, layout="row", bound_bits=2)
        self.answer = self.server.answer(self.request, self.guest)


@cache
def world() -> World:
    """Made when it is first wanted."""
    return World()


def changed(content: bytes, recipe: bytes) -> bytes:
    """`content` after the changes of a recipe."""
    out = bytearray(content)
    for start in range(0, min(len(recipe), _MAX_CHANGES * _CHANGE.size) - _CHANGE.size + 1, _CHANGE.size):
        place, kind, value = _CHANGE.unpack_from(recipe, start)
        if not out:
            break
        place = place % min(len(out), 1024) if place & 1 else (place >> 1) % len(out)
        match kind % 6:
            case 0:
                out[place] ^= 1 << value % 8
            case 1:
                out[place] = value
            case 2:
                del out[place : place + 1 + value]
            case 3:
                out[place:place] = bytes([value]) * (1 + value % 16)
            case 4:
                del out[place:]
            case 5:
                out[place : place + 8] = b"\xff" * 8 if value & 1 else bytes(8)
    return bytes(out)


def one(content: bytes) -> None:
    """Try one recipe.

    Raises:
        AssertionError: something passed that must not.
    """
    here = world()
    what = content[0] % 3 if content else 0
    again = bool(content and content[0] & 0x80)
    good = (here.request, here.keys.public, here.answer)[what]
    bad = changed(good, content[1:])
    if again and what < 2:
        body = changed(good[:-_SIGNATURE], content[1:])
        bad = body + here.signing.sign(envelope._signed(envelope.digest(body + bytes(_SIGNATURE))))
    same = bad == good
    try:
        if what == 0:
            scores = here.client.decrypt(here.server.answer(bad, here.guest))[0]
        elif what == 1:
            guest = here.server.guest(bad)
            scores = here.client.decrypt(here.server.answer(here.request, guest))[0]
        else:
            scores = here.client.decrypt(bad)[0]
    except EncryptedError as error:
        assert not same, error
        assert len(str(error)) < 600
        return
    assert same or again, "what nobody signed has passed"
    if same:
        assert abs(scores[0, 0] - _TRUTH) < 1e-2


def mutate(content: bytes, chance: random.Random) -> bytes:
    """Another recipe: of one to a few changes."""
    if chance.random() < 0.3:
        return mutated(content, chance)
    changes = b"".join(
        _CHANGE.pack(chance.getrandbits(32), chance.choice((0, 0, 0, 1, 2, 3, 4, 5)), chance.getrandbits(8))
        for _ in range(chance.choice((1, 1, 1, 2, 5)))
    )
    return bytes([chance.getrandbits(8)]) + changes


TARGET = Target("encrypted", one, mutate)


if __name__ == "__main__":
    main(TARGET)
