"""The recipes of docs/scaling.md: scripts of at most fifteen lines, which fit the same model."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from fastlsgd import LeastSquaresRegressor

pd = pytest.importorskip("pandas")
pytest.importorskip("pyarrow")

PAGE = Path(__file__).resolve().parents[2] / "docs" / "scaling.md"
TEXT = PAGE.read_text("utf-8")
RECIPES = dict(re.findall(r"^### (.*?)\n\n```python\n(.*?)```", TEXT, re.M | re.S))
PACKAGES = {
    "Ray": "ray.data", "Spark": "pyspark.sql", "DuckDB": "duckdb", "Polars": "polars",
}  # fmt: skip
REPORT = """
if __name__ == "__main__":
    print()
    print(model.coef_.tolist())
"""


@pytest.fixture(scope="module")
def sales(tmp_path_factory):
    """A folder of files, and the weights of the fit to their rows."""
    folder = tmp_path_factory.mktemp("recipes")
    (folder / "sales").mkdir()
    rng = np.random.default_rng(0)
    frame = pd.DataFrame(rng.uniform(1.0, 9.0, size=(3000, 2)), columns=["size", "rooms"])
    frame["price"] = 3.0 * frame["size"] - frame["rooms"] + rng.normal(size=3000)
    for k in range(3):
        frame[1000 * k : 1000 * (k + 1)].to_parquet(folder / "sales" / f"{k}.parquet")
    return folder, LeastSquaresRegressor().fit(frame[["size", "rooms"]], frame["price"]).coef_


def test_recipes_are_short():
    assert {*PACKAGES, "A pool of processes"} == RECIPES.keys()
    lengths = {name: len(re.findall(r"^.*\S", code, re.M)) for name, code in RECIPES.items()}
    assert max(lengths.values()) <= 15, lengths


@pytest.mark.parametrize("name", RECIPES)
def test_recipe_fits_the_rows(name, sales, tmp_path):
    if name in PACKAGES:
        pytest.importorskip(PACKAGES[name])
    folder, coef = sales
    script = tmp_path / "recipe.py"
    script.write_text(RECIPES[name] + REPORT)
    finished = subprocess.run(
        [sys.executable, str(script)],
        cwd=folder,
        capture_output=True,
        text=True,
        timeout=300,
        env={**os.environ, "PYSPARK_PYTHON": sys.executable, "RAY_ENABLE_UV_RUN_RUNTIME_ENV": "0"},
    )
    assert finished.returncode == 0, finished.stderr
    np.testing.assert_allclose(json.loads(finished.stdout.splitlines()[-1]), coef, rtol=1e-10)
