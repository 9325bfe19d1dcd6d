"""An epoch of each optimizer in batches of 32, next to plain SGD and a loop over torch.optim."""

import arrays
import peers
import pytest
from checks import check_optimizer_epoch

BACKENDS = ("native", "numba")


@pytest.mark.usefixtures("one_thread")
@pytest.mark.parametrize("library", [*BACKENDS, "torch"])
@pytest.mark.parametrize("rule", peers.OPTIMIZERS)
def bench_optimizer_batch_32(rule, dtype, library, scale, measure):
    problem = arrays.dense(int(1_000_000 * scale), 100, dtype)

    def epoch(problem):
        return peers.optimizer_epoch(library, rule, problem)

    measure(
        lambda: epoch(problem),
        lambda _: check_optimizer_epoch(epoch, rule, problem),
        problem,
        f"optimizers, batch 32, d=100, {rule}",
    )
