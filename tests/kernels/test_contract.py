"""The definitions of the contract agree with those of the C interface."""

from __future__ import annotations

import re
from pathlib import Path

from fastlsgd.kernels.contract import OptimizerRule

HEADER = Path(__file__).parents[2] / "csrc" / "fastlsgd.h"


def enumeration(name: str) -> dict[str, int]:
    """Names and values of an enumeration of the header, where either none has a value or all."""
    body = re.search(r"typedef enum \{([^}]*)\} " + name, HEADER.read_text())
    entries = [entry.split("=") for entry in body[1].split(",") if entry.strip()]
    return {
        entry[0].strip(): int(entry[1]) if len(entry) > 1 else k for k, entry in enumerate(entries)
    }


def test_rules_have_the_values_of_the_c_interface():
    assert enumeration("fastlsgd_rule") == {f"FASTLSGD_{rule.name}": rule for rule in OptimizerRule}
