"""Measure the rows of bars.py and write docs/benchmarks.md with its plots.

    python bench/report.py                                all rows, some ten minutes
    python bench/report.py --only loss_gradient_c sgd_csr these; the others as last measured
    python bench/report.py --only                         none: only write the page again
    taskset -c 0,1 python bench/report.py                 on 2 cores of a larger machine

Measurements are kept in .benchmarks/ (not in git), and discarded on another machine.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
from collections.abc import Sequence
from dataclasses import asdict
from datetime import date
from importlib import metadata
from pathlib import Path

from bars import BARS, ROWS, Sample, Settings
from page import Results, write_page
from plots import draw_plots

import fastlsgd
from fastlsgd._show_versions import _cpu_model
from fastlsgd.kernels import load_backend, resolve_threads

ROOT = Path(__file__).resolve().parent.parent
CACHE = ROOT / ".benchmarks"
PACKAGES = ("numpy", "scipy", "scikit-learn", "numba", "torch", "jax")


def main(argv: Sequence[str] | None = None) -> None:
    options = _parser().parse_args(argv)
    scale = 1 / 40 if options.quick else 1.0
    folder = CACHE / "quick" if options.quick else ROOT / "docs"
    cache = CACHE / ("report-quick.json" if options.quick else "report.json")
    machine = _machine()
    known = _load(cache, machine)
    for key in options.only:
        print(f"{ROWS[key].title}  ({key})", flush=True)
        samples = []
        for sample in ROWS[key].measure(Settings(scale, options.rounds)):
            samples.append(sample)
            print(f"  {_line(sample, ROWS[key].unit)}", flush=True)
        known[key] = {
            "date": date.today().isoformat(),
            "samples": [asdict(sample) for sample in samples],
        }
        _save(cache, machine, known)  # after each row: the next one may be interrupted
    results = {
        key: [Sample(**fields) for fields in known[key]["samples"]] for key in ROWS if key in known
    }
    dates = {key: row["date"] for key, row in known.items()}
    page = write_page(folder, results, dates, {**machine, **_versions()}, options.rounds)
    for path in (page, *draw_plots(folder, results)):
        print(f"wrote {path}")
    _print_verdicts(results)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--only", nargs="*", choices=list(ROWS), default=list(ROWS), metavar="ROW",
        help=f"rows to measure: {', '.join(ROWS)}",
    )  # fmt: skip
    parser.add_argument("--rounds", type=int, default=7, help="turns of each contender")
    parser.add_argument(
        "--quick", action="store_true",
        help="small arrays, and a page in .benchmarks/quick: to try the script, not to quote",
    )  # fmt: skip
    return parser


def _machine() -> dict[str, str]:
    usable = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    native = load_backend("native")
    return {
        "machine": f"{_cpu_model()}, {os.cpu_count()} cores, {usable} of them used, "
        f"{resolve_threads()} threads, instruction set {native.isa()}",
        "system": f"{platform.system()} {platform.machine()}",
    }


def _versions() -> dict[str, str]:
    found = [f"fastlsgd {fastlsgd.__version__}", f"Python {platform.python_version()}"]
    for name in PACKAGES:
        try:
            found.append(f"{name} {metadata.version(name)}")
        except metadata.PackageNotFoundError:
            found.append(f"{name} not installed")
    compiler = load_backend("native").build_info()["compiler"]
    return {"versions": ", ".join([*found, compiler])}


def _load(cache: Path, machine: dict[str, str]) -> dict[str, dict]:
    if not cache.exists():
        return {}
    stored = json.loads(cache.read_text(encoding="utf-8"))
    if stored["machine"] != machine:
        print(f"forgets what was measured on another machine: {stored['machine']['machine']}")
        return {}
    return stored["rows"]


def _save(cache: Path, machine: dict[str, str], rows: dict[str, dict]) -> None:
    cache.parent.mkdir(parents=True, exist_ok=True)
    text = json.dumps({"machine": machine, "rows": rows}, indent=1)
    cache.write_text(text, encoding="utf-8")


def _line(sample: Sample, unit: str) -> str:
    scale, shown = (1e3, "ms") if unit == "s" else (1.0, unit)
    values = "  ".join(f"{name} {v * scale:.3g} {shown}" for name, v in sample.values.items())
    probe = f"  probe {sample.bandwidth / 1e9:.1f} GB/s" if sample.bandwidth else ""
    return f"{sample.case}, {sample.dtype}: {values}{probe}"


def _print_verdicts(results: Results) -> None:
    for bar in BARS:
        for dtype in bar.target:
            worst = bar.worst(results.get(bar.row, []), dtype)
            if worst is not None and not bar.is_met(worst[0], dtype):
                value, case = worst
                print(
                    f"not met: {ROWS[bar.row].title}, {bar.what}, {dtype}: "
                    f"{value:.3g} of {bar.target[dtype]:g} ({case})"
                )


if __name__ == "__main__":
    main()
