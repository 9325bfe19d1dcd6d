"""The plots of the page: speed next to the machine's read bandwidth, and ratios to the peers."""

from __future__ import annotations

from pathlib import Path

from arrays import DTYPES
from bars import BACKENDS, ROWS, Sample, ratio, targets_of
from matplotlib.figure import Figure
from page import NAMES, Results

COLOURS = {
    "native": "#1f6fb4",
    "numba": "#d9541e",
    "numpy": "#7a8793",
    "torch": "#e2a33b",
    "jax": "#5c9e6e",
    "scikit-learn": "#8a6bb1",
}
PEERS = ("numpy", "torch", "jax", "scikit-learn")


def draw_plots(folder: Path, results: Results) -> list[Path]:
    folder.mkdir(parents=True, exist_ok=True)
    paths = []
    for name, draw in (("roofline", _roofline), ("ratios", _ratios)):
        paths.append(folder / f"benchmarks_{name}.png")
        draw(results).savefig(paths[-1])
    return paths


def _samples(results: Results, dtype: str) -> list[tuple[str, Sample]]:
    """The samples that are times, with the keys of their rows."""
    return [
        (key, sample)
        for key in ROWS
        if ROWS[key].unit == "s"
        for sample in results.get(key, [])
        if sample.dtype == dtype
    ]


def _label(key: str, sample: Sample) -> str:
    kind = {"loss_gradient": "gradient", "sgd": "SGD", "fit": "fit"}
    prefix = next(label for start, label in kind.items() if key.startswith(start))
    case = f"{sample.case} order" if sample.case == "F" else sample.case
    return f"{prefix}, {case}"


def _roofline(results: Results) -> Figure:
    """Speeds: a point per shape, and above it a line at the bandwidth that the probe read."""
    figure = Figure(figsize=(11, 5.6), dpi=130, layout="constrained")
    panels = figure.subplots(1, 2, sharey=True)
    for ax, dtype in zip(panels, DTYPES, strict=True):
        samples = [(key, s) for key, s in _samples(results, dtype) if s.bandwidth is not None]
        for x, (_, s) in enumerate(samples):
            line = s.bandwidth / 1e9
            ax.plot([x - 0.45, x + 0.45], [line, line], color="black", linewidth=1.6)
            ax.fill_between([x - 0.45, x + 0.45], 0.9 * line, line, color="black", alpha=0.10)
        for name, marker in zip(BACKENDS, "os", strict=True):
            speeds = [s.nbytes_read / s.values[name] / 1e9 for _, s in samples]
            ax.plot(
                range(len(speeds)), speeds, marker, color=COLOURS[name], label=NAMES[name],
                markersize=6.5,
            )  # fmt: skip
        labels = [_label(key, s) for key, s in samples]
        ax.set_xticks(range(len(labels)), labels, rotation=60, ha="right", fontsize=8)
        ax.set_title(dtype)
        ax.grid(axis="y", alpha=0.25)
        ax.set_ylim(bottom=0)
    panels[0].set_ylabel("GB/s of X and y")
    panels[0].plot([], [], color="black", label="read bandwidth, and 0.9 of it")
    panels[0].legend(frameon=False, fontsize=8)
    figure.suptitle("Speed of each shape against the read bandwidth on as many threads")
    return figure


def _ratios(results: Results) -> Figure:
    """Ratios: a bar per peer, and a black tick at the required ratio."""
    samples = {dtype: _samples(results, dtype) for dtype in DTYPES}
    n_cases = max(map(len, samples.values()))
    figure = Figure(figsize=(11, 2.0 + 0.45 * n_cases), dpi=130, layout="constrained")
    panels = figure.subplots(1, 2, sharey=True, sharex=True)
    drawn = set()
    for ax, dtype in zip(panels, DTYPES, strict=True):
        for y, (key, sample) in enumerate(samples[dtype]):
            drawn |= _bars_of(ax, y, sample, targets_of(key, sample))
        labels = [_label(key, s) for key, s in samples[dtype]]
        ax.set_yticks(range(len(labels)), labels, fontsize=8)
        ax.axvline(1.0, color="black", linewidth=0.8)
        ax.set_xscale("log")
        ax.xaxis.set_major_formatter("{x:g}")
        ax.grid(axis="x", alpha=0.25)
        ax.set(title=dtype, xlabel="time of the peer / time of fastlsgd (native)")
    panels[0].invert_yaxis()
    for name in (peer for peer in PEERS if peer in drawn):
        panels[1].barh([0], [0], color=COLOURS[name], label=NAMES[name])
    panels[1].plot([], [], "|", color="black", markersize=9, markeredgewidth=2, label="bar")
    panels[1].legend(frameon=False, fontsize=8)
    return figure


def _bars_of(ax, y: float, sample: Sample, targets: dict[str, float]) -> set[str]:
    """Draw the bars of a case, one per peer, and return which peers these are."""
    present = {peer: r for peer in PEERS if (r := ratio(peer)(sample)) is not None}
    height = 0.8 / max(1, len(present))
    for k, (peer, times) in enumerate(present.items()):
        at = y + (k - (len(present) - 1) / 2) * height
        ax.barh(at, times, height, color=COLOURS[peer])
        ax.text(times, at, f" {times:.1f}", va="center", fontsize=6.5)
        if peer in targets:
            ends = [at - height / 2, at + height / 2]
            ax.plot([targets[peer]] * 2, ends, color="black", linewidth=2)
    return set(present)
