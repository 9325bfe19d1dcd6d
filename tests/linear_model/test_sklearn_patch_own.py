"""scikit-learn's own tests of its linear models, run with scikit-learn patched.

Tests that fail are listed below, and in docs/sklearn_patch.md, with the reason. The list is strict:
a failure that is not listed fails, and so does a listed test that passes.
"""

from __future__ import annotations

import importlib.util
import re
import subprocess
import sys

import pytest
import sklearn

pytestmark = [
    pytest.mark.long,
    pytest.mark.skipif(
        importlib.util.find_spec("sklearn.linear_model.tests.test_ridge") is None,
        reason="the installed scikit-learn comes without its tests",
    ),
    pytest.mark.skipif(
        tuple(map(int, sklearn.__version__.split(".")[:2])) != (1, 9),
        reason="the list is of the tests of scikit-learn 1.9",
    ),
]

COURSE = "counts the epochs of coordinate descent"
EARLY = "compares an exact fit with one of scikit-learn's, which ended at its tol of 1e-4"
EXPECTED = {
    "test_base": {},
    "test_bayes": {},
    "test_common": {},
    "test_coordinate_descent": {
        "test_lasso_dual_gap": "expects a gap near 2e-15, which is rounding, to 7 digits",
        "test_enet_multitarget": EARLY,
        "test_1d_multioutput_enet_and_multitask_enet_cv": EARLY,
        "test_1d_multioutput_lasso_and_multitask_lasso_cv": EARLY,
        "test_elasticnet_precompute_gram_weighted_samples": EARLY,
        "test_warm_start_convergence_with_regularizer_decrement": COURSE,
        "test_lassoCV_does_not_set_precompute": "expects LassoCV to call a Lasso of its module",
    },
    "test_huber": {},
    "test_least_angle": {},
    "test_omp": {},
    "test_ransac": {},
    "test_ridge": {},
    "test_sag": {},
    "test_sgd": {},
    "test_sparse_coordinate_descent": {"test_enet_multitarget": EARLY},
    "test_theil_sen": {},
}
RUN = """
import sys, pytest, fastlsgd
fastlsgd.patch_sklearn()
flags = ["-q", "-rfE", "--tb=no", "-p", "no:cacheprovider", "-p", "no:xdist", "--pyargs"]
sys.exit(pytest.main([*flags, sys.argv[1]]))
"""


@pytest.mark.parametrize("name", EXPECTED)
def test_own_tests_of_scikit_learn(name, tmp_path):
    done = subprocess.run(
        [sys.executable, "-c", RUN, f"sklearn.linear_model.tests.{name}"],
        capture_output=True,
        text=True,
        cwd=tmp_path,
    )
    assert re.search(r"\d+ passed|\[100%\]", done.stdout), done.stdout + done.stderr
    failed = set(re.findall(r"^(?:FAILED|ERROR) \S*::(\w+)", done.stdout, re.MULTILINE))
    assert failed == set(EXPECTED[name]), done.stdout
