from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from modelward.detect import poison
from modelward.detect.poison import PoisonError


def classes(count=300, seed=0, width=6):
    rng = np.random.default_rng(seed)
    labels = rng.integers(3, size=count)
    return rng.normal(size=(count, width)) + 6 * np.eye(width)[labels], np.array(["cat", "dog", "owl"])[labels]


def test_a_flipped_label_is_contradicted_by_its_neighbours():
    rows, labels = classes()
    flipped = np.flatnonzero(labels == "cat")[:8]
    labels = labels.copy()
    labels[flipped] = "dog"
    found = poison.contradicted(rows, labels).found
    assert {suspect.row for suspect in found} == set(flipped.tolist())
    assert found[0].reason == "labelled dog, and 10 of its 10 nearest rows are cat"


def test_clean_data_is_not_contradicted():
    rows, labels = classes(seed=1)
    assert not poison.contradicted(rows, labels).found


def test_more_rows_than_the_reference_holds(monkeypatch):
    monkeypatch.setattr(poison, "MAX_REFERENCE", 100)
    rows, labels = classes()
    labels = np.where(np.arange(300) == 7, "owl" if labels[7] != "owl" else "cat", labels)
    assert [suspect.row for suspect in poison.contradicted(rows, labels).found] == [7]


def test_a_class_within_a_class_is_found():
    rows, labels = classes(600, width=12)
    planted = np.flatnonzero(labels == "dog")[:10]
    rows[planted] += 15 * np.eye(12)[11]
    found = poison.spectral_signatures(rows, labels).found
    assert {suspect.row for suspect in found} == set(planted.tolist())
    assert "the rows labelled dog differ most" in found[0].reason


@given(st.integers(0, 200))
def test_a_clean_class_gives_hardly_a_suspect(seed):
    rows, labels = classes(200, seed)
    assert len(poison.spectral_signatures(rows, labels).found) <= 1


def test_no_more_than_the_paper_takes():
    rows, labels = classes(300)
    rows[:150] *= np.linspace(1, 50, 150)[:, np.newaxis]
    found = poison.spectral_signatures(rows, labels, share=0.02).found
    assert 0 < len(found) <= sum(np.ceil(0.03 * (labels == name).sum()) for name in ("cat", "dog", "owl"))


def test_the_same_rows_are_grouped():
    rows = np.array([[1.0, 0.0], [2.0, 1.0], [1.0, -0.0], [3.0, 3.0], [2.0, 1.0], [1.0, 0.0]])
    assert poison.repeated(rows) == ((0, 2, 5), (1, 4))


def test_copies_with_a_little_noise_are_found_and_exact_ones_are_not_told_twice():
    rows, _ = classes()
    rows[10] = rows[20] + 1e-4
    rows[30] = rows[40]
    found = poison.nearly_repeated(rows).found
    assert {suspect.row for suspect in found} == {10, 20}
    assert "of the usual distance from row" in found[0].reason


@pytest.mark.parametrize("look", [poison.contradicted, poison.spectral_signatures])
@given(
    rows=st.lists(st.lists(st.floats(-1e100, 1e100), min_size=3, max_size=3), min_size=2, max_size=30),
    seed=st.integers(0, 9),
)
def test_any_data_has_scores(look, rows, seed):
    labels = np.random.default_rng(seed).integers(3, size=len(rows))
    suspects = look(np.array(rows) * 1e-80, labels)
    assert suspects.scores.shape == (len(rows),)
    assert np.isfinite(suspects.scores).all()


def test_all_the_same_is_borne():
    rows, labels = np.ones((50, 3)), np.arange(50) % 2
    assert not poison.spectral_signatures(rows, labels).found
    assert not poison.nearly_repeated(rows).found
    assert len(poison.repeated(rows)[0]) == 50


def test_what_cannot_be_compared_is_told():
    rows, labels = classes(30)
    with pytest.raises(PoisonError, match="as many labels"):
        poison.contradicted(rows, labels[:5])
    with pytest.raises(PoisonError, match="not 1"):
        poison.repeated(rows[:1])
    with pytest.raises(PoisonError, match="number that is none"):
        poison.nearly_repeated(np.full((3, 3), np.nan))
    with pytest.raises(PoisonError, match="columns"):
        poison.spectral_signatures(np.zeros((3, 3000)), np.zeros(3))
