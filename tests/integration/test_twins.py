"""The Chinese twins of pages and programs have the headings and the code of their originals."""

import pytest
import twins
from programs import TUTORIAL
from twins import ROOT

ORIGINALS = twins.originals()


def test_what_newcomers_read_has_a_twin():
    names = ("index", "guide", "how_it_works", "migration", "faq", "command")
    pages = [ROOT / "README.md", *(ROOT / "docs" / f"{name}.md" for name in names)]
    programs = [ROOT / "examples" / f"{name}.py" for name in TUTORIAL]
    assert {*pages, *programs} <= set(ORIGINALS.values())


@pytest.mark.parametrize("twin", ORIGINALS, ids=lambda path: path.name)
def test_twin_has_the_headings_and_the_code_of_its_original(twin):
    """After a change of code, `python docs/twins.py` copies it to the twins."""
    original = ORIGINALS[twin]
    assert original.exists()
    code, levels = twins.code_and_levels(original)
    code_of_twin, levels_of_twin = twins.code_and_levels(twin)
    assert levels_of_twin == levels
    assert code_of_twin == code
