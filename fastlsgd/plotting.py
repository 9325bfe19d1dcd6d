"""Pictures of a fit. Matplotlib loads when one is drawn, and needs no display.

Without `ax` a picture gets a ``matplotlib.figure.Figure`` of its own, not one of pyplot's: nothing
is registered globally, and no window system is asked for. Save it with ``ax.figure.savefig(path)``.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from matplotlib.axes import Axes

__all__ = ["plot_loss_curve", "plot_predictions"]

_BLUE, _ORANGE, _GREY = "#1f6fb4", "#d9541e", "#5f6670"


def plot_loss_curve(loss_curve, *, ax: Axes | None = None) -> Axes:
    """Draw the loss of each epoch.

    The axis of the loss is logarithmic where the losses span more than a factor of 10, and linear
    where they don't or where one of them is 0.

    Parameters
    ----------
    loss_curve : array-like of shape (n_epochs,)
        Mean of r^2/2 in each epoch, as in the estimators' ``loss_curve_``.
    ax : matplotlib Axes, optional
        Where to draw. Default: the axes of a new figure.

    Returns
    -------
    ax : matplotlib Axes

    Raises
    ------
    ValueError
        If there is no loss, or one is not finite.

    Examples
    --------
    >>> from fastlsgd.plotting import plot_loss_curve
    >>> ax = plot_loss_curve([1.0, 0.1, 0.05])
    >>> ax.get_yscale()
    'log'
    """
    from matplotlib.ticker import MaxNLocator

    losses = _finite_vector(loss_curve, "loss_curve")
    ax = _axes(ax, (6.4, 4.0))
    epochs = np.arange(1, len(losses) + 1)
    # Beyond some 50 epochs the markers merge into a thick band.
    marker = "o" if len(losses) <= 50 else ""
    ax.plot(epochs, losses, color=_BLUE, marker=marker, markersize=4.5, linewidth=1.8)
    if _spans_decade(losses):
        ax.set_yscale("log")
        ax.yaxis.set_major_formatter("{x:g}")
    ax.xaxis.set_major_locator(MaxNLocator("auto", integer=True, min_n_ticks=1))
    ax.annotate(
        f"{losses[-1]:.4g}",
        (epochs[-1], losses[-1]),
        xytext=(0, 7),
        textcoords="offset points",
        ha="right" if len(losses) > 1 else "center",
        color=_BLUE,
    )
    ax.margins(y=0.12)
    ax.set(xlabel="epoch", ylabel="mean loss,  residual$^2$ / 2", title="Loss in each epoch")
    _tidy(ax)
    return ax


def plot_predictions(y_true, y_pred, *, unit: str = "", ax: Axes | None = None) -> Axes:
    """Draw predictions against true values, with the diagonal on which a perfect model lies.

    Both axes have the same limits, and are logarithmic where all numbers are positive and span
    more than a factor of 10.

    Parameters
    ----------
    y_true, y_pred : array-like of shape (n_samples,)
    unit : str, default=""
        Of both: "$" gives axes such as $20k; any other unit is named in the labels.
    ax : matplotlib Axes, optional
        Where to draw. Default: the axes of a new figure.

    Returns
    -------
    ax : matplotlib Axes

    Raises
    ------
    ValueError
        If the lengths differ, are 0, or a value is not finite.

    Examples
    --------
    >>> from fastlsgd.plotting import plot_predictions
    >>> ax = plot_predictions([50_000, 900_000], [60_000, 700_000], unit="$")
    >>> ax.get_xlabel(), ax.get_xscale()
    ('actual', 'log')
    """
    y_true, y_pred = _finite_vector(y_true, "y_true"), _finite_vector(y_pred, "y_pred")
    if len(y_true) != len(y_pred):
        raise ValueError(f"y_true has {len(y_true)} values but y_pred has {len(y_pred)}.")
    ax = _axes(ax, (5.6, 5.6))
    both = np.concatenate([y_true, y_pred])
    # Many points hide each other: the more there are, the fainter and smaller each is.
    opacity = float(np.clip(15 / np.sqrt(len(y_true)), 0.05, 0.8))
    size = float(np.clip(1000 / np.sqrt(len(y_true)), 4, 40))
    ax.scatter(y_true, y_pred, s=size, color=_BLUE, alpha=opacity, linewidths=0, rasterized=True)
    if _spans_decade(both):
        ax.set_xscale("log")
        ax.set_yscale("log")
        low, high = both.min() / 1.15, both.max() * 1.15
    else:
        margin = 0.04 * float(np.ptp(both)) or 1.0
        low, high = both.min() - margin, both.max() + margin
    ax.set(xlim=(low, high), ylim=(low, high), aspect="equal")
    ax.plot([low, high], [low, high], color=_ORANGE, linewidth=1.4, label="predicted = actual")
    ax.legend(loc="upper left", frameon=False)
    if unit == "$":
        _dollar_axes(ax)
    named = f" ({unit})" if unit not in ("", "$") else ""
    ax.set(
        xlabel="actual" + named,
        ylabel="predicted" + named,
        title="Predicted against actual",
    )
    _tidy(ax)
    return ax


def _axes(ax: Axes | None, size: tuple[float, float]) -> Axes:
    if ax is not None:
        return ax
    from matplotlib.figure import Figure

    return Figure(figsize=size, dpi=150, layout="constrained").subplots()


def _finite_vector(values, name: str) -> np.ndarray:
    vector = np.asarray(values, dtype=np.float64)
    if vector.ndim != 1 or len(vector) == 0:
        raise ValueError(f"{name} must have shape (n,) with n >= 1, got shape {vector.shape}.")
    if not np.isfinite(vector).all():
        raise ValueError(f"{name} contains NaN or infinity.")
    return vector


def _spans_decade(values: np.ndarray) -> bool:
    return bool(values.min() > 0 and values.max() > 10 * values.min())


def _dollar_axes(ax: Axes) -> None:
    from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter

    for axis in (ax.xaxis, ax.yaxis):
        if axis.get_scale() == "log":
            # 1, 2, 5 of each decade have room for their names; the others stay plain ticks.
            axis.set_major_locator(LogLocator(subs=(1.0, 2.0, 5.0)))
            axis.set_minor_formatter(NullFormatter())
        axis.set_major_formatter(FuncFormatter(_dollars))


def _dollars(value: float, position: int | None = None) -> str:
    # The backslash keeps Matplotlib from reading two of these as the ends of a formula.
    sign, size = "-" if value < 0 else "", abs(value)
    for unit, suffix in ((1e9, "bn"), (1e6, "m"), (1e3, "k")):
        if size >= unit:
            return rf"{sign}\${size / unit:,.6g}{suffix}"
    return rf"{sign}\${size:.6g}"


def _tidy(ax: Axes) -> None:
    ax.spines[["top", "right"]].set_visible(False)
    ax.grid(True, which="major", color=_GREY, alpha=0.18, linewidth=0.7)
    ax.set_axisbelow(True)
