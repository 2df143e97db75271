"""From keys to an opened aggregate: what is added unread is what was counted, and no more is told than may be."""

import hashlib
import multiprocessing
import shutil
import stat
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

import msgspec
import numpy as np
import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from hypothesis import given, settings
from hypothesis import strategies as st

pytest.importorskip("Pyfhel")

from modelward.audit import auditor
from modelward.audit.aggregate import Sum, WindowError, added, emptied, public_key, sealed
from modelward.audit.layout import Block, Counted, Layout, interval_names, layout_of
from modelward.audit.ledger import read
from modelward.audit.parameters import LEVEL, MAX_ROWS, MAX_WINDOWS, PARAMETERS, RING
from modelward.audit.told import Window
from modelward.encrypted import envelope
from modelward.encrypted.client import ClientKeys
from modelward.encrypted.context import Context, Decryptor, Encryptor, Evaluator, generate
from modelward.encrypted.parameters import EncryptedError

CONTROLLER = Ed25519PrivateKey.generate()
SIGNED_BY = CONTROLLER.public_key().public_bytes_raw().hex()
LAYOUT = layout_of((Counted("age", interval_names((30, 60)), (30, 60)), Counted("sex", ("f", "m"), outcome=True)))
SECONDS, NOW = 300, 3_000_000


@pytest.fixture(scope="module")
def keys() -> ClientKeys:
    return ClientKeys.generate(PARAMETERS)


@pytest.fixture(scope="module")
def encryptor(keys: ClientKeys) -> Encryptor:
    return Encryptor(PARAMETERS, public_key(keys.public))


@pytest.fixture(scope="module")
def decryptor(keys: ClientKeys) -> Decryptor:
    return Decryptor(PARAMETERS, keys.secret, public_key(keys.public))


def empty(keys: ClientKeys) -> Sum:
    return Sum(envelope.digest(keys.public), LAYOUT.digest())


def window(keys: ClientKeys, encryptor: Encryptor, counts: list[int], start: int = NOW - SECONDS) -> Window:
    ciphertext = encryptor.encrypt_integers(np.array(counts, dtype=np.int64))
    return Window(envelope.digest(keys.public), LAYOUT.digest(), start, ciphertext)


def test_who_adds_without_seal_does_it_by_the_same_primes() -> None:
    assert Context(PARAMETERS).ring == RING
    # As docs/reference/homomorphic.md tells whoever reads an aggregate otherwise.
    assert RING.primes == (68719403009, 68719230977, 137438822401)
    assert RING.plain_modulus == 1099511480321


@settings(max_examples=20, deadline=None)
@given(
    vectors=st.lists(
        st.lists(st.integers(0, (1 << 39) // 8), min_size=5, max_size=5).map(tuple), min_size=1, max_size=8
    )
)
def test_adding_ciphertexts_is_adding_what_is_in_them(
    vectors: list[tuple[int, ...]], keys: ClientKeys, encryptor: Encryptor, decryptor: Decryptor
) -> None:
    total = empty(keys)
    for pod, vector in enumerate(vectors):
        total = added(total, window(keys, encryptor, list(vector)), f"pod-{pod}", SECONDS, NOW)
    counts = decryptor.decrypt_integers(total.ciphertext, LEVEL)
    assert counts[:5].tolist() == [sum(column) for column in zip(*vectors, strict=True)]
    assert not counts[5:].any()
    assert (total.windows, total.contributed) == (len(vectors), len(vectors))


def test_the_sum_is_bit_for_bit_seals_own(encryptor: Encryptor) -> None:
    left, right = (encryptor.encrypt_integers(np.arange(4096) * factor) for factor in (1, 7))
    seal = Evaluator(PARAMETERS)
    assert RING.add(left, right) == seal.store(seal.add(seal.load(left), seal.load(right)))


def test_as_many_windows_as_there_may_be_leave_noise_to_spare(encryptor: Encryptor, decryptor: Decryptor) -> None:
    # Doubling is the worst there is: the noise of all is the same, and nothing of it cancels.
    total = encryptor.encrypt_integers(np.full(4096, 1 << 20))
    for _ in range(16):
        total = RING.add(total, total)
    assert MAX_WINDOWS == 1 << 16
    assert decryptor.noise_budget(total, LEVEL) >= auditor.LEAST_NOISE_BUDGET + 2
    assert (decryptor.decrypt_integers(total, LEVEL) == 1 << 36).all()


def test_a_window_comes_in_once(keys: ClientKeys, encryptor: Encryptor) -> None:
    first = window(keys, encryptor, [1])
    total = added(empty(keys), first, "a", SECONDS, NOW)
    again = window(keys, encryptor, [1])
    for total_now in (total, emptied(total, total.layout)):
        with pytest.raises(WindowError, match="came from this pod before"):
            added(total_now, again, "a", SECONDS, NOW)
    assert added(total, first, "b", SECONDS, NOW).windows == 2


def test_periods_are_disjoint_whatever_comes_late(keys: ClientKeys, encryptor: Encryptor) -> None:
    total = added(empty(keys), window(keys, encryptor, [1]), "a", SECONDS, NOW)
    following = emptied(emptied(total, LAYOUT.digest()), LAYOUT.digest())
    with pytest.raises(WindowError, match="it came late"):
        added(following, window(keys, encryptor, [1]), "b", SECONDS, NOW)
    following = added(following, window(keys, encryptor, [1], NOW), "b", SECONDS, NOW + SECONDS)
    assert (following.begun, following.windows, following.contributed) == (total.ended, 1, 1)


@pytest.mark.parametrize("start", [NOW - 299, NOW, NOW + SECONDS, NOW - 11 * SECONDS, 0])
def test_a_window_is_of_a_time_that_it_can_be_of(start: int, keys: ClientKeys, encryptor: Encryptor) -> None:
    with pytest.raises(WindowError, match="not of a time"):
        added(empty(keys), window(keys, encryptor, [1], start), "a", SECONDS, NOW)


def test_hostile_ciphertexts_are_refused(keys: ClientKeys, encryptor: Encryptor) -> None:
    good = window(keys, encryptor, [1, 2, 3])
    content = good.ciphertext
    beyond = content[:-8] + RING.primes[1].to_bytes(8, "little")
    other = Encryptor(
        other_parameters := PARAMETERS.__class__("BFV", 8192, (43, 43, 44, 44, 44)), generate_public(other_parameters)
    )
    strangers = [
        content[:-1],
        content + b"\0",
        b"",
        content[:200],
        beyond,
        b"\0" * len(content),
        other.encrypt_integers(np.arange(3)),
        keys.public,
    ]
    for stranger in strangers:
        with pytest.raises(WindowError):
            added(empty(keys), msgspec.structs.replace(good, ciphertext=stranger), "a", SECONDS, NOW)
    for field in ("keys", "layout"):
        with pytest.raises(WindowError, match="another key, or counts something else"):
            added(empty(keys), msgspec.structs.replace(good, **{field: "0" * 64}), "a", SECONDS, NOW)


def generate_public(parameters: object) -> bytes:
    return generate(parameters, [], squares=False)["public"]  # type: ignore[arg-type]


def test_no_more_windows_than_can_be_added_exactly(keys: ClientKeys, encryptor: Encryptor) -> None:
    full = msgspec.structs.replace(added(empty(keys), window(keys, encryptor, [1]), "a", SECONDS, NOW), windows=1 << 16)
    with pytest.raises(WindowError, match="as many as can be added exactly"):
        added(full, window(keys, encryptor, [1]), "b", SECONDS, NOW)


def test_a_count_beyond_half_the_plain_modulus_is_not_encrypted(encryptor: Encryptor) -> None:
    with pytest.raises(EncryptedError, match="a count is larger"):
        encryptor.encrypt_integers(np.array([RING.plain_modulus // 2 + 1]))


# --- the auditor


class Auditor:
    def __init__(self, folder: Path, **rules: object) -> None:
        self.folder = folder
        self.keys = auditor.generate(folder, SIGNED_BY, **rules)  # type: ignore[arg-type]
        self.encryptor = Encryptor(PARAMETERS, public_key(self.keys.public))

    def aggregate(
        self,
        counts: list[int],
        start: int = NOW - SECONDS,
        minimum: int = 10,
        signer: Ed25519PrivateKey = CONTROLLER,
        layout: Layout = LAYOUT,
    ) -> bytes:
        total = added(empty(self.keys), window(self.keys, self.encryptor, counts, start), "a", SECONDS, start + SECONDS)
        total = msgspec.structs.replace(total, layout=layout.digest())
        return sealed(total, layout.encode(), signer, model="clinic/wdbc", policy="DataPolicy p", minimum=minimum)


# below 30, [30, 60), 60 and above, other; f selected, f not, m selected, m not, other selected, other not, unknown
COUNTS = [1000, 500, 3, 0, 700, 300, 400, 100, 0, 0, 3]


def test_an_aggregate_opens_near_to_what_was_counted_and_small_counts_are_not_told(tmp_path: Path) -> None:
    own = Auditor(tmp_path)
    opened = auditor.opened(
        tmp_path, own.aggregate(COUNTS, minimum=50)
    )  # of few rows, noise makes as many once in 10^9
    assert [(cell.block, cell.cell) for cell in opened.cells[:5]] == [
        ("age", "below 30"),
        ("age", "[30, 60)"),
        ("age", "60 and above"),
        ("age", "other"),
        ("sex by outcome", "f: selected"),
    ]
    for cell, count in zip(opened.cells, COUNTS, strict=True):
        if count <= 3:
            assert cell.count is None, cell
        else:
            assert cell.count is not None, cell
            assert cell.count % 5 == 0
            assert abs(cell.count - count) <= 5 + 12 * opened.scale
    assert opened.left == 99
    assert opened.header.windows == 1


def test_groups_are_as_near_to_what_was_counted_as_is_said_small_cells_as_well(tmp_path: Path) -> None:
    both = (Counted("sex", ("f", "m"), outcome=True), Counted("sex", ("f", "m"), outcome=True, truth=True))
    layout = layout_of((Counted("age", ("x",)), *both))
    own = Auditor(tmp_path, epsilon="9.0")  # a small count is not told as a large one but once in 10^16 runs
    #  age; f, m, other by outcome, unknown; f, m, other by truth, unknown
    counts = [2000, 0, 5, 795, 900, 300, 0, 0, 0, 3, 2, 95, 200, 80, 10, 20, 190, 0, 0, 0, 0, 0]
    total = added(empty(own.keys), window(own.keys, own.encryptor, counts), "a", SECONDS, NOW)
    total = msgspec.structs.replace(total, layout=layout.digest())
    content = sealed(
        total,
        layout.encode(),
        CONTROLLER,
        model="m/m",
        policy="p",
        minimum=20,
        max_difference=0.1,
        minimum_group_size=50,
    )
    opened = auditor.opened(tmp_path, content)
    assert (opened.header.max_difference, opened.header.minimum_group_size) == (0.1, 50)
    (attribute,) = opened.attributes
    assert (attribute.field, [group.name for group in attribute.groups]) == ("sex", ["f", "m", "other"])
    off = opened.off(1e-9)  # of five groups of counts: it fails once in 10^8 runs
    for group, wanted in zip(
        attribute.groups[:2], ((800, 5, 97, 2, 203, 3), (1200, 900, 100, 80, 200, 10)), strict=True
    ):
        for found, was, cells in zip(group.vector, wanted, (2, 1, 2, 1, 2, 1), strict=True):
            assert abs(found - was) <= cells * off, (group, wanted)
    assert opened.unknown <= off
    suppressed = [cell.count for cell in opened.cells if cell.cell == "f: selected"]
    assert suppressed == [None]


def test_a_block_of_truths_need_not_sum_to_the_rows_but_to_the_other_blocks_of_truths(tmp_path: Path) -> None:
    both = [Counted(field, ("f",), outcome=True, truth=True) for field in ("a", "b")]
    layout = layout_of((Counted("age", ("x",)), *both))
    own = Auditor(tmp_path)
    good = [500, 0, *[40, 0, 0, 0, 0, 0, 0, 0, 0], *[0, 40, 0, 0, 0, 0, 0, 0, 0]]
    for number, (counts, opens) in enumerate(((good, True), ([*good[:-1], 1], False))):
        total = added(
            empty(own.keys), window(own.keys, own.encryptor, counts, NOW + number * SECONDS), "a", SECONDS,
            NOW + (number + 1) * SECONDS,
        )  # fmt: skip
        total = msgspec.structs.replace(total, layout=layout.digest())
        content = sealed(total, layout.encode(), CONTROLLER, model="m/m", policy="p", minimum=1)
        assert _opens(tmp_path, content) is opens


def test_the_same_aggregate_opens_alike_and_spends_once(tmp_path: Path) -> None:
    own = Auditor(tmp_path)
    aggregate = own.aggregate(COUNTS)
    first, second = (auditor.opened(tmp_path, aggregate) for _ in range(2))
    assert first == second
    assert first.left == 99


def test_another_aggregate_of_the_same_time_is_refused(tmp_path: Path) -> None:
    own = Auditor(tmp_path)
    auditor.opened(tmp_path, own.aggregate(COUNTS))
    with pytest.raises(EncryptedError, match="the difference of the two would tell of few rows"):
        auditor.opened(tmp_path, own.aggregate(COUNTS))  # encrypted anew
    assert auditor.opened(tmp_path, own.aggregate(COUNTS, NOW)).left == 98


def test_the_budget_ends_and_deleting_nothing_brings_it_back(tmp_path: Path) -> None:
    own = Auditor(tmp_path, releases=1)
    first = own.aggregate(COUNTS)
    assert auditor.opened(tmp_path, first).left == 0
    with pytest.raises(EncryptedError, match="all 1 releases of this key are spent"):
        auditor.opened(tmp_path, own.aggregate(COUNTS, NOW))
    assert auditor.opened(tmp_path, first).left == 0
    (tmp_path / "secret/releases.json").unlink()
    with pytest.raises(FileNotFoundError):
        auditor.opened(tmp_path, first)


def _opens(folder: Path, aggregate: bytes) -> bool:
    try:
        auditor.opened(folder, aggregate)
    except EncryptedError:
        return False
    return True


def test_whoever_opens_at_the_same_time_no_more_is_released(tmp_path: Path) -> None:
    own = Auditor(tmp_path, releases=2)
    aggregates = [own.aggregate(COUNTS, NOW + number * SECONDS) for number in range(4)]
    with ProcessPoolExecutor(2, multiprocessing.get_context("spawn")) as processes:
        done = list(processes.map(_opens, [tmp_path] * 4, aggregates))
    assert sum(done) == 2
    assert read(tmp_path).left == 0


def test_what_is_no_sum_spends_the_budget_and_tells_nothing(tmp_path: Path) -> None:
    own = Auditor(tmp_path)
    broken = [
        [1, *COUNTS[1:]],  # blocks that do not sum to the same
        [*COUNTS, 1],  # something behind the last cell
        [1001, 500, 3, -1, *COUNTS[4:]],
        [1 << 30, 0, 0, 0, 1 << 30, 0, 0, 0, 0, 0, 0],  # more rows than a window counts
    ]
    for index, counts in enumerate(broken):
        with pytest.raises(EncryptedError, match="no sum of what sidecars count"):
            auditor.opened(tmp_path, own.aggregate(counts, NOW + index * SECONDS))
    assert read(tmp_path).left == 100 - len(broken)


def test_what_honest_sidecars_count_never_wraps_around_and_what_wraps_is_no_sum(tmp_path: Path) -> None:
    """A lying sidecar adds or takes away rows of a group as it likes; a sum that no sidecars could count is refused."""
    assert RING.plain_modulus > 2 * MAX_ROWS * MAX_WINDOWS
    own = Auditor(tmp_path)
    honest = window(own.keys, own.encryptor, COUNTS)
    total = added(empty(own.keys), honest, "a", SECONDS, NOW)
    half = RING.plain_modulus // 2
    lies = [
        ([-600, 0, 0, 0, -600, 0, 0, 0, 0, 0, 0], True),  # by fewer than others have counted
        ([-1200, 0, 0, 0, -600, -600, 0, 0, 0, 0, 0], False),  # by more
        ([half, 0, 0, 0, half, 0, 0, 0, 0, 0, 0], False),  # past where numbers become negative
        ([half - 500, half - 500, 0, 0, half - 500, half - 500, 0, 0, 0, 0, 0], False),
    ]
    for number, (counts, opens) in enumerate(lies):
        lie = window(own.keys, own.encryptor, counts)
        both = added(total, lie, "b", SECONDS, NOW)
        both = msgspec.structs.replace(both, begun=NOW + number, ended=NOW + number + 1)
        content = sealed(both, LAYOUT.encode(), CONTROLLER, model="m/m", policy="p", minimum=1)
        assert _opens(tmp_path, content) is opens, counts
    assert read(tmp_path).left == 100 - len(lies)


def test_a_copy_of_the_keys_has_a_budget_of_its_own_and_tells_of_one_aggregate_the_same(tmp_path: Path) -> None:
    """No ledger knows what another machine has opened; the noise is the same there, and averages out nowhere."""
    own = Auditor(tmp_path / "one", releases=1)
    shutil.copytree(tmp_path / "one", tmp_path / "two")
    first, second = own.aggregate(COUNTS), own.aggregate(COUNTS, NOW)
    told = [auditor.opened(tmp_path / folder, first).cells for folder in ("one", "two")]
    assert told[0] == told[1]
    assert not _opens(tmp_path / "one", second)
    shutil.copyfile(tmp_path / "one/secret/releases.json", tmp_path / "two/secret/releases.json")
    assert not _opens(tmp_path / "two", second)


def test_a_ciphertext_with_the_noise_of_too_many_is_not_decrypted(tmp_path: Path) -> None:
    own = Auditor(tmp_path)
    total = added(empty(own.keys), window(own.keys, own.encryptor, [0] * 11), "a", SECONDS, NOW)
    ciphertext = total.ciphertext
    told = set()
    for doubled in range(30):  # from a noise that is too large to one at which nothing can be decrypted
        ciphertext = RING.add(ciphertext, ciphertext)
        if doubled < 22:
            continue
        noisy = msgspec.structs.replace(total, ciphertext=ciphertext, begun=NOW + doubled, ended=NOW + doubled + 1)
        with pytest.raises(EncryptedError) as refused:
            auditor.opened(tmp_path, sealed(noisy, LAYOUT.encode(), CONTROLLER, model="m/m", policy="p", minimum=1))
        told.add(str(refused.value))
    assert len(told) == 1
    assert "no sum of what sidecars count" in told.pop()


def test_a_ciphertext_that_shows_the_secret_key_is_not_opened(tmp_path: Path) -> None:
    """(0, q/t) decrypts to the secret key's own coefficients: no counters, and nothing but that is told."""
    own = Auditor(tmp_path)
    total = added(empty(own.keys), window(own.keys, own.encryptor, COUNTS), "a", SECONDS, NOW)
    primes = RING.primes[:2]
    scale = primes[0] * primes[1] // RING.plain_modulus
    polynomials = np.zeros((2, 2, 4096), dtype="<u8")
    polynomials[1, :, 0] = [scale % prime for prime in primes]
    lead = len(total.ciphertext) - polynomials.nbytes
    hostile = total.ciphertext[:lead] + polynomials.tobytes()
    for ciphertext in (hostile, RING.add(hostile, total.ciphertext)):
        RING.check_ciphertext(ciphertext, LEVEL)
        shown = msgspec.structs.replace(
            total, ciphertext=ciphertext, begun=total.begun + 1000, ended=total.ended + 1000
        )
        total = shown
        aggregate = sealed(shown, LAYOUT.encode(), CONTROLLER, model="m/m", policy="p", minimum=1)
        with pytest.raises(EncryptedError, match="no sum of what sidecars count"):
            auditor.opened(tmp_path, aggregate)
    assert read(tmp_path).left == 98


def test_only_the_controllers_aggregates_are_opened(tmp_path: Path) -> None:
    own = Auditor(tmp_path / "own")
    stranger = Ed25519PrivateKey.generate()
    good = own.aggregate(COUNTS)
    changed = bytearray(good)
    changed[len(good) // 2] ^= 1
    others = Auditor(tmp_path / "other").aggregate(COUNTS)
    for aggregate, why in (
        (own.aggregate(COUNTS, signer=stranger), "signature does not fit"),
        (bytes(changed), "signature does not fit"),
        (good[:-1], "cut short"),
        (others, "encrypted to other keys"),
        (own.keys.public, "header of aggregate"),
        (b"", "cannot be aggregate"),
    ):
        with pytest.raises(EncryptedError, match=why):
            auditor.opened(own.folder, aggregate)
    assert read(own.folder).left == 100  # nothing was decrypted for any of them


def test_a_layout_that_is_not_the_one_named_is_refused(tmp_path: Path) -> None:
    own = Auditor(tmp_path)
    total = added(empty(own.keys), window(own.keys, own.encryptor, COUNTS), "a", SECONDS, NOW)
    other = Layout((Block("age", ("a", "b")),))
    aggregate = sealed(total, other.encode(), CONTROLLER, model="m/m", policy="p", minimum=1)
    with pytest.raises(EncryptedError, match="layout is another"):
        auditor.opened(tmp_path, aggregate)


def test_an_aggregate_that_an_earlier_version_gave_out_is_opened(tmp_path: Path) -> None:
    own = Auditor(tmp_path)
    blocks = [{"name": "age", "cells": ["young", "old", "other"], "edges": [40.0], "rule": ""}]
    layout = msgspec.json.encode({"blocks": blocks, "uncounted": ["name"]})
    digest = hashlib.sha256(layout).hexdigest()
    total = added(empty(own.keys), window(own.keys, own.encryptor, [900, 800, 0]), "a", SECONDS, NOW)
    total = msgspec.structs.replace(total, layout=digest)
    opened = auditor.opened(tmp_path, sealed(total, layout, CONTROLLER, model="m/m", policy="p", minimum=10))
    assert [cell.cell for cell in opened.cells] == ["young", "old", "other"]
    assert opened.attributes == ()


def test_secrets_are_their_owners_alone(tmp_path: Path) -> None:
    Auditor(tmp_path)
    for name in ("secret.key", "noise.key", "releases.json"):
        assert stat.S_IMODE((tmp_path / "secret" / name).stat().st_mode) == 0o600
    with pytest.raises(EncryptedError, match="is there already"):
        Auditor(tmp_path)


def test_a_key_of_noise_that_others_may_know_or_that_is_none_opens_nothing(tmp_path: Path) -> None:
    own = Auditor(tmp_path)
    aggregate, noise = own.aggregate(COUNTS), tmp_path / "secret/noise.key"
    noise.chmod(0o644)  # as a copy of the folder has it
    with pytest.raises(EncryptedError, match=r"noise\.key can be read by others: chmod 600"):
        auditor.opened(tmp_path, aggregate)
    noise.chmod(0o600)
    for content in (b"", noise.read_bytes() + b"\n"):
        noise.write_bytes(content)
        with pytest.raises(EncryptedError, match=r"noise\.key is no key of 32 bytes"):
            auditor.opened(tmp_path, aggregate)
    assert read(tmp_path).left == 100


def test_a_clients_keys_are_no_auditors() -> None:
    with pytest.raises(EncryptedError, match="not an auditor's keys"):
        public_key(ClientKeys.generate().public)
