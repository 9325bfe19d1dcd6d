"""Blocks that several threads sum have the moments of one call, and the same bits each time."""

from __future__ import annotations

import numpy as np
import pytest

from fastlsgd import LeastSquaresCV, LeastSquaresRegressor, Moments, config_context
from fastlsgd.streaming import StreamError, scan
from fastlsgd.streaming.block_sums import BlockSums, whole_block

N, D, ROWS = 30_000, 64, 9_000  # each block has more multiply-adds than one thread takes alone


@pytest.fixture(scope="module")
def rows():
    rng = np.random.default_rng(0)
    X = np.asfortranarray(rng.standard_normal((N, D), np.float32) + np.arange(D, dtype=np.float32))
    return X, rng.normal(size=N), rng.integers(0, 3, N).astype(float)


def batches(X, y, s):
    return [(X[k : k + ROWS], y[k : k + ROWS], s[k : k + ROWS]) for k in range(0, N, ROWS)]


def is_same(a: Moments, b: Moments) -> bool:
    return all(
        np.array_equal(getattr(a, name), getattr(b, name)) for name in ("xx", "xy", "x_mean")
    )


@pytest.mark.parametrize("n_threads", [1, 2, 3])
def test_moments_are_those_of_one_call(rows, n_threads):
    whole = Moments.from_data(*rows)
    with config_context(n_threads=n_threads):
        found = scan(batches(*rows)).moments()
        assert is_same(found, scan(batches(*rows)).moments())
    assert (found.n_samples, found.weight) == (whole.n_samples, whole.weight)
    for name in ("xx", "xy", "yy"):
        expected = getattr(whole, name)
        scale = np.abs(expected).max()
        np.testing.assert_allclose(getattr(found, name), expected, rtol=1e-12, atol=1e-12 * scale)


def test_small_and_weightless_blocks_come_in_order(rows):
    X, y, _ = rows
    nothing = np.zeros(9_000)
    parts = [(X[:10], y[:10]), (X[10:20_000], y[10:20_000])]
    parts += [(X[:9_000], y[:9_000], nothing), (X[20_000:], y[20_000:])]
    sums = BlockSums([Moments()], whole_block, None, None)
    seen = [(block.place, sums.moments[0].n_samples) for block in sums.add(scan(parts).blocks())]
    counts = (10, 20_000, 20_000, N)
    assert seen == [(f"batch {k}", count) for k, count in enumerate(counts)]
    expected = Moments.from_data(X, y).xx
    np.testing.assert_allclose(sums.moments[0].xx, expected, rtol=1e-10, atol=1e-6)


def test_errors_name_the_block_and_the_row(rows):
    X, y, s = rows
    bad = X.copy(order="F")
    bad[ROWS + 8_000, 5] = np.nan
    with pytest.raises(
        StreamError, match=r"batch 1: X contains NaN: column 5, row 8000 of block 1"
    ):
        LeastSquaresRegressor().fit_stream(scan(batches(bad, y, s)))


def test_a_fit_goes_on_with_the_same_bits(rows, tmp_path):
    def fit(progress=False):
        model = LeastSquaresCV(alphas=[1e-3, 1.0], cv=3)
        return model.fit_stream(
            scan(batches(*rows)), checkpoint=tmp_path / "fit", progress=progress
        )

    def stop(progress):
        if progress.rows > ROWS:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        fit(stop)
    assert (tmp_path / "fit").exists()
    again = fit()
    assert np.array_equal(again.coef_, fit().coef_)
