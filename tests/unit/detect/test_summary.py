from __future__ import annotations

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from modelward.detect.encoding import Column
from modelward.detect.summary import BINS, Summary, read, summarise


def of(values: np.ndarray) -> Summary:
    return summarise((Column("x"),), values[:, np.newaxis], np.random.default_rng(0))


@example(np.array([1.0, np.nextafter(1.0, 2.0)]))
@given(arrays(np.float64, st.integers(1, 80), elements=st.floats(-1e9, 1e9)))
def test_every_row_is_counted_once_and_where_bins_says(values):
    summary = of(values)
    assert len(summary.counts[0]) == len(summary.edges[0]) + 1 <= BINS
    assert (np.diff(summary.edges[0]) > 0).all()
    assert np.bincount(summary.bins(0, values), minlength=len(summary.counts[0])).tolist() == summary.counts[0].tolist()


def test_a_column_of_numbers_has_bins_of_equally_many():
    counts = of(np.random.default_rng(0).exponential(size=10_000)).counts[0]
    assert counts == pytest.approx([10_000 / BINS] * BINS, abs=1)


def test_a_value_that_many_share_has_a_bin_of_its_own():
    assert 600 in of(np.concatenate([np.zeros(600), np.linspace(-1, 2.1, 400)])).counts[0].tolist()


def test_few_values_have_a_bin_each_and_what_lies_between_was_never_seen():
    summary = of(np.repeat([0.0, 1.0, 5.0], [900, 97, 3]))
    assert summary.counts[0][summary.bins(0, np.array([0.0, 1.0, 5.0]))].tolist() == [900, 97, 3]
    assert summary.counts[0][summary.bins(0, np.array([-1.0, 0.5, 4.9, 6.0]))].tolist() == [0, 0, 0, 0]


@pytest.mark.parametrize(("values", "kept"), [((0, 255), 306), ((-5, 300), 153), ((0, 0.5), 38)])
def test_of_wide_whole_numbers_more_rows_are_kept(values, kept):
    rows = np.random.default_rng(0).choice(values, size=(600, 784)).astype(np.float64)
    columns = tuple(Column(f"x{at}") for at in range(784))
    summary = summarise(columns, rows, np.random.default_rng(0))
    assert len(summary.sample) == kept
    assert np.array_equal(read(summary.arrays(), columns).sample, summary.sample)


@pytest.mark.parametrize("sample", [None, np.zeros((3, 1), dtype=np.float32), np.zeros((3, 1), dtype=np.uint64)])
def test_a_sample_of_another_type_is_refused(sample):
    parts = of(np.arange(50.0)).arrays()
    parts = {name: part for name, part in parts.items() if name != "sample"} | (
        {"sample": sample} if sample is not None else {}
    )
    with pytest.raises(ValueError, match="sample"):
        read(parts, (Column("x"),))
