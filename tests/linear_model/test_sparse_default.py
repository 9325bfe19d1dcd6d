"""The default learning rate on wide and sparse rows: J's minimum, whatever the rows are like."""

from __future__ import annotations

import tracemalloc

import numpy as np
import pytest
import scipy.sparse as sp
from small_problems import random_csr

from fastlsgd import LeastSquaresRegressor, SGDClassifier, SGDRegressor
from fastlsgd.kernels import resolve_backend
from fastlsgd.solvers.conjugate_epochs import ConjugateDescent
from fastlsgd.solvers.scaled_problem import ScaledProblem
from fastlsgd.solvers.training import Objective, TrainingData

D = 600  # more than a full metric has


def one_entry_a_row(rng, n):
    return sp.csr_array((rng.normal(size=n), rng.integers(0, D, n), np.arange(n + 1)), (n, D))


def one_hot(rng, n):
    columns = np.arange(6) * (D // 6) + rng.integers(0, D // 6, (n, 6))
    return sp.csr_array((np.ones(6 * n), columns.ravel(), np.arange(0, 6 * n + 1, 6)), (n, D))


def zipf(rng, n):
    p = 1.0 / np.arange(1, D + 1)
    rows, columns = np.repeat(np.arange(n), 12), rng.choice(D, 12 * n, p=p / p.sum())
    X = sp.coo_array((rng.uniform(0.1, 1.0, 12 * n), (rows, columns)), (n, D)).tocsr()
    return sp.csr_array(X.multiply(1.0 / np.sqrt(X.multiply(X).sum(axis=1))[:, None]))


def twins(rng, n):
    X = zipf(rng, n)[:, : D // 2]
    return sp.csr_array(sp.hstack([X, X]))


def seen_once(rng, n):
    rare = sp.csr_array((np.ones(200), (rng.permutation(n)[:200], np.arange(200))), (n, 200))
    return sp.csr_array(sp.hstack([zipf(rng, n)[:, : D - 200], rare]))


def dense_rows(rng, n):
    return sp.csr_array(rng.normal(size=(n, D)) / 10.0)


def with_empty_rows(rng, n):
    X = random_csr((n, D), 0.01, rng)
    return sp.csr_array(sp.diags((np.arange(n) % 3 > 0).astype(float)) @ X)


def offset_column(rng, n):
    return sp.csr_array(sp.hstack([zipf(rng, n)[:, :-1], 1e4 + rng.normal(size=(n, 1))]))


def units_of_all_sizes(rng, n):
    return sp.csr_array(zipf(rng, n) @ sp.diags(10.0 ** rng.uniform(-3, 3, D)))


KINDS = [one_entry_a_row, one_hot, zipf, twins, seen_once, dense_rows, with_empty_rows,
         offset_column, units_of_all_sizes]  # fmt: skip


def problem(kind, n, seed=0, noise=0.3):
    rng = np.random.default_rng(seed)
    X = kind(rng, n)
    scale = np.sqrt(np.maximum(np.asarray(X.multiply(X).sum(axis=0)).ravel(), 1e-30))
    signal = X @ (rng.normal(size=D) / scale)
    return X, signal / signal.std() + noise * rng.normal(size=n) + 3.0


def objective(model, X, y, alpha, l1_ratio=0.0, s=None):
    r = X @ model.coef_ + model.intercept_ - y
    loss = 0.5 * np.average(r * r, weights=s)
    w = model.coef_
    return loss + alpha * (l1_ratio * np.abs(w).sum() + 0.5 * (1 - l1_ratio) * (w @ w))


@pytest.mark.parametrize("fit_intercept", [True, False])
@pytest.mark.parametrize("n", [300, 1500])
@pytest.mark.parametrize("kind", KINDS)
def test_minimum_of_the_objective(kind, n, fit_intercept):
    X, y = problem(kind, n)
    exact = LeastSquaresRegressor(alpha=1e-4, fit_intercept=fit_intercept).fit(X, y)
    least = objective(exact, X, y, 1e-4)
    for Z in (X, X.toarray()):
        model = SGDRegressor(random_state=0, fit_intercept=fit_intercept).fit(Z, y)
        assert model.n_iter_ <= 100
        assert objective(model, X, y, 1e-4) <= least + 5e-4 * 0.5 * (y.var() + y.mean() ** 2)


@pytest.mark.parametrize("kind", KINDS)
def test_sparse_and_dense_rows_give_the_same_weights(kind):
    X, y = problem(kind, 900)
    s = np.random.default_rng(1).uniform(0.5, 2.0, 900)
    for parameters in ({}, {"alpha": 0.01}, {"penalty": "elasticnet"}):
        model = SGDRegressor(**parameters)
        sparse = model.fit(X, y, sample_weight=s).predict(X)
        dense = model.fit(X.toarray(), y, sample_weight=s).predict(X)
        np.testing.assert_allclose(sparse, dense, rtol=0, atol=1e-6 * np.abs(dense).max())


def test_fewer_rows_than_columns_end_at_the_least_norm():
    rng = np.random.default_rng(0)
    X = rng.normal(size=(1400, 1500)) / np.sqrt(1.0 + np.arange(1500) / 20.0)
    y = X @ rng.normal(size=1500)
    y = y / y.std() + 0.3 * rng.normal(size=1400)
    exact = LeastSquaresRegressor(alpha=1e-4).fit(X[:400], y[:400]).score(X[400:], y[400:])
    model = SGDRegressor().fit(X[:400], y[:400])
    assert model.score(X[400:], y[400:]) >= exact - 0.01


@pytest.mark.parametrize("l1_ratio", [0.5, 1.0])
@pytest.mark.parametrize("kind", [one_hot, zipf, twins, units_of_all_sizes])
def test_l1(kind, l1_ratio):
    X, y = problem(kind, 1500)
    alpha = 0.002
    exact = LeastSquaresRegressor(alpha=alpha, l1_ratio=l1_ratio).fit(X, y)
    model = SGDRegressor(penalty="elasticnet", l1_ratio=l1_ratio, alpha=alpha).fit(X, y)
    least = objective(exact, X, y, alpha, l1_ratio)
    assert objective(model, X, y, alpha, l1_ratio) <= least + 2e-3 * 0.5 * y.var()
    assert (model.coef_ == 0.0).sum() > 0.8 * (exact.coef_ == 0.0).sum()


def test_what_is_left_to_gain_is_bounded_from_above():
    X, y = problem(zipf, 900)
    matrix = SGDRegressor()._matrix(X, reset=True)
    targets = y[:, None]
    data = TrainingData(resolve_backend(None, matrix), matrix, targets, None, 1)
    descent = ConjugateDescent(
        ScaledProblem(data, Objective(1e-3, 0.0, True), None), np.zeros((1, D))
    )
    exact = LeastSquaresRegressor(alpha=1e-3).fit(X, y)
    least, gaps = objective(exact, X, y, 1e-3), []
    for _ in range(12):
        descent.epoch(None)
        coef, intercept = descent.weights()
        r = X @ coef[0] + intercept - y
        left = 0.5 * np.mean(r * r) + 0.5e-3 * (coef[0] @ coef[0]) - least
        assert -1e-12 <= left <= descent.gap * (1.0 + 1e-9)
        gaps.append(descent.gap)
    assert gaps[-1] < 1e-4 * gaps[0]


def test_order_and_batches_do_not_matter():
    X, y = problem(zipf, 900)
    first = SGDRegressor(random_state=0).fit(X, y)
    second = SGDRegressor(random_state=1, shuffle=False, batch_size=50).fit(X, y)
    np.testing.assert_array_equal(first.coef_, second.coef_)
    order = np.random.default_rng(0).permutation(900)
    permuted = SGDRegressor().fit(X[order], y[order])
    np.testing.assert_allclose(permuted.coef_, first.coef_, rtol=1e-8, atol=1e-10)


def test_weights_count_as_repeated_rows():
    X, y = problem(zipf, 2000)
    times = np.random.default_rng(0).integers(0, 3, 2000)
    each = np.repeat(np.arange(2000), times)
    weighted = SGDRegressor().fit(X, y, sample_weight=times.astype(float))
    repeated = SGDRegressor().fit(X[each], y[each])
    np.testing.assert_allclose(weighted.coef_, repeated.coef_, rtol=1e-6, atol=1e-9)


def test_rows_held_out_are_not_looked_at():
    X, y = problem(zipf, 900)
    model = SGDRegressor(early_stopping=True, random_state=0)
    model.fit(X, y)
    train, _ = model._hold_out(X, y[:, None], None)
    spoilt = y.copy()
    spoilt[np.setdiff1d(np.arange(900), train)] += 1e6
    again = SGDRegressor(early_stopping=True, random_state=0, max_iter=3).fit(X, spoilt)
    apart = SGDRegressor(early_stopping=True, random_state=0, max_iter=3).fit(X, y)
    np.testing.assert_array_equal(again.coef_, apart.coef_)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("n_classes", [2, 5])
def test_classes(n_classes, dtype):
    X, y = problem(one_hot, 3000)
    labels = np.digitize(y, np.quantile(y, np.arange(1, n_classes) / n_classes))
    X = X.astype(dtype)
    model = SGDClassifier().fit(X, labels)
    assert model.coef_.dtype == dtype
    targets = 2.0 * (labels[:, None] == np.arange(n_classes)) - 1.0
    exact = LeastSquaresRegressor(alpha=1e-4).fit(X.astype(float), targets)
    agree = exact.predict(X.astype(float)).argmax(axis=1) == model.predict(X)
    assert agree.mean() > 0.98
    weighted = SGDClassifier(class_weight="balanced").fit(X, labels)
    assert weighted.score(X, labels) > model.score(X, labels) - 0.05


def test_a_huge_row_and_a_warm_start():
    X, y = problem(zipf, 900)
    others = np.arange(900) != 7
    Z = sp.diags(np.where(others, 1.0, 1e9)) @ X
    spoilt = SGDRegressor().fit(sp.csr_array(Z), y).score(X[others], y[others])
    model = SGDRegressor(warm_start=True).fit(X, y)
    assert spoilt > model.score(X, y) - 0.05
    before = model.coef_.copy()
    assert model.fit(X, y).n_iter_ <= 5
    np.testing.assert_allclose(model.coef_, before, rtol=0, atol=0.05 * np.abs(before).max())


@pytest.mark.parametrize("penalty", ["l2", "l1"])
def test_memory_goes_by_what_is_stored(penalty):
    X = random_csr((4000, 30_000), 0.0003, 0)
    X.data[:40] *= 1e5  # of unlike sizes
    y = np.asarray(X.sum(axis=1)).ravel()
    tracemalloc.start()
    SGDRegressor(penalty=penalty, max_iter=2, tol=None).fit(X, y)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 24 * 2**20  # dense, X has 960 MB


@pytest.mark.parametrize("weighted", [False, True])
def test_few_columns_that_are_mostly_zeros(weighted):
    """They are not moved to other coordinates either, and a stream goes on from their products."""
    rng = np.random.default_rng(0)
    columns = np.arange(4) * 20 + rng.integers(0, 20, (4000, 4))
    X = sp.csr_array((np.ones(16_000), columns.ravel(), np.arange(0, 16_001, 4)), (4000, 80))
    y = X @ rng.normal(size=80) + 0.3 * rng.normal(size=4000) + 3.0
    s = rng.uniform(0.5, 2.0, 4000) if weighted else None
    more = (lambda rows: {}) if s is None else (lambda rows: {"sample_weight": s[rows]})
    part, rest = slice(0, 3000), slice(3000, 4000)
    exact = LeastSquaresRegressor(alpha=1e-4).fit(X[part], y[part], **more(part))
    model = SGDRegressor().fit(X[part], y[part], **more(part))
    weights = None if s is None else s[part]
    left = objective(model, X[part], y[part], 1e-4, s=weights)
    assert left <= objective(exact, X[part], y[part], 1e-4, s=weights) + 5e-4 * 0.5 * y.var()
    model.partial_fit(X[rest], y[rest], **more(rest))
    whole = LeastSquaresRegressor(alpha=1e-4).fit(X, y, sample_weight=s)
    assert model.score(X, y) >= whole.score(X, y) - 1e-3
