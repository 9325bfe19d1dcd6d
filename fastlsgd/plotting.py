"""Plots of a fit, drawn by Matplotlib: pip install "fastlsgd[plot]".

Matplotlib is imported when a plot is drawn, and needs no display.

`LossCurveDisplay`, `CoefficientDisplay` and `InfluenceDisplay` follow scikit-learn's displays: they
are made from an estimator and drawn by `plot`; without `ax` that draws on a figure of pyplot, so
that notebooks show it.

The functions draw numbers. Without `ax` they create a ``matplotlib.figure.Figure`` themselves, not
one of pyplot: nothing is registered globally, and no window system is needed. Save it with
``ax.figure.savefig(path)``.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Self

import numpy as np

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.lines import Line2D
    from numpy.typing import ArrayLike

    from .linear_model._summary import Influence

__all__ = [
    "CoefficientDisplay",
    "InfluenceDisplay",
    "LossCurveDisplay",
    "plot_loss_curve",
    "plot_predictions",
]

_BLUE, _ORANGE, _GREY = "#1f6fb4", "#d9541e", "#5f6670"
_TARGETS_AS_BARS = 5  # with more, the bars of a feature are too thin to distinguish


class LossCurveDisplay:
    """The loss of each epoch, and the scores on held-out rows where there are any.

    Make it with :meth:`from_estimator`.

    Parameters
    ----------
    loss_curve : array-like of shape (n_epochs,)
        As in the estimators' ``loss_curve_``.
    validation_scores : array-like of shape (n_epochs,) or None, default=None
        As in ``validation_scores_``.
    score_name : str, default="score"
        What they are: the label of their axis.
    step_name : str, default="epoch"
        What one loss stands for: the label of the horizontal axis.
    estimator_name : str or None, default=None
        For the legend.

    Attributes
    ----------
    ax_ : matplotlib Axes
        Of the losses.
    figure_ : matplotlib Figure
    line_ : matplotlib Line2D
        The losses.
    score_ax_, score_line_ : matplotlib Axes, Line2D or None
        The scores, on an axis of their own at the right.

    Examples
    --------
    >>> import matplotlib; matplotlib.use("Agg")
    >>> from fastlsgd import SGDRegressor
    >>> from fastlsgd.plotting import LossCurveDisplay
    >>> model = SGDRegressor(random_state=0).fit([[0.0], [1.0], [2.0]], [1.0, 3.0, 5.0])
    >>> LossCurveDisplay.from_estimator(model).ax_.get_xlabel()
    'epoch'
    """

    def __init__(
        self,
        *,
        loss_curve: ArrayLike,
        validation_scores: ArrayLike | None = None,
        score_name: str = "score",
        step_name: str = "epoch",
        estimator_name: str | None = None,
    ) -> None:
        self.loss_curve = loss_curve
        self.validation_scores = validation_scores
        self.score_name = score_name
        self.step_name = step_name
        self.estimator_name = estimator_name

    @classmethod
    def from_estimator(
        cls, estimator, *, name: str | None = None, ax: Axes | None = None, **line_kw
    ) -> Self:
        """Draw the losses of a fitted estimator.

        Parameters
        ----------
        estimator : fitted estimator with ``loss_curve_``, or Pipeline or search that ends with one
        name : str or None, default=None
            For the legend. Default: the name of its class.
        ax : matplotlib Axes, optional
            Where to draw. Default: the axes of a new figure.
        **line_kw : dict
            For the line of the losses, as in ``Axes.plot``.

        Returns
        -------
        display : LossCurveDisplay

        Raises
        ------
        NotFittedError
            If the estimator has no ``loss_curve_``.
        ImportError
            Without Matplotlib.
        """
        from sklearn.base import is_classifier
        from sklearn.utils.validation import check_is_fitted

        estimator = _last_step(estimator)
        check_is_fitted(estimator, "loss_curve_")
        display = cls(
            loss_curve=estimator.loss_curve_,
            validation_scores=getattr(estimator, "validation_scores_", None),
            score_name="accuracy" if is_classifier(estimator) else "R$^2$",
            # Stochastic estimators have epochs and count their updates; the others have iterations.
            step_name="epoch" if hasattr(estimator, "t_") else "iteration",
            estimator_name=type(estimator).__name__ if name is None else name,
        )
        return display.plot(ax=ax, **line_kw)

    def plot(self, ax: Axes | None = None, *, name: str | None = None, **line_kw) -> Self:
        """Draw it.

        Parameters
        ----------
        ax : matplotlib Axes, optional
            Where to draw, beside what is there. Default: the axes of a new figure.
        name : str or None, default=None
            For the legend. Default: `estimator_name`.
        **line_kw : dict
            For the line of the losses, as in ``Axes.plot``.

        Returns
        -------
        self : LossCurveDisplay
        """
        ax = _axes(ax, (6.4, 4.0), pyplot=True)
        # The next colour of the axes, so that a second display on them differs from the first.
        line_kw = {"label": name or self.estimator_name, **line_kw}
        self.line_ = _draw_losses(ax, self.loss_curve, self.step_name, **line_kw)
        self.score_ax_: Axes | None = None
        self.score_line_: Line2D | None = None
        if self.validation_scores is not None and np.size(self.validation_scores):
            self._plot_scores(ax)
        if len(ax.lines) > 1:
            for text in ax.texts:
                text.set_visible(False)
            ax.legend(frameon=False)
        self.ax_, self.figure_ = ax, ax.figure
        return self

    def _plot_scores(self, ax) -> None:
        scores = _finite_vector(self.validation_scores, "validation_scores")
        self.score_ax_ = score_ax = ax.twinx()
        (self.score_line_,) = score_ax.plot(
            np.arange(1, len(scores) + 1),
            scores,
            color=_ORANGE,
            linestyle="--",
            marker=_marker(scores),
            markersize=4.5,
        )
        score_ax.set_ylabel(f"{self.score_name} on held-out rows", color=_ORANGE)
        score_ax.spines["top"].set_visible(False)


class CoefficientDisplay:
    """The largest weights, as bars; with many targets or classes, as a map of colours.

    Make it with :meth:`from_estimator`.

    Parameters
    ----------
    coef : array-like of shape (n_features,) or (n_targets, n_features)
    feature_names : array-like of shape (n_features,) or None, default=None
        Default: "x0", "x1", ...
    target_names : array-like of shape (n_targets,) or None, default=None
        Default: "target 0", ...
    estimator_name : str or None, default=None
        For the title.

    Attributes
    ----------
    ax_ : matplotlib Axes
    figure_ : matplotlib Figure
    bars_ : list of matplotlib BarContainer or None
        One a target.
    image_ : matplotlib AxesImage or None
        The map of colours, for more than 5 targets.
    features_ : ndarray of int
        Numbers of the features drawn, from the top.

    Examples
    --------
    >>> import matplotlib; matplotlib.use("Agg")
    >>> from fastlsgd.plotting import CoefficientDisplay
    >>> display = CoefficientDisplay(coef=[1.0, -3.0, 0.5], feature_names=["a", "b", "c"])
    >>> display.plot(max_features=2).features_.tolist()
    [1, 0]
    """

    def __init__(
        self, *, coef: ArrayLike, feature_names=None, target_names=None, estimator_name=None
    ) -> None:
        self.coef = coef
        self.feature_names = feature_names
        self.target_names = target_names
        self.estimator_name = estimator_name

    @classmethod
    def from_estimator(
        cls, estimator, *, feature_names=None, max_features: int = 20, ax=None, **bar_kw
    ) -> Self:
        """Draw the weights of a fitted linear model.

        Parameters
        ----------
        estimator : fitted estimator with ``coef_``, or Pipeline or search that ends with one
            A Pipeline's weights are named by what its other steps make of the features.
        feature_names : array-like of shape (n_features,), optional
            Default: ``feature_names_in_``, else "x0", "x1", ...
        max_features : int >= 1, default=20
            Most features to draw, those with the largest weights.
        ax : matplotlib Axes, optional
            Where to draw. Default: the axes of a new figure.
        **bar_kw : dict
            For the bars, as in ``Axes.barh``.

        Returns
        -------
        display : CoefficientDisplay

        Raises
        ------
        NotFittedError
            If the estimator has no ``coef_``.
        ImportError
            Without Matplotlib.
        """
        from sklearn.utils.validation import check_is_fitted

        if feature_names is None:
            feature_names = _names_of_features(estimator)
        estimator = _last_step(estimator)
        check_is_fitted(estimator, "coef_")
        classes = getattr(estimator, "classes_", None)
        if classes is not None and len(classes) == 2:
            classes = classes[1:]  # the class that positive decisions stand for
        display = cls(
            coef=estimator.coef_,
            feature_names=feature_names,
            target_names=classes,
            estimator_name=type(estimator).__name__,
        )
        return display.plot(ax=ax, max_features=max_features, **bar_kw)

    def plot(self, ax: Axes | None = None, *, max_features: int = 20, **bar_kw) -> Self:
        """Draw it.

        Parameters
        ----------
        ax : matplotlib Axes, optional
            Where to draw. Default: the axes of a new figure.
        max_features : int >= 1, default=20
            Most features to draw, those with the largest weights.
        **bar_kw : dict
            For the bars, as in ``Axes.barh``.

        Returns
        -------
        self : CoefficientDisplay

        Raises
        ------
        ValueError
            If there is no weight, one is not finite, or the numbers of names and weights differ.
        ImportError
            Without Matplotlib.
        """
        from ._validation import check_whole

        coef, features, targets = self._named()
        largest = np.abs(coef).max(axis=0)
        shown = np.argsort(-largest, kind="stable")[: check_whole(max_features, "max_features", 1)]
        row = 0.27 if len(coef) == 1 or len(coef) > _TARGETS_AS_BARS else 0.12 + 0.15 * len(coef)
        ax = _axes(ax, (6.4, 1.4 + row * len(shown)), pyplot=True)
        self.bars_ = self.image_ = None
        if len(coef) <= _TARGETS_AS_BARS:
            self.bars_ = _draw_bars(ax, coef[:, shown], targets, **bar_kw)
        else:
            self.image_ = _draw_map(ax, coef[:, shown], targets)
        ax.set_yticks(np.arange(len(shown)), [features[j] for j in shown])
        ax.set_ylim(len(shown) - 0.5, -0.5)  # the largest is on top
        what = f"Weights of {self.estimator_name}" if self.estimator_name else "Weights"
        if len(shown) < len(features):
            what += f"\n{len(shown)} largest of {len(features)} features"
        # Long names of features make the axes narrow, with space to their left.
        ax.set_title(what, loc="right" if max(map(len, features)) > 15 else "center")
        self.ax_, self.figure_, self.features_ = ax, ax.figure, shown
        return self

    def _named(self) -> tuple[np.ndarray, list[str], list[str]]:
        """coef as (n_targets, n_features), and names for both axes."""
        coef = self.coef.toarray() if hasattr(self.coef, "toarray") else self.coef
        coef = np.atleast_2d(np.asarray(coef, dtype=np.float64))
        if coef.ndim != 2 or coef.size == 0:
            raise ValueError(f"coef must have one or two dimensions, got shape {coef.shape}.")
        if not np.isfinite(coef).all():
            raise ValueError("coef contains NaN or infinity.")
        return (
            coef,
            _names(self.feature_names, coef.shape[1], "feature_names", "x"),
            _names(self.target_names, coef.shape[0], "target_names", "target "),
        )


class InfluenceDisplay:
    """Studentised residuals over leverages; the area of a circle is the row's Cook's distance.

    Make it with :meth:`from_estimator`.

    Parameters
    ----------
    influence : Influence
        What :meth:`fastlsgd.LeastSquaresRegressor.influence` returns.
    estimator_name : str or None, default=None
        For the title.

    Attributes
    ----------
    ax_ : matplotlib Axes
    figure_ : matplotlib Figure
    points_ : matplotlib PathCollection
    named_ : ndarray of int
        The rows that are named, those of the largest Cook's distances.

    Examples
    --------
    >>> import matplotlib; matplotlib.use("Agg")
    >>> from fastlsgd import LeastSquaresRegressor
    >>> from fastlsgd.plotting import InfluenceDisplay
    >>> X, y = [[0.0], [1.0], [2.0], [9.0]], [0.0, 1.1, 1.9, 5.0]
    >>> model = LeastSquaresRegressor().fit(X, y)
    >>> InfluenceDisplay.from_estimator(model, X, y, n_named=1).named_.tolist()
    [3]
    """

    def __init__(self, *, influence: Influence, estimator_name: str | None = None) -> None:
        if isinstance(influence, list):
            raise ValueError("influence is that of several targets: give one of them.")
        self.influence = influence
        self.estimator_name = estimator_name

    @classmethod
    def from_estimator(
        cls, estimator, X, y, *, sample_weight=None, n_named: int = 5, ax=None, **scatter_kw
    ) -> Self:
        """Draw the influence of the rows of a fit.

        Parameters
        ----------
        estimator : fitted LeastSquaresRegressor
        X, y, sample_weight
            The rows of the fit.
        n_named : int >= 0, default=5
            Rows to name by their numbers, those of the largest Cook's distances.
        ax : matplotlib Axes, optional
            Where to draw. Default: the axes of a new figure.
        **scatter_kw : dict
            For the circles, as in ``Axes.scatter``.

        Returns
        -------
        display : InfluenceDisplay

        Raises
        ------
        ValueError
            Where `influence` does.
        ImportError
            Without Matplotlib.
        """
        display = cls(
            influence=estimator.influence(X, y, sample_weight),
            estimator_name=type(estimator).__name__,
        )
        return display.plot(ax=ax, n_named=n_named, **scatter_kw)

    def plot(self, ax: Axes | None = None, *, n_named: int = 5, **scatter_kw) -> Self:
        """Draw it.

        Parameters
        ----------
        ax : matplotlib Axes, optional
            Where to draw. Default: the axes of a new figure.
        n_named : int >= 0, default=5
            Rows to name by their numbers.
        **scatter_kw : dict
            For the circles, as in ``Axes.scatter``.

        Returns
        -------
        self : InfluenceDisplay

        Raises
        ------
        ImportError
            Without Matplotlib.
        """
        from ._validation import check_whole

        leverage, residual = self.influence.leverage, self.influence.external_residual
        cooks = np.where(np.isfinite(self.influence.cooks_distance),
                         self.influence.cooks_distance, 0.0)  # fmt: skip
        ax = _axes(ax, (6.4, 4.2), pyplot=True)
        area = 12.0 + 300.0 * cooks / (cooks.max(initial=0.0) or 1.0)
        look: dict = {"s": area, "color": _BLUE, "alpha": 0.5, "linewidths": 0.0}
        self.points_ = ax.scatter(leverage, residual, **(look | scatter_kw))
        ax.axhline(0.0, color=_GREY, linewidth=0.8)
        self.named_ = np.argsort(-cooks, kind="stable")[: check_whole(n_named, "n_named", 0)]
        for row in self.named_:
            place = leverage[row], residual[row]
            if np.isfinite(place).all():
                ax.annotate(str(row), place, xytext=(4, 4), textcoords="offset points")
        what = f"Influence in {self.estimator_name}" if self.estimator_name else "Influence"
        ax.set(xlabel="leverage", ylabel="studentised residual without the row", title=what)
        _tidy(ax)
        self.ax_, self.figure_ = ax, ax.figure
        return self


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
    ImportError
        Without Matplotlib.

    Examples
    --------
    >>> from fastlsgd.plotting import plot_loss_curve
    >>> ax = plot_loss_curve([1.0, 0.1, 0.05])
    >>> ax.get_yscale()
    'log'
    """
    ax = _axes(ax, (6.4, 4.0))
    _draw_losses(ax, loss_curve, "epoch", color=_BLUE)
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
    ImportError
        Without Matplotlib.

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
    # Many points hide each other, so that points are fainter and smaller the more there are.
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


def _draw_losses(ax: Axes, loss_curve, step_name: str, **line_kw):
    from matplotlib.ticker import MaxNLocator

    losses = _finite_vector(loss_curve, "loss_curve")
    steps = np.arange(1, len(losses) + 1)
    look: dict = {"marker": _marker(losses), "markersize": 4.5, "linewidth": 1.8}
    (line,) = ax.plot(steps, losses, **(look | line_kw))
    everything = np.concatenate([np.asarray(other.get_ydata(), float) for other in ax.lines])
    if _spans_decade(everything):
        ax.set_yscale("log")
        ax.yaxis.set_major_formatter("{x:g}")
    ax.xaxis.set_major_locator(MaxNLocator("auto", integer=True, min_n_ticks=1))
    if len(ax.lines) == 1:  # the final losses of several curves would hide each other
        ax.annotate(
            f"{losses[-1]:.4g}",
            (steps[-1], losses[-1]),
            xytext=(0, 7),
            textcoords="offset points",
            ha="right" if len(losses) > 1 else "center",
            color=line.get_color(),
        )
    ax.margins(y=0.12)
    ax.set(
        xlabel=step_name,
        ylabel="mean loss,  residual$^2$ / 2",
        title=f"Loss in each {step_name}",
    )
    _tidy(ax)
    return line


def _draw_bars(ax: Axes, coef: np.ndarray, targets: list[str], **bar_kw) -> list:
    """Draw a row of bars per feature, with one bar per target."""
    height = 0.8 / len(coef)
    rows = np.arange(coef.shape[1])
    bars = []
    for t, (weights, target) in enumerate(zip(coef, targets, strict=True)):
        # Colours show signs unless they distinguish targets.
        signs = {"color": [_BLUE if w >= 0 else _ORANGE for w in weights]} if len(coef) == 1 else {}
        place = rows + (t - 0.5 * (len(coef) - 1)) * height
        bars.append(ax.barh(place, weights, height, **({"label": target} | signs | bar_kw)))
    ax.axvline(0.0, color=_GREY, linewidth=0.8)
    if len(coef) > 1:
        ax.legend(frameon=False, loc="best")
    ax.set_xlabel("weight")
    _tidy(ax)
    ax.grid(False, axis="y")
    return bars


def _draw_map(ax: Axes, coef: np.ndarray, targets: list[str]):
    """Draw features downwards and targets to the right; weights of zero are white."""
    limit = float(np.abs(coef).max()) or 1.0
    image = ax.imshow(coef.T, aspect="auto", cmap="RdBu", vmin=-limit, vmax=limit)
    # There is space for about 20 names; of more, every second, third, ... is shown.
    every = -(-len(targets) // 20)
    place = np.arange(0, len(targets), every)
    long = max(len(targets[t]) for t in place) > 3
    ax.set_xticks(place, [targets[t] for t in place], rotation=90 if long else 0)
    ax.figure.colorbar(image, ax=ax, label="weight")
    return image


def _last_step(estimator):
    """The model within a Pipeline or a search over parameters, which has the weights."""
    while True:
        if hasattr(estimator, "steps"):
            estimator = estimator.steps[-1][1]
        elif hasattr(estimator, "best_estimator_") and not hasattr(estimator, "coef_"):
            estimator = estimator.best_estimator_
        else:
            return estimator


def _names_of_features(estimator):
    """The names of the columns on which the model was fitted, or None if they have none."""
    names = getattr(_last_step(estimator), "feature_names_in_", None)
    if names is not None:
        return names
    while hasattr(estimator, "best_estimator_") and not hasattr(estimator, "coef_"):
        estimator = estimator.best_estimator_
    if not hasattr(estimator, "steps") or not hasattr(estimator, "feature_names_in_"):
        return None
    try:
        return estimator[:-1].get_feature_names_out()
    except (AttributeError, ValueError):  # a step does not name its columns
        return None


def _names(names, n: int, argument: str, prefix: str) -> list[str]:
    if names is None:
        return [f"{prefix}{i}" for i in range(n)]
    if len(names) != n:
        raise ValueError(f"{argument} has {len(names)} names for {n} weights.")
    # A dollar would begin a formula.
    return [str(name).replace("$", r"\$") for name in names]


def _marker(values) -> str:
    """The marker, or none beyond about 50 points, where markers would merge into a band."""
    return "o" if len(values) <= 50 else ""


def _axes(ax: Axes | None, size: tuple[float, float], *, pyplot: bool = False) -> Axes:
    if ax is not None:
        return ax
    try:
        if pyplot:
            import matplotlib.pyplot as plt

            return plt.subplots(figsize=size, layout="constrained")[1]
        from matplotlib.figure import Figure
    except ImportError as error:
        raise ImportError(
            'fastlsgd.plotting needs Matplotlib: pip install "fastlsgd[plot]"'
        ) from error
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
            # There is space to label 1, 2 and 5 of each decade; the other ticks have no labels.
            axis.set_major_locator(LogLocator(subs=(1.0, 2.0, 5.0)))
            axis.set_minor_formatter(NullFormatter())
        axis.set_major_formatter(FuncFormatter(_dollars))


def _dollars(value: float, position: int | None = None) -> str:
    # The backslash keeps Matplotlib from taking two of these as the ends of a formula.
    sign, size = "-" if value < 0 else "", abs(value)
    for unit, suffix in ((1e9, "bn"), (1e6, "m"), (1e3, "k")):
        if size >= unit:
            return rf"{sign}\${size / unit:,.6g}{suffix}"
    return rf"{sign}\${size:.6g}"


def _tidy(ax: Axes) -> None:
    ax.spines[["top", "right"]].set_visible(False)
    ax.grid(True, which="major", color=_GREY, alpha=0.18, linewidth=0.7)
    ax.set_axisbelow(True)
