"""Streams of svmlight files: their rows, and errors that name the line."""

from __future__ import annotations

import numpy as np
import pytest
import scipy.sparse as sp
from sklearn.datasets import dump_svmlight_file

from fastlsgd import LeastSquaresRegressor
from fastlsgd.streaming import StreamError, scan


@pytest.mark.parametrize("columns", [None, 6])
def test_svmlight(columns, tmp_path):
    rng = np.random.default_rng(0)
    X = rng.normal(size=(200, 6)) * (rng.random((200, 6)) < 0.4)
    X[0, 5] = 1.0
    X = sp.csr_array(X)
    y = rng.normal(size=200)
    dump_svmlight_file(X, y, str(tmp_path / "t.svm"))
    stream = scan(tmp_path / "t.svm", columns=columns, memory=6000)
    parts = list(stream)
    assert len(parts) > 5
    found = sp.vstack([X for X, _, _ in parts])
    np.testing.assert_allclose(found.toarray(), X.toarray(), rtol=1e-6)
    np.testing.assert_allclose(np.concatenate([y for _, y, _ in parts]), y, rtol=1e-6)
    model = LeastSquaresRegressor().fit_stream(stream)
    np.testing.assert_allclose(model.coef_, LeastSquaresRegressor().fit(X, y).coef_, rtol=1e-4)


def test_svmlight_columns_beyond_any_number_are_refused(tmp_path):
    path = tmp_path / "a.svm"
    path.write_text("1 99999999999999:1\n")
    with pytest.raises(StreamError, match="too large"):
        LeastSquaresRegressor().fit_stream(scan(path))


@pytest.mark.parametrize("memory", [2**20, 600])
def test_the_line_of_an_svmlight_file_that_is_wrong_is_named(memory, tmp_path):
    path = tmp_path / "a.svm"
    lines = [b"1.5 1:2 3:4\n"] * 40
    lines[5], lines[17] = b"# a comment\n", b"1 1;2\n"
    path.write_bytes(b"".join(lines))
    at = len(b"".join(lines[:17]))
    with pytest.raises(StreamError, match=f"a.svm, line at byte {at}: "):
        LeastSquaresRegressor().fit_stream(scan(path, columns=4, memory=memory))
