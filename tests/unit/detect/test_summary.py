from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from modelward.detect.encoding import Column
from modelward.detect.summary import BINS, Summary, summarise


def of(values: np.ndarray) -> Summary:
    return summarise((Column("x"),), values[:, np.newaxis], np.random.default_rng(0))


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
