"""Write docs/benchmarks.md from samples."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

from arrays import DTYPES
from bars import BACKENDS, BARS, ROWS, Bar, Sample, ratio, share
from peers import HOW_TO_INSTALL

HAND_WRITTEN = "## What limits the rest"
NAMES = {
    "numpy": "NumPy",
    "torch": "PyTorch",
    "jax": "JAX",
    "scikit-learn": "scikit-learn",
    "native": "native",
    "numba": "Numba",
    "reference": "reference",
}
Results = dict[str, list[Sample]]

_INTRODUCTION = """\
# Benchmarks

`python bench/report.py` writes this page: it measures each row and draws the plots. Only the
section "What limits the rest" is written by hand, and is kept. To repeat the measurements on 2
cores of a larger machine, run `taskset -c 0,1 python bench/report.py`.

{environment}

Each number is the best of {rounds} rounds or more. In a round the contenders take turns on the same
arrays, with a pause between them so that idle threads of one do not disturb the next. The read
bandwidth is measured in the same rounds (`bench/probe.py`). A *share* is the bytes of X *and y*,
each counted once, divided by the time and by the bandwidth that the probe reads with the same
number of threads. "x peer" is the time of the peer divided by that of the native backend. Every
result is first checked against the NumPy reference kernels. The time of an epoch is a marginal one:
that of a fit of 6 epochs less that of a fit of 1, divided by 5.
"""

_PLOTS = """\
![GB/s of every shape against the read bandwidth](benchmarks_roofline.png)

![Time of each peer over that of fastlsgd](benchmarks_ratios.png)
"""


def write_page(
    folder: Path,
    results: Results,
    dates: dict[str, str],
    environment: dict[str, str],
    rounds: int,
) -> Path:
    path = folder / "benchmarks.md"
    kept = _hand_written(path)
    listed = "\n".join(f"- {name}: {value}" for name, value in environment.items())
    parts = [
        _INTRODUCTION.format(environment=listed, rounds=rounds),
        "## Targets\n\nEach row shows the worst case, and in brackets which case that was.\n",
        "\n".join(_bars_table(results)) + "\n",
        *(f"{line}\n" for line in _missing(results)),
        _PLOTS,
        f"{HAND_WRITTEN}\n\n{kept}\n",
        "## Every measurement\n",
        *(_section(key, results[key], dates[key]) for key in ROWS if key in results),
    ]
    folder.mkdir(parents=True, exist_ok=True)
    path.write_text("\n".join(parts), encoding="utf-8")
    return path


def _hand_written(path: Path) -> str:
    """The text of the section that is written by hand, up to the next heading of its level."""
    if not path.exists():
        return ""
    pattern = rf"^{re.escape(HAND_WRITTEN)}\n(.*?)(?=^## |\Z)"
    found = re.search(pattern, path.read_text(encoding="utf-8"), re.DOTALL | re.MULTILINE)
    return found.group(1).strip() if found else ""


def _table(header: list[str], rows: Iterator[list[str]], n_text: int) -> Iterator[str]:
    """Lines of a Markdown table: the first `n_text` columns are aligned left, numbers right."""
    yield f"| {' | '.join(header)} |"
    yield f"|{' --- |' * n_text}{' ---: |' * (len(header) - n_text)}"
    for row in rows:
        yield f"| {' | '.join(row)} |"


def _bars_table(results: Results) -> Iterator[str]:
    def rows() -> Iterator[list[str]]:
        for bar in BARS:
            samples = results.get(bar.row, [])
            several = sum(bar.applies(s) for s in samples) > len(DTYPES)
            worst = [bar.worst(samples, dtype) for dtype in DTYPES]
            cells = [_worst_cell(w, several) for w in worst]
            yield [ROWS[bar.row].title, bar.what, _target(bar), *cells, _verdict(bar, worst)]

    yield from _table(["row", "what", "target", *DTYPES, "met"], rows(), 2)


def _worst_cell(worst: tuple[float, str] | None, several: bool) -> str:
    if worst is None:
        return "not measured"
    value, case = worst
    return f"{value:.3g} ({case})" if several else f"{value:.3g}"


def _target(bar: Bar) -> str:
    targets = " / ".join(f"{t:g}" for t in dict.fromkeys(bar.target.values()))
    return f"{'≤' if bar.at_most else '≥'} {targets}"


def _verdict(bar: Bar, worst: list[tuple[float, str] | None]) -> str:
    words = [
        "-" if w is None else "yes" if bar.is_met(w[0], dtype) else "**no**"
        for w, dtype in zip(worst, DTYPES, strict=True)
    ]
    return " / ".join(dict.fromkeys(words))


def _missing(results: Results) -> Iterator[str]:
    measured = {name for samples in results.values() for s in samples for name in s.values}
    for name in ("torch", "jax"):
        if name not in measured:
            yield f"{NAMES[name]} was not installed: `{HOW_TO_INSTALL[name]}`."


def _section(key: str, samples: list[Sample], date: str) -> str:
    row = ROWS[key]
    lines = _times(samples) if row.unit == "s" else _values(samples, row.unit)
    note = f"{row.note} " if row.note else ""
    table = "\n".join(lines)
    return f"### {row.title}\n\n{note}`--only {key}`, {date}.\n\n{table}\n"


def _libraries(samples: list[Sample]) -> list[str]:
    return list(dict.fromkeys(name for sample in samples for name in sample.values))


def _times(samples: list[Sample]) -> Iterator[str]:
    """Lines of a table: times of all, GB/s and shares of our backends, and ratios to peers."""
    others = [name for name in _libraries(samples) if name not in BACKENDS]
    header = ["case", "dtype", "X, MB", "probe, GB/s"]
    for name in BACKENDS:
        header += [f"{NAMES[name]}, ms", f"{NAMES[name]}, GB/s of X", f"{NAMES[name]}, share"]
    for name in others:
        header += [f"{NAMES[name]}, ms", f"x {NAMES[name]}"]

    def rows() -> Iterator[list[str]]:
        for s in samples:
            probe = "-" if s.bandwidth is None else f"{s.bandwidth / 1e9:.1f}"
            row = [s.case, s.dtype, f"{s.nbytes / 1e6:.0f}", probe]
            for name in BACKENDS:
                speed = s.nbytes / s.values[name] / 1e9
                row += [_ms(s, name), f"{speed:.1f}", _number(share(name)(s), ".2f")]
            for name in others:
                row += [_ms(s, name), _number(ratio(name)(s), ".3g")]
            yield row

    yield from _table(header, rows(), 2)


def _values(samples: list[Sample], unit: str) -> Iterator[str]:
    libraries = _libraries(samples)
    limits = any(sample.limit for sample in samples)
    header = ["case", "dtype", *(f"{NAMES[name]}, {unit}" for name in libraries)]

    def rows() -> Iterator[list[str]]:
        for s in samples:
            cells = [_number(s.values.get(name), ".3g") for name in libraries]
            yield [s.case, s.dtype, *cells, *([_number(s.limit, ".3g")] if limits else [])]

    yield from _table(header + ["limit"] * limits, rows(), 2)


def _ms(sample: Sample, library: str) -> str:
    seconds = sample.values.get(library)
    return _number(None if seconds is None else seconds * 1e3, ".3g")


def _number(value: float | None, spec: str) -> str:
    return "-" if value is None else f"{value:{spec}}"
