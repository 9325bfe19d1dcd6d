"""Fits on a cluster of processes, of which one is killed in the middle."""

from __future__ import annotations

import os
import signal
from pathlib import Path

import numpy as np
import pytest

import fastlsgd

pytest.importorskip("distributed")
import dask.array as da
from distributed import Client, LocalCluster, wait

import fastlsgd.dask as lazy
from fastlsgd.solvers.pass_descent import PathDescent
from fastlsgd.streaming import scan

BLOCKS, ROWS, D = 12, 500, 100


@pytest.fixture(scope="module")
def client():
    options = {"n_workers": 2, "threads_per_worker": 1, "processes": True}
    with LocalCluster(**options, dashboard_address=None) as cluster, Client(cluster) as client:
        yield client


def rows_of(number: int) -> np.ndarray:
    return np.random.default_rng(number).normal(size=(ROWS, D + 1)) + 1.0


def rows_of_block(zeros: np.ndarray, fatal: str, block_info=None) -> np.ndarray:
    """Return rows; the first process that makes block 7 is killed, as by the kernel."""
    number = block_info[0]["chunk-location"][0]
    if number == 7 and fatal:
        try:
            os.close(os.open(fatal, os.O_CREAT | os.O_EXCL))
        except FileExistsError:
            pass
        else:
            os.kill(os.getpid(), signal.SIGKILL)
    return rows_of(number)


def table_of(fatal: str = "") -> da.Array:
    zeros = da.zeros((BLOCKS * ROWS, D + 1), chunks=(ROWS, D + 1))
    return zeros.map_blocks(rows_of_block, fatal, dtype=float, meta=np.empty((0, 0)))


def expected() -> np.ndarray:
    table = np.concatenate([rows_of(number) for number in range(BLOCKS)])
    model = fastlsgd.LeastSquaresRegressor(tol=1e-14)
    return model.fit(table[:, :D], table[:, D]).coef_


def test_a_killed_worker_changes_nothing(client, tmp_path):
    fatal = str(tmp_path / "killed")
    table = table_of(fatal)
    model = lazy.LeastSquaresRegressor().fit(table[:, :D], table[:, D])
    assert Path(fatal).exists()
    np.testing.assert_allclose(model.coef_, expected(), atol=1e-12)


def test_a_descent_from_block_to_block_outlives_a_worker(client, tmp_path):
    options = {"learning_rate": "constant", "eta0": 1e-4, "max_iter": 2, "random_state": 0}
    client.wait_for_workers(2)
    fatal = str(tmp_path / "killed")
    table = table_of(fatal)
    model = lazy.SGDRegressor(**options).fit(table[:, :D], table[:, D])
    assert Path(fatal).exists()
    rows = np.concatenate([rows_of(number) for number in range(BLOCKS)])
    stream = scan(rows, D, batch_rows=ROWS)
    np.testing.assert_array_equal(
        model.coef_, fastlsgd.SGDRegressor(**options).fit_stream(stream).coef_
    )


def persisted(client) -> tuple[da.Array, da.Array]:
    client.wait_for_workers(2)
    table = table_of().persist()
    X, y = table[:, :D].persist(), table[:, D].persist()
    wait([X, y])
    return X, y


def test_rows_in_the_memory_of_a_killed_worker_are_made_anew(client, monkeypatch):
    X, y = persisted(client)
    steps: list[int] = []
    original = PathDescent.request

    def request(self):
        steps.append(1)
        if len(steps) == 3:
            os.kill(next(iter(client.run(os.getpid).values())), signal.SIGKILL)
        return original(self)

    monkeypatch.setattr(PathDescent, "request", request)
    model = lazy.LeastSquaresRegressor(solver="cg", tol=1e-14).fit(X, y)
    assert len(steps) > 5
    np.testing.assert_allclose(model.coef_, expected(), atol=1e-12)


def test_a_step_moves_few_numbers(client):
    """Sums are added up where the rows are, so that a worker sends one of them per step."""
    X, y = persisted(client)
    model = lazy.LeastSquaresRegressor(solver="cg", tol=0.0).fit(X, y)

    def received() -> int:
        def count(dask_worker):
            return sum(item["total"] for item in dask_worker.transfer_incoming_log)

        return sum(client.run(count).values())

    before = received()  # after a first fit, in which the scheduler may have moved rows
    model.fit(X, y)
    moved = (received() - before) / (model.n_iter_ + 1) / 2
    assert moved <= 4 * 8 * D
    np.testing.assert_allclose(float(model.score(X, y)), 0.0, atol=0.1)
