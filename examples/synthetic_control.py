"""The effect of a law by a synthetic control, and how large effects are where there was no law.

Run: python examples/synthetic_control.py
"""

import numpy as np

from fastlsgd import LeastSquaresRegressor

N_YEARS, N_REGIONS, LAW, EFFECT = 40, 30, 28, 2.0  # the law is passed in year LAW, in region 0


def outcomes(rng: np.random.Generator) -> np.ndarray:
    """Outcomes of all regions, (N_YEARS, N_REGIONS), which share three trends."""
    trends = np.cumsum(rng.normal(size=(N_YEARS, 3)), axis=0)
    levels = trends @ rng.dirichlet(np.ones(3), size=N_REGIONS).T
    y = levels + 0.2 * rng.normal(size=levels.shape)
    y[LAW:, 0] += EFFECT
    return y


def control_of(y: np.ndarray, region: int) -> LeastSquaresRegressor:
    """The shares of the other regions whose mean is nearest to this one before the law."""
    others = np.delete(y, region, axis=1)
    shares = LeastSquaresRegressor(
        bounds=(0.0, 1.0),
        constraints=(np.ones((1, others.shape[1])), [1.0]),
        fit_intercept=False,
    )
    return shares.fit(others[:LAW], y[:LAW, region])


def errors(values: np.ndarray) -> float:
    return float(np.sqrt((values**2).mean()))


def main() -> None:
    y = outcomes(np.random.default_rng(0))
    model = control_of(y, 0)
    gap = y[:, 0] - model.predict(y[:, 1:])
    in_use = np.flatnonzero(model.coef_)
    listed = ", ".join(f"{j + 1} ({model.coef_[j]:.2f})" for j in in_use)
    print(f"control of region 0: the regions {listed}; sum {model.coef_.sum():.12f}")
    print(f"certified: no shares fit better by more than {model.dual_gap_:.1e}")
    print(f"before the law: error {errors(gap[:LAW]):.3f}")
    print(f"after the law: effect {gap[LAW:].mean():.2f}, where the truth is {EFFECT:.2f}")

    ratios = np.empty(N_REGIONS)
    for region in range(N_REGIONS):  # as if the law had been passed there
        placebo = y[:, region] - control_of(y, region).predict(np.delete(y, region, axis=1))
        ratios[region] = errors(placebo[LAW:]) / errors(placebo[:LAW])
    larger = int((ratios >= ratios[0]).sum())
    print(f"error after over error before: {ratios[0]:.1f}; median {np.median(ratios):.1f}")
    print(f"p-value by placebos: {larger / N_REGIONS:.3f}")


if __name__ == "__main__":
    main()
