from collections.abc import Callable, Sequence

import numpy as np

from .contract import (
    CSR,
    Epoch,
    Epochs,
    Gram,
    Matrix,
    SegmentFits,
    Segments,
    SGDState,
    SmallLassos,
    TargetGradients,
)

MAKES_WINDOWS: bool
SUMS_ARE_SPLIT: bool

def loss_gradient(
    X: Matrix,
    y: np.ndarray,
    w: np.ndarray,
    b: np.ndarray,
    sample_weight: np.ndarray | None,
    n_threads: int,
) -> TargetGradients: ...
def predict(X: Matrix, w: np.ndarray, b: np.ndarray, n_threads: int) -> np.ndarray: ...
def gram(
    X: Matrix,
    y: np.ndarray,
    sample_weight: np.ndarray | None,
    shift: np.ndarray | None,
    n_threads: int,
) -> Gram: ...
def sgd_epoch(
    X: Matrix,
    y: np.ndarray,
    w: np.ndarray,
    b: np.ndarray,
    sample_weight: np.ndarray | None,
    epoch: Epoch,
    state: SGDState,
    n_threads: int,
) -> float: ...
def sgd_epochs(
    X: Matrix,
    y: np.ndarray,
    w: np.ndarray,
    b: np.ndarray,
    sample_weight: np.ndarray | None,
    epoch: Epoch,
    state: SGDState,
    n_threads: int,
) -> Epochs: ...
def permute(bit_generator: np.random.BitGenerator, orders: np.ndarray) -> None: ...
def keys_below(limit: float, start: int, n: int) -> tuple[np.ndarray, np.ndarray]: ...
def label_bounds(labels: np.ndarray) -> np.ndarray | None: ...
def sort_codes(codes: np.ndarray, n_codes: int) -> tuple[np.ndarray, np.ndarray]: ...
def fit_segments(
    X: np.ndarray,
    y: np.ndarray,
    sample_weight: np.ndarray | None,
    segments: Segments,
    n_threads: int,
) -> SegmentFits: ...
def coordinate_descent(
    H: np.ndarray,
    w: np.ndarray,
    q: np.ndarray,
    l1: float,
    l2: float,
    positive: bool,
    tol: float,
    n_epochs: int,
) -> int: ...
def column_descent(
    A: np.ndarray,
    offset: np.ndarray | None,
    w: np.ndarray,
    r: np.ndarray,
    weight: float,
    l1: float,
    l2: float,
    positive: bool,
    tol: float,
    n_epochs: int,
) -> int: ...
def walk_sets(
    H: np.ndarray,
    c: np.ndarray,
    state: tuple[np.ndarray, ...],
    unit: np.ndarray,
    scale: np.ndarray,
    size: int,
    l1: float,
    l2: float,
    positive: bool,
    tol: float,
    most_steps: int,
) -> tuple[int, int, int]: ...
def column_products(
    X: CSR, s: np.ndarray | None, place: np.ndarray, k: int, first: int
) -> np.ndarray: ...
def move_weights(
    X: np.ndarray,
    coef: np.ndarray,
    u: np.ndarray,
    total: np.ndarray,
    centre: np.ndarray,
    constant: np.ndarray,
    out: np.ndarray,
) -> None: ...
def row_sums(X: CSR, u: np.ndarray, z: np.ndarray) -> None: ...
def row_dots(X: CSR, z: np.ndarray, out: np.ndarray) -> None: ...
def row_squares(X: CSR) -> np.ndarray: ...
def descend_rows(
    X: CSR,
    vectors: tuple[np.ndarray | None, ...],
    per_row: tuple[np.ndarray | None, ...],
    scalars: tuple[np.ndarray, ...],
    ends: tuple[np.ndarray, ...],
    alpha: float,
    limits: tuple[float, float],
    most: int,
) -> np.ndarray: ...
def small_lasso(
    X: np.ndarray,
    y: np.ndarray,
    sample_weight: np.ndarray | None,
    fit_intercept: bool,
    ordinary: tuple[float, ...],
    l1: np.ndarray,
    l2: np.ndarray,
    positive: bool,
    most_condition: float,
    as_sums: bool,
    sample: np.ndarray,
    hidden: tuple[float, int],
) -> SmallLassos | None: ...
def solve_small_batch(
    A: np.ndarray,
    b: np.ndarray,
    ordinary: tuple[float, ...],
    limits: tuple[float, ...],
    n_threads: int,
) -> tuple[np.ndarray, np.ndarray]: ...
def small_least_squares(
    X: np.ndarray,
    y: np.ndarray,
    sample_weight: np.ndarray | None,
    alphas: Sequence[float],
    fit_intercept: bool,
    ordinary: tuple[float, ...],
    limits: tuple[float, ...],
    tol: float,
    max_iter: int,
    certify: bool,
) -> list[tuple] | None: ...
def small_weights(
    X: np.ndarray,
    y: np.ndarray,
    sample_weight: np.ndarray | None,
    alpha: float,
    ordinary: tuple[float, ...],
    limits: tuple[float, ...],
    tol: float,
    max_iter: int,
) -> np.ndarray | None: ...
def update_triangle(joint: np.ndarray, rows: np.ndarray) -> np.ndarray: ...
def solve_triangle(
    joint: np.ndarray,
    size: np.ndarray,
    rest: float,
    has_intercept: bool,
    tolerance: float,
    most_steps: int,
) -> np.ndarray: ...
def xla_handlers(
    solve: Callable[[np.ndarray, np.ndarray, int], np.ndarray],
) -> dict[str, object]: ...
def isas() -> list[str]: ...
def isa() -> str: ...
def set_isa(name: str) -> None: ...
def max_threads() -> int: ...
def set_max_threads(n_threads: int) -> None: ...
def build_info() -> dict[str, str]: ...
