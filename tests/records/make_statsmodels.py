"""Write statsmodels.json: the results of statsmodels for the problems of test_inference.py.

    pip install statsmodels && python tests/records/make_statsmodels.py

The tests compare with this record, so that they do not need statsmodels; where it is installed,
they compare with it directly too.
"""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np

RECORD = Path(__file__).with_name("statsmodels.json")
PROBLEMS = ("plain", "weighted", "through zero", "units", "exactly determined but for one row")


def problem(name: str):
    """X, y, sample weights or None, and whether an intercept is fitted."""
    rng = np.random.default_rng(PROBLEMS.index(name))
    n, d = (6, 4) if name.startswith("exactly") else (150, 4)
    X = rng.normal(size=(n, d)) + np.array([0.0, 1.0, -3.0, 10.0])
    if name == "units":
        X *= [0.01, 1.0, 10.0, 1e3]
    y = X @ (np.array([1.0, -2.0, 0.5, 0.0]) / np.abs(X).mean(axis=0)) + 3.0
    y += 0.7 * rng.normal(size=n)
    s = rng.uniform(0.2, 3.0, size=n) if name == "weighted" else None
    return X, y, s, name != "through zero"


def statistics(name: str) -> dict:
    """The fields of `Summary`, computed by statsmodels."""
    import statsmodels.api as sm

    X, y, s, has_intercept = problem(name)
    design = sm.add_constant(X, has_constant="add") if has_intercept else X
    fit = (sm.OLS(y, design) if s is None else sm.WLS(y, design, weights=s)).fit()
    return {
        "coef": fit.params.tolist(),
        "standard_error": fit.bse.tolist(),
        "t": fit.tvalues.tolist(),
        "p_value": fit.pvalues.tolist(),
        "confidence_interval": fit.conf_int(0.1).tolist(),
        "df_residual": fit.df_resid,
        "df_model": fit.df_model,
        "sigma": float(np.sqrt(fit.scale)),
        "r_squared": fit.rsquared,
        "adjusted_r_squared": fit.rsquared_adj,
        "f_statistic": fit.fvalue,
        "f_p_value": fit.f_pvalue,
        "log_likelihood": fit.llf,
        "aic": fit.aic,
        "bic": fit.bic,
    }


if __name__ == "__main__":
    record = {name: statistics(name) for name in PROBLEMS}
    RECORD.write_text(json.dumps(record, indent=1) + "\n", encoding="utf-8")
    print(f"wrote {RECORD}")
