"""fastlsgd.torch beside PyTorch: `python bench/frameworks_torch.py [--rows 1000000] [--batch]`.

Each call is checked against its peer's result first. Times are the best of some rounds in which the
calls take turns; peak memory is that beyond the inputs, in a process of its own. PyTorch's
derivatives need memory for n x n numbers, and so they are compared for 5,000 rows. With `--batch`,
many small problems in one call are compared instead, by the processor time of one thread.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import time
from itertools import product

import torch
from memory import MARK, resident
from timing import best_of

from fastlsgd import config_context
from fastlsgd.torch import lstsq

DTYPES = {"float32": torch.float32, "float64": torch.float64}


def problem(n: int, d: int, dtype: torch.dtype):
    rng = torch.Generator().manual_seed(0)
    A = torch.randn(n, d, generator=rng, dtype=dtype)
    return A, A.sum(1) + torch.randn(n, generator=rng, dtype=dtype)


def forward(name: str, A, b):
    if name == "fastlsgd":
        return lstsq(A, b)
    return torch.linalg.lstsq(A, b.unsqueeze(-1)).solution.squeeze(-1)


def backward(name: str, A, b):
    A = A.detach().requires_grad_()
    forward(name, A, b).square().sum().backward()
    return A.grad


CALLS = {"forward": forward, "forward and backward": backward}
BACKWARD_ROWS = 5_000
BATCHES = ((100, 5), (20, 3), (5, 100))


def compare(call: str, n: int, d: int, dtype: str, rounds: int, names: tuple[str, ...]) -> None:
    A, b = problem(n, d, DTYPES[dtype])
    results = [CALLS[call](name, A, b) for name in names]
    scale = float(results[0].abs().max())
    torch.testing.assert_close(results[0], results[-1], rtol=0, atol=1e-3 * scale)
    seconds = dict.fromkeys(names, float("inf"))
    for _ in range(rounds):
        for name in names:
            spent = best_of(lambda name=name: CALLS[call](name, A, b), 1)
            seconds[name] = min(seconds[name], spent)
    print(f"lstsq, {call}, {n} x {d} {dtype}, A of {A.nbytes / 1e6:.0f} MB:")
    for name in names:
        megabytes = peak(call, name, n, d, dtype) / 1e6
        ratio = seconds[name] / seconds[names[0]]
        print(f"  {name} {seconds[name]:.3f} s ({ratio:.1f} times), {megabytes:.0f} MB", flush=True)


def peak(call: str, name: str, n: int, d: int, dtype: str) -> int:
    command = [sys.executable, __file__, "--peak", call, name, str(n), str(d), dtype]
    answer = subprocess.run(command, capture_output=True, text=True, check=True)
    return int(answer.stdout)


def measure_peak(call: str, name: str, n: str, d: str, dtype: str) -> None:
    CALLS[call](name, *problem(200, 5, DTYPES[dtype]))  # loads what is loaded at first use
    A, b = problem(int(n), int(d), DTYPES[dtype])
    MARK.write_text("5")
    before = resident("VmRSS:")
    result = CALLS[call](name, A, b)
    print(resident("VmHWM:") - before)
    del result


def compare_batches(rounds: int, n_problems: int = 1000) -> None:
    torch.set_num_threads(1)
    for dtype, (n, d), call in product(DTYPES, BATCHES, CALLS):
        rng = torch.Generator().manual_seed(0)
        A = torch.randn(n_problems, n, d, generator=rng, dtype=DTYPES[dtype])
        b = torch.randn(n_problems, n, generator=rng, dtype=DTYPES[dtype])
        ours, theirs = (CALLS[call](name, A, b) for name in ("fastlsgd", "PyTorch"))
        torch.testing.assert_close(ours, theirs, rtol=0, atol=1e-3 * float(theirs.abs().max()))
        seconds = {"fastlsgd": float("inf"), "PyTorch": float("inf")}
        with config_context(n_threads=1):
            for _ in range(rounds):
                for name, best in seconds.items():
                    start = time.process_time()
                    CALLS[call](name, A, b)
                    seconds[name] = min(best, time.process_time() - start)
        one, other = (1e3 * value for value in seconds.values())
        print(
            f"{n_problems} problems of {n} x {d} {dtype}, {call}: fastlsgd {one:.1f} ms, "
            f"PyTorch {other:.1f} ms ({other / one:.1f} times)",
            flush=True,
        )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rows", type=int, default=1_000_000)
    parser.add_argument("--features", type=int, default=100)
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument("--batch", action="store_true", help="many small problems")
    parser.add_argument("--peak", nargs=5, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.peak:
        measure_peak(*options.peak)
        return
    if options.batch:
        compare_batches(max(options.rounds, 5))
        return
    n, d, both = options.rows, options.features, ("fastlsgd", "PyTorch")
    for dtype in DTYPES:
        compare("forward", n, d, dtype, options.rounds, both)
        compare("forward and backward", BACKWARD_ROWS, d, dtype, options.rounds, both)
        compare("forward and backward", n, d, dtype, options.rounds, both[:1])


if __name__ == "__main__":
    main()
