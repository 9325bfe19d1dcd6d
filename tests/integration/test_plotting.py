"""Plots: what is on the axes; neither a display nor pyplot is needed."""

import subprocess
import sys

import numpy as np
import pytest
from matplotlib.figure import Figure
from sklearn.datasets import load_iris, make_classification, make_regression
from sklearn.exceptions import NotFittedError

from fastlsgd import LeastSquaresClassifier, LeastSquaresRegressor, SGDClassifier, SGDRegressor
from fastlsgd.plotting import (
    CoefficientDisplay,
    LossCurveDisplay,
    plot_loss_curve,
    plot_predictions,
)


@pytest.mark.parametrize(
    ("losses", "scale"),
    [([10.0, 1.0, 0.1], "log"), ([1.0, 0.9], "linear"), ([1.0, 0.0], "linear"), ([2.0], "linear")],
)
def test_loss_curve_is_logarithmic_where_that_helps(losses, scale, tmp_path):
    ax = plot_loss_curve(losses)
    assert ax.get_yscale() == scale
    (line,) = ax.lines
    np.testing.assert_array_equal(line.get_xydata(), np.c_[np.arange(1, len(losses) + 1), losses])
    assert ax.get_xlabel()
    assert ax.get_ylabel()
    assert ax.get_title()
    ax.figure.savefig(tmp_path / "loss.png")


@pytest.mark.parametrize(
    ("y_true", "y_pred", "scale"),
    [([2e3, 9e5], [3e3, 7e5], "log"), ([1, 2], [1, 3], "linear"), ([-1, 200], [5, 100], "linear")],
)
def test_predictions_have_equal_axes_and_a_diagonal(y_true, y_pred, scale, tmp_path):
    ax = plot_predictions(y_true, y_pred)
    assert ax.get_xscale() == ax.get_yscale() == scale
    assert ax.get_xlim() == ax.get_ylim()
    (diagonal,) = ax.lines
    np.testing.assert_array_equal(diagonal.get_xdata(), diagonal.get_ydata())
    (points,) = ax.collections
    np.testing.assert_array_equal(points.get_offsets(), np.c_[y_true, y_pred])
    ax.figure.savefig(tmp_path / "predictions.png")


def test_units():
    ax = plot_predictions([2e3, 1.5e6], [3e3, 7e5], unit="$")
    format_tick = ax.yaxis.get_major_formatter()
    assert [format_tick(v) for v in (500, 20_000, 1_500_000, -5000)] == [
        r"\$500",
        r"\$20k",
        r"\$1.5m",
        r"-\$5k",
    ]
    assert plot_predictions([1, 2], [1, 3], unit="m").get_ylabel() == "predicted (m)"


def test_axes_are_accepted_and_returned():
    left, right = Figure().subplots(1, 2)
    assert plot_loss_curve([1.0, 0.5], ax=left) is left
    assert plot_predictions([1, 2], [1, 2], ax=right) is right


@pytest.mark.parametrize("bad", [[], [[1.0]], [np.nan], [np.inf]])
def test_bad_numbers(bad):
    with pytest.raises(ValueError, match="loss_curve"):
        plot_loss_curve(bad)
    with pytest.raises(ValueError, match="y_pred"):
        plot_predictions([1.0], bad)


def test_different_lengths():
    with pytest.raises(ValueError, match="y_true has 2 values but y_pred has 1"):
        plot_predictions([1, 2], [1])


def test_no_pyplot_and_no_matplotlib_before_the_first_picture():
    code = (
        "import sys; import fastlsgd.plotting as plotting\n"
        "assert 'matplotlib' not in sys.modules\n"
        "plotting.plot_loss_curve([1.0, 0.5])\n"
        "assert 'matplotlib.pyplot' not in sys.modules"
    )
    finished = subprocess.run([sys.executable, "-P", "-c", code], capture_output=True, text=True)
    assert finished.returncode == 0, finished.stderr


@pytest.mark.parametrize(
    "draw",
    [
        lambda: plot_loss_curve([1.0, 0.5]),
        lambda: plot_predictions([1.0, 2.0], [1.0, 2.0]),
        lambda: LossCurveDisplay(loss_curve=[1.0, 0.5]).plot(),
        lambda: CoefficientDisplay(coef=[1.0, 0.5]).plot(),
    ],
)
def test_without_matplotlib(draw, monkeypatch):
    for name in ("matplotlib", "matplotlib.figure", "matplotlib.pyplot"):
        monkeypatch.setitem(sys.modules, name, None)
    with pytest.raises(ImportError, match=r'pip install "fastlsgd\[plot\]"'):
        draw()


# ------------------------------------------------------------------ scikit-learn's displays


@pytest.fixture
def pyplot():
    import matplotlib.pyplot as plt

    before = plt.get_backend()
    plt.switch_backend("Agg")
    yield plt
    plt.close("all")
    plt.switch_backend(before)


def test_loss_curve_display(pyplot, tmp_path):
    X, y = make_regression(100, 5, noise=1.0, random_state=0)
    model = SGDRegressor(random_state=0, early_stopping=True, validation_fraction=0.2).fit(X, y)
    display = LossCurveDisplay.from_estimator(model, linewidth=3)
    np.testing.assert_array_equal(display.line_.get_ydata(), model.loss_curve_)
    np.testing.assert_array_equal(display.score_line_.get_ydata(), model.validation_scores_)
    assert display.line_.get_linewidth() == 3
    assert display.ax_.get_xlabel() == "epoch"
    assert "R$^2$" in display.score_ax_.get_ylabel()
    assert display.figure_ is display.ax_.figure
    # Draws a second curve on the same axes.
    other = LossCurveDisplay.from_estimator(LeastSquaresRegressor().fit(X, y), ax=display.ax_)
    assert other.ax_ is display.ax_
    assert other.score_line_ is None
    assert other.line_.get_color() != display.line_.get_color()
    names = [text.get_text() for text in other.ax_.get_legend().get_texts()]
    assert names == ["SGDRegressor", "LeastSquaresRegressor"]
    assert display.plot().ax_ is not other.ax_
    display.figure_.savefig(tmp_path / "loss.png")
    with pytest.raises(NotFittedError):
        LossCurveDisplay.from_estimator(SGDRegressor())


def test_loss_curve_display_names_what_it_shows(pyplot):
    X, y = load_iris(return_X_y=True)
    model = SGDClassifier(random_state=0, early_stopping=True).fit(X, y)
    assert "accuracy" in LossCurveDisplay.from_estimator(model).score_ax_.get_ylabel()
    full = LeastSquaresClassifier().fit(X, y)
    assert LossCurveDisplay.from_estimator(full).ax_.get_xlabel() == "iteration"


@pytest.mark.parametrize("n_features", [1, 3, 300])
def test_coefficients_of_one_target(pyplot, n_features, tmp_path):
    X, y = make_regression(50, n_features, random_state=0)
    model = LeastSquaresRegressor(alpha=0.1).fit(X, y)
    display = CoefficientDisplay.from_estimator(model, max_features=10)
    assert len(display.features_) == min(n_features, 10)
    (bars,) = display.bars_
    np.testing.assert_array_equal([bar.get_width() for bar in bars], model.coef_[display.features_])
    sizes = np.abs(model.coef_[display.features_])
    assert (np.diff(sizes) <= 0).all()
    labels = [label.get_text() for label in display.ax_.get_yticklabels()]
    assert labels == [f"x{j}" for j in display.features_]
    assert ("10 largest of 300" in _title(display.ax_)) == (n_features == 300)
    display.figure_.savefig(tmp_path / "weights.png")


def _title(ax):
    return ax.get_title() + ax.get_title(loc="right")


def test_names_come_from_the_frame(pyplot):
    pandas = pytest.importorskip("pandas")
    X, y = make_regression(50, 3, random_state=0)
    frame = pandas.DataFrame(X, columns=["area", "price in $", "year"])
    display = CoefficientDisplay.from_estimator(SGDRegressor().fit(frame, y))
    labels = {label.get_text() for label in display.ax_.get_yticklabels()}
    assert labels == {"area", r"price in \$", "year"}
    display = CoefficientDisplay.from_estimator(SGDRegressor().fit(X, y), feature_names="abc")
    assert {label.get_text() for label in display.ax_.get_yticklabels()} == set("abc")


@pytest.mark.parametrize("n_classes", [2, 4, 8, 30])
def test_coefficients_of_classes(pyplot, n_classes, tmp_path):
    X, y = make_classification(
        600, 12, n_informative=10, n_classes=n_classes, n_clusters_per_class=1, random_state=0
    )
    model = LeastSquaresClassifier().fit(X, y)
    display = CoefficientDisplay.from_estimator(model)
    if n_classes <= 5:
        assert len(display.bars_) == len(model.coef_)
        assert display.image_ is None
    else:
        np.testing.assert_array_equal(
            display.image_.get_array(), model.coef_[:, display.features_].T
        )
    display.figure_.savefig(tmp_path / "weights.png")


def test_coefficients_on_given_axes(pyplot):
    ax = Figure().subplots()
    display = CoefficientDisplay(coef=[[1.0, 2.0], [3.0, 0.0]], target_names=["a", "b"])
    assert display.plot(ax=ax).ax_ is ax
    assert [text.get_text() for text in ax.get_legend().get_texts()] == ["a", "b"]


@pytest.mark.parametrize(
    ("chosen", "message"),
    [
        ({"coef": []}, "coef must have"),
        ({"coef": [np.nan]}, "coef contains NaN"),
        ({"coef": [1.0], "feature_names": ["a", "b"]}, "feature_names has 2 names for 1"),
        ({"coef": [1.0], "target_names": ["a", "b"]}, "target_names has 2 names for 1"),
    ],
)
def test_bad_coefficients(pyplot, chosen, message):
    with pytest.raises(ValueError, match=message):
        CoefficientDisplay(**chosen).plot()
    with pytest.raises(ValueError, match="max_features must be a whole number"):
        CoefficientDisplay(coef=[1.0]).plot(max_features=0)
    with pytest.raises(NotFittedError):
        CoefficientDisplay.from_estimator(SGDRegressor())
