"""Robust covariances, tests, intervals and influence agree with statsmodels."""

from __future__ import annotations

import sys

import numpy as np
import pytest
from scipy.sparse import csr_array

from fastlsgd import LeastSquaresRegressor
from fastlsgd.streaming import scan

sm = pytest.importorskip("statsmodels.api")


def problem(n=3_000, d=3, seed=0):
    rng = np.random.default_rng(seed)
    X = rng.standard_normal((n, d)) + 3.0
    groups = rng.integers(0, 40, n)
    noise = np.abs(X[:, 0]) * rng.standard_normal(n) + rng.standard_normal(40)[groups]
    return X, X @ np.arange(1.0, d + 1) + 1.0 + noise, groups, rng


X, Y, GROUPS, RNG = problem()
OTHER = RNG.choice(np.array(["a", "b", "c", "d", "e"], object), len(Y))
CASES = {
    "HC0": ("HC0", None, None),
    "HC1": ("HC1", None, None),
    "HC2": ("HC2", None, None),
    "HC3 by t": ("HC3", {"use_t": True}, None),
    "cluster": ("cluster", {"groups": GROUPS}, None),
    "cluster, uncorrected, by t": (
        "cluster",
        {"groups": np.sort(GROUPS), "use_correction": False, "use_t": True},
        None,
    ),
    "cluster, rows' degrees": ("cluster", {"groups": GROUPS, "df_correction": False}, None),
    "two ways": (
        "cluster",
        {"groups": np.column_stack([GROUPS, OTHER])},
        {"groups": np.column_stack([GROUPS, np.unique(OTHER, return_inverse=True)[1]])},
    ),
    "HAC": ("HAC", {"maxlags": 5}, None),
    "HAC, lags beyond a block of rows": ("HAC", {"maxlags": 1100}, None),
    "HAC, uniform, corrected": (
        "HAC",
        {"maxlags": 3, "kernel": "uniform", "use_correction": True},
        None,
    ),
}


def agree(summary, expected, rtol=1e-8):
    pairs = {
        "coef": expected.params,
        "standard_error": expected.bse,
        "t": expected.tvalues,
        "p_value": expected.pvalues,
        "confidence_interval": expected.conf_int(),
        "f_statistic": expected.fvalue,
        "f_p_value": expected.f_pvalue,
        "covariance": expected.cov_params(),
    }
    for name, value in pairs.items():
        np.testing.assert_allclose(
            getattr(summary, name), value, rtol=rtol, atol=1e-14, err_msg=name
        )


@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("case", CASES)
def test_robust_covariances_are_those_of_statsmodels(case, weighted):
    cov_type, kwds, of_statsmodels = CASES[case]
    s = np.linspace(0.5, 2.0, len(Y)) if weighted else None
    model = LeastSquaresRegressor().fit(X, Y, sample_weight=s)
    found = model.summary(cov_type=cov_type, cov_kwds=kwds, X=X, y=Y, sample_weight=s)
    theirs = sm.WLS(Y, sm.add_constant(X), 1.0 if s is None else s)
    own = dict(of_statsmodels or kwds or {})
    use_t = own.pop("use_t", None)
    agree(found, theirs.fit(cov_type=cov_type, cov_kwds=own or None, use_t=use_t))
    assert found.cov_type == cov_type
    assert f"covariance                   {cov_type}" in repr(found)


@pytest.mark.parametrize(
    "case", ["HC1", "HC3 by t", "two ways", "HAC", "HAC, lags beyond a block of rows"]
)
def test_several_targets_and_streams(case):
    cov_type, kwds, of_statsmodels = CASES[case]
    both, s = np.column_stack([Y, X[:, 0] ** 2 + np.sin(Y)]), np.linspace(0.5, 2.0, len(Y))
    stream = scan(X, both, weight=s, batch_rows=711)
    model = LeastSquaresRegressor().fit(X, both, sample_weight=s)
    from_stream = LeastSquaresRegressor().fit_stream(stream)
    found = [
        model.summary(cov_type=cov_type, cov_kwds=kwds, X=X, y=both, sample_weight=s),
        from_stream.summary(cov_type=cov_type, cov_kwds=kwds, stream=stream),
    ]
    if cov_type == "cluster":
        labels = scan(X, of_statsmodels["groups"], batch_rows=500)
        own = {"groups": labels}
        found.append(from_stream.summary(cov_type=cov_type, cov_kwds=own, stream=stream))
    own = dict(of_statsmodels or kwds or {})
    use_t = own.pop("use_t", None)
    for target, y in enumerate(both.T):
        theirs = sm.WLS(y, sm.add_constant(X), s)
        expected = theirs.fit(cov_type=cov_type, cov_kwds=own or None, use_t=use_t)
        for summaries in found:
            agree(summaries[target], expected)
            np.testing.assert_allclose(summaries[target].bic, expected.bic, rtol=1e-8)


def test_clusters_are_summed_alike_without_the_loop_of_scipy(monkeypatch):
    cov_type, kwds, _ = CASES["two ways"]
    model = LeastSquaresRegressor().fit(X, Y)
    found = model.summary(cov_type=cov_type, cov_kwds=kwds, X=X, y=Y).covariance
    monkeypatch.setitem(sys.modules, "scipy.sparse._sparsetools", None)
    plain = model.summary(cov_type=cov_type, cov_kwds=kwds, X=X, y=Y).covariance
    np.testing.assert_allclose(found, plain, rtol=1e-10, atol=1e-16)


def test_intervals_and_influence_of_several_targets():
    both = np.column_stack([Y, X[:, 0] ** 2])[:60]
    model = LeastSquaresRegressor().fit(X[:60], both)
    interval, std = model.prediction_interval(X[:9]), model.predict(X[:9], return_std=True)[1]
    influence = model.influence(X[:60], both)
    assert interval.shape == (9, 2, 2)
    for target, y in enumerate(both.T):
        one = LeastSquaresRegressor().fit(X[:60], y)
        np.testing.assert_allclose(interval[:, target], one.prediction_interval(X[:9]))
        np.testing.assert_allclose(std[:, target], one.predict(X[:9], return_std=True)[1])
        cooks = one.influence(X[:60], y).cooks_distance
        np.testing.assert_allclose(influence[target].cooks_distance, cooks, rtol=1e-9)


def test_labels_of_streams_are_those_of_its_rows():
    pyarrow = pytest.importorskip("pyarrow")
    table = pyarrow.table({"a": X[:, 0], "b": X[:, 1], "y": Y, "user": GROUPS.astype(str)})
    stream = scan(table, "y", columns=["a", "b"], batch_rows=700)
    model = LeastSquaresRegressor().fit_stream(stream)
    labels = scan(table, "user", columns=["a"], batch_rows=400)
    found = model.summary(cov_type="cluster", cov_kwds={"groups": labels}, stream=stream)
    expected = sm.OLS(Y, sm.add_constant(X[:, :2]))
    agree(found, expected.fit(cov_type="cluster", cov_kwds={"groups": GROUPS}))
    short = scan(table.slice(0, 2000), "user", columns=["a"])
    wrong = {
        "groups has 2999 labels, and the stream has more": {"groups": GROUPS[1:]},
        "groups has 3001 labels, and the stream has 3000": {"groups": np.append(GROUPS, 1)},
        "The stream of groups has fewer rows": {"groups": short},
        "must be an array of labels or a Stream": {"groups": 3},
        "at least two clusters": {"groups": np.ones(len(Y))},
    }
    for message, kwds in wrong.items():
        with pytest.raises(ValueError, match=message):
            model.summary(cov_type="cluster", cov_kwds=kwds, stream=stream)
    swapped, part = scan(table, "y", columns=["b", "a"]), scan(X[:9, :2], Y[:9])
    for message, own in {
        "other columns than the fit": {"stream": swapped},
        "3000 of positive weight, and the stream has 9": {"stream": part},
        "where the fit had 2 and 1": {"stream": scan(X, Y)},
        "or stream, not both": {"stream": stream, "X": X},
        "stream must be a Stream": {"stream": X},
    }.items():
        with pytest.raises(ValueError, match=message):
            model.summary(cov_type="HC1", **own)


@pytest.mark.parametrize("cov_type", ["HC3", "cluster"])
def test_sparse_rows_no_intercept_and_rows_without_weight(cov_type):
    s = (RNG.random(len(Y)) < 0.7).astype(np.float64)
    there = s > 0.0
    kwds = {"groups": GROUPS} if cov_type == "cluster" else None
    of_part = {"groups": GROUPS[there]} if cov_type == "cluster" else None
    A = csr_array(X)
    model = LeastSquaresRegressor(fit_intercept=False).fit(A, Y, sample_weight=s)
    found = model.summary(cov_type=cov_type, cov_kwds=kwds, X=A, y=Y, sample_weight=s)
    agree(found, sm.OLS(Y[there], X[there]).fit(cov_type=cov_type, cov_kwds=of_part), rtol=1e-7)


def test_weights_of_any_size_have_the_same_errors():
    small = np.full(len(Y), 1e-150)
    for cov_type in ("nonrobust", "HC3"):
        rows = [{}, {"sample_weight": small}]
        errors = []
        for own in rows:
            model = LeastSquaresRegressor().fit(X, Y, **own)
            given = {} if cov_type == "nonrobust" else {"X": X, "y": Y, **own}
            summary = model.summary(cov_type=cov_type, **given)
            errors.append(np.sqrt(summary.covariance.diagonal()))
            np.testing.assert_allclose(errors[-1], summary.standard_error, rtol=1e-8)
        np.testing.assert_allclose(*errors, rtol=1e-8)


def test_a_column_that_is_left_out_changes_nothing_for_the_others():
    A = np.column_stack([X, np.full(len(Y), 5.0)])
    found = LeastSquaresRegressor().fit(A, Y).summary(cov_type="HC1", X=A, y=Y)
    expected = sm.OLS(Y, sm.add_constant(X)).fit(cov_type="HC1")
    np.testing.assert_allclose(found.standard_error[:-1], expected.bse, rtol=1e-8)
    assert np.isnan(found.standard_error[-1])
    np.testing.assert_allclose(found.f_statistic, expected.fvalue, rtol=1e-8)


@pytest.mark.parametrize("cov_type", ["nonrobust", "HC1"])
def test_linear_hypotheses(cov_type):
    given = {} if cov_type == "nonrobust" else {"X": X, "y": Y}
    summary = LeastSquaresRegressor().fit(X, Y).summary(cov_type=cov_type, **given)
    theirs = sm.OLS(Y, sm.add_constant(X)).fit(cov_type=cov_type)
    R, q = np.array([[0, 1, -1, 0], [0, 0, 1, 1.0]]), np.array([-1.0, 4.9])
    for use_f in (True, False):
        found = summary.wald_test(R, q, use_f=use_f)
        expected = theirs.wald_test((R, q), use_f=use_f, scalar=True)
        np.testing.assert_allclose(found[:2], [expected.statistic, expected.pvalue], rtol=1e-8)
    of_names, expected = summary.f_test(["x0", "x2"]), theirs.f_test(np.eye(4)[[1, 3]])
    np.testing.assert_allclose(of_names.statistic, expected.fvalue, rtol=1e-8)
    assert summary.wald_test(R).df_hypothesis == 2
    for scale in (1e-300, 1e300):  # their squares are out of range
        found = summary.wald_test(R * scale, q * scale)
        np.testing.assert_allclose(found[:2], summary.wald_test(R, q)[:2])
    with pytest.raises(ValueError, match="R has a row of zeros"):
        summary.wald_test([[0, 1, 0, 0], [0, 0, 0, 0]])
    for wrong in (np.nan, [1.0, np.nan], [1.0, 2.0, 3.0]):
        with pytest.raises(ValueError, match="q must be one finite number, or one for each of"):
            summary.wald_test(R, wrong)


def test_variance_inflation():
    from statsmodels.stats.outliers_influence import variance_inflation_factor

    A = X + 2.0 * X[:, :1]
    found = LeastSquaresRegressor().fit(A, Y).summary().variance_inflation
    design = sm.add_constant(A)
    expected = [variance_inflation_factor(design, j) for j in (1, 2, 3)]
    np.testing.assert_allclose(found, expected, rtol=1e-8)


@pytest.mark.parametrize("weighted", [False, True])
def test_intervals_of_predictions(weighted):
    s = np.linspace(0.5, 2.0, len(Y)) if weighted else None
    model = LeastSquaresRegressor().fit(X, Y, sample_weight=s)
    design = sm.add_constant(X)
    theirs = sm.WLS(Y, design, 1.0 if s is None else s).fit().get_prediction(design[:50])
    frame = theirs.summary_frame(alpha=0.1)
    interval = model.prediction_interval(X[:50], level=0.9)
    np.testing.assert_allclose(interval[:, 0], frame["obs_ci_lower"], rtol=1e-8)
    np.testing.assert_allclose(interval[:, 1], frame["obs_ci_upper"], rtol=1e-8)
    mean, std = model.predict(X[:50], return_std=True)
    np.testing.assert_allclose(mean, model.predict(X[:50]))
    np.testing.assert_allclose(std, theirs.se_obs, rtol=1e-8)


def test_influence():
    A, b = X[:60], Y[:60]
    found = LeastSquaresRegressor().fit(A, b).influence(A, b)
    theirs = sm.OLS(b, sm.add_constant(A)).fit().get_influence()
    for name, expected in {
        "leverage": theirs.hat_matrix_diag,
        "studentized_residual": theirs.resid_studentized_internal,
        "external_residual": theirs.resid_studentized_external,
        "cooks_distance": theirs.cooks_distance[0],
        "dffits": theirs.dffits[0],
    }.items():
        np.testing.assert_allclose(getattr(found, name), expected, rtol=1e-8, err_msg=name)


@pytest.mark.parametrize("cov_type", ["nonrobust", "HC0", "HC1", "HC2", "HC3", "cluster"])
def test_rows_of_frequency_weights_are_repeated(cov_type):
    times = np.arange(200) % 4
    A, b, own = X[:200], Y[:200], GROUPS[:200]
    found = []
    for rows, s in (
        (np.arange(200), times.astype(np.float64)),
        (np.repeat(np.arange(200), times), None),
    ):
        given = {"X": A[rows], "y": b[rows], "sample_weight": s}
        model = LeastSquaresRegressor().fit(*given.values())
        if cov_type == "nonrobust":
            given = {}
        kwds = {"groups": own[rows]} if cov_type == "cluster" else None
        weights = "analytic" if s is None else "frequency"
        found.append(model.summary(cov_type=cov_type, cov_kwds=kwds, weights=weights, **given))
    for name in ("n_samples", "standard_error", "p_value", "sigma", "log_likelihood", "bic",
                 "adjusted_r_squared", "f_statistic"):  # fmt: skip
        values = [getattr(summary, name) for summary in found]
        np.testing.assert_allclose(*values, rtol=1e-8, err_msg=name)


MODEL = LeastSquaresRegressor().fit(X, Y)


@pytest.mark.parametrize(
    ("kwds", "message"),
    [
        ({"cov_type": "HC9"}, "cov_type must be one of 'nonrobust', 'HC0'"),
        ({"cov_type": "HC1"}, "needs the rows of the fit: give X, y"),
        ({"cov_type": "HC1", "X": X[1:], "y": Y[1:]}, "3000 of positive weight .* got 2999"),
        ({"cov_type": "HC1", "X": np.where(X > 6, np.nan, X), "y": Y}, "NaN or infinity, first in"),
        ({"cov_type": "HC1", "stream": scan(np.where(X > 6, np.inf, X), Y)}, "NaN or infinity, fi"),
        ({"cov_type": "HC1", "X": X, "y": Y[::-1]}, "is not that of the fit: the root of the sum"),
        ({"cov_type": "HC1", "stream": scan(X, 2.0 * Y)}, "is not that of the fit: the root of"),
        ({"cov_kwds": {"use_t": True}}, "cov_kwds are for robust covariances"),
        ({"cov_type": "HC1", "cov_kwds": {"maxlags": 1}, "X": X, "y": Y}, "may have 'use_t', got"),
        ({"cov_type": "HAC", "X": X, "y": Y}, "HAC' needs cov_kwds"),
        ({"cov_type": "HAC", "cov_kwds": {"maxlags": -1}, "X": X, "y": Y}, "maxlags must be"),
        ({"cov_type": "cluster", "X": X, "y": Y}, "a label for each row"),
        (
            {"cov_type": "cluster", "cov_kwds": {"groups": np.ones(len(Y))}, "X": X, "y": Y},
            "at least two clusters",
        ),
        (
            {"cov_type": "cluster", "cov_kwds": {"groups": np.eye(3000, 3)}, "X": X, "y": Y},
            "one or two columns of labels, got 3",
        ),
    ],
)
def test_bad_input_is_named(kwds, message):
    with pytest.raises(ValueError, match=message):
        MODEL.summary(**kwds)


def test_rows_that_are_fitted_exactly_are_noted():
    A = np.column_stack([X, np.arange(len(X)) == 7])
    model = LeastSquaresRegressor().fit(A, Y)
    for cov_type in ("HC2", "HC3"):
        (note,) = model.summary(cov_type=cov_type, X=A, y=Y).notes
        assert note.startswith("1 row has leverage 1")
        assert f"{cov_type} counts these as 0" in note
    assert not model.summary(cov_type="HC1", X=A, y=Y).notes


def test_influence_is_of_the_rows_of_the_fit():
    for scale in (1.0, 1e-150, 1e150):
        model = LeastSquaresRegressor().fit(X, scale * Y)
        assert np.isfinite(model.influence(X, scale * Y).leverage).all()
        with pytest.raises(ValueError, match="is not that of the fit"):
            model.influence(X, scale * Y[::-1])


def test_dependent_columns_have_no_covariance():
    A = np.column_stack([X, X[:, 0]])
    model = LeastSquaresRegressor().fit(A, Y)
    calls = (
        lambda: model.summary(cov_type="HC1", X=A, y=Y),
        lambda: model.influence(A, Y),
        lambda: model.predict(A, return_std=True),
        lambda: model.summary().f_test(["x1"]),
    )
    for call in calls:
        with pytest.raises(ValueError, match="columns that depend on each other"):
            call()


def test_influence_is_drawn():
    pytest.importorskip("matplotlib").use("Agg")
    from fastlsgd.plotting import InfluenceDisplay

    A, b = X[:60].copy(), Y[:60].copy()
    A[7], b[7] = 9.0, -40.0
    s = np.ones(60)
    s[3] = 0.0
    model = LeastSquaresRegressor().fit(A, b, sample_weight=s)
    display = InfluenceDisplay.from_estimator(model, A, b, sample_weight=s, n_named=2)
    assert display.named_[0] == 7
    assert display.ax_.texts[0].get_text() == "7"
    assert display.ax_.get_xlabel() == "leverage"
    both = np.column_stack([b, b])
    with pytest.raises(ValueError, match="several targets: give one of them"):
        InfluenceDisplay.from_estimator(LeastSquaresRegressor().fit(A, both), A, both)
