"""Cross-validation equals the fits that its formulas replace; the contract of splitters."""

from __future__ import annotations

import re
import warnings

import numpy as np
import pytest
import scipy.sparse as sp
import sklearn
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.model_selection import (
    GroupKFold,
    KFold,
    LeaveOneOut,
    ShuffleSplit,
    StratifiedKFold,
)

from fastlsgd import LeastSquaresCV, LeastSquaresRegressor, SGDRegressor, SGDRegressorCV
from fastlsgd.solvers import leave_one_out


def refits(X, y, folds, alphas, sample_weight=None, **chosen):
    """Mean squared errors of LeastSquaresRegressor on each fold, (n_alphas, n_folds)."""
    s = np.ones(len(y)) if sample_weight is None else sample_weight
    errors = np.zeros((len(alphas), len(folds)))
    for k, (train, test) in enumerate(folds):
        for a, alpha in enumerate(alphas):
            model = LeastSquaresRegressor(alpha=alpha, n_jobs=1, **chosen)
            model.fit(X[train], y[train], sample_weight=s[train])
            r = (model.predict(X[test]) - y[test]).reshape(len(test), -1)
            errors[a, k] = s[test] @ (r * r).mean(axis=1) / s[test].sum()
    return errors


def agree(actual, expected, rtol=1e-8):
    np.testing.assert_allclose(actual, expected, rtol=rtol, atol=1e-24)


KINDS = ["tall", "wide", "square", "dependent", "near", "units", "constant", "dummy", "heavy row"]


def problem(kind, seed, n_targets=1, n_tall=24):
    rng = np.random.default_rng(seed)
    n, d = {"wide": (9, 14), "square": (7, 6)}.get(kind, (n_tall, 4))
    X = rng.normal(size=(n, d))
    if kind == "dependent":
        X[:, 3] = X[:, 0] + X[:, 1]
    elif kind == "near":
        X[:, 3] = X[:, 0] + 1e-4 * X[:, 3]
    elif kind == "units":
        X *= [1e-4, 1e-1, 1e2, 1e4]
    elif kind == "constant":
        X[:, 0] = 3.7
    elif kind == "dummy":
        X[:, 0] = np.arange(n) == 5
    elif kind == "heavy row":
        X[7] *= 1e4
    spread = np.where(np.ptp(X, axis=0) > 0.0, X.std(axis=0), 1.0)
    y = (X / spread) @ rng.normal(size=(d, n_targets)) + rng.normal(size=(n, n_targets)) + 5.0
    return X, y if n_targets > 1 else y[:, 0], rng


def weights(rng, n, how):
    if how == "none":
        return None
    s = rng.uniform(0.5, 2.0, n)
    if how == "zeros":
        s[rng.permutation(n)[: n // 6 + 1]] = 0.0
    return s


@settings(max_examples=12, deadline=None, derandomize=True)
@given(
    st.sampled_from(KINDS), st.integers(0, 10**6), st.sampled_from(["none", "uniform", "zeros"]),
    st.booleans(), st.sampled_from([1, 3]), st.booleans(),
)  # fmt: skip
def test_leave_one_out_is_its_fits(kind, seed, how, fit_intercept, n_targets, sparse):
    X, y, rng = problem(kind, seed, n_targets, n_tall=12)  # leave-one-out needs a fit for each row
    s, alphas = weights(rng, len(y), how), [1.0, 0.01, 0.0]
    counted = np.flatnonzero(np.ones(len(y)) if s is None else s)
    folds = [(np.setdiff1d(counted, i), np.array([i])) for i in counted]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        errors = refits(X, y, folds, alphas, s, fit_intercept=fit_intercept)
        model = LeastSquaresCV(alphas=alphas, fit_intercept=fit_intercept, n_jobs=1)
        model.fit(sp.csr_array(X) if sparse else X, y, sample_weight=s)
    own = np.ones(len(counted)) if s is None else s[counted]
    agree(model.mse_path_, errors @ own / own.sum())


@settings(max_examples=30, deadline=None, derandomize=True)
@given(
    st.sampled_from(KINDS), st.integers(0, 10**6), st.sampled_from(["none", "uniform", "zeros"]),
    st.sampled_from(["folds", "shares", "bootstrap", "overlap"]), st.booleans(), st.booleans(),
)  # fmt: skip
def test_folds_are_their_fits(kind, seed, how, division, fit_intercept, sparse):
    X, y, rng = problem(kind, seed)
    s, n, alphas = weights(rng, len(y), how), len(y), [1.0, 0.01, 0.0]
    if division == "folds":
        folds = list(KFold(3, shuffle=True, random_state=seed).split(X))
    elif division == "shares":
        folds = list(ShuffleSplit(2, test_size=0.4, random_state=seed).split(X))
    elif division == "bootstrap":  # as many rows as X has, but not a partition
        folds = [(rng.integers(0, n, n - 3), rng.integers(0, n, 3)) for _ in range(2)]
    else:
        folds = [(np.arange(n - 4), np.arange(4))]
    if s is not None and not all(s[a].any() and s[b].any() for a, b in folds):
        return
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        errors = refits(X, y, folds, alphas, s, fit_intercept=fit_intercept)
        model = LeastSquaresCV(alphas=alphas, fit_intercept=fit_intercept, cv=folds)
        model.fit(sp.csr_array(X) if sparse else X, y, sample_weight=s)
    agree(model.mse_path_, errors)


@pytest.mark.parametrize("chosen", [{"l1_ratio": 0.5}, {"l1_ratio": 1.0}, {"positive": True}])
@pytest.mark.parametrize("kind", ["tall", "wide", "units", "dummy", "heavy row"])
def test_sparse_and_positive_folds_are_their_fits(kind, chosen):
    X, y, rng = problem(kind, 0)
    folds, alphas = list(KFold(3).split(X)), [1.0, 0.1, 0.01]
    s = rng.uniform(0.5, 2.0, len(y))
    model = LeastSquaresCV(alphas=alphas, cv=folds, **chosen).fit(X, y, sample_weight=s)
    agree(model.mse_path_, refits(X, y, folds, alphas, s, **chosen))


def test_sparse_folds_are_their_fits_where_a_column_is_zero_in_a_fold():
    """Eigenvectors give such a column rounding for numbers, and it had no penalty."""
    rng = np.random.default_rng(2)
    X = rng.normal(size=(21, 70)) * (rng.random((21, 70)) < 0.3)
    y = X @ rng.normal(size=70) + rng.normal(size=21)
    half = [rng.random(21) < 0.6 for _ in range(4)]
    folds = [(np.flatnonzero(rows), np.flatnonzero(~rows)) for rows in half]
    chosen = {"l1_ratio": 0.5, "fit_intercept": False}
    model = LeastSquaresCV(alphas=[1.7e-4, 12.0], cv=folds, **chosen).fit(X, y)
    agree(model.mse_path_, refits(X, y, folds, [1.7e-4, 12.0], **chosen))


@pytest.mark.parametrize("l1_ratio", [0.5, 1.0])
def test_sparse_folds_are_their_fits_where_columns_have_many_units(l1_ratio):
    """The gradient of a column in small units is small beside that of the others."""
    rng = np.random.default_rng(0)
    X = rng.normal(size=(48, 12)) * np.geomspace(1e-3, 1e3, 12)
    y = (X / np.geomspace(1e-3, 1e3, 12)) @ rng.normal(size=12) + rng.normal(size=48)
    folds, s = list(KFold(3).split(X)), rng.uniform(0.1, 10.0, 48)
    model = LeastSquaresCV(alphas=[1e-7, 1e-4], cv=folds, l1_ratio=l1_ratio)
    model.fit(X, y, sample_weight=s)
    agree(model.mse_path_, refits(X, y, folds, [1e-7, 1e-4], s, l1_ratio=l1_ratio))


@pytest.mark.parametrize("l1_ratio", [0.5, 0.9])
@pytest.mark.parametrize("seed", range(3))
def test_sparse_folds_are_their_fits_where_columns_and_y_have_large_means(seed, l1_ratio):
    """The rounding of residuals is that of y, and the condition's square multiplies it."""
    rng = np.random.default_rng(seed)
    X = rng.normal(size=(16, 14)) + rng.normal(size=14) * 10.0 ** rng.uniform(0, 4)
    y = X @ rng.normal(size=14) + 0.1 * rng.normal(size=16) + 1e3
    folds = [(rng.integers(0, 16, 16), rng.permutation(16)[:6]) for _ in range(3)]
    model = LeastSquaresCV(alphas=[1e-7], cv=folds, l1_ratio=l1_ratio).fit(X, y)
    agree(model.mse_path_, refits(X, y, folds, [1e-7], l1_ratio=l1_ratio))


@pytest.mark.parametrize("kind", [np.asarray, sp.csr_array])
def test_wide_bootstrap_is_its_fits_where_eigenvalues_are_as_small_as_the_null_one(kind):
    for seed in range(8):
        rng = np.random.default_rng(seed)
        X = rng.normal(size=(16, 19)) * 10.0 ** rng.uniform(-3, 3, size=19)
        y = X @ rng.normal(size=19) + rng.normal(size=16)
        folds = [(rng.integers(0, 16, 16), rng.permutation(16)[:6]) for _ in range(3)]
        folds += KFold(4).split(X)
        model = LeastSquaresCV(alphas=[0.5, 20.0], cv=folds).fit(kind(X), y)
        agree(model.mse_path_, refits(X, y, folds, [0.5, 20.0]))


def test_float32_folds_are_their_fits():
    X, y, _ = problem("tall", 0)
    X, y = X.astype(np.float32), y.astype(np.float32)
    for cv in (LeaveOneOut(), KFold(3)):
        folds = list(cv.split(X))
        expected = refits(X.astype(float), y.astype(float), folds, [0.1])
        chosen = None if isinstance(cv, LeaveOneOut) else folds
        model = LeastSquaresCV(alphas=[0.1], cv=chosen).fit(X, y)
        agree(model.mse_path_.mean(), expected.mean())


def test_a_row_of_very_large_weight_or_size():
    rng = np.random.default_rng(0)
    X = rng.normal(size=(100, 4))
    y, folds = X @ [1.0, 2.0, 0.0, -1.0] + rng.normal(size=100), list(KFold(5).split(X))
    s = np.ones(100)
    s[7] = 1e18
    model = LeastSquaresCV(alphas=[1.0], cv=5).fit(X, y, sample_weight=s)
    agree(model.mse_path_, refits(X, y, folds, [1.0], s))
    X[7] *= 1e9
    agree(LeastSquaresCV(alphas=[1.0], cv=5).fit(X, y).mse_path_, refits(X, y, folds, [1.0]))


def test_weights_count_by_their_ratio():
    X, y, rng = problem("tall", 0)
    s = rng.uniform(0.5, 2.0, len(y))
    for cv in (None, 3):
        expected = LeastSquaresCV(alphas=[1.0, 0.0], cv=cv).fit(X, y, sample_weight=s).mse_path_
        for unit in (2.0**1000, 2.0**-1000):
            model = LeastSquaresCV(alphas=[1.0, 0.0], cv=cv).fit(X, y, sample_weight=s * unit)
            agree(model.mse_path_, expected)


def test_errors_that_are_small_beside_y():
    X, _, rng = problem("tall", 0)
    y = 1e4 * X @ [1.0, 2.0, 0.0, -1.0] + 1e-3 * rng.normal(size=len(X))
    for cv in (LeaveOneOut(), KFold(3)):
        folds = list(cv.split(X))
        chosen = None if isinstance(cv, LeaveOneOut) else folds
        model = LeastSquaresCV(alphas=[0.0], cv=chosen).fit(X, y)
        agree(model.mse_path_.mean(), refits(X, y, folds, [0.0]).mean(), 1e-7)


def test_columns_of_many_scales_and_few_rows():
    rng = np.random.default_rng(0)
    X, y = rng.normal(size=(15, 30)) * 10.0 ** rng.uniform(-4, 4, 30), rng.normal(size=15)
    alphas = [1e-6, 1e-12, 0.0]
    expected = refits(X, y, list(LeaveOneOut().split(X)), alphas).mean(axis=1)
    agree(LeastSquaresCV(alphas=alphas).fit(X, y).mse_path_, expected)


@pytest.mark.parametrize("unit", [1e160, 1e-160])
def test_units_near_the_ends_of_a_double(unit):
    X, y, _ = problem("tall", 0)
    for cv in (None, 3):
        expected = LeastSquaresCV(alphas=[0.0], cv=cv).fit(X, y)
        model = LeastSquaresCV(alphas=[0.0], cv=cv).fit(X * unit, y)
        agree(model.mse_path_, expected.mse_path_)
        agree(model.coef_ * unit, expected.coef_)
    with pytest.raises(ValueError, match="alphas=None goes by the mean squares of X's columns"):
        LeastSquaresCV().fit(X * unit, y)
    agree(
        LeastSquaresCV(alphas=[1.0]).fit(X, y * unit).coef_ / unit,
        LeastSquaresCV(alphas=[1.0]).fit(X, y).coef_,
    )
    agree(  # an L1 penalty is in the unit of y
        LeastSquaresCV(alphas=[0.1 * unit], l1_ratio=1.0).fit(X, y * unit).coef_ / unit,
        LeastSquaresCV(alphas=[0.1], l1_ratio=1.0).fit(X, y).coef_,
    )


@pytest.mark.parametrize("kind", [np.asarray, sp.csr_array])
@pytest.mark.parametrize("fit_intercept", [False, True])
@pytest.mark.parametrize("n_targets", [1, 2])
def test_leave_one_out_of_constant_columns_is_that_of_the_mean(n_targets, fit_intercept, kind):
    _, y, rng = problem("tall", 0, n_targets)
    s, rows = rng.uniform(0.5, 2.0, len(y)), y.reshape(len(y), -1)
    without = (s @ rows - s[:, None] * rows) / (s.sum() - s)[:, None]
    errors = ((rows - fit_intercept * without) ** 2).mean(axis=1)
    for dtype, alphas in ((np.float32, [1.0, 0.0]), (np.float64, [0.5]), (np.float64, None)):
        X = kind(np.full((len(y), 2), 3.0 * fit_intercept, dtype=dtype))
        model = LeastSquaresCV(alphas=alphas, fit_intercept=fit_intercept)
        agree(model.fit(X, y, sample_weight=s).mse_path_, s @ errors / s.sum())
        assert not model.coef_.any()
    lasso = LeastSquaresCV(l1_ratio=1.0, fit_intercept=fit_intercept).fit(X, y)
    assert lasso.alpha_ == 1.0


# --------------------------------------------------------------------------------- the splitters


class BySign:
    """A splitter that reads X."""

    def get_n_splits(self, X=None, y=None, groups=None):
        return 1

    def split(self, X, y=None, groups=None):
        yield np.flatnonzero(X[:, 0] > 0), np.flatnonzero(X[:, 0] <= 0)


def test_splitters_see_what_the_user_gave():
    X, y, _ = problem("tall", 0)
    model = LeastSquaresCV(alphas=[1.0], cv=BySign()).fit(X, y)
    agree(model.mse_path_, refits(X, y, list(BySign().split(X)), [1.0]))
    labels = (y > np.median(y)) * 1.0
    model = LeastSquaresCV(alphas=[1.0], cv=StratifiedKFold(2)).fit(X.tolist(), labels.tolist())
    agree(model.mse_path_, refits(X, labels, list(StratifiedKFold(2).split(X, labels)), [1.0]))


@pytest.mark.parametrize("routing", [False, True])
def test_groups_reach_the_splitter(routing):
    X, y, _ = problem("tall", 0)
    groups = np.arange(len(y)) % 6
    with sklearn.config_context(enable_metadata_routing=routing):
        model = LeastSquaresCV(alphas=[1.0], cv=GroupKFold(3)).fit(X, y, groups=groups)
    folds = list(GroupKFold(3).split(X, y, groups))
    agree(model.mse_path_, refits(X, y, folds, [1.0]))
    with pytest.raises(ValueError, match="enable_metadata_routing"):
        LeastSquaresCV().fit(X, y, colour="red")


@pytest.mark.parametrize("kind", [np.asarray, sp.csr_array])
def test_ways_to_name_rows(kind):
    X, y, _ = problem("tall", 0)
    n = len(y)
    expected = refits(X, y, [(np.arange(6, n), np.arange(6))], [1.0])
    mask = np.arange(n) < 6
    for train, test in [
        (~mask, mask),
        ((~mask).tolist(), mask.tolist()),
        (tuple(range(6, n)), list(range(6))),
        (range(6, n), range(6)),
        (np.arange(6, n) - n, np.arange(6, dtype=np.int8)),
        (slice(6, None), slice(6)),
    ]:
        model = LeastSquaresCV(alphas=[1.0], cv=[(train, test)]).fit(kind(X), y)
        agree(model.mse_path_, expected)


@pytest.mark.parametrize(
    ("fold", "message"),
    [
        (([0.0, 1.0], [2]), "the rows to fit of fold 0 must be whole numbers or a mask"),
        (([0, 1], [24]), r"the rows to judge of fold 0 must lie in \[0, 24\), got 24 to 24"),
        (([-25, 1], [2]), r"the rows to fit of fold 0 must lie in \[0, 24\)"),
        (([], [2]), "the rows to fit of fold 0 are none at all"),
        (([1, 2], np.zeros(24, bool)), "the rows to judge of fold 0 are none at all"),
        (([1, 2], np.ones(23, bool)), "a mask of 23 rows, but X has 24"),
        (([[1, 2]], [3]), "must have one dimension"),
        (([1], [2], [3]), "fold 0 must be a pair"),
    ],
)
@pytest.mark.parametrize("kind", [np.asarray, sp.csr_array])
def test_folds_that_are_none(kind, fold, message):
    X, y, _ = problem("tall", 0)
    with pytest.raises(ValueError, match=message):
        LeastSquaresCV(alphas=[1.0], cv=[fold]).fit(kind(X), y)


@pytest.mark.parametrize(
    "model", [LeastSquaresCV(alphas=[1.0]), SGDRegressorCV()], ids=["least squares", "sgd"]
)
def test_no_fold_at_all(model):
    X, y, _ = problem("tall", 0)
    for cv in ([], iter([])):
        with pytest.raises(ValueError, match="cv must have at least one fold, got none"):
            model.set_params(cv=cv).fit(X, y)


# -------------------------------------------------------------------------------- SGDRegressorCV

PLAIN = {"learning_rate": "constant", "eta0": 0.01, "max_iter": 5, "tol": None, "random_state": 0}


def test_groups_reach_the_splitter_of_sgd():
    X, y, _ = problem("tall", 0)
    groups = np.arange(len(y)) % 6
    model = SGDRegressorCV(SGDRegressor(**PLAIN), alphas=[1.0, 0.1], cv=GroupKFold(3))
    model.fit(X, y, groups=groups)
    folds = list(GroupKFold(3).split(X, y, groups))
    masks = [(np.isin(np.arange(len(y)), train), test.tolist()) for train, test in folds]
    again = SGDRegressorCV(SGDRegressor(**PLAIN), alphas=[1.0, 0.1], cv=masks)
    agree(again.fit(X, y).scores_, model.scores_)
    with pytest.raises(ValueError, match="the rows to judge of fold 0 must lie in"):
        again.set_params(cv=[([0, 1], [99])]).fit(X, y)


def test_a_score_that_is_not_a_number_ranks_last():
    X, y, _ = problem("tall", 0)

    def score(model, X, y):
        return np.nan if model.alpha > 0.5 else 0.0

    model = SGDRegressorCV(SGDRegressor(**PLAIN), alphas=[1.0, 0.1], scoring=score)
    with pytest.warns(UserWarning, match=r"alphas \[1.0\] are NaN: they rank last"):
        assert model.fit(X, y).alpha_ == 0.1
    with pytest.raises(ValueError, match="all alphas are NaN"):
        model.set_params(scoring=lambda *_: np.nan).fit(X, y)


@pytest.mark.parametrize("rate", ["auto", "constant"])
def test_rows_are_left_out_without_a_copy(rate, monkeypatch):
    X, y, rng = problem("tall", 0)
    cv, s = list(KFold(3, shuffle=True, random_state=0).split(X)), rng.uniform(0.5, 2.0, len(y))
    sgd = SGDRegressor(learning_rate=rate, random_state=0, max_iter=5, tol=None)
    model = SGDRegressorCV(sgd, alphas=[1.0, 0.1])
    expected = model.set_params(cv=cv).fit(X, y, sample_weight=s).scores_
    monkeypatch.setattr("fastlsgd.linear_model._sgd_cv.COPIED_NUMBERS", 10)
    agree(model.fit(X, y, sample_weight=s).scores_, expected)


@pytest.mark.parametrize("unit", [1e-200, 1e200])
@pytest.mark.parametrize("cv", [None, 3])
def test_residual_norm_is_in_the_unit_of_the_weights(cv, unit):
    rng = np.random.default_rng(0)
    X, y = rng.normal(size=(30, 3)), rng.normal(size=30)
    model = LeastSquaresCV(alphas=[1.0, 0.01], cv=cv).fit(X, y, sample_weight=np.full(30, unit))
    r = y - model.predict(X)
    np.testing.assert_allclose(model.residual_norm_, np.sqrt(unit) * np.linalg.norm(r))


@pytest.mark.parametrize("model", [LeastSquaresCV, SGDRegressorCV])
@pytest.mark.parametrize("cv", [21, np.int64(21), 10**39])
def test_more_folds_than_rows(model, cv):
    with pytest.raises(ValueError, match=f"^cv={re.escape(repr(cv))} folds need as many rows"):
        model(cv=cv).fit(np.eye(20)[:, :2], np.arange(20.0))


@pytest.mark.parametrize("size", [1e-200, 1e60, 1e150, "column of 1e-200", "column of 1e200"])
def test_leave_one_out_refits_only_rows_that_need_it(size, monkeypatch):
    """A number whose square leaves float64's range had all rows refitted: 45 s at 2,000 x 200."""
    rng = np.random.default_rng(0)
    X = rng.normal(size=(40, 3))
    y = X @ [1.0, 2.0, 3.0] + rng.normal(size=40)
    if isinstance(size, str):
        X[:, 1] *= float(size.split()[-1])
    else:
        X[3, 1] = size
    alphas = [1.0, 0.1, 1e-3]
    expected = np.zeros(3)
    for i in range(40):
        left = np.arange(40) != i
        fits = [LeastSquaresRegressor(alpha=alpha).fit(X[left], y[left]) for alpha in alphas]
        expected += [(model.predict(X[[i]])[0] - y[i]) ** 2 / 40 for model in fits]
    refitted = []
    refit = leave_one_out.refit_errors
    monkeypatch.setattr(
        leave_one_out, "refit_errors", lambda *args: refitted.append(args) or refit(*args)
    )
    model = LeastSquaresCV(alphas=alphas).fit(X, y)
    assert len(refitted) <= 1
    np.testing.assert_allclose(model.mse_path_, expected, rtol=1e-8)
