"""``fastlsgd demo``: a fit of real house prices, a report and two pictures."""

from __future__ import annotations

import argparse
import os
import time
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from .._version import __version__
from .console import EXIT_FAILED, EXIT_USAGE, CommandError, check_folder, save_figure, say

# The descent of the first picture, as one would write it without "auto".
_BY_HAND: dict[str, Any] = {
    "learning_rate": "constant",
    "eta0": 1e-3,
    "batch_size": 32,
    "max_iter": 20,
    "tol": None,
}


def run(arguments: argparse.Namespace) -> None:
    """Run the demo; all that the user may have got wrong is checked before the work begins."""
    pictures = _pictures(arguments.output_dir)
    kernels, n_threads = _kernels(arguments.backend)
    say(f"fastlsgd {__version__}: log(price) of houses in Lucas County, Ohio, 1993 to 1998\n")

    import numpy as np
    from sklearn.linear_model import LinearRegression
    from sklearn.model_selection import train_test_split
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    from ..datasets import house_sales_transformer, load_house_sales
    from ..linear_model import SGDRegressor

    sales, price = load_house_sales(return_X_y=True)
    sales, held_out_sales, price, held_out_price = train_test_split(
        sales, price, test_size=0.2, random_state=0
    )
    transformer = house_sales_transformer()
    X, y = transformer.fit_transform(sales), np.log(price)
    X_held_out = transformer.transform(held_out_sales)
    n_one_hot = len(transformer.named_transformers_["categories"].get_feature_names_out())
    say(f"data      {len(X):,} sales to train, {len(X_held_out):,} held out")
    say(
        f"features  {X.shape[1] - n_one_hot} raw numeric columns, {n_one_hot} one-hot columns; "
        f"{X.dtype}, {X.nbytes / 1e6:.1f} MB"
    )

    model = SGDRegressor(random_state=0, backend=arguments.backend)
    warm_up, seconds = _seconds_of_fit(model, X, y), _seconds_of_fit(model, X, y)
    exact = make_pipeline(StandardScaler(), LinearRegression()).fit(X, y)
    say(f"backend   {model.backend_}, instruction set {kernels.isa()}, at most {n_threads} threads")
    epochs = "1 epoch" if model.n_iter_ == 1 else f"{model.n_iter_} epochs"
    say(
        f"fit       {epochs} in {seconds:.3f} s, "
        f"{X.nbytes * model.n_iter_ / seconds / 1e9:.2f} GB/s of features"
    )
    say(f"          (before it one fit to load and compile, {warm_up:.3f} s, not counted)\n")

    predicted = {
        "SGDRegressor": np.exp(model.predict(X_held_out)),
        "exact least squares": np.exp(exact.predict(X_held_out)),
    }
    _report_quality(held_out_price, predicted)
    if pictures is None:
        say('pictures  none, since they need Matplotlib: pip install "fastlsgd[demo]"')
        return
    by_hand = SGDRegressor(**_BY_HAND, random_state=0, backend=arguments.backend)
    by_hand.fit(StandardScaler().fit_transform(X), y)
    _save(_draw_losses(by_hand, model), pictures[0])
    _save(_draw_predictions(held_out_price, predicted["SGDRegressor"]), pictures[1])


def _report_quality(price, predicted: dict) -> None:
    import numpy as np
    from sklearn.metrics import r2_score, root_mean_squared_error

    say("held-out fifth          R2 of log(price)    RMSE of price")
    for name, prices in predicted.items():
        rmse = f"${root_mean_squared_error(price, prices):,.0f}"
        say(f"{name:<22}  {r2_score(np.log(price), np.log(prices)):>16.4f}    {rmse:>13}")
    say("")


def _draw_losses(by_hand, model):
    """The descent at a rate chosen by hand, and the loss at which "auto" is after one pass."""
    from ..plotting import plot_loss_curve

    ax = plot_loss_curve(by_hand.loss_curve_)
    ax.lines[0].set_label(
        f"rate {by_hand.eta0:g}, batches of {by_hand.batch_size}, standardised columns"
    )
    reached = model.loss_curve_[-1]
    label = f'"auto", columns as they are: {reached:.4g} in epoch {model.n_iter_}'
    ax.axhline(reached, color="0.35", linestyle="--", linewidth=1.2, label=label)
    ax.set_title("House sales: loss in each epoch")
    ax.legend(loc="center right", fontsize="small", frameon=False)
    return ax.figure


def _draw_predictions(price, predicted):
    import numpy as np

    from ..plotting import plot_predictions

    ax = plot_predictions(price, predicted, unit="$")
    half = np.median(np.abs(predicted / price - 1))
    ax.set_title(f"{len(price):,} held-out sales, half predicted within {half:.0%}")
    return ax.figure


def _pictures(directory: str | None) -> tuple[Path, Path] | None:
    """The paths of the plots, after a check that they can be drawn and written.

    None without Matplotlib, unless the user asked for plots by naming a directory.
    """
    if find_spec("matplotlib") is None:
        if directory is None:
            return None
        raise CommandError(
            'the pictures for --output-dir need Matplotlib: pip install "fastlsgd[demo]"',
            EXIT_FAILED,
        )
    if directory is None:
        directory = "."
    if not directory:  # an unset shell variable; Path("") would be the current directory
        raise CommandError("--output-dir is empty", EXIT_USAGE)
    folder = Path(directory)
    pictures = (folder / "fastlsgd_loss_curve.png", folder / "fastlsgd_predictions.png")
    what = f"--output-dir {directory!r}"
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or error
        if isinstance(error, FileExistsError):
            reason = "it is a file, not a folder"
        raise CommandError(f"can't write to {what}: {reason}", EXIT_USAGE) from error
    check_folder(folder, what)
    for path in pictures:
        if path.is_dir() or (path.exists() and not os.access(path, os.W_OK)):
            raise CommandError(f"can't overwrite {str(path)!r}", EXIT_USAGE)
    return pictures


def _kernels(backend: str | None):
    """The kernels and the limit on threads that the fit will use."""
    from ..kernels import resolve_backend, resolve_threads

    try:
        return resolve_backend(backend), resolve_threads()
    except ValueError as error:  # an environment variable
        raise CommandError(error, EXIT_USAGE) from error
    except ImportError as error:
        raise CommandError(error, EXIT_FAILED) from error


def _save(figure, path: Path) -> None:
    save_figure(figure, path)
    say(f"wrote     {path}")


def _seconds_of_fit(model, X, y) -> float:
    start = time.perf_counter()
    model.fit(X, y)
    return time.perf_counter() - start
