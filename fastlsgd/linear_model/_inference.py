"""The uncertainty of a fit without penalty: tables, intervals, influential rows."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from functools import partial
from typing import Any, Literal, NamedTuple, overload

import numpy as np
from scipy import stats
from sklearn.utils.validation import check_is_fitted

from .. import _validation as check
from ..solvers.covariance import (
    FittedRows,
    ResidualsOfFit,
    classical_covariance,
    robust_covariances,
    whitened_chunks,
    whitening,
)
from ..solvers.inference import Covariance, Evidence, Inference, infer
from ..solvers.meats import HETEROSCEDASTIC, LEVERAGE_ONE, RobustOptions
from ..solvers.rows import counted_rows
from ..streaming.stream import Stream
from ._base import as_published
from ._from_moments import FromMoments
from ._from_streams import check_stream
from ._rows_of_fit import host_matrix, rows_of_arrays, rows_of_stream
from ._summary import Influence, Summary

COVARIANCES = ("nonrobust", *HETEROSCEDASTIC, "cluster", "HAC")
WEIGHTS = ("analytic", "frequency")
# The keywords of each kind, as in statsmodels.
KEYWORDS = {
    "nonrobust": (),
    **dict.fromkeys(HETEROSCEDASTIC, ("use_t",)),
    "cluster": ("groups", "use_correction", "df_correction", "use_t"),
    "HAC": ("maxlags", "kernel", "use_correction", "use_t"),
}


class InferringRegressor(FromMoments):
    """`summary` and what else needs the covariance of the weights."""

    _evidence: list[Evidence] | None  # for each target

    def summary(
        self,
        *,
        confidence_level: float = 0.95,
        cov_type: str = "nonrobust",
        cov_kwds: dict[str, Any] | None = None,
        weights: str = "analytic",
        X=None,
        y=None,
        sample_weight=None,
        stream: Stream | None = None,
    ) -> Any:  # callers know how many targets they have
        """Standard errors, tests, confidence intervals, R2, AIC and BIC of the fit.

        Parameters
        ----------
        confidence_level : float in (0, 1), default=0.95
            Of the intervals.
        cov_type : {"nonrobust", "HC0", "HC1", "HC2", "HC3", "cluster", "HAC"}
            The covariance of the weights, as statsmodels names it: of the classical model, robust
            against errors of different variance, correlated within clusters, or along the rows.
            Default: "nonrobust".
        cov_kwds : dict, optional
            "groups" for clusters: labels of any type for each row, or two columns of them for
            clusters in two ways; with `stream` also a stream whose targets are the labels.
            "maxlags" (needed) and "kernel" ("bartlett" or "uniform") for HAC.
            "use_correction" for small samples (default: True for clusters, False for HAC),
            "df_correction" (default True: tests have the clusters' degrees of freedom) and "use_t"
            (default False: robust tests are normal, as statsmodels' are).
        weights : {"analytic", "frequency"}, default="analytic"
            What the sample weights of the fit were: a row of weight 2 has errors of half the
            variance, and is one row; or it stands for two equal rows.
        X, y, sample_weight
            The rows of the fit, which the estimator does not keep; needed by robust covariances.
            One more pass is made over X.
        stream : Stream, optional
            The rows of the fit as a stream, in place of X, y and sample_weight. One more pass is
            made over it.

        Returns
        -------
        summary : Summary, or list of Summary
            Prints as a table, as HTML in a notebook; the numbers are its attributes. For several
            targets a list with one for each.

        Raises
        ------
        ValueError
            If the fit has a penalty or a sign constraint, or its solver left no factor that is
            accurate enough: `solver="qr"` does. If rows or keywords are not those that `cov_type`
            needs, or the squared residuals of the rows do not add up to those of the fit.

        Notes
        -----
        Where columns depend on each other, the weights that can be estimated have standard
        errors, the others are NaN, and a note says which they are; robust covariances need
        independent columns. Rows of weight zero do not count. Rows of leverage 1, such as the only
        one with some category, count as 0 in "HC2" and "HC3", where statsmodels divides 0 by 0; a
        note says how many there are.

        References
        ----------
        MacKinnon, White (1985), J. Econometrics 29; Newey, West (1987), Econometrica 55; Cameron,
        Gelbach, Miller (2011), J. Bus. Econ. Stat. 29.

        Examples
        --------
        >>> from fastlsgd import LeastSquaresRegressor
        >>> X, y = [[0.0], [1.0], [2.0], [3.0]], [1.0, 3.0, 4.0, 8.0]
        >>> model = LeastSquaresRegressor().fit(X, y)
        >>> summary = model.summary()
        >>> summary.names, round(summary.r_squared, 4)
        (['intercept', 'x0'], 0.9308)
        >>> model.summary(cov_type="HC1", X=X, y=y).standard_error.round(4).tolist()
        [0.3934, 0.3589]
        """
        level = _check_level(confidence_level, "confidence_level")
        fitted = self._evidence_for("summary")
        check.check_choice(cov_type, "cov_type", COVARIANCES)
        is_frequency = check.check_choice(weights, "weights", WEIGHTS) == "frequency"
        evidences = [_repeated(own) for own in fitted] if is_frequency else fitted
        inferences, names = [infer(own) for own in evidences], self._names_of_weights(fitted)
        if cov_type == "nonrobust":
            if cov_kwds:
                raise ValueError("cov_kwds are for robust covariances: choose a cov_type.")
            found = [
                Summary(inference, names, level, partial(classical_covariance, own))
                for inference, own in zip(inferences, evidences, strict=True)
            ]
            return found if len(found) > 1 else found[0]
        wanted = _Wanted.of(cov_type, cov_kwds, fitted[0].n_rows, is_frequency)
        blocks = self._blocks_of_fit((X, y, sample_weight, stream), wanted.groups, fitted, cov_type)
        robust, notes = _robust(inferences, evidences, blocks, wanted)
        found = [
            Summary(inference, names, level, partial(Covariance, *own), cov_type, notes)
            for inference, own in robust
        ]
        return found if len(found) > 1 else found[0]

    @overload
    def predict(self, X, return_std: Literal[False] = ...) -> np.ndarray: ...
    @overload
    def predict(self, X, return_std: Literal[True]) -> tuple[np.ndarray, np.ndarray]: ...

    def predict(self, X, return_std: bool = False):
        """Predict with the linear model.

        Parameters
        ----------
        X : {array-like, sparse matrix} of shape (n_samples, n_features)
        return_std : bool, default=False
            Whether to return standard deviations too.

        Returns
        -------
        y : ndarray of shape (n_samples,) or (n_samples, n_targets)
            Predicted values: float32 if X and the fitted targets both were float32 or narrower
            floats, else float64, so that predictions are as precise as the targets were. On a GPU
            of X's dtype.
        std : ndarray of the shape of y
            With `return_std`: the standard deviation of a new target of weight 1 about its
            prediction, from the error of the row and that of the weights.

        Raises
        ------
        ValueError
            With `return_std`, where `summary` does.
        """
        if return_std is False or not check.check_flag(return_std, "return_std"):
            return super().predict(X)
        model = as_published(self)
        out = super(InferringRegressor, model).predict(X)
        return out, model._prediction_std(X).reshape(out.shape)

    def prediction_interval(self, X, *, level: float = 0.95) -> np.ndarray:
        """Intervals that hold a new target with this probability, for normal errors.

        Parameters
        ----------
        X : {array-like, sparse matrix} of shape (n_samples, n_features)
        level : float in (0, 1), default=0.95

        Returns
        -------
        interval : ndarray of shape (n_samples, 2) or (n_samples, n_targets, 2)
            Lower and upper ends; NaN without residual degrees of freedom.

        Raises
        ------
        ValueError
            Where `summary` does.

        Examples
        --------
        >>> from fastlsgd import LeastSquaresRegressor
        >>> model = LeastSquaresRegressor().fit([[0.0], [1.0], [2.0], [3.0]], [1.0, 3.0, 4.0, 8.0])
        >>> model.prediction_interval([[1.5]]).round(3).tolist()
        [[-0.564, 8.564]]
        """
        level, model = _check_level(level, "level"), as_published(self)
        df = infer(model._evidence_for("prediction_interval")[0]).df_residual
        centre, std = model.predict(X, return_std=True)
        reach = stats.t.ppf(0.5 * (1.0 + level), df) * std if df > 0 else np.nan * std
        return np.stack([centre - reach, centre + reach], axis=-1)

    def influence(self, X, y, sample_weight=None) -> Any:
        """How much each row of the fit moves it.

        Parameters
        ----------
        X, y, sample_weight
            The rows of the fit, which the estimator does not keep.

        Returns
        -------
        influence : Influence, or list of Influence
            Leverages, studentised residuals and Cook's distances; NaN for rows of weight zero. For
            several targets a list with one for each.

        Raises
        ------
        ValueError
            Where `summary` does, and for columns that depend on each other.

        Examples
        --------
        >>> from fastlsgd import LeastSquaresRegressor
        >>> X, y = [[0.0], [1.0], [2.0], [9.0]], [0.0, 1.1, 1.9, 5.0]
        >>> LeastSquaresRegressor().fit(X, y).influence(X, y).leverage.round(3).tolist()
        [0.43, 0.33, 0.27, 0.97]
        """
        evidences = self._evidence_for("influence")
        rows = rows_of_arrays(self, (X, y, sample_weight), None, evidences, "influence")
        n, counted = len(rows.y), counted_rows(rows.sample_weight)
        own = np.arange(n) if counted is None else counted
        leverage, residual = np.full(n, np.nan), np.full((n, len(evidences)), np.nan)
        residuals = ResidualsOfFit(evidences)
        for chunk in whitened_chunks(evidences, whitening(evidences[0]), [rows]):
            residuals.add(chunk)
            at = own[chunk.rows]
            leverage[at] = chunk.leverage
            residual[at] = np.sqrt(chunk.weight)[:, None] * chunk.residual
        residuals.refuse_others()
        found = [
            _influence_of(infer(evidence), evidence, leverage, residual[:, k])
            for k, evidence in enumerate(evidences)
        ]
        return found if len(found) > 1 else found[0]

    def _evidence_for(self, method: str) -> list[Evidence]:
        check_is_fitted(self)
        if not hasattr(self, "_evidence"):  # as of fastlsgd.torch.estimator_from
            raise ValueError(
                f"{method} needs a fit, and the weights of this estimator were given: call fit."
            )
        if self._evidence is None:
            restriction = self._restriction()
            if restriction is not None:
                raise ValueError(
                    f"{method} needs a fit without penalty, signs, bounds or equalities, and this "
                    f"one has {restriction}."
                )
            advice = getattr(self, "_evidence_advice", "Fit with solver='qr'")
            raise ValueError(
                f"{method} needs an accurate factor: solver {self.solver_!r} left none (condition "
                f"{self.condition_:.2g}). {advice}."
            )
        return self._evidence

    def _names_of_weights(self, evidences: list[Evidence]) -> list[str]:
        names = getattr(self, "feature_names_in_", None)
        if names is None:
            names = [f"x{j}" for j in range(self.n_features_in_)]
        return [*(["intercept"] if evidences[0].intercept is not None else []), *names]

    def _restriction(self) -> str | None:
        """What a fit has that leaves its weights without standard errors."""
        alpha = getattr(self, "alpha_", getattr(self, "alpha", 0.0))
        if np.any(np.asarray(alpha, dtype=np.float64) > 0.0):
            return "a penalty"
        named = {"positive": False, "bounds": None, "constraints": None}
        chosen = (name for name, none in named.items() if getattr(self, name, none) is not none)
        return next((f"{name}={check.shown(getattr(self, name))}" for name in chosen), None)

    def _blocks_of_fit(
        self, given: tuple, groups, evidences: list[Evidence], cov_type: str
    ) -> Iterable[FittedRows]:
        *data, stream = given
        name = f"cov_type={cov_type!r}"
        if stream is None:
            return [rows_of_arrays(self, tuple(data), groups, evidences, name)]
        if any(part is not None for part in data):
            raise ValueError(f"{name} takes X, y and sample_weight, or stream, not both.")
        check_stream(stream)
        return rows_of_stream(self, stream, groups, evidences, name)

    def _prediction_std(self, X) -> np.ndarray:
        evidences = self._evidence_for("predict(return_std=True)")
        A = host_matrix(self, X, "return_std=True")
        sigma = np.array([infer(evidence).sigma for evidence in evidences])
        out = np.empty((A.shape[0], len(evidences)))
        rows = FittedRows(A, np.zeros((len(out), 1)), None)
        for chunk in whitened_chunks(evidences, whitening(evidences[0]), [rows]):
            own = np.sqrt(np.einsum("mk,mk->m", chunk.Q, chunk.Q))
            spread = np.hypot(1.0, np.ldexp(own, -evidences[0].sigma_exponent))
            out[chunk.rows] = sigma * spread[:, None]
        return out


def _influence_of(
    inference: Inference, evidence: Evidence, leverage: np.ndarray, residual: np.ndarray
) -> Influence:
    """The influence of rows, by their leverages and weighted residuals."""
    k, df = inference.df_model + (evidence.intercept is not None), inference.df_residual
    sigma = evidence.residual_norm / np.sqrt(df) if df > 0 else np.nan  # for weights near 1
    sigma = 0.0 if inference.is_constant else sigma
    with np.errstate(invalid="ignore", divide="ignore"):
        left = np.where(leverage < LEVERAGE_ONE, 1.0 - leverage, np.nan)
        internal = residual / (sigma * np.sqrt(left))
        external = internal * np.sqrt((df - 1) / np.maximum(df - internal**2, 0.0))
        cooks = internal**2 * leverage / left / k
    return Influence(leverage, internal, external, cooks, external * np.sqrt(leverage / left))


def _repeated(evidence: Evidence) -> Evidence:
    """The evidence of rows that are repeated as often as their weights say."""
    exponent = evidence.sigma_exponent
    count = float(np.ldexp(evidence.weight, 2 * exponent))
    n = round(count)
    if abs(count - n) > 1e-9 * count:
        raise ValueError(f"frequency weights must add up to a whole number, got {count:g}.")
    return replace(evidence, n_rows=n, log_weights=-2.0 * n * exponent * np.log(2.0))


def _check_level(value, name: str) -> float:
    level = check.check_real(value, name, 0.0, 1.0, open_low=True)
    if level == 1.0:
        raise ValueError(f"{name} must be below 1: the interval would be infinite.")
    return level


class _Wanted(NamedTuple):
    """A robust covariance, its keywords checked."""

    options: RobustOptions
    use_t: bool
    groups: Any  # labels of clusters
    counts_clusters: bool  # whether tests have the clusters' degrees of freedom

    @classmethod
    def of(cls, cov_type: str, cov_kwds, n_rows: int, is_frequency: bool) -> _Wanted:
        given = dict(cov_kwds or {})
        for name in given:
            if name not in KEYWORDS[cov_type]:
                allowed = ", ".join(map(repr, KEYWORDS[cov_type]))
                raise ValueError(f"cov_kwds for {cov_type!r} may have {allowed}, got {name!r}.")
        use_t = check.check_flag(given.get("use_t", False), "use_t")
        correction = given.get("use_correction", cov_type == "cluster")
        check.check_flag(correction, "use_correction")
        options = RobustOptions(cov_type, use_correction=correction, frequency=is_frequency)
        groups = given.get("groups")
        if cov_type == "HAC":
            if "maxlags" not in given:
                raise ValueError(
                    "cov_type='HAC' needs cov_kwds={'maxlags': ...}, a number of rows."
                )
            if is_frequency:
                raise ValueError("cov_type='HAC' has no frequency weights: repeat the rows.")
            lags = check.check_whole(given["maxlags"], "maxlags", 0, high=n_rows)
            kernel = given.get("kernel", "bartlett")
            check.check_choice(kernel, "kernel", ("bartlett", "uniform"))
            options = replace(options, maxlags=lags, kernel=kernel)
        if cov_type == "cluster" and groups is None:
            raise ValueError(
                "cov_type='cluster' needs cov_kwds={'groups': ...}, a label for each row."
            )
        adjusts = check.check_flag(given.get("df_correction", True), "df_correction")
        return cls(options, use_t, groups, adjusts and cov_type == "cluster")


def _robust(
    inferences: list[Inference], evidences: list[Evidence], blocks, wanted: _Wanted
) -> tuple[list[tuple[Inference, Covariance]], list[str]]:
    """The statistics by robust covariances, and these, for each target; what to note of them."""
    df, cov_type = inferences[0].df_residual, wanted.options.cov_type
    if df < 1:
        raise ValueError(f"cov_type={cov_type!r} needs more rows than weights.")
    found = robust_covariances(evidences, blocks, wanted.options)
    df = found.fewest_clusters - 1 if wanted.counts_clusters else df
    notes = []
    if found.n_exact:
        rows = "1 row has" if found.n_exact == 1 else f"{found.n_exact:,} rows have"
        notes.append(
            f"{rows} leverage 1: the fit goes through them whatever their errors are, and "
            f"{cov_type} counts these as 0."
        )
    return [
        (inference.with_covariance(covariance, wanted.use_t, df), covariance)
        for inference, covariance in zip(inferences, found.covariances, strict=True)
    ], notes
