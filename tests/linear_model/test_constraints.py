"""Bounds, linear equalities, penalty factors and penalties per target of the exact estimators."""

import re
import warnings

import numpy as np
import pytest
from scipy import sparse
from scipy.optimize import lsq_linear, nnls
from sklearn.base import clone
from sklearn.exceptions import ConvergenceWarning
from sklearn.linear_model import Ridge

from fastlsgd import LeastSquaresCV, LeastSquaresRegressor, Moments
from fastlsgd.streaming import scan

EPS = np.finfo(np.float64).eps


def data(n=60, d=6, t=None, seed=0):
    rng = np.random.default_rng(seed)
    X = rng.normal(size=(n, d)) + rng.normal(size=d)
    w = rng.normal(size=d if t is None else (t, d))
    return X, X @ w.T + 0.3 * rng.normal(size=n if t is None else (n, t)) + 2.0


def objective(model, X, y, s=None):
    """J of one target, as the docstring defines it."""
    s = np.ones(len(y)) if s is None else s
    f = 1.0 if model.penalty_factor is None else np.asarray(model.penalty_factor)
    w, share = model.coef_, model.l1_ratio
    r = X @ w + model.intercept_ - y
    penalty = f * (share * np.abs(w) + 0.5 * (1.0 - share) * w * w)
    return 0.5 * float(s @ (r * r)) / s.sum() + model.alpha * float(np.sum(penalty))


def fit(X, y, sample_weight=None, **parameters):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        return LeastSquaresRegressor(**parameters).fit(X, y, sample_weight)


def assert_optimal(model, X, y, s=None, tol=1e-9):
    """No feasible direction between random feasible points lowers the objective."""
    s = np.ones(len(y)) if s is None else s
    gradient = X.T @ (s * (X @ model.coef_ + model.intercept_ - y)) / s.sum()
    f = 1.0 if model.penalty_factor is None else np.asarray(model.penalty_factor)
    gradient = gradient + model.alpha * (1.0 - model.l1_ratio) * f * model.coef_
    l1 = model.alpha * model.l1_ratio * f * np.ones(len(gradient))
    mu = np.zeros(len(gradient))
    if model.constraints is not None:
        mu = -model.constraint_multipliers_ @ np.atleast_2d(model.constraints[0])
    slope, w = -(gradient + mu), model.coef_
    lower, upper = (-np.inf, np.inf) if model.bounds is None else model.bounds
    right = np.where(w >= upper, np.inf, np.where(w < 0.0, -l1, l1))
    left = np.where(w <= lower, -np.inf, np.where(w > 0.0, l1, -l1))
    size = np.sqrt((X * X).mean(axis=0)) * (np.abs(y).max() + 1.0)
    assert (slope <= right + tol * size).all()
    assert (slope >= left - tol * size).all()


# ------------------------------------------------------------------------- against scipy


def hard_problem(rng, kind):
    n, d = int(rng.integers(1, 40)), int(rng.integers(1, 14))
    A, b = rng.normal(size=(n, d)), rng.normal(size=n)
    if kind == "ill-conditioned" and n >= d:
        U, s, V = np.linalg.svd(A, full_matrices=False)
        A = (U * np.logspace(0, -rng.uniform(0, 14), len(s))) @ V
    elif kind == "dependent":
        A[:, rng.integers(d)] = A[:, rng.integers(d)]
        A *= 10.0 ** rng.integers(-5, 5, size=d)
    elif kind == "powers":
        A = np.vander(np.linspace(0.0, 1.0, n), d)
    lower = rng.normal(size=d) - 1.0
    upper = lower + 2.0 * rng.exponential(size=d)
    lower[rng.random(d) < 0.2], upper[rng.random(d) < 0.2] = -np.inf, np.inf
    return A, b, lower, upper


def half_squares(A, b, w):
    """The objective of weights as they are, without the rounding of float64."""
    r = A.astype(np.longdouble) @ w.astype(np.longdouble) - b
    return 0.5 * float(r @ r)


def allowance(A, w, least):
    """What the rounding of the weights themselves may add to the objective."""
    noise = EPS * (np.abs(A) @ np.abs(w))
    return 1e-10 * least + 0.5 * len(w) * float(noise @ noise)


@pytest.mark.parametrize("kind", ["plain", "ill-conditioned", "dependent", "powers"])
def test_never_above_lsq_linear(kind):
    rng = np.random.default_rng(len(kind))
    for _ in range(25):
        A, b, lower, upper = hard_problem(rng, kind)
        w = fit(A, b, bounds=(lower, upper), fit_intercept=False).coef_
        assert (w >= lower).all()
        assert (w <= upper).all()
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            theirs = [
                lsq_linear(A, b, (lower, upper), method=method, tol=1e-14).x
                for method in ("bvls", "trf")
            ]
        least = min(half_squares(A, b, x) for x in theirs)
        assert half_squares(A, b, w) <= least + allowance(A, w, least)


def test_never_above_nnls():
    rng = np.random.default_rng(1)
    for k in range(25):
        A, b, _, _ = hard_problem(rng, "ill-conditioned" if k % 2 else "plain")
        w = fit(A, b, bounds=(0.0, np.inf), fit_intercept=False).coef_
        least = half_squares(A, b, nnls(A, b)[0])
        assert (w >= 0.0).all()
        assert half_squares(A, b, w) <= least + allowance(A, w, least)


# ---------------------------------------------------------------------------- optimality


BOUNDS = (
    np.array([-0.2, 0.1, -np.inf, 0.0, -1.0, 0.3]),
    np.array([0.2, 0.6, 0.0, np.inf, 1.0, 0.3]),
)
SUMS = (np.array([[1.0, 1.0, 1.0, 1.0, 1.0, 1.0], [1.0, -1.0, 0.0, 0.0, 2.0, 0.0]]), [1.0, 0.2])


@pytest.mark.parametrize("bounds", [None, BOUNDS])
@pytest.mark.parametrize("constraints", [None, SUMS])
@pytest.mark.parametrize(("alpha", "l1_ratio"), [(0.0, 0.0), (0.1, 0.0), (0.05, 1.0), (0.05, 0.5)])
@pytest.mark.parametrize("factor", [None, [0.0, 1.0, 2.0, 0.5, 1.0, 3.0]])
def test_optimality(bounds, constraints, alpha, l1_ratio, factor):
    X, y = data()
    s = np.random.default_rng(3).integers(0, 4, size=len(y)).astype(float)
    parameters = {
        "bounds": bounds,
        "constraints": constraints,
        "alpha": alpha,
        "l1_ratio": l1_ratio,
    }
    model = fit(X, y, s, penalty_factor=factor, **parameters)
    assert_optimal(model, X, y, s)
    if bounds is not None:
        assert (model.coef_ >= bounds[0]).all()
        assert (model.coef_ <= bounds[1]).all()
    if constraints is not None:
        np.testing.assert_allclose(constraints[0] @ model.coef_, constraints[1], atol=1e-13)
        assert model.constraint_residual_ <= 1e-13
    if bounds is not None or constraints is not None:
        same = fit(X, y, s, penalty_factor=factor, solver="qr", **parameters)
        np.testing.assert_allclose(model.coef_, same.coef_, atol=1e-10)
    repeated = fit(
        np.repeat(X, s.astype(int), axis=0),
        np.repeat(y, s.astype(int)),
        penalty_factor=factor,
        **parameters,
    )
    np.testing.assert_allclose(model.coef_, repeated.coef_, atol=1e-10)
    assert model.relative_gradient_ < 1e-12


@pytest.mark.parametrize("solver", ["gram", "qr"])
def test_duality_gap_bounds_the_distance_from_the_optimum(solver):
    X, y = data(40, 8)
    bounds = (-np.ones(8), np.ones(8))
    model = fit(X, y, bounds=bounds, alpha=0.1, l1_ratio=0.3, solver=solver)
    assert 0.0 <= model.dual_gap_ < 1e-12
    shares = fit(X, y, bounds=(0.0, np.inf), constraints=(np.ones((1, 8)), [1.0]), solver=solver)
    assert 0.0 <= shares.dual_gap_ < 1e-12
    assert not hasattr(fit(X, y, constraints=(np.ones((1, 8)), [1.0])), "dual_gap_")


def test_multipliers_are_derivatives():
    X, y = data()
    A, step = np.array([[1.0, 1.0, 1.0, 0.0, 0.0, 0.0], [0.0, 0.0, 1.0, 2.0, 1.0, 1.0]]), 1e-5
    values = []
    for b in ([0.5 - step, 0.3], [0.5 + step, 0.3], [0.5, 0.3 - step], [0.5, 0.3 + step]):
        values.append(objective(fit(X, y, constraints=(A, b)), X, y))
    found = fit(X, y, constraints=(A, [0.5, 0.3])).constraint_multipliers_
    derivatives = np.array([values[1] - values[0], values[3] - values[2]]) / (2.0 * step)
    np.testing.assert_allclose(found, derivatives, rtol=1e-6)


def test_equalities_alone_are_a_projected_problem():
    X, y = data()
    A, b = (
        np.array([[1.0, 2.0, 0.0, -1.0, 0.0, 1.0], [0.0, 1.0, 1.0, 0.0, 0.0, 0.0]]),
        np.array([1.0, 2.0]),
    )
    Q = np.linalg.qr(A.T, mode="complete")[0][:, 2:]
    at = np.linalg.lstsq(A, b, rcond=None)[0]
    Xc, yc = X - X.mean(axis=0), y - y.mean()
    expected = at + Q @ np.linalg.lstsq(Xc @ Q, yc - Xc @ at, rcond=None)[0]
    model = fit(X, y, constraints=(A, b))
    np.testing.assert_allclose(model.coef_, expected, rtol=1e-11)
    assert model.intercept_ == pytest.approx(y.mean() - X.mean(axis=0) @ expected, rel=1e-11)


@pytest.mark.parametrize("solver", ["auto", "qr"])
def test_random_problems_of_columns_in_any_units(solver):
    """Units that differ by 1e6, dependent and constant columns, vertices, fixed features."""
    rng = np.random.default_rng(3)
    for k in range(40):
        n, d = int(rng.integers(2, 40)), int(rng.integers(2, 12))
        X = rng.normal(size=(n, d)) * 10.0 ** rng.integers(-3, 4, size=d)
        if k % 4 == 1:
            X[:, 0] = X[:, 1]
        elif k % 4 == 2:
            X[:, 0] = 3.0
        y = rng.normal(size=n)
        inside = rng.normal(size=d) * rng.integers(0, 2, size=d)
        lower, upper = (inside + sign * rng.exponential(size=d) for sign in (-1.0, 1.0))
        at = rng.integers(0, 4, size=d)  # a bound on either side, on one, or none where none is
        lower = np.where(at == 0, -np.inf, np.where(at == 1, inside, lower))
        upper = np.where(at == 2, np.inf, np.where(at == 1, inside, upper))
        A = rng.integers(-1, 2, size=(int(rng.integers(1, 4)), d)).astype(float)
        model = fit(
            X,
            y,
            solver=solver,
            bounds=(lower, upper),
            constraints=(A, A @ inside),
            alpha=float(rng.choice([0.0, 0.1])),
            l1_ratio=float(rng.choice([0.0, 1.0])),
        )
        assert model.relative_gradient_ < 1e-10
        assert model.constraint_residual_ <= 1e-12 * (1.0 + np.abs(model.coef_).max())
        assert_optimal(model, X, y)


# --------------------------------------------------------------------------- metamorphic


def test_columns_permuted_and_scaled():
    X, y = data()
    lower, upper = BOUNDS
    A, b = np.atleast_2d(SUMS[0]), SUMS[1]
    base = fit(X, y, bounds=BOUNDS, constraints=(A, b))
    order, unit = np.random.default_rng(0).permutation(6), 2.0 ** np.array([9, -9, 0, 3, 20, -4])
    turned = fit(X[:, order], y, bounds=(lower[order], upper[order]), constraints=(A[:, order], b))
    np.testing.assert_allclose(turned.coef_, base.coef_[order], atol=1e-12)
    scaled = fit(X * unit, y, bounds=(lower / unit, upper / unit), constraints=(A * unit, b))
    np.testing.assert_allclose(scaled.coef_ * unit, base.coef_, atol=1e-11)


def test_infinite_bounds_are_none():
    X, y = data()
    plain = fit(X, y)
    model = fit(X, y, bounds=(-np.inf, np.inf), penalty_factor=np.ones(6))
    assert np.array_equal(plain.coef_, model.coef_)
    assert model.summary() is not None
    np.testing.assert_allclose(fit(X, y, bounds=(-1e9, 1e9)).coef_, plain.coef_, rtol=1e-11)


def test_redundant_equalities_change_nothing():
    X, y = data()
    A, b = SUMS
    base = fit(X, y, bounds=BOUNDS, constraints=(A, b))
    more = np.vstack([A[0], 2.0 * A[0] - A[1], A[1], np.zeros(6)])
    model = fit(X, y, bounds=BOUNDS, constraints=(more, [b[0], 2.0 * b[0] - b[1], b[1], 0.0]))
    np.testing.assert_allclose(model.coef_, base.coef_, atol=1e-13)
    assert model.constraint_multipliers_.shape == (4,)
    assert_optimal(model, X, y)
    for unit in (1e-200, 1e200, 1e307):  # the squares of rows are out of range
        model = fit(X, y, bounds=BOUNDS, constraints=(A * unit, np.array(b) * unit))
        np.testing.assert_allclose(model.coef_, base.coef_, atol=1e-13)


def test_positive_is_a_bound():
    X, y = data()
    expected = fit(X, y, positive=True).coef_
    np.testing.assert_allclose(fit(X, y, bounds=(0.0, np.inf)).coef_, expected, atol=1e-12)
    both = fit(X, y, positive=True, bounds=(-1.0, 0.5)).coef_
    np.testing.assert_allclose(both, fit(X, y, bounds=(0.0, 0.5)).coef_, atol=1e-12)


# ------------------------------------------------------------- penalties, targets, formats


@pytest.mark.parametrize("l1_ratio", [0.0, 1.0])
def test_penalty_factor_is_that_of_glmnet_and_glum(l1_ratio):
    """A factor f is the penalty of the column times 1/f (of its square root for L2)."""
    X, y = data()
    factor = np.array([0.5, 1.0, 2.0, 4.0, 1.0, 3.0])
    unit = factor if l1_ratio else np.sqrt(factor)
    base = fit(X / unit, y, alpha=0.05, l1_ratio=l1_ratio)
    model = fit(X, y, alpha=0.05, l1_ratio=l1_ratio, penalty_factor=factor)
    np.testing.assert_allclose(model.coef_, base.coef_ / unit, atol=1e-11)
    assert model.coef_[0] != 0.0
    # glmnet: the factors are normalised to sum to the number of features.
    normalised = factor * 6.0 / factor.sum()
    same = fit(X, y, alpha=0.05 * factor.sum() / 6.0, l1_ratio=l1_ratio, penalty_factor=normalised)
    np.testing.assert_allclose(same.coef_, model.coef_, atol=1e-11)


def test_features_without_a_penalty():
    X, y = data()
    factor = np.array([1.0, 1.0, 1.0, 0.0, 0.0, 1.0])
    model = fit(X, y, alpha=1e6, l1_ratio=1.0, penalty_factor=factor)
    assert np.flatnonzero(model.coef_).tolist() == [3, 4]
    np.testing.assert_allclose(model.coef_[3:5], fit(X[:, 3:5], y).coef_, rtol=1e-10)


def test_alpha_per_target():
    X, y = data(t=3)
    alphas = np.array([[0.0, 1.0, 10.0]])
    model = fit(X, y, alpha=alphas / len(y))
    expected = Ridge(alpha=alphas[0] + 1e-14).fit(X, y)
    np.testing.assert_allclose(model.coef_, expected.coef_, rtol=1e-8)
    np.testing.assert_allclose(model.intercept_, expected.intercept_, rtol=1e-8)
    assert not hasattr(model, "coef_path_")
    path = fit(X, y, alpha=np.vstack([alphas, 2.0 * alphas]) / len(y), l1_ratio=0.5)
    assert path.coef_path_.shape == (2, 3, 6)
    for t in range(3):
        own = fit(X, y[:, t], alpha=2.0 * alphas[0, t] / len(y), l1_ratio=0.5)
        np.testing.assert_allclose(path.coef_path_[1, t], own.coef_, atol=1e-11)
    with pytest.raises(ValueError, match="alpha has 2 columns, but y has 3 targets"):
        LeastSquaresRegressor(alpha=[[1.0, 2.0]]).fit(X, y)
    with pytest.raises(ValueError, match="alpha must be numbers >= 0"):
        LeastSquaresRegressor(alpha=[[1.0, -2.0, 1.0]]).fit(X, y)


def test_targets_paths_and_formats():
    X, y = data(t=2)
    X[np.abs(X) < 0.3] = 0.0
    parameters = {"bounds": BOUNDS, "constraints": SUMS, "l1_ratio": 0.5, "alpha": [0.5, 0.1]}
    model = fit(X, y, **parameters)
    assert model.coef_path_.shape == (2, 2, 6)
    assert model.dual_gap_.shape == (2,)
    assert model.constraint_multipliers_.shape == (2, 2)
    for t in range(2):
        own = fit(X, y[:, t], **{**parameters, "alpha": 0.1})
        np.testing.assert_allclose(model.coef_[t], own.coef_, atol=1e-11)
    for other in (sparse.csr_array(X), np.asfortranarray(X), sparse.csc_array(X)):
        np.testing.assert_allclose(fit(other, y, **parameters).coef_, model.coef_, atol=1e-11)
    narrow = fit(X.astype(np.float32), y.astype(np.float32), **parameters)
    assert narrow.coef_.dtype == np.float32
    np.testing.assert_allclose(narrow.coef_, model.coef_, atol=1e-5)
    assert (narrow.coef_ <= BOUNDS[1].astype(np.float32)).all()


@pytest.mark.parametrize("factor", ["gram", "qr"])
@pytest.mark.parametrize("fit_intercept", [False, True])
def test_moments_and_parts(factor, fit_intercept):
    X, y = data(90)
    s = np.random.default_rng(1).uniform(0.5, 2.0, size=90)
    parameters = {
        "bounds": BOUNDS,
        "constraints": SUMS,
        "alpha": 0.1,
        "l1_ratio": 0.5,
        "fit_intercept": fit_intercept,
    }
    base = fit(X, y, s, penalty_factor=[0, 1, 2, 1, 1, 1], **parameters)
    model = clone(base).fit_moments(Moments.from_data(X, y, s, factor=factor))
    for name in ("coef_", "intercept_", "constraint_multipliers_"):
        np.testing.assert_allclose(getattr(model, name), getattr(base, name), atol=1e-11)
    assert model.dual_gap_ < 1e-12
    parts = clone(base)
    for rows in (slice(0, 20), slice(20, 90)):
        parts.partial_fit(X[rows], y[rows], s[rows])
    np.testing.assert_allclose(parts.coef_, base.coef_, atol=1e-11)
    streamed = clone(base).fit_stream(scan(X, target=y, weight=s))
    np.testing.assert_allclose(streamed.coef_, base.coef_, atol=1e-11)


def test_cross_validation_by_folds():
    X, y = data(60)
    alphas, folds = [1.0, 0.1, 0.01], [np.arange(60) % 3 == k for k in range(3)]
    parameters = {"bounds": BOUNDS, "constraints": SUMS, "penalty_factor": [0, 1, 2, 1, 1, 1]}
    cv = LeastSquaresCV(
        alphas=alphas, cv=[(~test, test) for test in folds], l1_ratio=0.5, **parameters
    ).fit(X, y)
    errors = np.empty((3, 3))
    for i, alpha in enumerate(alphas):
        for k, test in enumerate(folds):
            own = fit(X[~test], y[~test], alpha=alpha, l1_ratio=0.5, **parameters)
            errors[i, k] = ((own.predict(X[test]) - y[test]) ** 2).mean()
    np.testing.assert_allclose(cv.mse_path_, errors, rtol=1e-9)
    whole = fit(X, y, alpha=cv.alpha_, l1_ratio=0.5, **parameters)
    np.testing.assert_allclose(cv.coef_, whole.coef_, atol=1e-12)
    parts = [Moments.from_data(X[test], y[test]) for test in folds]
    np.testing.assert_allclose(clone(cv).fit_moments(parts).mse_path_, errors, rtol=1e-8)
    assert LeastSquaresCV(**parameters).fit(X, y).mse_path_.shape == (100, 5)


# ------------------------------------------------------------------------------- refusals


@pytest.mark.parametrize(
    ("parameters", "message"),
    [
        ({"bounds": (1.0, 0.0)}, "bounds contradict each other: lower 1 > upper 0"),
        ({"bounds": ([0, 0, 2, 0, 0, 0], 1.0)}, "for feature 2: lower 2 > upper 1"),
        ({"bounds": (np.nan, 1.0)}, "The lower bounds must be numbers or -inf"),
        ({"bounds": (0.0, -np.inf)}, "The upper bounds must be numbers or inf"),
        ({"bounds": 3.0}, "bounds must be a pair"),
        ({"bounds": ([0.0, 1.0], 2.0)}, r"bounds\[0\] has 2 numbers, but X has 6 features"),
        ({"bounds": ("a", 1.0)}, r"bounds\[0\]"),
        ({"bounds": (None, 1.0)}, r"bounds\[0\] must be numbers, got None"),
        ({"bounds": (-3.0, -1.0), "positive": True}, "lower 0 > upper -1"),
        ({"constraints": np.ones(6)}, "constraints must be a pair"),
        ({"constraints": (np.ones((2, 6)), [1.0])}, "one number of b for each row of A"),
        ({"constraints": (np.ones((1, 5)), [1.0])}, "are for 5 features, but X has 6"),
        ({"constraints": (np.ones((1, 6)), [np.nan])}, "constraints must be finite"),
        (
            {"constraints": (np.ones((1, 6)), [7.0]), "bounds": (0.0, 1.0)},
            "row 0 of A coef = b asks for 7, but within the bounds A coef is from 0 to 6",
        ),
        ({"constraints": ([[0, 0, 0, 0, 0, 0]], [1.0])}, "row 0 of A coef = b asks for 1"),
        (
            {
                "constraints": (
                    [[1, 1, 0, 0, 0, 0], [0, 0, 1, 0, 0, 0], [2, 2, 1, 0, 0, 0]],
                    [1, 1, 4],
                )
            },
            "constraints contradict each other: row",
        ),
        (
            {
                "constraints": (
                    [[1, 1, 0, 0, 0, 0], [1, -1, 0, 0, 0, 0], [0, 0, 1, 0, 0, 0]],
                    [1, 0.9, 0],
                ),
                "bounds": ([0, 0.1, 0, 0, 0, 0], 1.0),
            },
            "constraints can't be satisfied within the bounds: rows 0, 1 of A coef = b",
        ),
        ({"penalty_factor": [1.0, -1.0, 1, 1, 1, 1], "alpha": 1.0}, "penalty_factor must be"),
        ({"penalty_factor": 2.0, "alpha": 1.0}, "penalty_factor must be an array"),
        ({"penalty_factor": np.ones(5), "alpha": 1.0}, "penalty_factor has 5 numbers"),
        ({"bounds": (0.0, 1.0), "solver": "sketch"}, "solver='sketch' can't fit with bounds"),
    ],
)
def test_refusals(parameters, message):
    X, y = data()
    model = LeastSquaresRegressor(**parameters)
    with pytest.raises(ValueError, match=message if "[" in message else re.escape(message)):
        model.fit(X, y)
    assert not hasattr(model, "coef_")
    assert not hasattr(model, "n_features_in_")
    with pytest.raises(ValueError, match=r"bounds|constraints|penalty_factor"):
        model.fit_moments(Moments.from_data(X, y))


def test_features_are_named():
    pandas = pytest.importorskip("pandas")
    X, y = data()
    frame = pandas.DataFrame(X, columns=list("abcdef"))
    with pytest.raises(ValueError, match="for 'c': lower 2 > upper 1"):
        LeastSquaresRegressor(bounds=([0, 0, 2, 0, 0, 0], 1.0)).fit(frame, y)


# ---------------------------------------------------------------------------------- edges


def test_all_features_fixed_and_one_feature():
    X, y = data()
    fixed = np.arange(6.0)
    model = fit(X, y, bounds=(fixed, fixed), constraints=(np.ones((1, 6)), [15.0]))
    assert np.array_equal(model.coef_, fixed)
    assert model.intercept_ == pytest.approx((y - X @ fixed).mean())
    with pytest.raises(
        ValueError, match="asks for 14, but within the bounds A coef is from 15 to 15"
    ):
        LeastSquaresRegressor(bounds=(fixed, fixed), constraints=(np.ones((1, 6)), [14.0])).fit(
            X, y
        )
    one = fit(X[:, :1], y, bounds=(-0.01, 0.01))
    assert abs(one.coef_[0]) == 0.01
    assert fit(X[:, :1], y, constraints=([[2.0]], [1.0])).coef_[0] == pytest.approx(0.5, rel=1e-15)
    assert fit(X[:1], y[:1], bounds=(0.5, 1.0)).coef_.tolist() == [0.5] * 6


def test_vertex_where_more_bounds_hold_than_weights():
    """All weights but one are at 0 and that one is at 1, where the multiplier is not unique."""
    rng = np.random.default_rng(0)
    X = rng.normal(size=(50, 5))
    y = 3.0 * X[:, 2]
    for upper in (1.0, np.inf):
        for solver in ("gram", "qr"):
            model = fit(
                X, y, bounds=(0.0, upper), constraints=(np.ones((1, 5)), [1.0]), solver=solver
            )
            np.testing.assert_allclose(model.coef_, [0, 0, 1, 0, 0], atol=1e-14)


def test_dummies_that_sum_to_zero():
    """Effects of all levels beside an intercept, identified by their sum alone."""
    rng = np.random.default_rng(0)
    level = rng.integers(0, 4, size=200)
    X, y = np.eye(4)[level], np.array([1.0, 2.0, 4.0, -1.0])[level] + rng.normal(size=200)
    means = np.array([y[level == k].mean() for k in range(4)])
    model = fit(X, y, constraints=(np.ones((1, 4)), [0.0]))
    np.testing.assert_allclose(model.intercept_, means.mean(), rtol=1e-10)
    np.testing.assert_allclose(model.coef_, means - means.mean(), rtol=1e-10)
    same = clone(model).fit_moments(Moments.from_data(X, y, factor="qr"))
    np.testing.assert_allclose(same.coef_, model.coef_, rtol=1e-10)


@pytest.mark.parametrize("solver", ["auto", "qr"])
def test_repeated_columns_without_bounds(solver):
    X, y = data(16)
    X[:, 3] = X[:, 2]
    bounds = (-np.inf, [np.inf, np.inf, np.inf, np.inf, np.inf, 0.1])
    model = fit(X, y, bounds=bounds, constraints=([[0, 2, 0, 0, 2, 0]], [0.4]), solver=solver)
    assert_optimal(model, X, y)
    assert np.abs(model.coef_).max() < 1e3


@pytest.mark.parametrize("seed", range(5))
def test_repeated_columns_far_from_zero(seed):
    X, y = data(seed=seed)
    X = np.round(X) + 1000.0
    X[:, 1] = X[:, 0]
    bounds = ([-np.inf, -np.inf, 0.0, 0.0, 0.0, 0.0], np.inf)
    model = fit(X, y, bounds=bounds, fit_intercept=False)
    assert model.relative_gradient_ < 1e-9
    assert np.abs(model.coef_).max() < 1e3


def test_constant_and_empty_columns():
    X, y = data()
    X[:, 1], X[:, 4] = 3.0, 0.0
    model = fit(X, y, bounds=([-9, 2, -9, -9, 1, -9], 9.0))
    assert model.coef_[1] == 2.0
    assert model.coef_[4] == 1.0
    others = [0, 2, 3, 5]
    np.testing.assert_allclose(model.coef_[others], fit(X[:, others], y).coef_, rtol=1e-10)
    sums = np.array([[1, 0, 1, 1, 0, 1], [1, 0, -1, 0, 0, 0], [0, 0, 1, -1, 0, 2]])
    for solver in ("gram", "qr"):
        model = fit(X, y, constraints=(sums, [1.0, 0.3, 0.2]), solver=solver)
        assert not model.coef_[[1, 4]].any()
        assert_optimal(model, X, y)
    # A column without effect takes what the equality asks for.
    model = fit(X, y, constraints=(np.ones((1, 6)), [1.0]))
    np.testing.assert_allclose(model.coef_[others], fit(X[:, others], y).coef_, rtol=1e-9)
    assert model.coef_.sum() == pytest.approx(1.0, rel=1e-13)


def test_rows_that_say_nothing():
    shares = {"bounds": (0.0, 1.0), "constraints": (np.ones((1, 3)), [1.0])}
    assert fit(np.zeros((5, 3)), np.ones(5), **shares).coef_.sum() == 1.0
    assert not fit(np.zeros((5, 3)), np.ones(5), bounds=(0.0, 1.0)).coef_.any()
    far = np.array([[1e200], [2e200], [-3e200]]) * np.ones(2)  # squares overflow
    assert not fit(far, np.ones(3), bounds=(0.0, 1.0)).coef_.any()


def test_fewer_rows_than_columns():
    rng = np.random.default_rng(0)
    X, truth = rng.normal(size=(20, 60)), rng.dirichlet(np.full(60, 0.1))
    model = fit(X, X @ truth, bounds=(0.0, 1.0), constraints=(np.ones((1, 60)), [1.0]))
    assert model.residual_norm_ < 1e-13
    y = X @ truth + rng.normal(size=20)
    noisy = fit(X, y, bounds=(0.0, 1.0), alpha=0.1, fit_intercept=False)
    rows, targets = np.vstack([X, np.sqrt(2.0) * np.eye(60)]), np.append(y, np.zeros(60))
    theirs = lsq_linear(rows, targets, (0.0, 1.0), method="bvls", tol=1e-14).x
    np.testing.assert_allclose(noisy.coef_, theirs, atol=1e-10)


def test_targets_and_units_of_any_size():
    X, y = data()
    base = fit(X, y, bounds=BOUNDS, constraints=SUMS)
    for size in (2.0**500, 2.0**-500):
        large = fit(
            X,
            y * size,
            bounds=tuple(b * size for b in BOUNDS),
            constraints=(SUMS[0], np.array(SUMS[1]) * size),
        )
        np.testing.assert_allclose(large.coef_ / size, base.coef_, atol=1e-10)
    zero = fit(X, np.zeros(len(y)), bounds=(0.5, 1.0), fit_intercept=False)
    assert ((zero.coef_ >= 0.5) & (zero.coef_ <= 1.0)).all()


def test_a_missed_certificate_warns():
    X, y = data(200, 6)
    X[:, 5] = X[:, 4] + 1e-9 * X[:, 5]
    with pytest.warns(ConvergenceWarning, match="rounding of float32"):
        LeastSquaresRegressor(bounds=(-1e9, 1e9)).fit(X.astype(np.float32), y)


def test_warm_start_and_parameters():
    X, y = data()
    model = LeastSquaresRegressor(bounds=(0.0, 0.5), warm_start=True).fit(X, y)
    first = model.coef_.copy()
    assert np.array_equal(model.fit(X, y).coef_, first)
    copied = clone(model)
    assert copied.get_params()["bounds"] == (0.0, 0.5)
    model.set_params(bounds=None).fit(X, y)
    np.testing.assert_allclose(model.coef_, fit(X, y).coef_, rtol=1e-10)
    assert not hasattr(model, "constraint_residual_")
