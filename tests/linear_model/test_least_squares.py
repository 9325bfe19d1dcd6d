"""LeastSquaresRegressor and LeastSquaresCV, beyond what is tested for all estimators."""

from __future__ import annotations

import warnings

import numpy as np
import pytest
import scipy.optimize
import scipy.sparse as sp
from hypothesis import given
from hypothesis import strategies as st
from sklearn.exceptions import ConvergenceWarning
from sklearn.linear_model import ElasticNet, ElasticNetCV, LinearRegression, Ridge, RidgeCV
from sklearn.model_selection import KFold, ShuffleSplit, cross_val_score
from sklearn.utils.estimator_checks import parametrize_with_checks

from fastlsgd import LeastSquaresCV, LeastSquaresRegressor, lstsq
from fastlsgd.solvers import coordinate_descent, proximal_newton, quadratic, regression

SOLVERS = [name for name in regression.SOLVERS if name != "auto"]


def problem(n=80, d=6, targets=None, seed=0):
    """Columns of various units, off centre, two of them alike, and targets with noise."""
    rng = np.random.default_rng(seed)
    X = rng.normal(size=(n, d))
    X[:, 1] = X[:, 0] + 0.1 * X[:, 1]
    X = X * np.geomspace(0.1, 10.0, d) + np.linspace(-3.0, 3.0, d)
    w = rng.normal(size=(d,) if targets is None else (d, targets))
    w[::2] = 0.0
    y = X @ w + 5.0 + rng.normal(size=(n,) if targets is None else (n, targets))
    return X, y, rng.uniform(0.2, 2.0, size=n)


def close(a, b, rtol=1e-8):
    np.testing.assert_allclose(a, b, rtol=rtol, atol=rtol * max(1e-300, np.abs(b).max()))


@parametrize_with_checks(
    [
        LeastSquaresRegressor(alpha=[1.0, 0.1], l1_ratio=1.0),
        LeastSquaresRegressor(positive=True),
        LeastSquaresRegressor(solver="qr"),
        LeastSquaresCV(alphas=[1.0, 0.1]),
        LeastSquaresCV(alphas=[1.0, 0.1], l1_ratio=0.5, cv=2),
    ],
)
def test_scikit_learn_contract(estimator, check):
    check(estimator)


# -------------------------------------------------------------------------------- the solvers


@pytest.mark.parametrize("solver", SOLVERS)
@pytest.mark.parametrize("kind", [np.asarray, sp.csr_array])
@pytest.mark.parametrize("alpha", [0.0, 0.3])
def test_every_solver_gives_the_same(solver, kind, alpha):
    X, Y, s = problem(n=400, targets=2)
    peer = Ridge(alpha=alpha * s.sum(), solver="svd") if alpha else LinearRegression()
    exact = peer.fit(X, Y, sample_weight=s)
    model = LeastSquaresRegressor(alpha=alpha, solver=solver)
    model.fit(kind(X), Y, sample_weight=s)
    assert model.solver_ == solver
    close(model.coef_, exact.coef_)
    close(model.intercept_, exact.intercept_)
    assert model.relative_gradient_ <= 1e-10
    assert len(model.loss_curve_) == model.n_iter_
    residual = np.sqrt(s)[:, None] * (X @ exact.coef_.T + exact.intercept_ - Y)
    close(model.residual_norm_, np.linalg.norm(residual, axis=0))
    penalty = 0.5 * alpha * (exact.coef_**2).sum()
    best = 0.5 * (residual**2).sum() / s.sum() + penalty
    assert model.loss_curve_[-1] == pytest.approx(best, rel=1e-8)


def test_dependent_columns_have_weights_of_least_norm():
    X, y, _ = problem()
    X = np.column_stack([X, X[:, 0] + X[:, 2], np.full(len(y), 7.0)])
    model = LeastSquaresRegressor().fit(X, y)
    centred = X - X.mean(axis=0)
    close(model.coef_, np.linalg.lstsq(centred, y - y.mean(), rcond=1e-12)[0])
    wide = LeastSquaresRegressor().fit(X[:5], y[:5])
    close(wide.predict(X[:5]), y[:5])


def with_dependent_columns(seed):
    """One-hot columns, multiples and sums of columns, all in units of their own, and weights."""
    rng = np.random.default_rng(seed)
    n = 3000
    codes = [np.eye(k)[rng.integers(0, k, n)] for k in (3, 5)]
    B = rng.normal(size=(n, 6)) * (rng.random((n, 6)) < 0.5) + rng.integers(0, 4)
    B = np.round(64.0 * B) / 64.0  # so that sums are exact in float32 too
    X = np.hstack([*codes, B, 1.75 * B[:, :1], B[:, 1:3].sum(axis=1)[:, None]])
    X = X[:, rng.permutation(X.shape[1])] * 2.0 ** rng.integers(-9, 10, X.shape[1])
    Y = X / np.linalg.norm(X, axis=0) @ rng.normal(size=(X.shape[1], 2)) * 50
    s = rng.choice([0.0, 0.5, 1.0, 2.0], n) if seed % 2 else None
    return X, Y + rng.normal(size=Y.shape), s


@pytest.mark.parametrize("kind", [np.array, sp.csr_array])
@pytest.mark.parametrize("dtype", [np.float64, np.float32])
def test_dependent_columns_of_many_rows_as_by_qr(kind, dtype):
    for seed in range(6):
        X, Y, s = with_dependent_columns(seed)
        fit_intercept = bool(seed % 3)
        auto, qr = (
            LeastSquaresRegressor(solver=solver, fit_intercept=fit_intercept).fit(
                kind(X.astype(dtype)), Y, sample_weight=s
            )
            for solver in ("auto", "qr")
        )
        assert auto.solver_ == "gram"
        close(auto.coef_, qr.coef_, 1e-8 if dtype == np.float64 else 1e-6)
        close(auto.intercept_, qr.intercept_, 1e-8 if dtype == np.float64 else 1e-6)
    auto, qr = (
        LeastSquaresRegressor(solver=solver).fit(kind(X.astype(dtype)), Y[:, 0], sample_weight=s)
        for solver in ("auto", "qr")
    )
    assert str(auto.summary()) == str(qr.summary())


@pytest.mark.parametrize("kind", [np.array, sp.csr_array])
def test_columns_that_only_seem_to_be_dependent_keep_their_own_weights(kind):
    """A Gram matrix shows nothing of a direction of 1e-9, or of one that a light row has."""
    rng = np.random.default_rng(0)
    X = rng.normal(size=(3000, 8))
    X[:, 7] = X[:, 0] + 1e-9 * X[:, 7]
    y = X @ np.ones(8) + 1e-3 * (X[:, 7] - X[:, 0]) * 1e9
    close(LeastSquaresRegressor().fit(kind(X), y).predict(X), y, 1e-9)
    X[:, 7] = X[:, 0]
    X[0, 7] += 1.0
    s = np.ones(len(X))
    s[0] = 1e-24
    y = X @ np.arange(8.0)
    model = LeastSquaresRegressor().fit(kind(X), y, sample_weight=s)
    np.testing.assert_allclose(model.coef_, np.arange(8.0), atol=1e-3)


def test_float32_with_columns_and_targets_off_centre():
    """scikit-learn's issue 33032: there, sums of float32 squares go wrong."""
    rng = np.random.default_rng(0)
    X = rng.normal(size=(200_000, 5)) + np.array([0.0, 1e2, 1e3, 1e4, -1e4])
    X = X.astype(np.float32)
    y = X.astype(float) @ [1.0, -1.0, 0.5, 2.0, 0.3] + 1e4 + rng.normal(size=len(X))
    y = y.astype(np.float32)
    wide = X.astype(float)
    exact = np.linalg.lstsq(wide - wide.mean(axis=0), y - y.mean(dtype=float))[0]
    for solver in ("auto", "sketch", "cg", "qr"):
        with warnings.catch_warnings():
            # The bound is the rounding of float32 products, 10,000 standard deviations from zero.
            warnings.simplefilter("ignore", ConvergenceWarning)
            model = LeastSquaresRegressor(solver=solver).fit(X, y)
        assert model.coef_.dtype == np.float32
        np.testing.assert_allclose(model.coef_, exact, rtol=1e-5)
        assert abs((model.predict(X) - y).mean(dtype=float)) < 1e-3


def test_warning_says_what_was_reached():
    rng = np.random.default_rng(0)
    X, y = rng.normal(size=(300, 50)), rng.normal(size=300)
    with pytest.warns(ConvergenceWarning, match=r"relative gradient is .* after 5 iterations"):
        model = LeastSquaresRegressor(solver="cg", max_iter=5).fit(X, y)
    assert 1e-10 < model.relative_gradient_ < 1.0


# ---------------------------------------------------------------- L1, signs, and paths of them


def optimality(X, y, s, model, alpha, l1_ratio, positive):
    """The smallest subgradient, relative to the penalty and the data: 0 at the minimum."""
    r = s * (X @ model.coef_ + model.intercept_ - y)
    centred = X - np.average(X, axis=0, weights=s)
    slope = centred.T @ r / s.sum() + alpha * (1 - l1_ratio) * model.coef_
    l1, w = alpha * l1_ratio, model.coef_
    at_zero = np.maximum((-slope if positive else np.abs(slope)) - l1, 0.0)
    violation = np.where(w != 0.0, np.abs(slope + l1 * np.sign(w)), at_zero)
    return violation.max() / np.abs(centred.T @ (s * y)).max() * s.sum()


@given(
    n=st.integers(2, 60),
    d=st.integers(1, 30),
    alpha=st.sampled_from([1e-4, 0.01, 0.3, 10.0]),
    l1_ratio=st.sampled_from([0.0, 0.5, 1.0]),
    positive=st.booleans(),
    seed=st.integers(0, 2**16),
)
def test_optimality_and_gap(n, d, alpha, l1_ratio, positive, seed):
    X, y, s = problem(n, max(d, 2), seed=seed)
    model = LeastSquaresRegressor(alpha=alpha, l1_ratio=l1_ratio, positive=positive)
    model.fit(X, y, sample_weight=s)
    assert not positive or model.coef_.min() >= 0.0
    assert optimality(X, y, s, model, alpha, l1_ratio, positive) <= 1e-8
    if l1_ratio > 0.0:
        assert -1e-9 <= model.dual_gap_ / np.average((y - y.mean()) ** 2, weights=s) <= 1e-6
    else:
        assert not hasattr(model, "dual_gap_")


@pytest.mark.parametrize("solver", ["gram", "nesterov"])
@pytest.mark.parametrize("positive", [False, True])
@pytest.mark.parametrize("kind", [np.asarray, sp.csr_array])
def test_penalties_are_scikit_learns(solver, positive, kind):
    X, y, s = problem()
    chosen = {"alpha": 0.2, "l1_ratio": 0.7, "positive": positive}
    exact = ElasticNet(**chosen, tol=1e-14, max_iter=100_000).fit(X, y, sample_weight=s)
    model = LeastSquaresRegressor(**chosen, solver=solver, max_iter=10_000)
    model.fit(kind(X), y, sample_weight=s)
    close(model.coef_, exact.coef_, 1e-6)
    assert model.solver_ == solver
    assert abs(model.dual_gap_) < 1e-9


def test_dual_gap_bounds_the_objective():
    X, y, _ = problem()
    X, y = X - X.mean(axis=0), y - y.mean()

    def objective(w):
        penalty = 0.3 * (0.5 * np.abs(w).sum() + 0.25 * (w**2).sum())
        return 0.5 * ((X @ w - y) ** 2).mean() + penalty

    best = objective(LeastSquaresRegressor(alpha=0.3, l1_ratio=0.5).fit(X, y).coef_)
    rng = np.random.default_rng(0)
    for scale in (1e-3, 0.1, 10.0):
        w = scale * rng.normal(size=X.shape[1])
        r = X @ w - y
        gap = proximal_newton.dual_gap(
            w, X.T @ r / len(y), (r**2).mean(), proximal_newton.Penalty(0.15, 0.15)
        )
        assert gap >= objective(w) - best


def test_signs_are_scipys_nnls():
    X, y, _ = problem(n=300, d=40)
    model = LeastSquaresRegressor(positive=True, fit_intercept=False).fit(X, y)
    close(model.coef_, scipy.optimize.nnls(X, y)[0])
    assert model.relative_gradient_ <= 1e-10


def test_duplicated_columns_under_l1():
    X, y, _ = problem()
    single = LeastSquaresRegressor(alpha=0.1, l1_ratio=1.0).fit(X, y)
    double = LeastSquaresRegressor(alpha=0.1, l1_ratio=1.0).fit(np.hstack([X, X]), y)
    close(double.predict(np.hstack([X, X])), single.predict(X))


@pytest.mark.parametrize("l1_ratio", [0.0, 0.5, 1.0])
@pytest.mark.parametrize("targets", [None, 2])
def test_a_path_is_its_fits(l1_ratio, targets):
    X, Y, _ = problem(targets=targets)
    alphas = [3.0, 0.3, 0.03, 0.003]
    path = LeastSquaresRegressor(alpha=alphas, l1_ratio=l1_ratio).fit(X, Y)
    for k, alpha in enumerate(alphas):
        one = LeastSquaresRegressor(alpha=alpha, l1_ratio=l1_ratio).fit(X, Y)
        close(path.coef_path_[k], one.coef_)
        close(path.intercept_path_[k], one.intercept_)
    close(path.coef_, path.coef_path_[-1])
    assert path.relative_gradient_.shape == (4,)
    assert path.relative_gradient_.max() <= 1e-10
    if l1_ratio > 0.0:
        assert path.dual_gap_.shape == (4,)
    assert not hasattr(path.set_params(alpha=0.1).fit(X, Y), "coef_path_")


def test_where_sets_run_in_circles_signed_steps_go_on(monkeypatch):
    X, y, _ = problem(n=300, d=30)
    chosen = {"alpha": 0.05, "l1_ratio": 0.9}
    exact = LeastSquaresRegressor(**chosen).fit(X, y)
    monkeypatch.setattr(coordinate_descent, "ROUNDS", 0)
    monkeypatch.setattr(quadratic, "SETS", 1)
    close(LeastSquaresRegressor(**chosen).fit(X, y).coef_, exact.coef_)


@pytest.mark.parametrize(
    ("chosen", "message"),
    [
        ({"alpha": []}, "alpha must be a number or a list"),
        ({"alpha": [[1.0]]}, "alpha must be a number or a list"),
        ({"alpha": [1.0, -1.0]}, "alpha must be a number in"),
        ({"alpha": ["1"]}, "alpha must be a number in"),
        ({"positive": 1}, "positive must be True or False"),
        ({"solver": "lbfgs"}, "solver must be one of 'auto', 'gram'"),
        ({"solver": "qr", "positive": True}, "can't fit an L1 penalty or positive=True"),
        ({"solver": "cg", "alpha": 1.0, "l1_ratio": 1.0}, "can't fit an L1 penalty"),
    ],
)
def test_bad_parameters(chosen, message):
    X, y, _ = problem()
    with pytest.raises(ValueError, match=message):
        LeastSquaresRegressor(**chosen).fit(X, y)


# ------------------------------------------------------------------------------ cross-validation


@pytest.mark.parametrize("fit_intercept", [True, False])
@pytest.mark.parametrize("targets", [None, 2])
def test_leave_one_out_is_scikit_learns(fit_intercept, targets):
    X, Y, _ = problem(targets=targets)
    alphas = [10.0, 1.0, 0.1, 0.01]
    model = LeastSquaresCV(alphas=alphas, fit_intercept=fit_intercept).fit(X, Y)
    # Its penalty is relative to the sum of squares, which has one term less without a row.
    peer = RidgeCV(
        np.multiply(alphas, len(Y) - 1), fit_intercept=fit_intercept, store_cv_results=True
    ).fit(X, Y)
    results = peer.cv_results_.reshape(len(Y), -1, 4)
    close(model.mse_path_, results.mean(axis=(0, 1)))
    assert model.alpha_ * (len(Y) - 1) == pytest.approx(peer.alpha_)
    ridge = Ridge(model.alpha_ * len(Y), fit_intercept=fit_intercept).fit(X, Y)
    close(model.coef_, ridge.coef_)
    assert model.best_score_ == -model.mse_path_.min()


def test_leave_one_out_with_weights_and_no_penalty():
    X, y, s = problem()
    expected = 0.0
    for i in range(len(y)):
        others = np.arange(len(y)) != i
        fit = LinearRegression().fit(X[others], y[others], sample_weight=s[others])
        expected += s[i] * (y[i] - fit.predict(X[i : i + 1])[0]) ** 2
    model = LeastSquaresCV(alphas=[0.0]).fit(X, y, sample_weight=s)
    close(model.mse_path_, [expected / s.sum()])


@pytest.mark.parametrize(
    "cv", [3, KFold(4, shuffle=True, random_state=0), ShuffleSplit(3, random_state=0)]
)
@pytest.mark.parametrize("kind", [np.asarray, sp.csr_array])
def test_folds_are_fits_of_their_rows(cv, kind):
    X, y, _ = problem()
    for chosen in ({}, {"l1_ratio": 0.5}, {"positive": True}):
        model = LeastSquaresCV(alphas=[1.0, 0.01], cv=cv, **chosen).fit(kind(X), y)
        for k, alpha in enumerate(model.alphas_):
            one = LeastSquaresRegressor(alpha=alpha, **chosen)
            scores = cross_val_score(one, X, y, cv=cv, scoring="neg_mean_squared_error")
            close(model.mse_path_[k], -scores, 1e-7)


def test_default_penalties():
    X, y, _ = problem(n=300)
    ridge = LeastSquaresCV().fit(X, y)
    assert len(ridge.alphas_) == 100
    assert ridge.alphas_[0] > ridge.alpha_ >= ridge.alphas_[-1]
    lasso = LeastSquaresCV(l1_ratio=1.0).fit(X, y)
    close(lasso.alphas_[0], ElasticNetCV(l1_ratio=1.0, cv=5).fit(X, y).alphas_[0])
    assert lasso.mse_path_.shape == (100, 5)
    assert lasso.score(X, y) > 0.5


def test_bad_cross_validation():
    X, y, s = problem()
    with pytest.raises(ValueError, match="alphas must be a number"):
        LeastSquaresCV(alphas=[]).fit(X, y)
    with pytest.raises(ValueError, match="alphas must be a number"):
        LeastSquaresCV(alphas=[-1.0]).fit(X, y)
    s[:40] = 0.0
    with pytest.raises(ValueError, match="all zero in a fold"):
        LeastSquaresCV(alphas=[1.0], cv=2).fit(X, y, sample_weight=s)


def test_lstsq_and_the_regressor_agree():
    X, y, _ = problem()
    close(lstsq(X, y), LeastSquaresRegressor(fit_intercept=False).fit(X, y).coef_, 1e-12)
    close(
        lstsq(X, y, alpha=8.0),
        LeastSquaresRegressor(alpha=0.1, fit_intercept=False).fit(X, y).coef_,
        1e-12,
    )
