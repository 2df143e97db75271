"""From a client's rows to its scores, and every way in which somebody else's bytes are not taken for them."""

import json
from pathlib import Path

import msgspec
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from modelward.encrypted import envelope
from modelward.encrypted.client import Client, ClientKeys
from modelward.encrypted.model import Model, read, sigmoid_polynomial
from modelward.encrypted.parameters import EncryptedError, Parameters
from modelward.encrypted.serve import Guests, Server

pytest.importorskip("Pyfhel")
DEEP = Parameters(poly_modulus_degree=8192, coeff_modulus_bits=(50, 35, 35, 35, 50), scale_bits=35)
COLUMNS = [f"f{index}" for index in range(30)]
RNG = np.random.default_rng(3)
WEIGHTS = RNG.normal(size=30)
LINEAR = read(json.dumps({"coef": WEIGHTS.tolist(), "intercept": 0.25}).encode())


@pytest.fixture(scope="module")
def keys() -> ClientKeys:
    return ClientKeys.generate(columns=32)


@pytest.fixture(scope="module")
def deep() -> ClientKeys:
    return ClientKeys.generate(DEEP, squares=True)


def ask(keys: ClientKeys, model: Model, rows: np.ndarray, **options: object) -> tuple[np.ndarray, envelope.Answer]:
    client = Client(keys)
    server = Server(model, "wdbc", client.parameters)
    names = COLUMNS[: rows.shape[1]]
    request = client.encrypt(rows, names, model="wdbc", now=1, **options)  # type: ignore[arg-type]
    return client.decrypt(server.answer(request, server.guest(keys.public)))


@pytest.mark.parametrize("layout", ["row", "columns"])
def test_a_linear_score_is_that_of_the_plain_model(keys: ClientKeys, layout: str) -> None:
    rows = RNG.normal(size=(5, 30))
    scores, header = ask(keys, LINEAR, rows, layout=layout)
    assert header.layout == layout
    assert header.error < 1.1e-6
    assert np.abs(scores[:, 0] - (rows @ WEIGHTS + 0.25)).max() < header.error


def test_the_logistic_link_is_exact(keys: ClientKeys) -> None:
    model = read(json.dumps({"coef": WEIGHTS.tolist(), "link": "logistic"}).encode())
    rows = RNG.normal(size=(1, 30))
    scores, _ = ask(keys, model, rows)
    assert abs(scores[0, 0] - 1 / (1 + np.exp(-(rows @ WEIGHTS)[0]))) < 1e-7


def test_classes_by_softmax(keys: ClientKeys) -> None:
    weights = RNG.normal(size=(3, 30))
    model = read(json.dumps({"coef": weights.tolist(), "intercept": [0.1, 0.2, 0.3], "link": "softmax"}).encode())
    rows = RNG.normal(size=(2, 30))
    scores, _ = ask(keys, model, rows)
    powers = np.exp(rows @ weights.T + [0.1, 0.2, 0.3])
    assert np.allclose(scores, powers / powers.sum(axis=1, keepdims=True), atol=1e-6)


def test_a_network_with_squares(deep: ClientKeys) -> None:
    first, second = RNG.normal(size=(4, 6)), RNG.normal(size=(2, 4))
    layers = [{"weights": first.tolist(), "bias": [0.1] * 4}, {"weights": second.tolist(), "bias": [0.5, -0.5]}]
    model = read(json.dumps({"layers": layers}).encode())
    rows = RNG.normal(size=(7, 6))
    scores, _ = ask(deep, model, rows, bound_bits=3)
    assert np.allclose(scores, (rows @ first.T + 0.1) ** 2 @ second.T + [0.5, -0.5], atol=1e-4)


def test_the_logistic_function_under_encryption_and_its_error(deep: ClientKeys) -> None:
    model = read(json.dumps({"coef": [1.0, 0.5], "intercept": -0.5, "link": "logistic3"}).encode())
    rows = RNG.uniform(-4, 4, size=(50, 2))
    scores, header = ask(deep, model, rows, bound_bits=3)
    z = rows @ [1.0, 0.5] - 0.5
    linear, cubic, error = sigmoid_polynomial()
    assert np.allclose(scores[:, 0], 0.5 + linear * z + cubic * z**3, atol=1e-5)
    assert header.link_error == error < 0.12
    assert np.abs(scores[:, 0] - 1 / (1 + np.exp(-z))).max() < error + 1e-5


def test_every_slot_of_a_row_holds_the_score_and_no_part_of_it(keys: ClientKeys) -> None:
    """One answer must not give the weights away, as partial sums in the other slots would."""
    client = Client(keys)
    server = Server(LINEAR, "wdbc", client.parameters)
    rows = RNG.normal(size=(1, 30))
    request = client.encrypt(rows, COLUMNS, model="wdbc", now=1, layout="row")
    header, parts = envelope.opened(server.answer(request, server.guest(keys.public)), envelope.Answer)
    slots = client._decryptor.decrypt(parts[0], header.level.primes, header.level.scale)
    assert np.abs(slots - (rows @ WEIGHTS + 0.25)).max() < 1e-6


def resealed(client: Client, request: bytes, **changes: object) -> bytes:
    """What a client would send that says other things of its ciphertexts."""
    header, parts = envelope.opened(request, envelope.Request)
    return envelope.sealed(msgspec.structs.replace(header, **changes), parts, client._signing)


def test_rows_beyond_those_that_a_request_names_are_not_scored(keys: ClientKeys) -> None:
    """Who is counted by rows could have 4,096 of them scored as one, and with them the weights."""
    client = Client(keys)
    server = Server(LINEAR, "wdbc", client.parameters)
    rows = RNG.normal(size=(4, 30))
    request = resealed(client, client.encrypt(rows, COLUMNS, model="wdbc", now=1, layout="columns"), rows=2)
    header, parts = envelope.opened(server.answer(request, server.guest(keys.public)), envelope.Answer)
    slots = client._decryptor.decrypt(parts[0], header.level.primes, header.level.scale)
    assert np.abs(slots[:2] - (rows[:2] @ WEIGHTS + 0.25)).max() < 1e-6
    assert np.abs(slots[2:]).max() < 1e-6


def test_columns_that_cancel_are_an_error_with_a_name(keys: ClientKeys) -> None:
    """A client's own second column, the first negated: SEAL ends what comes to hide nothing («transparent»)."""
    client = Client(keys)
    server = Server(read(b'{"coef": [1, 1]}'), "m", client.parameters)
    request = client.encrypt(np.ones((4, 2)), ["a", "b"], model="m", now=1, layout="columns")
    header, (part, _) = envelope.opened(request, envelope.Request)
    degree, primes = client.parameters.poly_modulus_degree, client._encryptor.ring.primes[:2]
    numbers = np.frombuffer(part[-4 * degree * 8 :], "<u8").reshape(2, 2, degree)
    negated = (np.array(primes, "<u8")[:, np.newaxis] - numbers) % np.array(primes, "<u8")[:, np.newaxis]
    other = part[: -4 * degree * 8] + negated.astype("<u8").tobytes()
    with pytest.raises(EncryptedError, match=r"cannot be computed with: .*transparent"):
        server.answer(envelope.sealed(header, [part, other], client._signing), server.guest(keys.public))


@pytest.mark.parametrize(
    ("rows", "options", "told"),
    [
        (np.full((1, 30), np.nan), {}, "row 0 has no finite number in f0"),
        (np.full((1, 30), 2000.0), {}, "beyond 2\\^10"),
        (np.ones((0, 30)), {}, "are needed"),
        (np.ones((65, 30)), {"layout": "row"}, "64 fit one request by row"),
        (np.ones((5000, 30)), {}, "split them"),
    ],
)
def test_rows_that_cannot_be_encrypted(keys: ClientKeys, rows: np.ndarray, options: dict[str, str], told: str) -> None:
    with pytest.raises(EncryptedError, match=told):
        Client(keys).encrypt(rows, COLUMNS, model="wdbc", now=1, **options)  # type: ignore[arg-type]


def test_rows_wider_than_the_keys_go_by_columns(keys: ClientKeys) -> None:
    names = [f"c{index}" for index in range(40)]
    with pytest.raises(EncryptedError, match="up to 32 columns"):
        Client(keys).encrypt(np.ones((1, 40)), names, model="m", now=1, layout="row")
    request = Client(keys).encrypt(np.ones((1, 40)), names, model="m", now=1)
    assert envelope.opened(request, envelope.Request)[0].layout == "columns"


def test_requests_of_another_client_or_for_another_model_are_refused(keys: ClientKeys) -> None:
    client, other = Client(keys), ClientKeys.generate(columns=32)
    server = Server(LINEAR, "wdbc", client.parameters)
    request = client.encrypt(np.ones((1, 30)), COLUMNS, model="wdbc", now=1)
    with pytest.raises(EncryptedError, match="other keys"):
        server.accept(request, server.guest(other.public))
    header, parts = envelope.opened(request, envelope.Request)
    stolen = envelope.sealed(
        envelope.msgspec.structs.replace(header, keys=envelope.digest(other.public)), parts, Client(keys)._signing
    )
    with pytest.raises(EncryptedError, match="signature"):
        server.accept(stolen, server.guest(other.public))
    with pytest.raises(EncryptedError, match="for the model wdbc"):
        Server(LINEAR, "another", client.parameters).accept(request, server.guest(keys.public))
    with pytest.raises(EncryptedError, match="--degree 8192 --modulus-bits 50,35,35,35,50"):
        Server(LINEAR, "wdbc", DEEP).guest(keys.public)
    narrow = client.encrypt(np.ones((1, 3)), COLUMNS[:3], model="wdbc", now=1)
    with pytest.raises(EncryptedError, match="3 columns, the model 30"):
        server.accept(narrow, server.guest(keys.public))


def test_an_answer_to_another_request_or_client_is_not_read(keys: ClientKeys) -> None:
    client = Client(keys)
    server = Server(LINEAR, "wdbc", client.parameters)
    request = client.encrypt(np.ones((1, 30)), COLUMNS, model="wdbc", now=1)
    answer = server.answer(request, server.guest(keys.public))
    client.decrypt(answer)
    with pytest.raises(EncryptedError, match="not one to a request of this client"):
        Client(ClientKeys.generate()).decrypt(answer)
    header, parts = envelope.opened(answer, envelope.Answer)
    again = client.encrypt(np.zeros((1, 30)), COLUMNS, model="wdbc", now=1)
    nonce = envelope.opened(again, envelope.Request)[0].nonce
    swapped = envelope.sealed(envelope.msgspec.structs.replace(header, nonce=nonce), parts, b"guess" * 6)
    with pytest.raises(EncryptedError, match="not one to a request"):
        client.decrypt(swapped)


def test_a_changed_byte_anywhere_in_request_keys_or_answer_is_seen(keys: ClientKeys) -> None:
    client = Client(keys)
    server = Server(LINEAR, "wdbc", client.parameters)
    guest = server.guest(keys.public)
    request = client.encrypt(np.ones((1, 30)), COLUMNS, model="wdbc", now=1)
    answer = server.answer(request, guest)
    rng = np.random.default_rng(9)
    for content, use in (
        (request, lambda changed: server.accept(changed, guest)),
        (keys.public, server.guest),
        (answer, client.decrypt),
    ):
        places = [*range(0, 600, 29), *rng.integers(0, len(content), 9)]
        for place in places:
            changed = bytearray(content)
            changed[place] ^= 1 << int(rng.integers(8))
            with pytest.raises(EncryptedError):
                use(bytes(changed))
        for cut in (0, 8, 100, len(content) - 1):
            with pytest.raises(EncryptedError):
                use(content[:cut])
        with pytest.raises(EncryptedError):
            use(content + b"\0")


def test_a_process_keeps_few_clients_keys(keys: ClientKeys) -> None:
    guests = Guests(Server(LINEAR, "wdbc", Parameters()), most=1)
    first = guests.admit(keys.public)
    assert guests.known(envelope.digest(keys.public)) is first
    guests.admit(ClientKeys.generate(columns=2).public)
    assert guests.known(envelope.digest(keys.public)) is None


@pytest.mark.parametrize(
    ("content", "told"),
    [
        (b"{}", "cannot be read"),
        (b'{"coef": [0, 0]}', "all weights are zero"),
        (b'{"coef": [[1, 2], [3]], "intercept": [0, 0]}', "one length"),
        (b'{"coef": [1, [2]]}', "not of both"),
        (b'{"coef": [[1], [2]], "intercept": [1]}', "a bias"),
        (b'{"coef": [1], "link": "tanh"}', "cannot be read"),
        (b'{"coef": [[1],[2]], "link": "logistic3", "intercept": [0, 0]}', "one output"),
        (b'{"layers": [{"weights": [[1]], "bias": [1]}, {"weights": [[1, 2]], "bias": [1]}]}', "the next takes 2"),
        (b'{"coef": [1, 2], "columns": ["a"]}', "1 columns are named"),
        (b'{"coef": [NaN]}', "cannot be read"),
    ],
)
def test_weights_that_cannot_be(content: bytes, told: str) -> None:
    with pytest.raises(EncryptedError, match=told):
        read(content)


def test_a_model_deeper_than_the_parameters_is_refused_with_what_is_missing() -> None:
    model = read(b'{"layers": [{"weights": [[1]], "bias": [1]}, {"weights": [[1]], "bias": [1]}]}')
    with pytest.raises(EncryptedError, match=r"multiplies 3 times .* allow 1: add 2 primes"):
        Server(model, "m", Parameters()).check()
    Server(model, "m", DEEP).check()
    with pytest.raises(EncryptedError, match="whole numbers"):
        model.check(Parameters(scheme="BFV"))


@settings(max_examples=200, deadline=None)
@given(content=st.binary(max_size=400), lead=st.sampled_from([b"", b"MWHE\x01", b"MWHB\x01\x01\0\0\0", b"MWHE\x02"]))
def test_no_bytes_are_more_than_an_error(content: bytes, lead: bytes) -> None:
    for kind in (envelope.Keys, envelope.Request, envelope.Answer):
        with pytest.raises(EncryptedError):
            envelope.opened(lead + content, kind)


def test_secret_files_are_for_their_owner_alone(keys: ClientKeys, tmp_path: Path) -> None:
    keys.write(tmp_path / "k")
    assert (tmp_path / "k/secret").stat().st_mode & 0o777 == 0o700
    assert all(path.stat().st_mode & 0o777 == 0o600 for path in (tmp_path / "k/secret").iterdir())
    assert ClientKeys.read(tmp_path / "k") == keys
    with pytest.raises(EncryptedError, match="there already"):
        keys.write(tmp_path / "k")
    (tmp_path / "k/secret/secret.key").chmod(0o644)
    with pytest.raises(EncryptedError, match="chmod 600"):
        ClientKeys.read(tmp_path / "k")
