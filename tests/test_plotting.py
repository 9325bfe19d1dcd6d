"""Pictures: what is on the axes, and that no display or pyplot is needed."""

import subprocess
import sys

import numpy as np
import pytest
from matplotlib.figure import Figure

from fastlsgd.plotting import plot_loss_curve, plot_predictions


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
