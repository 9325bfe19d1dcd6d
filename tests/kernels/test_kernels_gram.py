"""`gram` of sparse rows that backends need not make dense."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest
from test_kernels import as_csr, both_dtypes, check_gram, make_problem, too_much_to_simulate


def with_sorted_rows(X):
    order = np.arange(len(X.indices))
    for start, stop in pairwise(X.indptr):
        order[start:stop] = start + np.argsort(X.indices[start:stop])
    return X._replace(data=X.data[order], indices=X.indices[order])


@too_much_to_simulate
@pytest.mark.parametrize("shape", [(1000, 100), (40, 1500)], ids=["rows shared", "columns shared"])
@pytest.mark.parametrize("ordered", [True, False], ids=["sorted", "unsorted"])
@both_dtypes
def test_gram_of_few_numbers_per_row(kernels, shape, ordered, dtype):
    """Some columns are far from zero, in all rows or most: only sums about the shift are right."""
    n, d = shape
    problem = make_problem(d, n, d, 2, dtype, np.int64, density=0.02)
    rng = np.random.default_rng(d)
    values, shift = problem.dense, rng.standard_normal(d)
    values[:, [0, d // 2]] += 3000.0
    values[rng.random(n) < 0.9, d - 1] += 700.0
    shift[[0, d // 2]], shift[d - 1], shift[1] = 3000.0, 630.0, 0.0
    X = as_csr(values.astype(dtype), np.int32, rng)
    problem = problem._replace(X=with_sorted_rows(X) if ordered else X)
    for case in (problem, problem._replace(s=None)):
        for origin in (shift, None):
            check_gram(kernels, case, origin, n_threads=2)
