"""`LeastSquaresRegressor.summary()` agrees with statsmodels, or says why it is not available."""

from __future__ import annotations

import importlib.util
import json
import sys
from pathlib import Path

import numpy as np
import pytest

from fastlsgd import LeastSquaresRegressor

FOLDER = Path(__file__).parents[1] / "records"


def _load_script():
    spec = importlib.util.spec_from_file_location("records", FOLDER / "make_statsmodels.py")
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


records = _load_script()


def agree(summary, expected):
    for name, value in expected.items():
        np.testing.assert_allclose(getattr(summary, name), value, rtol=1e-8, err_msg=name)


@pytest.mark.parametrize("solver", ["auto", "qr"])
@pytest.mark.parametrize("name", records.PROBLEMS)
def test_summary_is_statsmodels(name, solver):
    X, y, s, has_intercept = records.problem(name)
    model = LeastSquaresRegressor(fit_intercept=has_intercept, solver=solver)
    summary = model.fit(X, y, sample_weight=s).summary(confidence_level=0.9)
    agree(summary, json.loads(records.RECORD.read_text(encoding="utf-8"))[name])


@pytest.mark.parametrize("name", records.PROBLEMS)
def test_record_is_what_statsmodels_says(name):
    pytest.importorskip("statsmodels")
    X, y, s, has_intercept = records.problem(name)
    model = LeastSquaresRegressor(fit_intercept=has_intercept).fit(X, y, sample_weight=s)
    agree(model.summary(confidence_level=0.9), records.statistics(name))


def test_a_weight_of_zero_is_a_row_that_is_not_there():
    X, y, _, _ = records.problem("plain")
    s = np.ones(len(y))
    s[:20] = 0.0
    whole = LeastSquaresRegressor().fit(X, y, sample_weight=s).summary()
    part = LeastSquaresRegressor().fit(X[20:], y[20:]).summary()
    assert whole.n_samples == part.n_samples == 130
    np.testing.assert_allclose(whole.standard_error, part.standard_error, rtol=1e-9)
    np.testing.assert_allclose([whole.aic, whole.r_squared], [part.aic, part.r_squared])


def test_it_prints_as_text_and_html():
    pandas = pytest.importorskip("pandas")
    X, y, _, _ = records.problem("plain")
    frame = pandas.DataFrame(X, columns=["<b>", "rooms", "age", "lot"])
    summary = LeastSquaresRegressor().fit(frame, y).summary()
    assert summary.names == ["intercept", "<b>", "rooms", "age", "lot"]
    text, html = repr(summary), summary._repr_html_()
    for word in ("intercept", "rooms", "adjusted R2", "AIC", "97.5%", f"{summary.coef[2]:.6g}"):
        assert word in text
        assert word in html
    assert "&lt;b&gt;" in html
    assert "<b>" not in html


@pytest.mark.parametrize(
    ("chosen", "reason"),
    [
        ({"alpha": 0.1}, "this one has a penalty"),
        ({"alpha": [0.1, 0.01]}, "this one has a penalty"),
        ({"positive": True}, "this one has positive=True"),
        ({"bounds": (0.0, 1.0)}, r"this one has bounds=\(0.0, 1.0\)"),
        ({"constraints": ([[1.0, 1.0, 1.0, 1.0]], [1.0])}, "this one has constraints="),
        ({"solver": "sketch"}, "summary needs an accurate factor: solver 'sketch' left none"),
        ({"solver": "cg"}, "summary needs an accurate factor: solver 'cg' left none"),
        ({"solver": "nesterov"}, "summary needs an accurate factor: solver 'nesterov' left none"),
    ],
)
def test_no_summary_of_other_fits(chosen, reason):
    X, y, _, _ = records.problem("plain")
    with pytest.raises(ValueError, match=reason):
        LeastSquaresRegressor(**chosen).fit(X, y).summary()


def test_no_summary_where_it_would_be_wrong():
    X, y, _, _ = records.problem("plain")
    for level in (0.0, 1.0, "high"):
        with pytest.raises(ValueError, match="confidence_level must be"):
            LeastSquaresRegressor().fit(X, y).summary(confidence_level=level)


def test_ill_condition_asks_for_qr():
    rng = np.random.default_rng(0)
    X, y, _, _ = records.problem("plain")
    X = np.column_stack([X, X[:, 0] + 1e-5 * rng.normal(size=len(y))])
    with pytest.raises(ValueError, match="solver='qr'"):
        LeastSquaresRegressor().fit(X, y).summary()
    summary = LeastSquaresRegressor(solver="qr").fit(X, y).summary()
    design = np.column_stack([np.ones(len(y)), X])
    R = np.linalg.qr(design, mode="r")
    inverse = np.linalg.inv(R)
    expected = summary.sigma * np.sqrt((inverse**2).sum(axis=1))
    np.testing.assert_allclose(summary.standard_error, expected, rtol=1e-8)
