"""The parts of a training loop without the loop: optimizer, schedule, clipping, callback.

Run: python examples/optimizers.py [--epochs 20]
"""

import argparse

from sklearn.datasets import load_diabetes
from sklearn.linear_model import LinearRegression
from sklearn.model_selection import train_test_split
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from fastlsgd import EpochReport, SGDRegressor
from fastlsgd.optimizers import Adam, Momentum, OneCycle


def tell(report: EpochReport) -> bool:
    """Print every fifth epoch; end the fit once the held-out rows are explained well enough."""
    if report.epoch % 5 == 0:
        print(
            f"  epoch {report.epoch:3}: loss {report.loss:8.1f}, "
            f"R2 held out {report.validation_score:.3f}, rate {report.rate:.4f}"
        )
    return report.validation_score > 0.95


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--epochs", type=int, default=20)
    epochs = parser.parse_args().epochs

    X, y = load_diabetes(return_X_y=True)
    X_train, X_test, y_train, y_test = train_test_split(X, y, test_size=0.3, random_state=0)
    exact = LinearRegression().fit(X_train, y_train).score(X_test, y_test)

    for optimizer, rate in ((Momentum(0.9), 0.01), (Adam(beta2=0.99), 5.0)):
        print(f"{optimizer}, one cycle up to {rate}")
        model = SGDRegressor(
            optimizer=optimizer,
            learning_rate=OneCycle(pct_start=0.2),
            eta0=rate,
            batch_size=8,
            clip_norm=1000.0,
            max_iter=epochs,
            tol=None,
            early_stopping=True,
            validation_fraction=0.2,
            random_state=0,
        )
        pipeline = make_pipeline(StandardScaler(), model)
        pipeline.fit(X_train, y_train, sgdregressor__callback=tell)
        print(f"  R2 {pipeline.score(X_test, y_test):.3f}; exact least squares {exact:.3f}")


if __name__ == "__main__":
    main()
