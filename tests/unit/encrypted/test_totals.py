"""Means, sums and exact counts of columns: right, within what is said of them, and refused where they cannot be."""

from __future__ import annotations

from typing import Any

import msgspec
import numpy as np
import pytest

from modelward.encrypted import envelope, totals
from modelward.encrypted.client import Client, ClientKeys, v2_body
from modelward.encrypted.envelope import Answer, Request
from modelward.encrypted.model import read
from modelward.encrypted.parameters import EncryptedError, Parameters
from modelward.encrypted.primes import PLAIN_BITS, coefficient_primes, plain_modulus
from modelward.encrypted.serve import Server

pytest.importorskip("Pyfhel")
CKKS = Parameters(poly_modulus_degree=4096, coeff_modulus_bits=(40, 29, 40), scale_bits=25)
BFV = Parameters(scheme="BFV", poly_modulus_degree=4096, coeff_modulus_bits=(36, 36, 37))
RNG = np.random.default_rng(5)
COLUMNS = ("a", "b", "c")


@pytest.fixture(scope="module")
def ckks() -> ClientKeys:
    return ClientKeys.generate(CKKS, rows=CKKS.slots)


@pytest.fixture(scope="module")
def bfv() -> ClientKeys:
    return ClientKeys.generate(BFV, rows=BFV.slots)


def ask(keys: ClientKeys, rows: np.ndarray, statistic: str, **options: Any) -> tuple[np.ndarray, Answer]:
    client = Client(keys)
    server = Server(None, "m", client.parameters, statistics=True)
    request = client.encrypt(rows, COLUMNS, model="m", now=1, statistic=statistic, **options)  # type: ignore[arg-type]
    values, header = client.decrypt(server.answer(request, server.guest(keys.public)))
    assert values.shape == (1, 3)
    return values[0], header


@pytest.mark.parametrize("rows", [1, 3, 64, 2000, 2048])
def test_means_and_sums_are_as_near_as_is_said(ckks: ClientKeys, rows: int) -> None:
    data = RNG.uniform(-8, 8, size=(rows, 3))
    for statistic, expected in (("mean", data.mean(axis=0)), ("sum", data.sum(axis=0))):
        values, header = ask(ckks, data, statistic, bound_bits=3)
        assert (header.statistic, header.columns, header.rows) == (statistic, COLUMNS, rows)
        assert np.abs(values - expected).max() < header.error
    assert header.error < 1e-4 * rows


def test_an_answer_has_no_more_primes_than_its_sums_need(ckks: ClientKeys) -> None:
    """Rotations cost less there, and the answer is half as large."""
    assert ask(ckks, np.ones((100, 3)), "sum", bound_bits=0)[1].level.primes == 1
    values, header = ask(ckks, np.full((100, 3), 1000.0), "sum", bound_bits=10)
    assert header.level.primes == 2
    assert np.abs(values - 100_000).max() < header.error


@pytest.mark.parametrize("rows", [1, 3, 2048, 2049, 4096])
def test_counts_are_exact(bfv: ClientKeys, rows: int) -> None:
    data = RNG.integers(0, 2, size=(rows, 3)).astype(float)
    data[:, 0], data[:, 1] = 0, 1
    values, header = ask(bfv, data, "count")
    assert list(values) == [0, rows, data[:, 2].sum()]
    assert header.error == 0


def test_whole_numbers_are_summed_exactly_to_the_edge_of_the_range(bfv: ClientKeys) -> None:
    most = (plain_modulus(4096) // 2) // 2**28  # rows of 2^28 that fit
    data = np.tile([2.0**28, -(2.0**28), 2.0**28 - 1], (most, 1))
    values, _ = ask(bfv, data, "sum", bound_bits=28)
    assert list(values) == list(data.sum(axis=0))
    assert list(ask(bfv, data, "mean", bound_bits=28)[0]) == list(data[0])
    with pytest.raises(EncryptedError, match=r"sums of \d+ rows may be as large as .* state a smaller --bound-bits"):
        ask(bfv, np.ones((most + 1, 3)), "sum", bound_bits=28)


@pytest.mark.parametrize(
    ("which", "rows", "options", "told"),
    [
        ("ckks", np.ones((2, 3)), {"statistic": "count"}, "make keys with --scheme BFV"),
        ("ckks", np.ones((2049, 3)), {"statistic": "mean"}, "2048 fit one request: split them"),
        ("ckks", np.ones((2, 3)), {"statistic": "mean", "layout": "row"}, "use the layout columns"),
        ("ckks", np.ones((2048, 3)), {"statistic": "sum", "bound_bits": 34}, "have no room in coeffModulusBits"),
        ("bfv", np.full((2, 3), 0.5), {"statistic": "count"}, "row 0 has 0.5 in a, not 0 or 1"),
        ("bfv", np.full((2, 3), 2.0), {"statistic": "count"}, "row 0 has 2 in a, not 0 or 1"),
        ("bfv", np.ones((2, 3)), {"statistic": "count", "bound_bits": 3}, "boundBits must be 0"),
        ("bfv", np.full((2, 3), 0.5), {"statistic": "sum"}, "not a whole number"),
        ("bfv", np.full((2, 3), np.nan), {"statistic": "sum"}, "no finite number in a"),
        ("bfv", np.full((2, 3), 2000.0), {"statistic": "sum"}, "beyond 2\\^10"),
        ("bfv", np.ones((2, 3)), {}, "scored under CKKS"),
    ],
)
def test_what_cannot_be_asked(
    request: pytest.FixtureRequest, which: str, rows: np.ndarray, options: dict[str, Any], told: str
) -> None:
    with pytest.raises(EncryptedError, match=told):
        Client(request.getfixturevalue(which)).encrypt(rows, COLUMNS, model="m", now=1, **options)


def test_keys_that_do_not_reach_are_told_at_once() -> None:
    keys = ClientKeys.generate(CKKS, rows=16)
    Client(keys).encrypt(np.ones((16, 3)), COLUMNS, model="m", now=1, statistic="mean")
    with pytest.raises(EncryptedError, match="of up to 16 rows, these are 17: make keys with --rows 17"):
        Client(keys).encrypt(np.ones((17, 3)), COLUMNS, model="m", now=1, statistic="mean")


def resealed(client: Client, request: bytes, parts: list[bytes] | None = None, **changes: object) -> bytes:
    """What a client would send that says other things of its ciphertexts."""
    header, there = envelope.opened(request, Request)
    return envelope.sealed(msgspec.structs.replace(header, **changes), parts or there, client._signing)


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"layout": "row"}, "encrypt with --layout columns"),
        ({"columns": ("a",)}, "3 ciphertexts for 1 columns"),
        ({"rows": 4097}, "4096 fit one request"),
        ({"bound_bits": 1}, "boundBits must be 0"),
        ({"statistic": "sum", "bound_bits": 40}, "state a smaller --bound-bits"),
        ({"statistic": None}, "for want of weights"),
    ],
)
def test_the_server_refuses_it_as_well(bfv: ClientKeys, changes: dict[str, Any], told: str) -> None:
    client, server = Client(bfv), Server(None, "m", BFV, statistics=True)
    good = client.encrypt(np.ones((2, 3)), COLUMNS, model="m", now=1, statistic="count")
    with pytest.raises(EncryptedError, match=told):
        server.answer(resealed(client, good, **changes), server.guest(bfv.public))


def test_who_offers_scores_alone_gives_no_statistics(ckks: ClientKeys) -> None:
    server = Server(read(b'{"coef": [1, 2, 3]}'), "m", CKKS)
    request = Client(ckks).encrypt(np.ones((2, 3)), COLUMNS, model="m", now=1, statistic="mean")
    with pytest.raises(EncryptedError, match="not offered here"):
        server.answer(request, server.guest(ckks.public))


def test_without_the_rotation_keys_there_is_no_sum(bfv: ClientKeys) -> None:
    """Pyfhel would make keys under a secret of its own, and the sum would be wrong."""
    few = ClientKeys.generate(BFV, rows=2)
    client, server = Client(few), Server(None, "m", BFV, statistics=True)
    request = client.encrypt(np.ones((2, 3)), COLUMNS, model="m", now=1, statistic="count")
    with pytest.raises(EncryptedError, match="do not reach over 128 slots"):
        server.answer(resealed(client, request, rows=100), server.guest(few.public))


def test_ciphertexts_that_hide_nothing_are_refused_and_end_nothing(bfv: ClientKeys, ckks: ClientKeys) -> None:
    """SEAL ends what computes with them («transparent»)."""
    for keys, statistic in ((bfv, "count"), (ckks, "mean")):
        client = Client(keys)
        server = Server(None, "m", client.parameters, statistics=True)
        guest = server.guest(keys.public)
        request = client.encrypt(np.ones((2, 3)), COLUMNS, model="m", now=1, statistic=statistic)  # type: ignore[arg-type]
        parts = envelope.opened(request, Request)[1]
        size = 2 * 4096 * 8
        zeros = [part[: -2 * size] + bytes(2 * size) for part in parts]
        with pytest.raises(EncryptedError, match="hides nothing"):
            server.answer(resealed(client, request, zeros), guest)


def test_a_count_beyond_its_rows_is_not_believed(bfv: ClientKeys) -> None:
    """A client that puts in a 7 by other means is told, and no wrong count."""
    client, server = Client(bfv), Server(None, "m", BFV, statistics=True)
    request = client.encrypt(np.full((2, 3), 7.0), COLUMNS, model="m", now=1, statistic="sum", bound_bits=3)
    answer = server.answer(resealed(client, request, statistic="count", bound_bits=0), server.guest(bfv.public))
    with pytest.raises(EncryptedError, match="not from 0 to 2"):
        client.decrypt(answer)


def test_slots_that_differ_are_not_read_as_a_sum(bfv: ClientKeys) -> None:
    client, server = Client(bfv), Server(None, "m", BFV, statistics=True)
    request = client.encrypt(np.eye(4, 3), COLUMNS, model="m", now=1, statistic="count")
    answer = server.answer(resealed(client, request, rows=2), server.guest(bfv.public))
    with pytest.raises(EncryptedError, match="slots of a sum differ"):
        client.decrypt(answer)


def test_noise_that_ate_the_numbers_is_told(bfv: ClientKeys) -> None:
    """SEAL decrypts to other numbers then, and says nothing."""
    client, server = Client(bfv), Server(None, "m", BFV, statistics=True)
    request = client.encrypt(np.ones((2, 3)), COLUMNS, model="m", now=1, statistic="count")
    parts = envelope.opened(request, Request)[1]
    turned = np.frombuffer(parts[0][-8 * 4096 :], "<u8")[::-1].tobytes()  # the last polynomial, modulo its last prime
    noisy = parts[0][: -8 * 4096] + turned
    answer = server.answer(resealed(client, request, [noisy, *parts[1:]]), server.guest(bfv.public))
    with pytest.raises(EncryptedError, match="more noise than its parameters bear"):
        client.decrypt(answer)


def test_parameters_are_honoured_and_seal_does_not_choose(bfv: ClientKeys) -> None:
    """Pyfhel does not look at qi_sizes with BFV: it took five primes of its own for three that were told."""
    parameters = Parameters(scheme="BFV", poly_modulus_degree=8192, coeff_modulus_bits=(60, 40, 60))
    ring = Client(ClientKeys.generate(parameters))._encryptor.ring
    assert [prime.bit_length() for prime in ring.primes] == [60, 40, 60]
    assert ring.plain_modulus == plain_modulus(8192)
    assert len(set(ring.primes) | {ring.plain_modulus}) == 4  # 40 bits twice, and SEAL wants them coprime


def test_primes_are_primes_that_batch() -> None:
    for degree in (4096, 8192, 32768):
        primes = (*coefficient_primes(degree, (60, 40, 60, 40)), plain_modulus(degree))
        for prime in primes:
            assert prime % (2 * degree) == 1
            assert all(prime % divisor for divisor in range(3, 100_000, 2))
        assert len(set(primes)) == 5
        assert plain_modulus(degree).bit_length() == PLAIN_BITS
    with pytest.raises(EncryptedError, match="too few primes of 20 bits"):
        coefficient_primes(32768, (20,) * 16)


def test_too_small_parameters_are_refused_before_anything_is_made() -> None:
    with pytest.raises(EncryptedError, match=r"need 66 bits .* these are 40"):
        Server(None, "m", Parameters(scheme="BFV", coeff_modulus_bits=(40, 40)), statistics=True).check()
    totals.check_parameters(Parameters(scheme="BFV"))


def test_the_body_says_what_was_signed(bfv: ClientKeys) -> None:
    request = Client(bfv).encrypt(np.ones((2, 3)), COLUMNS, model="m", now=1, statistic="count")
    body = msgspec.json.decode(v2_body(request))
    assert body["parameters"] == {"encryption": "BFV", "statistic": "count"}
